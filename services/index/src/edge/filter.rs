//! Filters in Qdrant's terms.

use std::ops::Bound;

use qdrant_edge::{
    Condition as EdgeCondition, FieldCondition, Filter, IsEmptyCondition, JsonPath, Match, Range,
    external::ordered_float::OrderedFloat,
};
use vitrine_core::{
    filter::{Condition, NumberRange, ResolvedFilter},
    index::IndexQuery,
    product::{AttributeType, Schema},
};

use super::point::{amount_key, key, point_id, under_key};

/// What a query leaves of a generation; `None` is everything.
pub(super) fn of_query(query: &IndexQuery, schema: &Schema) -> Option<Filter> {
    let excluded: Vec<_> = query.exclude.iter().map(point_id).collect();
    let wanted = query.filter.as_ref().map(|filter| condition(filter, schema));
    if excluded.is_empty() && wanted.is_none() {
        return None;
    }
    let excluded = (!excluded.is_empty()).then(|| vec![EdgeCondition::HasId(excluded.into_iter().collect())]);
    Some(Filter { must: wanted.map(|wanted| vec![wanted]), must_not: excluded, ..Filter::default() })
}

fn condition(filter: &ResolvedFilter, schema: &Schema) -> EdgeCondition {
    let each = |filters: &[ResolvedFilter]| filters.iter().map(|filter| condition(filter, schema)).collect::<Vec<_>>();
    match filter {
        ResolvedFilter::All(filters) if filters.is_empty() => always(),
        ResolvedFilter::All(filters) => {
            EdgeCondition::Filter(Filter { must: Some(each(filters)), ..Filter::default() })
        }
        ResolvedFilter::Any(filters) if filters.is_empty() => not(always()),
        ResolvedFilter::Any(filters) => any(each(filters)),
        ResolvedFilter::Not(filter) => not(condition(filter, schema)),
        ResolvedFilter::Is { attribute, condition } => is(attribute, condition, schema),
    }
}

fn is(attribute: &str, condition: &Condition, schema: &Schema) -> EdgeCondition {
    match condition {
        Condition::KeywordIn(texts) => matches(key(attribute), texts.clone()),
        Condition::PathIn(paths) => matches(key(attribute), paths.iter().map(ToString::to_string).collect::<Vec<_>>()),
        Condition::PathUnder(path) => matches(under_key(attribute), vec![path.to_string()]),
        Condition::IntegerIn(numbers) => matches(key(attribute), numbers.clone()),
        Condition::BoolIs(yes) => matches(key(attribute), *yes),
        Condition::Number(range) => within(key(attribute), *range),
        Condition::Amount(currency, range) => within(amount_key(attribute, *currency), *range),
        Condition::Exists => match schema.attributes.get(attribute) {
            // Money is indexed for each currency.
            Some(spec) if spec.kind == AttributeType::Money => {
                any(spec.currencies.iter().map(|currency| present(amount_key(attribute, *currency))).collect())
            }
            _ => present(key(attribute)),
        },
    }
}

fn matches(key: JsonPath, value: impl Into<Match>) -> EdgeCondition {
    EdgeCondition::Field(FieldCondition::new_match(key, value.into()))
}

fn within(key: JsonPath, range: NumberRange) -> EdgeCondition {
    let (gte, gt) = inclusive_and_exclusive(range.lower);
    let (lte, lt) = inclusive_and_exclusive(range.upper);
    EdgeCondition::Field(FieldCondition::new_range(key, Range { gte, gt, lte, lt }))
}

fn inclusive_and_exclusive(bound: Bound<f64>) -> (Option<OrderedFloat<f64>>, Option<OrderedFloat<f64>>) {
    match bound {
        Bound::Included(number) => (Some(OrderedFloat(number)), None),
        Bound::Excluded(number) => (None, Some(OrderedFloat(number))),
        Bound::Unbounded => (None, None),
    }
}

fn present(key: JsonPath) -> EdgeCondition {
    not(EdgeCondition::IsEmpty(IsEmptyCondition::from(key)))
}

fn any(conditions: Vec<EdgeCondition>) -> EdgeCondition {
    EdgeCondition::Filter(Filter { should: Some(conditions), ..Filter::default() })
}

fn not(condition: EdgeCondition) -> EdgeCondition {
    EdgeCondition::Filter(Filter { must_not: Some(vec![condition]), ..Filter::default() })
}

fn always() -> EdgeCondition {
    EdgeCondition::Filter(Filter::default())
}
