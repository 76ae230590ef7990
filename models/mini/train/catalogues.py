"""Product feeds as training reads them: `products.jsonl` with Google Merchant names, pictures beside it."""

import dataclasses
import json
import os


@dataclasses.dataclass
class Product:
    catalogue: str
    title: str
    kind: str
    picture: str
    group: str
    colour: str
    sender: str


def read(folder):
    """The products of one feed that have a title and a picture, in order."""
    products = []
    with open(os.path.join(folder, "products.jsonl"), encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            for field in ("title", "image_link"):
                if not row.get(field):
                    raise SystemExit(f"{folder}/products.jsonl line {number}: field `{field}` is missing")
            products.append(Product(
                catalogue=os.path.basename(os.path.normpath(folder)),
                title=row["title"],
                kind=row.get("product_type", "").split(" > ")[-1],
                picture=os.path.join(folder, row["image_link"]),
                group=row.get("item_group_id", ""),
                colour=row.get("color", ""),
                sender=row.get("sender_id", "")))
    return products
