#!/usr/bin/env python3
"""Writes pictures/ and preprocess/: hostile pictures, and what the reference pipeline makes of them.

Reference: the slow (Pillow) image processors of Hugging Face transformers. Stored is the uint8 RGB picture after
resize and crop, before rescale and normalise; the script checks that the processor's full output is
(picture * rescale_factor - mean) / std.

The processors leave open how a file becomes RGB. Vitrine's policy, applied here before the processor:
  1. decode the first frame (an animated PNG's default image);
  2. apply the EXIF orientation;
  3. 16-bit samples become 8-bit by round(v / 257);
  4. alpha of any kind (RGBA, grey+alpha, tRNS, WebP, GIF index) is composed on white, on 8-bit values:
     round((c * a + 255 * (255 - a)) / 255);
  5. grey and palette are expanded to RGB; CMYK becomes RGB as Pillow's convert("RGB") does:
     (255 - k) - round((255 - k) * c / 255). No gamma, no ICC profile.
"""
import argparse
import io
import json
import pathlib
import shutil
import warnings

import numpy as np
from PIL import Image, ImageOps
from transformers import CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor

from hostile_pictures import pictures

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
SCALE = {"do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True}


def clip_config(shortest_edge, crop):
    return {
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": shortest_edge}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": crop, "width": crop}, **SCALE, **IMAGENET,
    }


CONFIGS = {
    "clip": clip_config(224, 224),
    "clip_small": clip_config(72, 64),
    "clip_pad": clip_config(48, 64),
    "siglip": {
        "image_processor_type": "SiglipImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 3, **SCALE, **HALF,
    },
    "vit": {
        "image_processor_type": "ViTImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"height": 96, "width": 96}, "resample": 2, "do_center_crop": False, **SCALE, **HALF,
    },
}

EVERYDAY = [
    "dot_1x1", "tiny_5x7", "exact_224x224", "fraction_57x49", "zone_plate_640x480", "noise_230x250",
    "exif_6", "png_rgba_soft", "png16_rgb", "jpeg_420", "webp_lossless_alpha", "gif_transparent",
]
# `clip` is made of every picture; the others of these.
CHOSEN = {
    "clip_small": EVERYDAY + ["wide_1000x3", "near_223x225", "edges_9x9"],
    "clip_pad": EVERYDAY + ["wide_1000x3", "tall_1x800", "near_224x227", "portrait_90x163"],
    "siglip": EVERYDAY + ["wide_1000x3", "tall_3x1000", "near_225x224"],
    "vit": EVERYDAY + ["wide_1000x3", "tall_3x1000", "edges_9x9", "checker_1023x769_cell5"],
}

PROCESSORS = {kind.__name__: kind for kind in (CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor)}


def to_rgb(picture):
    """The policy above, steps 1 to 5."""
    decoded = Image.open(io.BytesIO(picture.data))
    if picture.samples is not None:
        check_file(decoded, picture)
    if picture.samples is not None and picture.samples.dtype == np.uint16:
        # Pillow drops the low byte of 16-bit colour, so the samples that were encoded are rounded instead.
        image = Image.fromarray(((picture.samples.astype(np.int64) + 128) // 257).astype(np.uint8))
    else:
        image = ImageOps.exif_transpose(decoded)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = np.asarray(image.convert("RGBA")).astype(np.int64)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return Image.fromarray(((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))


def check_file(decoded, picture):
    """Fails unless Pillow finds in a file encoded by hand what was put in, less what Pillow drops."""
    samples = picture.samples
    if decoded.mode != "I;16":
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[1 if samples.ndim == 2 else samples.shape[2]]
        samples = samples >> 8 if samples.dtype == np.uint16 else samples
        decoded = decoded.convert(mode)
    assert np.array_equal(np.asarray(decoded), samples), picture.name


def resized_and_cropped(image, config):
    """The uint8 picture [height, width, 3] that the processor would rescale and normalise, checked against its floats."""
    processor = PROCESSORS[config["image_processor_type"]].from_dict(config)
    # Said outright: a processor takes a picture of 1 or 3 rows for one with channels first.
    layout = {"input_data_format": "channels_last"}
    pixels = processor(image, do_rescale=False, do_normalize=False, **layout)["pixel_values"][0]
    assert pixels.dtype == np.uint8, pixels.dtype

    floats = processor(image, **layout)["pixel_values"][0]
    mean, std = (np.array(config[key])[:, None, None] for key in ("image_mean", "image_std"))
    expected = (pixels * config["rescale_factor"] - mean) / std
    assert floats.dtype == np.float32 and np.abs(floats - expected).max() < 2e-6
    return pixels.transpose(1, 2, 0)


def write_json(path, document):
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent, help="default: beside this script")
    out = parser.parse_args().out
    warnings.simplefilter("error", DeprecationWarning)

    for folder in (out / "pictures", out / "preprocess"):
        shutil.rmtree(folder, ignore_errors=True)
    (out / "pictures").mkdir(parents=True)
    for name, config in CONFIGS.items():
        (out / "preprocess" / name).mkdir(parents=True)
        write_json(out / "preprocess" / name / "preprocessor_config.json", config)

    drawn = pictures()
    assert len({picture.stem for picture in drawn}) == len(drawn), "references are named by stem"
    manifest = []
    for picture in drawn:
        (out / "pictures" / picture.name).write_bytes(picture.data)
        image = to_rgb(picture)
        configs = [name for name in CONFIGS if name == "clip" or picture.stem in CHOSEN[name]]
        for name in configs:
            reference = Image.fromarray(resized_and_cropped(image, CONFIGS[name]))
            reference.save(out / "preprocess" / name / f"{picture.stem}.png", optimize=True)
        manifest.append({"picture": f"pictures/{picture.name}", "configs": configs, "note": picture.note})
    write_json(out / "preprocess" / "manifest.json", manifest)


if __name__ == "__main__":
    main()
