"""Backgrounds, poses and light: from a cut-out drawing to a photo."""

import math

import numpy as np
from PIL import Image, ImageFilter

STUDIOS = {
    "white": ((255, 255, 255), (255, 255, 255)),
    "grey": ((240, 240, 241), (226, 226, 228)),
    "warm": ((246, 242, 236), (231, 223, 212)),
    "cool": ((238, 242, 246), (214, 221, 228)),
}


def turn(cutout, yaw=0.0, pitch=0.0, roll=0.0, mirrored=False):
    """The cut-out as seen when its plane is turned by the given degrees, trimmed to what is visible."""
    if mirrored:
        cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if yaw or pitch or roll:
        width, height = cutout.size
        reach = max(width, height) * 3
        a, b, c = (math.radians(v) for v in (yaw, pitch, roll))
        corners = []
        for x, y in ((0, 0), (width, 0), (width, height), (0, height)):
            x, y, z = x - width / 2, y - height / 2, 0.0
            x, y = x * math.cos(c) - y * math.sin(c), x * math.sin(c) + y * math.cos(c)
            x, z = x * math.cos(a), x * math.sin(a)
            y, z = y * math.cos(b) - z * math.sin(b), y * math.sin(b) + z * math.cos(b)
            corners.append((x * reach / (reach + z), y * reach / (reach + z)))
        left, top = min(x for x, _ in corners), min(y for _, y in corners)
        right, bottom = max(x for x, _ in corners), max(y for _, y in corners)
        seen = [(x - left, y - top) for x, y in corners]
        size = (math.ceil(right - left), math.ceil(bottom - top))
        source = [(0, 0), (width, 0), (width, height), (0, height)]
        cutout = cutout.transform(size, Image.Transform.PERSPECTIVE, homography(seen, source), Image.Resampling.BICUBIC)
    return cutout.crop(cutout.getchannel("A").getbbox())


def homography(seen, source):
    rows, values = [], []
    for (x, y), (u, v) in zip(seen, source):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows, float), np.array(values, float)).tolist()


def place(background, cutout, centre, fit, stands, shadow=0.45):
    """Lays the cut-out on the background with the shadow of a standing or of a flat-lying object."""
    ratio = min(fit[0] / cutout.width, fit[1] / cutout.height)
    cutout = cutout.resize((max(1, round(cutout.width * ratio)), max(1, round(cutout.height * ratio))),
                           Image.Resampling.LANCZOS)
    left, top = round(centre[0] - cutout.width / 2), round(centre[1] - cutout.height / 2)
    soft = max(cutout.size) / 45
    dark = Image.new("L", background.size)
    alpha = cutout.getchannel("A").point(lambda v: round(v * shadow))
    if stands:
        depth = max(4, round(cutout.height * 0.09))
        dark.paste(alpha.resize((cutout.width, depth), Image.Resampling.BOX),
                   (left, top + cutout.height - depth * 2 // 3))
    else:
        dark.paste(alpha, (left + round(soft * 0.7), top + round(soft)))
    dark = dark.filter(ImageFilter.GaussianBlur(soft))
    background.paste((38, 34, 32), mask=dark)
    background.paste(cutout, (left, top), cutout)


def gradient(size, top, bottom):
    """A studio backdrop."""
    width, height = size
    y = np.linspace(0, 1, height)[:, None, None]
    colours = np.array(top, float) * (1 - y) + np.array(bottom, float) * y
    return Image.fromarray(np.broadcast_to(colours, (height, width, 3)).round().astype(np.uint8), "RGB")


def studio_photo(cutout, backdrop, stands, zoom=1.0, scale=1.0):
    """A shop picture: the format follows the object, a close-up shows its middle."""
    aspect = cutout.width / cutout.height
    size = (560, 420) if aspect > 1.3 else (400, 530) if aspect < 0.77 else (460, 460)
    size = tuple(round(side * scale) for side in size)
    photo = gradient(size, *STUDIOS[backdrop])
    fit = (size[0] * 0.84 * zoom, size[1] * 0.84 * zoom)
    place(photo, cutout, (size[0] / 2, size[1] / 2), fit, stands and zoom == 1.0)
    return photo


def tiles(size, tile, colours, joint, rng, stagger=True):
    """Bricks or floorboards: tiles of slightly different tone with dark joints."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    row = y // tile[1]
    x = x + (row % 2) * (tile[0] // 2) if stagger else x + (row * 97) % tile[0]
    column = x // tile[0]
    tone = rng.uniform(0.86, 1.1, (row.max() + 1, column.max() + 1))[row, column]
    image = np.array(colours, float) * tone[..., None] * (1 + rng.normal(0, 0.02, (height, width, 1)))
    grooves = (x % tile[0] < 2) | (y % tile[1] < 2)
    image[grooves] = joint
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8), "RGB")


def mottled(size, colour, strength, grain, rng):
    """Plaster, lawn or cloth: noise smoothed to the given grain."""
    noise = rng.normal(0, 1, (max(2, size[1] // grain), max(2, size[0] // grain), 3)).astype(np.float32)
    noise = noise.mean(2, keepdims=True) * 1.2 + noise * 0.2
    spread = np.dstack([np.asarray(Image.fromarray(noise[...,
                                                         k]).resize(size, Image.Resampling.BICUBIC)) for k in range(3)])
    return Image.fromarray(np.clip(np.array(colour) * (1 + strength * spread), 0, 255).astype(np.uint8), "RGB")


def room(size, far, near, horizon, skirting=False):
    """A far surface above a near one, cut at the horizon."""
    image = far.copy()
    y = round(size[1] * horizon)
    image.paste(near.crop((0, 0, size[0], size[1] - y)), (0, y))
    if skirting:
        image.paste((225, 220, 211), (0, y - 14, size[0], y))
        image.paste((120, 112, 102), (0, y - 2, size[0], y))
    return image


def backdrop(name, size, rng):
    """One of the places where the query photos are taken."""
    planks = tiles(size, (190, 34), (158, 112, 72), (84, 56, 36), rng, stagger=False)
    if name == "living room":
        return room(size, mottled(size, (196, 190, 176), 0.03, 9, rng), planks, 0.66, skirting=True)
    if name == "brick wall":
        return room(size, tiles(size, (58, 22), (158, 92, 72), (188, 178, 168), rng),
                    mottled(size, (132, 128, 122), 0.06, 3, rng), 0.74)
    if name == "lawn":
        return room(size, mottled(size, (166, 190, 206), 0.03, 40, rng),
                    mottled(size, (92, 128, 58), 0.24, 3, rng), 0.42)
    if name == "wooden floor":
        return planks
    if name == "plaster":
        return mottled(size, (176, 186, 178), 0.045, 5, rng)
    if name == "bedspread":
        return mottled(size, (150, 158, 178), 0.07, 14, rng)
    return room(size, mottled(size, (112, 124, 122), 0.05, 30, rng), planks, 0.58)


def snapshot(photo, rng, brightness=1.0, cast=(1.0, 1.0, 1.0), blur=0.0, noise=4.0):
    """The light and the flaws of a photo taken by hand."""
    pixels = np.asarray(photo.filter(ImageFilter.GaussianBlur(blur)), np.float32)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    vignette = 1 - 0.22 * ((x + 0.35) ** 2 + (y + 0.25) ** 2)[..., None] / 2
    pixels = pixels * vignette * brightness * np.array(cast) + rng.normal(0, noise, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
