"""The picture tower: both trunks, the trained head and the colours, as one ONNX graph."""

import numpy as np
from onnx import TensorProto, helper

import colour
import head
import pictures
import trunks
from graph import Graph, gelu

CELL = pictures.SIDE // trunks.CELLS


def trunk(graph, folder, which):
    """Adds a trunk, its names prefixed. Answers the names of its outputs."""
    model = trunks.load_trunk(folder, which).graph
    names = {"pixel_values": "pixel_values", "": ""}
    for constant in model.initializer:
        names[constant.name] = f"{which}_{constant.name}"
        constant.name = names[constant.name]
        graph.constants[constant.name] = constant
    for node in model.node:
        for output in node.output:
            names[output] = f"{which}_{output}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.name = ""
        graph.nodes.append(node)
    return {output: names[output] for output in trunks.OUTPUTS[which]}


def unit(graph, value):
    return graph.add("LpNormalization", value, axis=-1, p=2)


def linear(graph, value, weight, bias):
    return graph.add("Add", graph.add("MatMul", value, weight), bias)


def alike(graph, scores, lookalikes):
    """Adds `scores @ lookalikes`, of which all but a dozen in each column are zeros."""
    count = (lookalikes != 0).sum(0).max()
    rows = np.argsort(-lookalikes, axis=0, kind="stable")[:count].T
    weights = np.take_along_axis(lookalikes.T, rows, 1)
    chosen = graph.add("Gather", scores, graph.constant(rows, np.int32), axis=1)
    return graph.add("ReduceSum", graph.add("Mul", chosen, weights), graph.ints(2), keepdims=0)


def translated(graph, scores, known):
    """Adds `head.Known` of the classifier's scores."""
    add = graph.add
    over_classes = add("Softmax", add("Mul", scores, np.float32(1 / head.TEMPERATURE)), axis=-1)
    over_kinds = add("Mul", alike(graph, scores, known.lookalikes), np.float32(1 / head.KIND_TEMPERATURE))
    over_kinds = add("Softmax", add("Add", over_kinds, known.kind_bias), axis=-1)
    return unit(graph, add("Add", unit(graph, add("MatMul", over_classes, known.classes)),
                           unit(graph, add("MatMul", over_kinds, known.kinds))))


def colours(graph):
    """Adds `colour.of_pictures` of the input."""
    add, cells = graph.add, trunks.CELLS
    pixels = add("AveragePool", "pixel_values", kernel_shape=[CELL, CELL], strides=[CELL, CELL])
    rows = add("Reshape", add("Transpose", pixels, perm=[0, 2, 3, 1]), graph.ints(0, cells * cells, 3))
    value = add("Add", add("Mul", rows, pictures.DEVIATION), pictures.MEAN)
    value = add("Clip", value, np.float32(0), np.float32(1))
    bright = add("Pow", add("Mul", add("Add", value, np.float32(0.055)), np.float32(1 / 1.055)), np.float32(2.4))
    dark = add("Mul", value, np.float32(1 / 12.92))
    linear_light = add("Where", add("Greater", value, np.float32(0.04045)), bright, dark)
    lms = add("Pow", add("MatMul", linear_light, colour.RGB_TO_LMS.T), np.float32(1 / 3))
    lab = add("MatMul", lms, colour.LMS_TO_LAB.T * colour.AXES)

    edge, middle = colour.rim(cells).ravel(), colour.middle(cells).ravel()
    background = add("MatMul", (edge / edge.sum())[None], lab)
    away = square(graph, add("Sub", lab, background))
    apart = add("Sub", np.float32(1 + colour.RIM_FLOOR),
                add("Exp", add("Mul", away, np.float32(-1 / (2 * colour.RIM_WIDTH**2)))))
    weight = add("Mul", apart, middle[None, :, None])
    # Softmax of −|x − a|²/2w²: |x|² is the same for every anchor, so only 2xa − |a|² is left of it.
    scale = 1 / (2 * colour.ANCHOR_WIDTH**2)
    nearness = linear(graph, lab, 2 * scale * colour.ANCHORS.T, -scale * (colour.ANCHORS**2).sum(1))
    nearness = add("Softmax", nearness, axis=-1)
    share = add("ReduceSum", add("Mul", nearness, weight), graph.ints(1), keepdims=0)
    return add("Sqrt", add("Div", share, add("ReduceSum", weight, graph.ints(1), keepdims=0)))


def square(graph, value):
    return graph.add("ReduceSum", graph.add("Mul", value, value), graph.ints(2), keepdims=1)


def tower(folder, trained):
    """The whole picture tower, f32.

    `image_embeds` is `[batch, head.VISUAL + 384 + colour.WIDTH]`, of unit length: looks, meaning, colour; see head.py.
    """
    graph = Graph()
    add = graph.add
    outputs = trunk(graph, folder, "zoo") | trunk(graph, folder, "keras")
    parts = [unit(graph, outputs[part]) for part in head.PARTS]
    joined = add("Concat", *parts, axis=1)
    looks = unit(graph, linear(graph, parts[head.PARTS.index("kgap")], trained.visual, trained.visual_bias))

    scores = add("Slice", outputs["logits"], graph.ints(1), graph.ints(1001), graph.ints(1))
    known = translated(graph, scores, trained.known)
    gate = add("Sigmoid", linear(graph, joined, trained.gate[:, None], np.float32([trained.gate_bias])))
    hidden = gelu(graph, linear(graph, joined, trained.hidden, trained.hidden_bias))
    learned = add("Mul", linear(graph, hidden, trained.output, trained.output_bias), gate)
    meaning = unit(graph, add("Add", known, learned))
    sure = add("Add", add("Mul", gate, np.float32(1 - head.UNSURE)), np.float32(head.UNSURE))
    meaning = add("Mul", meaning, sure)

    shares = [np.float32(share**0.5) for share in head.SHARES]
    weighed = [add("Mul", part, share) for part, share in zip((looks, meaning, colours(graph)), shares)]
    add("LpNormalization", add("Concat", *weighed, axis=1), axis=-1, p=2, output="image_embeds")
    width = head.VISUAL + trained.output.shape[1] + colour.WIDTH
    return graph.model(
        "mini-vision",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, pictures.SIDE, pictures.SIDE])],
        [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", width])])
