#!/usr/bin/env python3
"""Writes tokens/: hostile strings, and the token ids two tokenizer.json files give them.

Reference: the Hugging Face `tokenizers` library, truncated to 77 tokens with the special tokens kept, no padding.
`mini` keeps its own truncation; `clip` has none in its file and gets one here.

transformers' slow CLIPTokenizer, given the same vocabulary and merges, is compared with `clip`; where it differs,
the strings are listed in tokens/README.md. The reference stays the fast one: it is what tokenizer.json means.
"""
import argparse
import hashlib
import html
import json
import pathlib
import tempfile

from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from token_strings import STRINGS

TOKENS_MAX = 77

SLOW_DIFFERENCES = [
    "- Without ftfy it cleans with BasicTokenizer: NUL, control, format (zero-width, bidi, joiner, tag), private and",
    "  unassigned characters and U+FFFD are dropped, which joins words and takes emoji sequences apart.",
    "- It drops U+000B, U+000C and U+0085; the fast one counts them as white space.",
    "- It puts spaces round each CJK ideograph, so each ends a word.",
    "- It lowercases a final capital sigma to the final form, as Python does; the fast one goes letter by letter.",
    "- It lowercases before it looks for special tokens: `<|ENDOFTEXT|>` becomes the special token.",
]


def one_per_line(values):
    return "[\n" + ",\n".join(json.dumps(value, separators=(",", ":")) for value in values) + "\n]"


def fast_ids(path, own_truncation):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    if not own_truncation:
        tokenizer.enable_truncation(TOKENS_MAX)
    assert tokenizer.truncation["max_length"] == TOKENS_MAX
    return [tokenizer.encode(text).ids for text in STRINGS]


def slow_ids(path):
    """The ids that the pure Python CLIPTokenizer gives, from the vocabulary and merges of a tokenizer.json."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    with tempfile.TemporaryDirectory() as folder:
        vocab, merges = pathlib.Path(folder, "vocab.json"), pathlib.Path(folder, "merges.txt")
        vocab.write_text(json.dumps(model["vocab"]), encoding="utf-8")
        merges.write_text("\n".join(["#version: 0.2", *model["merges"]]), encoding="utf-8")
        tokenizer = CLIPTokenizer(str(vocab), str(merges))
    assert tokenizer.fix_text is None, "ftfy is installed: uninstall it"
    return [tokenizer(text, truncation=True, max_length=TOKENS_MAX)["input_ids"] for text in STRINGS]


def excerpt(value, length):
    text = json.dumps(value)
    return html.escape(text if len(text) <= length else text[:length] + "…", quote=False).replace("|", "&#124;")


def report(paths, fast, slow):
    different = [n for n, (a, b) in enumerate(zip(fast, slow)) if a != b]
    lines = [
        "# Tokens", "",
        "Written by `../make_tokens.py`. `strings.json` is an array of texts; `mini.json` and `clip.json` hold their ids,",
        "`{\"ids\": [[…], …]}`, in the same order.", "",
        *(f"- `{name}.json`: from a tokenizer.json with SHA-256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`" for name, path in paths.items()),
        "",
        "## Where the slow CLIPTokenizer differs", "",
        f"{len(different)} of {len(STRINGS)} strings. The reference is the fast tokenizer: Vitrine reads tokenizer.json.", "",
        "Why, as seen in this list:", "",
        *SLOW_DIFFERENCES, "",
        "| index | string | fast | slow |", "|---|---|---|---|",
        *(f"| {n} | <code>{excerpt(STRINGS[n], 60)}</code> | `{excerpt(fast[n][:9], 60)}` | `{excerpt(slow[n][:9], 60)}` |" for n in different),
        "",
    ]
    return "\n".join(lines)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=pathlib.Path, help="CLIP's tokenizer.json")
    parser.add_argument("--mini", type=pathlib.Path, default=here.parent.parent / "models/mini/tokenizer.json", help="default: models/mini/tokenizer.json")
    parser.add_argument("--out", type=pathlib.Path, default=here / "tokens", help="default: tokens/ beside this script")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    ids = {"mini": fast_ids(options.mini, own_truncation=True), "clip": fast_ids(options.clip, own_truncation=False)}
    (options.out / "strings.json").write_text(one_per_line(STRINGS) + "\n", encoding="utf-8")
    for name, rows in ids.items():
        (options.out / f"{name}.json").write_text('{"ids":' + one_per_line(rows) + "}\n", encoding="utf-8")
    paths = {"mini": options.mini, "clip": options.clip}
    (options.out / "README.md").write_text(report(paths, ids["clip"], slow_ids(options.clip)), encoding="utf-8")


if __name__ == "__main__":
    main()
