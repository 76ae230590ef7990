#!/usr/bin/env python3
"""Measures the main job on real catalogues: loads them, serves them, and asks for every product by its own picture.

    make build && make test-python      # programs, and grpcio in target/python
    PYTHONPATH=target/python python3 benches/main_job.py ../shared/data

Every photo is new to the server, so no cache answers. One client, one photo at a time, on loopback.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "target/release"
SHOPS = ["outdoor", "home", "department-store", "appliances", "clothing"]
ADDRESS = "127.0.0.1:50079"
# A product that shares its picture with another shares the first place with it.
TIE = 1e-4


def stubs(folder):
    import grpc_tools
    from grpc_tools import protoc

    google = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    files = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").glob("vitrine/v1/*.proto"))
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{google}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]
    if protoc.main(arguments) != 0:
        sys.exit("the contract does not compile")
    sys.path.insert(0, folder)
    from vitrine.v1 import recommendation_service_pb2 as messages
    from vitrine.v1 import recommendation_service_pb2_grpc as services
    from vitrine.v1 import signal_pb2 as signals

    return messages, services, signals


def load(data, shop, index):
    command = [PROGRAMS / "catalog-loader", data / shop / "products.jsonl", "--catalog", shop, "--index-dir", index]
    command += ["--dead-letters", index / f"{shop}.dead-letters.jsonl"]
    started = time.monotonic()
    summary = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    failed = [line.strip() for line in summary.splitlines() if "failed" in line]
    print(f"{shop}: loaded in {time.monotonic() - started:.1f} s; {'; '.join(failed)}")


def serve(index, grpc, health, health_grpc):
    started = time.monotonic()
    server = subprocess.Popen([PROGRAMS / "vitrine", "serve", "--listen", ADDRESS, "--index-dir", index], cwd=ROOT)
    channel = grpc.insecure_channel(ADDRESS, options=[("grpc.max_send_message_length", 32 << 20)])
    grpc.channel_ready_future(channel).result(timeout=60)
    assert health_grpc.HealthStub(channel).Check(health.HealthCheckRequest()).status == 1
    print(f"serving {time.monotonic() - started:.2f} s after the start, five catalogues open")
    return server, channel


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    import grpc
    from grpc_health.v1 import health_pb2 as health
    from grpc_health.v1 import health_pb2_grpc as health_grpc

    data = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        messages, services, signals = stubs(folder)
        index = pathlib.Path(folder) / "index"
        index.mkdir()
        for shop in SHOPS:
            load(data, shop, index)
        server, channel = serve(index, grpc, health, health_grpc)
        try:
            stub = services.RecommendationServiceStub(channel)

            def ask(shop, product):
                photo = signals.Photo(content=(data / shop / product["image_link"]).read_bytes())
                request = messages.SearchRequest(catalog=shop, page_size=20, signals=[signals.Signal(photo=photo)])
                started = time.monotonic()
                answer = stub.Search(request)
                taken = (time.monotonic() - started) * 1000
                best = answer.results[0].score
                first = [r.product.id for r in answer.results if r.score >= best - TIE]
                return product["id"] in first, taken

            for shop in SHOPS:
                products = [json.loads(line) for line in (data / shop / "products.jsonl").open()]
                outcomes = [ask(shop, product) for product in products]
                found = sum(found for found, _ in outcomes)
                times = statistics.quantiles([taken for _, taken in outcomes], n=100)
                print(
                    f"{shop}: {found} of {len(products)} find themselves first ({found / len(products):.2%}); "
                    f"photo query p50 {times[49]:.1f} ms, p99 {times[98]:.1f} ms"
                )
        finally:
            server.terminate()
            server.wait(timeout=60)


main()
