//! A filter as it is written, to one that the index can run.

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
};

use criterion::{BenchmarkId, Criterion};
use vitrine_core::{
    filter::parse,
    product::{AttributeSpec, Schema, standard_attribute},
};

use crate::group;

pub(crate) const FILTER: &str = r#"price < 50 AND brand = "Daybird" AND NOT color IN ("red", "blue")"#;
/// Values in the longer one.
const VALUES: usize = 200;

pub(crate) fn bench(criterion: &mut Criterion) {
    let values: Vec<_> = (0..VALUES).map(|number| format!("\"Brand {number}\"")).collect();
    let long = format!("brand IN ({}) AND product_type UNDER \"Home > Sofas\"", values.join(", "));
    let mut group = group(criterion, "filter");
    for (size, expression) in [("3 conditions", FILTER), ("200 values", long.as_str())] {
        group.bench_function(BenchmarkId::new("parse", size), |bench| {
            bench.iter(|| parse(black_box(expression)).unwrap());
        });
        let (filter, schema) = (parse(expression).unwrap(), schema());
        group.bench_function(BenchmarkId::new("resolve", size), |bench| {
            bench.iter(|| black_box(&filter).resolve(&schema).unwrap());
        });
    }
    group.finish();
}

/// A shop's attributes, with prices in euros.
pub(crate) fn schema() -> Schema {
    let attributes = ["availability", "brand", "color", "price", "product_type"].map(|name| {
        let currencies = if name == "price" { BTreeSet::from(["EUR".parse().unwrap()]) } else { BTreeSet::new() };
        (name.to_owned(), AttributeSpec { kind: standard_attribute(name).unwrap(), currencies })
    });
    Schema { attributes: BTreeMap::from(attributes) }
}
