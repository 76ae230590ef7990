//! Products as Qdrant Edge's points, and back.

use qdrant_edge::{
    BoolIndexParams, FloatIndexParams, IntegerIndexParams, JsonPath, KeywordIndexParams, PayloadFieldSchema,
    PayloadSchemaParams, PointId, PointStruct, SparseVector, Vector, VectorInternal, VectorStructInternal, Vectors,
};
use vitrine_core::{
    embed::Embedding,
    index::{Digest, IndexError, IndexedProduct, Target},
    keywords::Keywords,
    product::{Product, Schema},
};

use super::graph::is_on_disk;
use crate::{
    error::unavailable,
    payload::{self, DIGEST, IndexKind, KEYWORDS, point_id, to_payload, vector_name},
    quantisation::Quantisation,
};

/// A key of the payload.
pub(super) fn path(key: &str) -> JsonPath {
    key.parse().unwrap_or_else(|()| JsonPath { first_key: key.to_owned(), rest: Vec::new() })
}

/// The payload indexes that a schema needs, but for [`category_index`]. They are read from disk where the vectors are, too.
pub(super) fn payload_indexes(schema: &Schema, quantisation: Quantisation) -> Vec<(JsonPath, PayloadFieldSchema)> {
    let on_disk = Some(is_on_disk(quantisation));
    let enable_hnsw = Some(false);
    let typed = |kind| match kind {
        IndexKind::Keyword => {
            PayloadSchemaParams::Keyword(KeywordIndexParams { on_disk, enable_hnsw, ..KeywordIndexParams::default() })
        }
        IndexKind::Integer => {
            PayloadSchemaParams::Integer(IntegerIndexParams { on_disk, enable_hnsw, ..IntegerIndexParams::default() })
        }
        IndexKind::Float => {
            PayloadSchemaParams::Float(FloatIndexParams { on_disk, enable_hnsw, ..FloatIndexParams::default() })
        }
        IndexKind::Bool => {
            PayloadSchemaParams::Bool(BoolIndexParams { on_disk, enable_hnsw, ..BoolIndexParams::default() })
        }
    };
    let category = payload::category_key(schema);
    let indexes = payload::payload_indexes(schema).into_iter().filter(|(key, _)| Some(key) != category.as_ref());
    indexes.map(|(key, kind)| (path(&key), PayloadFieldSchema::FieldParams(typed(kind)))).collect()
}

/// The payload index of categories, where there are any: products are laid out by it, and have edges by it.
pub(super) fn category_index(schema: &Schema, quantisation: Quantisation) -> Option<(JsonPath, PayloadFieldSchema)> {
    let keyword = KeywordIndexParams {
        is_tenant: Some(true),
        on_disk: Some(is_on_disk(quantisation)),
        enable_hnsw: Some(true),
        ..KeywordIndexParams::default()
    };
    let typed = PayloadFieldSchema::FieldParams(PayloadSchemaParams::Keyword(keyword));
    payload::category_key(schema).map(|key| (path(&key), typed))
}

/// The point of a product with its vectors, and with those of its words that are to be kept.
pub(super) fn to_point(indexed: &IndexedProduct, keywords: &Keywords) -> Result<PointStruct, IndexError> {
    let refused = |error| unavailable(format!("index product `{}`", indexed.product.id), error);
    let images: Vec<Vec<f32>> = indexed.image_embeddings.iter().map(|embedding| embedding.values().to_vec()).collect();
    let mut vectors = vec![
        (vector_name(Target::Image), Vector::new_multi(images).map_err(refused)?),
        (vector_name(Target::Text), Vector::new_dense(indexed.text_embedding.values().to_vec())),
    ];
    if !keywords.is_empty() {
        vectors.push((KEYWORDS, Vector(VectorInternal::Sparse(to_sparse(keywords)))));
    }
    let vectors = Vectors::new_named(vectors);
    let payload = serde_json::Value::Object(to_payload(indexed)?);
    Ok(PointStruct::new(PointId::Uuid(point_id(&indexed.product.id)), vectors, payload))
}

/// Words as a sparse vector.
pub(super) fn to_sparse(keywords: &Keywords) -> SparseVector {
    let (indices, values) = keywords.iter().unzip();
    SparseVector { indices, values }
}

/// The product in a payload.
pub(super) fn to_product(payload: Option<&qdrant_edge::Payload>) -> Result<Product, IndexError> {
    payload::to_product(payload.and_then(|payload| payload.0.get("product")))
}

/// The digest in a payload.
pub(super) fn to_digest(payload: Option<&qdrant_edge::Payload>) -> Option<Digest> {
    payload::to_digest(payload.and_then(|payload| payload.0.get(DIGEST)))
}

/// The vectors of one side of a product, each of length 1: its pictures', or its text's.
pub(super) fn sides(vectors: Option<&VectorStructInternal>, target: Target) -> Vec<&[f32]> {
    let Some(VectorStructInternal::Named(named)) = vectors else { return Vec::new() };
    match named.get(vector_name(target)) {
        Some(VectorInternal::Dense(values)) => vec![values],
        Some(VectorInternal::MultiDense(rows)) => rows.multi_vectors().collect(),
        Some(VectorInternal::Sparse(_)) | None => Vec::new(),
    }
}

/// The same, to keep.
pub(super) fn to_embeddings(vectors: Option<&VectorStructInternal>, target: Target) -> Vec<Embedding> {
    sides(vectors, target).into_iter().filter_map(|side| Embedding::normalized(side.to_vec())).collect()
}

/// A product for tests, with one attribute and one vector on both sides.
#[cfg(test)]
pub(super) fn product_at(
    number: usize,
    values: Vec<f32>,
    (name, value): (&str, vitrine_core::product::AttributeValue),
) -> IndexedProduct {
    let id = vitrine_core::product::ProductId::new(number.to_string(), "id").unwrap();
    let embedding = Embedding::normalized(values).unwrap();
    let (title, image_links) = (id.to_string(), vec![format!("{id}.jpg")]);
    let attributes = [(name.to_owned(), value)].into();
    let product = Product { id, title, description: String::new(), link: String::new(), image_links, attributes };
    IndexedProduct { product, image_embeddings: vec![embedding.clone()], text_embedding: embedding, digest: None }
}

/// A product's point for tests, with all its words.
#[cfg(test)]
pub(super) fn whole_point(indexed: &IndexedProduct) -> PointStruct {
    to_point(indexed, &Keywords::of_product(&indexed.product)).unwrap()
}
