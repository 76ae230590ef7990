//! Answers in the contract's types.

use std::time::Duration;

use vitrine_core::{
    index::{Hit, Similarity, Target},
    product::{AttributeValue, Money, Product},
    search::SearchResponse,
};
use vitrine_proto::v1 as pb;

pub(super) fn search_response(response: &SearchResponse) -> pb::SearchResponse {
    pb::SearchResponse {
        results: response.hits.iter().map(result).collect(),
        next_page_token: response.next_page_token.clone().unwrap_or_default(),
        generation: response.generation.clone(),
        timings: Some(pb::SearchTimings {
            embedding: Some(duration(response.timings.embedding)),
            index: Some(duration(response.timings.index)),
            total: Some(duration(response.timings.total)),
        }),
    }
}

fn result(hit: &Hit) -> pb::SearchResult {
    let reason = |similarity: &Similarity| {
        let image_link = similarity.picture.and_then(|picture| hit.product.image_links.get(picture).cloned());
        pb::MatchReason {
            target: match similarity.target {
                Target::Image => pb::MatchTarget::Image,
                Target::Text => pb::MatchTarget::Text,
            }
            .into(),
            similarity: similarity.cosine,
            image_link: image_link.unwrap_or_default(),
        }
    };
    let keywords = hit.keywords.map(|similarity| pb::MatchReason {
        target: pb::MatchTarget::Keywords.into(),
        similarity,
        image_link: String::new(),
    });
    pb::SearchResult {
        product: Some(product(hit.product.clone())),
        score: hit.score,
        reasons: hit.similarities.iter().map(reason).chain(keywords).collect(),
    }
}

pub(super) fn product(mut product: Product) -> pb::Product {
    let mut text = |name: &str| product.attributes.remove(name).map(|value| value.to_string()).unwrap_or_default();
    let mut answer = pb::Product {
        availability: text("availability"),
        brand: text("brand"),
        gtin: text("gtin"),
        product_type: text("product_type"),
        google_product_category: text("google_product_category"),
        condition: text("condition"),
        color: text("color"),
        size: text("size"),
        material: text("material"),
        pattern: text("pattern"),
        gender: text("gender"),
        age_group: text("age_group"),
        item_group_id: text("item_group_id"),
        ..pb::Product::default()
    };
    let mut amount = |name: &str| match product.attributes.remove(name) {
        Some(AttributeValue::Money(amount)) => Some(money(amount)),
        _ => None,
    };
    (answer.price, answer.sale_price) = (amount("price"), amount("sale_price"));
    answer.id = product.id.to_string();
    answer.title = product.title;
    answer.description = product.description;
    answer.link = product.link;
    let mut pictures = product.image_links.into_iter();
    answer.image_link = pictures.next().unwrap_or_default();
    answer.additional_image_links = pictures.collect();
    answer.attributes = product.attributes.into_iter().map(|(name, own)| (name, value(own))).collect();
    answer
}

fn value(value: AttributeValue) -> pb::Value {
    use pb::value::Kind;
    let kind = match value {
        AttributeValue::Keyword(text) | AttributeValue::Prose(text) => Kind::StringValue(text),
        AttributeValue::Keywords(values) => Kind::StringListValue(pb::StringList { values }),
        AttributeValue::Path(path) => Kind::StringValue(path.to_string()),
        AttributeValue::Integer(number) => Kind::IntValue(number),
        AttributeValue::Decimal(number) => Kind::DoubleValue(number),
        AttributeValue::Bool(yes) => Kind::BoolValue(yes),
        AttributeValue::Money(amount) => Kind::MoneyValue(money(amount)),
    };
    pb::Value { kind: Some(kind) }
}

fn money(money: Money) -> pb::Money {
    pb::Money { currency_code: money.currency.to_string(), amount_micros: money.amount_micros }
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
