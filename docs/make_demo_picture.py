#!/usr/bin/env python3
"""Draws docs/demo.png: demo queries, and what a running `make demo` answers.

    python3 -m pip install pillow
    python3 docs/make_demo_picture.py        # while `make demo` serves
"""

import json
import pathlib
import subprocess

from PIL import Image, ImageDraw, ImageFont

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUERIES = [
    ["--image", "demo/queries/sofa-living-room.jpg"],
    ["--image", "demo/queries/dress-on-wall.jpg"],
    ["--text", "blue mug", "--filter", 'price < 50 AND availability = "in_stock"'],
    ["--text", "sunglasses"],
]
CELL, GAP, CAPTION, ANSWERS = 168, 14, 34, 5
INK, PALE = (40, 40, 40), (120, 120, 120)


def search(query):
    command = ["target/release/vitrine", "search", "--json", "--limit", str(ANSWERS), *query]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)["results"]


def fitted(path):
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((CELL, CELL), Image.LANCZOS)
    square = Image.new("RGB", (CELL, CELL), "white")
    square.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    return square


def main():
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    width = GAP + (ANSWERS + 1) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, GAP + len(QUERIES) * (CELL + CAPTION + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, query in enumerate(QUERIES):
        top = GAP + row * (CELL + CAPTION + GAP)
        if query[0] == "--image":
            sheet.paste(fitted(ROOT / query[1]), (GAP, top))
            draw.text((GAP, top + CELL + 4), "a photo", INK, small)
        else:
            draw.rectangle((GAP, top, GAP + CELL, top + CELL), outline=PALE)
            words = [f"“{query[1]}”", *(query[3].replace(" AND ", "\n").split("\n") if len(query) > 2 else [])]
            for line, text in enumerate(words):
                style = dict(fill=INK, font=font) if line == 0 else dict(fill=PALE, font=small)
                draw.text((GAP + 10, top + CELL // 2 - 20 + 22 * line), text, **style)
        for column, result in enumerate(search(query), start=1):
            left = 2 * GAP + column * (CELL + GAP)
            product = result["product"]
            sheet.paste(fitted(ROOT / "demo" / product["image_link"]), (left, top))
            draw.text((left, top + CELL + 2), product["title"][:26], INK, small)
            draw.text((left, top + CELL + 17), f"{product['price']}   {result['score']:.2f}", PALE, small)
    sheet.quantize(128).save(ROOT / "docs/demo.png", optimize=True)


main()
