"""The pictures and texts that every candidate gets: made from the demo, the same bytes on every machine."""

import json
from pathlib import Path

import numpy
from PIL import Image, ImageOps

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "demo"

# Name, width, height, how many. A thumbnail, a shop's product picture, a phone's photo.
SIZES = [("400x533", 400, 533, 8), ("1024x1024", 1024, 1024, 8), ("12-megapixel", 4000, 3000, 4)]
JPEG_QUALITY = 88
# Drawings compress too well. With noise of two pixels' grain and this deviation (of 255 levels) the files have the size
# of real photos: about 50 kB, 200 kB and 2 MB.
NOISE = 5.0
NOISE_SEED = 20

TEXTS = 40
# Fewest and most words of a workload's texts.
TEXT_WORDS = {"text": (3, 12), "text, 5 words": (5, 5)}


def make(folder):
    """Writes the pictures into a folder. Answers with the inputs of each workload, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    workloads = {}
    for name, width, height, count in SIZES:
        sources = sorted((DEMO / "queries").glob("*.jpg"))[:count]
        targets = [folder / f"{name}-{source.name}" for source in sources]
        for seed, (source, target) in enumerate(zip(sources, targets, strict=True), NOISE_SEED):
            photograph(source, width, height, seed).save(target, "JPEG", quality=JPEG_QUALITY)
        workloads[name] = [{"photo": str(target)} for target in targets]
    for name, (words_min, words_max) in TEXT_WORDS.items():
        workloads[name] = [{"text": text} for text in texts(words_min, words_max)]
    return workloads


def photograph(source, width, height, seed):
    """A demo picture at the given size, with the noise of a sensor."""
    with Image.open(source) as picture:
        fitted = ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.BICUBIC)
    grain = numpy.random.default_rng(seed).standard_normal((height // 2, width // 2), dtype=numpy.float32) * NOISE
    noise = numpy.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC))
    levels = numpy.asarray(fitted, dtype=numpy.float32) + noise[:, :, None]
    return Image.fromarray(levels.clip(0, 255).round().astype(numpy.uint8))


def texts(words_min, words_max):
    """Texts of so many words, all lengths equally often, from the demo's titles."""
    products = (DEMO / "products.jsonl").read_text(encoding="utf-8").splitlines()
    words = " ".join(json.loads(line)["title"].replace(",", "") for line in products).split()
    made = []
    for number in range(TEXTS):
        length = words_min + number % (words_max - words_min + 1)
        made.append(" ".join(words[:length]))
        words = words[length:]
    return made
