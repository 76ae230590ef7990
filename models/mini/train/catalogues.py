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
    """The products of one feed, in order. Ends the program with the line and the field of what is wrong."""
    path = os.path.join(folder, "products.jsonl")
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
    except OSError as error:
        raise SystemExit(f"cannot read {path}: {error.strerror}") from error
    return [product(folder, line, f"{path} line {number}") for number, line in enumerate(lines, 1)]


def product(folder, line, where):
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise SystemExit(f"{where}: not JSON: {error.msg}") from error
    for field in ("title", "image_link"):
        if not row.get(field):
            raise SystemExit(f"{where}: field `{field}` is missing")
    picture = os.path.join(folder, row["image_link"])
    if not os.path.isfile(picture):
        raise SystemExit(f"{where}: field `image_link` names no file: {picture}")
    return Product(
        catalogue=os.path.basename(os.path.normpath(folder)),
        title=row["title"],
        kind=row.get("product_type", "").split(" > ")[-1],
        picture=picture,
        group=row.get("item_group_id", ""),
        colour=row.get("color", ""),
        sender=row.get("sender_id", ""))
