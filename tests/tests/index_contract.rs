//! What every `ProductIndex` does: one suite, run against each of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    collections::BTreeSet,
    error::Error as _,
    f32::consts::{FRAC_1_SQRT_2, FRAC_PI_2},
    ops::Bound,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Handle;
use vitrine_core::{
    embed::{Embedding, ModelInfo},
    fakes::{MemoryIndex, matches},
    filter::{Filter, FilterValue, ResolvedFilter},
    generations::{Destination, Generations as _, Pruned, Switch},
    index::{
        Digest, Generation, IndexError, IndexQuery, IndexedProduct, Origin, ProductIndex, QueryKeywords, QueryVector,
        Start, Target,
    },
    keywords::Keywords,
    product::{AttributeSpec, AttributeType, AttributeValue, CatalogName, Product, ProductId, Schema},
};
use vitrine_index::{EdgeIndex, EdgeOptions, Quantisation, ServedIndex};
use vitrine_tests::{IndexKind, TestIndex, manifest};

const DIMENSIONS: usize = 8;
/// Most that a cosine of vectors of 16 bits is off by.
const ROUNDING: f32 = 1e-3;

fn model() -> ModelInfo {
    ModelInfo { fingerprint: "test".to_owned(), dimensions: DIMENSIONS }
}

fn edge(root: &Path) -> EdgeIndex {
    edge_keeping(root, 2)
}

fn edge_keeping(root: &Path, generations_kept: usize) -> EdgeIndex {
    let quantisation = Quantisation::None;
    let options = EdgeOptions {
        root: root.to_owned(),
        threads: 2,
        queue_size_max: 64,
        generations_kept,
        quantisation,
        build_threads: 0,
    };
    EdgeIndex::new(options).unwrap()
}

fn schema() -> Schema {
    let spec = |kind, currencies: &[&str]| AttributeSpec {
        kind,
        currencies: currencies.iter().map(|code| code.parse().unwrap()).collect(),
    };
    let attributes = [
        ("brand", spec(AttributeType::Keyword, &[])),
        ("tags", spec(AttributeType::Keyword, &[])),
        ("product_type", spec(AttributeType::Path, &[])),
        ("stock", spec(AttributeType::Integer, &[])),
        ("weight", spec(AttributeType::Decimal, &[])),
        ("vegan", spec(AttributeType::Bool, &[])),
        ("price", spec(AttributeType::Money, &["EUR", "USD"])),
        ("story", spec(AttributeType::Prose, &[])),
    ];
    Schema { attributes: attributes.map(|(name, spec)| (name.to_owned(), spec)).into() }
}

/// Numbers that look random and are the same at every run.
fn vector(seed: usize) -> Embedding {
    let hash = blake3::hash(&seed.to_le_bytes());
    let values = hash.as_bytes().iter().take(DIMENSIONS).map(|byte| f32::from(*byte) - 127.5);
    Embedding::normalized(values.collect()).unwrap()
}

fn id(number: usize) -> ProductId {
    ProductId::new(format!("p{number}"), "id").unwrap()
}

/// A product whose attributes follow from its number; one in seven has none of them.
fn product(number: usize) -> IndexedProduct {
    let text = |text: &str| AttributeValue::Keyword(text.to_owned());
    let pictures = 1 + number % 3;
    let whole = i64::try_from(number).unwrap();
    let mut attributes = vec![
        ("brand", text(["Daybird", "Loft & Co", "naïve", "O'Neil \"x\""][number % 4])),
        ("tags", AttributeValue::Keywords(vec![format!("t{}", number % 5), format!("t{}", number % 3)])),
        (
            "product_type",
            AttributeValue::Path(["Home", "Home > Sofas", "Homeware > Mugs"][number % 3].parse().unwrap()),
        ),
        ("stock", AttributeValue::Integer(whole % 11 - 3)),
        ("weight", AttributeValue::Decimal(f64::from(i32::try_from(number % 13).unwrap()) / 4.0)),
        ("vegan", AttributeValue::Bool(number.is_multiple_of(2))),
        ("price", AttributeValue::Money(format!("{}.99 {}", number % 17, ["EUR", "USD"][number % 2]).parse().unwrap())),
        ("story", AttributeValue::Prose("long".to_owned())),
    ];
    if number % 7 == 3 {
        attributes.clear();
    }
    let product = Product {
        id: id(number),
        title: format!("product {number}"),
        description: String::new(),
        link: String::new(),
        image_links: (0..pictures).map(|picture| format!("{number}-{picture}.jpg")).collect(),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let image_embeddings = (0..pictures).map(|picture| vector(1000 * number + picture)).collect();
    IndexedProduct { product, image_embeddings, text_embedding: vector(1_000_000 + number), digest: None }
}

async fn load(index: &dyn ProductIndex, numbers: impl Iterator<Item = usize>) {
    load_into(index, &CatalogName::default(), numbers).await;
}

async fn load_into(index: &dyn ProductIndex, catalog: &CatalogName, numbers: impl Iterator<Item = usize>) {
    let builder = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    builder.add(numbers.map(product).collect()).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
}

fn query(target: Target, embedding: Embedding) -> IndexQuery {
    IndexQuery {
        vectors: vec![QueryVector { target, embedding, share: 1.0 }],
        keywords: None,
        filter: None,
        exclude: Vec::new(),
        offset: 0,
        limit: 1000,
        score_min: None,
    }
}

async fn found(generation: &dyn Generation, query: IndexQuery) -> Vec<String> {
    generation.search(query).await.unwrap().into_iter().map(|hit| hit.product.id.to_string()).collect()
}

/// A query that compares with pictures and texts.
fn query_of_two() -> IndexQuery {
    let mut both = query(Target::Image, vector(8002));
    both.vectors[0].share = 0.4;
    both.vectors.push(QueryVector { target: Target::Text, embedding: vector(1_000_009), share: 0.6 });
    both
}

/// A query for words, which count nine times as much as the vectors do: these are of too few dimensions for any to be far.
fn with_words(mut query: IndexQuery, words: &str) -> IndexQuery {
    query.vectors.iter_mut().for_each(|vector| vector.share /= 10.0);
    query.keywords = Some(QueryKeywords { keywords: Keywords::of_query([(words, 1.0)]), share: 0.9 });
    query
}

/// The pages of a query, joined.
async fn paged(generation: &dyn Generation, query: &IndexQuery, size: usize) -> Vec<String> {
    let mut joined = Vec::new();
    loop {
        let page = IndexQuery { offset: joined.len(), limit: size, ..query.clone() };
        let page = found(generation, page).await;
        let last = page.len() < size;
        joined.extend(page);
        if last {
            return joined;
        }
    }
}

/// What holds of every index, of an empty catalogue.
async fn what_is_loaded_is_found_as_it_was(index: &dyn ProductIndex, catalog: &CatalogName) {
    assert!(matches!(index.current(catalog).await.err(), Some(IndexError::UnknownCatalog(_))));
    load_into(index, catalog, 0..100).await;
    let generation = index.current(catalog).await.unwrap();
    assert_eq!((generation.info().products, &generation.info().model), (100, &model()));
    assert_eq!(generation.info().schema, schema());

    // A product is read back as it was, with its vectors.
    for number in [3, 4, 10] {
        let read = generation.get(&id(number)).await.unwrap().unwrap();
        assert_eq!(read.product, product(number).product);
        let wrote = product(number).image_embeddings;
        assert_eq!(read.image_embeddings.len(), wrote.len());
        assert!(read.image_embeddings.iter().zip(&wrote).all(|(a, b)| a.cosine(b) > 0.9999));
    }
    assert!(generation.get(&id(777)).await.unwrap().is_none());

    // The best of several pictures counts, and is named.
    let hits = generation.search(query(Target::Image, vector(8002))).await.unwrap();
    assert_eq!(hits[0].product.id, id(8));
    assert!(hits[0].score > 1.0 - ROUNDING && hits[0].similarities[0].picture == Some(2));
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    assert_eq!(hits.len(), 100);

    // Texts have vectors of their own; two vectors' similarities add up by share.
    assert_eq!(found(&*generation, query(Target::Text, vector(1_000_009))).await[0], "p9");
    let hits = generation.search(query_of_two()).await.unwrap();
    for hit in &hits {
        let [image, text] = hit.similarities.as_slice() else { panic!("{hit:?}") };
        assert!((hit.score - 0.4 * image.cosine - 0.6 * text.cosine).abs() < 1e-5);
    }
    assert_eq!(hits.len(), 100);

    // Pages join without gaps; excluded products and low scores are left out.
    let one = query(Target::Image, vector(1));
    assert_eq!(found(&*generation, one.clone()).await, paged(&*generation, &one, 30).await);
    let excluding = IndexQuery { exclude: vec![id(8), id(9)], ..query(Target::Image, vector(8002)) };
    let rest = found(&*generation, excluding).await;
    assert!(rest.len() == 98 && !rest.contains(&"p8".to_owned()));
    let near = IndexQuery { score_min: Some(0.5), ..query(Target::Image, vector(8002)) };
    assert!(generation.search(near).await.unwrap().iter().all(|hit| hit.score >= 0.5));
    assert!(found(&*generation, IndexQuery { limit: 0, ..query(Target::Image, vector(1)) }).await.is_empty());

    // What is published replaces what was; who holds the old generation goes on with it. A product that is added
    // twice is there once.
    load_into(index, catalog, (50..60).chain(50..55)).await;
    assert_eq!(found(&*generation, query(Target::Image, vector(1))).await.len(), 100);
}

/// The pages of all products, joined.
async fn all_of(generation: &dyn Generation, size: usize) -> Vec<IndexedProduct> {
    let mut joined: Vec<IndexedProduct> = Vec::new();
    loop {
        let last = joined.last().map(|indexed| indexed.product.id.clone());
        let page = generation.page(last.as_ref(), size).await.unwrap();
        let is_last = page.len() < size;
        joined.extend(page);
        if is_last {
            return joined;
        }
    }
}

/// What is there of a product, to the last bit.
fn bits(indexed: &IndexedProduct) -> (Product, Vec<Vec<u32>>) {
    let bits = vectors(indexed).map(|vector| vector.values().iter().map(|value| value.to_bits()).collect());
    (indexed.product.clone(), bits.collect())
}

fn vectors(indexed: &IndexedProduct) -> impl Iterator<Item = &Embedding> {
    indexed.image_embeddings.iter().chain([&indexed.text_embedding])
}

/// Whether there are the same vectors, but for what is lost in floats of 16 bits, which have 11 binary digits.
fn are_near(one: &IndexedProduct, other: &IndexedProduct) -> bool {
    let values = |indexed| vectors(indexed).map(|vector| vector.values().to_vec()).collect::<Vec<_>>();
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() / 1000.0 + f32::EPSILON;
    let (one, other) = (values(one), values(other));
    let lengths = |of: &[Vec<f32>]| of.iter().map(Vec::len).collect::<Vec<_>>();
    lengths(&one) == lengths(&other) && one.iter().flatten().zip(other.iter().flatten()).all(is_near)
}

/// Whatever the size of the pages, every product is there once, as it was added, in the same order, and the same to the last bit.
async fn every_product_is_read_once_as_it_was(index: &dyn ProductIndex, catalog: &CatalogName) {
    load_into(index, catalog, 0..250).await;
    let generation = index.current(catalog).await.unwrap();
    let whole: Vec<_> = all_of(&*generation, 1000).await.iter().map(bits).collect();
    for size in [1, 7, 50, 250, 251] {
        assert_eq!(all_of(&*generation, size).await.iter().map(bits).collect::<Vec<_>>(), whole, "pages of {size}");
    }
    let last = generation.page(Some(&whole.last().unwrap().0.id), 10).await.unwrap();
    assert!(last.is_empty(), "{last:?}");
    let mut sorted = all_of(&*generation, 250).await;
    sorted.sort_by_key(|indexed| indexed.product.id.as_str()[1..].parse::<usize>().unwrap());
    assert_eq!(sorted.len(), 250);
    for (read, number) in sorted.iter().zip(0..) {
        let wrote = product(number);
        assert_eq!(read.product, wrote.product);
        assert!(are_near(read, &wrote), "{read:?} {wrote:?}");
    }
}

/// More products than an index may take as candidates of one vector: pages of a query of two vectors join all the
/// same, without a gap or a repeat, wherever they are cut.
async fn deep_pages_join(index: &dyn ProductIndex, catalog: &CatalogName) {
    load_into(index, catalog, 0..1500).await;
    let generation = index.current(catalog).await.unwrap();
    let whole = found(&*generation, IndexQuery { limit: 2000, ..query_of_two() }).await;
    assert!(whole.len() >= 1000, "{}", whole.len());
    assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), whole.len());
    for size in [7, 64, 200] {
        assert_eq!(paged(&*generation, &query_of_two(), size).await, whole, "pages of {size}");
    }
}

async fn deep_pages_of_a_search_by_words_join(place: &TestIndex) {
    load_into(&*place.open(), place.catalog(), 0..1500).await;
    let generation = place.open().current(place.catalog()).await.unwrap();
    // Every title has the first of these words, and two the others.
    let query = with_words(query_of_two(), "product 7 p1400");
    let whole = found(&*generation, IndexQuery { limit: 2000, ..query.clone() }).await;
    assert!(whole.len() >= 1000 && ["p7", "p1400"].map(str::to_owned).iter().all(|named| whole[..2].contains(named)));
    assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), whole.len());
    // Copies that count by themselves may put two products in another order.
    if !place.has_copies() {
        assert_eq!(paged(&*generation, &query, 100).await, whole);
    }
}

/// Names, brands and part numbers are found by their words, though nothing else of these products is like the query.
async fn what_is_called_so_is_found_by_its_words(index: &dyn ProductIndex, catalog: &CatalogName) {
    load_into(index, catalog, 0..200).await;
    let generation = index.current(catalog).await.unwrap();
    assert!(generation.info().keywords().is_some_and(|kept| kept.common.is_empty()));
    let far = query(Target::Image, vector(7000));
    for (words, first) in [("Product 42", "p42"), ("P-133", "p133"), ("no such 77 things", "p77")] {
        let hits = generation.search(with_words(far.clone(), words)).await.unwrap();
        assert_eq!(hits[0].product.id.as_str(), first, "{words}");
        let [image] = hits[0].similarities.as_slice() else { panic!("{:?}", hits[0]) };
        let in_words = hits[0].keywords.unwrap();
        assert!(in_words > 0.3 && (hits[0].score - 0.1 * image.cosine - 0.9 * in_words).abs() < 1e-5);
        assert_eq!(hits.len(), 200);
    }
    // A word that nobody has changes nothing but the scale of the scores; and those who have a word lead in the order of the vectors.
    let nothing = generation.search(with_words(far.clone(), "zyx")).await.unwrap();
    let ids: Vec<_> = nothing.iter().map(|hit| hit.product.id.to_string()).collect();
    assert!(nothing.iter().all(|hit| hit.keywords == Some(0.0)) && ids == found(&*generation, far.clone()).await);
    // Those whose titles are as long have the same of a brand, so they are in the order of the vectors.
    let branded = generation.search(with_words(far.clone(), "naive")).await.unwrap();
    let branded: Vec<_> = branded.iter().filter(|hit| hit.keywords > Some(0.0)).collect();
    let expected = (0..200).filter(|number| number % 4 == 2 && number % 7 != 3).count();
    assert_eq!(branded.len(), expected);
    // What a filter or the query leaves out is not found by its words either.
    let filter = Some(filter_of("stock", FilterValue::Integer(0)));
    let filtered = generation.search(IndexQuery { filter, ..with_words(far.clone(), "product 42") }).await.unwrap();
    let expected = (0..200).filter(|number| number % 11 < 3 && number % 7 != 3).count();
    assert!(filtered.len() == expected && filtered.iter().all(|hit| hit.product.id != id(42)), "{}", filtered.len());
    let without = IndexQuery { exclude: vec![id(42)], ..with_words(far, "42") };
    assert!(!found(&*generation, without).await.contains(&"p42".to_owned()));
}

/// The nearer a product's picture is to the photo, the farther is its text from the words, and those in the middle have the best
/// sums: neither vector has them among its first hundred.
async fn the_best_sums_are_found_though_no_vector_has_them_first(index: &dyn ProductIndex, catalog: &CatalogName) {
    const PRODUCTS: u16 = 400;
    let at = |number: u16| {
        let (sine, cosine) = (f32::from(number) / f32::from(PRODUCTS) * FRAC_PI_2).sin_cos();
        let mut values = vec![0.0; DIMENSIONS];
        values[..2].copy_from_slice(&[cosine, sine]);
        Embedding::normalized(values).unwrap()
    };
    let between = |number: u16| {
        let mut between = product(number.into());
        between.product.image_links.truncate(1);
        IndexedProduct { image_embeddings: vec![at(number)], text_embedding: at(PRODUCTS - number), ..between }
    };
    let builder = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    builder.add((0..PRODUCTS).map(between).collect()).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
    let generation = index.current(catalog).await.unwrap();
    let vector = |target| QueryVector { target, embedding: at(0), share: 0.5 };
    let vectors = vec![vector(Target::Image), vector(Target::Text)];
    let mut pages = Vec::new();
    for (offset, score_min) in [(0, None), (10, None), (0, Some(0.5))] {
        let query =
            IndexQuery { vectors: vectors.clone(), offset, score_min, limit: 10, ..query(Target::Image, at(0)) };
        let hits = generation.search(query).await.unwrap();
        assert!(
            hits.iter().all(|hit| (FRAC_1_SQRT_2 - hit.score).abs() < ROUNDING),
            "{offset} {score_min:?}: {hits:?}"
        );
        pages.push(hits.into_iter().map(|hit| hit.product.id.to_string()).collect::<BTreeSet<_>>());
    }
    assert_eq!(pages.iter().map(BTreeSet::len).collect::<Vec<_>>(), [10; 3]);
    assert!(pages[0].is_disjoint(&pages[1]) && pages[0] == pages[2], "{pages:?}");
}

/// Up to rounding, a search answers what comparing with every product answers.
async fn a_search_finds_what_exact_search_finds(index: &dyn ProductIndex, catalog: &CatalogName) {
    let exact = MemoryIndex::default();
    load_into(&exact, catalog, 0..300).await;
    load_into(index, catalog, 0..300).await;
    let (exact, generation) = (exact.current(catalog).await.unwrap(), index.current(catalog).await.unwrap());
    for seed in 0..20 {
        let image = QueryVector { target: Target::Image, embedding: vector(seed), share: 0.5 };
        let text = QueryVector { target: Target::Text, embedding: vector(seed + 1), share: 0.5 };
        let mut choices = [vec![image.clone()], vec![text.clone()], vec![image, text]];
        let vectors = std::mem::take(&mut choices[seed % 3]);
        let few = filter_of("stock", FilterValue::Integer(5));
        let filter = seed.is_multiple_of(2).then_some(few);
        let query = IndexQuery { vectors, filter, offset: seed % 5, limit: 20, ..query(Target::Image, vector(0)) };
        let hits = generation.search(query.clone()).await.unwrap();
        let expected = exact.search(query.clone()).await.unwrap();
        let all = exact.search(IndexQuery { offset: 0, limit: 300, ..query }).await.unwrap();
        assert_eq!(hits.len(), expected.len());
        // As good as the one that belongs there, and with its own score.
        for (hit, expected) in hits.iter().zip(&expected) {
            let its_own = all.iter().find(|other| other.product == hit.product).unwrap();
            assert!((hit.score - expected.score).abs() < ROUNDING, "{hit:?} {expected:?}");
            assert!((hit.score - its_own.score).abs() < ROUNDING, "{hit:?} {its_own:?}");
            assert_eq!(hit.similarities[0].picture, its_own.similarities[0].picture);
        }
    }
}

/// The same for words. Shards count by themselves how rare a word is, and so differ in what they make of it.
async fn a_search_by_words_finds_what_exact_search_finds(place: &TestIndex) {
    let (exact, index, catalog) = (MemoryIndex::default(), place.open(), place.catalog());
    load_into(&exact, catalog, 0..300).await;
    load_into(&*index, catalog, 0..300).await;
    let (exact, generation) = (exact.current(catalog).await.unwrap(), index.current(catalog).await.unwrap());
    // Of a hundred products.
    let slack = if place.has_copies() { 0.2 } else { ROUNDING };
    for seed in 0..20_usize {
        let filter = seed.is_multiple_of(2).then_some(filter_of("stock", FilterValue::Integer(5)));
        let mut query = IndexQuery { filter, offset: seed % 5, limit: 20, ..query_of_two() };
        query.vectors.truncate(1 + seed % 2);
        let query = with_words(query, &format!("product {} naive t{} homeware", 3 * seed, seed % 5));
        let hits = generation.search(query.clone()).await.unwrap();
        let all = exact.search(IndexQuery { offset: 0, limit: 300, ..query.clone() }).await.unwrap();
        let expected = all.iter().skip(query.offset).take(20);
        assert_eq!(hits.len(), expected.len());
        for (hit, expected) in hits.iter().zip(expected) {
            let its_own = all.iter().find(|other| other.product == hit.product).unwrap();
            assert!((hit.score - expected.score).abs() < slack, "{hit:?} {expected:?}");
            assert!((hit.score - its_own.score).abs() < slack, "{hit:?} {its_own:?}");
            assert!((hit.keywords.unwrap() - its_own.keywords.unwrap()).abs() < slack, "{hit:?} {its_own:?}");
        }
    }
}

/// That an attribute's number is less.
fn filter_of(attribute: &str, less_than: FilterValue) -> ResolvedFilter {
    let (lower, upper) = (Bound::Unbounded, Bound::Excluded(less_than));
    Filter::Range { attribute: attribute.to_owned(), lower, upper }.resolve(&schema()).unwrap()
}

async fn whatever_a_load_ends_in_the_old_generation_serves(place: &TestIndex) {
    let (index, catalog) = (place.open(), place.catalog());
    load_into(&*index, catalog, 0..5).await;
    let builder = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    let mut long = product(1);
    long.text_embedding = Embedding::normalized(vec![1.0; DIMENSIONS + 1]).unwrap();
    let error = builder.add(vec![product(0), long]).await.err().unwrap();
    assert!(error.to_string().contains("p1"), "{error}");
    let error = builder.add(vec![IndexedProduct { image_embeddings: Vec::new(), ..product(2) }]).await.err().unwrap();
    assert!(error.to_string().contains("p2"), "{error}");
    drop(builder);
    index.settle().await;
    let other = ModelInfo { fingerprint: "other".to_owned(), dimensions: 3 };
    let sealed = index.build(catalog, &other, &schema(), Start::Empty).await.unwrap().seal().await.unwrap();
    assert_eq!(sealed.generation().info().products, 0);
    drop(sealed);
    index.settle().await;
    assert_eq!(place.open().current(catalog).await.unwrap().info().products, 5);
    assert_eq!(place.generations().await.len(), 1);
}

async fn every_filter_leaves_exactly_what_it_says(index: &dyn ProductIndex, catalog: &CatalogName) {
    load_into(index, catalog, 0..120).await;
    let generation: Arc<dyn Generation> = index.current(catalog).await.unwrap();
    let products: Vec<_> = (0..120).map(product).collect();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&resolved(), |filter| {
            let expected: BTreeSet<_> = products
                .iter()
                .filter(|indexed| matches(&filter, &indexed.product))
                .map(|indexed| indexed.product.id.to_string())
                .collect();
            let query = IndexQuery { filter: Some(filter), ..query(Target::Image, vector(1)) };
            let found = Handle::current().block_on(found(&*generation, query));
            prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
            Ok(())
        })
    });
    outcome.unwrap();
}

async fn a_refreshed_index_serves_what_was_published_last(place: &TestIndex) {
    let server = place.open();
    server.refresh().await;
    assert!(server.is_whole());
    let serving = |server: &dyn ServedIndex| {
        let ours = server.serving().into_iter().find(|(catalog, _)| catalog == place.catalog());
        ours.map(|(_, generation)| generation.info().products)
    };
    assert_eq!(serving(&*server), None);
    for count in [3, 4] {
        load_into(&*place.open(), place.catalog(), 0..count).await;
        server.refresh().await;
        assert_eq!(serving(&*server), Some(count));
        assert_eq!(server.current(place.catalog()).await.unwrap().info().products, count);
        assert!(server.is_whole());
    }
}

/// What this version of a product was made of.
fn digest(number: usize, version: &str) -> Digest {
    Digest::of([number.to_string().as_bytes(), version.as_bytes()])
}

/// A product that is known again; another version has another title.
fn known(number: usize, version: &str) -> IndexedProduct {
    let mut indexed = IndexedProduct { digest: Some(digest(number, version)), ..product(number) };
    indexed.product.title = format!("{version} product {number}");
    indexed
}

/// So many products have a word that nobody looks for it any more, but for rarer ones; a load that begins with them knows it.
async fn a_word_of_too_many_products_is_not_looked_for(place: &TestIndex) {
    const HAVING: usize = 20_001;
    let (index, catalog) = (place.open(), place.catalog());
    let short = |number: usize| {
        let mut short = known(number, "old");
        short.product.title = if number == HAVING { "Rare one".to_owned() } else { "Common one".to_owned() };
        short.product.attributes.clear();
        short.product.image_links.truncate(1);
        short.image_embeddings.truncate(1);
        short
    };
    let builder = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    for first in (0..=HAVING).step_by(1000) {
        builder.add((first..=HAVING.min(first + 999)).map(short).collect()).await.unwrap();
    }
    builder.seal().await.unwrap().publish().await.unwrap();
    let common = |generation: &dyn Generation| generation.info().keywords().unwrap().common.clone();
    let generation = place.open().current(catalog).await.unwrap();
    let common_of_first = common(&*generation);
    let left = |words: &str| Keywords::of_query([(words, 1.0)]).without(&common_of_first).iter().len();
    assert_eq!(["common", "one", "rare", "p7"].map(left), [0, 0, 1, 1]);
    let query = IndexQuery { limit: 3, ..with_words(query(Target::Image, vector(1)), "rare") };
    assert_eq!(generation.search(query.clone()).await.unwrap()[0].product.id, id(HAVING));
    let ids: Vec<_> = (0..=HAVING).map(id).collect();
    let builder = index.build(catalog, &model(), &schema(), Start::Serving).await.unwrap();
    for ids in ids.chunks(1000) {
        builder.keep(ids).await.unwrap();
    }
    builder.seal().await.unwrap().publish().await.unwrap();
    let again = place.open().current(catalog).await.unwrap();
    assert_eq!((common(&*again), again.info().products), (common_of_first, HAVING + 1));
    assert_eq!(again.search(query).await.unwrap()[0].product.id, id(HAVING));
}

/// Publishes what is begun with what serves: the products of `kept` as they are, those of `added` in this version.
async fn go_on(
    index: &dyn ProductIndex,
    catalog: &CatalogName,
    kept: impl Iterator<Item = usize>,
    added: impl Iterator<Item = usize>,
    version: &str,
) {
    let builder = index.build(catalog, &model(), &schema(), Start::Serving).await.unwrap();
    assert!(matches!(builder.origin(), Origin::Generation(_)), "{:?}", builder.origin());
    builder.keep(&kept.map(id).collect::<Vec<_>>()).await.unwrap();
    builder.add(added.map(|number| known(number, version)).collect()).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
}

async fn a_generation_begins_with_what_serves_and_has_what_was_kept_or_added(place: &TestIndex) {
    let (index, catalog) = (place.open(), place.catalog());
    let first = index.build(catalog, &model(), &schema(), Start::Serving).await.unwrap();
    assert!(matches!(first.origin(), Origin::Nothing(_)), "{:?}", first.origin());
    assert_eq!(first.known(&[id(0)]).await.unwrap(), [None]);
    // The last one of another program, which knows no digests.
    first.add((0..39).map(|number| known(number, "old")).chain([product(39)]).collect()).await.unwrap();
    first.seal().await.unwrap().publish().await.unwrap();
    let server = place.open();
    let before = server.current(catalog).await.unwrap();

    let builder = index.build(catalog, &model(), &schema(), Start::Serving).await.unwrap();
    assert_eq!(*builder.origin(), Origin::Generation(before.info().id.clone()));
    let asked: Vec<_> = [3, 39, 40, 0].map(id).into();
    let known_of = builder.known(&asked).await.unwrap();
    assert_eq!(known_of, [Some(digest(3, "old")), None, None, Some(digest(0, "old"))]);
    assert_eq!(builder.known(&[]).await.unwrap(), []);
    // Of 0 to 39, those from 30 on are gone; 5 is another now; 7 was kept before it was added; 40 is new.
    builder.keep(&(0..30).filter(|number| *number != 5).map(id).collect::<Vec<_>>()).await.unwrap();
    builder.keep(&[]).await.unwrap();
    builder.add([5, 7, 40].map(|number| known(number, "new")).into()).await.unwrap();
    let sealed = builder.seal().await.unwrap();
    assert_eq!(sealed.generation().info().products, 31);
    sealed.publish().await.unwrap();

    let reader = place.open();
    let after = reader.current(catalog).await.unwrap();
    assert!(after.info().id > before.info().id && after.info().products == 31, "{:?}", after.info());
    for number in 0..45 {
        let version = if [5, 7, 40].contains(&number) { "new" } else { "old" };
        let expected = (number < 30 || number == 40).then(|| known(number, version));
        let found = after.get(&id(number)).await.unwrap();
        assert_eq!(found.as_ref().map(|found| &found.product), expected.as_ref().map(|expected| &expected.product));
        assert_eq!(
            found.as_ref().and_then(|found| found.digest),
            expected.as_ref().and_then(|expected| expected.digest)
        );
        let was = before.get(&id(number)).await.unwrap();
        if let (Some(found), Some(was), "old") = (&found, &was, version) {
            assert!(are_near(found, was), "{found:?} {was:?}");
            // A server whose files cannot be had copies the vectors, and rounds them again.
            assert!(!place.takes_files_over() || bits(found) == bits(was), "product {number}");
        }
    }
    let all = found(&*after, query(Target::Image, vector(5000))).await;
    assert_eq!((all.len(), all.first().map(String::as_str)), (31, Some("p5")));
    // By what they are called now, and not before.
    for (words, expected) in
        [("new", vec![5, 7, 40]), ("old", (0..30).filter(|number| ![5, 7].contains(number)).collect())]
    {
        let hits = after.search(with_words(query(Target::Image, vector(1)), words)).await.unwrap();
        let called: BTreeSet<_> =
            hits.iter().filter(|hit| hit.keywords > Some(0.0)).map(|hit| &hit.product.id).collect();
        assert_eq!(called, expected.into_iter().map(id).collect::<Vec<_>>().iter().collect::<BTreeSet<_>>(), "{words}");
    }
    // What serves is as it was for those who still have it.
    assert_eq!(found(&*before, query(Target::Image, vector(5000))).await.len(), 40);
    assert_eq!(before.get(&id(5)).await.unwrap().unwrap().product.title, "old product 5");
}

async fn generations_that_begin_with_one_another_stay_whole_and_can_be_gone_back_to(place: &TestIndex) {
    let (index, catalog) = (place.open_keeping(9), place.catalog());
    let first = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    assert!(matches!(first.origin(), Origin::Nothing(_)), "{:?}", first.origin());
    first.add((0..10).map(|number| known(number, "first")).collect()).await.unwrap();
    first.seal().await.unwrap().publish().await.unwrap();
    go_on(&*index, catalog, 0..9, 9..12, "second").await;
    go_on(&*index, catalog, 1..12, std::iter::empty(), "third").await;
    go_on(&*index, catalog, 1..12, 0..1, "fourth").await;
    assert_eq!(kept(place).await, [(10, false), (12, false), (11, false), (12, true)]);
    for (products, titles) in [
        (12, "fourth product 0, first product 1, second product 9"),
        (11, "first product 1, second product 9"),
        (12, "first product 0, first product 1, second product 9"),
        (10, "first product 0, first product 1, first product 9"),
    ] {
        let opened = place.open();
        let generation = opened.current(catalog).await.unwrap();
        assert_eq!(found(&*generation, query(Target::Text, vector(1))).await.len(), products);
        let mut there = Vec::new();
        for number in [0, 1, 9] {
            there.extend(generation.get(&id(number)).await.unwrap().map(|found| found.product.title));
        }
        assert_eq!(there.join(", "), titles);
        drop((generation, opened));
        if products != 10 {
            roll_back(place).await.unwrap();
        }
    }
}

/// With other attributes, or kept otherwise, the files are of no use; the products are, and need not be embedded again.
async fn what_has_not_changed_is_kept_though_attributes_have(place: &TestIndex) {
    let (index, catalog) = (place.open(), place.catalog());
    let first = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    first.add((0..30).map(|number| known(number, "old")).collect()).await.unwrap();
    first.seal().await.unwrap().publish().await.unwrap();
    let before = place.open().current(catalog).await.unwrap();
    let mut other = schema();
    other.attributes.insert("fabric".to_owned(), AttributeSpec { kind: AttributeType::Keyword, currencies: [].into() });
    let builder = index.build(catalog, &model(), &other, Start::Serving).await.unwrap();
    assert_eq!(*builder.origin(), Origin::Generation(before.info().id.clone()));
    assert_eq!(builder.known(&[3, 40].map(id)).await.unwrap(), [Some(digest(3, "old")), None]);
    builder.keep(&(1..30).map(id).collect::<Vec<_>>()).await.unwrap();
    let fabric = AttributeValue::Keyword("linen".to_owned());
    let mut linen = known(40, "new");
    linen.product.attributes.insert("fabric".to_owned(), fabric);
    builder.add(vec![linen]).await.unwrap();
    assert!(builder.keep(&[id(99)]).await.is_err(), "what is not there cannot be kept");
    builder.seal().await.unwrap().publish().await.unwrap();
    let after = place.open().current(catalog).await.unwrap();
    assert_eq!((after.info().products, &after.info().schema), (30, &other));
    for number in [1, 29] {
        let (was, is) =
            (before.get(&id(number)).await.unwrap().unwrap(), after.get(&id(number)).await.unwrap().unwrap());
        assert!(was.product == is.product && was.digest == is.digest && are_near(&was, &is), "{was:?} {is:?}");
    }
    let linen = Filter::In { attribute: "fabric".to_owned(), values: vec![FilterValue::Text("linen".to_owned())] };
    let filter = Some(linen.resolve(&other).unwrap());
    let linen = IndexQuery { filter, ..query(Target::Image, vector(1)) };
    assert_eq!(found(&*after, linen).await, ["p40"]);
}

async fn what_another_model_made_is_not_begun_with(place: &TestIndex) {
    let (index, catalog) = (place.open(), place.catalog());
    load_into(&*index, catalog, 0..5).await;
    let other = ModelInfo { fingerprint: "another".to_owned(), ..model() };
    let builder = index.build(catalog, &other, &schema(), Start::Serving).await.unwrap();
    let Origin::Nothing(why) = builder.origin() else { panic!("{:?}", builder.origin()) };
    assert!(why.contains("another model"), "{why}");
    assert_eq!(builder.known(&[id(0)]).await.unwrap(), [None]);
    builder.add(vec![product(1)]).await.unwrap();
    assert_eq!(builder.seal().await.unwrap().generation().info().products, 1);
}

async fn one_loader_at_a_time_and_what_it_drops_is_gone(place: &TestIndex) {
    let (index, catalog) = (place.open(), place.catalog());
    load_into(&*index, catalog, 0..5).await;
    let first = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    let second = place.open().build(catalog, &model(), &schema(), Start::Empty).await.err();
    assert!(matches!(second, Some(IndexError::Locked(_))), "{second:?}");
    drop(first);
    index.settle().await;
    let third = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    third.add(vec![product(1)]).await.unwrap();
    drop(third.seal().await.unwrap());
    index.settle().await;
    assert_eq!(place.generations().await.len(), 1);
    assert_eq!(index.current(catalog).await.unwrap().info().products, 5);
}

async fn as_many_generations_are_kept_as_was_said(place: &TestIndex) {
    for count in 1..5 {
        load_into(&*place.open(), place.catalog(), 0..count).await;
    }
    assert_eq!(place.generations().await.len(), 2);
    assert_eq!(place.open().current(place.catalog()).await.unwrap().info().products, 4);
    load_into(&*place.open_keeping(1), place.catalog(), 0..5).await;
    assert_eq!(place.generations().await.len(), 1);
    assert_eq!(place.open().current(place.catalog()).await.unwrap().info().products, 5);
}

async fn no_query_fails_and_none_mixes_generations_while_others_are_published(place: &TestIndex) {
    let server = place.open();
    load_into(&*place.open(), place.catalog(), 0..10).await;
    server.refresh().await;
    let asking = tokio::spawn({
        let (server, catalog) = (Arc::clone(&server), place.catalog().clone());
        async move {
            let mut answers = BTreeSet::new();
            while !answers.contains(&13) {
                server.refresh().await;
                let generation = server.current(&catalog).await.unwrap();
                let found = found(&*generation, query(Target::Image, vector(1))).await.len();
                assert_eq!(found, generation.info().products);
                answers.insert(found);
            }
            answers
        }
    });
    for count in 11..14 {
        load_into(&*place.open(), place.catalog(), 0..count).await;
    }
    let answers = tokio::time::timeout(Duration::from_mins(1), asking).await.unwrap().unwrap();
    assert!(answers.iter().all(|found| (10..14).contains(found)), "{answers:?}");
}

/// The generations of the catalogue, oldest first: how many products each has, and which serves.
async fn kept(place: &TestIndex) -> Vec<(usize, bool)> {
    let kept = place.open().list().await.unwrap().remove(place.catalog()).unwrap_or_default();
    kept.into_iter().map(|kept| (kept.info.unwrap().products, kept.serves)).collect()
}

/// The id of the generation that has so many products.
async fn id_of(place: &TestIndex, products: usize) -> String {
    let kept = place.open().list().await.unwrap().remove(place.catalog()).unwrap();
    kept.into_iter().find(|kept| kept.info.as_ref().is_ok_and(|info| info.products == products)).unwrap().id
}

/// Loads generations of so many products, and keeps them all.
async fn load_each(place: &TestIndex, counts: &[usize]) {
    for count in counts {
        load_into(&*place.open_keeping(9), place.catalog(), 0..*count).await;
    }
}

async fn roll_back(place: &TestIndex) -> Result<Switch, IndexError> {
    place.open().switch(place.catalog(), Destination::Before).await
}

async fn switch(place: &TestIndex, id: &str) -> Result<Switch, IndexError> {
    place.open().switch(place.catalog(), Destination::Generation(id.to_owned())).await
}

async fn what_is_kept_is_listed_and_any_of_it_can_serve(place: &TestIndex) {
    let server = place.open();
    assert!(kept(place).await.is_empty());
    assert!(matches!(switch(place, "1").await, Err(IndexError::UnknownCatalog(_))));
    load_each(place, &[3, 4, 5]).await;
    assert_eq!(kept(place).await, [(3, false), (4, false), (5, true)]);
    let listed = server.list().await.unwrap().remove(place.catalog()).unwrap();
    let info = listed[0].info.as_ref().unwrap();
    assert_eq!((&info.id, &info.model, &info.schema), (&listed[0].id, &model(), &schema()));

    server.refresh().await;
    let (old, new) = (id_of(place, 3).await, id_of(place, 5).await);
    assert_eq!(switch(place, &old).await.unwrap(), Switch { from: Some(new), to: old.clone() });
    assert_eq!(kept(place).await, [(3, true), (4, false), (5, false)]);
    server.refresh().await;
    let generation = server.current(place.catalog()).await.unwrap();
    assert_eq!((generation.info().products, generation.info().id.as_str()), (3, old.as_str()));
    assert_eq!(found(&*generation, query(Target::Image, vector(1))).await.len(), 3);
    // What serves already goes on.
    assert_eq!(switch(place, &old).await.unwrap(), Switch { from: Some(old.clone()), to: old });
    for unknown in
        ["", "..", "../../x", "20260101T000000000Z", "20260101T000000000Z-01234567", "20990101T000000000Z.partial"]
    {
        let error = switch(place, unknown).await.unwrap_err();
        assert!(matches!(&error, IndexError::UnknownGeneration { id, .. } if id == unknown), "{unknown}: {error:?}");
        let error = server.generation(place.catalog(), unknown).await.err().unwrap();
        assert!(matches!(error, IndexError::UnknownGeneration { .. }), "{unknown}: {error:?}");
    }
}

async fn any_generation_is_read_beside_servers_and_loaders(place: &TestIndex) {
    load_each(place, &[3, 4]).await;
    let (reader, mut read) = (place.open(), Vec::new());
    for count in [3, 4] {
        read.push(reader.generation(place.catalog(), &id_of(place, count).await).await.unwrap());
    }
    // Who reads keeps nobody from serving.
    let server = place.open();
    server.refresh().await;
    assert!(server.is_whole());
    let loader = place.open();
    let builder = loader.build(place.catalog(), &model(), &schema(), Start::Empty).await.unwrap();
    for count in [3, 4] {
        read.push(place.open().generation(place.catalog(), &id_of(place, count).await).await.unwrap());
    }
    let listed = place.open().list().await.unwrap().remove(place.catalog()).unwrap();
    assert_eq!(listed.iter().map(|kept| kept.info.is_ok()).collect::<Vec<_>>(), [true, true, false]);
    for (generation, count) in read.iter().zip([3, 4, 3, 4]) {
        assert_eq!(all_of(&**generation, 2).await.len(), count);
    }
    drop(builder);
    loader.settle().await;
    assert_eq!(server.current(place.catalog()).await.unwrap().info().products, 4);
}

async fn a_rollback_goes_one_back_each_time_until_there_is_nothing_before(place: &TestIndex) {
    load_each(place, &[3, 4, 5]).await;
    for serving in [4, 3] {
        roll_back(place).await.unwrap();
        assert_eq!(place.open().current(place.catalog()).await.unwrap().info().products, serving);
    }
    assert!(matches!(roll_back(place).await, Err(IndexError::NothingBefore(_))));
    assert_eq!(kept(place).await, [(3, true), (4, false), (5, false)]);
}

async fn a_load_goes_on_from_what_a_rollback_left_and_one_that_fails_removes_nothing(place: &TestIndex) {
    load_each(place, &[3, 4, 5]).await;
    roll_back(place).await.unwrap();
    let index = place.open_keeping(3);
    let failing = index.build(place.catalog(), &model(), &schema(), Start::Empty).await.unwrap();
    failing.add(vec![product(1)]).await.unwrap();
    drop(failing.seal().await.unwrap());
    index.settle().await;
    assert_eq!(kept(place).await, [(3, false), (4, true), (5, false)]);
    load_into(&*index, place.catalog(), 0..6).await;
    assert_eq!(kept(place).await, [(3, false), (4, false), (6, true)], "5 was rolled back from");
    roll_back(place).await.unwrap();
    assert_eq!(place.open().current(place.catalog()).await.unwrap().info().products, 4);
}

async fn a_rollback_while_a_load_runs_is_not_undone_by_it(place: &TestIndex) {
    load_each(place, &[3, 4]).await;
    let index = place.open();
    let builder = index.build(place.catalog(), &model(), &schema(), Start::Empty).await.unwrap();
    builder.add((0..5).map(product).collect()).await.unwrap();
    roll_back(place).await.unwrap();
    let refused = builder.seal().await.unwrap().publish().await.unwrap_err();
    assert!(matches!(refused, IndexError::Locked(_)), "{refused:?}");
    index.settle().await;
    assert_eq!(kept(place).await, [(3, true), (4, false)]);
    load_into(&*place.open_keeping(9), place.catalog(), 0..6).await;
    assert_eq!(kept(place).await, [(3, false), (6, true)]);
}

async fn pruning_leaves_the_serving_one_whatever_its_age_and_the_newest(place: &TestIndex) {
    load_each(place, &[3, 4, 5, 6]).await;
    let (oldest, second) = (id_of(place, 3).await, id_of(place, 4).await);
    switch(place, &oldest).await.unwrap();
    let prune = |kept| async move { place.open().prune(place.catalog(), kept).await };
    assert_eq!(prune(9).await.unwrap(), Pruned::default());
    assert_eq!(prune(3).await.unwrap(), Pruned { removed: vec![second], in_use: Vec::new() });
    assert_eq!(kept(place).await, [(3, true), (5, false), (6, false)]);
    assert_eq!(prune(1).await.unwrap().removed.len(), 2);
    assert_eq!(prune(0).await.unwrap(), Pruned::default());
    assert_eq!(kept(place).await, [(3, true)]);
    assert_eq!(place.generations().await.len(), 1);
}

async fn what_is_set_aside_serves_when_it_is_switched_to(place: &TestIndex) {
    let index = place.open();
    let set_aside = |count: usize| {
        let index = Arc::clone(&index);
        async move {
            let builder = index.build(place.catalog(), &model(), &schema(), Start::Empty).await.unwrap();
            builder.add((0..count).map(product).collect()).await.unwrap();
            builder.seal().await.unwrap().set_aside().await.unwrap();
        }
    };
    // Of a catalogue that serves nothing yet.
    set_aside(3).await;
    assert_eq!(kept(place).await, [(3, false)]);
    assert!(matches!(index.current(place.catalog()).await.err(), Some(IndexError::UnknownCatalog(_))));
    let switched = switch(place, &id_of(place, 3).await).await.unwrap();
    assert_eq!(switched.from, None);
    assert_eq!(place.open().current(place.catalog()).await.unwrap().info().products, 3);
    // Beside one that serves.
    set_aside(4).await;
    assert_eq!(kept(place).await, [(3, true), (4, false)]);
    // It is not taken for what a killed loader left.
    drop(index.build(place.catalog(), &model(), &schema(), Start::Empty).await.unwrap());
    index.settle().await;
    switch(place, &id_of(place, 4).await).await.unwrap();
    assert_eq!(kept(place).await, [(3, false), (4, true)]);
    roll_back(place).await.unwrap();
    assert_eq!(kept(place).await, [(3, true), (4, false)]);
}

async fn catalogues_are_listed_by_themselves(place: &TestIndex) {
    let other = CatalogName::new(&format!("{}-eu", place.catalog())).unwrap();
    load_each(place, &[3]).await;
    load_into(&*place.open(), &other, 0..4).await;
    let listed = place.open().list().await.unwrap();
    let products = |catalog| listed.get(catalog).unwrap().iter().map(|kept| kept.info.as_ref().unwrap().products);
    assert_eq!(products(place.catalog()).collect::<Vec<_>>(), [3]);
    assert_eq!(products(&other).collect::<Vec<_>>(), [4]);
}

/// Every sentence, as a test of every index. The first ones need nothing of it but the port.
macro_rules! tests_of_every_index {
    (port: [$($port:ident,)*], lifecycle: [$($lifecycle:ident,)*]) => {
        mod memory {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $port() {
                    super::$port(&MemoryIndex::default(), &CatalogName::default()).await;
                }
            )*
        }
        tests_of_every_index!(@kind edge Edge; $($port)*; $($lifecycle)*);
        tests_of_every_index!(@kind qdrant_stand_in StandIn; $($port)*; $($lifecycle)*);
        tests_of_every_index!(@kind qdrant_server Server; $($port)*; $($lifecycle)*);
    };
    (@kind $module:ident $kind:ident; $($port:ident)*; $($lifecycle:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $port() {
                    let Some(place) = TestIndex::new(IndexKind::$kind).await else { return };
                    super::$port(&*place.open(), place.catalog()).await;
                    place.clear().await;
                }
            )*
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $lifecycle() {
                    let Some(place) = TestIndex::new(IndexKind::$kind).await else { return };
                    super::$lifecycle(&place).await;
                    place.clear().await;
                }
            )*
        }
    };
}

tests_of_every_index! {
    port: [
        what_is_loaded_is_found_as_it_was,
        deep_pages_join,
        the_best_sums_are_found_though_no_vector_has_them_first,
        what_is_called_so_is_found_by_its_words,
        a_search_finds_what_exact_search_finds,
        every_filter_leaves_exactly_what_it_says,
        every_product_is_read_once_as_it_was,
    ],
    lifecycle: [
        a_refreshed_index_serves_what_was_published_last,
        one_loader_at_a_time_and_what_it_drops_is_gone,
        a_generation_begins_with_what_serves_and_has_what_was_kept_or_added,
        generations_that_begin_with_one_another_stay_whole_and_can_be_gone_back_to,
        what_has_not_changed_is_kept_though_attributes_have,
        what_another_model_made_is_not_begun_with,
        a_word_of_too_many_products_is_not_looked_for,
        a_search_by_words_finds_what_exact_search_finds,
        deep_pages_of_a_search_by_words_join,
        as_many_generations_are_kept_as_was_said,
        no_query_fails_and_none_mixes_generations_while_others_are_published,
        whatever_a_load_ends_in_the_old_generation_serves,
        what_is_kept_is_listed_and_any_of_it_can_serve,
        any_generation_is_read_beside_servers_and_loaders,
        a_rollback_goes_one_back_each_time_until_there_is_nothing_before,
        a_load_goes_on_from_what_a_rollback_left_and_one_that_fails_removes_nothing,
        a_rollback_while_a_load_runs_is_not_undone_by_it,
        pruning_leaves_the_serving_one_whatever_its_age_and_the_newest,
        what_is_set_aside_serves_when_it_is_switched_to,
        catalogues_are_listed_by_themselves,
    ]
}

fn value() -> impl Strategy<Value = FilterValue> {
    let text = prop::sample::select(vec!["Daybird", "naïve", "O'Neil \"x\"", "daybird", "t1", "Home", "Home > Sofas"]);
    let money = (0_i64..18, prop::sample::select(vec!["EUR", "USD"])).prop_map(|(units, code)| FilterValue::Money {
        amount_micros: units * 1_000_000 - 10_000,
        currency: code.parse().ok(),
    });
    prop_oneof![
        text.prop_map(|text| FilterValue::Text(text.to_owned())),
        (-4_i64..18).prop_map(FilterValue::Integer),
        (0_i32..12).prop_map(|quarters| FilterValue::Decimal(f64::from(quarters) / 4.0)),
        any::<bool>().prop_map(FilterValue::Bool),
        money,
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let names = ["brand", "tags", "product_type", "stock", "weight", "vegan", "price"];
    let attribute = || prop::sample::select(names.to_vec()).prop_map(str::to_owned);
    let bound =
        || prop_oneof![Just(Bound::Unbounded), value().prop_map(Bound::Included), value().prop_map(Bound::Excluded)];
    let leaf = prop_oneof![
        (attribute(), prop::collection::vec(value(), 1..4))
            .prop_map(|(attribute, values)| Filter::In { attribute, values }),
        (attribute(), bound(), bound()).prop_map(|(attribute, lower, upper)| Filter::Range { attribute, lower, upper }),
        prop::sample::select(vec!["Home", "Home > Sofas", "Ho"])
            .prop_map(|path| Filter::Prefix { attribute: "product_type".to_owned(), path: path.parse().unwrap() }),
        attribute().prop_map(|attribute| Filter::Exists { attribute }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::All),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Any),
            inner.prop_map(|inner| Filter::Not(Box::new(inner))),
        ]
    })
}

/// Filters that fit the schema; the others are refused before they reach an index.
fn resolved() -> impl Strategy<Value = ResolvedFilter> {
    filter().prop_filter_map("refused", |filter| filter.resolve(&schema()).ok())
}

#[tokio::test]
async fn what_killed_loaders_left_is_removed_and_never_serves() {
    let dir = tempfile::tempdir().unwrap();
    load(&edge(dir.path()), 0..3).await;
    let generations = dir.path().join("default/generations");
    for leftover in ["20990101T000000000Z.partial", "20990101T000000000Z"] {
        std::fs::create_dir_all(generations.join(leftover).join("shard")).unwrap();
    }
    assert_eq!(edge(dir.path()).current(&CatalogName::default()).await.unwrap().info().products, 3);
    load(&edge(dir.path()), 0..4).await;
    assert_eq!(std::fs::read_dir(&generations).unwrap().count(), 2);
    assert_eq!(edge(dir.path()).current(&CatalogName::default()).await.unwrap().info().products, 4);
}

#[tokio::test]
async fn a_generation_without_keywords_is_searched_and_the_next_one_gets_them() {
    let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
    load(&edge(dir.path()), 0..30).await;
    let manifest = manifest(&dir.path().join("default"));
    let mut before: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    assert!(before.as_object_mut().unwrap().remove("keywords").is_some());
    std::fs::write(&manifest, before.to_string()).unwrap();
    let generation = edge(dir.path()).current(&catalog).await.unwrap();
    assert!(generation.info().keywords().is_none());
    assert_eq!(found(&*generation, query_of_two()).await.len(), 30);
    let index = edge(dir.path());
    go_on(&index, &catalog, 0..30, std::iter::empty(), "new").await;
    let generation = edge(dir.path()).current(&catalog).await.unwrap();
    let named = with_words(query_of_two(), "product 17");
    assert_eq!((generation.info().products, found(&*generation, named).await[0].as_str()), (30, "p17"));
    assert_eq!(std::fs::read_dir(dir.path().join("default/reading")).unwrap().count(), 0);
}

#[tokio::test]
async fn products_are_copied_where_vectors_are_to_be_quantised_otherwise() {
    let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
    load(&edge(dir.path()), 0..30).await;
    for quantisation in [Quantisation::Int8, Quantisation::None] {
        let options = EdgeOptions {
            root: dir.path().to_owned(),
            threads: 1,
            queue_size_max: 64,
            generations_kept: 2,
            quantisation,
            build_threads: 0,
        };
        go_on(&EdgeIndex::new(options).unwrap(), &catalog, 0..30, std::iter::empty(), "new").await;
        let generation = edge(dir.path()).current(&catalog).await.unwrap();
        assert_eq!(found(&*generation, with_words(query_of_two(), "p17")).await[0], "p17", "{quantisation:?}");
    }
}

#[tokio::test]
async fn copies_that_were_read_are_removed_and_those_of_killed_readers_too() {
    let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
    load(&edge(dir.path()), 0..3).await;
    let reading = dir.path().join("default/reading");
    std::fs::create_dir_all(reading.join("left/shard")).unwrap();
    let copies = || std::fs::read_dir(&reading).unwrap().count();
    let index = edge(dir.path());
    let id = index.current(&catalog).await.unwrap().info().id.clone();
    let (one, other) = (index.generation(&catalog, &id).await.unwrap(), index.generation(&catalog, &id).await.unwrap());
    assert_eq!(copies(), 2);
    drop(one);
    assert_eq!((copies(), all_of(&*other, 10).await.len()), (1, 3));
    drop(other);
    assert_eq!(copies(), 0);
}

#[tokio::test]
async fn a_generation_that_cannot_be_opened_is_listed_and_not_switched_to() {
    let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
    for count in [3, 4, 5] {
        load_into(&edge_keeping(dir.path(), 9), &catalog, 0..count).await;
    }
    let index = edge(dir.path());
    let kept = index.list().await.unwrap().remove(&catalog).unwrap();
    std::fs::write(Path::new(&kept[1].place).join("generation.json"), "nonsense").unwrap();
    std::fs::remove_dir_all(Path::new(&kept[0].place).join("shard/segments")).unwrap();
    let listed = index.list().await.unwrap().remove(&catalog).unwrap();
    assert_eq!(listed.iter().map(|kept| kept.info.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    assert!(kept[2].disk_bytes.unwrap() > 1000);
    for broken in &kept[..2] {
        let error = index.switch(&catalog, Destination::Generation(broken.id.clone())).await.unwrap_err();
        assert!(matches!(error, IndexError::Unavailable { .. }), "{error:?}");
    }
    // A rollback passes over what it can see is none, and stops at what it cannot open.
    assert!(matches!(index.switch(&catalog, Destination::Before).await, Err(IndexError::Unavailable { .. })));
    assert_eq!(edge(dir.path()).current(&catalog).await.unwrap().info().products, 5);
}

#[tokio::test]
async fn old_generations_are_not_removed_while_a_load_runs_nor_while_they_are_open() {
    let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
    load(&edge(dir.path()), 0..3).await;
    let server = edge(dir.path());
    let held = server.current(&catalog).await.unwrap();
    load(&edge(dir.path()), 0..4).await;
    let (loader, index) = (edge(dir.path()), edge(dir.path()));
    let builder = loader.build(&catalog, &model(), &schema(), Start::Empty).await.unwrap();
    assert!(matches!(index.prune(&catalog, 1).await, Err(IndexError::Locked(_))));
    drop(builder);
    let id = held.info().id.clone();
    assert_eq!(index.prune(&catalog, 1).await.unwrap(), Pruned { removed: Vec::new(), in_use: vec![id.clone()] });
    drop((held, server));
    assert_eq!(index.prune(&catalog, 1).await.unwrap(), Pruned { removed: vec![id], in_use: Vec::new() });
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_tried_again_after_a_pause_and_not_for_every_request() {
    let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
    load(&edge(dir.path()), 0..3).await;
    let manifest = manifest(&dir.path().join("default"));
    let content = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, "nonsense").unwrap();

    let index = edge(dir.path());
    index.refresh().await;
    assert!(!index.is_whole() && index.serving().is_empty());
    std::fs::write(&manifest, content).unwrap();
    for _ in 0..3 {
        index.refresh().await;
        let error = index.current(&catalog).await.err().unwrap();
        assert!(matches!(error, IndexError::Unavailable { .. }) && error.source().is_some(), "{error:?}");
    }
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert_eq!(index.current(&catalog).await.unwrap().info().products, 3);
    assert!(index.is_whole() && index.serving().len() == 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_after_a_failure_is_opened_at_once_and_a_failure_keeps_what_serves() {
    let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
    load(&edge(dir.path()), 0..3).await;
    let index = edge(dir.path());
    index.refresh().await;
    load(&edge(dir.path()), 0..4).await;
    std::fs::write(manifest(&dir.path().join("default")), "nonsense").unwrap();
    index.refresh().await;
    assert_eq!(index.current(&catalog).await.unwrap().info().products, 3);
    assert!(index.is_whole(), "the old generation serves");
    load(&edge(dir.path()), 0..5).await;
    index.refresh().await;
    assert_eq!(index.current(&catalog).await.unwrap().info().products, 5);
}

#[cfg(unix)]
#[tokio::test]
async fn a_catalogue_that_opens_slowly_does_not_hold_up_the_others() {
    let dir = tempfile::tempdir().unwrap();
    load(&edge(dir.path()), 0..3).await;
    let slow = dir.path().join("slow");
    std::fs::create_dir_all(slow.join("generations/1")).unwrap();
    std::fs::write(slow.join("CURRENT"), "1").unwrap();
    // Who opens a named pipe waits until somebody writes to it, and the other way round.
    let manifest = manifest(&slow);
    assert!(Command::new("mkfifo").arg(&manifest).status().unwrap().success());

    let index = Arc::new(edge(dir.path()));
    let refreshing = tokio::spawn({
        let index = Arc::clone(&index);
        async move { index.refresh().await }
    });
    let writer = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(manifest));
    let writer = writer.await.unwrap().unwrap();
    let other = tokio::time::timeout(Duration::from_secs(30), index.current(&CatalogName::default())).await;
    assert_eq!(other.unwrap().unwrap().info().products, 3);
    drop(writer);
    refreshing.await.unwrap();
    assert!(!index.is_whole(), "an empty manifest is none");
}

/// Whether a process has the generation open: Qdrant Edge holds a lock on its log.
fn is_open(generation: &Path) -> bool {
    std::fs::File::open(generation.join("shard/wal")).unwrap().try_lock().is_err()
}

#[test]
fn a_replaced_generation_is_closed_on_a_blocking_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (dir, catalog) = (tempfile::tempdir().unwrap(), CatalogName::default());
        load(&edge(dir.path()), 0..3).await;
        let index = edge(dir.path());
        let old = index.current(&catalog).await.unwrap();
        let directory = dir.path().join("default/generations").join(&old.info().id);
        load(&edge(dir.path()), 0..4).await;
        index.refresh().await;
        assert_eq!(index.current(&catalog).await.unwrap().info().products, 4);

        let (open, gate) = std::sync::mpsc::channel();
        let busy = tokio::task::spawn_blocking(move || gate.recv());
        drop(old);
        assert!(is_open(&directory), "closed by who let go of it last");
        open.send(()).unwrap();
        busy.await.unwrap().unwrap();
        // The only blocking thread goes from one piece of work to the next.
        tokio::task::spawn_blocking(|| {}).await.unwrap();
        assert!(!is_open(&directory), "never closed");
    });
}
