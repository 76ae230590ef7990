"""A model's folder, and what it makes of photos and texts by way of Pillow, tokenizers and ONNX Runtime.

What `preprocessor_config.json` says is done as `CLIPImageProcessor` of Hugging Face transformers does it.
"""

import io
import json

import numpy
import onnxruntime
import tokenizers
from PIL import Image, ImageOps

# As `vitrine serve --precision` looks for them.
SUFFIXES = {
    "auto": ["", "_fp16", "_int8", "_quantized", "_uint8"],
    "fp32": [""],
    "fp16": ["_fp16"],
    "int8": ["_int8", "_quantized", "_uint8"],
}
# Of CLIP, where the files do not say.
TEXT_TOKENS_MAX = 77
TEXT_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class WrongModel(Exception):
    """A folder that cannot be measured; says which file is to blame."""


class Folder:
    """The files of a model."""

    def __init__(self, path, precision):
        if not path.is_dir():
            raise WrongModel(f"there is no model folder {path}")
        self.path = path
        self.precision = precision
        self.config = self.read("config.json")
        self.preprocessor = self.read("preprocessor_config.json")
        self.tokenizer = path / "tokenizer.json"
        if not self.tokenizer.is_file():
            raise WrongModel(f"there is no {self.tokenizer}")
        self.vision = self.tower("vision_model")
        self.text = self.tower("text_model")
        # What `vitrine serve` is to be told: its `auto` tries small files, too.
        self.ran = next(name for name, suffixes in SUFFIXES.items() if name != "auto" and self.vision.stem in
                        [f"vision_model{suffix}" for suffix in suffixes])

    def has_small(self):
        """Whether there are 8-bit files beside exact ones, which this runs."""
        files = [[self.path / "onnx" / f"{name}{suffix}.onnx" for suffix in SUFFIXES["int8"]]
                 for name in ("vision_model", "text_model")]
        return self.ran != "int8" and all(any(file.is_file() for file in one) for one in files)

    def read(self, name):
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WrongModel(f"{self.path / name}: {error}") from error

    def tower(self, name):
        files = [self.path / "onnx" / f"{name}{suffix}.onnx" for suffix in SUFFIXES[self.precision]]
        for file in files:
            if file.is_file():
                return file
        raise WrongModel(f"there is none of {', '.join(map(str, files))}")


class Preprocess:
    """Photos to the picture tower's input."""

    def __init__(self, folder):
        config = folder.preprocessor
        # The defaults of CLIP's processor are not those of the others.
        clip = config.get("image_processor_type", "CLIP").startswith("CLIP")
        try:
            self.size = config["size"]
            self.crop = config["crop_size"] if config.get("do_center_crop", clip) else None
            scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
            normalise = config.get("do_normalize", True)
            mean, deviation = (config["image_mean"], config["image_std"]) if normalise else ([0.0] * 3, [1.0] * 3)
        except KeyError as error:
            raise WrongModel(f"preprocessor_config.json of {folder.path} has no {error}") from error
        if isinstance(self.size, int):
            self.size = {"shortest_edge": self.size} if clip else {"height": self.size, "width": self.size}
        if isinstance(self.crop, int):
            self.crop = {"height": self.crop, "width": self.crop}
        default = Image.Resampling.BICUBIC if clip else Image.Resampling.BILINEAR
        self.filter = Image.Resampling(config.get("resample", default))
        # Of 256 levels each has one value, so that there is nothing left to compute for a picture.
        levels = numpy.arange(256, dtype=numpy.float32) * numpy.float32(scale)
        self.values = [
            ((levels - channel_mean) / channel_deviation).astype(numpy.float32)
            for channel_mean, channel_deviation in zip(mean, deviation, strict=True)
        ]

    def decode(self, content):
        """Upright RGB."""
        picture = Image.open(io.BytesIO(content))
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        # Converting RGB to RGB would copy it.
        return picture if picture.mode == "RGB" else picture.convert("RGB")

    def resize(self, picture):
        """Resized and cropped."""
        width, height = self.resized(*picture.size)
        picture = picture.resize((width, height), self.filter)
        if self.crop is None:
            return picture
        left, top = (width - self.crop["width"]) // 2, (height - self.crop["height"]) // 2
        return picture.crop((left, top, left + self.crop["width"], top + self.crop["height"]))

    def tensor(self, picture):
        """`[3, height, width]` f32."""
        pixels = numpy.asarray(picture)
        return numpy.stack([numpy.take(values, pixels[:, :, channel]) for channel, values in enumerate(self.values)])

    def __call__(self, content):
        return self.tensor(self.resize(self.decode(content)))

    def resized(self, width, height):
        if "shortest_edge" not in self.size:
            return self.size["width"], self.size["height"]
        edge, short, long = self.size["shortest_edge"], min(width, height), max(width, height)
        long = int(edge * long / short)
        return (edge, long) if width <= height else (long, edge)


class Tokenize:
    """Texts to tokens, not padded."""

    def __init__(self, folder):
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(str(folder.tokenizer))
        except Exception as error:
            raise WrongModel(f"{folder.tokenizer}: {error}") from error
        lengths = [
            (self.tokenizer.truncation or {}).get("max_length"),
            folder.config.get("text_config", {}).get("max_position_embeddings"),
            folder.config.get("max_position_embeddings"),
        ]
        self.length_max = min((length for length in lengths if length), default=TEXT_TOKENS_MAX)
        padding = self.tokenizer.padding
        self.padding = padding["pad_id"] if padding else folder.config.get("text_config", {}).get("pad_token_id", 0)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.length_max)

    def __call__(self, text):
        return self.tokenizer.encode(text).ids


def session(path, threads=None, spinning=True):
    """A session; without `threads`, with ONNX Runtime's own defaults."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise WrongModel(f"{path}: {error}") from error


class VisionTower:
    """Tensors to vectors."""

    def __init__(self, folder, threads=None, spinning=True):
        self.session = session(folder.vision, threads, spinning)
        self.input = self.session.get_inputs()[0]
        self.output = chosen_output(self.session, folder.vision, "image_embeds")

    def __call__(self, tensors):
        kind = numpy.float16 if self.input.type == "tensor(float16)" else numpy.float32
        (vectors,) = self.session.run([self.output], {self.input.name: numpy.stack(tensors).astype(kind, copy=False)})
        return unit(vectors)


class TextTower:
    """Tokens to vectors."""

    def __init__(self, folder, tokenize, threads=None, spinning=True):
        self.session = session(folder.text, threads, spinning)
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        if "input_ids" not in self.inputs or not self.inputs.keys() <= TEXT_INPUTS:
            raise WrongModel(f"{folder.text} has the inputs {', '.join(self.inputs)}")
        self.output = chosen_output(self.session, folder.text, "text_embeds")
        self.padding = tokenize.padding
        fixed = self.inputs["input_ids"].shape[1]
        # CLIP reads nothing behind a text's end. The others without a mask are trained on padded texts.
        short = "attention_mask" in self.inputs or folder.config.get("model_type", "").startswith("clip")
        self.length = fixed if isinstance(fixed, int) else None if short else tokenize.length_max

    def __call__(self, texts, length=None):
        """Padded to `length`, else to the longest."""
        columns = self.length or length or max(map(len, texts))
        ids = numpy.full((len(texts), columns), self.padding, dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        by_name = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        kinds = {"tensor(int32)": numpy.int32, "tensor(int64)": numpy.int64}
        feed = {name: by_name[name].astype(kinds[each.type], copy=False) for name, each in self.inputs.items()}
        (vectors,) = self.session.run([self.output], feed)
        return unit(vectors)


def batch_size_max(tower):
    """Most inputs that the graph takes at once, if it has a bound."""
    first = tower.session.get_inputs()[0].shape[0]
    return first if isinstance(first, int) else None


def chosen_output(tower, path, wanted):
    names = [output.name for output in tower.get_outputs()]
    for name in [wanted, "pooler_output"]:
        if name in names:
            return name
    raise WrongModel(f"{path} has the outputs {', '.join(names)}, neither {wanted} nor pooler_output")


def unit(vectors):
    vectors = vectors.astype(numpy.float32, copy=False)
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)
