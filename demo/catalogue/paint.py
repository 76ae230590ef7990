"""Colours, printed patterns and the grain of materials."""

from dataclasses import dataclass, replace

import numpy as np


def rgb(hexadecimal):
    return np.array([int(hexadecimal[i:i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


@dataclass(frozen=True)
class Paint:
    """A base colour, with a pattern in a second colour and a material grain."""

    base: str
    pattern: str = "solid"
    second: str = "#f4efe6"
    grain: str = "none"

    def plain(self):
        return replace(self, pattern="solid")

    def shaded(self, factor):
        """The same material in a darker (below 1) or lighter plain colour."""
        tone = np.clip(rgb(self.base) * factor, 0, 1)
        return replace(self.plain(), base="#" + "".join(f"{round(float(v) * 255):02x}" for v in tone))

    def at(self, x, y, rng):
        """The colours at a grid of coordinates."""
        amount = PATTERNS[self.pattern](x, y)[..., None]
        colour = rgb(self.base) * (1 - amount) + rgb(self.second) * amount
        return colour * GRAINS[self.grain](x, y, rng)[..., None]


def edge(value, width=0.12):
    """A soft threshold at zero."""
    return np.clip(value / width + 0.5, 0, 1)


def scattered(x, y, pitch, radius):
    """Discs on a staggered grid."""
    row = np.floor(y / pitch)
    u = (x + (row % 2) * pitch / 2) % pitch - pitch / 2
    v = y % pitch - pitch / 2
    return edge(radius - np.hypot(u, v), 0.3)


def flowers(x, y):
    pitch = 9.0
    row = np.floor(y / pitch)
    u = (x + (row % 2) * pitch / 2) % pitch - pitch / 2
    v = y % pitch - pitch / 2
    angle, distance = np.arctan2(v, u), np.hypot(u, v)
    petals = edge(2.1 + 1.0 * np.cos(5 * angle) - distance, 0.3)
    return petals * (1 - edge(0.8 - distance, 0.3))


def leaves(x, y):
    pitch = 8.0
    row = np.floor(y / pitch)
    u = (x + (row % 2) * pitch / 2) % pitch - pitch / 2
    v = y % pitch - pitch / 2
    u, v = (u + v) * 0.707, (u - v) * 0.707 * np.where(row % 2, 1, -1)
    blade = edge(1.5 * (1 - (u / 3.6) ** 2) - np.abs(v), 0.3)
    return blade * (1 - edge(0.2 - np.abs(v), 0.2))


def check(x, y):
    return (edge(np.sin(x * 0.9), 0.2) + edge(np.sin(y * 0.9), 0.2)) / 2


PATTERNS = {
    "solid": lambda x, y: np.zeros_like(x),
    "striped": lambda x, y: edge(np.sin(y * 1.25) - 0.1, 0.3),
    "vertical stripes": lambda x, y: edge(np.sin(x * 1.25) - 0.3, 0.3),
    "banded": lambda x, y: edge(3.5 - np.abs(y - 58), 0.3),
    "checked": check,
    "dotted": lambda x, y: scattered(x, y, 5.0, 1.15),
    "floral": flowers,
    "leaf print": leaves,
    "zigzag": lambda x, y: edge(np.sin((y + np.abs(x % 8 - 4)) * 1.1), 0.3),
    "speckled": lambda x, y: edge(np.sin(x * 7.1 + 3 * np.sin(y * 2.3)) * np.sin(y * 6.3 + 2 * np.sin(x * 3.1)) - 0.72),
}


def wood(x, y, rng):
    rings = np.sin(y * 2.2 + 1.5 * np.sin(x * 0.16) + 0.6 * np.sin(x * 0.41 + y * 0.3))
    return 1 + 0.05 * rings + rng.normal(0, 0.004, x.shape)


def fabric(x, y, rng):
    return 1 + 0.03 * np.sin(x * 9) * np.sin(y * 9) + rng.normal(0, 0.006, x.shape)


GRAINS = {
    "none": lambda x, y, rng: np.ones_like(x),
    "wood": wood,
    "fabric": fabric,
    "leather": lambda x, y, rng: 1 + 0.025 * np.sin(x * 2.7 + 2 * np.sin(y * 1.9)) * np.sin(y * 3.1),
}

STEEL = Paint("#b9bec4")
BLACK = Paint("#2a2b2e")
RUBBER = Paint("#33322f")
WHITE = Paint("#f3f1ec")
BRASS = Paint("#b8913e")
OAK = Paint("#b98a55", grain="wood")
WALNUT = Paint("#6b452b", grain="wood")
