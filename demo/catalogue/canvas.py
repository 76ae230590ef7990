"""A drawing surface that lights every painted part as a solid."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LIGHT = np.array([-0.40, -0.55, 0.73], np.float32)
HALFWAY = np.array([-0.22, -0.30, 0.93], np.float32)


class Canvas:
    """A transparent square of 100 by 100 units, drawn larger than it is shown."""

    def __init__(self, pixels, rng):
        self.unit = pixels / 100
        self.rng = rng
        self.colour = np.zeros((pixels, pixels, 3), np.float32)
        self.alpha = np.zeros((pixels, pixels), np.float32)

    def fill(self, outline, paint, holes=(), **look):
        """Paints a closed outline; see `_lay` for the look."""
        mask, draw = self._mask()
        draw.polygon(self._scaled(outline), fill=255)
        for hole in holes:
            draw.polygon(self._scaled(hole), fill=0)
        self._lay(mask, paint, **look)

    def stroke(self, lines, width, paint, **look):
        """Paints one polyline, or a list of them, as round-ended rods."""
        lines = lines if isinstance(lines[0], list) else [lines]
        mask, draw = self._mask()
        radius = width * self.unit / 2
        for line in lines:
            points = self._scaled(line)
            draw.line(points, fill=255, width=max(1, round(2 * radius)), joint="curve")
            for x, y in (points[0], points[-1]):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        look.setdefault("depth", width / 3)
        self._lay(mask, paint, **look)

    def write(self, text, x, y, height, paint):
        mask, draw = self._mask()
        font = ImageFont.load_default(height * self.unit)
        draw.text((x * self.unit, y * self.unit), text, fill=255, font=font, anchor="mm")
        self._lay(mask, paint, form="flat", cast=0)

    def picture(self):
        """The drawing so far, as an image with transparency."""
        layers = np.dstack([self.colour, self.alpha])
        return Image.fromarray((np.clip(layers, 0, 1) * 255).round().astype(np.uint8), "RGBA")

    def _mask(self):
        mask = Image.new("L", self.alpha.shape[::-1])
        return mask, ImageDraw.Draw(mask)

    def _scaled(self, points):
        return [(x * self.unit, y * self.unit) for x, y in points]

    def _lay(self, mask, paint, form="puff", depth=2.5, gloss=0.0, opacity=1.0, cast=0.25):
        """Lights the masked part and lays it over what is already drawn.

        The form is "flat", "puff" (edges rounded over `depth` units) or "turned" (a body of revolution
        about a vertical axis); `gloss` adds a highlight and `cast` a shadow on the parts beneath.
        """
        bounds = mask.getbbox()
        if bounds is None:
            return
        side = self.alpha.shape[0]
        pad = int(3 * max(depth, 1) * self.unit)
        left, top = max(bounds[0] - pad, 0), max(bounds[1] - pad, 0)
        right, bottom = min(bounds[2] + pad, side), min(bounds[3] + pad, side)
        mask = mask.crop((left, top, right, bottom))
        window = (slice(top, bottom), slice(left, right))
        cover = np.asarray(mask, np.float32) / 255

        if cast:
            soft = blurred(cover, 1.3 * self.unit)
            shift = int(0.7 * self.unit)
            self.colour[window] *= 1 - cast * np.roll(soft, (shift, shift // 2), (0, 1))[..., None]

        y, x = np.mgrid[top:bottom, left:right].astype(np.float32) / self.unit
        if form == "turned":
            normal, across = turned_normal(cover)
            x = 50 + across * np.float32((bounds[2] - bounds[0]) / self.unit / 2)
        elif form == "puff":
            normal = puffed_normal(cover, depth * self.unit)
        else:
            normal = np.zeros((*cover.shape, 3), np.float32)
            normal[..., 2] = 1
        lit = 0.42 + 0.58 * np.clip(normal @ LIGHT, 0, None) / LIGHT[2]
        colour = paint.at(x, y, self.rng) * lit[..., None]
        if gloss:
            colour += gloss * (np.clip(normal @ HALFWAY, 0, 1) ** 40)[..., None] * (form != "flat")

        over = (cover * opacity)[..., None]
        under = self.alpha[window][..., None]
        total = over + under * (1 - over)
        mixed = np.clip(colour, 0, 1) * over + self.colour[window] * under * (1 - over)
        self.colour[window] = np.where(total > 0, mixed / np.maximum(total, 1e-6), 0)
        self.alpha[window] = total[..., 0]


def blurred(cover, radius):
    """A Gaussian blur as three box blurs, in floating point so that slopes have no steps."""
    reach = max(1, round(radius))
    for _ in ("across", "down"):
        cover = cover.T
        for _ in range(3):
            total = np.cumsum(np.pad(cover, ((reach + 1, reach), (0, 0))), axis=0)
            cover = (total[2 * reach + 1:] - total[:-2 * reach - 1]) / (2 * reach + 1)
    return cover


def puffed_normal(cover, radius):
    """Normals of the surface obtained by rounding the edges of a flat part."""
    height = blurred(cover, radius)
    slope_y, slope_x = np.gradient(height * radius * 1.9)
    normal = np.dstack([-slope_x, -slope_y, np.ones_like(height)])
    return normal / np.linalg.norm(normal, axis=2, keepdims=True)


def turned_normal(cover):
    """Normals of a body of revolution, and each pixel's angle around it."""
    solid = cover > 0.5
    rows = np.flatnonzero(solid.any(1))
    every_row = np.arange(cover.shape[0])
    first = np.interp(every_row, rows, solid[rows].argmax(1))
    last = np.interp(every_row, rows, cover.shape[1] - 1 - solid[rows, ::-1].argmax(1))
    centre, half = (first + last) / 2, np.maximum((last - first) / 2, 1)
    across = (np.arange(cover.shape[1]) - centre[:, None]) / half[:, None]
    across = np.clip(across, -0.99, 0.99).astype(np.float32)
    window = np.hanning(43) / np.hanning(43).sum()
    slope = np.gradient(np.convolve(np.pad(half, 21, mode="edge"), window, mode="valid"))
    tilt = np.clip(-slope, -1.2, 1.2).astype(np.float32)[:, None] * np.ones_like(across)
    normal = np.dstack([across, tilt, np.sqrt(1 - across**2)])
    return normal / np.linalg.norm(normal, axis=2, keepdims=True), np.arcsin(across)
