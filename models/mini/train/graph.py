"""Writing ONNX graphs node by node, and making their weights small."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes and constants in the making."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], {}, 0

    def constant(self, value, kind=np.float32):
        value = np.ascontiguousarray(value, kind)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(value, f"c{len(self.constants)}")
        return self.constants[key].name

    def add(self, operator, *inputs, output=None, **attributes):
        """Adds a node; arrays among its inputs become constants. Answers its output's name."""
        inputs = [name if isinstance(name, str) else self.constant(name) for name in inputs]
        self.count += 1
        output = output or f"n{self.count}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def ints(self, *values):
        return self.constant(values, np.int64)

    def model(self, name, inputs, outputs):
        graph = helper.make_graph(self.nodes, name, inputs, outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="vitrine")


def gelu(graph, value):
    error = graph.add("Erf", graph.add("Mul", value, np.float32(0.5**0.5)))
    return graph.add("Mul", graph.add("Mul", value, graph.add("Add", error, np.float32(1))), np.float32(0.5))


# Constants smaller than this stay f32, as do those with a single output, such as the gate: they cost nothing.
SMALL_FROM = 1024
# Operator: the axis of its outputs in its weights, along which each has a scale of its own. (The one Gemm of the trunks
# has its weights transposed.)
OUTPUT_AXIS = {"Conv": 0, "Gemm": 0, "MatMul": 1}


def shrink(model):
    """Stores weights as signed int8 with a scale per output; the arithmetic stays f32.

    The runtime multiplies them out once, when it loads the file. Quantising the activations too would be ruin: the
    depthwise layers of a MobileNetV2 have channels of very different ranges.
    """
    graph = model.graph
    weights = {}
    for node in graph.node:
        if node.op_type in OUTPUT_AXIS:
            weights[node.input[1]] = OUTPUT_AXIS[node.op_type]
    unpacking, kept = [], []
    for constant in graph.initializer:
        value = numpy_helper.to_array(constant)
        is_small = value.size < SMALL_FROM or value.shape[weights.get(constant.name, 0)] == 1
        if constant.name not in weights or value.dtype != np.float32 or is_small:
            kept.append(constant)
            continue
        others = tuple(axis for axis in range(value.ndim) if axis != weights[constant.name])
        scale = np.maximum(np.abs(value).max(others, keepdims=True), 1e-9) / 127
        name = constant.name
        kept.append(numpy_helper.from_array(np.rint(value / scale).astype(np.int8), f"{name}_codes"))
        kept.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        unpacking.append(helper.make_node("Cast", [f"{name}_codes"], [f"{name}_f32"], to=TensorProto.FLOAT))
        unpacking.append(helper.make_node("Mul", [f"{name}_f32", f"{name}_scale"], [name]))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = unpacking + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model
