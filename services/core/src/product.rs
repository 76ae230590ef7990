//! Products and their attributes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    Invalid,
    limits::{KEYWORD_BYTES_MAX, PRODUCT_ID_BYTES_MAX, PROSE_BYTES_MAX},
};

/// Names a catalogue: 1 to 64 of `a-z`, `0-9`, `-` and `_`, so that it can name a directory or a collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CatalogName(String);

impl CatalogName {
    /// Checks a name; an empty one is `default`.
    ///
    /// # Errors
    /// When it is longer than 64 bytes or has another character.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() {
            return Ok(Self::default());
        }
        if name.len() > 64 || !name.chars().all(allowed) {
            return Err(Invalid::new("catalog", "is not 1 to 64 of a-z, 0-9, `-` and `_`"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CatalogName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for CatalogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies a product in its catalogue: 1 to 256 bytes, the shop's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProductId(String);

impl ProductId {
    /// Checks an identifier. `field` names it in the error.
    ///
    /// # Errors
    /// When it is empty or longer than 256 bytes.
    pub fn new(id: impl Into<String>, field: &str) -> Result<Self, Invalid> {
        let id = id.into();
        if id.is_empty() {
            return Err(Invalid::new(field, "is empty"));
        }
        if id.len() > PRODUCT_ID_BYTES_MAX {
            return Err(Invalid::new(field, format_args!("is longer than {PRODUCT_ID_BYTES_MAX} bytes")));
        }
        Ok(Self(id))
    }

    /// The identifier.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProductId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Three capital letters of ISO 4217.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl FromStr for Currency {
    type Err = Invalid;

    fn from_str(code: &str) -> Result<Self, Invalid> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_uppercase) => Ok(Self(bytes)),
            _ => Err(Invalid::new("currency_code", "is not three capital letters of ISO 4217")),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = Invalid;

    fn try_from(code: String) -> Result<Self, Invalid> {
        code.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.to_string()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| write!(f, "{}", char::from(byte)))
    }
}

/// An exact amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// In millionths of the currency's unit.
    pub amount_micros: i64,
    /// What it is counted in.
    pub currency: Currency,
}

impl FromStr for Money {
    type Err = Invalid;

    /// Reads `19.90 EUR`, as the Merchant Center writes prices.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("", format_args!("is `{text}`, not an amount and a currency such as `19.90 EUR`"));
        let (amount, currency) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let currency = currency.trim().parse().map_err(|_| wrong())?;
        let amount_micros = parse_micros(amount).ok_or_else(wrong)?;
        Ok(Self { amount_micros, currency })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.amount_micros.unsigned_abs();
        let sign = if self.amount_micros < 0 { "-" } else { "" };
        let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let fraction = format!("{fraction:06}");
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{sign}{whole}.{fraction:0<2} {}", self.currency)
    }
}

/// Reads a decimal number of at most six decimals as millionths, without passing through a float.
pub(crate) fn parse_micros(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 6 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let micros = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)?;
    Some(sign * micros)
}

/// A path in a category tree, such as `Home > Sofas`: at least one segment, none of them blank.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CategoryPath(Vec<String>);

impl CategoryPath {
    /// Between two segments when written.
    pub const SEPARATOR: &'static str = " > ";

    /// Every path from the root down to this one: `Home`, `Home > Sofas`.
    pub fn prefixes(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.0.len()).filter_map(|depth| Some(self.0.get(..depth)?.join(Self::SEPARATOR)))
    }
}

impl FromStr for CategoryPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let segments: Vec<_> = text.split('>').map(|segment| segment.trim().to_owned()).collect();
        if segments.iter().any(String::is_empty) {
            return Err(Invalid::new("", format_args!("is `{text}`, not a path such as `Home > Sofas`")));
        }
        Ok(Self(segments))
    }
}

impl fmt::Display for CategoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(Self::SEPARATOR))
    }
}

/// What kind of values an attribute has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeType {
    /// Short text, one or several, compared exactly.
    Keyword,
    /// A category path.
    Path,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Decimal,
    /// Yes or no.
    Bool,
    /// An amount of money.
    Money,
    /// Long text: stored and answered, never filtered by.
    Prose,
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyword => "keyword",
            Self::Path => "path",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Bool => "bool",
            Self::Money => "money",
            Self::Prose => "prose",
        })
    }
}

/// The value of one attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeValue {
    /// Of [`AttributeType::Keyword`]: one text.
    Keyword(String),
    /// Of [`AttributeType::Keyword`]: several texts.
    Keywords(Vec<String>),
    /// Of [`AttributeType::Path`].
    Path(CategoryPath),
    /// Of [`AttributeType::Integer`].
    Integer(i64),
    /// Of [`AttributeType::Decimal`]; finite.
    Decimal(f64),
    /// Of [`AttributeType::Bool`].
    Bool(bool),
    /// Of [`AttributeType::Money`].
    Money(Money),
    /// Of [`AttributeType::Prose`].
    Prose(String),
}

impl AttributeValue {
    /// Reads a value of the given type as a feed's cell writes it.
    ///
    /// # Errors
    /// When the text is not of that type, or too long for it. The error's field is empty: the caller knows its name.
    pub fn parse(kind: AttributeType, text: &str) -> Result<Self, Invalid> {
        let not_a = |what: &str| Invalid::new("", format_args!("is `{text}`, not {what}"));
        let no_longer_than = |bytes_max: usize| match text.len() {
            length if length > bytes_max => Err(Invalid::new("", format_args!("is longer than {bytes_max} bytes"))),
            _ => Ok(text.to_owned()),
        };
        match kind {
            AttributeType::Keyword => no_longer_than(KEYWORD_BYTES_MAX).map(Self::Keyword),
            AttributeType::Prose => no_longer_than(PROSE_BYTES_MAX).map(Self::Prose),
            AttributeType::Path => no_longer_than(KEYWORD_BYTES_MAX)?.parse().map(Self::Path),
            AttributeType::Integer => text.parse().map(Self::Integer).map_err(|_| not_a("a whole number")),
            AttributeType::Decimal => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Self::Decimal(number)),
                _ => Err(not_a("a finite number")),
            },
            AttributeType::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" => Ok(Self::Bool(true)),
                "false" | "no" => Ok(Self::Bool(false)),
                _ => Err(not_a("true or false")),
            },
            AttributeType::Money => text.parse().map(Self::Money),
        }
    }
}

impl AttributeValue {
    /// How many bytes of text it holds.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Keyword(text) | Self::Prose(text) => text.len(),
            Self::Keywords(texts) => texts.iter().map(|text| 32 + text.len()).sum(),
            Self::Path(path) => path.0.iter().map(|segment| 32 + segment.len()).sum(),
            Self::Integer(_) | Self::Decimal(_) | Self::Bool(_) | Self::Money(_) => 0,
        }
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword(text) | Self::Prose(text) => f.write_str(text),
            Self::Keywords(texts) => f.write_str(&texts.join(", ")),
            Self::Path(path) => path.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Decimal(number) => number.fmt(f),
            Self::Bool(yes) => yes.fmt(f),
            Self::Money(money) => money.fmt(f),
        }
    }
}

/// Attributes that the Merchant Center specification defines, with the types they have here.
///
/// Source: Google Merchant Center product data specification.
pub const STANDARD_ATTRIBUTES: [(&str, AttributeType); 16] = [
    ("availability", AttributeType::Keyword),
    ("price", AttributeType::Money),
    ("sale_price", AttributeType::Money),
    ("brand", AttributeType::Keyword),
    ("gtin", AttributeType::Keyword),
    ("mpn", AttributeType::Keyword),
    ("product_type", AttributeType::Path),
    ("google_product_category", AttributeType::Path),
    ("condition", AttributeType::Keyword),
    ("color", AttributeType::Keyword),
    ("size", AttributeType::Keyword),
    ("material", AttributeType::Keyword),
    ("pattern", AttributeType::Keyword),
    ("gender", AttributeType::Keyword),
    ("age_group", AttributeType::Keyword),
    ("item_group_id", AttributeType::Keyword),
];

/// The type of a standard attribute, if the name is one.
pub fn standard_attribute(name: &str) -> Option<AttributeType> {
    STANDARD_ATTRIBUTES.iter().find(|(standard, _)| *standard == name).map(|(_, kind)| *kind)
}

/// A product of a shop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// The shop's identifier.
    pub id: ProductId,
    /// Name.
    pub title: String,
    /// Description in plain text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Address of the product's page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link: String,
    /// Its pictures as the feed names them, the main one first. Those that could not be read are not here.
    pub image_links: Vec<String>,
    /// Everything else, by name: [`STANDARD_ATTRIBUTES`] and the shop's own.
    pub attributes: BTreeMap<String, AttributeValue>,
}

impl Product {
    /// What the text tower reads of the product: title, category, brand and what it is like, in one line.
    pub fn text(&self) -> String {
        let described_by = ["product_type", "brand", "color", "material", "pattern", "gender"];
        let attributes = described_by.iter().filter_map(|name| self.attributes.get(*name)).map(ToString::to_string);
        std::iter::once(self.title.clone()).chain(attributes).collect::<Vec<_>>().join(", ")
    }
}

/// The attributes that a generation declares: each has a payload index, and no other can be filtered by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// By attribute name.
    pub attributes: BTreeMap<String, AttributeSpec>,
}

/// One declared attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeSpec {
    /// Kind of its values.
    #[serde(rename = "type")]
    pub kind: AttributeType,
    /// The currencies that occur, for [`AttributeType::Money`]; empty otherwise.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub currencies: BTreeSet<Currency>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_and_written_exactly() {
        for (text, micros, written) in [
            ("19.90 EUR", 19_900_000, "19.90 EUR"),
            ("5 USD", 5_000_000, "5.00 USD"),
            ("0.000001 BTC", 1, "0.000001 BTC"),
            ("-3.5 CHF", -3_500_000, "-3.50 CHF"),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!(money.amount_micros, micros, "{text}");
            assert_eq!(money.to_string(), written);
        }
    }

    #[test]
    fn money_that_is_not_an_amount_and_a_currency_is_refused() {
        for text in ["", "12", "EUR", "1,50 EUR", "1.2345678 EUR", "12 eur", "1e3 EUR", "99999999999999 EUR", "- EUR"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_category_path_lists_its_prefixes() {
        let path: CategoryPath = " Home>Living room  >  Sofas ".parse().unwrap();
        assert_eq!(path.prefixes().collect::<Vec<_>>(), ["Home", "Home > Living room", "Home > Living room > Sofas"]);
        assert!("Home > > Sofas".parse::<CategoryPath>().is_err());
    }

    #[test]
    fn catalogue_names_cannot_leave_their_directory() {
        assert_eq!(CatalogName::new("").unwrap().as_str(), "default");
        for name in ["..", "a/b", "A", "a b", &"x".repeat(65)] {
            assert!(CatalogName::new(name).is_err(), "{name}");
        }
    }
}
