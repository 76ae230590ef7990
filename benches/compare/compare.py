#!/usr/bin/env python3
"""Compares what a photo and a text cost in Vitrine, in servers written in Python, and at the least.

    make bench-compare                                    # with the bundled model
    make bench-compare MODELS="models/mini path/to/clip"  # and with others

The same model files and pictures for all, in one run, in turns: a round measures every candidate once with every
workload. Prints tables, and writes compare.json and compare.svg. See benches/README.md.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import numpy
    import onnxruntime
    import PIL
    import reference
    import report
    import servers
    import workloads as inputs
    from bound import Bound
    from client import Client
    from contract import generate
    from in_process import Fastembed
except ImportError as error:
    print(f"compare.py: {error}: `make bench-compare` installs what is needed", file=sys.stderr)
    sys.exit(2)

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
IN_FLIGHT = 8
CACHED_WORKLOAD = "1024x1024"
# Turns of each server with each repeated query in a round.
CACHED_TURNS = 2
# Above it the figures are not those of the candidates alone.
OTHERS_SHARE_MAX = 0.05

EMBED, SEARCH = "EmbeddingService/Embed", "RecommendationService/Search"
# Name, server, method. The bound and fastembed come first in each round and are no servers.
CANDIDATES = [
    ("python, no batching", "python", EMBED),
    ("python, batching queue", "python-queue", EMBED),
    ("vitrine, Embed", "vitrine", EMBED),
    ("vitrine, Search", "vitrine", SEARCH),
]
# The same with the folder's 8-bit files, if it has some beside the exact ones.
CANDIDATES_SMALL = [
    (report.PYTHON_SMALL, "python-int8", EMBED),
    (report.VITRINE_SMALL, "vitrine-int8", EMBED),
]
# The same exact files by another provider, if there is an ONNX Runtime that has it.
CANDIDATES_OPENVINO = [(report.VITRINE_OPENVINO, "vitrine-openvino", EMBED)]


def main():
    arguments = read_arguments()
    # So that servers are ended on SIGTERM, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(arguments)
    except reference.WrongModel as error:
        fail(error, 2)
    except (RuntimeError, subprocess.SubprocessError) as error:
        fail(error, 1)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", metavar="DIR", help="may be given several times")
    parser.add_argument("--precision", choices=reference.SUFFIXES, default="auto")
    parser.add_argument("--vitrine", type=Path, default=REPOSITORY / "target/release/vitrine", metavar="FILE")
    parser.add_argument("--catalog-loader", type=Path, metavar="FILE", help="default: beside vitrine")
    parser.add_argument("--fastembed", type=Path, metavar="FILE", help="default: beside vitrine")
    parser.add_argument("--grpc-echo", type=Path, metavar="FILE", help="default: beside vitrine")
    parser.add_argument("--ort-dylib-path", type=Path, metavar="FILE", help="for all but Python; default: its own")
    parser.add_argument("--openvino", type=Path, metavar="FILE", help="an ONNX Runtime that has OpenVINO, for one more row")
    parser.add_argument("--vitrine-option", action="append", default=[], metavar="OPTION", help="for `vitrine serve`")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "target/compare", metavar="DIR")
    parser.add_argument("--seconds-per-round", type=float, default=4.0, metavar="SECONDS")
    parser.add_argument("--rounds", type=int, default=3, metavar="COUNT")
    arguments = parser.parse_args()
    arguments.model = arguments.model or [REPOSITORY / "models/mini"]
    arguments.catalog_loader = arguments.catalog_loader or arguments.vitrine.with_name("catalog-loader")
    arguments.fastembed = arguments.fastembed or arguments.vitrine.with_name("vitrine-compare-fastembed")
    arguments.grpc_echo = arguments.grpc_echo or arguments.vitrine.with_name("grpc-echo")
    for program in [arguments.vitrine, arguments.catalog_loader, arguments.grpc_echo]:
        if not program.is_file():
            parser.error(f"there is no {program}: `make bench-compare` makes it")
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is not a program")
    arguments.ort_dylib_path = arguments.ort_dylib_path or library_of_python()
    if not arguments.ort_dylib_path.is_file():
        parser.error(f"there is no {arguments.ort_dylib_path}")
    if arguments.openvino and not arguments.openvino.is_file():
        parser.error(f"there is no {arguments.openvino}: `make onnxruntime-openvino` gets it")
    if not arguments.seconds_per_round > 0 or arguments.rounds < 1:
        parser.error("--seconds-per-round must be more than 0, --rounds at least 1")
    return arguments


def library_of_python():
    """ONNX Runtime's library in its Python package. Vitrine gets it, too, so that versions do not differ."""
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.*"))
    return libraries[0] if libraries else Path("libonnxruntime")


def fail(error, code):
    print(f"compare.py: {error}", file=sys.stderr)
    sys.exit(code)


def run(arguments):
    folders = [reference.Folder(path.resolve(), arguments.precision) for path in arguments.model]
    arguments.out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workloads = inputs.make(work / "pictures")
        described = describe(workloads)
        (work / "classes").mkdir()
        generate(work / "classes")
        environment = child_environment(work / "classes", arguments.ort_dylib_path)
        client = Client(environment)
        stack.callback(client.stop)
        began, busy, own = time.monotonic(), servers.busy_seconds(), servers.own_seconds()
        models = []
        for number, folder in enumerate(folders):
            place = work / f"model-{number}"
            place.mkdir()
            models.append(Comparison(arguments, folder, workloads, client, environment, place).run())
        client.stop()
        others = servers.busy_seconds() - busy - (servers.own_seconds() - own)
        others_share = max(0.0, others / (time.monotonic() - began) / os.cpu_count())
    result = {"machine": machine(arguments, others_share), "workloads": described, "models": models}
    (arguments.out / "compare.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "compare.svg").write_text(report.plot(result), encoding="utf-8")
    print(report.tables(result))
    print(f"\ncompare.json and compare.svg are in {arguments.out}")


class Comparison:
    """Measures every candidate with one model."""

    def __init__(self, arguments, folder, workloads, client, environment, place):
        self.arguments, self.folder, self.workloads = arguments, folder, workloads
        self.client, self.environment, self.place = client, environment, place
        self.seconds = arguments.seconds_per_round
        self.bound = Bound(folder, workloads)
        self.model = ["--model-dir", folder.path, "--precision", folder.ran]
        self.candidates = CANDIDATES + (CANDIDATES_SMALL if folder.has_small() else [])
        self.candidates += CANDIDATES_OPENVINO if arguments.openvino else []
        # By workload and candidate, what each round measured.
        self.rounds = {name: {} for name in workloads}
        self.ready, self.cosines = {}, {}
        # By query and server, what each round measured.
        self.cached = {"photo": {}, "text": {}}
        self.fastembed, self.not_measured = None, {}

    def run(self):
        with contextlib.ExitStack() as stack:
            return self.run_with(stack)

    def run_with(self, stack):
        tried_seconds = min(1.0, self.seconds / 4)
        say(f"{self.folder.path.name}: looks for the best settings of the bound")
        self.bound.choose(tried_seconds)
        say(f"{self.folder.path.name}: looks for the best settings of fastembed")
        self.start_fastembed(tried_seconds, stack)
        expected = self.bound.embeddings(self.workloads)
        say(f"{self.folder.path.name}: loads the demo catalogue")
        self.load()
        for number in range(self.arguments.rounds):
            with contextlib.ExitStack() as stack:
                running = {name: self.start(name, stack) for name in self.commands()}
                if number == 0:
                    self.compare_embeddings(running, expected)
                for workload in self.workloads:
                    say(f"{self.folder.path.name}: round {number + 1} of {self.arguments.rounds}, {workload}")
                    self.measure_bound(workload)
                    self.measure_fastembed(workload)
                    for name, server, method in self.candidates:
                        self.measure(name, running[server], method, workload)
                self.measure_cached(running["vitrine"])
        bound = {part: setting for part, (setting, _) in self.bound.settings.items()}
        return {
            "name": self.folder.path.name,
            "files": {path.name: path.stat().st_size for path in (self.folder.vision, self.folder.text)},
            "bound": {
                "settings": written(bound),
                "tried": self.bound.tried,
                "padded_tokens": self.bound.tokenize.length_max,
            },
            "fastembed": self.fastembed and {
                "settings": written(self.fastembed.settings),
                "tried": self.fastembed.tried,
            },
            "not_measured": self.not_measured,
            "rounds": self.rounds,
            "cached": self.cached,
            "ready_seconds": self.ready,
            "cosine_worst": self.cosines,
        }

    def start_fastembed(self, seconds, stack):
        """Its place stays empty, with the reason, where it was not built or cannot take the model."""
        if not self.arguments.fastembed.is_file():
            self.not_measured["fastembed"] = f"there is no {self.arguments.fastembed.name}"
            return
        measured = self.arguments.fastembed, self.folder, self.bound, self.workloads, self.environment
        fastembed = Fastembed(*measured)
        stack.callback(fastembed.stop)
        try:
            fastembed.choose(seconds)
        except RuntimeError as error:
            self.not_measured["fastembed"] = str(error)
        else:
            self.fastembed = fastembed

    def load(self):
        places = ["--index-dir", self.place / "index", "--dead-letters", self.place / "dead-letters.jsonl"]
        # A model with random weights may confuse two pictures, and costs the same.
        command = [self.arguments.catalog_loader, inputs.DEMO / "products.jsonl", *places, *self.model]
        command = [*map(str, command), "--found-share-min", "0"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"catalog-loader exited with {done.returncode}:\n{done.stdout}{done.stderr}")

    def commands(self):
        python = [sys.executable, HERE / "python_server.py", *self.model, "--batching"]
        vitrine = [self.arguments.vitrine, "serve", "--index-dir", self.place / "index"]
        vitrine += [*self.model, *self.arguments.vitrine_option]
        commands = {"python": [*python, "none"], "python-queue": [*python, "queue"], "vitrine": vitrine}
        if self.folder.has_small():
            commands |= {
                f"{name}-int8": ["int8" if part == self.folder.ran else part for part in command]
                for name, command in [("python", commands["python-queue"]), ("vitrine", vitrine)]
            }
        if self.arguments.openvino:
            # It reads the exact files, and computes them in bf16.
            openvino = ["bf16" if part == self.folder.ran else part for part in vitrine]
            commands["vitrine-openvino"] = [*openvino, "--execution-provider", "openvino"]
        return commands

    def start(self, name, stack):
        """One after the other, so that none waits for another's start."""
        environment = self.environment
        if name == "vitrine-openvino":
            environment = {**environment, "ORT_DYLIB_PATH": str(self.arguments.openvino.resolve())}
        server = servers.Server(self.commands()[name], environment, self.place / f"{name}.log")
        stack.enter_context(server)
        self.ready.setdefault(name, []).append(server.ready(self.client.answers))
        return server

    def compare_embeddings(self, running, expected):
        for name, server, method in self.candidates:
            if method != EMBED:
                continue
            for workload, items in self.workloads.items():
                vectors = self.client.order("ask", address=running[server].address, method=EMBED, items=items)
                self.add_cosines(workload, name, vectors, expected)
        for workload, items in self.workloads.items():
            if self.fastembed:
                self.add_cosines(workload, report.FASTEMBED, self.fastembed.embeddings(items), expected)

    def add_cosines(self, workload, name, vectors, expected):
        cosines = [float(cosine(*pair)) for pair in zip(vectors, expected[workload], strict=True)]
        self.cosines.setdefault(workload, {})[name] = min(cosines)

    def measure_bound(self, workload):
        if workload in inputs.TEXT_WORDS:
            costs = self.bound.text_costs(workload, self.seconds)
            rows = {report.BOUND: "text", report.BOUND_ALONE: "text, alone", report.BOUND_PADDED: "text, padded"}
            for row, part in rows.items():
                self.add(workload, row, bound_outcome({"tower": costs[part]}))
        else:
            parts = self.bound.photo_costs(workload, self.seconds)
            parts["tower"] = self.bound.tower_cost("vision", self.seconds)
            self.add(workload, report.BOUND, bound_outcome(parts))

    def measure_fastembed(self, workload):
        if self.fastembed:
            self.add(workload, report.FASTEMBED, unserved(self.fastembed.cost(workload, self.seconds)))

    def measure(self, name, server, method, workload):
        order = {"address": server.address, "method": method, "items": self.workloads[workload]}
        # One request in each place, not counted: threads start, memory is planned.
        self.client.order("load", **order, seconds=0, in_flight=IN_FLIGHT)
        crowded, cpu_seconds = self.under_load(server, **order, seconds=self.seconds, in_flight=IN_FLIGHT)
        alone, _ = self.under_load(server, **order, seconds=self.seconds / 4, in_flight=1)
        count = len(crowded["latencies_ms"])
        self.add(workload, name, {
            "items": count,
            "cpu_seconds": cpu_seconds / count,
            "items_per_second": count / crowded["seconds"],
            "p50_ms": statistics.median(crowded["latencies_ms"]),
            "p50_alone_ms": statistics.median(alone["latencies_ms"]),
        })

    def measure_cached(self, server):
        """The same query again and again, answered from the cache, one at a time; and by a server that does nothing but
        answer it with the same bytes, in turns."""
        for what, items in [("photo", self.workloads[CACHED_WORKLOAD]), ("text", self.workloads["text"])]:
            order = {"method": SEARCH, "bypass": False}
            answer = self.place / "answer.bin"
            self.client.order("capture", address=server.address, item=items[0], path=str(answer), **order)
            command = [self.arguments.grpc_echo, "--response", answer]
            with servers.Server(command, self.environment, self.place / "grpc-echo.log") as echo:
                echo.ready()
                measured = {report.VITRINE: server, report.ECHO: echo}
                loads = {name: [] for name in measured}
                order |= {"items": items[:1], "in_flight": 1}
                for turn in range(CACHED_TURNS):
                    for name, each in measured.items():
                        if turn == 0:
                            self.client.order("load", address=each.address, seconds=0, **order)
                        seconds = self.seconds / CACHED_TURNS
                        loads[name].append(self.under_load(each, address=each.address, seconds=seconds, **order))
            for name, turns in loads.items():
                latencies = [latency for load, _ in turns for latency in load["latencies_ms"]]
                cost = sum(cpu_seconds for _, cpu_seconds in turns) / len(latencies)
                outcome = {"cpu_seconds": cost, "p50_ms": statistics.median(latencies)}
                self.cached[what].setdefault(name, []).append(outcome)

    def under_load(self, server, **order):
        """What the client saw, and the CPU-seconds of the server meanwhile."""
        before = server.cpu_seconds()
        load = self.client.order("load", **order)
        return load, server.cpu_seconds() - before

    def add(self, workload, name, outcome):
        self.rounds[workload].setdefault(name, []).append(outcome)


def bound_outcome(parts):
    return {**unserved(sum(parts.values())), "parts": parts}


def unserved(cost):
    """What cost so much with no server around it. All cores could do so many, if it costs the same side by side."""
    return {"cpu_seconds": cost, "items_per_second": len(os.sched_getaffinity(0)) / cost}


def written(settings):
    return {part: f"batch of {batch}, threads: {threads}" for part, (batch, threads) in settings.items()}


def cosine(vector, expected):
    vector = numpy.asarray(vector)
    return vector @ expected / numpy.linalg.norm(vector) / numpy.linalg.norm(expected)


def child_environment(classes, library):
    """This process's environment without settings of Vitrine, which would change what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")}
    path = [str(classes), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "ORT_DYLIB_PATH": str(library.resolve())}


def machine(arguments, others_share):
    version = subprocess.run([arguments.vitrine, "--version"], capture_output=True, text=True, check=True).stdout
    same = arguments.ort_dylib_path == library_of_python()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "versions": {
            "vitrine": version.strip().removeprefix("vitrine "),
            "onnxruntime": onnxruntime.__version__ + ("" if same else f" (vitrine: {arguments.ort_dylib_path.name})"),
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
        "seconds_per_round": arguments.seconds_per_round,
        "rounds": arguments.rounds,
        "others_share": others_share,
        "busy": others_share > OTHERS_SHARE_MAX,
    }


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe(workloads):
    """How many inputs, and how large they are on average: bytes, of a text words."""
    described = {}
    for name, items in workloads.items():
        sizes = [Path(item["photo"]).stat().st_size if "photo" in item else len(item["text"].split()) for item in items]
        described[name] = {"count": len(items), "words" if name in inputs.TEXT_WORDS else "bytes": statistics.mean(sizes)}
    return described


def say(text):
    print(text, file=sys.stderr, flush=True)


main()
