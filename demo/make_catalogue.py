"""Draws the demo catalogue: product pictures, query photos and their feeds.

Runs on Python 3.9 or later with the versions in requirements.txt (Pillow 11.3.0, numpy 2.0.2), with which
every run writes the same bytes. Writes products.jsonl, images/, queries.jsonl and queries/ beside this file.
"""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from catalogue import apparel, feed, furnishings, leisure, scene, tableware
from catalogue.canvas import Canvas
from catalogue.paint import Paint

HERE = Path(__file__).resolve().parent
PIXELS = 840
STUDIO_ORDER = ("white", "grey", "warm", "white", "cool")
SCALES = {"jpg": 1.0, "webp": 1.1, "png": 0.87}
FORMATS = tuple(SCALES)
SHAPES = {
    "sofa": furnishings.sofa, "armchair": furnishings.armchair, "chair": furnishings.chair,
    "cushion": furnishings.cushion, "table_lamp": furnishings.table_lamp, "wall_clock": furnishings.wall_clock,
    "vase": furnishings.vase, "mug": tableware.mug, "teapot": tableware.teapot, "t_shirt": apparel.t_shirt,
    "dress": apparel.dress, "boot": apparel.boot, "trainer": apparel.trainer, "backpack": apparel.backpack,
    "umbrella": apparel.umbrella, "sunglasses": apparel.sunglasses, "guitar": leisure.guitar,
    "bicycle": leisure.bicycle,
}
LYING = {"cushion", "wall_clock", "t_shirt", "dress", "sunglasses", "guitar", "umbrella"}
"""Shapes photographed from above or hanging, whose shadow falls behind them."""


def generator(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def variant_keys(group):
    return [f"{group['id']}-{number}" for number in range(1, len(group["variants"]) + 1)]


def cut_out(group, key):
    """Draws one variant of a group without background."""
    _, base, *print_ = group["variants"][variant_keys(group).index(key)]
    grain = group.get("grain", "none")
    main = Paint(base, *print_, grain=grain)
    accent = Paint(group["accent"], grain=group.get("accent_grain", "none")) if "accent" in group else main.shaded(0.85)
    canvas = Canvas(PIXELS, generator(key))
    SHAPES[group["shape"]](canvas, main, accent, **group.get("style", {}))
    return canvas.picture()


def poses(key, mirrors):
    """The views of a product: the first one, and for about a third one or two more."""
    lot = feed.draw_lot(key + "views", 9)
    lean = feed.draw_lot(key + "lean", 13) - 6
    views = [({"yaw": lean}, 1.0)]
    if lot < 3:
        views.append(({"yaw": -30 if lean > 0 else 30, "pitch": -8, "mirrored": mirrors and lot == 1}, 1.0))
    if lot == 0:
        views.append(({"yaw": 14}, 1.75))
    return views


def save(photo, path):
    if path.suffix == ".png":
        photo.quantize(48, dither=Image.Dither.NONE).save(path, optimize=True)
    elif path.suffix == ".webp":
        photo.save(path, quality=80, method=6)
    else:
        photo.save(path, quality=76, optimize=True)


def draw_products(groups):
    """Draws every variant and yields its feed line."""
    count = 0
    for group in groups:
        stands = group["shape"] not in LYING
        for key, (colour, _, *print_) in zip(variant_keys(group), group["variants"]):
            drawing = cut_out(group, key)
            images = []
            for view, (pose, zoom) in enumerate(poses(key, mirrors=group["shape"] != "wall_clock")):
                backdrop = STUDIO_ORDER[(count + view) % len(STUDIO_ORDER)]
                kind = FORMATS[(count + view) % len(FORMATS)]
                name = f"images/{key.lower()}{'-' + str(view + 1) if view else ''}.{kind}"
                photo = scene.studio_photo(scene.turn(drawing, **pose), backdrop, stands, zoom, SCALES[kind])
                save(photo, HERE / name)
                images.append(name)
            count += 1
            yield feed.product(group, key, colour, print_[0] if print_ else "solid", images)


def draw_queries(groups, queries):
    """Photographs catalogue objects elsewhere and yields what a search should find."""
    of_key = {key: group for group in groups for key in variant_keys(group)}
    for query in queries:
        group, rng = of_key[query["product"]], generator(query["file"])
        size = tuple(query["size"])
        photo = scene.backdrop(query["place"], size, rng)
        for key, x, y, share, pose in [*query.get("clutter", []),
                                       [query["product"], *query["at"], query["share"], query["pose"]]]:
            cutout = scene.turn(cut_out(of_key[key], key), **pose)
            stands = of_key[key]["shape"] not in LYING and not query.get("from_above", False)
            scene.place(photo, cutout, (x * size[0], y * size[1]), (share * size[0], share * size[1]), stands,
                        shadow=0.7)
        scene.snapshot(photo, rng, **query["light"]).save(HERE / query["file"], quality=80, optimize=True)
        yield {"file": query["file"], "expected_product_type": group["type"], "expected_item_group_id": group["id"]}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main():
    groups = json.loads((HERE / "catalogue/range.json").read_text(encoding="utf-8"))
    queries = json.loads((HERE / "catalogue/queries.json").read_text(encoding="utf-8"))
    for folder in ("images", "queries"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    write_lines(HERE / "products.jsonl", draw_products(groups))
    write_lines(HERE / "queries.jsonl", draw_queries(groups, queries))


if __name__ == "__main__":
    main()
