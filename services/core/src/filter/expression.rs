//! Filters as people write them: `price < 50 AND brand = "Daybird"`.
//!
//! ```text
//! filter    = and { OR and }
//! and       = not { AND not }
//! not       = [ NOT ] ( "(" filter ")" | condition )
//! condition = attribute ( ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
//!                       | IN "(" value { "," value } ")" | UNDER text | EXISTS )
//! value     = text | number [ currency ] | true | false
//! text      = "…" or '…', with \ before a quote or another \
//! ```
//!
//! Keywords are of any case; an attribute is of `a-z`, `0-9` and `_`.

use std::ops::Bound;

use winnow::{
    ModalResult, Parser,
    ascii::{Caseless, multispace0},
    combinator::{alt, cut_err, delimited, not, opt, peek, preceded, repeat, separated, terminated},
    error::{ContextError, ErrMode, StrContext, StrContextValue},
    token::{any, none_of, one_of, take_while},
};

use super::{Filter, FilterValue};
use crate::product::{Currency, parse_micros};

/// Deepest nesting of parentheses and NOTs while reading; what is deeper cannot be a valid filter.
const NESTING_MAX: usize = 64;

/// Why an expression is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter is wrong at `{rest}` (character {position}): {problem}")]
pub struct ExpressionError {
    /// Position of the first character that does not fit, counted from 1.
    pub position: usize,
    /// The beginning of what does not fit.
    pub rest: String,
    /// What was expected there.
    pub problem: String,
}

/// Reads a filter.
///
/// # Errors
/// When the text does not follow the grammar above; says where.
pub fn parse(text: &str) -> Result<Filter, ExpressionError> {
    let deepest = text.chars().scan(0_usize, |depth, c| {
        *depth = if c == '(' { *depth + 1 } else { depth.saturating_sub(usize::from(c == ')')) };
        Some(*depth)
    });
    if deepest.max().unwrap_or(0) > NESTING_MAX {
        let problem = format!("more than {NESTING_MAX} parentheses are open at once");
        return Err(ExpressionError { position: 1, rest: String::new(), problem });
    }
    preceded(multispace0, filter).parse(text).map_err(|error| {
        let rest = text.get(error.offset()..).unwrap_or_default();
        let position = text.get(..error.offset()).unwrap_or_default().chars().count() + 1;
        let shown: String = rest.chars().take(20).collect();
        let problem = match error.inner().to_string() {
            problem if problem.is_empty() => "expected AND, OR or the end".to_owned(),
            problem => problem,
        };
        ExpressionError { position, rest: if shown.is_empty() { "the end".to_owned() } else { shown }, problem }
    })
}

fn filter(input: &mut &str) -> ModalResult<Filter> {
    let mut filters: Vec<_> = separated(1.., conjunction, keyword("or")).parse_next(input)?;
    Ok(if filters.len() == 1 { filters.remove(0) } else { Filter::Any(filters) })
}

fn conjunction(input: &mut &str) -> ModalResult<Filter> {
    let mut filters: Vec<_> = separated(1.., negation, keyword("and")).parse_next(input)?;
    Ok(if filters.len() == 1 { filters.remove(0) } else { Filter::All(filters) })
}

fn negation(input: &mut &str) -> ModalResult<Filter> {
    let nots: Vec<()> = repeat(0.., keyword("not")).parse_next(input)?;
    let inner = alt((delimited(symbol("("), filter, cut_err(symbol(")"))), condition))
        .context(expected("a condition such as price < 50"))
        .parse_next(input)?;
    Ok(if nots.len().is_multiple_of(2) { inner } else { Filter::Not(Box::new(inner)) })
}

fn condition(input: &mut &str) -> ModalResult<Filter> {
    let attribute = lexeme(take_while(1.., ('a'..='z', '0'..='9', '_'))).map(str::to_owned).parse_next(input)?;
    let operator = cut_err(lexeme(alt((
        alt(("<=", ">=", "!=", "=", "<", ">")),
        alt((Caseless("in"), Caseless("under"), Caseless("exists"))),
    ))))
    .context(expected("=, !=, <, <=, >, >=, IN, UNDER or EXISTS"))
    .parse_next(input)?;
    let (lower, upper) = match operator.to_ascii_lowercase().as_str() {
        "exists" => return Ok(Filter::Exists { attribute }),
        "under" => {
            let path = cut_err(text.try_map(|path| path.parse()))
                .context(expected("a path such as \"Home > Sofas\""))
                .parse_next(input)?;
            return Ok(Filter::Prefix { attribute, path });
        }
        "in" => {
            let values = cut_err(delimited(symbol("("), separated(1.., value, symbol(",")), symbol(")")))
                .context(expected("values such as (\"red\", \"blue\")"))
                .parse_next(input)?;
            return Ok(Filter::In { attribute, values });
        }
        "=" => return Ok(Filter::equals(attribute, cut_err(value).parse_next(input)?)),
        "!=" => return Ok(Filter::Not(Box::new(Filter::equals(attribute, cut_err(value).parse_next(input)?)))),
        "<" => (Bound::Unbounded, Bound::Excluded(cut_err(value).parse_next(input)?)),
        "<=" => (Bound::Unbounded, Bound::Included(cut_err(value).parse_next(input)?)),
        ">" => (Bound::Excluded(cut_err(value).parse_next(input)?), Bound::Unbounded),
        _ => (Bound::Included(cut_err(value).parse_next(input)?), Bound::Unbounded),
    };
    Ok(Filter::Range { attribute, lower, upper })
}

fn value(input: &mut &str) -> ModalResult<FilterValue> {
    alt((
        text.map(FilterValue::Text),
        keyword("true").value(FilterValue::Bool(true)),
        keyword("false").value(FilterValue::Bool(false)),
        number,
    ))
    .context(expected("a \"text\", a number, a price such as 49.90 EUR, true or false"))
    .parse_next(input)
}

fn text(input: &mut &str) -> ModalResult<String> {
    let quoted = |quote: char| {
        let character = alt((preceded('\\', one_of(('\\', '"', '\''))), none_of((quote, '\\'))));
        delimited(quote, repeat(0.., character), cut_err(quote))
    };
    lexeme(alt((quoted('"'), quoted('\'')))).parse_next(input)
}

fn number(input: &mut &str) -> ModalResult<FilterValue> {
    let digits = lexeme((opt('-'), take_while(1.., ('0'..='9', '.'))).take()).parse_next(input)?;
    // AND has the form of a currency, and is none.
    let currency = take_while(3..=3, 'A'..='Z').verify(|code: &str| code != "AND").try_map(str::parse::<Currency>);
    let currency = opt(lexeme(currency)).parse_next(input)?;
    let unreadable = || ErrMode::Cut(ContextError::new());
    match (currency, digits.parse::<i64>()) {
        (Some(_), _) => parse_micros(digits)
            .map(|amount_micros| FilterValue::Money { amount_micros, currency })
            .ok_or_else(unreadable),
        (None, Ok(whole)) => Ok(FilterValue::Integer(whole)),
        (None, Err(_)) => digits.parse().map(FilterValue::Decimal).map_err(|_| unreadable()),
    }
}

fn keyword<'i>(word: &'static str) -> impl Parser<&'i str, (), ErrMode<ContextError>> {
    let boundary = not(peek(any.verify(|c: &char| c.is_alphanumeric() || *c == '_')));
    lexeme((Caseless(word), boundary)).void()
}

fn symbol<'i>(symbol: &'static str) -> impl Parser<&'i str, &'i str, ErrMode<ContextError>> {
    lexeme(symbol)
}

fn lexeme<'i, O>(
    parser: impl Parser<&'i str, O, ErrMode<ContextError>>,
) -> impl Parser<&'i str, O, ErrMode<ContextError>> {
    terminated(parser, multispace0)
}

fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_value(text: &str) -> FilterValue {
        FilterValue::Text(text.to_owned())
    }

    #[test]
    fn and_binds_tighter_than_or() {
        let a = || Filter::Exists { attribute: "a".to_owned() };
        let b = || Filter::Exists { attribute: "b".to_owned() };
        assert_eq!(
            parse("a exists OR a exists and b EXISTS").unwrap(),
            Filter::Any(vec![a(), Filter::All(vec![a(), b()])])
        );
        let cheap = Filter::equals("x", FilterValue::Integer(4));
        assert_eq!(parse("x = 4 AND a EXISTS").unwrap(), Filter::All(vec![cheap, a()]));
        assert_eq!(
            parse("(a exists or b exists) AND NOT b exists").unwrap(),
            Filter::All(vec![Filter::Any(vec![a(), b()]), Filter::Not(Box::new(b()))])
        );
    }

    #[test]
    fn values_keep_their_types() {
        for (written, value) in [
            ("\"O'Neil \\\"x\\\" \\\\\"", text_value("O'Neil \"x\" \\")),
            ("'it'", text_value("it")),
            ("-3", FilterValue::Integer(-3)),
            ("2.5", FilterValue::Decimal(2.5)),
            ("TRUE", FilterValue::Bool(true)),
            ("49.90 EUR", FilterValue::Money { amount_micros: 49_900_000, currency: "EUR".parse().ok() }),
        ] {
            assert_eq!(parse(&format!(" x = {written} ")).unwrap(), Filter::equals("x", value));
        }
    }

    #[test]
    fn lists_ranges_and_paths_are_read() {
        let values = vec![text_value("red"), text_value("blue")];
        assert_eq!(parse("color IN ('red', 'blue')").unwrap(), Filter::In { attribute: "color".to_owned(), values });
        let path = "Home > Sofas".parse().unwrap();
        assert_eq!(
            parse("product_type under 'Home>Sofas'").unwrap(),
            Filter::Prefix { attribute: "product_type".to_owned(), path }
        );
        let upper = Bound::Excluded(FilterValue::Integer(50));
        let attribute = "price".to_owned();
        assert_eq!(parse("price<50").unwrap(), Filter::Range { attribute, lower: Bound::Unbounded, upper });
    }

    #[test]
    fn errors_say_where_and_what() {
        for (expression, position) in [
            ("", 1),
            ("price <", 8),
            ("price ~ 5", 7),
            ("brand = Daybird", 9),
            ("brand = \"Daybird", 17),
            ("price < 50 brand = 'x'", 12),
            ("(price < 50", 12),
            ("price < 1.2.3", 9),
        ] {
            let error = parse(expression).unwrap_err();
            assert!(!error.problem.is_empty(), "{error}");
            assert!(error.position.abs_diff(position) <= 5, "{expression}: {error}");
        }
        assert!(parse(&"(".repeat(100_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z_ ()<>=!'\"\\\\0-9.,A-Z]{0,80}") {
            drop(parse(&text));
        }
    }
}
