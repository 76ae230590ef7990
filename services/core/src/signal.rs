//! What a search looks for.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    Invalid,
    limits::{PHOTO_BYTES_MAX, SIGNAL_WEIGHT_MAX, TEXT_BYTES_MAX},
    product::ProductId,
};

/// A rectangle of a picture, in fractions of its width and height after orientation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

impl Region {
    /// Checks a rectangle.
    ///
    /// # Errors
    /// When an edge is not in 0 to 1 (NaN is not), or the rectangle is empty.
    pub fn new(left: f32, top: f32, right: f32, bottom: f32) -> Result<Self, Invalid> {
        for (field, edge) in [("left", left), ("top", top), ("right", right), ("bottom", bottom)] {
            if !(0.0..=1.0).contains(&edge) {
                return Err(Invalid::new(field, format_args!("is {edge}, not in 0 to 1")));
            }
        }
        if right <= left {
            return Err(Invalid::new("right", format_args!("is {right}, not greater than left, {left}")));
        }
        if bottom <= top {
            return Err(Invalid::new("bottom", format_args!("is {bottom}, not greater than top, {top}")));
        }
        Ok(Self { left, top, right, bottom })
    }

    /// Left, top, right and bottom edge, each in 0 to 1.
    pub fn edges(&self) -> [f32; 4] {
        [self.left, self.top, self.right, self.bottom]
    }
}

/// Photos larger than this are hashed on a blocking thread: about half a millisecond of BLAKE3.
const HASH_INLINE_BYTES_MAX: usize = 512 * 1024;

/// A picture as it was uploaded or read: encoded bytes, not looked into yet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Photo {
    content: Bytes,
    region: Option<Region>,
    digest: Arc<OnceLock<[u8; 32]>>,
}

impl Photo {
    /// Takes an encoded picture.
    ///
    /// # Errors
    /// When it is empty or larger than [`PHOTO_BYTES_MAX`]. Whether it is a picture shows when it is decoded.
    pub fn new(content: Bytes, region: Option<Region>) -> Result<Self, Invalid> {
        if content.is_empty() {
            return Err(Invalid::new("content", "is empty"));
        }
        if content.len() > PHOTO_BYTES_MAX {
            let problem = format!("is {} bytes, more than the limit of {PHOTO_BYTES_MAX}", content.len());
            return Err(Invalid::new("content", problem));
        }
        Ok(Self { content, region, digest: Arc::default() })
    }

    /// The encoded bytes.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// The part to look at; all of it if `None`.
    pub fn region(&self) -> Option<Region> {
        self.region
    }

    /// BLAKE3 hash of the encoded bytes, computed once for all clones.
    pub async fn digest(&self) -> [u8; 32] {
        if self.digest.get().is_none() && self.content.len() > HASH_INLINE_BYTES_MAX {
            let this = self.clone();
            let hashed = tokio::task::spawn_blocking(move || this.digest_now()).await;
            if let Ok(digest) = hashed {
                return digest;
            }
        }
        self.digest_now()
    }

    fn digest_now(&self) -> [u8; 32] {
        *self.digest.get_or_init(|| *blake3::hash(&self.content).as_bytes())
    }
}

/// Words to embed: 1 to 1,024 bytes with something to read in them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueryText(String);

impl QueryText {
    /// Checks a text. `field` names it in the error.
    ///
    /// # Errors
    /// When it is blank or longer than [`TEXT_BYTES_MAX`].
    pub fn new(text: impl Into<String>, field: &str) -> Result<Self, Invalid> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err(Invalid::new(field, "is empty"));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(Invalid::new(field, format_args!("is longer than {TEXT_BYTES_MAX} bytes")));
        }
        Ok(Self(text))
    }

    /// The longest beginning of a text that is within the limit, for texts that this program composes.
    pub fn truncated(text: &str) -> Option<Self> {
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end))?;
        Self::new(text.get(..end)?, "").ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a signal's vector comes from.
#[derive(Debug, Clone)]
pub enum SignalSource {
    /// Looks like this.
    Photo(Photo),
    /// Means this.
    Text(QueryText),
    /// Is like this product, which is left out of the answer.
    Product(ProductId),
    /// Lies near this; finite numbers, not all zero, checked against the model's dimensions by the search.
    Embedding(Vec<f32>),
}

/// How much a signal counts; negative means "less like this".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight(f32);

impl Weight {
    /// Checks a weight.
    ///
    /// # Errors
    /// When it is zero, NaN or beyond [`SIGNAL_WEIGHT_MAX`] in either direction.
    pub fn new(weight: f32) -> Result<Self, Invalid> {
        if !(weight.abs() <= SIGNAL_WEIGHT_MAX && weight != 0.0) {
            let problem = format!("is {weight}, not in -{SIGNAL_WEIGHT_MAX} to {SIGNAL_WEIGHT_MAX} without 0");
            return Err(Invalid::new("weight", problem));
        }
        Ok(Self(weight))
    }

    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1.0)
    }
}

/// One thing to look for, or to stay away from.
#[derive(Debug, Clone)]
pub struct Signal {
    /// What it is.
    pub source: SignalSource,
    /// How much it counts.
    pub weight: Weight,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_zero_and_large_weights_are_refused() {
        for weight in [f32::NAN, 0.0, -0.0, 10.1, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Weight::new(weight).unwrap_err().field, "weight");
        }
        assert_eq!(Weight::new(-10.0).unwrap().get().to_bits(), (-10.0_f32).to_bits());
    }

    #[test]
    fn empty_and_outlying_regions_are_refused() {
        for ([left, top, right, bottom], field) in [
            ([0.5, 0.0, 0.5, 1.0], "right"),
            ([0.0, 0.9, 1.0, 0.1], "bottom"),
            ([-0.1, 0.0, 1.0, 1.0], "left"),
            ([0.0, 0.0, 1.0, f32::NAN], "bottom"),
        ] {
            assert_eq!(Region::new(left, top, right, bottom).unwrap_err().field, field);
        }
    }

    #[test]
    fn truncation_keeps_whole_characters() {
        let text = "ä".repeat(TEXT_BYTES_MAX);
        assert_eq!(QueryText::truncated(&text).unwrap().as_str().len(), TEXT_BYTES_MAX);
        let odd = format!("a{text}");
        assert_eq!(QueryText::truncated(&odd).unwrap().as_str().len(), TEXT_BYTES_MAX - 1);
    }
}
