//! Filters in the client's types.

use qdrant_client::qdrant::{Condition, Filter, HasIdCondition, PointId, Range, condition::ConditionOneOf};

use crate::filter::{Clause, Limits};

/// A clause as a filter.
pub(super) fn to_filter(clause: Clause) -> Filter {
    let each = |clauses: Vec<Clause>| clauses.into_iter().map(to_condition).collect::<Vec<_>>();
    match clause {
        // No condition at all is one that always holds.
        Clause::All(clauses) => Filter { must: each(clauses), ..Filter::default() },
        Clause::Any(clauses) => Filter { should: each(clauses), ..Filter::default() },
        Clause::Not(clause) => Filter { must_not: vec![to_condition(*clause)], ..Filter::default() },
        leaf @ (Clause::Texts(..)
        | Clause::Integers(..)
        | Clause::Bool(..)
        | Clause::Range(..)
        | Clause::Empty(_)
        | Clause::Ids(_)) => Filter { must: vec![to_condition(leaf)], ..Filter::default() },
    }
}

fn to_condition(clause: Clause) -> Condition {
    match clause {
        Clause::Texts(key, texts) => Condition::matches(key, texts),
        Clause::Integers(key, numbers) => Condition::matches(key, numbers),
        Clause::Bool(key, yes) => Condition::matches(key, yes),
        Clause::Range(key, Limits { gte, gt, lte, lt }) => Condition::range(key, Range { lt, gt, gte, lte }),
        Clause::Empty(key) => Condition::is_empty(key),
        Clause::Ids(ids) => {
            let has_id = ids.into_iter().map(|id| PointId::from(id.to_string())).collect();
            Condition { condition_one_of: Some(ConditionOneOf::HasId(HasIdCondition { has_id })) }
        }
        tree @ (Clause::All(_) | Clause::Any(_) | Clause::Not(_)) => {
            Condition { condition_one_of: Some(ConditionOneOf::Filter(to_filter(tree))) }
        }
    }
}
