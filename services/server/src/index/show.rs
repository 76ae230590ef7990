//! Catalogues and generations, for people and for programs.

#![expect(clippy::print_stdout, reason = "the answer is this command's output")]

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use serde_json::{Map, Value as Json, json};
use vitrine_core::{Chain, generations::KeptGeneration, product::CatalogName};

type Catalogs = BTreeMap<CatalogName, Vec<KeptGeneration>>;

/// Digits of a model's fingerprint that tell it from others.
const FINGERPRINT_DIGITS: usize = 12;

/// Prints a table of all generations.
pub(super) fn list(catalogs: &Catalogs, place: &str) {
    if catalogs.is_empty() {
        println!("there is no catalogue in {place}");
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["catalogue", "", "generation", "products", "dimensions", "size", "model"]);
    for (catalog, generations) in catalogs {
        for kept in generations {
            let (products, dimensions, model) = match &kept.info {
                Ok(info) => {
                    let model = info.model.fingerprint.chars().take(FINGERPRINT_DIGITS).collect();
                    (info.products.to_string(), info.model.dimensions.to_string(), model)
                }
                Err(error) => (String::new(), String::new(), Chain(error).to_string()),
            };
            let (serves, size) = (if kept.serves { "*" } else { "" }, kept.disk_bytes.map(bytes).unwrap_or_default());
            table.add_row([catalog.as_str(), serves, &kept.id, &products, &dimensions, &size, &model]);
        }
    }
    for column in table.column_iter_mut().skip(3).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// Prints the same as one JSON object.
pub(super) fn list_json(catalogs: &Catalogs) {
    let catalogs: Vec<Json> = catalogs
        .iter()
        .map(|(catalog, kept)| {
            let serving = kept.iter().find(|kept| kept.serves).map(|kept| &kept.id);
            let generations: Vec<Json> = kept.iter().map(|kept| Json::Object(to_json(kept))).collect();
            json!({ "catalog": catalog.as_str(), "serving": serving, "generations": generations })
        })
        .collect();
    println!("{:#}", json!({ "catalogs": catalogs }));
}

/// Prints all that is known of a generation.
pub(super) fn info(catalog: &CatalogName, kept: &KeptGeneration) {
    println!("catalogue    {catalog}");
    println!("generation   {}", kept.id);
    println!("serves       {}", if kept.serves { "yes" } else { "no" });
    println!("place        {}", kept.place);
    if let Some(size) = kept.disk_bytes {
        println!("size         {}", bytes(size));
    }
    match &kept.info {
        Err(error) => println!("problem      {}", Chain(error)),
        Ok(info) => {
            println!("products     {}", info.products);
            println!("model        {}", info.model.fingerprint);
            println!("dimensions   {}", info.model.dimensions);
            println!("attributes");
            for (name, spec) in &info.schema.attributes {
                let currencies: Vec<_> = spec.currencies.iter().map(ToString::to_string).collect();
                println!("  {name:<24} {} {}", spec.kind, currencies.join(", "));
            }
        }
    }
}

/// Prints the same as one JSON object.
pub(super) fn info_json(catalog: &CatalogName, kept: &KeptGeneration) {
    let mut object = to_json(kept);
    object.insert("catalog".to_owned(), json!(catalog.as_str()));
    if let Ok(info) = &kept.info {
        object.insert("schema".to_owned(), json!(info.schema));
    }
    println!("{:#}", Json::Object(object));
}

fn to_json(kept: &KeptGeneration) -> Map<String, Json> {
    let fields = [
        ("generation", json!(kept.id)),
        ("serves", json!(kept.serves)),
        ("products", json!(kept.info.as_ref().ok().map(|info| info.products))),
        ("model_fingerprint", json!(kept.info.as_ref().ok().map(|info| &info.model.fingerprint))),
        ("dimensions", json!(kept.info.as_ref().ok().map(|info| info.model.dimensions))),
        ("disk_bytes", json!(kept.disk_bytes)),
        ("place", json!(kept.place)),
        ("problem", json!(kept.info.as_ref().err().map(|error| Chain(error).to_string()))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A size for people: `12.3 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        None => format!("{bytes} B"),
        Some((size, unit)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_units_of_a_thousand() {
        for (size, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (1 << 32, "4.2 GB"),
            (1 << 42, "4.3 TB"),
        ] {
            assert_eq!(bytes(size), shown);
        }
    }
}
