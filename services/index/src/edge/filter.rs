//! Filters in Qdrant Edge's types.

use qdrant_edge::{
    Condition, FieldCondition, Filter, IsEmptyCondition, Match, PointId, Range, external::ordered_float::OrderedFloat,
};

use super::point::path;
use crate::filter::{Clause, Limits};

/// A clause as a filter.
pub(super) fn to_filter(clause: Clause) -> Filter {
    let each = |clauses: Vec<Clause>| Some(clauses.into_iter().map(to_condition).collect());
    match clause {
        // No condition at all is one that always holds.
        Clause::All(clauses) if clauses.is_empty() => Filter::default(),
        Clause::All(clauses) => Filter { must: each(clauses), ..Filter::default() },
        Clause::Any(clauses) => Filter { should: each(clauses), ..Filter::default() },
        Clause::Not(clause) => Filter { must_not: Some(vec![to_condition(*clause)]), ..Filter::default() },
        leaf @ (Clause::Texts(..)
        | Clause::Integers(..)
        | Clause::Bool(..)
        | Clause::Range(..)
        | Clause::Empty(_)
        | Clause::Ids(_)) => Filter { must: Some(vec![to_condition(leaf)]), ..Filter::default() },
    }
}

fn to_condition(clause: Clause) -> Condition {
    match clause {
        Clause::Texts(key, texts) => match <[String; 1]>::try_from(texts) {
            Ok([text]) => matches(&key, text.into()),
            Err(texts) => matches(&key, texts.into()),
        },
        Clause::Integers(key, numbers) => matches(&key, numbers.into()),
        Clause::Bool(key, yes) => matches(&key, yes.into()),
        Clause::Range(key, limits) => Condition::Field(FieldCondition::new_range(path(&key), to_range(limits))),
        Clause::Empty(key) => Condition::IsEmpty(IsEmptyCondition::from(path(&key))),
        Clause::Ids(ids) => Condition::HasId(ids.into_iter().map(PointId::Uuid).collect()),
        tree @ (Clause::All(_) | Clause::Any(_) | Clause::Not(_)) => Condition::Filter(to_filter(tree)),
    }
}

fn matches(key: &str, value: Match) -> Condition {
    Condition::Field(FieldCondition::new_match(path(key), value))
}

fn to_range(limits: Limits) -> Range<OrderedFloat<f64>> {
    let Limits { gte, gt, lte, lt } = limits;
    let ordered = |limit: Option<f64>| limit.map(OrderedFloat);
    Range { gte: ordered(gte), gt: ordered(gt), lte: ordered(lte), lt: ordered(lt) }
}
