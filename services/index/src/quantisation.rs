//! Vectors that are kept smaller, for both of Qdrant's shapes.

use std::str::FromStr;

use crate::scoring::SEARCH_WIDTH_MIN;

/// How vectors are kept a second time, smaller, to find candidates with. These are scored with the vectors themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Quantisation {
    /// Not at all.
    #[default]
    None,
    /// One byte for each dimension: a quarter of the memory.
    Int8,
    /// One bit for each dimension: a thirty-second. For models of many dimensions.
    Binary,
    /// One byte for each four dimensions: a sixteenth. Slow to build, and to search.
    Product,
}

impl Quantisation {
    /// How many times more candidates are found by quantised vectors than are asked for. The coarser, the more.
    pub(crate) fn oversampling(self, limit: usize) -> f64 {
        match self {
            Self::None => 1.0,
            // What it confuses lies close together: among the last of many, that does not matter.
            Self::Int8 if limit > SEARCH_WIDTH_MIN => 1.0,
            Self::Int8 => 2.0,
            Self::Binary | Self::Product => 4.0,
        }
    }

    /// How many times smaller such vectors are.
    pub(crate) fn ratio(self) -> usize {
        match self {
            Self::None => 1,
            Self::Int8 => 4,
            Self::Product => 16,
            Self::Binary => 32,
        }
    }
}

impl FromStr for Quantisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "int8" => Ok(Self::Int8),
            "binary" => Ok(Self::Binary),
            "product" => Ok(Self::Product),
            _ => Err(format!("is `{text}`, not none, int8, binary or product")),
        }
    }
}
