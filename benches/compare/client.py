"""The client, a process of its own so that its CPU is not counted: takes orders as lines of JSON, answers in the same.

`compare.py` starts it and uses it through `Client` below. The generated classes must be on its path.
"""

import json
import sys
import threading
import time
from pathlib import Path

from orders import Worker

RPC_SECONDS_MAX = 60


class Client(Worker):
    """The process, as the one who orders sees it."""

    def __init__(self, environment):
        super().__init__([sys.executable, __file__], environment)

    def answers(self, address):
        """Whether the server there embeds a text."""
        return self.order("answers", address=address)


def serve():
    """Does one order after the other until there are no more."""
    import grpc
    from contract import CHANNEL_OPTIONS
    from vitrine.v1 import embedding_service_pb2 as embedding
    from vitrine.v1 import recommendation_service_pb2 as recommendation
    from vitrine.v1 import signal_pb2 as signals

    channels = {}

    def rpc(address, method):
        """Takes and gives bytes: encoding and decoding are not what is measured."""
        if address not in channels:
            channels[address] = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        call = channels[address].unary_unary(f"/vitrine.v1.{method}")
        return lambda request: call(request, timeout=RPC_SECONDS_MAX)

    def request(method, item, bypass):
        source = {"photo": signals.Photo(content=Path(item["photo"]).read_bytes())} if "photo" in item else item
        if method == "EmbeddingService/Embed":
            made = embedding.EmbedRequest(inputs=[embedding.EmbedInput(**source)], bypass_cache=bypass)
        else:
            made = recommendation.SearchRequest(signals=[signals.Signal(**source)], bypass_cache=bypass)
        return made.SerializeToString()

    def check(method, answer):
        """Fails on an answer that did not cost what a right one costs."""
        if method == "EmbeddingService/Embed":
            (result,) = embedding.EmbedResponse.FromString(answer).results
            if result.HasField("error"):
                raise RuntimeError(f"the server answered {result.error.code}: {result.error.message}")
            return list(result.embedding.values)
        results = recommendation.SearchResponse.FromString(answer).results
        if not results:
            raise RuntimeError("the server found no product")
        return [product.product.id for product in results]

    def answers(address):
        """Whether a text is embedded."""
        # A connection of its own, without the pause that gRPC makes after one that failed.
        channel = grpc.insecure_channel(address, [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)])
        embed = channel.unary_unary("/vitrine.v1.EmbeddingService/Embed")
        try:
            embed(request("EmbeddingService/Embed", {"text": "ready"}, True), timeout=RPC_SECONDS_MAX)
        except grpc.RpcError:
            return False
        finally:
            channel.close()
        return True

    def ask(address, method, items):
        """What is answered to each input, one after the other."""
        call = rpc(address, method)
        return [check(method, call(request(method, item, True))) for item in items]

    def capture(address, method, item, bypass, path):
        """Writes what is answered to an input into a file, as it came."""
        answer = rpc(address, method)(request(method, item, bypass))
        check(method, answer)
        Path(path).write_bytes(answer)

    def load(address, method, items, seconds, in_flight, bypass=True):
        """A closed loop with `in_flight` requests; at least one for each of them, however short `seconds` is."""
        call = rpc(address, method)
        requests = [request(method, item, bypass) for item in items]
        latencies, last, failures = [], {}, []
        began = time.monotonic()

        def loop(number):
            try:
                while True:
                    which = number % len(requests)
                    asked = time.monotonic()
                    last[which] = call(requests[which])
                    answered = time.monotonic()
                    latencies.append(answered - asked)
                    number += in_flight
                    if answered - began >= seconds:
                        return
            except grpc.RpcError as error:
                failures.append(f"{error.code()}: {error.details()}")

        threads = [threading.Thread(target=loop, args=(number,)) for number in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.monotonic() - began
        if failures:
            raise RuntimeError(failures[0])
        for answer in last.values():
            check(method, answer)
        return {"seconds": taken, "latencies_ms": [latency * 1000 for latency in latencies]}

    orders = {"answers": answers, "ask": ask, "capture": capture, "load": load}
    for line in sys.stdin:
        details = json.loads(line)
        try:
            outcome = {"done": orders[details.pop("order")](**details)}
        except (RuntimeError, grpc.RpcError) as error:
            outcome = {"failed": str(error)}
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    serve()
