//! Filters over the payload, before they are put in the types of one Qdrant or the other.

use std::ops::Bound;

use uuid::Uuid;
use vitrine_core::{
    filter::{Condition, NumberRange, ResolvedFilter},
    index::IndexQuery,
    product::{AttributeType, Schema},
};

use crate::payload::{amount_key, key, point_id, under_key};

/// What a point must be like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Clause {
    /// Every one holds; all points, if there is none.
    All(Vec<Clause>),
    /// At least one holds; never empty.
    Any(Vec<Clause>),
    /// This does not hold.
    Not(Box<Clause>),
    /// One of the texts at the key is one of these.
    Texts(String, Vec<String>),
    /// The number at the key is one of these.
    Integers(String, Vec<i64>),
    /// What is at the key.
    Bool(String, bool),
    /// The number at the key is within.
    Range(String, Limits),
    /// There is nothing at the key.
    Empty(String),
    /// It is one of these points.
    Ids(Vec<Uuid>),
}

/// A range as Qdrant says it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) gte: Option<f64>,
    pub(crate) gt: Option<f64>,
    pub(crate) lte: Option<f64>,
    pub(crate) lt: Option<f64>,
}

impl From<NumberRange> for Limits {
    fn from(range: NumberRange) -> Self {
        let split = |bound| match bound {
            Bound::Included(number) => (Some(number), None),
            Bound::Excluded(number) => (None, Some(number)),
            Bound::Unbounded => (None, None),
        };
        let ((gte, gt), (lte, lt)) = (split(range.lower), split(range.upper));
        Self { gte, gt, lte, lt }
    }
}

impl Clause {
    /// The clauses that must all hold: this one, or its parts.
    pub(crate) fn required(&self) -> Vec<&Self> {
        if let Self::All(clauses) = self { clauses.iter().flat_map(Self::required).collect() } else { vec![self] }
    }

    /// Whether it asks for one text at this key.
    pub(crate) fn is_one_text(&self, at: Option<&str>) -> bool {
        matches!(self, Self::Texts(key, texts) if Some(key.as_str()) == at && texts.len() == 1)
    }

    /// Whether it only leaves out some points by name.
    pub(crate) fn leaves_out_points(&self) -> bool {
        matches!(self, Self::Not(clause) if matches!(**clause, Self::Ids(_)))
    }

    /// The same where every point has something at the keys that are complete: nothing is looked for that is nowhere.
    pub(crate) fn without_empty<E>(self, is_complete: &impl Fn(&str) -> Result<bool, E>) -> Result<Self, E> {
        let each = |clauses: Vec<Self>| clauses.into_iter().map(|clause| clause.without_empty(is_complete));
        match self {
            Self::All(clauses) => Ok(Self::All(each(clauses).collect::<Result<_, _>>()?)),
            Self::Any(clauses) => {
                let nothing = not(Self::All(Vec::new()));
                let clauses = each(clauses).filter(|clause| clause.as_ref().ok() != Some(&nothing));
                Ok(any(clauses.collect::<Result<_, _>>()?))
            }
            Self::Not(clause) => Ok(not(clause.without_empty(is_complete)?)),
            Self::Empty(key) if is_complete(&key)? => Ok(not(Self::All(Vec::new()))),
            leaf @ (Self::Texts(..)
            | Self::Integers(..)
            | Self::Bool(..)
            | Self::Range(..)
            | Self::Empty(_)
            | Self::Ids(_)) => Ok(leaf),
        }
    }
}

/// What a query leaves of a generation; `None` is everything. Takes the filter out of the query: its lists may be long.
pub(crate) fn of_query(query: &mut IndexQuery, schema: &Schema) -> Option<Clause> {
    let excluded = (!query.exclude.is_empty()).then(|| not(Clause::Ids(query.exclude.iter().map(point_id).collect())));
    let filter = query.filter.take().map(|filter| clause(filter, schema));
    match (filter, excluded) {
        (filter, None) => filter,
        (None, excluded) => excluded,
        (Some(filter), Some(excluded)) => Some(all(vec![filter, excluded])),
    }
}

/// Every one, whatever they require joined in one list: Qdrant looks again at what passes a list within a list.
fn all(clauses: Vec<Clause>) -> Clause {
    let mut joined = Vec::with_capacity(clauses.len());
    for clause in clauses {
        if let Clause::All(parts) = clause { joined.extend(parts) } else { joined.push(clause) }
    }
    match <[Clause; 1]>::try_from(joined) {
        Ok([only]) => only,
        Err(joined) => Clause::All(joined),
    }
}

fn clause(filter: ResolvedFilter, schema: &Schema) -> Clause {
    let each = |filters: Vec<ResolvedFilter>| filters.into_iter().map(|filter| clause(filter, schema)).collect();
    match filter {
        ResolvedFilter::All(filters) => all(each(filters)),
        ResolvedFilter::Any(filters) => any(each(filters)),
        ResolvedFilter::Not(filter) => {
            let within = clause(*filter, schema);
            if let Clause::Range(key, limits) = within { outside(key, limits) } else { not(within) }
        }
        ResolvedFilter::Is { attribute, condition } => is(&attribute, condition, schema),
    }
}

fn is(attribute: &str, condition: Condition, schema: &Schema) -> Clause {
    match condition {
        Condition::KeywordIn(texts) => Clause::Texts(key(attribute), texts),
        Condition::PathIn(paths) => Clause::Texts(key(attribute), paths.iter().map(ToString::to_string).collect()),
        Condition::PathUnder(path) => Clause::Texts(under_key(attribute), vec![path.to_string()]),
        Condition::IntegerIn(numbers) => Clause::Integers(key(attribute), numbers),
        Condition::BoolIs(yes) => Clause::Bool(key(attribute), yes),
        Condition::Number(range) => Clause::Range(key(attribute), range.into()),
        Condition::Amount(currency, range) => Clause::Range(amount_key(attribute, currency), range.into()),
        Condition::Exists => match schema.attributes.get(attribute) {
            // Money is indexed for each currency.
            Some(spec) if spec.kind == AttributeType::Money => {
                any(spec.currencies.iter().map(|currency| present(amount_key(attribute, *currency))).collect())
            }
            _ => present(key(attribute)),
        },
    }
}

fn present(key: String) -> Clause {
    not(Clause::Empty(key))
}

/// Not within: below, above, or nothing there. For that, an index knows where to look; for what does not hold, Qdrant
/// looks at every point.
fn outside(key: String, limits: Limits) -> Clause {
    let Limits { gte, gt, lte, lt } = limits;
    let below = Limits { lt: gte, lte: gt, ..Limits::default() };
    let above = Limits { gt: lte, gte: lt, ..Limits::default() };
    let ranges = [below, above].into_iter().filter(|limits| *limits != Limits::default());
    let ranges: Vec<_> = ranges.map(|limits| Clause::Range(key.clone(), limits)).collect();
    Clause::Any(ranges.into_iter().chain([Clause::Empty(key)]).collect())
}

/// At least one; without any, nothing.
fn any(clauses: Vec<Clause>) -> Clause {
    if clauses.is_empty() { not(Clause::All(Vec::new())) } else { Clause::Any(clauses) }
}

fn not(clause: Clause) -> Clause {
    if let Clause::Not(clause) = clause { *clause } else { Clause::Not(Box::new(clause)) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use vitrine_core::product::ProductId;

    use super::*;

    #[test]
    fn what_is_not_within_a_range_is_below_above_or_nothing() {
        let within = |lower, upper| ResolvedFilter::Is {
            attribute: "stock".to_owned(),
            condition: Condition::Number(NumberRange { lower, upper }),
        };
        let not = |lower, upper| clause(ResolvedFilter::Not(Box::new(within(lower, upper))), &Schema::default());
        let range = |limits| Clause::Range("a.stock".to_owned(), limits);
        let below = Limits { lt: Some(2.0), ..Limits::default() };
        let above = Limits { gte: Some(5.0), ..Limits::default() };
        let empty = Clause::Empty("a.stock".to_owned());
        assert_eq!(
            not(Bound::Included(2.0), Bound::Excluded(5.0)),
            Clause::Any(vec![range(below), range(above), empty.clone()])
        );
        assert_eq!(not(Bound::Unbounded, Bound::Excluded(5.0)), Clause::Any(vec![range(above), empty]));
    }

    #[test]
    fn what_is_required_is_one_list_or_the_only_clause() {
        let is = |attribute: &str| ResolvedFilter::Is {
            attribute: attribute.to_owned(),
            condition: Condition::BoolIs(true),
        };
        let bool = |attribute: &str| Clause::Bool(key(attribute), true);
        let nested = |parts: [ResolvedFilter; 2]| ResolvedFilter::All(vec![ResolvedFilter::All(parts.into())]);
        let query = |filter, exclude: &[ProductId]| {
            let (vectors, exclude) = (Vec::new(), exclude.to_vec());
            let mut query =
                IndexQuery { vectors, keywords: None, filter, exclude, offset: 0, limit: 10, score_min: None };
            of_query(&mut query, &Schema::default())
        };
        let id = ProductId::new("7", "id").unwrap();
        let other = not(Clause::Ids(vec![point_id(&id)]));
        let exclude = [id];
        assert_eq!(query(None, &[]), None);
        assert_eq!(query(Some(ResolvedFilter::All(vec![is("new")])), &[]), Some(bool("new")));
        assert_eq!(query(None, &exclude), Some(other.clone()));
        let both = Clause::All(vec![bool("new"), bool("sale"), other]);
        assert_eq!(query(Some(nested([is("new"), is("sale")])), &exclude), Some(both));
    }

    #[test]
    fn what_is_empty_nowhere_is_not_looked_for() {
        let empty = |key: &str| Clause::Empty(key.to_owned());
        let range = || Clause::Range("stock".to_owned(), Limits::default());
        let nothing = || not(Clause::All(Vec::new()));
        for (clause, expected) in [
            (Clause::Any(vec![range(), empty("stock")]), Clause::Any(vec![range()])),
            (Clause::Any(vec![range(), empty("brand")]), Clause::Any(vec![range(), empty("brand")])),
            (Clause::Any(vec![empty("stock")]), nothing()),
            (Clause::All(vec![range(), not(empty("stock"))]), Clause::All(vec![range(), Clause::All(Vec::new())])),
        ] {
            let without = clause.clone().without_empty(&|key| Ok::<_, Infallible>(key == "stock"));
            assert_eq!(without, Ok(expected), "{clause:?}");
        }
    }
}
