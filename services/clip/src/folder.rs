//! A model's folder in the Hugging Face layout: which files it has, and what they say about each other.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_json::Value;

use crate::ModelError;

/// Which of a folder's weight files to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The fastest file whose vectors are those of the most exact one; see [`Weights`].
    #[default]
    Auto,
    /// 32-bit floats: `*_model.onnx`.
    Fp32,
    /// 16-bit floats: `*_model_fp16.onnx`.
    Fp16,
    /// The 32-bit files with matrices multiplied in bf16, which not every execution provider can.
    Bf16,
    /// 8-bit integers: `*_model_int8.onnx`, `*_model_quantized.onnx` or `*_model_uint8.onnx`.
    Int8,
}

impl Precision {
    /// Endings of the file names to look for, the first that is there wins.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &["", "_fp16", "_int8", "_quantized", "_uint8"],
            Self::Fp32 | Self::Bf16 => &[""],
            Self::Fp16 => &["_fp16"],
            Self::Int8 => &["_int8", "_quantized", "_uint8"],
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "fp32" => Ok(Self::Fp32),
            "fp16" => Ok(Self::Fp16),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            other => Err(format!("is `{other}`, not auto, fp32, fp16, bf16 or int8")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// The files of a model.
#[derive(Debug)]
pub struct ModelFolder {
    /// Where they are.
    pub path: PathBuf,
    /// `config.json`.
    pub config: Value,
    /// Text of `preprocessor_config.json`.
    pub preprocessor: String,
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`; null if there is none.
    pub tokenizer_config: Value,
    /// The picture tower.
    pub vision: Weights,
    /// The text tower.
    pub text: Weights,
}

/// The weight files of a tower that a precision allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// The file that says what the tower's vectors are.
    pub exact: PathBuf,
    /// With [`Precision::Auto`], a smaller file that may be run instead if its vectors are the same but for rounding.
    pub small: Option<PathBuf>,
    /// Every file of the tower that is there, the most exact first.
    pub all: Vec<PathBuf>,
}

impl ModelFolder {
    /// Finds the files.
    ///
    /// # Errors
    /// When one is missing or is not JSON where it must be.
    pub fn open(path: &Path, precision: Precision) -> Result<Self, ModelError> {
        if !path.is_dir() {
            let reason = "it must be a folder in the Hugging Face ONNX layout".to_owned();
            return Err(ModelError::FileMissing { path: path.to_owned(), reason });
        }
        let tokenizer = path.join("tokenizer.json");
        if !tokenizer.is_file() {
            let reason = "it is the tokenizer of the text tower".to_owned();
            return Err(ModelError::FileMissing { path: tokenizer, reason });
        }
        let tokenizer_config = path.join("tokenizer_config.json");
        Ok(Self {
            path: path.to_owned(),
            config: read_json(&path.join("config.json"), "it says what the model is")?,
            preprocessor: read(&path.join("preprocessor_config.json"), "it says how pictures are prepared")?,
            tokenizer,
            tokenizer_config: if tokenizer_config.is_file() { read_json(&tokenizer_config, "")? } else { Value::Null },
            vision: tower(path, "vision_model", precision)?,
            text: tower(path, "text_model", precision)?,
        })
    }

    /// A whole number in `config.json`, by its path of keys.
    pub(crate) fn config_number(&self, keys: &[&str]) -> Option<usize> {
        let found = keys.iter().try_fold(&self.config, |value, key| value.get(key))?;
        found.as_u64().and_then(|number| usize::try_from(number).ok())
    }

    /// Hash over every file that shapes the vectors: 32 hexadecimal digits. A small file that runs instead of an exact
    /// one makes the same vectors but for rounding, and changes nothing.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut hasher = blake3::Hasher::new();
        let weights = [&self.vision.exact, &self.text.exact].into_iter().flat_map(|file| {
            let external = file.with_extension("onnx_data");
            std::iter::once(file.clone()).chain(external.is_file().then_some(external))
        });
        let described = ["config.json", "preprocessor_config.json"].map(|name| self.path.join(name));
        let tokenizer_config = Some(self.path.join("tokenizer_config.json")).filter(|path| path.is_file());
        let described = described.into_iter().chain([self.tokenizer.clone()]).chain(tokenizer_config);
        for file in described.chain(weights) {
            let content = fs::File::open(&file).and_then(|content| {
                hasher.update(&content.metadata()?.len().to_le_bytes());
                hasher.update_reader(content)
            });
            content.map_err(|error| ModelError::unusable(&file, error))?;
        }
        Ok(hasher.finalize().to_hex().chars().take(32).collect())
    }
}

fn tower(folder: &Path, name: &str, precision: Precision) -> Result<Weights, ModelError> {
    let file = |suffix: &str| folder.join("onnx").join(format!("{name}{suffix}.onnx"));
    let first = |suffixes: &[&str]| suffixes.iter().map(|suffix| file(suffix)).find(|file| file.is_file());
    let exact = first(precision.suffixes()).ok_or_else(|| {
        let names: Vec<_> = precision.suffixes().iter().map(|suffix| format!("{name}{suffix}.onnx")).collect();
        let reason = format!("precision {precision} looks for {}", names.join(", "));
        ModelError::FileMissing { path: file(""), reason }
    })?;
    // Not 16-bit floats: a processor without arithmetic for them is slower with them than with 32 bits.
    let small = if precision == Precision::Auto { first(Precision::Int8.suffixes()) } else { None };
    let small = small.filter(|small| *small != exact);
    let all = Precision::Auto.suffixes().iter().map(|suffix| file(suffix)).filter(|file| file.is_file()).collect();
    Ok(Weights { exact, small, all })
}

fn read(path: &Path, reason: &str) -> Result<String, ModelError> {
    fs::read_to_string(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            ModelError::FileMissing { path: path.to_owned(), reason: reason.to_owned() }
        } else {
            ModelError::unusable(path, error)
        }
    })
}

fn read_json(path: &Path, reason: &str) -> Result<Value, ModelError> {
    serde_json::from_str(&read(path, reason)?).map_err(|error| ModelError::unusable(path, error))
}
