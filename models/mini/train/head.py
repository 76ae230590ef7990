"""The trained part of the picture tower, and how it is trained.

A picture's embedding has three parts. *Looks*: the keras trunk's features, reduced. *Meaning*, in the text space: what
the ImageNet classifier says, translated (`known`), plus what a small network learned from titles (`learned`), which a
gate lets in only for pictures like those it learned from. *Colour*: see colour.py.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

import text
import trunks

# What the network sees, and how wide each part of it is. Each is of unit length before they are joined.
PARTS = ("gap", "gmp", "kgap", "e73")
VISUAL = 384
REDUCED = 1024
HIDDEN = 448

# ConSE's softmax over 1,000 classes, and the one over the kinds of the vocabulary.
TEMPERATURE, KIND_TEMPERATURE = 2.0, 1.2
# A kind's second look-alike class counts half of its first, the third half of that.
LOOKALIKE_DECAY = 0.5
# What an ImageNet class, most of which no shop sells, counts beside a kind of product in the text space.
CLASS_WEIGHT = 0.3

# Of a picture the gate knows: looks, meaning, colour. Of one it does not know, meaning is scaled by `UNSURE`, so that
# looks lead; scaled further, words find fewer titles in a shop that sells garments, too. A named colour weighs
# `COLOUR_WORDS` times the rest of a text.
SHARES = (0.42, 0.57, 0.01)
UNSURE = 0.4
COLOUR_WORDS = 1.6

# The gate: how steep, and how much more than even odds it asks for before it opens.
GATE_STEEPNESS, GATE_OFFSET = 20.0, 0.3
GATE_RIDGE = 0.2

EPOCHS, BATCH, RATE, DECAY, DROPOUT = 24, 256, 1e-3, 1e-2, 0.5
LABEL_TEMPERATURE, SMOOTHING, STAY_CLOSE = 0.3, 0.05, 0.1
# Rare labels are shown more often, frequent ones less: (300 / count) to this power.
BALANCE = 0.4


def vocabulary(labels, decay):
    """Kinds of product: each one's name and typical titles, and a matrix `[1000, kinds]` of their look-alike classes.

    A line is `name | classes; classes | title; title; …`. Each list of classes is another writer's, best first; a class
    counts `decay` times the one before it.
    """
    numbers = {label.split(",")[0]: number for number, label in enumerate(labels)}
    kinds, columns = [], []
    with open(os.path.join(os.path.dirname(__file__), "vocabulary.txt"), encoding="utf-8") as lines:
        for line in lines:
            name, writers, titles = line.strip().split(" | ")
            column = np.zeros(len(labels), np.float32)
            for classes in writers.split("; "):
                for rank, label in enumerate(classes.split(", ")):
                    column[numbers[label]] += decay**rank
            kinds.append([name, *titles.split("; ")])
            columns.append(column)
    return kinds, text.unit(np.array(columns)).T.astype(np.float32)


class Language:
    """The text space, and the texts that training needs in it."""

    def __init__(self, labels):
        self.encode = text.encoder()
        bare = [label.split(",")[0].lower() for label in labels]
        self.space = text.Space(self.in_template(labels).mean(0), self.in_template(bare), self.encode(bare))
        self.labels = labels
        kinds, self.lookalikes = vocabulary(labels, LOOKALIKE_DECAY)
        self.plain_kinds = self.space(np.array([self.in_template(texts).mean(0) for texts in kinds]))
        self.plain_classes = self.plain(labels)
        self.near(text.NEAR)

    def near(self, near):
        """Makes the kernel."""
        plain = self.plain_kinds, self.plain_classes
        weights = [np.full(len(vectors), weight) for vectors, weight in zip(plain, (1, CLASS_WEIGHT))]
        self.kernel = text.Kernel(np.concatenate(plain), np.concatenate(weights), near)
        self.kinds, self.classes = map(self.kernel, plain)

    def in_template(self, texts):
        return self.encode([text.TEMPLATE.format(words.lower()) for words in texts])

    def __call__(self, texts):
        return self.kernel(self.plain(texts))

    def plain(self, texts):
        """In the sentence encoder's own space."""
        return self.space(self.in_template(texts))


@dataclasses.dataclass
class Known:
    """What the ImageNet classifier says, in the text space: over its classes (ConSE) and over the vocabulary."""

    classes: np.ndarray  # [1000, 384]
    lookalikes: np.ndarray  # [1000, kinds]
    kind_bias: np.ndarray
    kinds: np.ndarray  # [kinds, 384]

    @classmethod
    def of(cls, language, shops):
        """`shops` are features of pictures from shops: what the classifier sees in all of them counts for no kind."""
        bias = -(logits(shops).mean(0) @ language.lookalikes) / KIND_TEMPERATURE
        return cls(language.classes, language.lookalikes, bias, language.kinds)

    def __call__(self, scores):
        over_kinds = softmax((scores @ self.lookalikes) / KIND_TEMPERATURE + self.kind_bias) @ self.kinds
        return text.unit(text.unit(softmax(scores / TEMPERATURE) @ self.classes) + text.unit(over_kinds))


@dataclasses.dataclass
class Head:
    """Everything that training makes; each field is a constant of the graph."""

    visual: np.ndarray  # [1280, VISUAL]
    visual_bias: np.ndarray
    known: Known
    hidden: np.ndarray = None  # [sum of PARTS, HIDDEN]
    hidden_bias: np.ndarray = None
    output: np.ndarray = None  # [HIDDEN, 384]
    output_bias: np.ndarray = None
    gate: np.ndarray = None  # [sum of PARTS]
    gate_bias: float = None

    def embed(self, features, colours):
        """What the graph computes, for evaluation: `[n, trunks.WIDTH]` → `[n, VISUAL + 384 + colour.WIDTH]`."""
        joined, looks = join(features), part(features, "kgap") @ self.visual + self.visual_bias
        gate = sigmoid(joined @ self.gate + self.gate_bias)[:, None]
        hidden = gelu(joined @ self.hidden + self.hidden_bias)
        learned = hidden @ self.output + self.output_bias
        meaning = text.unit(self.known(logits(features)) + gate * learned)
        scales = [np.float32(share**0.5) for share in SHARES]
        meaning = meaning * (UNSURE + (1 - UNSURE) * gate)
        return text.unit(np.hstack([text.unit(looks) * scales[0], meaning * scales[1], colours * scales[2]]))


def part(features, name):
    return text.unit(features[..., slice(*trunks.SLICES[name])].astype(np.float32))


def join(features):
    return np.concatenate([part(features, name) for name in PARTS], -1)


def logits(features):
    """Without the background class."""
    return features[..., slice(*trunks.SLICES["logits"])][..., 1:].astype(np.float32)


def softmax(scores):
    exponents = np.exp(scores - scores.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def gelu(value):
    return np.asarray(jax.nn.gelu(value, approximate=False))


def reduce(values, width, seed=0):
    """Principal components by randomised SVD (Halko et al., 2011): `(mean, [d, width])`."""
    mean = values.mean(0)
    centred, rng = values - mean, np.random.default_rng(seed)
    sample = centred.T @ (centred @ rng.standard_normal((values.shape[1], width + 64)).astype(np.float32))
    for _ in range(2):
        sample = centred.T @ (centred @ np.linalg.qr(sample)[0])
    basis = np.linalg.qr(sample)[0]
    rotation = np.linalg.svd(centred @ basis, full_matrices=False)[2]
    return mean, (basis @ rotation[:width].T).astype(np.float32)


def train(language, features, titles, learned, seed):
    """Trains a head.

    `features` is `[n, views, trunks.WIDTH]`, the first view undisturbed. Where `learned`, the picture's title is
    learned; the other pictures show the gate what is not to be learned, and how the classifier errs in shops.
    """
    joined = join(features)
    first = joined[:, 0]
    mean, basis = reduce(first, min(REDUCED, len(first) - 1))
    reduced = ((joined - mean) @ basis).astype(np.float32)
    scale = np.float32(reduced[:, 0].std() * (2 * basis.shape[1] / REDUCED) ** 0.5)
    reduced /= scale

    visual_mean, visual = reduce(part(features[:, 0], "kgap"), VISUAL)
    head = Head(visual, -visual_mean @ visual, known=Known.of(language, features[~learned, 0]))
    known = head.known(logits(features))

    direction, offset = train_gate(reduced, learned)
    gate = sigmoid(reduced @ direction + offset)
    network = train_network(reduced, known, gate, titles, learned, language, seed)

    unscaled = basis / scale
    head.gate, head.gate_bias = unscaled @ direction, np.float32(offset - mean @ unscaled @ direction)
    head.hidden = unscaled @ network["hidden"]
    head.hidden_bias = network["hidden_bias"] - mean @ head.hidden
    head.output, head.output_bias = network["output"], network["output_bias"]
    return head


def train_gate(reduced, learned):
    """A ridge discriminant between the pictures to learn and the others: `sigmoid(x · direction + offset)`."""
    inside, outside = reduced[learned, 0], reduced[~learned].reshape(-1, reduced.shape[-1])
    values = np.concatenate([inside, outside])
    weights = np.r_[np.full(len(inside), 0.5 / len(inside)), np.full(len(outside), 0.5 / len(outside))]
    weights = weights.astype(np.float32)[:, None]
    mean = (values * weights).sum(0)
    centred = values - mean
    scatter = (centred * weights).T @ centred
    scatter += GATE_RIDGE * np.trace(scatter) / len(scatter) * np.eye(len(scatter), dtype=np.float32)
    targets = np.r_[np.full(len(inside), 0.5), np.full(len(outside), -0.5)].astype(np.float32)
    direction = np.linalg.solve(scatter, (centred * weights).T @ targets)
    offset = -(mean @ direction) - GATE_OFFSET
    return (GATE_STEEPNESS * direction).astype(np.float32), np.float32(GATE_STEEPNESS * offset)


def train_network(reduced, known, gate, titles, learned, language, seed):
    """One hidden layer, trained to tell the titles apart in the text space and to stay close to `known`."""
    rng = np.random.default_rng(seed)
    names, label = np.unique(titles[learned], return_inverse=True)
    count = np.bincount(label)
    shown = np.clip(np.rint(3 * (300 / count) ** BALANCE), 1, 18).astype(int)
    where = np.flatnonzero(learned)
    labels = np.zeros(len(learned), np.int32)
    labels[where] = label

    steps_each = len(where) // BATCH
    steps = EPOCHS * steps_each
    pool = np.repeat(where, shown[label])
    order = np.stack([rng.permutation(pool)[:steps_each * BATCH] for _ in range(EPOCHS)]).reshape(steps, BATCH)
    view = rng.integers(0, reduced.shape[1], (steps, BATCH))

    width = reduced.shape[-1]
    weights = {
        "hidden": rng.standard_normal((width, HIDDEN)) * width**-0.5, "hidden_bias": np.zeros(HIDDEN),
        "output": rng.standard_normal((HIDDEN, text.WIDTH)) * 0.02, "output_bias": np.zeros(text.WIDTH),
    }
    weights = {name: jnp.array(value, jnp.float32) for name, value in weights.items()}
    captions = jnp.array(language(list(names)))
    reduced, known, gate = jnp.array(reduced), jnp.array(known), jnp.array(gate, jnp.float32)
    labels, order, view = jnp.array(labels), jnp.array(order), jnp.array(view)
    key = jax.random.PRNGKey(seed)

    def loss(weights, rows, views, mask):
        hidden = jax.nn.gelu(reduced[rows, views] @ weights["hidden"] + weights["hidden_bias"], approximate=False)
        learned = (hidden * mask) @ weights["output"] + weights["output_bias"]
        meaning = known[rows, views] + gate[rows, views][:, None] * learned
        meaning /= jnp.linalg.norm(meaning, axis=1, keepdims=True)
        chances = jax.nn.log_softmax(meaning @ captions.T / LABEL_TEMPERATURE)
        right = jnp.take_along_axis(chances, labels[rows][:, None], 1)[:, 0]
        away = 1 - (meaning * known[rows, views]).sum(1)
        return (-(1 - SMOOTHING) * right - SMOOTHING * chances.mean(1) + STAY_CLOSE * away).mean()

    def step(state, number):
        weights, first, second = state
        mask = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - DROPOUT, (BATCH, HIDDEN)) / (1 - DROPOUT)
        slope = jax.grad(loss)(weights, order[number], view[number], mask)
        time = number + 1.0
        rate = RATE * jnp.minimum(1, time / 50) * 0.5 * (1 + jnp.cos(jnp.pi * time / steps))
        first = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, first, slope)
        second = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new**2, second, slope)

        def adamw(weight, mean, square):
            mean, square = mean / (1 - 0.9**time), square / (1 - 0.99**time)
            return weight - rate * (mean / (jnp.sqrt(square) + 1e-8) + DECAY * weight)

        return (jax.tree.map(adamw, weights, first, second), first, second), None

    zeros = jax.tree.map(jnp.zeros_like, weights)
    run = jax.jit(lambda weights: jax.lax.scan(step, (weights, zeros, zeros), jnp.arange(steps))[0][0])
    return {name: np.asarray(value) for name, value in run(weights).items()}
