"""Writes the picture files that Pillow cannot: 16-bit and interlaced PNG, YCCK JPEG, odd BMP and GIF."""
import struct
import zlib

import numpy as np
from PIL import Image

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # PNG colour types

# x start, y start, x step, y step of each pass. Source: PNG specification, "Interlace methods".
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, depth, colour_type, adam7=False, chunks=()):
    """One PNG file of `samples`, shape [height, width] or [height, width, channels], every row unfiltered.

    `chunks` are (type, body) pairs written between IHDR and IDAT.
    """
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(adam7))
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if adam7 else [samples]
    rows = b"".join(b"\0" + _packed(row, depth) for part in passes if part.size for row in part)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in body)


def _png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _packed(row, depth):
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def exif_orientation(value, byte_order="<"):
    """An EXIF block (with its `Exif` prefix) that holds one tag, Orientation; `byte_order` is `<` or `>`."""
    mark = b"II" if byte_order == "<" else b"MM"
    entry = struct.pack(byte_order + "HHIHH", 0x0112, 3, 1, value, 0)
    tiff = mark + struct.pack(byte_order + "HIH", 42, 8, 1) + entry + bytes(4)
    return b"Exif\0\0" + tiff


def bmp(rgba, header_size, top_down=False, bitfields=False):
    """A 32-bit BMP of `rgba`; `bitfields` declares the masks, the alpha one included (needs a V4 or V5 header)."""
    height, width = rgba.shape[:2]
    pixels = np.ascontiguousarray((rgba if top_down else rgba[::-1])[..., [2, 1, 0, 3]]).tobytes()
    head = struct.pack(
        "<IiiHHIIiiII", header_size, width, -height if top_down else height, 1, 32,
        3 if bitfields else 0, len(pixels), 2835, 2835, 0, 0,
    )
    if bitfields:
        head += struct.pack("<IIII4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    head = head.ljust(header_size, b"\0")
    start = 14 + len(head)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + head + pixels


def bmp_rle8(indices, palette):
    """An 8-bit run-length coded BMP; `palette` holds one (r, g, b) for each index."""
    height, width = indices.shape
    data = b""
    for row in indices[::-1]:
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1), width]
        runs = [(a, min(b, a + 255)) for start, b in zip(edges, edges[1:]) for a in range(start, b, 255)]
        data += b"".join(bytes([b - a, row[a]]) for a, b in runs) + b"\0\0"
    data += b"\0\1"
    table = b"".join(bytes([b, g, r, 0]) for r, g, b in palette)
    start = 14 + 40 + len(table)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 2835, 2835, len(palette), 0)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + head + table + data


def gif_on_canvas(gif, canvas, offset):
    """`gif` with its logical screen enlarged to `canvas` and its first frame moved to `offset`, both (x, y)."""
    data = bytearray(gif)
    data[6:10] = struct.pack("<HH", *canvas)
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while data[at] == 0x21:  # extensions
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    data[at + 1 : at + 5] = struct.pack("<HH", *offset)
    return bytes(data)


def ycck_jpeg(cmyk, encode):
    """A YCCK JPEG. `encode` writes a CMYK Pillow image as an Adobe CMYK JPEG.

    Pillow writes CMYK only, so the luma and chroma of the inks go in as if they were inks, and the colour
    transform of the Adobe segment is then declared to be 2 (YCCK).
    """
    cyan, magenta, yellow, black = cmyk.split()
    inks = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr")
    inverted = [band.point(lambda v: 255 - v) for band in inks.split()]  # Pillow inverts while it writes
    data = bytearray(encode(Image.merge("CMYK", (*inverted, black))))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def without_adobe_segment(jpeg):
    """`jpeg` without its APP14 segment."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]
