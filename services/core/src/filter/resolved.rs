//! Filters whose every value has its attribute's type.

use std::ops::Bound;

use serde::Serialize;

use super::{Filter, FilterValue};
use crate::{
    Invalid,
    product::{AttributeSpec, AttributeType, CategoryPath, Currency, Schema},
};

/// A filter that fits the schema of one generation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum ResolvedFilter {
    /// Every one holds.
    All(Vec<ResolvedFilter>),
    /// At least one holds.
    Any(Vec<ResolvedFilter>),
    /// This does not hold.
    Not(Box<ResolvedFilter>),
    /// The attribute meets the condition.
    Is {
        /// Name of the attribute, which the schema declares.
        attribute: String,
        /// What its value must be.
        condition: Condition,
    },
}

/// What the value of one attribute must be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Condition {
    /// [`AttributeType::Keyword`]: one of these.
    KeywordIn(Vec<String>),
    /// [`AttributeType::Path`]: exactly one of these.
    PathIn(Vec<CategoryPath>),
    /// [`AttributeType::Path`]: this or below it.
    PathUnder(CategoryPath),
    /// [`AttributeType::Integer`]: one of these.
    IntegerIn(Vec<i64>),
    /// [`AttributeType::Bool`].
    BoolIs(bool),
    /// [`AttributeType::Integer`] or [`AttributeType::Decimal`]: in this range.
    Number(NumberRange),
    /// [`AttributeType::Money`]: in this currency and in this range of its units.
    Amount(Currency, NumberRange),
    /// Any value.
    Exists,
}

/// A range of numbers. Amounts of money are in micros.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NumberRange {
    /// Where it begins; finite.
    pub lower: Bound<f64>,
    /// Where it ends; finite.
    pub upper: Bound<f64>,
}

impl NumberRange {
    fn exactly(number: f64) -> Self {
        Self { lower: Bound::Included(number), upper: Bound::Included(number) }
    }
}

pub(super) fn resolve(filter: &Filter, schema: &Schema) -> Result<ResolvedFilter, Invalid> {
    let all = |filters: &[Filter]| filters.iter().map(|filter| resolve(filter, schema)).collect::<Result<_, _>>();
    let is = |attribute: &str, condition| ResolvedFilter::Is { attribute: attribute.to_owned(), condition };
    match filter {
        Filter::All(filters) => all(filters).map(ResolvedFilter::All),
        Filter::Any(filters) => all(filters).map(ResolvedFilter::Any),
        Filter::Not(filter) => Ok(ResolvedFilter::Not(Box::new(resolve(filter, schema)?))),
        Filter::Exists { attribute } => {
            Declared::find(attribute, schema)?;
            Ok(is(attribute, Condition::Exists))
        }
        Filter::Prefix { attribute, path } => {
            Declared::find(attribute, schema)?.under(path).map(|condition| is(attribute, condition))
        }
        Filter::Range { attribute, lower, upper } => {
            Declared::find(attribute, schema)?.range(lower, upper).map(|condition| is(attribute, condition))
        }
        Filter::In { attribute, values } => {
            let conditions = Declared::find(attribute, schema)?.any_of(values)?;
            let mut filters: Vec<_> = conditions.into_iter().map(|condition| is(attribute, condition)).collect();
            Ok(if filters.len() == 1 { filters.remove(0) } else { ResolvedFilter::Any(filters) })
        }
    }
}

/// An attribute that the schema declares and that can be filtered by.
struct Declared<'a> {
    name: &'a str,
    spec: &'a AttributeSpec,
}

impl<'a> Declared<'a> {
    fn find(name: &'a str, schema: &'a Schema) -> Result<Self, Invalid> {
        let problem = match schema.attributes.get(name) {
            Some(spec) if spec.kind != AttributeType::Prose => return Ok(Self { name, spec }),
            Some(_) => "is free text, which cannot be filtered by",
            None if matches!(name, "id" | "title" | "description" | "link" | "image_link") => {
                "is free text, which cannot be filtered by"
            }
            None => "is not an attribute of this catalogue",
        };
        Err(Invalid::new(format!("filter.{name}"), problem))
    }

    fn invalid(&self, problem: impl std::fmt::Display) -> Invalid {
        Invalid::new(format!("filter.{}", self.name), problem)
    }

    fn mismatch(&self, value: &FilterValue) -> Invalid {
        let what = match value {
            FilterValue::Text(_) => "a text",
            FilterValue::Integer(_) | FilterValue::Decimal(_) => "a number",
            FilterValue::Bool(_) => "true or false",
            FilterValue::Money { .. } => "money",
        };
        self.invalid(format_args!("is {} and cannot be compared with {what}", self.spec.kind))
    }

    fn under(&self, path: &CategoryPath) -> Result<Condition, Invalid> {
        if self.spec.kind == AttributeType::Path {
            return Ok(Condition::PathUnder(path.clone()));
        }
        Err(self.invalid(format_args!("is {} and has no prefixes, which are for paths", self.spec.kind)))
    }

    /// Conditions of which one must hold: one for all texts, one for each amount.
    fn any_of(&self, values: &[FilterValue]) -> Result<Vec<Condition>, Invalid> {
        if values.is_empty() {
            return Err(self.invalid("is compared with no value"));
        }
        let each = |condition: fn(&Self, &FilterValue) -> Result<Condition, Invalid>| {
            values.iter().map(|value| condition(self, value)).collect::<Result<Vec<_>, _>>()
        };
        match self.spec.kind {
            AttributeType::Keyword => {
                let texts = values.iter().map(|value| self.text(value).map(str::to_owned)).collect::<Result<_, _>>()?;
                Ok(vec![Condition::KeywordIn(texts)])
            }
            AttributeType::Path => {
                let path = |value| self.text(value)?.parse().map_err(|Invalid { problem, .. }| self.invalid(problem));
                Ok(vec![Condition::PathIn(values.iter().map(path).collect::<Result<_, _>>()?)])
            }
            AttributeType::Integer => {
                let whole = |value: &FilterValue| match value {
                    FilterValue::Integer(number) => Ok(*number),
                    FilterValue::Text(_)
                    | FilterValue::Decimal(_)
                    | FilterValue::Bool(_)
                    | FilterValue::Money { .. } => Err(self.mismatch(value)),
                };
                Ok(vec![Condition::IntegerIn(values.iter().map(whole).collect::<Result<_, _>>()?)])
            }
            AttributeType::Bool => each(|this, value| match value {
                FilterValue::Bool(yes) => Ok(Condition::BoolIs(*yes)),
                FilterValue::Text(_)
                | FilterValue::Integer(_)
                | FilterValue::Decimal(_)
                | FilterValue::Money { .. } => Err(this.mismatch(value)),
            }),
            AttributeType::Decimal => {
                each(|this, value| this.number(value).map(|number| Condition::Number(NumberRange::exactly(number))))
            }
            AttributeType::Money => each(|this, value| {
                let (currency, micros) = this.amount(value)?;
                Ok(Condition::Amount(currency, NumberRange::exactly(micros)))
            }),
            AttributeType::Prose => Err(self.invalid("is free text, which cannot be filtered by")),
        }
    }

    fn range(&self, lower: &Bound<FilterValue>, upper: &Bound<FilterValue>) -> Result<Condition, Invalid> {
        if matches!((lower, upper), (Bound::Unbounded, Bound::Unbounded)) {
            return Err(self.invalid("has a range without a bound"));
        }
        match self.spec.kind {
            AttributeType::Integer | AttributeType::Decimal => {
                let bound = |bound: &Bound<FilterValue>| transpose(bound.as_ref().map(|value| self.number(value)));
                Ok(Condition::Number(NumberRange { lower: bound(lower)?, upper: bound(upper)? }))
            }
            AttributeType::Money => {
                let bound = |bound: &Bound<FilterValue>| transpose(bound.as_ref().map(|value| self.amount(value)));
                let (lower, upper) = (bound(lower)?, bound(upper)?);
                let currencies = [lower, upper].map(|bound| match bound {
                    Bound::Included((currency, _)) | Bound::Excluded((currency, _)) => Some(currency),
                    Bound::Unbounded => None,
                });
                let currency = match currencies {
                    [Some(lower), Some(upper)] if lower != upper => {
                        return Err(self.invalid(format_args!("has a range from {lower} to {upper}")));
                    }
                    [Some(currency), _] | [None, Some(currency)] => currency,
                    [None, None] => return Err(self.invalid("has a range without a bound")),
                };
                let micros = |bound: Bound<(Currency, f64)>| bound.map(|(_, micros)| micros);
                Ok(Condition::Amount(currency, NumberRange { lower: micros(lower), upper: micros(upper) }))
            }
            AttributeType::Keyword | AttributeType::Path | AttributeType::Bool | AttributeType::Prose => {
                Err(self.invalid(format_args!("is {} and has no range", self.spec.kind)))
            }
        }
    }

    fn text<'v>(&self, value: &'v FilterValue) -> Result<&'v str, Invalid> {
        match value {
            FilterValue::Text(text) => Ok(text),
            FilterValue::Integer(_) | FilterValue::Decimal(_) | FilterValue::Bool(_) | FilterValue::Money { .. } => {
                Err(self.mismatch(value))
            }
        }
    }

    fn number(&self, value: &FilterValue) -> Result<f64, Invalid> {
        match value {
            FilterValue::Integer(number) => Ok(lossy(*number)),
            FilterValue::Decimal(number) if number.is_finite() => Ok(*number),
            FilterValue::Decimal(number) => Err(self.invalid(format_args!("is compared with {number}"))),
            FilterValue::Text(_) | FilterValue::Bool(_) | FilterValue::Money { .. } => Err(self.mismatch(value)),
        }
    }

    /// The currency, and the amount in micros.
    fn amount(&self, value: &FilterValue) -> Result<(Currency, f64), Invalid> {
        let (micros, currency) = match value {
            FilterValue::Money { amount_micros, currency } => (lossy(*amount_micros), *currency),
            FilterValue::Integer(_) | FilterValue::Decimal(_) => ((self.number(value)? * 1e6).round(), None),
            FilterValue::Text(_) | FilterValue::Bool(_) => return Err(self.mismatch(value)),
        };
        let mut known = self.spec.currencies.iter();
        let all = || self.spec.currencies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match (currency, known.next(), known.next()) {
            (Some(currency), _, _) if self.spec.currencies.contains(&currency) => Ok((currency, micros)),
            (Some(currency), _, _) => Err(self.invalid(format_args!("never occurs in {currency}, only in {}", all()))),
            (None, Some(&only), None) => Ok((only, micros)),
            (None, _, _) => Err(self.invalid(format_args!("is compared without a currency, but occurs in {}", all()))),
        }
    }
}

fn transpose<T>(bound: Bound<Result<T, Invalid>>) -> Result<Bound<T>, Invalid> {
    Ok(match bound {
        Bound::Included(value) => Bound::Included(value?),
        Bound::Excluded(value) => Bound::Excluded(value?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

/// The index compares numbers as f64: exact up to 2^53, which is nine thousand million units of a currency.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "the index compares numbers as f64")]
fn lossy(number: i64) -> f64 {
    number as f64
}
