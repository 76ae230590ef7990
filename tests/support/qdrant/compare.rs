//! The vectors of points, and how they are compared.

use std::collections::BTreeMap;

use ::qdrant_client::qdrant::{
    CreateCollection, Datatype, Modifier, PointStruct, VectorInput, query, vector, vector_input, vectors,
    vectors_config,
};

use super::Collection;

/// What a query asks to be near to.
pub(super) enum Asked<'a> {
    /// A dense vector.
    Near(&'a [f32]),
    /// Words, by number, each as much heavier as it is rare: in each shard, which counts by itself.
    Words(Vec<BTreeMap<u32, f32>>),
}

impl<'a> Asked<'a> {
    /// Reads it; `None` if it is something else, or the collection was not made for it.
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a logarithm of counts")]
    pub(super) fn read(collection: &Collection, query: &'a query::Variant, using: &str) -> Option<Self> {
        let query::Variant::Nearest(VectorInput { variant }) = query else {
            return None;
        };
        match variant.as_ref()? {
            vector_input::Variant::Dense(dense) => Some(Self::Near(&dense.data)),
            vector_input::Variant::Sparse(words) => {
                let params = collection.made.sparse_vectors_config.as_ref()?.map.get(using)?;
                if params.modifier() != Modifier::Idf {
                    return None;
                }
                let weighed = (0..collection.shards).map(|shard| {
                    let of_shard = collection.points.values().filter(|point| collection.shard_of(point) == shard);
                    let kept: Vec<_> = of_shard.map(|point| sparse(point, using)).collect();
                    let all = kept.iter().filter(|words| !words.is_empty()).count() as f32;
                    let weighed = words.indices.iter().zip(&words.values).map(|(word, weight)| {
                        let having = kept.iter().filter(|words| words.contains_key(word)).count() as f32;
                        (*word, weight * ((all - having + 0.5) / (having + 0.5) + 1.0).ln())
                    });
                    weighed.collect()
                });
                Some(Self::Words(weighed.collect()))
            }
            _ => None,
        }
    }

    /// What it makes of a point in a shard; `None` if that has nothing of it.
    pub(super) fn score(&self, shard: usize, point: &PointStruct, using: &str) -> Option<f32> {
        match self {
            Self::Near(to) => rows(point, using).into_iter().map(|row| cosine(&row, to)).max_by(f32::total_cmp),
            Self::Words(words) => {
                let kept = sparse(point, using);
                let both = words.get(shard)?.iter().filter_map(|(word, weight)| Some(weight * kept.get(word)?));
                both.reduce(|sum, part| sum + part)
            }
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Keeps a point's vectors as the collection was made to.
pub(super) fn round(point: &mut PointStruct, made: &CreateCollection) {
    let Some(vectors_config::Config::ParamsMap(params)) =
        made.vectors_config.as_ref().and_then(|vectors| vectors.config.as_ref())
    else {
        return;
    };
    let Some(vectors::VectorsOptions::Vectors(named)) =
        point.vectors.as_mut().and_then(|vectors| vectors.vectors_options.as_mut())
    else {
        return;
    };
    for (name, vector) in &mut named.vectors {
        let is_half = params.map.get(name).is_some_and(|params| params.datatype() == Datatype::Float16);
        let rows = match vector.vector.as_mut() {
            Some(vector::Vector::Dense(dense)) => std::slice::from_mut(dense),
            Some(vector::Vector::MultiDense(multi)) => multi.vectors.as_mut_slice(),
            _ => &mut [],
        };
        for value in rows.iter_mut().flat_map(|row| &mut row.data).filter(|_| is_half) {
            *value = half::f16::from_f32(*value).to_f32();
        }
    }
}

/// A point's vector of this name.
fn named<'a>(point: &'a PointStruct, using: &str) -> Option<&'a vector::Vector> {
    match point.vectors.as_ref().and_then(|vectors| vectors.vectors_options.as_ref()) {
        Some(vectors::VectorsOptions::Vectors(named)) => named.vectors.get(using)?.vector.as_ref(),
        _ => None,
    }
}

/// A point's sparse vector of this name; empty if it has none.
fn sparse(point: &PointStruct, using: &str) -> BTreeMap<u32, f32> {
    match named(point, using) {
        Some(vector::Vector::Sparse(words)) => {
            words.indices.iter().copied().zip(words.values.iter().copied()).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// The rows of a point's vector of this name.
pub(super) fn rows(point: &PointStruct, using: &str) -> Vec<Vec<f32>> {
    match named(point, using) {
        Some(vector::Vector::Dense(dense)) => vec![dense.data.clone()],
        Some(vector::Vector::MultiDense(multi)) => multi.vectors.iter().map(|row| row.data.clone()).collect(),
        _ => Vec::new(),
    }
}
