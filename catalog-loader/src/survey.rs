//! The first pass: which attributes the feed has, and what types their values have.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use serde_json::Value;
use vitrine_core::{
    limits::KEYWORD_BYTES_MAX,
    product::{AttributeSpec, AttributeType, Currency, Money, Schema, standard_attribute},
};

use crate::{feed::Feed, product::is_core_field};

/// Most attributes beyond the standard ones: each costs a payload index.
const OWN_ATTRIBUTES_MAX: usize = 64;

/// What a feed has.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// How many rows, readable or not.
    pub(crate) rows: u64,
    /// The attributes and their types.
    pub(crate) schema: Schema,
    /// In how many rows each attribute of the schema is filled in.
    pub(crate) filled: BTreeMap<String, u64>,
    /// Columns that are left out, and why.
    pub(crate) ignored: BTreeMap<String, String>,
}

/// What has been seen of one column.
#[derive(Debug, Default)]
struct Column {
    filled: u64,
    kinds: BTreeSet<Kind>,
    currencies: BTreeSet<Currency>,
    bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Integer,
    Decimal,
    Bool,
    Money,
    Text,
    Texts,
    Unsupported,
}

/// Reads the whole feed.
///
/// # Errors
/// When it cannot be opened, or not be read to its end.
pub(crate) fn survey(feed: &Feed) -> io::Result<Survey> {
    let (mut rows, mut columns) = (0, BTreeMap::<String, Column>::new());
    for row in feed.rows()? {
        rows += 1;
        for (name, value) in row?.fields.unwrap_or_default() {
            if !is_core_field(&name) {
                columns.entry(name).or_default().see(&value, feed.is_text_only());
            }
        }
    }
    let mut survey = Survey { rows, ..Survey::default() };
    let mut own = 0;
    for (name, column) in columns {
        match column.spec(&name) {
            Ok(_) if standard_attribute(&name).is_none() && own == OWN_ATTRIBUTES_MAX => {
                survey
                    .ignored
                    .insert(name, format!("more than {OWN_ATTRIBUTES_MAX} attributes beyond the standard ones"));
            }
            Ok(spec) => {
                own += usize::from(standard_attribute(&name).is_none());
                survey.filled.insert(name.clone(), column.filled);
                survey.schema.attributes.insert(name, spec);
            }
            Err(reason) => drop(survey.ignored.insert(name, reason)),
        }
    }
    Ok(survey)
}

impl Column {
    fn see(&mut self, value: &Value, text_only: bool) {
        self.filled += 1;
        let kind = match value {
            Value::Number(number) if number.is_i64() => Kind::Integer,
            Value::Number(_) => Kind::Decimal,
            Value::Bool(_) => Kind::Bool,
            Value::String(text) => {
                self.bytes_max = self.bytes_max.max(text.len());
                if let Ok(money) = text.parse::<Money>() {
                    self.currencies.insert(money.currency);
                    Kind::Money
                } else if text_only {
                    kind_of_text(text)
                } else {
                    Kind::Text
                }
            }
            Value::Array(values) if values.iter().all(Value::is_string) => {
                let longest = values.iter().filter_map(Value::as_str).map(str::len).max();
                self.bytes_max = self.bytes_max.max(longest.unwrap_or(0));
                Kind::Texts
            }
            Value::Null | Value::Array(_) | Value::Object(_) => Kind::Unsupported,
        };
        self.kinds.insert(kind);
    }

    fn spec(&self, name: &str) -> Result<AttributeSpec, String> {
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > 64 {
            return Err("its name is not 1 to 64 letters, digits and `_`, beginning with a letter".to_owned());
        }
        let all = |kinds: &[Kind]| self.kinds.iter().all(|kind| kinds.contains(kind));
        let kind = match standard_attribute(name) {
            Some(kind) => kind,
            None if self.kinds.contains(&Kind::Unsupported) => {
                return Err("it has objects or lists of other things than text".to_owned());
            }
            None if all(&[Kind::Integer]) => AttributeType::Integer,
            None if all(&[Kind::Integer, Kind::Decimal]) => AttributeType::Decimal,
            None if all(&[Kind::Bool]) => AttributeType::Bool,
            None if all(&[Kind::Money]) => AttributeType::Money,
            None if self.bytes_max > KEYWORD_BYTES_MAX => AttributeType::Prose,
            None => AttributeType::Keyword,
        };
        let currencies = if kind == AttributeType::Money { self.currencies.clone() } else { BTreeSet::new() };
        Ok(AttributeSpec { kind, currencies })
    }
}

/// What a cell of CSV looks like. Digits that a number would lose, such as the zeros of `00420`, make it a text.
fn kind_of_text(text: &str) -> Kind {
    let number = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, fraction)| (whole, Some(fraction)));
    let digits = |s: &str| !s.is_empty() && s.len() <= 15 && s.bytes().all(|b| b.is_ascii_digit());
    let plain = digits(whole) && (whole == "0" || !whole.starts_with('0'));
    match fraction {
        None if plain => Kind::Integer,
        Some(fraction) if plain && digits(fraction) => Kind::Decimal,
        _ if ["true", "false", "yes", "no"].contains(&text.to_ascii_lowercase().as_str()) => Kind::Bool,
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn types(extension: &str, content: &str) -> BTreeMap<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("feed.{extension}"));
        fs::write(&path, content).unwrap();
        let survey = survey(&Feed::new(&path).unwrap()).unwrap();
        let kinds = survey.schema.attributes.into_iter().map(|(name, spec)| (name, spec.kind.to_string()));
        kinds.chain(survey.ignored.into_keys().map(|name| (name, "ignored".to_owned()))).collect()
    }

    #[test]
    fn cells_of_csv_are_known_by_their_form() {
        let header = "id,price,stock,weight,new_in,sku,ship,mixed";
        let feed = format!("{header}\n1,5 EUR,3,1.5,yes,007,2.50 EUR,1\n2,6 USD,-4,2,no,008,3 EUR,x\n");
        let expected = [
            ("mixed", "keyword"),
            ("new_in", "bool"),
            ("price", "money"),
            ("ship", "money"),
            ("sku", "keyword"),
            ("stock", "integer"),
            ("weight", "decimal"),
        ];
        assert_eq!(types("csv", &feed), expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into());
    }

    #[test]
    fn json_says_its_types_and_strings_stay_strings() {
        let long = "x".repeat(300);
        let feed = format!(
            r#"{{"id":"1","stock":3,"code":"12","tags":["a","b"],"story":"{long}","dims":{{"w":1}},"weight":1}}
               {{"id":"2","weight":1.5,"tags":"c"}}"#
        )
        .replace("\n               ", "\n");
        let expected = [
            ("code", "keyword"),
            ("dims", "ignored"),
            ("stock", "integer"),
            ("story", "prose"),
            ("tags", "keyword"),
            ("weight", "decimal"),
        ];
        assert_eq!(types("jsonl", &feed), expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into());
    }
}
