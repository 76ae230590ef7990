#!/usr/bin/env python3
"""The server that one would write in Python: grpcio, Pillow, tokenizers and ONNX Runtime with its default settings.

    python_server.py --batching none|queue --model-dir DIR --listen HOST:PORT

Answers `EmbeddingService.Embed` of Vitrine's contract. `none` runs the model for each request in its own thread;
`queue` lets one thread for each tower run what waits. The generated classes must be on the path; `compare.py` sees to
that.
"""

import argparse
import queue
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import reference
from contract import CHANNEL_OPTIONS
from vitrine.v1 import embedding_service_pb2 as messages
from vitrine.v1 import embedding_service_pb2_grpc as services
from vitrine.v1 import signal_pb2 as signals

HANDLER_THREADS = 8
BATCH_SIZE_MAX = 16
BATCH_WAIT_SECONDS_MAX = 0.002
INVALID_ARGUMENT = 3


class Direct:
    """Runs a tower for each input in the thread that asks."""

    def __init__(self, tower):
        self.tower = tower

    def embed(self, item):
        return self.tower([item])[0]


class Queue:
    """Runs a tower in a thread of its own, with up to 16 of the inputs that wait; the first waits 2 ms at most."""

    def __init__(self, tower):
        self.tower = tower
        self.waiting = queue.SimpleQueue()
        threading.Thread(target=self.work, daemon=True).start()

    def embed(self, item):
        answer = futures.Future()
        self.waiting.put((item, answer))
        return answer.result()

    def work(self):
        while True:
            batch = [self.waiting.get()]
            deadline = time.monotonic() + BATCH_WAIT_SECONDS_MAX
            while len(batch) < BATCH_SIZE_MAX:
                try:
                    batch.append(self.waiting.get(timeout=max(0.0, deadline - time.monotonic())))
                except queue.Empty:
                    break
            try:
                vectors = self.tower([item for item, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    answer.set_exception(error)
            else:
                for (_, answer), vector in zip(batch, vectors, strict=True):
                    answer.set_result(vector)


class Embedding(services.EmbeddingServiceServicer):
    """`EmbeddingService`."""

    def __init__(self, folder, batching):
        self.preprocess = reference.Preprocess(folder)
        self.tokenize = reference.Tokenize(folder)
        self.vision = batching(reference.VisionTower(folder))
        self.text = batching(reference.TextTower(folder, self.tokenize))

    def Embed(self, request, context):  # noqa: N802, the contract's name
        results = [self.embed(item) for item in request.inputs]
        dimensions = max((len(result.embedding.values) for result in results), default=0)
        return messages.EmbedResponse(results=results, dimensions=dimensions)

    def embed(self, item):
        if item.WhichOneof("source") == "text":
            vector = self.text.embed(self.tokenize(item.text))
        else:
            try:
                tensor = self.preprocess(item.photo.content)
            except OSError as error:
                return messages.EmbedResult(error=messages.EmbedError(code=INVALID_ARGUMENT, message=str(error)))
            vector = self.vision.embed(tensor)
        return messages.EmbedResult(embedding=signals.Embedding(values=vector))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batching", choices=["none", "queue"], required=True)
    parser.add_argument("--model-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--precision", choices=reference.SUFFIXES, default="auto")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    arguments = parser.parse_args()
    try:
        folder = reference.Folder(arguments.model_dir, arguments.precision)
        embedding = Embedding(folder, Direct if arguments.batching == "none" else Queue)
    except reference.WrongModel as error:
        print(f"python_server.py: {error}", file=sys.stderr)
        sys.exit(2)
    server = grpc.server(futures.ThreadPoolExecutor(HANDLER_THREADS), options=CHANNEL_OPTIONS)
    services.add_EmbeddingServiceServicer_to_server(embedding, server)
    server.add_insecure_port(arguments.listen)
    server.start()
    server.wait_for_termination()


main()
