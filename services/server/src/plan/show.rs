//! A plan, for people and for programs.

#![expect(clippy::print_stdout, reason = "the answer is this command's output")]

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Map, Value as Json, json};
use vitrine_index::Quantisation;

use super::{
    advice::{notes, then},
    limits::{Breaking, Limit, Limits},
    model::{Bound, Plan},
};
use crate::{cli::PlanArguments, index::bytes};

/// Prints the plan for people.
pub(super) fn table(arguments: &PlanArguments, plan: &Plan, limits: &Limits) {
    println!("{}\n", asked(arguments));
    println!("{}\n", costs(arguments, plan));
    println!("{}\n", growth(plan, limits));
    println!("{} decides: {} machines", plan.decides.name(), grouped(plan.nodes));
    for (place, first) in [("on one machine", limits.first_on_one()), ("with this plan", limits.first())] {
        if let Some((what, products)) = first {
            let (name, then) = (what.name(), then(what, arguments, plan));
            println!("{place}, {name} breaks first, beyond {} products: {then}", products_shown(Some(products)));
        }
    }
    for note in notes(arguments, plan) {
        println!("{note}");
    }
    println!("by unit costs of one machine with two cores; prices are made up: docs/SCALE.md says what was measured");
}

/// Prints the same as one JSON object.
pub(super) fn json(arguments: &PlanArguments, plan: &Plan, limits: &Limits) {
    println!("{:#}", to_json(arguments, plan, limits));
}

fn to_json(arguments: &PlanArguments, plan: &Plan, limits: &Limits) -> Json {
    let nodes_by = Bound::ALL.map(|bound| (bound.name().to_owned(), json!(whole(plan.nodes_by.get(bound)))));
    let limit = |limit: &Limit| {
        json!({
            "what": limit.what.name(),
            "one_machine_products": limit.one_machine_products,
            "plan_products": limit.plan_products,
            "then": then(limit.what, arguments, plan),
        })
    };
    json!({
        "products": arguments.products,
        "parts": whole(plan.parts),
        "copies": arguments.replicas,
        "memory_bytes_open": whole(plan.memory_bytes_open),
        "memory_bytes_pinned": whole(plan.memory_bytes_pinned),
        "memory_bytes_total": whole(plan.memory_bytes_total),
        "disk_bytes_generation": whole(plan.disk_bytes_generation),
        "disk_bytes_total": whole(plan.disk_bytes_total),
        "load_embed_cpu_hours": plan.load.embed_cpu,
        "load_add_cpu_hours": plan.load.add_cpu,
        "load_graph_cpu_hours": plan.load.graph_cpu,
        "load_hours": plan.load.elapsed,
        "query_embed_cpu_ms": plan.query.embed_cpu_ms,
        "query_index_cpu_ms": plan.query.index_cpu_ms,
        "queries_per_core_second": plan.query.per_core_second,
        "query_core_share": plan.query.core_share,
        "query_p99_ms": plan.query.p99_ms,
        "nodes": whole(plan.nodes),
        "nodes_by": Json::Object(Map::from_iter(nodes_by)),
        "decides": plan.decides.name(),
        "money_per_month": plan.money_per_month,
        "limits": limits.0.iter().map(limit).collect::<Vec<_>>(),
        "breaks_first": limits.first().map(|(what, _)| what.name()),
        "notes": notes(arguments, plan),
    })
}

fn asked(arguments: &PlanArguments) -> String {
    let quantisation = match arguments.quantisation {
        Quantisation::None => "not quantised",
        Quantisation::Int8 => "int8",
        Quantisation::Binary => "binary",
        Quantisation::Product => "product quantisation",
    };
    let PlanArguments { dimensions, pictures_per_product: pictures, replicas, queries_per_second, p99_ms, .. } =
        arguments;
    let products = grouped(arguments.products.into());
    let pictures = if *pictures == 1 { "1 picture each".to_owned() } else { format!("{pictures} pictures each") };
    let copies = if *replicas == 1 { "1 copy".to_owned() } else { format!("{replicas} copies") };
    format!(
        "{products} products, {pictures}, {dimensions} dimensions, {quantisation}; {copies}; \
         {queries_per_second} searches a second, p99 of {p99_ms} ms"
    )
}

fn costs(arguments: &PlanArguments, plan: &Plan) -> Table {
    let size = |size: f64| bytes(whole(size));
    let mut table = Table::new();
    table.load_style(NOTHING);
    let (load, query) = (&plan.load, &plan.query);
    for (what, figure) in [
        ("memory of one generation, open", size(plan.memory_bytes_open)),
        ("  that cannot be read again", size(plan.memory_bytes_pinned)),
        ("memory in all, while a load runs", size(plan.memory_bytes_total)),
        ("disk of one generation", size(plan.disk_bytes_generation)),
        ("disk in all, while a load runs", size(plan.disk_bytes_total)),
        ("parts of a copy", grouped(plan.parts)),
        ("CPU hours of a load: embedding", rounded(load.embed_cpu)),
        ("  adding, in all copies", rounded(load.add_cpu)),
        ("  graphs, in all copies", rounded(load.graph_cpu)),
        ("hours of a load", rounded(load.elapsed)),
        ("CPU of a search: model", format!("{} ms", rounded(query.embed_cpu_ms))),
        ("  index, all parts", format!("{} ms", rounded(query.index_cpu_ms))),
        ("searches a second, of a core", rounded(query.per_core_second)),
        ("p99 of the dearest kind", format!("{:.0} ms, cores {:.0} % busy", query.p99_ms, 100.0 * query.core_share)),
        ("machines", grouped(plan.nodes)),
        ("money a month", format!("{} at {}", grouped(plan.money_per_month), prices(arguments))),
    ] {
        table.add_row([what.to_owned(), figure]);
    }
    table
}

fn prices(arguments: &PlanArguments) -> String {
    format!(
        "{} a GiB of memory, {} a core, {} a GiB of disk",
        arguments.memory_price_per_gib_month, arguments.core_price_per_month, arguments.disk_price_per_gib_month
    )
}

fn growth(plan: &Plan, limits: &Limits) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "machines", "one machine holds", "this plan holds"]);
    let mut row = |name: &str, nodes: String, limit: Option<&Limit>| {
        let shown =
            |products: fn(&Limit) -> Option<u32>| limit.map_or_else(String::new, |l| products_shown(products(l)));
        table.add_row([name, &nodes, &shown(|l| l.one_machine_products), &shown(|l| l.plan_products)]);
    };
    for bound in Bound::ALL {
        row(bound.name(), grouped(plan.nodes_by.get(bound)), limits.of_what(Breaking::Machines(bound)));
    }
    row(Breaking::Latency.name(), String::new(), limits.of_what(Breaking::Latency));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A limit for people: three digits of it.
fn products_shown(products: Option<u32>) -> String {
    let Some(products) = products else { return "4 billion and more".to_owned() };
    let scale = 10_u32.pow(products.checked_ilog10().unwrap_or_default().saturating_sub(2));
    grouped((products / scale * scale).into())
}

/// A number for people: `12,345`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number for people, with two digits behind the point where it is small.
fn rounded(number: f64) -> String {
    if number >= 100.0 { grouped(number) } else { format!("{number:.2}") }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and bytes are above zero, and what is beyond 64 bits is shown as their largest number"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::arguments;

    #[test]
    fn numbers_are_shown_in_groups_of_three() {
        for (number, shown) in [(0.0, "0"), (999.0, "999"), (1000.0, "1,000"), (1_234_567.4, "1,234,567")] {
            assert_eq!(grouped(number), shown);
        }
        assert_eq!((rounded(0.126), rounded(1234.5)), ("0.13".to_owned(), "1,234".to_owned()));
        assert_eq!(products_shown(Some(12_345_678)), "12,300,000");
        assert_eq!((products_shown(Some(0)), products_shown(Some(99))), ("0".to_owned(), "99".to_owned()));
        assert_eq!(products_shown(None), "4 billion and more");
    }

    #[test]
    fn the_table_has_every_bound_and_its_limits() {
        let arguments = arguments("--products 1000000");
        let plan = Plan::of(&arguments);
        let table = growth(&plan, &Limits::of(&arguments, &plan)).to_string();
        for bound in ["copies", "memory", "disk", "queries", "load", "latency"] {
            assert!(table.lines().any(|line| line.trim_start().starts_with(bound)), "{table}");
        }
    }
}
