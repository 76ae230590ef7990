//! Filter expressions in the contract's types.

use std::ops::Bound;

use vitrine_core::filter::{self, ExpressionError, Filter, FilterValue};
use vitrine_proto::v1 as pb;

/// Reads an expression such as `price < 50 AND brand = "Daybird"`.
///
/// # Errors
/// When the text does not follow the grammar; says where.
pub fn parse(expression: &str) -> Result<pb::Filter, ExpressionError> {
    filter::parse(expression).map(to_pb)
}

fn to_pb(filter: Filter) -> pb::Filter {
    use pb::filter::Node;
    let list = |filters: Vec<Filter>| pb::FilterList { filters: filters.into_iter().map(to_pb).collect() };
    let node = match filter {
        Filter::All(filters) => Node::AllOf(list(filters)),
        Filter::Any(filters) => Node::AnyOf(list(filters)),
        Filter::Not(filter) => Node::Not(Box::new(to_pb(*filter))),
        Filter::Exists { attribute } => Node::Exists(pb::Exists { attribute }),
        Filter::Prefix { attribute, path } => Node::Prefix(pb::Prefix { attribute, path: path.to_string() }),
        Filter::In { attribute, values } => {
            Node::In(pb::In { attribute, values: values.into_iter().map(value).collect() })
        }
        Filter::Range { attribute, lower, upper } => {
            use pb::range::{Lower, Upper};
            let lower = match lower {
                Bound::Included(bound) => Some(Lower::Gte(value(bound))),
                Bound::Excluded(bound) => Some(Lower::Gt(value(bound))),
                Bound::Unbounded => None,
            };
            let upper = match upper {
                Bound::Included(bound) => Some(Upper::Lte(value(bound))),
                Bound::Excluded(bound) => Some(Upper::Lt(value(bound))),
                Bound::Unbounded => None,
            };
            Node::Range(pb::Range { attribute, lower, upper })
        }
    };
    pb::Filter { node: Some(node) }
}

fn value(value: FilterValue) -> pb::Value {
    use pb::value::Kind;
    let kind = match value {
        FilterValue::Text(text) => Kind::StringValue(text),
        FilterValue::Integer(number) => Kind::IntValue(number),
        FilterValue::Decimal(number) => Kind::DoubleValue(number),
        FilterValue::Bool(yes) => Kind::BoolValue(yes),
        FilterValue::Money { amount_micros, currency } => {
            let currency_code = currency.map(|currency| currency.to_string()).unwrap_or_default();
            Kind::MoneyValue(pb::Money { currency_code, amount_micros })
        }
    };
    pb::Value { kind: Some(kind) }
}
