#!/usr/bin/env python3
"""Writes the tiny dual encoders of the tests, one folder for each case, beside this file. README.md lists them.

    pip install -r requirements.txt
    python make_models.py

All are `good` but for what their call in `main` says. The same bytes come out each time.

Vision: mean colour of pixel_values [batch,3,16,16], times fixed weights, plus a bias -> image_embeds [batch,8].
Text: mean of the embeddings of input_ids [batch,sequence] where attention_mask is 1 -> text_embeds [batch,8].
      Without a mask the mean is over all tokens, so padding changes it; a mask of the graph's `own` leaves padding out.
"""
import json
import pathlib
import shutil

import numpy as np
import onnx
from onnx import TensorProto as T, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
D, PIXELS, TOKENS = 8, 16, 16

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = SPECIAL + (
    "a an and in of with long short red blue green yellow black white brown leather wool oak "
    "sofa chair table lamp mug plate boot shoe shirt coat dress bag hat ring watch clock"
).split()


class Graph:
    """A graph under construction. Values go by their names; `kind` is the type of its floats."""

    def __init__(self, seed, kind):
        # The legacy generator: its stream is the same in every version of numpy.
        self.random = np.random.RandomState(seed)
        self.kind, self.nodes, self.constants, self.inputs, self.outputs = kind, [], [], [], []

    def input(self, name, kind, shape):
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, values, dtype=None):
        dtype = dtype or helper.tensor_dtype_to_np_dtype(self.kind)
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weights(self, *shape):
        """Sixteenths from -1 to 1, which are exact in f16 too."""
        return self.constant(np.round(self.random.uniform(-16, 16, shape)) / 16)

    def axes(self, *axes):
        return self.constant(axes, np.int64)

    def op(self, kind, *inputs, **attributes):
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def output(self, name, value, shape):
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, self.kind, shape))

    def bytes(self):
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def vision(kind=T.FLOAT, pixel_kind=None, batch="batch", pixels=PIXELS, finish=None,
           output="image_embeds", output_rank=2, hidden_state=False):
    """The picture tower. `finish(graph, vectors)` puts more nodes behind it."""
    g = Graph(1, kind)
    x = g.input("pixel_values", pixel_kind or kind, [batch, 3, pixels, pixels])
    if pixel_kind:
        x = g.op("Cast", x, to=kind)
    x = g.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = g.op("Add", g.op("MatMul", x, g.weights(3, D)), g.weights(D))
    if finish:
        x = finish(g, x)
    if hidden_state:
        g.output("last_hidden_state", g.op("Unsqueeze", x, g.axes(1)), [batch, 1, D])
    g.output(output, x, [batch, D, 1][:output_rank])
    return g.bytes()


def text(kind=T.FLOAT, id_kind=T.INT64, mask_kind=None, batch="batch", sequence="sequence", d=D, mask=True,
         token_types=False, finish=None, output="text_embeds", hidden_state=False):
    """The text tower. `finish(graph, vectors)` puts more nodes behind it."""
    g = Graph(2, kind)
    tokens = g.op("Gather", g.weights(len(WORDS), d), g.input("input_ids", id_kind, [batch, sequence]))
    if mask == "own":
        ids, padding = g.op("Cast", "input_ids", to=T.FLOAT), g.constant(0, np.float32)
        seen = g.op("Cast", g.op("Greater", ids, padding), to=kind)
        seen = g.op("Unsqueeze", seen, g.axes(2))
    elif mask:
        seen = g.op("Cast", g.input("attention_mask", mask_kind or id_kind, [batch, sequence]), to=kind)
        seen = g.op("Unsqueeze", seen, g.axes(2))
    if token_types:
        types = g.op("Gather", g.weights(2, d), g.input("token_type_ids", id_kind, [batch, sequence]))
        tokens = g.op("Add", tokens, types)
    if mask:
        total = g.op("ReduceSum", g.op("Mul", tokens, seen), g.axes(1), keepdims=0)
        x = g.op("Div", total, g.op("ReduceSum", seen, g.axes(1), keepdims=0))
    else:
        x = g.op("ReduceMean", tokens, axes=[1], keepdims=0)
    if finish:
        x = finish(g, x)
    if hidden_state:
        g.output("last_hidden_state", tokens, [batch, sequence, d])
    g.output(output, x, [batch, d])
    return g.bytes()


def tokenizer():
    """Whole words in lower case; all others are [UNK]. `[CLS] words [SEP]`, cut to TOKENS, not padded."""
    ids = {word: i for i, word in enumerate(WORDS)}
    mark = lambda token: {"SpecialToken": {"id": token, "type_id": 0}}
    words = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": TOKENS, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {"id": ids[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for token in SPECIAL
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [mark("[CLS]"), words("A"), mark("[SEP]")],
            "pair": [mark("[CLS]"), words("A"), mark("[SEP]"), words("B"), mark("[SEP]")],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "[UNK]"},
    }


def config(model_type):
    return {
        "model_type": model_type,
        "projection_dim": D,
        "text_config": {"max_position_embeddings": TOKENS, "pad_token_id": 0, "vocab_size": len(WORDS)},
        "vision_config": {"image_size": PIXELS},
    }


SQUARE = {"height": PIXELS, "width": PIXELS}
HALVES = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
          "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CLIP = {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": PIXELS},
        "resample": 3, "do_center_crop": True, "crop_size": SQUARE, **HALVES}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "do_resize": True, "size": SQUARE, "resample": 3, **HALVES}


def folder(name, vision_tower, text_tower, model_type="clip", preprocessor=CLIP, suffix=""):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    (path / "onnx").mkdir(parents=True)
    (path / "onnx" / f"vision_model{suffix}.onnx").write_bytes(vision_tower)
    (path / "onnx" / f"text_model{suffix}.onnx").write_bytes(text_tower)
    files = {"config": config(model_type), "preprocessor_config": preprocessor, "tokenizer": tokenizer()}
    for file, content in files.items():
        (path / f"{file}.json").write_bytes(json.dumps(content, indent=1).encode() + b"\n")


def normalise(g, x):
    return g.op("Div", x, g.op("ReduceL2", x, axes=[1], keepdims=1))


def times_nan(g, x):
    return g.op("Mul", x, g.constant(np.nan))


def plus_input(name, shape):
    return lambda g, x: g.op("Add", x, g.input(name, g.kind, shape))


def main():
    # Must load.
    folder("good", vision(), text())
    folder("half", vision(T.FLOAT16), text(T.FLOAT16), suffix="_fp16")
    folder("narrow_ids", vision(), text(id_kind=T.INT32))
    folder("mixed_ids", vision(), text(id_kind=T.INT32, mask_kind=T.INT64))
    folder("token_types", vision(), text(token_types=True))
    pooled = {"output": "pooler_output", "hidden_state": True}
    folder("siglip", vision(**pooled), text(mask=False, **pooled), model_type="siglip", preprocessor=SIGLIP)
    folder("one_by_one", vision(batch=1), text(batch=1))
    folder("normalised", vision(finish=normalise), text())
    folder("long_only", vision(), text(sequence=TOKENS))
    folder("pad_blind", vision(), text(mask="own"))

    # Must be refused.
    folder("widths_differ", vision(), text(d=4))
    folder("no_mask", vision(), text(mask=False), model_type="bert-dual")
    folder("wrong_picture_shape", vision(pixels=32), text())
    folder("wrong_rank", vision(finish=lambda g, x: g.op("Unsqueeze", x, g.axes(2)), output_rank=3), text())
    folder("two_inputs", vision(finish=plus_input("extra", ["batch", D])), text())
    folder("no_embeds", vision(output="logits"), text())
    folder("nan", vision(finish=times_nan), text())
    folder("unknown_text_input", vision(), text(finish=plus_input("position_bias", [D])))
    folder("short_text", vision(), text(sequence=4))
    folder("fixed_batch", vision(batch=4), text(batch=4))
    folder("fixed_batch_vision", vision(batch=4), text())
    folder("bytes_input", vision(pixel_kind=T.UINT8), text())


if __name__ == "__main__":
    main()
