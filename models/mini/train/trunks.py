"""The two frozen MobileNetV2 trunks: what is read off them, and the running of them over many pictures."""

import multiprocessing
import os

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from PIL import Image, ImageOps

import pictures

FILES = {"zoo": "zoo_trunk.onnx", "keras": "keras_trunk_logits.onnx"}
# Output: width. `e73` is an inner layer, `gmp` the maximum where `gap` is the mean.
OUTPUTS = {"zoo": {"e73": 576, "gap": 1280, "gmp": 1280}, "keras": {"kgap": 1280, "logits": 1001}}
# The zoo trunk sees the picture at 192×192: a quarter less work, for what the keras trunk sees at 224×224 anyway.
ZOO_SIDE = 192

SLICES = {}
for _outputs in OUTPUTS.values():
    for _name, _width in _outputs.items():
        _start = max((end for _, end in SLICES.values()), default=0)
        SLICES[_name] = (_start, _start + _width)
WIDTH = max(end for _, end in SLICES.values())
CELLS = 28


def load_trunk(folder, which):
    """The trunk as a graph with the outputs in `OUTPUTS`; its input is `[batch, 3, 224, 224]`."""
    model = onnx.load(os.path.join(folder, FILES[which]))
    graph = model.graph
    if which == "zoo":
        sizes = np.array([ZOO_SIDE, ZOO_SIDE], np.float32) / pictures.SIDE
        scales = onnx.numpy_helper.from_array(np.concatenate([[1, 1], sizes]).astype(np.float32), "scales")
        graph.initializer.append(scales)
        for node in graph.node:
            node.input[:] = ["shrunk" if name == "pixel_values" else name for name in node.input]
        shrink = helper.make_node("Resize", ["pixel_values", "", "scales"], ["shrunk"], mode="linear")
        nodes = [shrink, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
    del graph.output[:]
    for output, width in OUTPUTS[which].items():
        graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["batch", width]))
    return model


def session(model):
    """Runs a graph, given as its file's name or its bytes, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Trunks:
    """Both trunks on one thread: a picture in, its features and its colours out."""

    def __init__(self, folder):
        self.sessions = {which: session(load_trunk(folder, which).SerializeToString()) for which in FILES}

    def __call__(self, picture):
        """`([WIDTH] f16, [28, 28, 3] u8)`: all outputs side by side, and the mean colour of each 8×8 cell."""
        cropped = pictures.crop_to_input(picture)
        pixels = {"pixel_values": pictures.normalise(cropped)[None]}
        parts = []
        for which, outputs in OUTPUTS.items():
            parts += [part[0] for part in self.sessions[which].run(list(outputs), pixels)]
        cells = np.asarray(cropped, np.float32).reshape(CELLS, 8, CELLS, 8, 3).mean((1, 3))
        return np.concatenate(parts).astype(np.float16), cells.round().astype(np.uint8)


_trunks = None


def _start(folder):
    global _trunks
    _trunks = Trunks(folder)


def _views(job):
    """All views of one picture: as it is, mirrored, `random_count` disturbed, and the evaluation's if asked."""
    path, background_path, random_count, seed, evaluated = job
    picture, background = pictures.load(path), pictures.load(background_path)
    views = [picture, ImageOps.mirror(picture)]
    # Large pictures are shrunk before they are disturbed: 1024×1024 pixels cost more than the trunks do.
    picture = picture.copy()
    picture.thumbnail((512, 512), Image.Resampling.BICUBIC)
    rng = np.random.default_rng(seed)
    views += [pictures.disturb(picture, background, rng) for _ in range(random_count)]
    if evaluated:
        views += [disturbance(picture, background, rng) for disturbance in pictures.DISTURBANCES.values()]
    features, cells = zip(*(_trunks(view) for view in views))
    return np.stack(features), np.stack(cells)


def run(folder, paths, random_count, evaluated, seed, workers):
    """The views of all pictures.

    Answers `(features [n, 2 + random_count, WIDTH], cells of the first view [n, 28, 28, 3], disturbed features
    [k, d, WIDTH], their cells)`, the last two for the k pictures whose number is in `evaluated`.
    """
    backgrounds = np.random.default_rng(seed).permutation(len(paths))
    jobs = [(path, paths[background], random_count, seed + 1 + number, number in evaluated)
            for number, (path, background) in enumerate(zip(paths, backgrounds))]
    plain, cells, disturbed, disturbed_cells = [], [], [], []
    with multiprocessing.get_context("spawn").Pool(workers, _start, (folder,)) as pool:
        for number, (features, colours) in enumerate(pool.imap(_views, jobs, chunksize=8)):
            plain.append(features[:2 + random_count])
            cells.append(colours[0])
            if number in evaluated:
                disturbed.append(features[2 + random_count:])
                disturbed_cells.append(colours[2 + random_count:])
            if (number + 1) % 1000 == 0:
                print(f"features: {number + 1} of {len(paths)} pictures", flush=True)
    return np.array(plain), np.array(cells), np.array(disturbed), np.array(disturbed_cells)
