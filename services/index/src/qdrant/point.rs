//! Products as the client's points, and back.

use std::collections::HashMap;

use qdrant_client::qdrant::{
    DenseVector, FieldType, MultiDenseVector, NamedVectors, PointId, PointStruct, RetrievedPoint, ScoredPoint,
    SparseVector, Value, Vector, VectorOutput, Vectors, VectorsOutput, point_id::PointIdOptions, vector, vector_output,
    vectors::VectorsOptions, vectors_output,
};
use serde_json::Map;
use uuid::Uuid;
use vitrine_core::{
    embed::Embedding,
    index::{Digest, IndexError, IndexedProduct, Target},
    keywords::Keywords,
    product::Product,
};

use crate::{
    error::unavailable,
    payload::{self, DIGEST, IndexKind, KEYWORDS, point_id, to_payload, vector_name},
};

/// A point as it comes back, with as much of it as was asked for.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Uuid,
    product: Option<serde_json::Value>,
    /// What it was made of, if that is known.
    pub(super) digest: Option<Digest>,
    images: Vec<Embedding>,
    text: Option<Embedding>,
}

impl Found {
    pub(super) fn retrieved(point: RetrievedPoint) -> Result<Self, IndexError> {
        Self::new(point.id, point.payload, point.vectors)
    }

    pub(super) fn scored(point: ScoredPoint) -> Result<(Self, f32), IndexError> {
        Ok((Self::new(point.id, point.payload, point.vectors)?, point.score))
    }

    fn new(
        id: Option<PointId>,
        mut payload: HashMap<String, Value>,
        vectors: Option<VectorsOutput>,
    ) -> Result<Self, IndexError> {
        let mut named = match vectors.and_then(|vectors| vectors.vectors_options) {
            Some(vectors_output::VectorsOptions::Vectors(named)) => named.vectors,
            Some(vectors_output::VectorsOptions::Vector(_)) | None => HashMap::new(),
        };
        let mut side = |target| named.remove(vector_name(target)).map(rows).unwrap_or_default();
        let (images, text) = (side(Target::Image), side(Target::Text).pop());
        let product = payload.remove("product").map(Value::into_json);
        let digest = payload::to_digest(payload.remove(DIGEST).map(Value::into_json).as_ref());
        Ok(Self { id: read_id(id)?, product, digest, images, text })
    }

    /// The vectors of its pictures.
    pub(super) fn pictures(&self) -> &[Embedding] {
        &self.images
    }

    pub(super) fn into_product(self) -> Result<Product, IndexError> {
        payload::to_product(self.product.as_ref())
    }

    /// The product with its vectors.
    pub(super) fn into_indexed(self) -> Result<IndexedProduct, IndexError> {
        let text_embedding = self.text.ok_or_else(|| unavailable("read a product", "it has no text vector"))?;
        Ok(IndexedProduct {
            product: payload::to_product(self.product.as_ref())?,
            image_embeddings: self.images,
            text_embedding,
            digest: self.digest,
        })
    }
}

fn rows(output: VectorOutput) -> Vec<Embedding> {
    let rows = match output.into_vector() {
        vector_output::Vector::Dense(dense) => vec![dense],
        vector_output::Vector::MultiDense(multi) => multi.vectors,
        vector_output::Vector::Sparse(_) => Vec::new(),
    };
    rows.into_iter().filter_map(|row| Embedding::normalized(row.data)).collect()
}

/// The name of a point.
pub(super) fn read_id(id: Option<PointId>) -> Result<Uuid, IndexError> {
    let uuid = match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(&text).ok(),
        Some(PointIdOptions::Num(_)) | None => None,
    };
    uuid.ok_or_else(|| unavailable("read a product from the index", "its point is not named by a UUID"))
}

/// The point of a product with its vectors, and with those of its words that are to be kept.
pub(super) fn to_point(indexed: &IndexedProduct, keywords: &Keywords) -> Result<PointStruct, IndexError> {
    let row = |embedding: &Embedding| DenseVector { data: embedding.values().to_vec() };
    let images = MultiDenseVector { vectors: indexed.image_embeddings.iter().map(row).collect() };
    let vectors = [
        (vector_name(Target::Image), vector::Vector::MultiDense(images)),
        (vector_name(Target::Text), vector::Vector::Dense(row(&indexed.text_embedding))),
    ];
    let keywords = (!keywords.is_empty()).then(|| (KEYWORDS, vector::Vector::Sparse(to_sparse(keywords))));
    let named = |(name, vector): (&str, _)| (name.to_owned(), Vector { vector: Some(vector), ..Vector::default() });
    let vectors = NamedVectors { vectors: vectors.into_iter().chain(keywords).map(named).collect() };
    Ok(PointStruct {
        id: Some(point_id(&indexed.product.id).to_string().into()),
        payload: to_values(to_payload(indexed)?),
        vectors: Some(Vectors { vectors_options: Some(VectorsOptions::Vectors(vectors)) }),
    })
}

/// Words as a sparse vector.
pub(super) fn to_sparse(keywords: &Keywords) -> SparseVector {
    let (indices, values) = keywords.iter().unzip();
    SparseVector { values, indices }
}

/// JSON in the client's types.
pub(super) fn to_values(map: Map<String, serde_json::Value>) -> HashMap<String, Value> {
    map.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// The kind of a payload index.
pub(super) fn field_type(kind: IndexKind) -> FieldType {
    match kind {
        IndexKind::Keyword => FieldType::Keyword,
        IndexKind::Integer => FieldType::Integer,
        IndexKind::Float => FieldType::Float,
        IndexKind::Bool => FieldType::Bool,
    }
}
