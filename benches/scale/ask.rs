//! What is asked: queries, each with filters of many kinds and selectivities, and what passes each of them.

use std::{
    collections::BTreeSet,
    ops::{Bound, Range},
};

use fastrand::Rng;
use vitrine_core::{
    embed::Embedding,
    filter::{Condition, NumberRange, ResolvedFilter},
    index::{IndexQuery, QueryKeywords, QueryVector, Target},
    keywords::Keywords,
    limits::FILTER_VALUES_MAX,
};

use crate::shop::{BRANDS, Facts, GENDERS, LARGE_BRANDS, LEAVES, Shop, brand, category, euro, group, leaves};

/// Products that are asked for.
pub(crate) const LIMIT: usize = 10;
/// Shares of the products that filters let pass.
pub(crate) const SHARES: [f64; 5] = [0.0001, 0.001, 0.01, 0.1, 1.0];

/// Share of the keywords in the score of words: a server's default.
pub(crate) const KEYWORD_SHARE: f32 = 0.5;

/// Of ranges, which can let any share pass: those between, too.
const PRICE_SHARES: [f64; 9] = [0.0001, 0.001, 0.01, 0.03, 0.1, 0.15, 0.2, 0.4, 1.0];

/// Of lists: four per cent of a million products take as many values as a filter may have.
const GROUP_SHARES: [f64; 5] = [0.0001, 0.001, 0.01, 0.04, 0.1];

/// A kind of filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Keyword,
    Brands,
    Price,
    OwnCategory,
    OtherCategory,
    Groups,
    PriceAndKeyword,
    CategoryAndPrice,
    NotPrice,
}

/// Which vectors a query has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sides {
    Photo,
    PhotoAndWords,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    /// Share of the products that pass.
    pub(crate) share: f64,
    pub(crate) sides: Sides,
}

/// What products must be like to pass: inside each range.
#[derive(Debug, Clone)]
pub(crate) struct Test {
    price_micros: Range<i64>,
    leaves: Range<u32>,
    brands: Range<u32>,
    genders: Range<u32>,
    groups: Range<u32>,
}

/// A query, with what must pass in each case.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) photo: Embedding,
    pub(crate) words: Embedding,
    pub(crate) keywords: Keywords,
    /// In the order of the cases.
    pub(crate) tests: Vec<Test>,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::Keyword => "brand =",
            Self::Brands => "brand IN",
            Self::Price => "price range",
            Self::OwnCategory => "category, the query's own",
            Self::OtherCategory => "category, another",
            Self::Groups => "item_group_id IN",
            Self::PriceAndKeyword => "price AND gender",
            Self::CategoryAndPrice => "own category AND price",
            Self::NotPrice => "NOT price range",
        }
    }

    /// The shares that it can have.
    fn shares(self) -> &'static [f64] {
        match self {
            Self::None => &[1.0],
            // As many values as there are: nobody asks for that.
            // Few brands make the smallest.
            Self::Brands => &SHARES[2..4],
            Self::Groups => &GROUP_SHARES,
            Self::PriceAndKeyword | Self::OtherCategory => &SHARES[..4],
            Self::CategoryAndPrice => &SHARES[..3],
            Self::Price => &PRICE_SHARES,
            Self::Keyword | Self::OwnCategory | Self::NotPrice => &SHARES,
        }
    }
}

impl Case {
    /// All rows, without lists that are too long for a filter.
    pub(crate) fn all(shop: &Shop) -> Vec<Self> {
        use Kind::{
            Brands, CategoryAndPrice, Groups, Keyword, None, NotPrice, OtherCategory, OwnCategory, Price,
            PriceAndKeyword,
        };
        let kinds = [
            None,
            Keyword,
            Brands,
            Groups,
            Price,
            NotPrice,
            PriceAndKeyword,
            OwnCategory,
            OtherCategory,
            CategoryAndPrice,
        ];
        let of_kind =
            |kind: Kind| kind.shares().iter().map(move |share| Self { kind, share: *share, sides: Sides::Photo });
        let both = [(None, 1.0), (Price, 0.01), (Price, 0.1), (Price, 0.2), (OwnCategory, 0.1), (PriceAndKeyword, 0.1)];
        let both = both.map(|(kind, share)| Self { kind, share, sides: Sides::PhotoAndWords });
        let fits = |case: &Self| {
            case.kind != Kind::Groups || case.share * f64::from(shop.groups()) <= FILTER_VALUES_MAX as f64
        };
        kinds.into_iter().flat_map(of_kind).chain(both).filter(fits).collect()
    }

    /// As it is called in the table.
    pub(crate) fn name(&self) -> String {
        let sides = if self.sides == Sides::PhotoAndWords { "words: " } else { "" };
        let share = if self.kind == Kind::None { String::new() } else { format!(", {}", percent(self.share)) };
        format!("{sides}{}{share}", self.kind.name())
    }
}

/// A share as people read it.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

impl Test {
    fn all() -> Self {
        Self {
            price_micros: i64::MIN..i64::MAX,
            leaves: 0..u32::MAX,
            brands: 0..u32::MAX,
            genders: 0..u32::MAX,
            groups: 0..u32::MAX,
        }
    }

    /// Whether a product passes.
    pub(crate) fn passes(&self, facts: &Facts) -> bool {
        self.price_micros.contains(&facts.price_micros)
            && self.leaves.contains(&facts.leaf)
            && self.brands.contains(&facts.brand)
            && self.genders.contains(&facts.gender)
            && self.groups.contains(&facts.group)
    }
}

/// So many queries, each made from a product, with a test for each case. Nobody asks for words that are common.
pub(crate) fn questions(shop: &Shop, cases: &[Case], count: usize, common: &BTreeSet<u32>) -> Vec<Question> {
    let mut prices: Vec<i64> = (0..shop.products).map(|number| shop.facts(number).price_micros).collect();
    prices.sort_unstable();
    let mut rng = Rng::with_seed(7);
    let question = |_| {
        let number = rng.usize(..shop.products);
        let leaf = shop.facts(number).leaf;
        let mut drawing = Drawing { groups: shop.groups(), prices: &prices, leaf, rng: rng.fork() };
        Question {
            photo: shop.query(number, Target::Image),
            words: shop.query(number, Target::Text),
            keywords: shop.typed(number).without(common),
            tests: cases.iter().map(|case| drawing.test(case.kind, case.share)).collect(),
        }
    };
    (0..count).map(question).collect()
}

impl Question {
    /// The query of a case. Made when it is asked: lists of values are long.
    pub(crate) fn query(&self, nth: usize, case: &Case) -> IndexQuery {
        let vector = |target, embedding: &Embedding, share| QueryVector { target, embedding: embedding.clone(), share };
        let vectors = match case.sides {
            Sides::Photo => vec![vector(Target::Image, &self.photo, 1.0)],
            Sides::PhotoAndWords => {
                let share = (1.0 - KEYWORD_SHARE) / 2.0;
                vec![vector(Target::Image, &self.photo, share), vector(Target::Text, &self.words, share)]
            }
        };
        let keywords = (case.sides == Sides::PhotoAndWords)
            .then(|| QueryKeywords { keywords: self.keywords.clone(), share: KEYWORD_SHARE });
        IndexQuery {
            vectors,
            keywords,
            filter: self.tests[nth].filter(case.kind),
            exclude: Vec::new(),
            offset: 0,
            limit: LIMIT,
            score_min: None,
        }
    }
}

/// Draws the tests of one query.
struct Drawing<'a> {
    groups: u32,
    /// Of all products, in order.
    prices: &'a [i64],
    /// Category of the product that the query was made from.
    leaf: u32,
    rng: Rng,
}

impl Drawing<'_> {
    fn test(&mut self, kind: Kind, share: f64) -> Test {
        let all = Test::all();
        match kind {
            Kind::None => all,
            Kind::Keyword => {
                let large = (0..).zip(LARGE_BRANDS).find(|(_, of_brand)| (of_brand / share - 1.0).abs() < 0.01);
                large.map_or(all.clone(), |(number, _)| Test { brands: number..number + 1, ..all })
            }
            Kind::Brands => {
                let first = LARGE_BRANDS.len() as u32;
                let of_small = 1.0 - LARGE_BRANDS.iter().sum::<f64>();
                let count = (share / of_small * f64::from(BRANDS - first)).round() as u32;
                let start = self.rng.u32(first..=BRANDS - count);
                Test { brands: start..start + count, ..all }
            }
            Kind::Groups => {
                let count = ((share * f64::from(self.groups)).round() as u32).max(1);
                let start = self.rng.u32(0..=self.groups - count);
                Test { groups: start..start + count, ..all }
            }
            Kind::Price => Test { price_micros: self.prices(share), ..all },
            // The dearest.
            Kind::NotPrice => {
                let cheap = self.prices.len() - ((share * self.prices.len() as f64).round() as usize).max(1);
                Test { price_micros: self.prices[cheap]..i64::MAX, ..all }
            }
            Kind::OwnCategory => Test { leaves: leaves(self.leaf, levels(share)), ..all },
            Kind::OtherCategory => {
                let other = (self.leaf + LEAVES / 10 * self.rng.u32(1..10)) % LEAVES;
                Test { leaves: leaves(other, levels(share)), ..all }
            }
            Kind::PriceAndKeyword => {
                let gender = self.rng.u32(..GENDERS.len() as u32);
                Test { price_micros: self.prices(2.0 * share), genders: gender..gender + 1, ..all }
            }
            // One level up, and a tenth of that by price.
            Kind::CategoryAndPrice => {
                Test { leaves: leaves(self.leaf, levels(10.0 * share)), price_micros: self.prices(0.1), ..all }
            }
        }
    }

    /// A window anywhere in the prices.
    fn prices(&mut self, share: f64) -> Range<i64> {
        let all = self.prices.len();
        let count = ((share * all as f64).round() as usize).clamp(1, all);
        let start = self.rng.usize(0..=all - count);
        let end = self.prices.get(start + count).copied().unwrap_or(self.prices[all - 1] + 1);
        self.prices[start]..end
    }
}

/// Levels of the category that has this share of the products.
fn levels(share: f64) -> u32 {
    (-share.log10()).round() as u32
}

impl Test {
    /// The test as a filter.
    fn filter(&self, kind: Kind) -> Option<ResolvedFilter> {
        let filter = match kind {
            Kind::None => return None,
            // What all products have.
            Kind::Keyword if self.brands.end == u32::MAX => keywords("condition", vec!["new".to_owned()]),
            Kind::Keyword | Kind::Brands => keywords("brand", self.brands.clone().map(brand).collect()),
            Kind::Groups => keywords("item_group_id", self.groups.clone().map(group).collect()),
            Kind::Price => self.price(),
            Kind::NotPrice => ResolvedFilter::Not(Box::new(amount(i64::MIN / 2, self.price_micros.start))),
            Kind::OwnCategory | Kind::OtherCategory => self.category(),
            Kind::PriceAndKeyword => {
                let gender = GENDERS[self.genders.start as usize].to_owned();
                ResolvedFilter::All(vec![self.price(), keywords("gender", vec![gender])])
            }
            Kind::CategoryAndPrice => ResolvedFilter::All(vec![self.category(), self.price()]),
        };
        Some(filter)
    }

    fn price(&self) -> ResolvedFilter {
        amount(self.price_micros.start, self.price_micros.end)
    }

    fn category(&self) -> ResolvedFilter {
        let width = f64::from(self.leaves.end - self.leaves.start);
        let levels = levels(width / f64::from(LEAVES));
        is("product_type", Condition::PathUnder(category(self.leaves.start, levels)))
    }
}

fn keywords(attribute: &str, values: Vec<String>) -> ResolvedFilter {
    is(attribute, Condition::KeywordIn(values))
}

fn amount(from: i64, to: i64) -> ResolvedFilter {
    let range = NumberRange { lower: Bound::Included(from as f64), upper: Bound::Excluded(to as f64) };
    is("price", Condition::Amount(euro(), range))
}

fn is(attribute: &str, condition: Condition) -> ResolvedFilter {
    ResolvedFilter::Is { attribute: attribute.to_owned(), condition }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::Shape;

    #[test]
    fn every_filter_lets_its_share_of_the_products_pass() {
        let shop = Shop::new(200_000, 1, Shape::Categories);
        let cases = Case::all(&shop);
        let facts: Vec<Facts> = (0..shop.products).map(|number| shop.facts(number)).collect();
        for question in questions(&shop, &cases, 2, &BTreeSet::new()) {
            for (case, test) in cases.iter().zip(&question.tests) {
                let share = facts.iter().filter(|facts| test.passes(facts)).count() as f64 / facts.len() as f64;
                // Of twenty products, there may be ten more or less.
                let slack = 0.25 * case.share + 1.0e-4;
                assert!((share - case.share).abs() < slack, "{}: {share}", case.name());
            }
        }
    }
}
