"""What a client of the running service sees. See README.md."""

import itertools
import math
import struct
import sys
import tempfile
import time
import unittest
import zlib
from decimal import Decimal
from pathlib import Path

import grpc
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from service import DEMO, Service, generate_client, read_lines

SERVICES = ["vitrine.v1.CatalogService", "vitrine.v1.EmbeddingService", "vitrine.v1.RecommendationService"]
CHUNK_BYTES = 64 * 1024
PHOTO_BYTES_MAX = 20 * 1024 * 1024
REFUSAL_SECONDS_MAX = 0.05
REFUSAL_TRIES = 5
# Every call ends well before this; it keeps a hanging service from hanging the test.
CALL_SECONDS_MAX = 30

PRODUCTS = read_lines(DEMO / "products.jsonl")
QUERIES = read_lines(DEMO / "queries.jsonl")
MUG = (DEMO / "queries" / "mug-on-table.jpg").read_bytes()
SOFA = (DEMO / "queries" / "sofa-living-room.jpg").read_bytes()

service = None
pb = None
fresh_numbers = itertools.count()


def setUpModule():
    global service, pb
    directory = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(directory.cleanup)
    client = Path(directory.name) / "client"
    client.mkdir()
    pb = generate_client(client)
    service = Service(Path(directory.name))
    unittest.addModuleCleanup(service.stop)
    service.start()


def micros(price):
    """The millionths of a price as the feed writes it, such as `19.90 EUR`."""
    return int(Decimal(price.split()[0]) * 1_000_000)


def fresh(photo):
    """The same picture in bytes that the service has not seen: decoders ignore what follows a picture."""
    return photo + b"%d" % next(fresh_numbers)


def photo_signal(content, **fields):
    return pb.Signal(photo=pb.Photo(content=content), **fields)


def text_signal(text, **fields):
    return pb.Signal(text=text, **fields)


def equals(attribute, **value):
    return pb.Filter(equals=pb.Equals(attribute=attribute, value=pb.Value(**value)))


def under(path):
    return pb.Filter(prefix=pb.Prefix(attribute="product_type", path=path))


def all_of(*filters):
    return pb.Filter(all_of=pb.FilterList(filters=filters))


def is_under(product, path):
    return product["product_type"] == path or product["product_type"].startswith(f"{path} > ")


def search(*signals, **fields):
    stub = pb.RecommendationServiceStub(service.channel)
    return stub.Search(pb.SearchRequest(signals=signals, **fields), timeout=CALL_SECONDS_MAX)


def upload(messages):
    stub = pb.RecommendationServiceStub(service.channel)
    return stub.SearchUpload(iter(messages), timeout=CALL_SECONDS_MAX)


def upload_messages(content):
    signals = [pb.Signal(uploaded_photo=pb.UploadedPhoto())]
    starts = range(0, len(content), CHUNK_BYTES)
    chunks = [pb.SearchUploadRequest(chunk=content[start : start + CHUNK_BYTES]) for start in starts]
    return [pb.SearchUploadRequest(request=pb.SearchRequest(signals=signals)), *chunks]


def embed(*inputs):
    stub = pb.EmbeddingServiceStub(service.channel)
    return stub.Embed(pb.EmbedRequest(inputs=inputs), timeout=CALL_SECONDS_MAX)


def get_product(product_id, **fields):
    stub = pb.CatalogServiceStub(service.channel)
    return stub.GetProduct(pb.GetProductRequest(product_id=product_id, **fields), timeout=CALL_SECONDS_MAX)


def ids(response):
    return [result.product.id for result in response.results]


class ClientTest(unittest.TestCase):
    def assert_sorted(self, results):
        scores = [result.score for result in results]
        self.assertEqual(scores, sorted(scores, reverse=True))

    def assert_code(self, code, call, *arguments, **fields):
        with self.assertRaises(grpc.RpcError) as raised:
            call(*arguments, **fields)
        self.assertEqual(raised.exception.code(), code, raised.exception.details())
        return raised.exception


class SearchTest(ClientTest):
    def test_a_photo_finds_products_of_its_type(self):
        right = 0
        for query in QUERIES:
            with self.subTest(query["file"]):
                response = search(photo_signal((DEMO / query["file"]).read_bytes()))
                self.assertEqual(len(response.results), 10)
                right += response.results[0].product.product_type == query["expected_product_type"]
        self.assertGreaterEqual(right, 10)

    def test_an_answer_is_sorted_and_says_why_from_where_and_how_fast(self):
        response = search(photo_signal(fresh(MUG)))
        self.assert_sorted(response.results)
        for result in response.results:
            self.assertEqual([reason.target for reason in result.reasons], [pb.MATCH_TARGET_IMAGE])
            reason = result.reasons[0]
            self.assertIn(reason.image_link, [result.product.image_link, *result.product.additional_image_links])
            self.assertAlmostEqual(result.score, reason.similarity, places=5)
            self.assertLessEqual(abs(result.score), 1)
        self.assertEqual(response.generation, get_product(PRODUCTS[0]["id"]).generation)
        self.assertNotEqual(response.generation, "")
        parts = [response.timings.embedding.ToNanoseconds(), response.timings.index.ToNanoseconds()]
        self.assertGreater(min(parts), 0)
        self.assertGreaterEqual(response.timings.total.ToNanoseconds(), sum(parts))

    def test_a_trade_item_number_finds_its_product_by_its_words(self):
        for product in [product for product in PRODUCTS if "gtin" in product][::5]:
            best = search(text_signal(product["gtin"])).results[0]
            self.assertEqual(best.product.id, product["id"])
            reasons = {reason.target: reason.similarity for reason in best.reasons}
            self.assertEqual(set(reasons), {pb.MATCH_TARGET_IMAGE, pb.MATCH_TARGET_TEXT, pb.MATCH_TARGET_KEYWORDS})
            self.assertGreater(reasons[pb.MATCH_TARGET_KEYWORDS], 0.4)
            self.assertLess(reasons[pb.MATCH_TARGET_KEYWORDS], 1)

    def test_an_uploaded_photo_finds_the_same_as_one_in_the_request(self):
        photo = fresh(SOFA) + bytes(2 * CHUNK_BYTES)
        uploaded = upload(upload_messages(photo)).response
        sent = search(photo_signal(photo))
        self.assertEqual(list(uploaded.results), list(sent.results))
        self.assertEqual(len(uploaded.results), 10)

    def test_a_filter_leaves_only_products_that_match(self):
        price = pb.Value(money_value=pb.Money(currency_code="EUR", amount_micros=50_000_000))
        cheap = pb.Filter(range=pb.Range(attribute="price", lt=price))
        wanted = all_of(cheap, equals("availability", string_value="in_stock"), under("Kitchen"))
        response = search(text_signal("something to drink from"), filter=wanted, page_size=200)
        matches = {
            product["id"]
            for product in PRODUCTS
            if micros(product["price"]) < 50_000_000
            and product["availability"] == "in_stock"
            and is_under(product, "Kitchen")
        }
        self.assertGreater(len(matches), 0)
        self.assertCountEqual(ids(response), matches)
        self.assert_sorted(response.results)

    def test_a_filter_with_few_matches_answers_with_all_of_them_and_no_next_page(self):
        stock = pb.Filter(range=pb.Range(attribute="stock", gte=pb.Value(int_value=20)))
        response = search(photo_signal(MUG), filter=all_of(under("Home > Sofas"), stock))
        matches = [p["id"] for p in PRODUCTS if is_under(p, "Home > Sofas") and p["stock"] >= 20]
        self.assertTrue(0 < len(matches) < 10)
        self.assertCountEqual(ids(response), matches)
        self.assertEqual(response.next_page_token, "")

    def test_paging_visits_every_match_once(self):
        query = {"filter": under("Home"), "page_size": 7}
        matches = [product["id"] for product in PRODUCTS if is_under(product, "Home")]
        results, token = [], ""
        for _ in range(math.ceil(len(matches) / 7)):
            page = search(text_signal("cosy"), page_token=token, **query)
            self.assertLessEqual(len(page.results), 7)
            results.extend(page.results)
            token = page.next_page_token
        self.assertEqual(token, "")
        self.assertCountEqual([result.product.id for result in results], matches)
        self.assert_sorted(results)

    def test_a_liked_product_is_not_in_its_own_answer(self):
        liked = PRODUCTS[0]
        response = search(pb.Signal(product_id=liked["id"]), page_size=200)
        others = [product["id"] for product in PRODUCTS if product is not liked]
        self.assertCountEqual(ids(response), others)
        self.assertEqual(response.results[0].product.product_type, liked["product_type"])

    def test_a_negative_weight_moves_its_like_back(self):
        def ranks_of_mugs(weight):
            response = search(photo_signal(SOFA), photo_signal(MUG, weight=weight), page_size=200)
            types = [result.product.product_type for result in response.results]
            return [rank for rank, product_type in enumerate(types) if product_type == "Kitchen > Mugs"]

        for_mugs, against_mugs = ranks_of_mugs(0.5), ranks_of_mugs(-0.5)
        self.assertEqual(len(for_mugs), len(against_mugs))
        self.assertLess(max(for_mugs), min(against_mugs))

    def test_a_deadline_that_is_too_short_is_said_as_such(self):
        stub = pb.RecommendationServiceStub(service.channel)
        request = pb.SearchRequest(signals=[photo_signal(fresh(MUG))])
        self.assert_code(grpc.StatusCode.DEADLINE_EXCEEDED, stub.Search, request, timeout=0.001)
        self.assertEqual(len(search(photo_signal(fresh(MUG))).results), 10)

    def test_unknown_catalogues_and_products_are_not_found(self):
        text = text_signal("mug")
        self.assert_code(grpc.StatusCode.NOT_FOUND, search, text, catalog="nowhere")
        self.assert_code(grpc.StatusCode.NOT_FOUND, search, pb.Signal(product_id="NO-SUCH-PRODUCT"))


class EmbeddingTest(ClientTest):
    def test_a_bad_input_fails_alone(self):
        photo, broken = pb.EmbedInput(photo=pb.Photo(content=MUG)), pb.EmbedInput(photo=pb.Photo(content=b"no photo"))
        text, empty = pb.EmbedInput(text="a red mug"), pb.EmbedInput(text="")
        response = embed(photo, broken, text, empty, photo)
        outcomes = [result.WhichOneof("outcome") for result in response.results]
        self.assertEqual(outcomes, ["embedding", "error", "embedding", "error", "embedding"])
        for position, field in [(1, "photo.content"), (3, "text")]:
            error = response.results[position].error
            self.assertEqual(error.code, code_pb2.INVALID_ARGUMENT)
            self.assertIn(f"inputs[{position}].{field}", error.message)
            self.assertEqual(error.field, f"inputs[{position}].{field}")
        for position in (0, 2, 4):
            values = response.results[position].embedding.values
            self.assertEqual(len(values), response.dimensions)
            self.assertAlmostEqual(math.sqrt(sum(value * value for value in values)), 1, places=5)
        self.assertEqual(response.results[0], response.results[4])
        self.assertNotEqual(response.model_fingerprint, "")

    def test_a_vector_finds_the_same_as_the_photo_it_was_made_from(self):
        embedding = embed(pb.EmbedInput(photo=pb.Photo(content=SOFA))).results[0].embedding
        by_vector, by_photo = search(pb.Signal(embedding=embedding)), search(photo_signal(SOFA))
        self.assertEqual(by_vector.results[0].product, by_photo.results[0].product)
        self.assertAlmostEqual(by_vector.results[0].score, by_photo.results[0].score, places=5)


class CatalogTest(ClientTest):
    def test_a_product_is_as_its_feed_says(self):
        row = next(p for p in PRODUCTS if {"sale_price", "gtin", "additional_image_link"} <= p.keys())
        product = get_product(row["id"]).product
        texts = ["id", "title", "description", "link", "image_link", "availability", "brand", "gtin", "product_type"]
        texts += ["condition", "color", "size", "material", "pattern", "gender", "age_group", "item_group_id"]
        self.assertEqual({name: getattr(product, name) for name in texts}, {name: row.get(name, "") for name in texts})
        self.assertEqual(product.price, pb.Money(currency_code="EUR", amount_micros=micros(row["price"])))
        self.assertEqual(product.sale_price, pb.Money(currency_code="EUR", amount_micros=micros(row["sale_price"])))
        additional = row["additional_image_link"]
        additional = additional if isinstance(additional, list) else additional.split(",")
        self.assertEqual(list(product.additional_image_links), additional)
        own = {
            "stock": pb.Value(int_value=row["stock"]),
            "weight_kg": pb.Value(double_value=row["weight_kg"]),
            "vegan": pb.Value(bool_value=row["vegan"]),
        }
        self.assertEqual(dict(product.attributes), own)

    def test_unknown_catalogues_and_products_are_not_found(self):
        self.assert_code(grpc.StatusCode.NOT_FOUND, get_product, "NO-SUCH-PRODUCT")
        self.assert_code(grpc.StatusCode.NOT_FOUND, get_product, PRODUCTS[0]["id"], catalog="nowhere")


class OperationsTest(ClientTest):
    def test_the_server_and_each_service_say_that_they_serve(self):
        health = health_pb2_grpc.HealthStub(service.channel)
        for name in ["", *SERVICES]:
            with self.subTest(name):
                answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_SECONDS_MAX)
                self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)

    def test_reflection_tells_the_contract(self):
        reflection = ProtoReflectionDescriptorDatabase(service.channel)
        self.assertLessEqual({*SERVICES, "grpc.health.v1.Health"}, set(reflection.get_services()))
        file = reflection.FindFileContainingSymbol("vitrine.v1.RecommendationService.SearchUpload")
        self.assertEqual(file.name, "vitrine/v1/recommendation_service.proto")


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png():
    """A PNG file that says it has 50,000 × 50,000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1024))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)


def nested_filter(levels):
    """A filter of so many levels."""
    nested = equals("brand", string_value=PRODUCTS[0]["brand"])
    for _ in range(levels - 1):
        nested = all_of(nested)
    return nested


class RefusalTest(ClientTest):
    """Wrong requests are refused at once with the field's name, and do no harm."""

    times = {}
    # When the request was sent that is to be refused.
    started = 0.0

    @classmethod
    def tearDownClass(cls):
        lines = [f"{seconds * 1000:8.1f} ms  {name}" for name, seconds in cls.times.items()]
        print("", f"Fastest of {REFUSAL_TRIES} refusals:", *lines, sep="\n", file=sys.stderr)

    def assert_refused(self, field, problem, make, send):
        """Sends what `make` makes, several times: each is refused, naming the field and the limit in the problem."""
        seconds = []
        for _ in range(REFUSAL_TRIES):
            request = make()
            self.started = time.perf_counter()
            error = self.assert_code(grpc.StatusCode.INVALID_ARGUMENT, send, request)
            seconds.append(time.perf_counter() - self.started)
            details = error_details_pb2.BadRequest()
            self.assertTrue(rpc_status.from_call(error).details[0].Unpack(details))
            self.assertEqual([violation.field for violation in details.field_violations], [field])
            self.assertIn(problem, details.field_violations[0].description)
        self.times[self.id().rpartition(".")[2]] = min(seconds)
        best = search(photo_signal(fresh(MUG))).results[0].product
        self.assertEqual(best.product_type, "Kitchen > Mugs")
        self.assertLess(min(seconds), REFUSAL_SECONDS_MAX)

    def assert_search_refused(self, field, problem, make):
        # Not by the stub: it writes a large request into bytes for longer than the service takes to refuse it.
        method = service.channel.unary_unary("/vitrine.v1.RecommendationService/Search")
        self.assert_refused(
            field,
            problem,
            lambda: make().SerializeToString(),
            lambda request: method(request, timeout=CALL_SECONDS_MAX),
        )

    def assert_photo_refused(self, problem, make):
        self.assert_search_refused(
            "signals[0].photo.content", problem, lambda: pb.SearchRequest(signals=[photo_signal(make())])
        )

    def assert_fields_refused(self, field, problem, **fields):
        request = {"signals": [text_signal("mug")], **fields}
        self.assert_search_refused(field, problem, lambda: pb.SearchRequest(**request))

    def test_bytes_that_are_no_picture(self):
        self.assert_photo_refused("JPEG, PNG, WebP, GIF or BMP", lambda: fresh(b"These words are not a picture. " * 40))

    def test_half_a_jpeg(self):
        self.assert_photo_refused("too early", lambda: MUG[: len(MUG) // 2 - next(fresh_numbers)])

    def test_a_picture_of_2500_megapixels(self):
        self.assert_photo_refused("64 megapixels", lambda: fresh(huge_png()))

    def test_a_photo_of_21_mib(self):
        self.assert_photo_refused(str(PHOTO_BYTES_MAX), lambda: bytes(21 * 1024 * 1024))

    def test_an_upload_of_21_mib(self):
        messages = upload_messages(bytes(21 * 1024 * 1024))
        first_too_many = 1 + PHOTO_BYTES_MAX // CHUNK_BYTES

        def timed():
            for position, message in enumerate(messages):
                if position == first_too_many:
                    # Sending what is allowed is the client's time; the service's begins with what is too much.
                    self.started = time.perf_counter()
                yield message

        self.assert_refused("chunk", str(PHOTO_BYTES_MAX), timed, upload)

    def test_an_upload_that_begins_with_a_chunk(self):
        chunks = upload_messages(MUG)[1:]
        self.assert_refused("request", "first", lambda: chunks, upload)

    def test_an_upload_in_a_search_without_a_stream(self):
        signals = [pb.Signal(uploaded_photo=pb.UploadedPhoto())]
        self.assert_fields_refused("signals[0].uploaded_photo", "SearchUpload", signals=signals)

    def test_no_signal(self):
        self.assert_fields_refused("signals", "empty", signals=[])

    def test_17_signals(self):
        self.assert_fields_refused("signals", "16", signals=[text_signal("mug")] * 17)

    def test_a_text_of_1025_bytes(self):
        self.assert_fields_refused("signals[0].text", "1024", signals=[text_signal("m" * 1025)])

    def test_a_weight_that_is_not_a_number(self):
        self.assert_fields_refused("signals[0].weight", "NaN", signals=[text_signal("mug", weight=math.nan)])

    def test_an_unknown_attribute_in_a_filter(self):
        wanted = equals("shade", string_value="green")
        self.assert_fields_refused("filter.shade", "not an attribute", filter=wanted)

    def test_a_filter_of_9_levels(self):
        self.assertGreater(len(search(text_signal("mug"), filter=nested_filter(8)).results), 0)
        self.assert_fields_refused("filter", "8 levels", filter=nested_filter(9))

    def test_a_page_of_201_products(self):
        self.assert_fields_refused("page_size", "200", page_size=201)

    def test_a_page_token_of_another_query(self):
        token = search(text_signal("sofa")).next_page_token
        self.assertNotEqual(token, "")
        self.assert_fields_refused("page_token", "another query", page_token=token)


if __name__ == "__main__":
    unittest.main()
