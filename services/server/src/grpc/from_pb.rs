//! Requests in the domain's types. Fields are named as in the contract.

use std::ops::Bound;

use vitrine_core::{
    Invalid,
    filter::{Filter, FilterValue},
    limits::{FILTER_DEPTH_MAX, FILTER_NODES_MAX, SIGNALS_MAX},
    product::{CatalogName, ProductId},
    search::SearchRequest,
    signal::{Photo, QueryText, Region, Signal, SignalSource, Weight},
};
use vitrine_proto::v1 as pb;

/// A search. `uploaded` is the photo of an upload stream, which one signal of it stands for.
pub(super) fn search_request(
    request: pb::SearchRequest,
    mut uploaded: Option<bytes::Bytes>,
) -> Result<SearchRequest, Invalid> {
    if request.signals.len() > SIGNALS_MAX {
        let problem = format!("has {}, more than the limit of {SIGNALS_MAX}", request.signals.len());
        return Err(Invalid::new("signals", problem));
    }
    let signals = request.signals.into_iter().enumerate().map(|(position, signal)| {
        self::signal(signal, &mut uploaded).map_err(|invalid| invalid.within(&format!("signals[{position}]")))
    });
    let signals = signals.collect::<Result<Vec<_>, _>>()?;
    if uploaded.is_some() {
        return Err(Invalid::new("signals", "has no `uploaded_photo` for the stream's photo"));
    }
    let page_size = usize::try_from(request.page_size).map_err(|_| Invalid::new("page_size", "is negative"))?;
    Ok(SearchRequest {
        catalog: CatalogName::new(&request.catalog)?,
        signals,
        filter: request
            .filter
            .map(|filter| self::filter(filter, "filter", 1, &mut { FILTER_NODES_MAX }))
            .transpose()?,
        page_size,
        page_token: request.page_token,
        score_min: request.score_min,
    })
}

fn signal(signal: pb::Signal, uploaded: &mut Option<bytes::Bytes>) -> Result<Signal, Invalid> {
    use pb::signal::Source;
    let source = match signal.source {
        None => return Err(Invalid::new("source", "is missing: one of photo, text, product_id and embedding")),
        Some(Source::Photo(photo)) => SignalSource::Photo(self::photo(photo).map_err(|e| e.within("photo"))?),
        Some(Source::Text(text)) => SignalSource::Text(QueryText::new(text, "text")?),
        Some(Source::ProductId(id)) => SignalSource::Product(ProductId::new(id, "product_id")?),
        Some(Source::Embedding(embedding)) => SignalSource::Embedding(embedding.values),
        Some(Source::UploadedPhoto(photo)) => {
            let content = uploaded.take().ok_or_else(|| {
                Invalid::new("uploaded_photo", "is for one signal of SearchUpload only; in Search, send `photo`")
            })?;
            let region = photo.region.map(self::region).transpose();
            let region = region.map_err(|invalid| invalid.within("uploaded_photo.region"))?;
            SignalSource::Photo(Photo::new(content, region).map_err(|invalid| invalid.within("uploaded_photo"))?)
        }
    };
    let weight = signal.weight.map_or(Ok(Weight::default()), Weight::new)?;
    Ok(Signal { source, weight })
}

/// A photo; the error's field is that of `Photo`.
pub(super) fn photo(photo: pb::Photo) -> Result<Photo, Invalid> {
    let region = photo.region.map(region).transpose().map_err(|invalid| invalid.within("region"))?;
    Photo::new(photo.content, region)
}

fn region(region: pb::Region) -> Result<Region, Invalid> {
    Region::new(region.left, region.top, region.right, region.bottom)
}

/// A filter; `field` is its path in the request, `level` its depth, 1 at the root, and `left` how many nodes it may have.
fn filter(filter: pb::Filter, field: &str, level: usize, left: &mut usize) -> Result<Filter, Invalid> {
    use pb::filter::Node;
    // Checked here, too, since this function calls itself.
    if level > FILTER_DEPTH_MAX {
        return Err(Invalid::new("filter", format_args!("is deeper than {FILTER_DEPTH_MAX} levels")));
    }
    *left = left
        .checked_sub(1)
        .ok_or_else(|| Invalid::new("filter", format_args!("has more than {FILTER_NODES_MAX} nodes")))?;
    let mut list = |name: &str, filters: pb::FilterList| {
        let filters = filters.filters.into_iter().enumerate();
        let filters =
            filters.map(|(at, inner)| self::filter(inner, &format!("{field}.{name}.filters[{at}]"), level + 1, left));
        filters.collect::<Result<Vec<_>, _>>()
    };
    let within = |name: &str| format!("{field}.{name}");
    let value =
        |name: &str, value: Option<pb::Value>| self::value(value).map_err(|invalid| invalid.within(&within(name)));
    match filter.node {
        None => Err(Invalid::new(field, "is empty")),
        Some(Node::AllOf(filters)) => list("all_of", filters).map(Filter::All),
        Some(Node::AnyOf(filters)) => list("any_of", filters).map(Filter::Any),
        Some(Node::Not(inner)) => Ok(Filter::Not(Box::new(self::filter(*inner, &within("not"), level + 1, left)?))),
        Some(Node::Equals(equals)) => {
            Ok(Filter::equals(named(equals.attribute, &within("equals"))?, value("equals.value", equals.value)?))
        }
        Some(Node::In(any)) => {
            let attribute = named(any.attribute, &within("in"))?;
            // Thousands of values: their fields are only named where one is wrong.
            let values = any.values.into_iter().enumerate().map(|(at, inner)| {
                self::value(Some(inner)).map_err(|invalid| invalid.within(&within(&format!("in.values[{at}]"))))
            });
            Ok(Filter::In { attribute, values: values.collect::<Result<_, _>>()? })
        }
        Some(Node::Range(range)) => {
            use pb::range::{Lower, Upper};
            let attribute = named(range.attribute, &within("range"))?;
            let lower = match range.lower {
                None => Bound::Unbounded,
                Some(Lower::Gte(bound)) => Bound::Included(value("range.gte", Some(bound))?),
                Some(Lower::Gt(bound)) => Bound::Excluded(value("range.gt", Some(bound))?),
            };
            let upper = match range.upper {
                None => Bound::Unbounded,
                Some(Upper::Lte(bound)) => Bound::Included(value("range.lte", Some(bound))?),
                Some(Upper::Lt(bound)) => Bound::Excluded(value("range.lt", Some(bound))?),
            };
            Ok(Filter::Range { attribute, lower, upper })
        }
        Some(Node::Prefix(prefix)) => {
            let path = prefix.path.parse().map_err(|invalid: Invalid| invalid.within(&within("prefix.path")))?;
            Ok(Filter::Prefix { attribute: named(prefix.attribute, &within("prefix"))?, path })
        }
        Some(Node::Exists(exists)) => Ok(Filter::Exists { attribute: named(exists.attribute, &within("exists"))? }),
    }
}

fn named(attribute: String, field: &str) -> Result<String, Invalid> {
    if attribute.is_empty() { Err(Invalid::new(format!("{field}.attribute"), "is empty")) } else { Ok(attribute) }
}

/// A value; the error's field is relative to it.
fn value(value: Option<pb::Value>) -> Result<FilterValue, Invalid> {
    use pb::value::Kind;
    match value.and_then(|value| value.kind) {
        None => Err(Invalid::new("", "is missing")),
        Some(Kind::StringValue(text)) => Ok(FilterValue::Text(text)),
        Some(Kind::IntValue(number)) => Ok(FilterValue::Integer(number)),
        Some(Kind::DoubleValue(number)) if number.is_finite() => Ok(FilterValue::Decimal(number)),
        Some(Kind::DoubleValue(number)) => Err(Invalid::new("", format_args!("is {number}, not a finite number"))),
        Some(Kind::BoolValue(yes)) => Ok(FilterValue::Bool(yes)),
        Some(Kind::MoneyValue(money)) => {
            let code = Some(money.currency_code).filter(|code| !code.is_empty());
            let currency = code.map(|code| code.parse()).transpose();
            let currency = currency.map_err(|invalid: Invalid| invalid.within("money_value"))?;
            Ok(FilterValue::Money { amount_micros: money.amount_micros, currency })
        }
        Some(Kind::StringListValue(_)) => Err(Invalid::new("", "is a list; a condition `in` takes several values")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(values: Vec<pb::Value>) -> pb::Filter {
        pb::Filter { node: Some(pb::filter::Node::In(pb::In { attribute: "brand".to_owned(), values })) }
    }

    fn value(kind: pb::value::Kind) -> pb::Value {
        pb::Value { kind: Some(kind) }
    }

    #[test]
    fn a_wrong_value_of_a_list_is_named_by_its_place() {
        use pb::value::Kind::{DoubleValue, MoneyValue, StringValue};
        let money = pb::Money { currency_code: "EURO".to_owned(), amount_micros: 1 };
        for (wrong, field) in [
            (pb::Value::default(), "filter.all_of.filters[0].in.values[1]"),
            (value(DoubleValue(f64::NAN)), "filter.all_of.filters[0].in.values[1]"),
            (value(MoneyValue(money)), "filter.all_of.filters[0].in.values[1].money_value"),
        ] {
            let filters = vec![listed(vec![value(StringValue("Daybird".to_owned())), wrong])];
            let all = pb::Filter { node: Some(pb::filter::Node::AllOf(pb::FilterList { filters })) };
            let error = filter(all, "filter", 1, &mut { FILTER_NODES_MAX }).unwrap_err();
            assert!(error.field.starts_with(field), "{error}");
        }
    }
}
