//! The words of products and queries, for what no embedding knows: names, brands and part numbers. BM25.
//!
//! Of each of its words a product keeps how much it counts there, and an index how many products have it. A query scores
//! the sum, over its words, of the first times how rare the second makes it. Source: Robertson and Zaragoza, *The
//! probabilistic relevance framework: BM25 and beyond*, 2009, with k₁ and b as there.

mod counter;

use std::collections::{BTreeMap, BTreeSet};

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::{
    limits::{KEYWORDS_OF_PRODUCT_MAX, KEYWORDS_OF_QUERY_MAX},
    product::{AttributeValue, Product},
};

pub use counter::{KeptWords, WordCounter};

/// Names how keywords are made. Those of products and queries that were made differently must not be compared: to be raised
/// when the same product is to have other words, or they are to count otherwise.
pub const VERSION: u32 = 1;

/// How soon a word that is said again counts no more.
const K1: f32 = 1.2;
/// How much a word counts less in a longer product.
const B: f32 = 0.75;
/// Words of a product on average, which no loader can know before its last product: what the feeds of four shops have.
const AVERAGE_WORDS: f32 = 16.0;
/// Attributes of which every product has one of a few fixed values, which tell products apart by filters and not by words.
/// Source: Google Merchant Center product data specification.
const OF_FIXED_VALUES: [&str; 4] = ["age_group", "availability", "condition", "gender"];

/// Words, by number, and how much each counts: a sparse vector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keywords(BTreeMap<u32, f32>);

impl Keywords {
    /// The words of a product's identifier, title, categories, and of what else it has as short text. At most
    /// [`KEYWORDS_OF_PRODUCT_MAX`].
    pub fn of_product(product: &Product) -> Self {
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        let mut length = 0.0;
        let names = [product.id.as_str(), &product.title].map(str::to_owned);
        let attributes = product.attributes.iter().filter_map(|(name, value)| words_of(name, value));
        for word in names.into_iter().chain(attributes).flat_map(|text| words(&text)) {
            let number = number(&word);
            if counts.contains_key(&number) || counts.len() < KEYWORDS_OF_PRODUCT_MAX {
                *counts.entry(number).or_default() += 1.0;
                length += 1.0;
            }
        }
        let longer = 1.0 - B + B * length / AVERAGE_WORDS;
        let weight = |count: f32| count * (K1 + 1.0) / (count + K1 * longer);
        Self(counts.into_iter().map(|(number, count)| (number, weight(count))).collect())
    }

    /// The words of texts, each with how much it counts, more than 0. At most [`KEYWORDS_OF_QUERY_MAX`].
    pub fn of_query<'a>(texts: impl IntoIterator<Item = (&'a str, f32)>) -> Self {
        let mut weights = BTreeMap::new();
        for (text, weight) in texts {
            for word in words(text) {
                let number = number(&word);
                if weights.contains_key(&number) || weights.len() < KEYWORDS_OF_QUERY_MAX {
                    let known = weights.entry(number).or_insert(weight);
                    *known = weight.max(*known);
                }
            }
        }
        Self(weights)
    }

    /// Each word once, in the order of their numbers, with how much it counts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, f32)> + '_ {
        self.0.iter().map(|(number, weight)| (*number, *weight))
    }

    /// The others than these.
    #[must_use]
    pub fn without(mut self, common: &BTreeSet<u32>) -> Self {
        self.0.retain(|word, _| !common.contains(word));
        self
    }

    /// How much a word counts, if it is there.
    pub fn weight(&self, number: u32) -> Option<f32> {
        self.0.get(&number).copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How rare a word is that so many of so many products have: BM25's inverse document frequency, in the form that is never
/// negative, which Qdrant has, too.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a logarithm of counts")]
pub fn rarity(products: usize, having: usize) -> f32 {
    let (products, having) = (products as f32, having as f32);
    ((products - having + 0.5) / (having + 0.5)).max(0.0).ln_1p()
}

/// A score of BM25 as a similarity, from 0 to less than 1: s / (s + p), where p is what one word scores that only one of so
/// many products has, once, among an average number. So such a word makes about a half, and words that many products have
/// make little.
pub fn similarity(score: f32, products: usize) -> f32 {
    let pivot = rarity(products.max(1), 1);
    (score / (score + pivot)).max(0.0)
}

fn words_of(name: &str, value: &AttributeValue) -> Option<String> {
    let is_text = match value {
        AttributeValue::Keyword(_) | AttributeValue::Keywords(_) | AttributeValue::Path(_) => true,
        AttributeValue::Integer(_)
        | AttributeValue::Decimal(_)
        | AttributeValue::Bool(_)
        | AttributeValue::Money(_)
        | AttributeValue::Prose(_) => false,
    };
    (is_text && !OF_FIXED_VALUES.contains(&name)).then(|| value.to_string())
}

/// The words of a text, by Unicode's boundaries (UAX 29), in lower case and without accents. What is written together but
/// is several words, such as `NX-4500/B`, is there as one word, too: people leave out what is between.
fn words(text: &str) -> Vec<String> {
    // Combining marks of Latin, Greek and Cyrillic letters; those of other scripts are letters of theirs.
    let is_accent = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    // They would become letters of the word before.
    let marked = |c: char| if c == '™' || c == '℠' { ' ' } else { c };
    let plain: String = text.chars().map(marked).nfkd().collect();
    let folded: String = plain.to_lowercase().replace('ß', "ss").chars().filter(|c| !is_accent(c)).collect();
    let mut words = Vec::new();
    for together in folded.split_whitespace() {
        let before = words.len();
        words.extend(together.unicode_words().map(str::to_owned));
        let joined: String = together.chars().filter(|c| c.is_alphanumeric() || is_combining_mark(*c)).collect();
        let is_new = words.len() > before && words.get(before..).is_some_and(|parts| !parts.contains(&joined));
        if is_new && !has_number_with_fraction(together) {
            words.push(joined);
        }
    }
    words
}

/// Whether there is a point or comma between digits, without which it would be another number.
fn has_number_with_fraction(text: &str) -> bool {
    let mut chars = text.chars();
    let (mut before, mut between) = (chars.next(), chars.next());
    chars.any(|after| {
        let found = matches!(between, Some('.' | ','))
            && before.is_some_and(|before| before.is_ascii_digit())
            && after.is_ascii_digit();
        (before, between) = (between, Some(after));
        found
    })
}

/// The number of a word: 32 bits of BLAKE3. Of a million words, two in ten thousand share theirs with another.
fn number(word: &str) -> u32 {
    let mut bytes = [0; 4];
    blake3::Hasher::new().update(word.as_bytes()).finalize_xof().fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::ProductId;

    fn product(title: &str, attributes: &[(&str, AttributeValue)]) -> Product {
        Product {
            id: ProductId::new("A-17", "id").unwrap(),
            title: title.to_owned(),
            description: "described at length".to_owned(),
            link: String::new(),
            image_links: Vec::new(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    fn weight_of(keywords: &Keywords, word: &str) -> Option<f32> {
        keywords.weight(number(word))
    }

    #[test]
    fn words_are_found_however_they_are_written() {
        for (text, expected) in [
            ("Blue  T-Shirt", "blue t shirt tshirt"),
            ("NX-4500/B filter", "nx 4500 b nx4500b filter"),
            ("Café ÉCLAIR (large)", "cafe eclair large"),
            ("O'Neil 3.5mm 1,5-inch", "o'neil oneil 3.5mm 1,5 inch"),
            ("İstanbul ﬁn Straße STRASSE Йод", "istanbul fin strasse strasse иод"),
            ("Nordvik™ NX-4500™ №5 Fenwick®", "nordvik nx 4500 nx4500 no5 fenwick"),
            ("हिन्दी 椅子", "हिन्दी 椅 子 椅子"),
            ("Home > Sofas, & more", "home sofas more"),
            (" —  … ", ""),
        ] {
            assert_eq!(words(text).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn of_a_product_names_count_and_neither_prose_nor_fixed_values() {
        let text = |text: &str| AttributeValue::Keyword(text.to_owned());
        let found = Keywords::of_product(&product(
            "Hiking boot",
            &[
                ("brand", text("Daybird")),
                ("mpn", text("NX-4500")),
                ("tags", AttributeValue::Keywords(vec!["wide fit".to_owned()])),
                ("product_type", AttributeValue::Path("Shoes > Boots".parse().unwrap())),
                ("availability", text("in_stock")),
                ("story", AttributeValue::Prose("once".to_owned())),
                ("stock", AttributeValue::Integer(12)),
            ],
        ));
        for word in ["a17", "a", "17", "hiking", "boot", "daybird", "nx4500", "wide", "fit", "shoes", "boots"] {
            assert!(weight_of(&found, word).is_some(), "{word}");
        }
        for word in ["in_stock", "once", "12", "described"] {
            assert_eq!(weight_of(&found, word), None, "{word}");
        }
    }

    #[test]
    fn a_word_counts_more_if_it_is_said_again_and_less_among_many() {
        let once = Keywords::of_product(&product("red", &[]));
        let twice = Keywords::of_product(&product("red red", &[]));
        let among = Keywords::of_product(&product(&format!("red {}", "other ".repeat(20)), &[]));
        let of = |keywords| weight_of(keywords, "red").unwrap();
        assert!(of(&once) < of(&twice) && of(&twice) < 2.0 * of(&once) && of(&among) < of(&once));
        // `a`, `17`, `a17` and twelve more: as many as are reckoned with.
        let average = Keywords::of_product(&product("b c d e f g h i j k l m red", &[]));
        assert!((of(&average) - 1.0).abs() < 1e-6, "{}", of(&average));
    }

    #[test]
    fn of_a_query_each_word_counts_as_its_heaviest_text() {
        let query = Keywords::of_query([("red shoe", 0.5), ("blue shoe", 1.0)]);
        let weights = ["red", "shoe", "blue"].map(|word| weight_of(&query, word).unwrap());
        assert!(weights.iter().zip([0.5, 1.0, 1.0]).all(|(weight, expected)| (weight - expected).abs() < f32::EPSILON));
        assert_eq!(query.iter().len(), 3);
        assert!(Keywords::of_query([("!?", 1.0)]).is_empty());
    }

    #[test]
    fn there_are_no_more_words_than_the_limits_say() {
        let many: Vec<String> = (0..1000).map(|word| format!("w{word}")).collect();
        assert_eq!(Keywords::of_query([(many.join(" ").as_str(), 1.0)]).iter().len(), KEYWORDS_OF_QUERY_MAX);
        let found = Keywords::of_product(&product(&(many.join(" ") + &" w0".repeat(9)), &[]));
        assert_eq!(found.iter().len(), KEYWORDS_OF_PRODUCT_MAX);
        assert!(weight_of(&found, "w0") > weight_of(&found, "w1"));
    }

    #[test]
    fn a_word_of_one_product_makes_a_half_and_one_of_all_nothing() {
        for products in [1, 10, 1_000_000] {
            assert!((similarity(rarity(products, 1), products) - 0.5).abs() < 1e-6, "{products}");
        }
        let common = similarity(rarity(1_000_000, 1_000_000), 1_000_000);
        assert!((0.0..0.001).contains(&common), "{common}");
        assert!(similarity(2.0 * rarity(10, 1), 10) > 0.6 && similarity(0.0, 0).abs() < f32::EPSILON);
        assert!(rarity(3, 5).abs() < f32::EPSILON, "of a count that is behind");
    }
}
