"""Colours of pictures and of words, in one space, without training.

A colour is a point in Oklab; `ANCHORS` are reference points there. A colour's code is how near it is to each anchor
(softmax of the squared distance). A picture's code is the mean over its 28×28 cells, of which those count that lie in
the middle and differ from the rim; a word's is the mean over the shades it stands for. Both are square-rooted and of
unit length, so that their dot product is the Bhattacharyya coefficient: the share of colour they have in common.

Source of Oklab and its matrices: Björn Ottosson, "A perceptual color space for image processing", 2020.
"""

import numpy as np

# Word: the shades it names in shops, sRGB. Metals are what their reflections look like. Only words that the text
# tower's vocabulary holds whole.
WORDS = {
    "black": "101010 1c1c1c", "white": "fafafa ececea", "grey": "606060 808080 a0a0a0",
    "gray": "606060 808080 a0a0a0", "silver": "8a8a8a a8a9ad c0c0c0", "stainless": "75767a 9a9a98 b8b8b8",
    "steel": "75767a a0a2a5", "chrome": "505358 8c8f94 d0d3d6", "charcoal": "333333 36454f", "slate": "5a6570 708090",
    "red": "b01010 d01c1f", "crimson": "a41024", "burgundy": "6b0f24", "maroon": "6b1020", "scarlet": "e0200f",
    "ruby": "9b1030", "orange": "e2631f f07a1a", "coral": "f98070", "peach": "f6c0a0", "rust": "a8451a",
    "copper": "b87040", "yellow": "f0c818 f5d91e", "gold": "b8923a d4a93a", "golden": "b8923a d4a93a",
    "mustard": "d2a02a", "brass": "b5973f", "green": "1f5f30 2f8f3a 4aa050", "olive": "55552a 6b6b2f",
    "lime": "a5d62f", "mint": "8fd0b0 a8dcc0", "emerald": "149060", "turquoise": "35c4b8 3aa8a8", "aqua": "50d0d8",
    "blue": "1f4a90 2458b8 4a86cc", "navy": "1b2548 202f5a", "indigo": "3a2a80", "azure": "4a90e0",
    "purple": "503070 6f2f90", "violet": "7f4fb8", "lavender": "b8a8dc", "plum": "6a2a55",
    "pink": "ee8aa0 f0a0b4 f4b8b0", "rose": "d88a90 e8a098", "brown": "4a3020 6a4428 8a5c38", "chocolate": "4a2c1c",
    "tan": "c8a478", "camel": "b88a54", "bronze": "8c6a3c", "beige": "d0c0a0 e0d2b8", "cream": "f4ecd4",
    "ivory": "f6f2e4",
}

RGB_TO_LMS = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
], np.float32)
LMS_TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
], np.float32)
# Hue and chroma tell products apart better than lightness, which the lamp changes too.
AXES = np.array([1, 2, 2], np.float32)

# How far from an anchor a colour still counts for it; how far from the rim's colour a cell must be to belong to the
# product; the width of the middle, in half sides; and what a cell like the rim still counts.
ANCHOR_WIDTH, RIM_WIDTH, MIDDLE_WIDTH, RIM_FLOOR = 0.1, 0.05, 0.8, 0.1


def oklab(srgb):
    """sRGB of 0 to 255, last axis 3, as Oklab with `AXES` applied."""
    value = np.asarray(srgb, np.float32) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return (np.cbrt(linear @ RGB_TO_LMS.T) @ LMS_TO_LAB.T * AXES).astype(np.float32)


def shades(word):
    return np.array([[int(shade[i:i + 2], 16) for i in (0, 2, 4)] for shade in WORDS[word].split()], np.float32)


GREYS = [0.15, 0.3, 0.45, 0.6, 0.75, 0.88, 0.98]
CHROMATIC = ("red orange yellow green mint turquoise blue navy purple pink brown beige olive rose burgundy lime "
             "lavender").split()
ANCHORS = np.array([[grey, 0, 0] for grey in GREYS] + [oklab(shades(word)).mean(0) for word in CHROMATIC], np.float32)
WIDTH = len(ANCHORS)


def nearness(lab):
    """The share of each anchor in a colour: `[..., 3]` → `[..., WIDTH]`, summing to 1."""
    score = -((lab[..., None, :] - ANCHORS) ** 2).sum(-1) / (2 * ANCHOR_WIDTH**2)
    score = np.exp(score - score.max(-1, keepdims=True))
    return score / score.sum(-1, keepdims=True)


def middle(cells):
    """How much each cell of a square counts for where it lies."""
    line = np.linspace(-1, 1, cells)
    return np.exp(-(line[:, None] ** 2 + line**2) / (2 * MIDDLE_WIDTH**2)).astype(np.float32)


def rim(cells):
    """1 where a cell lies on the edge of a square."""
    edge = np.ones((cells, cells), np.float32)
    edge[1:-1, 1:-1] = 0
    return edge


def of_pictures(cells):
    """Codes of pictures given as mean colours of their cells, `[n, c, c, 3]` of 0 to 255 → `[n, WIDTH]`."""
    count = cells.shape[1]
    lab, edge = oklab(cells), rim(count)
    background = (lab * edge[..., None]).sum((1, 2), keepdims=True) / edge.sum()
    apart = 1 - np.exp(-((lab - background) ** 2).sum(-1) / (2 * RIM_WIDTH**2))
    weight = (apart + RIM_FLOOR) * middle(count)
    share = (nearness(lab) * weight[..., None]).sum((1, 2)) / weight.sum((1, 2))[:, None]
    return np.sqrt(share).astype(np.float32)


def of_words(tokens):
    """The code of the colour words among `tokens`, or zeros where there are none."""
    named = [nearness(oklab(shades(token))).mean(0) for token in tokens if token in WORDS]
    return np.sqrt(np.mean(named, 0)).astype(np.float32) if named else np.zeros(WIDTH, np.float32)
