//! A shop of any size, drawn from a seed: product number n is always the same, and nothing of it is kept.
//!
//! A vector is the sum of directions: of the product's category, root to leaf; of its style, 24 dimensions that all
//! products share; and of noise of its own. So the nearest products are of the same category and of a like style. The
//! other shape, clusters, is harder than pictures are: one of a thousand middles and as much noise in all dimensions, so
//! that the nearest of a cluster are hardly nearer than its rest.

use std::{collections::BTreeMap, iter, ops::Range};

use fastrand::Rng;
use vitrine_core::{
    embed::Embedding,
    index::{IndexedProduct, Target},
    keywords::Keywords,
    product::{
        AttributeSpec, AttributeType, AttributeValue, CategoryPath, Currency, Money, Product, ProductId, Schema,
        standard_attribute,
    },
};

/// Numbers in a vector.
pub(crate) const DIMENSIONS: usize = 512;
/// Lowest categories: four levels of ten below the root of all.
pub(crate) const LEAVES: u32 = 10_000;
/// Products of one group, on average.
pub(crate) const GROUP_SIZE: usize = 4;
/// The first brands, each with a tenth of the share of the one before, from a tenth down; the rest share evenly.
pub(crate) const LARGE_BRANDS: [f64; 4] = [0.1, 0.01, 0.001, 0.0001];
/// All brands.
pub(crate) const BRANDS: u32 = 5000;
/// Values of `gender`, evenly.
pub(crate) const GENDERS: [&str; 2] = ["female", "male"];

/// Dimensions of the style.
const STYLES: u64 = 24;
/// Lengths of the parts of a vector: four levels of category, style, noise.
const LEVELS: [f32; 4] = [0.55, 0.45, 0.45, 0.35];
const STYLE: f32 = 0.55;
const NOISE: f32 = 0.35;
/// Length of the noise around the middle of a cluster, which is 1 from nothing.
const SPREAD: f32 = 1.0;
/// How much of a query's style is that of the product it was made from; the rest is new.
const QUERY_STYLE: f32 = 0.9;
/// How much of a text's style is that of the picture.
const TEXT_STYLE: f32 = 0.7;
/// Numbers that directions are cut from.
const BANK: usize = 1 << 20;
const COLOURS: [&str; 12] =
    ["red", "blue", "green", "black", "white", "oak", "grey", "beige", "pink", "gold", "navy", "rust"];
const SIZES: [&str; 6] = ["XS", "S", "M", "L", "XL", "XXL"];

/// How vectors lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    Categories,
    Clusters,
}

/// What filters can tell of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) leaf: u32,
    pub(crate) brand: u32,
    pub(crate) gender: u32,
    pub(crate) group: u32,
    pub(crate) price_micros: i64,
}

/// The shop.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) products: usize,
    seed: u64,
    shape: Shape,
    bank: Vec<f32>,
    groups: u32,
}

impl Shop {
    pub(crate) fn new(products: usize, seed: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Sums of uniform numbers are near enough to normal ones; a cut of 512 has a length of about 1.
        let scale = (3.0 / DIMENSIONS as f32).sqrt();
        let bank = iter::repeat_with(|| (0..4).map(|_| rng.f32() - 0.5).sum::<f32>() * scale);
        let groups = u32::try_from(products / GROUP_SIZE).unwrap_or(u32::MAX).max(1);
        Self { products, seed, shape, bank: bank.take(BANK + DIMENSIONS).collect(), groups }
    }

    /// Names what the shop is made of, as a model's fingerprint does.
    pub(crate) fn fingerprint(&self) -> String {
        format!("index-bench-2-{}-{}-{:?}", self.products, self.seed, self.shape)
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> u32 {
        self.groups
    }

    /// What can be filtered by.
    pub(crate) fn schema() -> Schema {
        let names = ["availability", "brand", "color", "condition", "gender", "item_group_id", "price", "product_type"];
        let standard = names.map(|name| (name, standard_attribute(name).unwrap()));
        let own = [("size", AttributeType::Keyword), ("stock", AttributeType::Integer)];
        let spec = |(name, kind): (&str, AttributeType)| {
            let currencies = (kind == AttributeType::Money).then(euro).into_iter().collect();
            (name.to_owned(), AttributeSpec { kind, currencies })
        };
        Schema { attributes: standard.into_iter().chain(own).map(spec).collect() }
    }

    /// What filters can tell of a product.
    pub(crate) fn facts(&self, number: usize) -> Facts {
        self.draw(number).0
    }

    /// A product with its vectors.
    pub(crate) fn product(&self, number: usize) -> IndexedProduct {
        IndexedProduct {
            product: self.described(number),
            image_embeddings: vec![Embedding::normalized(self.vector(number, Target::Image)).unwrap()],
            text_embedding: Embedding::normalized(self.vector(number, Target::Text)).unwrap(),
            digest: None,
        }
    }

    /// A product without its vectors.
    pub(crate) fn described(&self, number: usize) -> Product {
        let (facts, mut rng) = self.draw(number);
        let keyword = |text: &str| AttributeValue::Keyword(text.to_owned());
        let brand = brand(facts.brand);
        let (colour, size) = (COLOURS[rng.usize(..COLOURS.len())], SIZES[rng.usize(..SIZES.len())]);
        let available = if rng.u8(..10) == 0 { "out_of_stock" } else { "in_stock" };
        let price = Money { amount_micros: facts.price_micros, currency: euro() };
        let attributes = BTreeMap::from([
            ("availability".to_owned(), keyword(available)),
            ("brand".to_owned(), keyword(&brand)),
            ("color".to_owned(), keyword(colour)),
            ("condition".to_owned(), keyword("new")),
            ("gender".to_owned(), keyword(GENDERS[facts.gender as usize])),
            ("item_group_id".to_owned(), keyword(&group(facts.group))),
            ("price".to_owned(), AttributeValue::Money(price)),
            ("product_type".to_owned(), AttributeValue::Path(category(facts.leaf, 4))),
            ("size".to_owned(), keyword(size)),
            ("stock".to_owned(), AttributeValue::Integer(rng.i64(0..500))),
        ]);
        let title = format!("{brand} article {} in {colour}, {size}", facts.leaf);
        Product {
            id: product_id(number),
            description: format!("{title}. {}", "Made to last, easy to care for, and sent within two days. ".repeat(3)),
            title,
            link: format!("https://shop.example/p/{number}"),
            image_links: vec![format!("https://shop.example/i/{number}.jpg")],
            attributes,
        }
    }

    /// What is typed to find products like this one: its brand, which few have, a category of a hundredth, its colour, and a word
    /// that all products have.
    pub(crate) fn typed(&self, number: usize) -> Keywords {
        let attributes = self.described(number).attributes;
        let leaf = self.facts(number).leaf;
        let typed = format!("{} C{} in {}", attributes["brand"], leaf / 100, attributes["color"]);
        Keywords::of_query([(typed.as_str(), 1.0)])
    }

    /// One side of a product: `DIMENSIONS` numbers, of any length.
    pub(crate) fn vector(&self, number: usize, target: Target) -> Vec<f32> {
        self.vector_of(number, target, false)
    }

    /// What is asked for to find products like this one: a photo or words that are not in the shop.
    pub(crate) fn query(&self, number: usize, target: Target) -> Embedding {
        Embedding::normalized(self.vector_of(number, target, true)).unwrap()
    }

    fn vector_of(&self, number: usize, target: Target, asked: bool) -> Vec<f32> {
        let leaf = self.facts(number).leaf;
        let number = number as u64;
        let side = match target {
            Target::Image => 0,
            Target::Text => 1_u64,
        };
        let mut vector = vec![0.0; DIMENSIONS];
        let mut add = |length: f32, direction: &[f32]| {
            vector.iter_mut().zip(direction).for_each(|(sum, part)| *sum += length * part);
        };
        if self.shape == Shape::Clusters {
            add(1.0, self.direction([12, side, u64::from(leaf / 10)]));
            add(SPREAD, self.direction([40 + u64::from(asked), side, number]));
            return vector;
        }
        let mut node = leaf;
        for (level, length) in LEVELS.iter().enumerate().rev() {
            add(*length, self.direction([10 + level as u64, side, u64::from(node)]));
            node /= 10;
        }
        let own = self.direction([20, 0, number]);
        let (other, share) = match (target, asked) {
            (Target::Image, false) => (own, 1.0),
            (Target::Text, false) => (self.direction([21, 0, number]), TEXT_STYLE),
            (Target::Image | Target::Text, true) => (self.direction([22, side, number]), QUERY_STYLE),
        };
        let rest = (1.0 - share * share).sqrt();
        // A number of the bank is about 1 / √512 long.
        let scale = STYLE * (DIMENSIONS as f32 / STYLES as f32).sqrt();
        for (style, (own, other)) in (0..STYLES).zip(own.iter().zip(other)) {
            add(scale * (share * own + rest * other), self.direction([30, side, style]));
        }
        add(NOISE, self.direction([40 + u64::from(asked), side, number]));
        vector
    }

    fn direction(&self, key: [u64; 3]) -> &[f32] {
        let start = key.iter().fold(self.seed, |hash, part| mix(hash ^ part)) as usize % BANK;
        &self.bank[start..start + DIMENSIONS]
    }

    fn draw(&self, number: usize) -> (Facts, Rng) {
        let mut rng = Rng::with_seed(mix(self.seed ^ mix(number as u64)));
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        // Half of the prices are below 33 EUR, and one in forty above 160.
        let cents = (100.0 * (3.5 + 0.8 * normal).exp()).round() as i64;
        let facts = Facts {
            leaf: rng.u32(..LEAVES),
            brand: draw_brand(&mut rng),
            gender: rng.u32(..GENDERS.len() as u32),
            group: rng.u32(..self.groups),
            price_micros: cents * 10_000,
        };
        (facts, rng)
    }
}

fn draw_brand(rng: &mut Rng) -> u32 {
    let mut place = rng.f64();
    for (number, share) in (0..).zip(LARGE_BRANDS) {
        if place < share {
            return number;
        }
        place -= share;
    }
    rng.u32(LARGE_BRANDS.len() as u32..BRANDS)
}

/// Identifier of a product.
pub(crate) fn product_id(number: usize) -> ProductId {
    ProductId::new(format!("p{number}"), "id").unwrap()
}

/// The product of an identifier.
pub(crate) fn number(id: &ProductId) -> Option<usize> {
    id.as_str().strip_prefix('p')?.parse().ok()
}

/// Name of a brand.
pub(crate) fn brand(number: u32) -> String {
    format!("Brand {number}")
}

/// Identifier of a group.
pub(crate) fn group(number: u32) -> String {
    format!("group-{number}")
}

pub(crate) fn euro() -> Currency {
    "EUR".parse().unwrap()
}

/// The category that a leaf is in, so many levels below the root of all.
pub(crate) fn category(leaf: u32, levels: u32) -> CategoryPath {
    let names = (1..=levels).map(|level| format!(" > C{}", leaf / 10_u32.pow(4 - level)));
    format!("Shop{}", names.collect::<String>()).parse().unwrap()
}

/// The leaves of that category.
pub(crate) fn leaves(leaf: u32, levels: u32) -> Range<u32> {
    let width = 10_u32.pow(4 - levels);
    let start = leaf / width * width;
    start..start + width
}

/// A good hash of a number: the last steps of `SplitMix64`.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_product_and_another_seed_another() {
        let product = |seed| Shop::new(1000, seed, Shape::Categories).product(7);
        assert_eq!(product(1).product, product(1).product);
        assert_eq!(product(1).image_embeddings, product(1).image_embeddings);
        assert_ne!(product(1).image_embeddings, product(2).image_embeddings);
    }

    #[test]
    fn products_of_a_leaf_are_nearer_than_those_of_other_leaves_and_a_query_is_nearest_to_its_product() {
        let shop = Shop::new(100_000, 1, Shape::Categories);
        let near = |number| shop.query(0, Target::Image).cosine_to(embedding(&shop, number).values());
        let (mut same, mut other): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
        for number in 1..shop.products {
            let list = if shop.facts(number).leaf == shop.facts(0).leaf { &mut same } else { &mut other };
            list.push(near(number));
        }
        let mean = |list: &[f32]| list.iter().sum::<f32>() / list.len() as f32;
        assert!(mean(&same) > mean(&other) + 0.4, "{} {}", mean(&same), mean(&other));
        assert!(same.iter().chain(&other).all(|cosine| *cosine < near(0)));
    }

    fn embedding(shop: &Shop, number: usize) -> Embedding {
        Embedding::normalized(shop.vector(number, Target::Image)).unwrap()
    }

    #[test]
    fn a_category_has_the_leaves_whose_paths_begin_with_its_own() {
        assert_eq!(category(1234, 4).to_string(), "Shop > C1 > C12 > C123 > C1234");
        assert_eq!(category(1234, 2).to_string(), "Shop > C1 > C12");
        assert_eq!(leaves(1234, 2), 1200..1300);
        assert_eq!(leaves(1234, 0), 0..LEAVES);
    }

    #[test]
    fn large_brands_have_their_shares() {
        let shop = Shop::new(100_000, 1, Shape::Categories);
        let count = |brand| (0..shop.products).filter(|number| shop.facts(*number).brand == brand).count();
        assert!((9500..10_500).contains(&count(0)), "{}", count(0));
        assert!((900..1100).contains(&count(1)), "{}", count(1));
    }
}
