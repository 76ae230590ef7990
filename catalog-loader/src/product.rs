//! Rows to products.

use serde_json::Value;
use vitrine_core::{
    Invalid,
    limits::{PICTURES_MAX, PROSE_BYTES_MAX},
    product::{AttributeType, AttributeValue, Product, ProductId, Schema},
};

use crate::feed::Fields;

/// Whether a field is one of the product itself, not an attribute that can be filtered by.
pub(crate) fn is_core_field(name: &str) -> bool {
    matches!(name, "id" | "title" | "description" | "link" | "image_link" | "additional_image_link")
}

/// The identifier that a row has, as far as it has one, for reports.
pub(crate) fn id_of(fields: &Fields) -> Option<String> {
    fields.get("id").and_then(text)
}

/// The product of a row.
///
/// # Errors
/// When a required field is missing, or one has a value that is not of its type; names the field.
pub(crate) fn to_product(mut fields: Fields, schema: &Schema) -> Result<Product, Invalid> {
    let id = ProductId::new(take_text(&mut fields, "id")?.unwrap_or_default(), "id")?;
    let title = take_text(&mut fields, "title")?.ok_or_else(|| Invalid::new("title", "is empty"))?;
    let image_link = take_text(&mut fields, "image_link")?.ok_or_else(|| Invalid::new("image_link", "is empty"))?;
    let mut image_links = vec![image_link];
    image_links.extend(take_links(&mut fields)?);
    if image_links.len() > PICTURES_MAX {
        let problem = format!("makes {} pictures, more than the limit of {PICTURES_MAX}", image_links.len());
        return Err(Invalid::new("additional_image_link", problem));
    }
    let description = take_text(&mut fields, "description")?.unwrap_or_default();
    let link = take_text(&mut fields, "link")?.unwrap_or_default();
    let known = fields.into_iter().filter_map(|(name, value)| Some((schema.attributes.get(&name)?.kind, name, value)));
    let attributes = known.map(|(kind, name, value)| {
        let value = attribute(kind, value).map_err(|invalid| invalid.within(&name))?;
        let value = if name == "availability" { underscored(value) } else { value };
        Ok((name, value))
    });
    Ok(Product { id, title, description, link, image_links, attributes: attributes.collect::<Result<_, Invalid>>()? })
}

fn attribute(kind: AttributeType, value: Value) -> Result<AttributeValue, Invalid> {
    match (kind, value) {
        (AttributeType::Keyword, Value::Array(values)) => {
            let texts = values.iter().map(|value| {
                let text = value.as_str().ok_or_else(|| Invalid::new("", "has an entry that is not a text"))?;
                AttributeValue::parse(kind, text).map(|keyword| keyword.to_string())
            });
            Ok(AttributeValue::Keywords(texts.collect::<Result<_, _>>()?))
        }
        (AttributeType::Prose, Value::Array(values)) => {
            let texts: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            AttributeValue::parse(kind, &texts.join("\n"))
        }
        (kind, value) => {
            let text = text(&value).ok_or_else(|| Invalid::new("", "is a list or an object"))?;
            AttributeValue::parse(kind, &text)
        }
    }
}

/// `in stock` is written so by older feeds, `in_stock` by newer ones.
fn underscored(value: AttributeValue) -> AttributeValue {
    if let AttributeValue::Keyword(text) = value {
        AttributeValue::Keyword(text.to_lowercase().replace(' ', "_"))
    } else {
        value
    }
}

fn take_text(fields: &mut Fields, name: &str) -> Result<Option<String>, Invalid> {
    let Some(value) = fields.remove(name) else { return Ok(None) };
    let text = text(&value).ok_or_else(|| Invalid::new(name, "is a list or an object, not a text"))?;
    if text.len() > PROSE_BYTES_MAX {
        return Err(Invalid::new(name, format_args!("is longer than {PROSE_BYTES_MAX} bytes")));
    }
    Ok(Some(text.trim().to_owned()))
}

/// Further pictures: a list, or a text with commas between them.
fn take_links(fields: &mut Fields) -> Result<Vec<String>, Invalid> {
    let name = "additional_image_link";
    let links = match fields.remove(name) {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => text.split(',').map(|link| link.trim().to_owned()).collect(),
        Some(Value::Array(values)) => {
            let links: Option<Vec<String>> = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
            links.ok_or_else(|| Invalid::new(name, "has an entry that is not a text"))?
        }
        Some(_) => return Err(Invalid::new(name, "is neither a text nor a list of texts")),
    };
    Ok(links.into_iter().filter(|link| !link.is_empty()).collect())
}

/// What a scalar looks like as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vitrine_core::product::{AttributeSpec, STANDARD_ATTRIBUTES};

    use super::*;

    fn product(row: Value) -> Result<Product, Invalid> {
        let spec = |kind| AttributeSpec { kind, currencies: std::collections::BTreeSet::new() };
        let standard = STANDARD_ATTRIBUTES.iter().map(|(name, kind)| ((*name).to_owned(), spec(*kind)));
        let own = ("tags".to_owned(), spec(AttributeType::Keyword));
        to_product(serde_json::from_value(row).unwrap(), &Schema { attributes: standard.chain([own]).collect() })
    }

    #[test]
    fn a_row_becomes_a_product() {
        let product = product(json!({
            "id": 7, "title": " Sofa ", "image_link": "a.jpg", "additional_image_link": "b.jpg, c.jpg",
            "availability": "in stock", "price": "19.90 EUR", "tags": ["x", "y"], "unknown": 1
        }));
        let product = product.unwrap();
        assert_eq!((product.id.as_str(), product.title.as_str()), ("7", "Sofa"));
        assert_eq!(product.image_links, ["a.jpg", "b.jpg", "c.jpg"]);
        assert_eq!(product.attributes["availability"], AttributeValue::Keyword("in_stock".to_owned()));
        assert_eq!(product.attributes["price"].to_string(), "19.90 EUR");
        assert_eq!(product.attributes["tags"], AttributeValue::Keywords(vec!["x".to_owned(), "y".to_owned()]));
        assert!(!product.attributes.contains_key("unknown"));
    }

    #[test]
    fn a_list_of_long_texts_is_kept_as_prose() {
        let value = attribute(AttributeType::Prose, json!(["first", "second"])).unwrap();
        assert_eq!(value, AttributeValue::Prose("first\nsecond".to_owned()));
    }

    #[test]
    fn a_wrong_row_names_the_field() {
        for (row, field) in [
            (json!({"title": "a", "image_link": "a.jpg"}), "id"),
            (json!({"id": "1", "image_link": "a.jpg"}), "title"),
            (json!({"id": "1", "title": "a"}), "image_link"),
            (json!({"id": "1", "title": ["a"], "image_link": "a.jpg"}), "title"),
            (json!({"id": "1", "title": "a", "image_link": "a.jpg", "price": 5}), "price"),
            (json!({"id": "1", "title": "a", "image_link": "a.jpg", "product_type": "a > > b"}), "product_type"),
            (json!({"id": "1", "title": "a", "image_link": "a.jpg", "color": "x".repeat(257)}), "color"),
        ] {
            assert_eq!(product(row).unwrap_err().field, field);
        }
    }
}
