//! What a generation is made of, in its collection's metadata: made with the collection, and gone with it.
//!
//! | key | what | when |
//! |---|---|---|
//! | `vitrine` | [`Made`]: model, dimensions and schema | with the collection |
//! | `vitrine_products` | how many products there are | when the generation is whole |
//! | `vitrine_keywords` | [`KeptWords`]: how the products' words are kept | with that; not there if it was made before |
//! | `vitrine_published` | `true` | just before it serves |
//! | `vitrine_beat` | a number that grows while its loader lives | every [`super::BuildOptions::beat`] |

use std::collections::HashMap;

use qdrant_client::qdrant::{CollectionInfo, Value, quantization_config::Quantization};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vitrine_core::{
    embed::ModelInfo,
    index::{GenerationInfo, IndexError},
    keywords::KeptWords,
    product::Schema,
};

use super::point::to_values;
use crate::error::failed;

const MADE: &str = "vitrine";
const PRODUCTS: &str = "vitrine_products";
const KEYWORDS: &str = "vitrine_keywords";
const PUBLISHED: &str = "vitrine_published";
const BEAT: &str = "vitrine_beat";

/// What is known when a generation is begun.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    model_fingerprint: String,
    dimensions: usize,
    schema: Schema,
}

/// A collection that is a generation.
#[derive(Debug)]
pub(super) struct Description {
    made: Made,
    products: Option<usize>,
    keywords: Option<KeptWords>,
    /// Whether it serves or did, or was about to.
    pub(super) published: bool,
    /// How often its loader has said that it lives.
    pub(super) beat: i64,
    /// How its vectors are kept a second time.
    pub(super) quantisation: Option<Quantization>,
    /// Into how many it is split.
    pub(super) parts: Parts,
}

/// Into how many parts a collection is split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) shards: usize,
    /// Of all shards together.
    pub(super) segments: usize,
}

impl Description {
    /// Reads it; `None` if the collection is no generation.
    pub(super) fn read(info: CollectionInfo) -> Option<Result<Self, IndexError>> {
        let config = info.config?;
        let mut metadata = config.metadata;
        let made = serde_json::from_value(metadata.remove(MADE)?.into_json());
        let keywords = metadata.remove(KEYWORDS).and_then(|kept| serde_json::from_value(kept.into_json()).ok());
        let integer = |value: Option<&Value>| value.and_then(Value::as_integer);
        let shards = config.params.map_or(1, |params| params.shard_number);
        let parts = Parts {
            shards: usize::try_from(shards).unwrap_or(1).max(1),
            segments: usize::try_from(info.segments_count).unwrap_or(1).max(1),
        };
        let quantisation = config.quantization_config.and_then(|config| config.quantization);
        Some(made.map_err(failed("read what a generation is made of")).map(|made| Self {
            made,
            products: integer(metadata.get(PRODUCTS)).and_then(|products| usize::try_from(products).ok()),
            keywords,
            published: metadata.get(PUBLISHED).and_then(Value::as_bool) == Some(true),
            beat: integer(metadata.get(BEAT)).unwrap_or(0),
            quantisation,
            parts,
        }))
    }

    /// Whether all of its products are there.
    pub(super) fn is_whole(&self) -> bool {
        self.products.is_some()
    }

    /// What is to be known of a whole generation; `None` if it is not whole.
    pub(super) fn into_info(self, id: &str) -> Option<GenerationInfo> {
        let Made { model_fingerprint: fingerprint, dimensions, schema } = self.made;
        let (products, keywords) = (self.products?, self.keywords);
        let model = ModelInfo { fingerprint, dimensions };
        Some(GenerationInfo { id: id.to_owned(), model, schema, products, keywords })
    }
}

/// The metadata that a collection is made with.
pub(super) fn made(model: &ModelInfo, schema: &Schema) -> Result<HashMap<String, Value>, IndexError> {
    let ModelInfo { fingerprint, dimensions } = model.clone();
    let made = Made { model_fingerprint: fingerprint, dimensions, schema: schema.clone() };
    let made = serde_json::to_value(made).map_err(failed("write what a generation is made of"))?;
    Ok(to_values([(MADE.to_owned(), made), (BEAT.to_owned(), json!(0))].into_iter().collect()))
}

/// That a generation is whole.
pub(super) fn whole(products: usize, keywords: &KeptWords) -> [(&'static str, Value); 2] {
    [(PRODUCTS, json!(products).into()), (KEYWORDS, json!(keywords).into())]
}

/// That a generation is about to serve.
pub(super) fn published() -> (&'static str, Value) {
    (PUBLISHED, true.into())
}

/// That a loader lives.
pub(super) fn beat(number: i64) -> (&'static str, Value) {
    (BEAT, number.into())
}
