"""Runs the built service with the demo catalogue, and the client that is generated from `proto/`."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import grpc
import grpc_tools
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "demo"
MODEL = REPOSITORY / "models" / "mini"

# A debug build loads the catalogue in about half a minute.
LOAD_SECONDS_MAX = 600
START_SECONDS_MAX = 60
# Running requests may take 20 s of it.
STOP_SECONDS_MAX = 30
MESSAGE_BYTES_MAX = 32 * 1024 * 1024


def read_lines(path):
    """The objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def generate_client(directory):
    """Generates the client into a directory; answers with everything in it, by name."""
    root = REPOSITORY / "proto"
    files = sorted(root.glob("vitrine/v1/*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [f"-I{root}", f"-I{well_known}", f"--python_out={directory}", f"--grpc_python_out={directory}"]
    if protoc.main(["protoc", *arguments, *map(str, files)]) != 0:
        raise RuntimeError(f"protoc cannot compile {root}")
    sys.path.insert(0, str(directory))
    client = SimpleNamespace()
    for file in files:
        for suffix in ("pb2", "pb2_grpc"):
            vars(client).update(vars(importlib.import_module(f"vitrine.v1.{file.stem}_{suffix}")))
    return client


class Service:
    """`vitrine serve` on a port of its own, with the demo catalogue loaded."""

    def __init__(self, directory):
        self.index = directory / "index"
        self.log = directory / "vitrine.log"
        self.process = None
        self.load(directory / "dead-letters.jsonl")
        self.address = f"127.0.0.1:{free_port()}"
        # A proxy of the environment is not for an address of this machine.
        options = [("grpc.max_send_message_length", MESSAGE_BYTES_MAX), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.insecure_channel(self.address, options)

    def load(self, dead_letters):
        """Loads the demo catalogue."""
        places = ["--index-dir", self.index, "--model-dir", MODEL, "--dead-letters", dead_letters]
        command = [program("catalog-loader"), DEMO / "products.jsonl", *places]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LOAD_SECONDS_MAX)
        if done.returncode != 0:
            raise RuntimeError(f"catalog-loader exited with {done.returncode}:\n{done.stdout}{done.stderr}")

    def start(self):
        """Starts the server and waits until it says that it serves."""
        command = [program("vitrine"), "serve", "--listen", self.address, "--index-dir", self.index]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, "--model-dir", MODEL], env=environment(), stderr=log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.serves():
            if self.process.poll() is not None:
                raise RuntimeError(f"vitrine exited with {self.process.returncode}:\n{self.log.read_text()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"vitrine does not serve after {START_SECONDS_MAX} s:\n{self.log.read_text()}")
            time.sleep(0.05)

    def serves(self):
        """Whether the health service says so, within a second."""
        health = health_pb2_grpc.HealthStub(self.channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
        except grpc.RpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def stop(self):
        """Asks the server to end, while a client is still connected, and demands that it does so in good order."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"vitrine runs {STOP_SECONDS_MAX} s after SIGTERM:\n{self.log.read_text()}") from None
        finally:
            self.channel.close()
        if code != 0:
            raise AssertionError(f"vitrine exited with {code} after SIGTERM:\n{self.log.read_text()}")


def program(name):
    """The path of a built program."""
    folder = Path(os.environ.get("VITRINE_BIN_DIR", REPOSITORY / "target" / "debug"))
    path = folder / name
    if not path.is_file():
        raise RuntimeError(f"there is no {path}: build first, or name the folder of the programs in VITRINE_BIN_DIR")
    return path


def environment():
    """This process's environment without settings of Vitrine, which would change what is tested."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")}


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
