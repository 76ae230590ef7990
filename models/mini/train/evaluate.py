"""What the model is worth, on pictures that it has not learned from.

Every number is made here and nowhere else; EVALUATION.md, which card.py writes from them, says what each means.
"""

import copy
import itertools
import multiprocessing
import os
import time
from unittest import mock

import numpy as np

import colour
import head
import pictures
import text
import trunks

SEEDS = (0, 1, 2)
FOLDS = 5
LEFT_OUT = ("appliances", "outdoor", "department-store", "home")
# What `settings` tries of `text.NEAR`, `head.LOOKALIKE_DECAY`, `head.KIND_TEMPERATURE` and `head.COLOUR_WORDS`.
SETTINGS = (0.07, 0.1, 0.14, 0.2), (0.35, 0.5, 0.7), (0.9, 1.2, 1.6), (0.8, 1.6, 2.4)


class Texts:
    """The text tower's arithmetic on what `head.Language` knows, without the graph."""

    def __init__(self, language):
        self.language, self.tokens = language, text.tokenizer()

    def __call__(self, texts):
        looks = np.zeros((len(texts), head.VISUAL), np.float32)
        parts = [looks, self.language(texts), head.COLOUR_WORDS * self.colours(texts)]
        return text.unit(np.hstack(parts).astype(np.float32))

    def colours(self, texts):
        return np.array([colour.of_words(self.whole_words(words)) for words in texts])

    def whole_words(self, words):
        tokens = self.tokens.encode(words).tokens
        return [token for token, following in zip(tokens, tokens[1:]) if not following.startswith("##")]


def best(scores, count):
    """The columns of the `count` best scores of each row, best first; equal scores by column."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def neighbours_alike(embeds, labels, senders=None):
    """Picture → picture precision@10; with senders, pictures by the query's own sender do not count as answers."""
    scores = embeds @ embeds.T
    np.fill_diagonal(scores, -9)
    if senders is not None:
        scores[senders[:, None] == senders] = -9
    return (labels[best(scores, 10)] == labels[:, None]).mean()


def words_to_pictures(queries, embeds, names, labels, count_min):
    """Text → picture precision@10, mean over the labels that have at least `count_min` pictures."""
    answers = labels[best(queries @ embeds.T, 10)]
    hits = [(answers[row] == name).mean() for row, name in enumerate(names) if (labels == name).sum() >= count_min]
    return np.mean(hits)


def zero_shot(queries, embeds, names, labels):
    return (names[(embeds @ queries.T).argmax(1)] == labels).mean()


def found(queries, embeds, wanted, labels, count=5):
    """Recall@5: the share of queries with a right answer among the first five."""
    answers = labels[best(queries @ embeds.T, count)]
    return (answers == wanted[:, None]).any(1).mean()


def same_group_first(embeds, groups):
    scores = embeds @ embeds.T
    np.fill_diagonal(scores, -9)
    return (groups[scores.argmax(1)] == groups).mean()


def conse(language, features):
    """ConSE as its authors have it, in the sentence encoder's space: `language.plain` embeds its queries."""
    return text.unit(head.softmax(head.logits(features) / head.TEMPERATURE) @ language.plain_classes)


def raw(features, names):
    return text.unit(np.hstack([head.part(features, name) for name in names]))


def folds(senders, learned, seed):
    """Splits the garments into five by who sent the picture."""
    names = np.unique(senders[learned])
    np.random.default_rng(seed).shuffle(names)
    counts = np.cumsum([(senders[learned] == name).sum() for name in names])
    place = {name: (end - 1) * FOLDS // counts[-1] for name, end in zip(names, counts)}
    fold = np.array([place.get(sender, -1) for sender in senders])
    return [learned & (fold == number) for number in range(FOLDS)]


def garments(language, data, seed, say):
    """Garments by senders whose pictures were not learned from: the mean of five folds."""
    senders = np.array([product.sender for product in data.products])
    names = np.unique(data.titles[data.learned])
    ours, plain = Texts(language)(list(names)), language.plain(list(names))
    rows = {"random": [], "raw zoo trunk": [], "raw, both trunks": [], "ConSE": [], "this model": []}
    for held_out in folds(senders, data.learned, seed):
        features, labels, by = data.features[held_out, 0], data.titles[held_out], senders[held_out]
        rest = ~held_out
        trained = head.train(language, data.features[rest], data.titles[rest], data.learned[rest], seed)
        noise = np.random.default_rng(seed).standard_normal((held_out.sum(), text.WIDTH))
        kinds = {
            "random": (text.unit(noise), plain), "raw zoo trunk": (raw(features, ["gap"]), None),
            "raw, both trunks": (raw(features, ["gap", "kgap"]), None), "ConSE": (conse(language, features), plain),
            "this model": (trained.embed(features, data.colours[held_out]), ours),
        }
        for name, (embeds, queries) in kinds.items():
            row = [neighbours_alike(embeds, labels), neighbours_alike(embeds, labels, by)]
            if queries is not None:
                row += [words_to_pictures(queries, embeds, names, labels, 10),
                        words_to_pictures(queries, embeds, names, labels, 1),
                        zero_shot(queries, embeds, names, labels)]
            rows[name].append(row)
    say(f"garments, seed {seed}: " + ", ".join(f"{value:.1%}" for value in np.mean(rows["this model"], 0)))
    return {name: np.mean(row, 0).tolist() for name, row in rows.items()}


def unseen_shop(language, data, name, seed, say):
    """A catalogue that training has not seen: its titles, its kinds, its variants and its colours."""
    out = data.catalogue == name
    rest = ~out
    trained = head.train(language, data.features[rest], data.titles[rest], data.learned[rest], seed)
    embeds, base = trained.embed(data.features[out, 0], data.colours[out]), conse(language, data.features[out, 0])
    products = [product for product, is_out in zip(data.products, out) if is_out]
    ask, titles = Texts(language), np.unique(data.titles[out])
    kind_of = np.array([product.kind for product in products])
    kinds = np.unique(kind_of)
    labels = data.titles[out]
    result = {
        "titles": found(ask(list(titles)), embeds, titles, labels),
        "titles, ConSE": found(language.plain(list(titles)), base, titles, labels),
        "kinds": found(ask(list(kinds)), embeds, kinds, kind_of, 1),
        "kinds, ConSE": found(language.plain(list(kinds)), base, kinds, kind_of, 1),
    }
    if name == "appliances":
        groups = np.array([product.group for product in products])
        features = data.features[out, 0]
        result |= {
            "variants": same_group_first(embeds, groups),
            "variants, raw zoo trunk": same_group_first(raw(features, ["gap"]), groups),
            "variants, raw both trunks": same_group_first(raw(features, ["gap", "kgap"]), groups),
            "variants, raw keras trunk": same_group_first(raw(features, ["kgap"]), groups),
        }
        result |= colours_asked(ask, embeds, products, groups)
    say(f"without {name}, seed {seed}: " + ", ".join(f"{key} {value:.1%}" for key, value in result.items()))
    return {key: float(value) for key, value in result.items()}


def settings(language, data, say):
    """Title recall@5 in each left-out shop by `SETTINGS`, with the gate shut: `[settings, shops]`.

    How much of a result is the choice of settings, made on the shops that they are then asked in.
    """
    language, shops = copy.copy(language), []
    for name in LEFT_OUT:
        out = data.catalogue == name
        titles = np.unique(data.titles[out])
        shops.append((out, titles, language.plain(list(titles)), Texts(language).colours(titles)))
    rows = {}
    for near, decay in itertools.product(*SETTINGS[:2]):
        language.near(near)
        language.lookalikes = head.vocabulary(language.labels, decay)[1]
        for temperature in SETTINGS[2]:
            answers = []
            with mock.patch.object(head, "KIND_TEMPERATURE", temperature):
                for out, *_ in shops:
                    known = head.Known.of(language, data.features[~out & ~data.learned, 0])
                    answers.append(known(head.logits(data.features[out, 0])))
            for words in SETTINGS[3]:
                rows[near, decay, temperature, words] = row = []
                for (out, titles, plain, named), meaning in zip(shops, answers):
                    scales = head.UNSURE * head.SHARES[1]**0.5, words * head.SHARES[2]**0.5
                    queries = np.hstack([language.kernel(plain) * scales[0], named * scales[1]])
                    embeds = np.hstack([meaning, data.colours[out]])
                    row.append(float(found(queries, embeds, titles, data.titles[out])))
    say(f"{len(rows)} settings are tried, a left-out shop's titles found in {np.mean(list(rows.values())):.1%}")
    return list(rows.values())


def colours_asked(ask, embeds, products, groups):
    """`<colour> <title>` over the whole catalogue: is the first answer of that colour, and is it that variant?

    Colours are the same when they name the same colour words: `Matte Black` is `Black`.
    """
    shades = np.array([" ".join(sorted(word for word in product.colour.lower().split() if word in colour.WORDS))
                       or product.colour for product in products])
    scores = ask([f"{product.colour} {product.title}" for product in products]) @ embeds.T
    first = scores.argmax(1)
    among = np.array([np.flatnonzero(groups == group)[scores[row, groups == group].argmax()]
                      for row, group in enumerate(groups)])
    return {
        "colour, among the product's variants": (shades[among] == shades).mean(),
        "colour, first of all": (shades[first] == shades).mean(),
        "colour and product, first of all": (first == np.arange(len(products))).mean(),
    }


def disturbed(data, trained):
    """Recall@1 of a disturbed picture in the gallery of all pictures, by disturbance."""
    gallery = trained.embed(data.features[:, 0], data.colours)
    result = {}
    for number, name in enumerate(pictures.DISTURBANCES):
        queries = trained.embed(data.disturbed[:, number], data.disturbed_colours[:, number])
        result[name] = float(((queries @ gallery.T).argmax(1) == data.evaluated).mean())
    return result


_towers = None


def _start(paths):
    global _towers
    _towers = [trunks.session(path) for path in paths]


def _both(path):
    pixels = pictures.prepare(pictures.load(path))[None]
    return [tower.run(None, {"pixel_values": pixels})[0][0] for tower in _towers]


def precision(options, data, say):
    """The small files against the f32 ones, on every picture and every caption, and the speed of both."""
    files = {kind: [os.path.join(options.work, "onnx", f"{kind}_model.onnx"),
                    os.path.join(options.out, "onnx", f"{kind}_model_int8.onnx")] for kind in ("vision", "text")}
    with multiprocessing.get_context("spawn").Pool(options.workers, _start, (files["vision"],)) as pool:
        paths = [product.picture for product in data.products]
        seen = np.array(pool.map(_both, paths, chunksize=32)).transpose(1, 0, 2)
    captions = sorted(set(data.titles) | {product.kind for product in data.products if product.kind}
                      | {f"{product.colour} {product.title}" for product in data.products if product.colour})
    tokens, towers = text.tokenizer(), [trunks.session(path) for path in files["text"]]
    said = np.array([np.concatenate([text.run(tower, tokens, [caption]) for caption in captions]) for tower in towers])
    say("both precisions are compared")

    result = {"pictures": len(paths), "captions": len(captions)}
    for kind, (large, small) in (("picture", seen), ("text", said)):
        cosine = (large * small).sum(1)
        result[kind] = [float(cosine.mean()), float(cosine.min())]
    where = {caption: number for number, caption in enumerate(captions)}
    names = np.unique(data.titles[data.learned])
    rows = []
    for embeds, queries in zip(seen, said):
        labels = data.titles[data.learned]
        of_labels = queries[[where[name] for name in names]]
        row = [neighbours_alike(embeds[data.learned], labels),
               words_to_pictures(of_labels, embeds[data.learned], names, labels, 10),
               zero_shot(of_labels, embeds[data.learned], names, labels)]
        for name in LEFT_OUT:
            out = data.catalogue == name
            titles = np.unique(data.titles[out])
            row.append(found(queries[[where[title] for title in titles]], embeds[out], titles, data.titles[out]))
        rows.append([float(value) for value in row])
    result["ranking, f32"], result["ranking, small"] = rows
    five = tokens.encode("small red leather travel bag")
    inputs = {"input_ids": np.array([five.ids]), "attention_mask": np.array([five.attention_mask])}
    pixels = {"pixel_values": pictures.prepare(pictures.load(paths[0]))[None]}
    result["picture ms"] = milliseconds(trunks.session(files["vision"][1]), pixels)
    result["text ms"] = milliseconds(towers[1], inputs)
    result["bytes"] = {kind: os.path.getsize(path[1]) for kind, path in files.items()}
    return result


def milliseconds(tower, inputs, runs=60):
    """Median processor time of one run on one thread."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        tower.run(None, inputs)
        times.append(time.process_time() - start)
    return float(np.median(times) * 1000)


def everything(options, language, data, trained, say):
    """All measurements, as what JSON can hold. Adds the colour codes to `data`, in place of its cells."""
    data.colours = colour.of_pictures(data.cells.astype(np.float32))
    shape = data.disturbed_cells.shape
    codes = colour.of_pictures(data.disturbed_cells.reshape(-1, *shape[2:]).astype(np.float32))
    data.disturbed_colours = codes.reshape(*shape[:2], -1)
    return {
        "precision": precision(options, data, say),
        "settings": settings(language, data, say),
        "disturbed": disturbed(data, trained),
        "garments": [garments(language, data, seed, say) for seed in SEEDS],
        "unseen": {name: [unseen_shop(language, data, name, seed, say) for seed in SEEDS] for name in LEFT_OUT},
    }
