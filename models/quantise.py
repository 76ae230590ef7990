#!/usr/bin/env python3
"""Writes the 8-bit weight files of a model's folder, and says what they cost in exactness and save in time.

    make quantise MODEL=path/to/folder

Matrices become signed int8 with a scale for each output, activations unsigned int8 with a scale for each batch as they
come (dynamic quantisation): a vector depends a little on the inputs beside it. Everything else stays f32. Both files are
compared with the f32 ones on the demo's pictures and titles, or on `--pictures`; one whose worst cosine is below
`--cosine-min` is not kept, because it would change answers. The server and the loader run them by themselves.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image, ImageOps
from tokenizers import Tokenizer

DEMO = pathlib.Path(__file__).resolve().parent.parent / "demo"
RESAMPLE = {name: Image.Resampling(number) for number, name in enumerate(
    ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"))}
COMPARED = 64
TOKENS_MAX = 77


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="a folder in the Hugging Face ONNX layout, with f32 files")
    parser.add_argument("--pictures", type=pathlib.Path, default=DEMO, help="folder of pictures to compare on")
    parser.add_argument("--cosine-min", type=float, default=0.999, help="worst cosine to f32 that is accepted")
    return parser.parse_args()


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def pictures(folder, preprocessor):
    """Inputs of the picture tower, as `preprocessor_config.json` says."""
    config = json.loads(preprocessor.read_text())
    size, crop = config["size"], config.get("crop_size", config["size"])
    edge = size.get("shortest_edge") or size["height"]
    high = crop["height"] if isinstance(crop, dict) else crop
    filter_ = list(RESAMPLE.values())[config.get("resample", 3)]
    mean, deviation = (np.array(config[key], np.float32) for key in ("image_mean", "image_std"))
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not files:
        sys.exit(f"--pictures {folder}: has no pictures")
    for path in files[::max(1, len(files) // COMPARED)]:
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        scale = edge / min(picture.size)
        picture = picture.resize([max(high, round(side * scale)) for side in picture.size], filter_)
        picture = ImageOps.fit(picture, (high, high), filter_)
        yield {"pixel_values": ((np.asarray(picture, np.float32) / 255 - mean) / deviation).transpose(2, 0, 1)[None]}


def texts(tokenizer, wanted):
    """Inputs of the text tower: the demo's titles."""
    tokens = Tokenizer.from_file(str(tokenizer))
    tokens.enable_truncation(TOKENS_MAX)
    with open(DEMO / "products.jsonl", encoding="utf-8") as lines:
        titles = sorted({json.loads(line)["title"] for line in lines})
    for title in titles[::max(1, len(titles) // COMPARED)]:
        encoded = tokens.encode(title)
        inputs = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask}
        yield {name: np.array([inputs[name]], np.int64) for name in inputs if name in wanted}


def embedded(tower, inputs):
    """Unit vectors `[n, dimensions]`, and the processor time of each in ms."""
    started = time.process_time()
    vectors = np.concatenate([tower.run(None, one)[0] for one in inputs])
    spent = (time.process_time() - started) / len(inputs) * 1000
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), spent


def main():
    options = arguments()
    onnx = options.folder / "onnx"
    failed = False
    for kind in ("vision", "text"):
        exact, small = onnx / f"{kind}_model.onnx", onnx / f"{kind}_model_int8.onnx"
        if not exact.is_file():
            sys.exit(f"{exact} is missing: the 8-bit file is made from it")
        if small.exists():
            sys.exit(f"{small} is there already; move it away to make another")
        quantize_dynamic(exact, small, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
        towers = session(exact), session(small)
        if kind == "vision":
            inputs = list(pictures(options.pictures, options.folder / "preprocessor_config.json"))
        else:
            wanted = [one.name for one in towers[0].get_inputs()]
            inputs = list(texts(options.folder / "tokenizer.json", wanted))
        for tower in towers:
            tower.run(None, inputs[0])
        (large_vectors, large_ms), (small_vectors, small_ms) = (embedded(tower, inputs) for tower in towers)
        cosines = (large_vectors * small_vectors).sum(1)
        print(f"{small.name}: {small.stat().st_size / 1e6:.1f} MB for {exact.stat().st_size / 1e6:.1f}, "
              f"{small_ms:.1f} ms for {large_ms:.1f}, cosine to f32 {cosines.mean():.5f}, at worst {cosines.min():.5f}, "
              f"on {len(cosines)} inputs")
        if cosines.min() < options.cosine_min:
            small.unlink()
            print(f"{small.name}: removed, {cosines.min():.5f} is below --cosine-min {options.cosine_min}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
