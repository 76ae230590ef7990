#!/usr/bin/env python3
"""Trains the bundled model: pictures and titles in, a folder in the Hugging Face layout out.

    python train.py --shared ../../../../shared --work ../../../target/train-mini --out ..

Steps, each cached in `--work` where it is long: features of all pictures (minutes), the head (a minute), the graphs,
what they are worth (evaluate.py), and the pages that say so (card.py). With `--learn`, another shop's feed is learned
instead of the garments: a folder with `products.jsonl` (fields `title` and `image_link`) of at least 256 products.
"""

import argparse
import hashlib
import json
import os
import sys
import time

import numpy as np
import onnx

import card
import catalogues
import colour
import evaluate
import graph
import head
import pictures
import text
import trunks
import vision

CATALOGUES = ("clothing", "appliances", "outdoor", "department-store", "home")
VIEWS_RANDOM = 2
EVALUATED = 400


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", required=True, help="the folder with data/ and pretrained/")
    parser.add_argument("--work", required=True, help="where features and the f32 model go")
    parser.add_argument("--out", required=True, help="the model's folder")
    parser.add_argument("--learn", help="a shop's feed to learn instead of the garments; skips the evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


def read_labels(shared):
    with open(os.path.join(shared, "pretrained/mobilenet_v2/imagenet_labels.txt"), encoding="utf-8") as lines:
        return [line.strip() for line in lines][1:]


class Data:
    """All products, their features, and which of them are to be learned."""

    def __init__(self, options):
        feeds = [os.path.join(options.shared, "data", name) for name in CATALOGUES]
        if options.learn:
            feeds[0] = options.learn
        feeds = [catalogues.read(feed) for feed in feeds]
        if len(feeds[0]) < head.BATCH:
            raise SystemExit(f"{len(feeds[0])} products to learn from, at least {head.BATCH} are needed")
        self.products = [product for feed in feeds for product in feed]
        self.titles = np.array([product.title for product in self.products])
        self.catalogue = np.array([product.catalogue for product in self.products])
        self.learned = np.arange(len(self.products)) < len(feeds[0])
        self.evaluated = np.array([], int)
        if not options.learn:
            some = np.random.default_rng(options.seed).choice(np.flatnonzero(self.learned), EVALUATED, replace=False)
            self.evaluated = np.sort(np.concatenate([some, np.flatnonzero(~self.learned)]))
        self.features, self.cells, self.disturbed, self.disturbed_cells = self.extracted(options)

    def extracted(self, options):
        paths = [product.picture for product in self.products]
        source = "".join(open(module.__file__, encoding="utf-8").read() for module in (pictures, trunks))
        names = [(product.catalogue, os.path.basename(product.picture), os.path.getsize(product.picture))
                 for product in self.products]
        asked = f"{source}{names}{self.evaluated.tolist()}{VIEWS_RANDOM}{options.seed}"
        key = hashlib.sha256(asked.encode()).hexdigest()[:16]
        cache = os.path.join(options.work, f"features-{key}.npz")
        if not os.path.exists(cache):
            arrays = trunks.run(os.path.join(options.shared, "pretrained/mobilenet_v2"), paths, VIEWS_RANDOM,
                                set(self.evaluated.tolist()), options.seed, options.workers)
            np.savez(cache, *arrays)
        with np.load(cache) as arrays:
            return [arrays[name] for name in arrays.files]


CONFIG = {
    "architectures": ["DualEncoder"], "model_type": "mini-dual-encoder",
    "projection_dim": head.VISUAL + text.WIDTH + colour.WIDTH, "max_position_embeddings": text.TOKENS_MAX,
    "text_config": {"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "vocab_size": 30522,
                    "max_position_embeddings": 512, "pad_token_id": 0},
    "vision_config": {"model_type": "mobilenet_v2", "image_size": pictures.SIDE},
}
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True,
    "size": {"shortest_edge": pictures.SIDE}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": pictures.SIDE, "width": pictures.SIDE}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": pictures.MEAN.round(3).astype(str).astype(float).tolist(),
    "image_std": pictures.DEVIATION.round(3).astype(str).astype(float).tolist(),
}


def export(options, language, trained):
    """Writes the model's folder, and the f32 graphs into the work folder."""
    trunk_folder = os.path.join(options.shared, "pretrained/mobilenet_v2")
    small, large = os.path.join(options.out, "onnx"), os.path.join(options.work, "onnx")
    for folder in (small, large):
        os.makedirs(folder, exist_ok=True)
    onnx.save(vision.tower(trunk_folder, trained), os.path.join(large, "vision_model.onnx"))
    onnx.save(graph.shrink(vision.tower(trunk_folder, trained)), os.path.join(small, "vision_model_int8.onnx"))
    for folder, name, is_small in ((large, "text_model.onnx", False), (small, "text_model_int8.onnx", True)):
        model = text.tower(language.space, language.kernel, head.COLOUR_WORDS, head.VISUAL, is_small)
        onnx.save(model, os.path.join(folder, name))
    tokens = text.tokenizer()
    for folder in (options.out, options.work):
        for name, content in (("config.json", CONFIG), ("preprocessor_config.json", PREPROCESSOR)):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=1) + "\n")
        tokens.save(os.path.join(folder, "tokenizer.json"), pretty=False)


def main():
    options, start = arguments(), time.monotonic()
    os.makedirs(options.work, exist_ok=True)

    def say(what):
        print(f"{time.monotonic() - start:6.0f} s  {what}", flush=True)

    labels = read_labels(options.shared)
    language = head.Language(labels)
    say("texts are embedded")
    data = Data(options)
    say(f"{len(data.products)} products have features")
    trained = head.train(language, data.features, data.titles, data.learned, options.seed)
    say("the head is trained")
    export(options, language, trained)
    say(f"the model is in {options.out}")
    if options.learn:
        return
    measured = evaluate.everything(options, language, data, trained, say)
    with open(os.path.join(options.work, "measured.json"), "w", encoding="utf-8") as file:
        json.dump(measured, file, indent=1)
    card.write(options, measured)
    say("EVALUATION.md and README.md are written")


if __name__ == "__main__":
    sys.exit(main())
