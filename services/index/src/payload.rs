//! How a product is kept at a point, for both of Qdrant's shapes.
//!
//! Payload: `product`, the whole product as a text of JSON, which is read faster than a tree; [`DIGEST`], what it was made
//! of, if that is known; `a.<attribute>`, what
//! filters look at: a text, number or bool, an amount of money as `a.<attribute>.<currency>` in micros, a path as its
//! full text; `under.<attribute>`, all prefixes of a path.

use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};
use vitrine_core::{
    index::{Digest, IndexError, IndexedProduct, Target},
    product::{AttributeType, AttributeValue, Currency, Product, ProductId, Schema},
};

use crate::error::{failed, unavailable};

/// Key of what a product and its vectors were made of.
pub(crate) const DIGEST: &str = "digest";

/// Name of the vector that a query with this target searches.
pub(crate) fn vector_name(target: Target) -> &'static str {
    match target {
        Target::Image => "image",
        Target::Text => "text",
    }
}

/// Name of the sparse vector of a product's words.
pub(crate) const KEYWORDS: &str = "keywords";

/// The point of a product: a hash of its identifier, since points are named by UUID.
pub(crate) fn point_id(id: &ProductId) -> Uuid {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(blake3::hash(id.as_str().as_bytes()).as_bytes()).for_each(|(to, from)| *to = *from);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The point that the next one after a product's may be at, in the order of points; `None` at the very end.
pub(crate) fn point_after(id: &ProductId) -> Option<Uuid> {
    point_id(id).as_u128().checked_add(1).map(Uuid::from_u128)
}

/// Key of the payload that equality, ranges and presence look at. Attribute names have no character to quote.
pub(crate) fn key(attribute: &str) -> String {
    format!("a.{attribute}")
}

/// Key of an amount's payload in one currency.
pub(crate) fn amount_key(attribute: &str, currency: Currency) -> String {
    format!("a.{attribute}.{currency}")
}

/// Key of the payload that a path's prefixes are in.
pub(crate) fn under_key(attribute: &str) -> String {
    format!("under.{attribute}")
}

/// What a payload index is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexKind {
    Keyword,
    Integer,
    Float,
    Bool,
}

/// Key of the categories that products are laid out by: the prefixes of the first path that there is.
pub(crate) fn category_key(schema: &Schema) -> Option<String> {
    let mut attributes = schema.attributes.iter();
    attributes.find(|(_, spec)| spec.kind == AttributeType::Path).map(|(name, _)| under_key(name))
}

/// The payload indexes that a schema needs, by key.
pub(crate) fn payload_indexes(schema: &Schema) -> Vec<(String, IndexKind)> {
    let indexes = schema.attributes.iter().flat_map(|(name, spec)| match spec.kind {
        AttributeType::Keyword => vec![(key(name), IndexKind::Keyword)],
        AttributeType::Path => vec![(key(name), IndexKind::Keyword), (under_key(name), IndexKind::Keyword)],
        AttributeType::Integer => vec![(key(name), IndexKind::Integer)],
        AttributeType::Decimal => vec![(key(name), IndexKind::Float)],
        AttributeType::Bool => vec![(key(name), IndexKind::Bool)],
        AttributeType::Money => {
            spec.currencies.iter().map(|currency| (amount_key(name, *currency), IndexKind::Integer)).collect()
        }
        AttributeType::Prose => Vec::new(),
    });
    indexes.collect()
}

/// The payload of a product.
pub(crate) fn to_payload(indexed: &IndexedProduct) -> Result<Map<String, Value>, IndexError> {
    let IndexedProduct { product, digest, .. } = indexed;
    let whole = serde_json::to_string(product).map_err(failed(format!("index product `{}`", product.id)))?;
    let (mut attributes, mut under) = (Map::new(), Map::new());
    for (name, value) in &product.attributes {
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
    let parts = [("product", whole.into()), ("a", attributes.into()), ("under", under.into())];
    let parts = parts.into_iter().chain(digest.map(|digest| (DIGEST, digest.to_string().into())));
    Ok(parts.map(|(name, part)| (name.to_owned(), part)).collect())
}

/// The digest in a payload, of which this is `digest`.
pub(crate) fn to_digest(digest: Option<&Value>) -> Option<Digest> {
    digest?.as_str()?.parse().ok()
}

/// The product in a payload, of which this is `product`.
pub(crate) fn to_product(product: Option<&Value>) -> Result<Product, IndexError> {
    let context = "read a product from the index";
    let product = product.and_then(Value::as_str);
    let product = product.ok_or_else(|| unavailable(context, "it is not there; load the catalogue again"))?;
    serde_json::from_str(product).map_err(failed(context))
}
