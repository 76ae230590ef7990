"""Products as lines of a Google Merchant Center feed."""

import zlib

SIZES = {
    "Clothing": ["S", "M", "L", "XL", "XS"],
    "Shoes": ["39", "41", "42", "38", "44"],
}


def gtin13(number):
    """A GTIN in the range that GS1 keeps for demonstrations (952), with its check digit."""
    digits = f"952{number:09d}"
    total = sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(digits))
    return digits + str(-total % 10)


def draw_lot(text, sides):
    """A number below `sides` that depends on nothing but the text."""
    return zlib.crc32(text.encode()) // 7 % sides


def price(amount, currency="EUR"):
    return f"{amount:.2f} {currency}"


def product(group, key, colour, pattern, images):
    """One feed line for one variant; what does not apply is left out."""
    top_level = group["type"].split(" > ")[0]
    availability, stock = stock_level(key)
    line = {
        "id": key,
        "title": f"{group['title']}, {colour}",
        "description": in_sentences(group["description"].replace("{colour}", colour)),
        "link": f"https://shop.example/p/{key.lower()}",
        "image_link": images[0],
    }
    if images[1:]:
        line["additional_image_link"] = images[1:]
    line["availability"] = availability
    line["price"] = price(group["price"])
    if draw_lot(key + "sale", 6) == 0:
        line["sale_price"] = price(round(group["price"] * 0.8) - 0.1)
    line["brand"] = group["brand"]
    if draw_lot(key + "gtin", 5) < 3:
        line["gtin"] = gtin13(draw_lot(key, 10**8))
    condition = "refurbished" if group.get("refurbished") else "new"
    line.update(product_type=group["type"], condition=condition, color=colour)
    if top_level in SIZES:
        line["size"] = SIZES[top_level][draw_lot(key + "size", 5)]
    elif "size" in group:
        line["size"] = group["size"]
    line.update(material=group["material"], pattern=pattern)
    if "gender" in group:
        line.update(gender=group["gender"], age_group=group.get("age_group", "adult"))
    line.update(item_group_id=group["id"], stock=stock, weight_kg=group["weight"], vegan=group["vegan"])
    return line


def in_sentences(text):
    """The text with a capital after every full stop."""
    return ". ".join(sentence[:1].upper() + sentence[1:] for sentence in text.split(". "))


def stock_level(key):
    lot = draw_lot(key + "stock", 12)
    if lot == 0:
        return "out_of_stock", 0
    if lot == 1:
        return "preorder", 0
    return "in_stock", 1 + draw_lot(key + "count", 60)
