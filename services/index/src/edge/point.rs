//! Products as points, and back.
//!
//! Payload: `product`, the whole product as a text of JSON, which is read faster than a tree; `a.<attribute>`, what
//! filters look at: a text, number or bool, an amount of money as `a.<attribute>.<currency>` in micros, a path as its
//! full text; `under.<attribute>`, all prefixes of a path.

use qdrant_edge::{
    JsonPath, PayloadSchemaType, PointId, PointStruct, Vector, VectorInternal, VectorStructInternal, Vectors,
    external::uuid::Builder,
};
use serde_json::{Map, Value, json};
use vitrine_core::{
    embed::Embedding,
    index::{IndexError, IndexedProduct, Target},
    product::{AttributeType, AttributeValue, Currency, Product, ProductId, Schema},
};

use super::{failed, unavailable};

/// Name of the vector that a query with this target searches.
pub(super) fn vector_name(target: Target) -> &'static str {
    match target {
        Target::Image => "image",
        Target::Text => "text",
    }
}

/// The point of a product: a hash of its identifier, since points are named by UUID.
pub(super) fn point_id(id: &ProductId) -> PointId {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(blake3::hash(id.as_str().as_bytes()).as_bytes()).for_each(|(to, from)| *to = *from);
    PointId::Uuid(Builder::from_custom_bytes(bytes).into_uuid())
}

/// Key of the payload that equality, ranges and presence look at. Attribute names have no character to quote.
pub(super) fn key(attribute: &str) -> JsonPath {
    path("a", attribute)
}

/// Key of an amount's payload in one currency.
pub(super) fn amount_key(attribute: &str, currency: Currency) -> JsonPath {
    path("a", &format!("{attribute}.{currency}"))
}

/// Key of the payload that a path's prefixes are in.
pub(super) fn under_key(attribute: &str) -> JsonPath {
    path("under", attribute)
}

fn path(group: &str, name: &str) -> JsonPath {
    let literal = JsonPath { first_key: group.to_owned(), rest: Vec::new() };
    format!("{group}.{name}").parse().unwrap_or(literal)
}

/// The payload indexes that a schema needs.
pub(super) fn payload_indexes(schema: &Schema) -> Vec<(JsonPath, PayloadSchemaType)> {
    let indexes = schema.attributes.iter().flat_map(|(name, spec)| match spec.kind {
        AttributeType::Keyword => vec![(key(name), PayloadSchemaType::Keyword)],
        AttributeType::Path => {
            vec![(key(name), PayloadSchemaType::Keyword), (under_key(name), PayloadSchemaType::Keyword)]
        }
        AttributeType::Integer => vec![(key(name), PayloadSchemaType::Integer)],
        AttributeType::Decimal => vec![(key(name), PayloadSchemaType::Float)],
        AttributeType::Bool => vec![(key(name), PayloadSchemaType::Bool)],
        AttributeType::Money => {
            let currencies = spec.currencies.iter();
            currencies.map(|currency| (amount_key(name, *currency), PayloadSchemaType::Integer)).collect()
        }
        AttributeType::Prose => Vec::new(),
    });
    indexes.collect()
}

/// The point of a product with its vectors.
pub(super) fn to_point(indexed: &IndexedProduct) -> Result<PointStruct, IndexError> {
    let context = || format!("index product `{}`", indexed.product.id);
    let images: Vec<Vec<f32>> = indexed.image_embeddings.iter().map(|embedding| embedding.values().to_vec()).collect();
    let vectors = Vectors::new_named([
        (vector_name(Target::Image), Vector::new_multi(images).map_err(|error| unavailable(context(), error))?),
        (vector_name(Target::Text), Vector::new_dense(indexed.text_embedding.values().to_vec())),
    ]);
    let product = serde_json::to_string(&indexed.product).map_err(|error| unavailable(context(), error))?;
    let (mut attributes, mut under) = (Map::new(), Map::new());
    for (name, value) in &indexed.product.attributes {
        let value = match value {
            AttributeValue::Keyword(text) => json!(text),
            AttributeValue::Keywords(texts) => json!(texts),
            AttributeValue::Integer(number) => json!(number),
            AttributeValue::Decimal(number) => json!(number),
            AttributeValue::Bool(yes) => json!(yes),
            AttributeValue::Money(money) => json!({ money.currency.to_string(): money.amount_micros }),
            AttributeValue::Path(path) => {
                under.insert(name.clone(), path.prefixes().collect());
                json!(path.to_string())
            }
            AttributeValue::Prose(_) => continue,
        };
        attributes.insert(name.clone(), value);
    }
    let payload = json!({ "product": product, "a": attributes, "under": under });
    Ok(PointStruct::new(point_id(&indexed.product.id), vectors, payload))
}

/// The product in a payload.
pub(super) fn to_product(payload: Option<&qdrant_edge::Payload>) -> Result<Product, IndexError> {
    let context = "read a product from the index";
    let product = payload.and_then(|payload| payload.0.get("product")).and_then(Value::as_str);
    let product = product.ok_or_else(|| unavailable(context, "it is not there; load the catalogue again"))?;
    serde_json::from_str(product).map_err(failed(context))
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
