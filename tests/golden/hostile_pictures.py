"""Draws the hostile pictures: odd shapes, odd sample formats, odd files. All content is drawn here, from integers."""
import io
from dataclasses import dataclass
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw

import encoders
from encoders import GREY, GREY_ALPHA, RGB, RGBA, exif_orientation, png


@dataclass
class Picture:
    """One file. `samples` are set when the file is encoded by hand: what a right decoder finds in it."""

    name: str
    data: bytes
    note: str
    samples: Optional[np.ndarray] = None

    @property
    def stem(self):
        return self.name.rsplit(".", 1)[0]


def scene(width, height):
    """A smooth RGB picture that no rotation or mirror image leaves as it was."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    across = x * 255 // max(width - 1, 1) + 0 * y
    down = y * 255 // max(height - 1, 1) + 0 * x
    image = Image.fromarray(np.stack([across, down, 255 - across // 2], -1).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.rectangle([width // 8, height // 8, width // 3, height // 3], fill=(250, 240, 20))
    pen.rectangle([width * 5 // 8, height // 2, width * 3 // 4, height * 7 // 8], fill=(10, 20, 160))
    return image


def texture(width, height):
    """RGB whose neighbours differ: what a wrong resampling weight shows in."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    return Image.fromarray(np.stack([x * 37 + y * 11 + 120, (x * 5 ^ y * 29) + 90, x * y * 3 + 200], -1).astype(np.uint8))


def noise(width, height):
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def zone_plate(width, height, scale):
    """Black and white rings that become finer away from the centre: every frequency, and so every alias."""
    x, y = np.arange(width)[None, :] - width // 2, np.arange(height)[:, None] - height // 2
    return Image.fromarray(((x * x + y * y) // scale % 2).astype(bool))


def checkerboard(width, height, cell):
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    return Image.fromarray(((x // cell + y // cell) % 2).astype(bool))


def soft_alpha(width, height):
    """Opaque in the middle, clear at the corners."""
    x, y = np.arange(width)[None, :] * 2 - width + 1, np.arange(height)[:, None] * 2 - height + 1
    far = x * x * 255 // (width * width) + y * y * 255 // (height * height)
    return Image.fromarray(np.clip(300 - far * 3 // 2, 0, 255).astype(np.uint8))


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(alpha)
    return image


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(image, **options):
    return encoded(image, "JPEG", **{"quality": 85, **options})


def pictures():
    """Every hostile picture, in a fixed order."""
    return [*_shapes(), *_textures(), *_orientations(), *_pngs(), *_deep_pngs(), *_jpegs(), *_webps(), *_gifs(), *_bmps()]


def _shapes():
    textured = {
        "wide_1000x3": (1000, 3, "3 rows read as 3 channels by a processor that guesses; resized to 74666x224"),
        "tall_3x1000": (3, 1000, "resized to 224x74666"),
        "wide_880x1": (880, 1, "one row; resized to 197120x224"),
        "tall_1x800": (1, 800, "one column; resized to 224x179200"),
        "wide_1500x2": (1500, 2, "two rows; resized to 168000x224"),
        "dot_1x1": (1, 1, "one pixel"),
        "dot_2x2": (2, 2, "four pixels: the kernel is wider than the picture"),
        "dot_3x3": (3, 3, "shape [3, 3, 3]: channels first or last is ambiguous"),
    }
    smooth = {
        "row_7x1": (7, 1, "one short row"),
        "column_1x7": (1, 7, "one short column"),
        "tiny_5x7": (5, 7, "enlarged 45 times; long edge 313.6 truncates to 313"),
        "exact_224x224": (224, 224, "already the target size: the resize must be the identity"),
        "near_223x225": (223, 225, "long edge 226.01 truncates to 226; one axis grows by one, both are resampled"),
        "near_225x224": (225, 224, "no resize, odd surplus: the crop drops the right column"),
        "near_224x227": (224, 227, "no resize, odd surplus: crop offset 1.5 rounds down"),
        "half_448x448": (448, 448, "exactly one half"),
        "fraction_57x49": (57, 49, "long edge 260.57 truncates to 260, not rounded to 261"),
        "portrait_90x163": (90, 163, "long edge 405.69 truncates to 405, odd crop surplus"),
    }
    for draw, sizes in ((texture, textured), (scene, smooth)):
        for stem, (width, height, note) in sizes.items():
            yield Picture(f"{stem}.png", encoded(draw(width, height), "PNG", optimize=True), note)


def _textures():
    def lossless(stem, image, note):
        return Picture(f"{stem}.png", encoded(image, "PNG", optimize=True), note)

    yield lossless("zone_plate_640x480", zone_plate(640, 480, 97), "1-bit rings: aliasing of every frequency; long edge 298.67")
    yield lossless("checker_1024x768", checkerboard(1024, 768, 1), "1-pixel checkerboard: must become even grey")
    yield lossless("checker_226x226", checkerboard(226, 226, 1), "1-pixel checkerboard shrunk by 1%: beats")
    yield lossless("checker_1023x769_cell5", checkerboard(1023, 769, 5), "5-pixel cells shrunk by 3.4")
    yield lossless("edges_9x9", checkerboard(9, 9, 1), "black-white edges enlarged: bicubic overshoot must clip to 0 and 255")
    yield lossless("texture_96x72", texture(96, 72), "wrapping ramps: steep edges in each channel apart")
    yield lossless("texture_400x300", texture(400, 300), "wrapping ramps, shrunk")
    yield lossless("noise_24x20", noise(24, 20), "noise enlarged")
    yield lossless("noise_230x250", noise(230, 250), "noise shrunk by 2.7%: rounding between the two passes shows")
    yield lossless("scene_1024x768", scene(1024, 768), "large smooth ramps: rounding of every level")
    yield lossless("black_30x20", Image.new("RGB", (30, 20)), "all zero")
    yield lossless("white_20x30", Image.new("RGB", (20, 30), (255, 255, 255)), "all 255: weights must sum to one")


def _orientations():
    upright = scene(48, 32)
    for value in range(1, 9):
        order = "<" if value % 2 else ">"
        data = jpeg(upright, quality=92, subsampling="4:4:4", exif=exif_orientation(value, order))
        yield Picture(f"exif_{value}.jpg", data, f"EXIF orientation {value}, {'little' if order == '<' else 'big'}-endian")
    data = jpeg(upright, quality=92, subsampling="4:4:4", exif=exif_orientation(9))
    yield Picture("exif_9_invalid.jpg", data, "EXIF orientation 9 does not exist and is ignored")
    yield Picture("webp_exif_6.webp", encoded(upright, "WEBP", lossless=True, exif=exif_orientation(6)), "EXIF orientation 6 in a WebP chunk")
    yield Picture("png_exif_8.png", encoded(upright, "PNG", exif=exif_orientation(8)), "EXIF orientation 8 in a PNG eXIf chunk")


def _pngs():
    colour = scene(60, 45)
    grey = colour.convert("L")
    alpha = soft_alpha(60, 45)
    palette = colour.quantize(200, dither=Image.Dither.NONE)
    two_greys = checkerboard(50, 40, 8).convert("L").point(lambda v: 180 if v else 60)

    def file(stem, image, note, **options):
        return Picture(f"{stem}.png", encoded(image, "PNG", **options), note)

    yield file("png_grey8", grey, "grey is expanded to RGB")
    yield file("png_rgba_soft", with_alpha(colour, alpha), "soft alpha is composed on white before the resize")
    yield file("png_rgba_clear_garbage", with_alpha(texture(60, 45), 0), "fully transparent over garbage colours: all white")
    yield file("png_rgba_hard_garbage", with_alpha(texture(60, 45), checkerboard(60, 45, 9).convert("L")), "alpha 0 or 255; garbage under 0")
    yield file("png_la", with_alpha(grey, alpha), "grey with alpha")
    yield file("png_palette8", palette, "8-bit palette")
    yield file("png_palette_trns", palette, "palette with a tRNS alpha for each entry", transparency=bytes(range(0, 200, 2)))
    yield file("png_palette4", colour.quantize(13, dither=Image.Dither.NONE), "4-bit palette, width not a whole number of bytes", bits=4)
    yield file("png_palette2", scene(61, 45).quantize(4, dither=Image.Dither.NONE), "2-bit palette, width not a whole number of bytes", bits=2)
    yield file("png_1bit", zone_plate(61, 45, 60), "1-bit grey, width not a whole number of bytes")
    yield file("png_rgb_trns_key", colour, "RGB with a tRNS colour key: that colour is transparent", transparency=(250, 240, 20))
    yield file("png_grey_trns_key", two_greys, "grey with a tRNS key: level 60 is transparent", transparency=60)

    samples = np.asarray(grey)
    yield Picture("png_grey2.png", png(samples >> 6, 2, GREY), "2-bit grey: levels 0, 85, 170, 255", (samples >> 6) * 85)
    yield Picture("png_grey4.png", png(samples >> 4, 4, GREY), "4-bit grey: levels are multiples of 17", (samples >> 4) * 17)
    odd = np.asarray(scene(61, 43))
    yield Picture("png_adam7_rgb.png", png(odd, 8, RGB, adam7=True), "Adam7 interlace", odd)
    small = np.asarray(scene(3, 5))
    yield Picture("png_adam7_3x5.png", png(small, 8, RGB, adam7=True), "Adam7 with empty passes", small)
    bits = np.asarray(zone_plate(61, 43, 60)).astype(np.uint8)
    yield Picture("png_adam7_1bit.png", png(bits, 1, GREY, adam7=True), "Adam7 of 1-bit samples", bits * 255)
    gamma = [(b"gAMA", (100000).to_bytes(4, "big"))]
    yield Picture("png_gamma.png", png(odd, 8, RGB, chunks=gamma), "gAMA 1.0: no decoder may apply it", odd)

    frames = [scene(60, 45), texture(60, 45)]
    yield file("apng", frames[0], "animated PNG: the first frame", save_all=True, append_images=frames[1:], duration=100)
    yield file(
        "apng_default_image", frames[0], "animated PNG whose default image is no frame of the animation: the default image",
        save_all=True, append_images=[frames[1], texture(60, 45).rotate(180)], default_image=True, duration=100,
    )


def _deep_pngs():
    x, y = np.arange(60)[None, :], np.arange(45)[:, None]
    across, down = (x * 65535 // 59 + 0 * y), (y * 65535 // 44 + 0 * x)
    diagonal = (across + down) // 2
    alpha = np.asarray(soft_alpha(60, 45)).astype(np.uint16) * 257 ^ 0x55
    files = {
        "png16_grey": (diagonal, GREY, False, "16-bit grey: round(v / 257), not v >> 8"),
        "png16_grey_alpha": (np.stack([diagonal, alpha], -1), GREY_ALPHA, False, "16-bit grey with alpha; both to 8 bits, then composed"),
        "png16_rgb": (np.stack([across, down, 65535 - diagonal], -1), RGB, False, "16-bit RGB: round(v / 257), not v >> 8"),
        "png16_rgba": (np.stack([across, down, 65535 - diagonal, alpha], -1), RGBA, False, "16-bit RGBA; all to 8 bits, then composed"),
        "png16_rgb_adam7": (np.stack([down, across, diagonal], -1), RGB, True, "16-bit RGB, Adam7"),
        "png16_rgb_rounding": (
            np.stack([(x * 257 + 120 + y).clip(0, 65535), (x * 900 + 128 + 0 * y), (y * 1285 + 129 + 0 * x)], -1), RGB, False,
            "16-bit levels on both sides of a half: round(v / 257) and v >> 8 differ",
        ),
    }
    for stem, (samples, colour_type, adam7, note) in files.items():
        samples = samples.astype(np.uint16)
        yield Picture(f"{stem}.png", png(samples, 16, colour_type, adam7), note, samples)


def _jpegs():
    colour = scene(64, 48)
    cmyk = Image.merge("CMYK", (*colour.split(), colour.convert("L").point(lambda v: v // 3)))
    files = {
        "jpeg_grey": (colour.convert("L"), {}, "one component"),
        "jpeg_progressive": (colour, {"progressive": True}, "progressive"),
        "jpeg_444": (colour, {"subsampling": "4:4:4"}, "no chroma subsampling"),
        "jpeg_422": (colour, {"subsampling": "4:2:2"}, "chroma halved across: upsampling differs between decoders"),
        "jpeg_420": (colour, {"subsampling": "4:2:0"}, "chroma halved both ways: upsampling differs between decoders"),
        "jpeg_q20": (colour, {"quality": 20}, "quality 20"),
        "jpeg_q95": (colour, {"quality": 95}, "quality 95"),
        "jpeg_restart": (colour, {"restart_marker_blocks": 3}, "a restart marker each 3 blocks"),
        "jpeg_odd_33x47": (scene(33, 47), {"subsampling": "4:2:0"}, "odd size: the last chroma sample covers one pixel"),
        "jpeg_odd_progressive": (scene(51, 35), {"subsampling": "4:2:0", "progressive": True}, "odd size, progressive, 4:2:0"),
        "jpeg_1x1": (scene(1, 1), {"subsampling": "4:2:0"}, "one pixel in a 16x16 block"),
        "jpeg_rgb": (colour, {"keep_rgb": True}, "components are R, G, B: no colour transform"),
        "jpeg_320x240": (scene(320, 240), {"quality": 90}, "an ordinary photo size, shrunk"),
        "jpeg_noise": (noise(48, 48), {"quality": 60, "subsampling": "4:2:0"}, "noise in 4:2:0: the largest decoder differences"),
        "jpeg_cmyk": (cmyk, {}, "Adobe CMYK: inks are stored inverted"),
    }
    for stem, (image, options, note) in files.items():
        yield Picture(f"{stem}.jpg", jpeg(image, **options), note)
    yield Picture("jpeg_ycck.jpg", encoders.ycck_jpeg(cmyk, jpeg), "Adobe YCCK: inks are stored inverted, as luma and chroma")
    yield Picture("jpeg_cmyk_no_adobe.jpg", encoders.without_adobe_segment(jpeg(cmyk)), "CMYK without an Adobe segment: Pillow inverts it all the same")
    yield Picture("jpeg_trailing_bytes.jpg", jpeg(colour) + b"\0trailing\xff\xd8\xff" * 5, "bytes after the end of the picture are ignored")


def _webps():
    colour, alpha = scene(60, 45), soft_alpha(60, 45)
    files = {
        "webp_lossy": (colour, {"quality": 80}, "lossy"),
        "webp_lossy_odd": (scene(33, 47), {"quality": 60}, "lossy, odd size"),
        "webp_lossless": (colour, {"lossless": True}, "lossless"),
        "webp_lossy_alpha": (with_alpha(colour, alpha), {"quality": 80}, "lossy with soft alpha"),
        "webp_lossless_alpha": (with_alpha(texture(60, 45), alpha), {"lossless": True, "exact": True}, "lossless with alpha, garbage kept under it"),
        "webp_animated": (colour, {"lossless": True, "save_all": True, "append_images": [texture(60, 45)], "duration": 100}, "animated: the first frame"),
    }
    for stem, (image, options, note) in files.items():
        yield Picture(f"{stem}.webp", encoded(image, "WEBP", **options), note)


def _gifs():
    colour = scene(60, 45).quantize(60, dither=Image.Dither.NONE)
    second = texture(60, 45).quantize(60, dither=Image.Dither.NONE)
    shape = checkerboard(60, 45, 10).convert("L").point(lambda v: v // 255).convert("P")
    shape.putpalette([255, 255, 255, 20, 90, 200])
    covered = shape.copy()
    covered.putpalette([200, 30, 60, 20, 90, 200])

    def file(stem, image, note, **options):
        return Picture(f"{stem}.gif", encoded(image, "GIF", **{"interlace": 0, **options}), note)

    yield file("gif_plain", colour, "palette")
    yield file("gif_interlaced", colour, "interlaced rows", interlace=1)
    yield file("gif_animated", colour, "animated: the first frame", save_all=True, append_images=[second], duration=100)
    yield file("gif_transparent", covered, "one transparent index: white", transparency=0)
    small = encoders.gif_on_canvas(encoded(covered.crop((0, 0, 40, 30)), "GIF", interlace=0, transparency=0), (60, 45), (13, 7))
    yield Picture("gif_small_first_frame_transparent.gif", small, "first frame smaller than the canvas, with a transparent index: white outside")
    small = encoders.gif_on_canvas(encoded(shape.crop((0, 0, 40, 30)), "GIF", interlace=0), (60, 45), (13, 7))
    yield Picture(
        "gif_small_first_frame.gif", small,
        "first frame smaller than the canvas, no transparent index: Pillow shows index 0 outside, others nothing; both are white here",
    )


def _bmps():
    colour = scene(61, 45)
    rgba = np.asarray(with_alpha(texture(61, 45), soft_alpha(61, 45)))
    coarse = colour.quantize(16, dither=Image.Dither.NONE)
    yield Picture("bmp_24bit.bmp", encoded(colour, "BMP"), "24-bit, rows padded to 4 bytes")
    yield Picture("bmp_palette8.bmp", encoded(colour.quantize(200, dither=Image.Dither.NONE), "BMP"), "8-bit palette")
    yield Picture("bmp_grey8.bmp", encoded(colour.convert("L"), "BMP"), "8-bit palette that is a grey ramp")
    yield Picture("bmp_1bit.bmp", encoded(zone_plate(61, 45, 60), "BMP"), "1-bit")
    yield Picture("bmp_32bit.bmp", encoders.bmp(rgba, 40), "32-bit without masks: the fourth byte is no alpha and is ignored", rgba[..., :3])
    yield Picture("bmp_32bit_top_down.bmp", encoders.bmp(rgba, 40, top_down=True), "negative height: rows from the top", rgba[..., :3])
    yield Picture("bmp_32bit_alpha.bmp", encoders.bmp(rgba, 108, bitfields=True), "V4 header with an alpha mask: alpha is composed on white", rgba)
    palette = np.reshape(coarse.getpalette()[:48], (-1, 3))
    indices = np.asarray(coarse)
    yield Picture("bmp_rle8.bmp", encoders.bmp_rle8(indices, palette.tolist()), "8-bit run-length coded", palette[indices])
