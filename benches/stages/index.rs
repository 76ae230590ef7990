//! A query of the index: 10,000 products like the demo's, with vectors of 512 dimensions, in Qdrant Edge.

use std::collections::BTreeMap;

use criterion::{BenchmarkId, Criterion};
use fastrand::Rng;
use tokio::runtime::Builder;
use vitrine_core::{
    embed::{Embedding, ModelInfo},
    filter::{ResolvedFilter, parse},
    index::{GenerationBuilder, IndexQuery, IndexedProduct, ProductIndex as _, QueryVector, Start, Target},
    product::{AttributeValue, CatalogName, Product, ProductId},
};
use vitrine_index::{EdgeIndex, EdgeOptions, Quantisation};

use crate::{
    filters::{FILTER, schema},
    group,
    model::words,
};

const PRODUCTS: usize = 10_000;
const DIMENSIONS: usize = 512;
/// Kinds of product; those of one kind look alike.
const KINDS: usize = 100;
/// How far a product lies from the middle of its kind: about as far as the middle from nothing.
const SPREAD: f32 = 1.0;
/// Products that are added at once.
const CHUNK: usize = 500;
/// A page of ten, and one more that tells whether there is another page.
const LIMIT: usize = 11;
/// Different queries, asked in turn.
const QUERIES: usize = 64;

const BRANDS: [&str; 8] = ["Daybird", "Nordvik Home", "Loft & Co", "Harbour", "Kestrel", "Mill Lane", "Osprey", "Tern"];
const COLOURS: [&str; 6] = ["red", "blue", "moss green", "black", "white", "oak"];

pub(crate) fn bench(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let options = EdgeOptions {
        build_threads: 0,
        root: directory.path().to_owned(),
        threads: 1,
        queue_size_max: 8,
        generations_kept: 2,
        quantisation: Quantisation::None,
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let kinds = Kinds::new();
    // Kept until the end: dropping it removes its files.
    let sealed = runtime.block_on(async {
        let index = EdgeIndex::new(options).unwrap();
        let model = ModelInfo { fingerprint: "bench".to_owned(), dimensions: DIMENSIONS };
        let builder = index.build(&CatalogName::default(), &model, &schema(), Start::Empty).await.unwrap();
        fill(&*builder, &kinds).await;
        builder.seal().await.unwrap()
    });
    let generation = sealed.generation();

    let filter = |expression| parse(expression).unwrap().resolve(&schema()).unwrap();
    let few = filter(FILTER);
    let most = filter("availability = \"in_stock\"");
    let mut group = group(criterion, "index query");
    for (name, filter, targets) in [
        ("photo", None, &[Target::Image][..]),
        ("photo, most products pass the filter", Some(&most), &[Target::Image]),
        ("photo, few products pass the filter", Some(&few), &[Target::Image]),
        ("words", None, &[Target::Image, Target::Text]),
        ("words, few products pass the filter", Some(&few), &[Target::Image, Target::Text]),
    ] {
        group.bench_function(BenchmarkId::new(name, PRODUCTS), |bench| {
            let mut queries = queries(&kinds, filter, targets).into_iter().cycle();
            bench.iter(|| runtime.block_on(generation.search(queries.next().unwrap())).unwrap());
        });
    }
    group.bench_function(BenchmarkId::new("get a product", PRODUCTS), |bench| {
        let mut ids = (0..PRODUCTS).step_by(97).map(id).cycle();
        bench.iter(|| runtime.block_on(generation.get(&ids.next().unwrap())).unwrap().unwrap());
    });
    group.finish();
}

async fn fill(builder: &dyn GenerationBuilder, kinds: &Kinds) {
    for start in (0..PRODUCTS).step_by(CHUNK) {
        builder.add((start..start + CHUNK).map(|number| product(number, kinds)).collect()).await.unwrap();
    }
}

fn queries(kinds: &Kinds, filter: Option<&ResolvedFilter>, targets: &[Target]) -> Vec<IndexQuery> {
    let share = if targets.len() == 1 { 1.0 } else { 0.5 };
    let vector = |target: &Target, number| QueryVector {
        target: *target,
        embedding: kinds.vector(number, PRODUCTS + number),
        share,
    };
    let query = |number| IndexQuery {
        vectors: targets.iter().map(|target| vector(target, number)).collect(),
        keywords: None,
        filter: filter.cloned(),
        exclude: Vec::new(),
        offset: 0,
        limit: LIMIT,
        score_min: None,
    };
    (0..QUERIES).map(query).collect()
}

fn id(number: usize) -> ProductId {
    ProductId::new(format!("product-{number}"), "id").unwrap()
}

/// A product whose attributes follow from its number.
fn product(number: usize, kinds: &Kinds) -> IndexedProduct {
    let mut rng = Rng::with_seed(number.try_into().unwrap());
    let keyword = |text: &str| AttributeValue::Keyword(text.to_owned());
    let (brand, colour) = (*rng.choice(&BRANDS).unwrap(), *rng.choice(&COLOURS).unwrap());
    let price = format!("{}.99 EUR", rng.u32(5..200));
    let path = format!("Home > Kind {}", number % KINDS);
    let attributes = BTreeMap::from([
        ("availability".to_owned(), keyword(if rng.u8(..10) == 0 { "out_of_stock" } else { "in_stock" })),
        ("brand".to_owned(), keyword(brand)),
        ("color".to_owned(), keyword(colour)),
        ("price".to_owned(), AttributeValue::Money(price.parse().unwrap())),
        ("product_type".to_owned(), AttributeValue::Path(path.parse().unwrap())),
    ]);
    let product = Product {
        id: id(number),
        title: format!("{brand} {}, {colour}", words(6)),
        description: words(12).repeat(3),
        link: format!("https://shop.example/p/{number}"),
        image_links: vec![format!("images/{number}.jpg")],
        attributes,
    };
    let vector = kinds.vector(number, number);
    IndexedProduct {
        product,
        image_embeddings: vec![vector],
        text_embedding: kinds.vector(number, !number),
        digest: None,
    }
}

/// The middles of the kinds of product.
struct Kinds(Vec<Vec<f32>>);

impl Kinds {
    fn new() -> Self {
        Self((0..KINDS).map(noise).collect())
    }

    /// A vector near the middle of the product's kind.
    fn vector(&self, number: usize, seed: usize) -> Embedding {
        let middle = self.0.get(number % KINDS).unwrap();
        let grain = noise(seed.wrapping_add(KINDS));
        Embedding::normalized(middle.iter().zip(grain).map(|(middle, grain)| middle + SPREAD * grain).collect())
            .unwrap()
    }
}

/// Numbers of -0.5 to 0.5.
fn noise(seed: usize) -> Vec<f32> {
    let mut rng = Rng::with_seed(seed.try_into().unwrap());
    (0..DIMENSIONS).map(|_| rng.f32() - 0.5).collect()
}
