//! Which products may be in an answer: a tree of conditions on attributes.
//!
//! A [`Filter`] is what a caller said. [`Filter::resolve`] checks it against the [`Schema`] of the generation that
//! will answer and gives a [`ResolvedFilter`], in which every value has its attribute's type: what an index runs.

mod expression;
mod resolved;

use std::ops::Bound;

pub use expression::{ExpressionError, parse};
pub use resolved::{Condition, NumberRange, ResolvedFilter};

use crate::{
    Invalid,
    limits::{FILTER_DEPTH_MAX, FILTER_NODES_MAX, FILTER_VALUES_MAX},
    product::{CategoryPath, Currency, Schema},
};

/// A condition on a product, or several joined. A product without an attribute meets no condition on it.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every one holds; empty holds always.
    All(Vec<Filter>),
    /// At least one holds; empty never holds.
    Any(Vec<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
    /// The attribute has one of these values; at least one.
    In {
        /// Name of the attribute.
        attribute: String,
        /// Values to compare with.
        values: Vec<FilterValue>,
    },
    /// The attribute lies between these bounds; at least one of them is bounded.
    Range {
        /// Name of the attribute.
        attribute: String,
        /// Where it begins.
        lower: Bound<FilterValue>,
        /// Where it ends.
        upper: Bound<FilterValue>,
    },
    /// The category path is this one or lies below it.
    Prefix {
        /// Name of the attribute.
        attribute: String,
        /// Whole segments.
        path: CategoryPath,
    },
    /// The attribute is present.
    Exists {
        /// Name of the attribute.
        attribute: String,
    },
}

/// A value to compare an attribute with. Which types go with which attribute, [`Filter::resolve`] knows.
#[derive(Debug, Clone, PartialEq)]
pub enum FilterValue {
    /// A text or a path.
    Text(String),
    /// A whole number; also an amount in the catalogue's only currency.
    Integer(i64),
    /// A number; also an amount in the catalogue's only currency.
    Decimal(f64),
    /// Yes or no.
    Bool(bool),
    /// An amount of money.
    Money {
        /// In millionths of the currency's unit.
        amount_micros: i64,
        /// The catalogue's only one if `None`.
        currency: Option<Currency>,
    },
}

impl Filter {
    /// The attribute equals this value.
    pub fn equals(attribute: impl Into<String>, value: FilterValue) -> Self {
        Self::In { attribute: attribute.into(), values: vec![value] }
    }

    /// Checks the tree against what a generation declares.
    ///
    /// # Errors
    /// When it is deeper or larger than [`FILTER_DEPTH_MAX`], [`FILTER_NODES_MAX`] and [`FILTER_VALUES_MAX`], names an
    /// attribute that is not declared or is prose, or compares an attribute with a value of another type. The error's
    /// field begins with `filter` and names the attribute.
    pub fn resolve(&self, schema: &Schema) -> Result<ResolvedFilter, Invalid> {
        self.check_size()?;
        resolved::resolve(self, schema)
    }

    fn check_size(&self) -> Result<(), Invalid> {
        let (mut nodes, mut values, mut level) = (0, 0, vec![self]);
        for _ in 0..FILTER_DEPTH_MAX {
            nodes += level.len();
            values += level.iter().map(|node| node.values()).sum::<usize>();
            if nodes > FILTER_NODES_MAX {
                return Err(Invalid::new("filter", format_args!("has more than {FILTER_NODES_MAX} nodes")));
            }
            if values > FILTER_VALUES_MAX {
                return Err(Invalid::new("filter", format_args!("lists more than {FILTER_VALUES_MAX} values")));
            }
            level = level.into_iter().flat_map(Self::children).collect();
        }
        if level.is_empty() {
            Ok(())
        } else {
            Err(Invalid::new("filter", format_args!("is deeper than {FILTER_DEPTH_MAX} levels")))
        }
    }

    fn children(&self) -> &[Self] {
        match self {
            Self::All(filters) | Self::Any(filters) => filters,
            Self::Not(filter) => std::slice::from_ref(filter),
            Self::In { .. } | Self::Range { .. } | Self::Prefix { .. } | Self::Exists { .. } => &[],
        }
    }

    /// How many values it lists itself.
    fn values(&self) -> usize {
        if let Self::In { values, .. } = self { values.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::{AttributeSpec, AttributeType};

    fn schema() -> Schema {
        let spec = |kind, currencies: &[&str]| AttributeSpec {
            kind,
            currencies: currencies.iter().map(|code| code.parse().unwrap()).collect(),
        };
        Schema {
            attributes: [
                ("brand", spec(AttributeType::Keyword, &[])),
                ("price", spec(AttributeType::Money, &["EUR"])),
                ("sale_price", spec(AttributeType::Money, &["EUR", "USD"])),
                ("stock", spec(AttributeType::Integer, &[])),
                ("notes", spec(AttributeType::Prose, &[])),
                ("product_type", spec(AttributeType::Path, &[])),
            ]
            .map(|(name, spec)| (name.to_owned(), spec))
            .into(),
        }
    }

    fn resolve(expression: &str) -> Result<ResolvedFilter, Invalid> {
        parse(expression).unwrap().resolve(&schema())
    }

    #[test]
    fn a_number_against_money_is_an_amount_in_the_only_currency() {
        assert_eq!(resolve("price < 49.9").unwrap(), resolve("price < 49.90 EUR").unwrap());
    }

    #[test]
    fn wrong_filters_say_which_attribute_and_why() {
        for (expression, message) in [
            ("colour = \"red\"", "field `filter.colour` is not an attribute of this catalogue"),
            ("notes = \"x\"", "field `filter.notes` is free text, which cannot be filtered by"),
            ("stock = \"many\"", "field `filter.stock` is integer and cannot be compared with a text"),
            ("brand > 3", "field `filter.brand` is keyword and has no range"),
            ("sale_price < 3", "field `filter.sale_price` is compared without a currency, but occurs in EUR, USD"),
            ("price < 3 USD", "field `filter.price` never occurs in USD, only in EUR"),
            ("brand UNDER \"a\"", "field `filter.brand` is keyword and has no prefixes, which are for paths"),
        ] {
            assert_eq!(resolve(expression).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_deepest_tree_passes_and_one_level_more_does_not() {
        let nest = |levels: usize| {
            let leaf = Filter::Exists { attribute: "brand".to_owned() };
            (1..levels).fold(leaf, |filter, _| Filter::Not(Box::new(filter)))
        };
        assert!(nest(FILTER_DEPTH_MAX).resolve(&schema()).is_ok());
        let error = nest(FILTER_DEPTH_MAX + 1).resolve(&schema()).unwrap_err();
        assert_eq!(error.to_string(), "field `filter` is deeper than 8 levels");
    }

    #[test]
    fn the_most_values_and_nodes_pass_and_one_more_does_not() {
        let with = |values| Filter::In {
            attribute: "brand".to_owned(),
            values: vec![FilterValue::Text("x".to_owned()); values],
        };
        let error = |filter: Filter| filter.resolve(&schema()).unwrap_err().to_string();
        assert!(with(FILTER_VALUES_MAX).resolve(&schema()).is_ok());
        assert_eq!(error(with(FILTER_VALUES_MAX + 1)), "field `filter` lists more than 10000 values");
        let half = FILTER_VALUES_MAX / 2;
        assert_eq!(error(Filter::Any(vec![with(half), with(half + 1)])), "field `filter` lists more than 10000 values");
        let of = |nodes| Filter::Any(vec![with(1); nodes - 1]);
        assert!(of(FILTER_NODES_MAX).resolve(&schema()).is_ok());
        assert_eq!(error(of(FILTER_NODES_MAX + 1)), "field `filter` has more than 256 nodes");
    }
}
