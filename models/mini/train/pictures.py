"""Pictures as the model sees them: opened, prepared, and disturbed.

`prepare` is the reference preprocessing that `preprocessor_config.json` names: shortest edge to 224 with Pillow's
bicubic filter, centre crop, ImageNet mean and deviation.
"""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

SIDE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def load(path):
    """An RGB picture, upright; what is see-through lies on white."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def crop_to_input(picture):
    """Shortest edge to 224, then the centre 224×224."""
    width, height = picture.size
    short = min(width, height)
    size = (SIDE, height * SIDE // width) if width == short else (width * SIDE // height, SIDE)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return picture.crop((left, top, left + SIDE, top + SIDE))


def normalise(picture):
    """A 224×224 picture as `[3, 224, 224]` f32."""
    pixels = np.asarray(picture, np.float32) / 255
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1)


def prepare(picture):
    return normalise(crop_to_input(picture))


def crop(picture, kept, rng):
    """A random part that keeps `kept` of each side."""
    width, height = picture.size
    w, h = round(width * kept), round(height * kept)
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    return picture.crop((left, top, left + w, top + h))


def edge_colour(picture):
    """The mean colour of the outermost pixels."""
    pixels = np.asarray(picture.resize((32, 32), Image.Resampling.BOX), np.float32)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return tuple(int(value) for value in rim.mean(0))


def rotate(picture, degrees):
    return picture.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=edge_colour(picture))


def jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def brightness(picture, factor):
    return ImageEnhance.Brightness(picture).enhance(factor)


def cast(picture, gains):
    """Multiplies the channels, as another lamp would."""
    pixels = np.asarray(picture, np.float32) * np.asarray(gains, np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def blur(picture, share):
    """Gaussian blur whose radius is a share of the short side."""
    return picture.filter(ImageFilter.GaussianBlur(share * min(picture.size)))


def paste(picture, share, background, rng):
    """The whole picture, `share` as wide and high, somewhere on another picture."""
    size = picture.size
    canvas = ImageOps.fit(background, size)
    small = picture.resize((round(size[0] * share), round(size[1] * share)), Image.Resampling.BICUBIC)
    left, top = int(rng.integers(0, size[0] - small.width + 1)), int(rng.integers(0, size[1] - small.height + 1))
    canvas.paste(small, (left, top))
    return canvas


# What the evaluation does to a picture before it asks for it. Each is `(picture, background, rng) -> picture`.
DISTURBANCES = {
    "crop to 75 % of each side": lambda p, b, rng: crop(p, 0.75, rng),
    "rotate +15°": lambda p, b, rng: rotate(p, 15),
    "rotate −15°": lambda p, b, rng: rotate(p, -15),
    "JPEG quality 30": lambda p, b, rng: jpeg(p, 30),
    "brightness × 0.6": lambda p, b, rng: brightness(p, 0.6),
    "brightness × 1.4": lambda p, b, rng: brightness(p, 1.4),
    "warm cast": lambda p, b, rng: cast(p, (1.15, 1.0, 0.8)),
    "cold cast": lambda p, b, rng: cast(p, (0.8, 1.0, 1.15)),
    "blur, 1 % of the side": lambda p, b, rng: blur(p, 0.01),
    "pasted at 70 % on another picture": lambda p, b, rng: paste(p, 0.7, b, rng),
}


def disturb(picture, background, rng):
    """A random disturbance for training: some of everything, mirrored half of the time."""
    if rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    if rng.random() < 0.3:
        picture = paste(picture, rng.uniform(0.6, 0.9), background, rng)
    if rng.random() < 0.5:
        picture = rotate(picture, rng.uniform(-20, 20))
    if rng.random() < 0.6:
        picture = crop(picture, rng.uniform(0.65, 0.95), rng)
    if rng.random() < 0.5:
        picture = brightness(picture, rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        picture = cast(picture, rng.uniform(0.78, 1.18, 3))
    if rng.random() < 0.3:
        picture = blur(picture, rng.uniform(0.002, 0.015))
    if rng.random() < 0.3:
        picture = jpeg(picture, int(rng.integers(20, 70)))
    return picture
