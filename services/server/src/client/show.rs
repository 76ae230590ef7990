//! An answer for people, and for programs.

#![expect(clippy::print_stdout, reason = "the answer is this command's output")]

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use serde_json::{Map, Value as Json, json};
use vitrine_core::product::Money as Amount;
use vitrine_proto::v1::{MatchTarget, Money, Product, SearchResponse, SearchResult, Value, value::Kind};

/// Prints a table, and where the time went.
pub(super) fn table(response: &SearchResponse) {
    if response.results.is_empty() {
        println!("no product matches");
    } else {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["", "score", "id", "title", "brand", "price", "type", "availability"]);
        for (rank, result) in response.results.iter().enumerate() {
            table.add_row(row(rank + 1, result));
        }
        for column in table.column_iter_mut().take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }
    let timings = response.timings.unwrap_or_default();
    let millis = |duration: Option<prost_types::Duration>| {
        let duration = duration.unwrap_or_default();
        f64::from(duration.nanos) / 1e6 + f64::from(i32::try_from(duration.seconds).unwrap_or(i32::MAX)) * 1e3
    };
    println!(
        "{} products in {:.1} ms (embedding {:.1}, index {:.1}), generation {}",
        response.results.len(),
        millis(timings.total),
        millis(timings.embedding),
        millis(timings.index),
        response.generation,
    );
    if !response.next_page_token.is_empty() {
        println!("next page: --page-token {}", response.next_page_token);
    }
}

fn row(rank: usize, result: &SearchResult) -> [String; 8] {
    let product = result.product.clone().unwrap_or_default();
    let price = match (&product.price, &product.sale_price) {
        (Some(price), Some(sale)) => format!("{} (was {})", amount(sale), amount(price)),
        (Some(price), None) => amount(price),
        (None, _) => String::new(),
    };
    let Product { id, title, brand, product_type, availability, .. } = product;
    [rank.to_string(), format!("{:.3}", result.score), id, title, brand, price, product_type, availability]
}

/// Prints the answer as one JSON object, in the contract's names; fields that are empty are left out.
pub(super) fn json(response: &SearchResponse) {
    let results: Vec<Json> = response.results.iter().map(result).collect();
    let answer = json!({
        "results": results,
        "next_page_token": response.next_page_token,
        "generation": response.generation,
    });
    println!("{answer:#}");
}

fn result(result: &SearchResult) -> Json {
    let reasons: Vec<Json> = result
        .reasons
        .iter()
        .map(|reason| {
            let target = match reason.target() {
                MatchTarget::Image => "image",
                MatchTarget::Text => "text",
                MatchTarget::Keywords => "keywords",
                MatchTarget::Unspecified => "unspecified",
            };
            without_empty([
                ("target", json!(target)),
                ("similarity", json!(reason.similarity)),
                ("image_link", json!(reason.image_link)),
            ])
        })
        .collect();
    let product = result.product.clone().unwrap_or_default();
    json!({ "score": result.score, "product": self::product(product), "reasons": reasons })
}

fn product(product: Product) -> Json {
    let attributes: Map<String, Json> = product.attributes.into_iter().map(|(name, own)| (name, value(own))).collect();
    let money = |money: Option<Money>| json!(money.as_ref().map(amount));
    without_empty([
        ("id", json!(product.id)),
        ("title", json!(product.title)),
        ("description", json!(product.description)),
        ("link", json!(product.link)),
        ("image_link", json!(product.image_link)),
        ("additional_image_links", json!(product.additional_image_links)),
        ("availability", json!(product.availability)),
        ("price", money(product.price)),
        ("sale_price", money(product.sale_price)),
        ("brand", json!(product.brand)),
        ("gtin", json!(product.gtin)),
        ("product_type", json!(product.product_type)),
        ("google_product_category", json!(product.google_product_category)),
        ("condition", json!(product.condition)),
        ("color", json!(product.color)),
        ("size", json!(product.size)),
        ("material", json!(product.material)),
        ("pattern", json!(product.pattern)),
        ("gender", json!(product.gender)),
        ("age_group", json!(product.age_group)),
        ("item_group_id", json!(product.item_group_id)),
        ("attributes", Json::Object(attributes)),
    ])
}

fn value(value: Value) -> Json {
    match value.kind {
        None => Json::Null,
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::IntValue(number)) => json!(number),
        Some(Kind::DoubleValue(number)) => json!(number),
        Some(Kind::BoolValue(yes)) => json!(yes),
        Some(Kind::MoneyValue(money)) => json!(amount(&money)),
        Some(Kind::StringListValue(list)) => json!(list.values),
    }
}

/// An amount as the feed writes it: `19.90 EUR`.
fn amount(money: &Money) -> String {
    match money.currency_code.parse() {
        Ok(currency) => Amount { amount_micros: money.amount_micros, currency }.to_string(),
        Err(_) => format!("{} micros", money.amount_micros),
    }
}

fn without_empty<const N: usize>(fields: [(&str, Json); N]) -> Json {
    let empty = |value: &Json| match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(values) => values.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        Json::Bool(_) | Json::Number(_) => false,
    };
    fields.into_iter().filter(|(_, value)| !empty(value)).map(|(name, value)| (name.to_owned(), value)).collect()
}
