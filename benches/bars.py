#!/usr/bin/env python3
"""Measures how a running server behaves: at its peak, beyond it, beside a job, beside a load, over many requests, and when
it starts.

    make bench-bars                                    # with the bundled model, about ten minutes
    make bench-bars MODELS="models/mini path/to/clip"  # and with others
    make bench-bars BARS="--requests 20000 --rounds 1" # in less time

Every bar is a ratio, or a bound, within this run. Prints a table with a verdict for each, and writes bars.json. See
benches/README.md.
"""

import argparse
import contextlib
import functools
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
sys.path.insert(0, str(HERE / "compare"))

try:
    import grpc
    import servers
    import workloads as inputs
    from contract import CHANNEL_OPTIONS
except ImportError as error:
    print(f"bars.py: {error}: `make bench-bars` installs what is needed", file=sys.stderr)
    sys.exit(2)

BUNDLED = REPOSITORY / "models/mini"
PARTS = ["ready", "overload", "bulk", "reindex", "memory"]
# Above it the figures are not those of the server alone.
OTHERS_SHARE_MAX = 0.05

PEAK_CLIENTS = [8, 16, 32]
OVERLOAD_TIMES = 3
DEADLINE_MS = 1000
REFUSED_P99_MS_MAX = 5.0
GOODPUT_SHARE_MIN = 0.9
# Interactive queries beside a job: so many, of the peak, that they find the server free when they are alone.
QUIET_SHARE = 0.2
# Enough batches of eight to keep every session busy.
BULK_CLIENTS = 4
BULK_SECONDS_MIN = 20
BATCH_SIZE_MAX_DEFAULT = 8
# Queries beside a load of the whole catalogue: fewer than the quiet server could answer on half of the cores.
REINDEX_RATE = 10.0
REINDEX_MIX = "photo=1,text=3,filtered=1"
REINDEX_P95_TIMES_MAX = 1.5
# Of the products, in the load that begins with what serves.
REINDEX_CHANGED_SHARE = 0.1
# Before the load begins, and after it is over.
REINDEX_PAUSE_SECONDS = 3
# The loader's bound: one of the cores, and only what nobody else wants of it.
LOADER_THREADS, LOADER_NICENESS = 1, 19
MEMORY_TIMES_MAX = 1.2
# So many of the requests come before the memory is read for the first time.
WARM_UP_SHARE = 0.1
MEMORY_MIX = "repeat=65,text=25,filtered=8,photo=2"
MEMORY_CLIENTS = 16
STARTS = 5
READY_SECONDS_MAX, READY_SECONDS_MAX_BUNDLED = 3.0, 1.0
# The generator stands for other machines: where this may be said, it does not wait for the server's threads.
GENERATOR_NICENESS = -5
EXTRA_SECONDS_MAX = 120
SERVING = b"\x08\x01"


def main():
    arguments = read_arguments()
    # So that servers are ended on SIGTERM, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(arguments)
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"bars.py: {error}", file=sys.stderr)
        sys.exit(1)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", metavar="DIR", help="may be given several times")
    parser.add_argument("--precision", default="auto", metavar="NAME")
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given several times; default: all")
    parser.add_argument("--requests", type=int, default=200_000, metavar="COUNT", help="of the memory's bar")
    parser.add_argument("--products", type=int, default=2000, metavar="COUNT", help="of the catalogue that is loaded again")
    parser.add_argument("--index-url", metavar="URL", help="of a Qdrant server, for the catalogue that is loaded again")
    parser.add_argument("--rounds", type=int, default=3, metavar="COUNT", help="of peak and overload, and of the job")
    parser.add_argument("--seconds", type=int, default=10, metavar="SECONDS", help="of a load; 20 or more beside a job")
    parser.add_argument("--programs", type=Path, default=REPOSITORY / "target/release", metavar="DIR")
    parser.add_argument("--vitrine-option", action="append", default=[], metavar="OPTION", help="for `vitrine serve`")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "target/bars", metavar="DIR")
    arguments = parser.parse_args()
    arguments.model = arguments.model or [BUNDLED]
    arguments.only = arguments.only or PARTS
    for name in ["vitrine", "catalog-loader", "loadtest"]:
        if not (arguments.programs / name).is_file():
            parser.error(f"there is no {arguments.programs / name}: `make build loadtest` makes it")
    if min(arguments.rounds, arguments.seconds, arguments.requests, arguments.products) < 1:
        parser.error("--rounds, --seconds, --requests and --products must be at least 1")
    return arguments


def run(arguments):
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        material = Material(work)
        began, busy, own = time.monotonic(), servers.busy_seconds(), servers.own_seconds()
        models = []
        for number, path in enumerate(arguments.model):
            place = work / f"model-{number}"
            place.mkdir()
            models.append(Bars(arguments, path.resolve(), material, place).run())
        others = servers.busy_seconds() - busy - (servers.own_seconds() - own)
        others_share = max(0.0, others / (time.monotonic() - began) / os.cpu_count())
    machine = {"cores": len(os.sched_getaffinity(0)), "others_share": others_share}
    machine["busy"] = others_share > OTHERS_SHARE_MAX
    result = {"machine": machine, "models": models}
    (arguments.out / "bars.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print(f"\nbars.json is in {arguments.out}")


class Material:
    """What is asked for: pictures of a shop's thumbnail size and of all sizes, texts, and a filter."""

    def __init__(self, folder):
        workloads = inputs.make(folder / "pictures")
        self.all_photos, self.small_photos = folder / "pictures", folder / "small"
        self.small_photos.mkdir()
        for item in workloads["400x533"]:
            path = Path(item["photo"])
            (self.small_photos / path.name).symlink_to(path)
        self.texts = folder / "texts"
        self.texts.write_text("\n".join(item["text"] for item in workloads["text"]) + "\n", encoding="utf-8")
        self.filter = "price < 50"

    def feed(self, folder, products, version, changed_share):
        """A feed of products that all have a picture of their own; of `version`, a share of them differs."""
        folder.mkdir(exist_ok=True)
        pictures = [path.read_bytes() for path in sorted(self.small_photos.iterdir())]
        texts = self.texts.read_text(encoding="utf-8").splitlines()
        rows = []
        for number in range(products):
            changed = version if number % round(1 / changed_share) == 0 else ""
            picture = folder / f"{number}{changed}.jpg"
            # What stands behind the end of a picture changes nothing but its hash, which caches go by.
            picture.write_bytes(pictures[number % len(pictures)] + f"{number}{changed}".encode())
            title = f"{texts[number % len(texts)]} {number}{changed}"
            rows.append({"id": str(number), "title": title, "image_link": picture.name, "price": f"{number % 97}.90 EUR"})
        feed = folder / f"feed{version}.jsonl"
        feed.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return feed


class Bars:
    """Measures every bar with one model."""

    def __init__(self, arguments, model, material, place):
        self.arguments, self.path, self.material, self.place = arguments, model, material, place
        self.model = ["--model-dir", model, "--precision", arguments.precision]
        # Without settings of Vitrine, which would change what is measured.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")}
        self.bars, self.measured = [], {}
        # Seconds until each server was ready.
        self.starts = []

    def run(self):
        self.say("loads the demo catalogue")
        self.load_catalogue()
        if "ready" in self.arguments.only:
            self.ready()
        if "overload" in self.arguments.only or "bulk" in self.arguments.only:
            with self.server() as server:
                self.load(server, "--clients", PEAK_CLIENTS[0], "--mix", "photo=1")
                # Each round has its own peak: on a shared machine it moves.
                peaks = [self.overload(server, number) for number in range(self.arguments.rounds)]
                self.judge_overload()
                if "bulk" in self.arguments.only:
                    self.bulk(server, statistics.median(peaks))
        if "reindex" in self.arguments.only:
            self.reindex()
        if "memory" in self.arguments.only:
            with self.server() as server:
                self.memory(server)
        return {"name": self.path.name, "bars": self.bars, "measured": self.measured}

    def load_catalogue(self, feed=inputs.DEMO / "products.jsonl", *options, niceness=0):
        """Runs the loader to its end. Answers with the seconds that it took, and those of the processors."""
        places = ["--index-dir", self.place / "index", "--dead-letters", self.place / "dead-letters.jsonl"]
        # A model with random weights may confuse two pictures, and costs the same.
        command = [self.arguments.programs / "catalog-loader", feed, *places, *self.model, "--found-share-min", "0"]
        command = list(map(str, [*command, *options]))
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        be_nice = functools.partial(os.nice, niceness)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, preexec_fn=be_nice)
        if done.returncode != 0:
            raise RuntimeError(f"catalog-loader exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": time.monotonic() - began, "cpu_seconds": cpu_seconds}

    @contextlib.contextmanager
    def server(self, *options):
        command = [self.arguments.programs / "vitrine", "serve", "--index-dir", self.place / "index", *self.model]
        command += options
        command += self.arguments.vitrine_option
        with servers.Server(command, self.environment, self.place / "vitrine.log") as server:
            self.starts.append(server.ready(is_serving))
            yield server

    # The bars.

    def ready(self):
        self.say(f"starts the server {STARTS} times")
        for _ in range(STARTS):
            with self.server():
                pass
        times = self.measured["ready_seconds"] = self.starts[:STARTS]
        limit = READY_SECONDS_MAX_BUNDLED if self.path == BUNDLED else READY_SECONDS_MAX
        seconds = statistics.median(times)
        self.judge(f"ready after start ≤ {limit:g} s", f"{seconds:.2f} s, median of {STARTS}", seconds <= limit)

    def overload(self, server, number):
        """The peak of the closed loop, then three times as much in the open loop. Answers with the peak."""
        self.say(f"peak and {OVERLOAD_TIMES} × overload, round {number + 1} of {self.arguments.rounds}")
        peaks = {}
        for clients in PEAK_CLIENTS:
            before = server.cpu_seconds()
            # Without a warm-up, so that every answer is counted, and with so much time that none is refused.
            closed = ["--clients", clients, "--mix", "photo=1", "--warm-up-seconds", 0, "--deadline-ms", 10_000]
            summary = self.load(server, *closed)
            cpu_seconds = (server.cpu_seconds() - before) / max(1, summary["succeeded"])
            peaks[clients] = {"goodput": summary["goodput_per_second"], "cpu_seconds": cpu_seconds}
        clients = max(peaks, key=lambda clients: peaks[clients]["goodput"])
        peak = peaks[clients]
        if peak["goodput"] <= 0:
            raise RuntimeError("no photo was answered in time")
        outcome = {"peaks": peaks, "clients": clients, "peak": peak["goodput"], "cpu_seconds": peak["cpu_seconds"]}
        if "overload" in self.arguments.only:
            rate = OVERLOAD_TIMES * peak["goodput"]
            summary = self.load(server, "--rate", f"{rate:.2f}", "--mix", "photo=1", "--in-flight-max", 100_000)
            outcome["overload"] = summary
            outcome["share"] = summary["goodput_per_second"] / peak["goodput"]
        self.measured.setdefault("rounds", []).append(outcome)
        return peak["goodput"]

    def judge_overload(self):
        rounds = self.measured["rounds"]
        peaks = ", ".join(f"{each['peak']:.1f}" for each in rounds)
        self.measured["peak_goodput_per_second"] = statistics.median(each["peak"] for each in rounds)
        self.note("peak goodput, closed loop", f"{peaks} photos/s ({rounds[0]['clients']} clients)")
        if "overload" not in self.arguments.only:
            return
        share = statistics.median(each["share"] for each in rounds)
        goodput = f"{share:.1%}, median of {len(rounds)}"
        bar = f"{OVERLOAD_TIMES} × overload: goodput ≥ {GOODPUT_SHARE_MIN:.0%} of the peak"
        self.judge(bar, goodput, share >= GOODPUT_SHARE_MIN)
        summaries = [each["overload"] for each in rounds]
        p99 = [each["refused"]["latency_ms"]["p99"] for each in summaries]
        refused = sum(each["refused"]["requests"] for each in summaries)
        requests = sum(each["requests"] for each in summaries)
        if None in p99:
            self.judge("refusals p99 ≤ 5 ms", "a round without a refusal", False)
        else:
            lag = statistics.median(each["send_lag_ms"]["p99"] for each in summaries)
            told = f"{statistics.median(p99):.2f} ms; {refused} of {requests} refused; sent late by p99 {lag:.2f} ms"
            self.judge(f"refusals p99 ≤ {REFUSED_P99_MS_MAX:g} ms", told, statistics.median(p99) <= REFUSED_P99_MS_MAX)
        late = sum(each["succeeded_late"] for each in summaries)
        ended = {
            status: sum(each["statuses"].get(status, 0) for each in summaries)
            for status in ["DEADLINE_EXCEEDED", "NO_ANSWER"]
        }
        told = f"{late} successes late; {ended['DEADLINE_EXCEEDED']} DEADLINE_EXCEEDED, {ended['NO_ANSWER']} NO_ANSWER"
        self.judge("no accepted request past its deadline", f"{told}; of {requests}", late + sum(ended.values()) == 0)

    def bulk(self, server, peak):
        """Photos at a low rate: alone, and beside batches that keep the server busy."""
        seconds = max(BULK_SECONDS_MIN, self.arguments.seconds)
        rate = max(1.0, QUIET_SHARE * peak)
        interactive = ["--rate", f"{rate:.2f}", "--mix", "photo=1", "--seconds", seconds, "--deadline-ms", 10_000]
        # A photo that comes when a session has just begun the largest batch waits for all of it.
        batch_ms = 1000 * self.batch_size_max() * statistics.median(r["cpu_seconds"] for r in self.measured["rounds"])
        rounds = []
        for number in range(self.arguments.rounds):
            self.say(f"a job in the background, round {number + 1} of {self.arguments.rounds}")
            quiet = self.load(server, *interactive)
            # Longer than the other: it is ended with it.
            job = ["--clients", BULK_CLIENTS, "--mix", "bulk=1", "--seconds", seconds + 60, "--deadline-ms", 10_000]
            with self.background(server, *job) as job:
                beside = self.load(server, *interactive, "--warm-up-seconds", 5)
            done = job.summary
            rounds.append({
                "quiet_p99_ms": quiet["latency_ms"]["p99"],
                "beside_p99_ms": beside["latency_ms"]["p99"],
                "beside_p50_ms": beside["latency_ms"]["p50"],
                "beside_succeeded_share": beside["succeeded_share"],
                "batches_per_second": done["goodput_per_second"],
                "batch_p50_ms": done["latency_ms"]["p50"],
                "batch_statuses": done["statuses"],
            })
        self.measured["bulk"] = {"rate_per_second": rate, "one_batch_ms": batch_ms, "rounds": rounds}
        if any(each["quiet_p99_ms"] is None or each["beside_p99_ms"] is None for each in rounds):
            self.judge("bulk in the background", "a round without an answer", False)
            return
        worst = statistics.median(each["beside_p99_ms"] / (2 * each["quiet_p99_ms"] + batch_ms) for each in rounds)
        quiet = statistics.median(each["quiet_p99_ms"] for each in rounds)
        beside = statistics.median(each["beside_p99_ms"] for each in rounds)
        batches = statistics.median(each["batches_per_second"] for each in rounds)
        told = f"{beside:.0f} ms ({quiet:.0f} ms quiet, a batch {batch_ms:.0f} ms): {worst:.2f} of the bar"
        told += f"; {rate:.0f} photos/s beside {batches:.1f} batches of 8/s"
        self.judge("bulk in the background: interactive p99 ≤ 2 × quiet + one batch", told, worst <= 1)

    def reindex(self):
        """Queries at a low rate: alone, beside a load of everything, and beside one that begins with what serves."""
        products, share = self.arguments.products, REINDEX_CHANGED_SHARE
        feeds = [self.material.feed(self.place / "reindex", products, version, share) for version in ["", "b"]]
        place = ["--catalog", f"reindex-{os.getpid()}"]
        at = ["--index-url", self.arguments.index_url] if self.arguments.index_url else []
        self.say(f"loads {products} products")
        self.load_catalogue(feeds[0], *place, *at)
        kinds = {"all made anew": ["--full"], f"{share:.0%} changed": []}
        rounds = []
        with self.server(*at) as server:
            queries = ["--rate", REINDEX_RATE, "--mix", REINDEX_MIX, "--deadline-ms", 10_000, *place]
            for number in range(self.arguments.rounds):
                self.say(f"queries beside a load, round {number + 1} of {self.arguments.rounds}")
                outcome = {"quiet": self.load(server, *queries, "--seconds", BULK_SECONDS_MIN)}
                for nth, (kind, options) in enumerate(kinds.items(), 1):
                    with self.background(server, *queries, "--seconds", 3600) as generator:
                        time.sleep(REINDEX_PAUSE_SECONDS)
                        options = [*options, *place, *at, "--threads", LOADER_THREADS]
                        spent = self.load_catalogue(feeds[nth % 2], *options, niceness=LOADER_NICENESS)
                        # The switch is noticed within a second.
                        time.sleep(REINDEX_PAUSE_SECONDS)
                    outcome[kind] = generator.summary | {"loader": spent}
                rounds.append(outcome)
        self.measured["reindex"] = {"rate_per_second": REINDEX_RATE, "products": products, "rounds": rounds}
        for kind in kinds:
            p95 = [(each["quiet"]["latency_ms"]["p95"], each[kind]["latency_ms"]["p95"]) for each in rounds]
            times = statistics.median(beside / quiet for quiet, beside in p95)
            loader = [each[kind]["loader"] for each in rounds]
            cores = statistics.median(each["cpu_seconds"] / each["seconds"] for each in loader)
            seconds = statistics.median(each["seconds"] for each in loader)
            failed = sum(each[kind]["requests"] - each[kind]["succeeded"] for each in rounds)
            quiet, beside = (statistics.median(figures) for figures in zip(*p95, strict=True))
            told = f"{times:.2f} × ({quiet:.1f} → {beside:.1f} ms); {failed} queries failed; the loader took {seconds:.0f} s"
            told += f" and {cores:.2f} cores"
            name = f"load of {products:,} products, {kind}: p95 ≤ {REINDEX_P95_TIMES_MAX} × quiet, none fails"
            self.judge(name, told, times <= REINDEX_P95_TIMES_MAX and failed == 0)

    def memory(self, server):
        """Mixed requests, with the memory after each piece of them."""
        requests, readings = 0, []
        warm_up = max(1, round(WARM_UP_SHARE * self.arguments.requests))
        load = ["--clients", MEMORY_CLIENTS, "--mix", MEMORY_MIX, "--warm-up-seconds", 0]
        while requests < self.arguments.requests + warm_up:
            self.say(f"memory: {requests} of {warm_up} + {self.arguments.requests} requests")
            summary = self.load(server, *load, photos=self.material.all_photos)
            if summary["succeeded"] == 0:
                raise RuntimeError(f"no request succeeded: {summary['statuses']}")
            requests += summary["requests"]
            readings.append({"requests": requests, "bytes": server.resident_bytes(), "statuses": summary["statuses"]})
        before = next(reading for reading in readings if reading["requests"] >= warm_up)
        after = readings[-1]
        times = after["bytes"] / before["bytes"]
        self.measured["memory"] = {"readings": readings, "warm_up_requests": warm_up}
        told = f"{times:.2f} ×: {before['bytes'] / 1e6:.0f} MB after {before['requests']}, "
        told += f"{after['bytes'] / 1e6:.0f} MB after {after['requests']}"
        name = f"memory after {self.arguments.requests:,} mixed requests ≤ {MEMORY_TIMES_MAX} × after warm-up"
        self.judge(name, told, times <= MEMORY_TIMES_MAX)

    # The generator.

    def load(self, server, *options, photos=None):
        """What a run of `loadtest` comes to."""
        with self.background(server, *options, photos=photos) as generator:
            generator.wait()
        return generator.summary

    def background(self, server, *options, photos=None):
        """A run of `loadtest` that goes on."""
        material = self.material
        command = [self.arguments.programs / "loadtest", "--server", f"http://{server.address}"]
        command += ["--photos", photos or material.small_photos, "--texts", material.texts, "--filter", material.filter]
        defaults = {
            "--seconds": self.arguments.seconds,
            "--warm-up-seconds": 2,
            "--deadline-ms": DEADLINE_MS,
        }
        for name, value in defaults.items():
            if name not in options:
                command += [name, value]
        return Generator([*command, *options], self.environment, self.place)

    # The verdicts.

    def batch_size_max(self):
        options = [part for option in self.arguments.vitrine_option for part in option.split("=", 1)]
        if "--batch-size-max" in options:
            return int(options[options.index("--batch-size-max") + 1])
        return BATCH_SIZE_MAX_DEFAULT

    def judge(self, bar, figure, met):
        self.bars.append({"bar": bar, "figure": figure, "verdict": "pass" if met else "miss"})

    def note(self, what, figure):
        self.bars.append({"bar": what, "figure": figure, "verdict": ""})

    def say(self, text):
        print(f"{self.path.name}: {text}", file=sys.stderr, flush=True)


class Generator:
    """A running `loadtest`; a context manager that ends it, as Ctrl-C does, and reads its report."""

    def __init__(self, command, environment, place):
        self.folder = Path(tempfile.mkdtemp(dir=place))
        self.command = [*map(str, command), "--report", str(self.folder)]
        timed = [self.command.index(name) + 1 for name in ["--seconds", "--warm-up-seconds"]]
        self.seconds = sum(float(self.command[place]) for place in timed)
        self.environment = environment
        self.summary = None

    def __enter__(self):
        self.log = (self.folder / "log").open("wb")
        output = {"stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(self.command, env=self.environment, preexec_fn=be_prompt, **output)
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(EXTRA_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.log.close()
        if kind is None:
            if code != 0:
                raise RuntimeError(f"loadtest exited with {code}:\n{(self.folder / 'log').read_text()}")
            self.summary = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))["summary"]

    def wait(self):
        self.process.wait(self.seconds + EXTRA_SECONDS_MAX)


def be_prompt():
    with contextlib.suppress(OSError):
        os.nice(GENERATOR_NICENESS)


def is_serving(address):
    """Whether the server there says that it is SERVING."""
    # A connection of its own, without the pause that gRPC makes after one that failed.
    channel = grpc.insecure_channel(address, [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)])
    try:
        return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5) == SERVING
    except grpc.RpcError:
        return False
    finally:
        channel.close()


def table(result):
    lines = []
    for model in result["models"]:
        lines += [f"## {model['name']}", "", "| bar | figure | |", "|---|---|---|"]
        lines += [f"| {each['bar']} | {each['figure']} | {each['verdict']} |" for each in model["bars"]]
        lines.append("")
    machine = result["machine"]
    share = f"{machine['cores']} cores; other programs took {machine['others_share']:.0%} of the machine meanwhile"
    verdict = ": too much, do not write these figures down." if machine["busy"] else "."
    return "\n".join([*lines, share + verdict])


main()
