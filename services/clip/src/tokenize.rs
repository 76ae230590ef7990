//! Words to the text tower's input.

use serde_json::Value;
use tokenizers::{Tokenizer, TruncationParams};

use crate::{ModelError, ModelFolder};

/// The tokens of one text, with the special ones that the model wants at both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens(pub Vec<u32>);

/// The tokenizer of a model.
///
/// Source: `tokenizer.json` in the format of Hugging Face tokenizers, run by that library.
pub struct Tokenize {
    tokenizer: Tokenizer,
    length_max: usize,
    padding: u32,
}

impl Tokenize {
    /// Reads the folder's tokenizer. Texts are cut to the shortest of the lengths that its files name.
    ///
    /// # Errors
    /// When `tokenizer.json` cannot be read, or nothing says how long a text may be.
    pub fn open(folder: &ModelFolder) -> Result<Self, ModelError> {
        let unusable = |problem: &dyn std::fmt::Display| ModelError::unusable(&folder.tokenizer, problem);
        let mut tokenizer = Tokenizer::from_file(&folder.tokenizer).map_err(|error| unusable(&error))?;
        let lengths = [
            tokenizer.get_truncation().map(|truncation| truncation.max_length),
            folder.config_number(&["text_config", "max_position_embeddings"]),
            folder.config_number(&["max_position_embeddings"]),
            // Tokenizers without a limit write a huge float here, which is no u64.
            folder.tokenizer_config.get("model_max_length").and_then(Value::as_u64).and_then(|n| n.try_into().ok()),
        ];
        let length_max = lengths.into_iter().flatten().filter(|length| *length > 2).min();
        let length_max = length_max.ok_or_else(|| {
            unusable(&"no truncation here, and no `text_config.max_position_embeddings` in config.json")
        })?;
        let padding_token = |token: &Value| {
            let text = token.as_str().or_else(|| token.get("content").and_then(Value::as_str))?;
            tokenizer.token_to_id(text)
        };
        let padding = tokenizer
            .get_padding()
            .map(|padding| padding.pad_id)
            .or_else(|| folder.tokenizer_config.get("pad_token").and_then(padding_token))
            .or_else(|| folder.config_number(&["text_config", "pad_token_id"]).and_then(|id| u32::try_from(id).ok()))
            .unwrap_or(0);
        let truncation = TruncationParams { max_length: length_max, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| unusable(&error))?;
        tokenizer.with_padding(None);
        Ok(Self { tokenizer, length_max, padding })
    }

    /// The tokens of a text: at most [`Tokenize::length_max`].
    ///
    /// # Errors
    /// When the tokenizer's own rules fail on the text; says how.
    pub fn tokens(&self, text: &str) -> Result<Tokens, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(Tokens(encoding.get_ids().to_vec()))
    }

    /// Most tokens of one text.
    pub fn length_max(&self) -> usize {
        self.length_max
    }

    /// The token that fills up short texts.
    pub fn padding(&self) -> u32 {
        self.padding
    }
}
