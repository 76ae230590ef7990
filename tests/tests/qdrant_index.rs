//! What the index does with a Qdrant server, beyond what every index does: on a stand-in that can be made to fail.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{collections::HashMap, error::Error as _, ops::Bound, sync::Arc, time::Duration};

use qdrant_client::{
    Qdrant,
    qdrant::{UpdateCollectionBuilder, quantization_config::Quantization, vectors_config},
};
use tonic::Status;
use vitrine_core::{
    Chain,
    embed::{Embedding, ModelInfo},
    fakes::{DIMENSIONS, MemoryIndex, embedding, product},
    filter::{Filter, FilterValue},
    generations::Destination,
    index::{
        GenerationBuilder, Hit, IndexError, IndexQuery, IndexedProduct, Origin, ProductIndex, QueryKeywords,
        QueryVector, SealedGeneration, Start, Target,
    },
    keywords::Keywords,
    product::{AttributeSpec, AttributeType, AttributeValue, ProductId, Schema},
};
use vitrine_index::{BuildOptions, IndexPlace, QdrantIndex, QdrantOptions, Quantisation, ServedIndex as _, open};
use vitrine_tests::{IndexKind, SearchCall, SnapshotFault, TestIndex};

fn model() -> ModelInfo {
    ModelInfo { fingerprint: "test".to_owned(), dimensions: DIMENSIONS }
}

fn schema() -> Schema {
    let brand = AttributeSpec { kind: AttributeType::Keyword, currencies: [].into() };
    Schema { attributes: [("brand".to_owned(), brand)].into() }
}

fn indexed(number: usize) -> IndexedProduct {
    let product = product(&format!("p{number}"), "title", i64::try_from(number).unwrap());
    let image_embeddings = vec![embedding(&product.image_links[0])];
    IndexedProduct { product, image_embeddings, text_embedding: embedding("title"), digest: None }
}

async fn place() -> TestIndex {
    TestIndex::new(IndexKind::StandIn).await.unwrap()
}

async fn begin(place: &TestIndex, index: &dyn ProductIndex) -> Result<Box<dyn GenerationBuilder>, IndexError> {
    index.build(place.catalog(), &model(), &schema(), Start::Empty).await
}

async fn sealed(place: &TestIndex, index: &dyn ProductIndex, products: usize) -> Box<dyn SealedGeneration> {
    let builder = begin(place, index).await.unwrap();
    builder.add((0..products).map(indexed).collect()).await.unwrap();
    builder.seal().await.unwrap()
}

async fn load(place: &TestIndex, products: usize) {
    sealed(place, &*place.open(), products).await.publish().await.unwrap();
}

/// How many products serve.
async fn serving(place: &TestIndex) -> usize {
    place.open().current(place.catalog()).await.unwrap().info().products
}

fn query() -> IndexQuery {
    let nearest = QueryVector { target: Target::Image, embedding: embedding("p1.jpg"), share: 1.0 };
    IndexQuery {
        vectors: vec![nearest],
        keywords: None,
        filter: None,
        exclude: Vec::new(),
        offset: 0,
        limit: 10,
        score_min: None,
    }
}

#[tokio::test]
async fn a_query_of_two_vectors_takes_more_candidates_only_if_fewer_do_not_settle_its_page() {
    let place = place().await;
    load(&place, 300).await;
    let generation = place.open().current(place.catalog()).await.unwrap();
    // All texts are the same. If they count for all, none of their products is better than the others.
    for (share_of_text, most) in [(0.5, 50), (1.0, 1000)] {
        let text = QueryVector { target: Target::Text, embedding: embedding("title"), share: share_of_text };
        let mut query = query();
        query.vectors[0].share = 1.0 - share_of_text;
        query.vectors.push(text);
        assert_eq!(generation.search(query).await.unwrap().len(), 10);
        assert_eq!(place.stand_in().wanted().into_iter().max(), Some(most), "{share_of_text}");
    }
}

/// Few products whose vectors are so long that they have a graph, on so many nodes. Each has as `rank` how many are nearer to the
/// first, so that a filter says which of the nearest pass.
struct Large {
    place: TestIndex,
    exact: MemoryIndex,
}

impl Large {
    const PRODUCTS: u32 = 5_100;
    const DIMENSIONS: usize = 1024;

    async fn load(nodes: usize) -> Self {
        let large = Self { place: TestIndex::on_cluster(nodes).await, exact: MemoryIndex::default() };
        large.place.stand_in().say_segments(1);
        let first = embedding("0.jpg");
        let nearness = |number: &u32| embedding(&format!("{number}.jpg")).cosine_to(first.values());
        let mut by_nearness: Vec<_> = (0..Self::PRODUCTS).collect();
        by_nearness.sort_by(|a, b| nearness(b).total_cmp(&nearness(a)));
        let products: Vec<_> = (0..).zip(by_nearness).map(|(rank, number)| Self::product(number, rank)).collect();
        let model = ModelInfo { dimensions: Self::DIMENSIONS, ..model() };
        let indexes: [&dyn ProductIndex; 2] = [&large.exact, &*large.place.open()];
        for index in indexes {
            let builder = index.build(large.place.catalog(), &model, &Self::schema(), Start::Empty).await.unwrap();
            for products in products.chunks(250) {
                builder.add(products.to_vec()).await.unwrap();
            }
            builder.seal().await.unwrap().publish().await.unwrap();
        }
        large
    }

    fn schema() -> Schema {
        let rank = AttributeSpec { kind: AttributeType::Integer, currencies: [].into() };
        Schema { attributes: [("rank".to_owned(), rank)].into() }
    }

    fn product(number: u32, rank: i64) -> IndexedProduct {
        let mut product = product(&number.to_string(), &format!("thing t{}", number % 40), 1);
        product.attributes = [("rank".to_owned(), AttributeValue::Integer(rank))].into();
        let image_embeddings = vec![Self::embedding(&product.image_links[0])];
        let text_embedding = Self::embedding(&format!("text {number}"));
        IndexedProduct { product, image_embeddings, text_embedding, digest: None }
    }

    /// The usual vector, with zeros after it.
    fn embedding(text: &str) -> Embedding {
        let mut values = embedding(text).values().to_vec();
        values.resize(Self::DIMENSIONS, 0.0);
        Embedding::normalized(values).unwrap()
    }

    fn query(target: Target, share: f32) -> QueryVector {
        QueryVector { target, embedding: Self::embedding("0.jpg"), share }
    }

    /// The nearest to the first picture, of those whose rank is within.
    fn of_ranks(lower: Bound<i64>, upper: Bound<i64>, limit: usize) -> IndexQuery {
        let [lower, upper] = [lower, upper].map(|bound| bound.map(FilterValue::Integer));
        let filter = Filter::Range { attribute: "rank".to_owned(), lower, upper }.resolve(&Self::schema()).unwrap();
        IndexQuery { vectors: vec![Self::query(Target::Image, 1.0)], filter: Some(filter), limit, ..query() }
    }

    /// Searches, and compares with what an exact search finds.
    async fn search(&self, query: IndexQuery) {
        let generation = self.place.open().current(self.place.catalog()).await.unwrap();
        let exact = self.exact.current(self.place.catalog()).await.unwrap();
        let scores = |hits: Vec<Hit>| hits.into_iter().map(|hit| (hit.product.id, hit.score)).collect::<Vec<_>>();
        let found = scores(generation.search(query.clone()).await.unwrap());
        let expected = scores(exact.search(query.clone()).await.unwrap());
        let all: HashMap<_, _> =
            scores(exact.search(IndexQuery { offset: 0, limit: 10_000, ..query }).await.unwrap()).into_iter().collect();
        assert_eq!(found.len(), expected.len());
        // As good as the one that belongs there, and with its own score.
        for ((id, score), (_, expected)) in found.iter().zip(&expected) {
            assert!((score - expected).abs() < 1e-3 && (score - all[id]).abs() < 1e-3, "{found:?} {expected:?}");
        }
    }
}

#[tokio::test]
async fn what_passes_is_looked_for_among_the_nearest_and_beyond_where_too_few_pass() {
    let large = Large::load(1).await;
    let among = |found, width| SearchCall { among: Some(found), width: Some(width) };
    let own = |width| SearchCall { among: None, width: Some(width) };
    let (all, ranks) = (Bound::Unbounded, Bound::Included);
    for (lower, upper, limit, calls, estimates) in [
        // Twice as many as are wanted should pass.
        (all, ranks(3999), 10, vec![among(25, 128)], 1),
        // So few that the server compares them.
        (all, ranks(1499), 10, vec![own(128)], 1),
        // Some of the nearest, a few, and none before the three hundredth and the end.
        (ranks(15), all, 10, vec![among(20, 128), among(80, 128)], 1),
        (ranks(100), all, 10, vec![among(20, 128), among(300, 300)], 1),
        (ranks(2000), all, 10, vec![among(32, 128), among(300, 300), own(600)], 1),
        // More than are ever found without the filter.
        (all, ranks(3999), 1001, vec![own(1001)], 0),
    ] {
        large.search(Large::of_ranks(lower, upper, limit)).await;
        assert_eq!(large.place.stand_in().take_searches(), (calls, estimates), "{lower:?} {upper:?} {limit}");
    }
    // Nearly all pass what only leaves some out by name.
    let exclude = vec![ProductId::new("1", "id").unwrap()];
    large.search(IndexQuery { filter: None, exclude, ..Large::of_ranks(ranks(0), all, 10) }).await;
    assert_eq!(large.place.stand_in().take_searches(), (vec![own(128)], 0));
}

#[tokio::test]
async fn all_that_a_search_asks_for_finds_what_passes_in_one_shard_and_in_three() {
    for nodes in [1, 3] {
        let large = Large::load(nodes).await;
        for (lower, offset) in [(0, 0), (15, 5), (100, 0), (2000, 5)] {
            let one = IndexQuery { offset, ..Large::of_ranks(Bound::Included(lower), Bound::Unbounded, 10) };
            large.search(one.clone()).await;
            let vectors = vec![Large::query(Target::Image, 0.5), Large::query(Target::Text, 0.5)];
            large.search(IndexQuery { vectors, ..one.clone() }).await;
            if nodes == 1 {
                let keywords = Some(QueryKeywords { keywords: Keywords::of_query([("t7", 1.0)]), share: 0.5 });
                let vectors = vec![Large::query(Target::Image, 0.5)];
                large.search(IndexQuery { vectors, keywords, ..one }).await;
            }
        }
        let (calls, _) = large.place.stand_in().take_searches();
        assert!(calls.iter().any(|call| call.among.is_some()) && calls.iter().any(|call| call.width == Some(600)));
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_key_gets_it_and_nobody_else_does() {
    let place = place().await;
    place.stand_in().ask_for_key("s3cret");
    let options = place.options();
    let index = QdrantIndex::new(QdrantOptions { api_key: "s3cret".parse().ok(), ..options.clone() }).unwrap();
    begin(&place, &index).await.unwrap();
    assert!(!format!("{index:?}").contains("s3cret"));
    let wrong = QdrantIndex::new(QdrantOptions { api_key: "wr0ng".parse().ok(), ..options }).unwrap();
    let error = begin(&place, &wrong).await.err().unwrap();
    let shown = format!("{} {error:?}", Chain(&error));
    assert!(shown.contains("Must provide an API key") && !shown.contains("wr0ng"), "{shown}");
}

#[tokio::test]
async fn a_search_is_tried_again_when_the_server_is_away_for_a_moment() {
    let place = place().await;
    load(&place, 3).await;
    let generation = place.open().current(place.catalog()).await.unwrap();
    // The client itself asks twice each time.
    place.stand_in().refuse((0..4).map(|_| Status::unavailable("starting")));
    assert_eq!(generation.search(query()).await.unwrap()[0].product.id.as_str(), "p1");
    assert_eq!(place.stand_in().refusals_left(), 0);
}

#[tokio::test]
async fn what_the_server_will_never_do_is_asked_for_once() {
    let place = place().await;
    load(&place, 3).await;
    let generation = place.open().current(place.catalog()).await.unwrap();
    place.stand_in().refuse((0..2).map(|_| Status::invalid_argument("no such vector")));
    let error = generation.search(query()).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("no such vector"), "{error:?}");
    assert_eq!(place.stand_in().refusals_left(), 1);
}

#[tokio::test]
async fn a_server_with_too_much_to_do_is_overload_and_so_is_a_search_without_a_place() {
    let place = place().await;
    load(&place, 3).await;
    let generation = place.open().current(place.catalog()).await.unwrap();
    place.stand_in().refuse([Status::resource_exhausted("rate limit")]);
    let error = generation.search(query()).await.unwrap_err();
    assert!(matches!(error, IndexError::Overloaded { queue: "index", .. }), "{error:?}");
    let full = QdrantIndex::new(QdrantOptions { queue_size_max: 0, ..place.options() }).unwrap();
    let error = full.current(place.catalog()).await.unwrap().search(query()).await.unwrap_err();
    assert!(matches!(error, IndexError::Overloaded { queue: "index", capacity: 0 }), "{error:?}");
}

#[tokio::test]
async fn a_load_outlasts_a_server_that_is_away_for_a_moment() {
    let place = place().await;
    let index = place.open();
    let builder = begin(&place, &*index).await.unwrap();
    place.stand_in().refuse((0..3).map(|_| Status::unavailable("starting")));
    builder.add((0..3).map(indexed).collect()).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
    assert_eq!(serving(&place).await, 3);
}

#[tokio::test]
async fn a_switch_whose_answer_is_lost_is_no_failure() {
    let place = place().await;
    load(&place, 3).await;
    place.stand_in().lose_next_switch();
    load(&place, 4).await;
    assert_eq!(serving(&place).await, 4);
    assert_eq!(place.generations().await.len(), 2);
}

#[tokio::test]
async fn who_comes_late_does_not_replace_what_it_did_not_see() {
    let place = place().await;
    load(&place, 3).await;
    let index = place.open();
    let late = sealed(&place, &*index, 4).await;
    place.stand_in().overtake_next_switch();
    let before = place.stand_in().aliases();
    let error = late.publish().await.unwrap_err();
    assert!(matches!(error, IndexError::Locked(_)), "{error:?}");
    index.settle().await;
    assert_eq!(serving(&place).await, 3);
    assert_eq!(place.generations().await.len(), 1, "what lost is removed");
    assert_eq!(place.stand_in().aliases().len(), before.len());
}

#[tokio::test]
async fn a_load_does_not_undo_a_rollback_that_was_made_meanwhile() {
    let place = place().await;
    load(&place, 3).await;
    load(&place, 4).await;
    let (index, old) = (place.open(), place.stand_in().collections()[0].clone());
    let late = sealed(&place, &*index, 5).await;
    place.stand_in().point(place.catalog().as_str(), &old);
    assert!(matches!(late.publish().await, Err(IndexError::Locked(_))));
    index.settle().await;
    assert_eq!(serving(&place).await, 3);
    load(&place, 6).await;
    assert_eq!(serving(&place).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_loaders_that_begin_at_once_one_goes_on() {
    let place = place().await;
    for _ in 0..5 {
        let (one, other) = (place.open(), place.open());
        let (first, second) = tokio::join!(begin(&place, &*one), begin(&place, &*other));
        let refused = [&first, &second].map(|begun| matches!(begun, Err(IndexError::Locked(_))));
        assert_ne!(refused[0], refused[1]);
        drop((first, second));
        one.settle().await;
        other.settle().await;
        assert!(place.generations().await.is_empty());
    }
}

#[tokio::test]
async fn a_switch_by_hand_does_not_replace_what_it_did_not_see() {
    let place = place().await;
    load(&place, 3).await;
    load(&place, 4).await;
    let index = place.open();
    let roll_back = || index.switch(place.catalog(), Destination::Before);
    place.stand_in().overtake_next_switch();
    assert!(matches!(roll_back().await, Err(IndexError::Locked(_))));
    assert_eq!(serving(&place).await, 4);
    place.stand_in().lose_next_switch();
    roll_back().await.unwrap();
    assert_eq!(serving(&place).await, 3);
}

#[tokio::test]
async fn a_switch_to_what_is_removed_in_that_moment_goes_back() {
    let place = place().await;
    load(&place, 3).await;
    load(&place, 4).await;
    place.stand_in().remove_what_is_switched_to();
    let error = place.open().switch(place.catalog(), Destination::Before).await.unwrap_err();
    assert!(matches!(error, IndexError::Locked(_)), "{error:?}");
    assert_eq!(serving(&place).await, 4);
    load(&place, 5).await;
    assert_eq!(serving(&place).await, 5);
}

#[tokio::test]
async fn a_generation_with_holes_is_not_switched_to() {
    let place = place().await;
    load(&place, 3).await;
    load(&place, 4).await;
    place.stand_in().forget_a_point(&place.stand_in().collections()[0]);
    let error = place.open().switch(place.catalog(), Destination::Before).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("2 of its 3 products"), "{error:?}");
    assert_eq!(serving(&place).await, 4);
}

#[tokio::test]
async fn what_other_people_need_is_not_pruned() {
    let place = place().await;
    load(&place, 3).await;
    load(&place, 4).await;
    let old = place.stand_in().collections()[0].clone();
    place.stand_in().point("canary", &old);
    let pruned = place.open().prune(place.catalog(), 1).await.unwrap();
    assert_eq!((pruned.removed.len(), pruned.in_use.len()), (0, 1));
    assert!(place.stand_in().collections().contains(&old));
}

#[tokio::test]
async fn a_generation_that_the_server_cannot_describe_hides_no_other() {
    let place = place().await;
    load(&place, 3).await;
    load(&place, 4).await;
    let old = place.stand_in().collections()[0].clone();
    place.stand_in().lose_all_copies(&old);
    let kept = place.open().list().await.unwrap().remove(place.catalog()).unwrap();
    let products: Vec<_> = kept.iter().map(|kept| kept.info.as_ref().map(|info| info.products)).collect();
    assert!(matches!(products[..], [Err(IndexError::Unavailable { .. }), Ok(4)]), "{products:?}");
}

/// A loader that is killed: nothing of it runs any more, and nothing was cleaned up.
fn kill_a_loader(options: QdrantOptions, place: &TestIndex) {
    let catalog = place.catalog().clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let index = QdrantIndex::new(options).unwrap();
            let builder = runtime.block_on(index.build(&catalog, &model(), &schema(), Start::Empty)).unwrap();
            std::mem::forget(builder);
            runtime.shutdown_background();
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_loader_left_never_serves_and_the_next_one_removes_it() {
    let place = place().await;
    load(&place, 3).await;
    let options = place.options();
    tokio::task::block_in_place(|| kill_a_loader(options, &place));
    assert_eq!(place.generations().await.len(), 2);
    assert_eq!(serving(&place).await, 3);
    let index = place.open();
    let builder = begin(&place, &*index).await.unwrap();
    assert_eq!(place.generations().await.len(), 2, "the serving one, and the one that is being built");
    drop(builder);
    index.settle().await;
    assert_eq!(place.generations().await.len(), 1);
}

#[tokio::test]
async fn aliases_and_collections_of_other_people_are_left_alone() {
    let place = place().await;
    load(&place, 3).await;
    let (stand_in, old) = (place.stand_in(), place.stand_in().collections()[0].clone());
    stand_in.point("canary", &old);
    stand_in.point(&format!("{}~", place.catalog()), &old);
    for count in 4..7 {
        load(&place, count).await;
    }
    assert!(stand_in.collections().contains(&old), "somebody needs it");
    assert_eq!(place.generations().await.len(), 3);
    let index = place.open();
    index.refresh().await;
    assert_eq!(index.serving().len(), 1);
    assert!(index.is_whole());
}

#[tokio::test]
async fn a_generation_with_holes_is_refused_and_does_not_replace_what_serves() {
    let place = place().await;
    load(&place, 3).await;
    let index = place.open();
    index.refresh().await;
    load(&place, 4).await;
    let broken = place.stand_in().aliases()[place.catalog().as_str()].clone();
    place.stand_in().forget_a_point(&broken);
    index.refresh().await;
    assert_eq!(index.current(place.catalog()).await.unwrap().info().products, 3);
    assert!(index.is_whole(), "the old generation serves");
    let fresh = place.open();
    fresh.refresh().await;
    assert!(!fresh.is_whole() && fresh.serving().is_empty());
    let error = fresh.current(place.catalog()).await.err().unwrap();
    assert!(Chain(&error).to_string().contains("3 of its 4 products"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_stays_away_serves_nothing_and_one_that_comes_back_does() {
    let place = place().await;
    load(&place, 3).await;
    let index = QdrantIndex::new(place.options()).unwrap();
    index.refresh().await;
    assert_eq!(index.serving().len(), 1);
    place.stand_in().refuse((0..3).map(|_| Status::unavailable("gone")));
    index.refresh().await;
    assert!(!index.is_whole());
    assert_eq!(index.serving().len(), 1, "for a moment, nothing changes");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    assert!(index.serving().is_empty());
    index.refresh().await;
    assert!(index.is_whole());
    assert_eq!(index.serving().len(), 1);
}

#[tokio::test]
async fn a_server_that_keeps_no_metadata_is_too_old() {
    let place = place().await;
    for version in ["1.15.4", "0.11.7", "dev"] {
        place.stand_in().say_version(version);
        let error = begin(&place, &*place.open()).await.err().unwrap();
        assert!(Chain(&error).to_string().contains("older than 1.16"), "{error:?}");
    }
    place.stand_in().say_version("1.17.0-dev");
    begin(&place, &*place.open()).await.unwrap();
}

#[tokio::test]
#[expect(deprecated, reason = "what replaces `on_disk` is not known to servers before 1.20")]
async fn a_collection_is_made_as_the_options_say() {
    let place = place().await;
    let build = BuildOptions {
        shards: Some(3),
        replicas: 2,
        write_consistency: 2,
        on_disk: true,
        quantisation: Quantisation::Int8,
        hnsw_m: 24,
        hnsw_ef_construct: 200,
        ..place.options().build
    };
    let options = QdrantOptions { build, ..place.options() };
    let index = open(IndexPlace::Server(Box::new(options))).unwrap();
    let _builder = begin(&place, &*index).await.unwrap();
    let made = place.stand_in().made(&place.stand_in().collections()[0]);
    assert_eq!(
        (made.shard_number, made.replication_factor, made.write_consistency_factor),
        (Some(3), Some(2), Some(2))
    );
    let hnsw = made.hnsw_config.unwrap();
    assert_eq!((hnsw.m, hnsw.ef_construct), (Some(24), Some(200)));
    let quantization = made.quantization_config.unwrap().quantization.unwrap();
    assert!(matches!(quantization, Quantization::Scalar(_)), "{quantization:?}");
    let Some(vectors_config::Config::ParamsMap(vectors)) = made.vectors_config.unwrap().config else { panic!() };
    assert!(vectors.map["image"].multivector_config.is_some() && vectors.map["text"].multivector_config.is_none());
    assert!(vectors.map.values().all(|vector| vector.on_disk == Some(true)));
}

/// The collection that serves.
async fn collection(place: &TestIndex, index: &dyn ProductIndex) -> String {
    format!("{}-{}", place.catalog(), index.current(place.catalog()).await.unwrap().info().id)
}

/// Publishes 30 products, then as many that begin with those, one of them new. Out: how many of them were sent.
async fn sent_again(place: &TestIndex, before: QdrantOptions, after: QdrantOptions) -> usize {
    let first = begin(place, &QdrantIndex::new(before).unwrap()).await.unwrap();
    first.add((0..30).map(indexed).collect()).await.unwrap();
    first.seal().await.unwrap().publish().await.unwrap();
    let index = QdrantIndex::new(after).unwrap();
    let builder = index.build(place.catalog(), &model(), &schema(), Start::Serving).await.unwrap();
    assert!(matches!(builder.origin(), Origin::Generation(_)), "{:?}", builder.origin());
    let kept: Vec<_> = (1..30).map(|number| indexed(number).product.id).collect();
    builder.keep(&kept).await.unwrap();
    builder.add(vec![indexed(30)]).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
    let generation = index.current(place.catalog()).await.unwrap();
    let mut there = Vec::new();
    for number in 0..=30 {
        there.extend(generation.get(&indexed(number).product.id).await.unwrap().map(|_| number));
    }
    assert_eq!((there, generation.info().products), ((1..=30).collect(), 30));
    assert_eq!(place.stand_in().collections().len(), 2);
    place.stand_in().upserted(&collection(place, &index).await)
}

/// How many segments a shard of what serves may have.
async fn segments(place: &TestIndex) -> Option<u64> {
    let made = place.stand_in().made(&collection(place, &*place.open()).await);
    made.optimizers_config.unwrap().default_segment_number
}

#[tokio::test]
async fn what_serves_comes_along_in_snapshots_and_only_what_is_new_is_sent() {
    for (nodes, replicas) in [(1, 1), (3, 1), (3, 2)] {
        let place = TestIndex::on_cluster(nodes).await;
        let mut options = place.options();
        options.build.replicas = replicas;
        assert_eq!(sent_again(&place, options.clone(), options.clone()).await, 1, "{nodes} nodes, {replicas} copies");
        // Every copy came.
        let recovered = place.stand_in().recovered(&collection(&place, &*place.open()).await);
        assert_eq!(recovered.len(), nodes * usize::try_from(replicas).unwrap(), "{recovered:?}");
        // The two segments that a shard of the stand-in has, and three for what is new; not three more for each load.
        assert_eq!(segments(&place).await, Some(5));
        let index = QdrantIndex::new(options).unwrap();
        let again = index.build(place.catalog(), &model(), &schema(), Start::Serving).await.unwrap();
        again.keep(&[indexed(7).product.id]).await.unwrap();
        again.seal().await.unwrap().publish().await.unwrap();
        assert_eq!((serving(&place).await, segments(&place).await), (1, Some(5)));
    }
}

/// Other systems than Linux have only one address for themselves, unless somebody adds some.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_of_a_cluster_is_enough_for_snapshots() {
    let place = TestIndex::on_cluster(3).await;
    let mut options = place.options();
    options.rest_urls.truncate(1);
    assert_eq!(sent_again(&place, options.clone(), options).await, 1);
}

#[tokio::test]
async fn a_key_is_sent_for_snapshots_too() {
    let place = place().await;
    place.stand_in().ask_for_key("s3cret");
    let keyed = QdrantOptions { api_key: Some("s3cret".parse().unwrap()), ..place.options() };
    assert_eq!(sent_again(&place, keyed.clone(), keyed).await, 1);
}

#[tokio::test]
async fn products_are_copied_where_snapshots_cannot_be_had() {
    for fault in [SnapshotFault::Refused, SnapshotFault::Short, SnapshotFault::Cut, SnapshotFault::NotTaken] {
        let place = TestIndex::on_cluster(3).await;
        place.stand_in().spoil_snapshots(fault);
        assert_eq!(sent_again(&place, place.options(), place.options()).await, 30, "{fault:?}");
    }
    // A node is away; one stands for another; the only one is away.
    let away = || "http://127.0.0.1:1".parse().unwrap();
    for nodes in [3, 2, 1] {
        let place = TestIndex::on_cluster(nodes).await;
        let mut options = place.options();
        let last = options.rest_urls.len() - 1;
        options.rest_urls[last] = if nodes == 2 { options.rest_urls[0].clone() } else { away() };
        assert_eq!(sent_again(&place, options.clone(), options).await, 30, "{nodes} nodes");
    }
    // A copy that is not whole yet would stay empty, and be searched.
    let place = place().await;
    load(&place, 30).await;
    place.stand_in().spoil_snapshots(SnapshotFault::Behind);
    let index = place.open();
    let builder = index.build(place.catalog(), &model(), &schema(), Start::Serving).await.unwrap();
    builder.keep(&(0..30).map(|number| indexed(number).product.id).collect::<Vec<_>>()).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
    assert_eq!(place.stand_in().upserted(&collection(&place, &*index).await), 30);
}

#[tokio::test]
async fn what_is_kept_and_was_not_there_is_not_published() {
    let place = place().await;
    load(&place, 3).await;
    let index = place.open();
    let builder = index.build(place.catalog(), &model(), &schema(), Start::Serving).await.unwrap();
    builder.keep(&[1, 2, 3].map(|number| indexed(number).product.id)).await.unwrap();
    let error = builder.seal().await.err().unwrap();
    assert_eq!(Chain(&error).to_string(), "seal a generation: 2 of its 3 products are there");
    assert_eq!(serving(&place).await, 3);
}

#[tokio::test]
async fn products_are_copied_where_the_files_are_made_for_other_settings() {
    type Change = fn(&mut BuildOptions);
    let changes: [(&str, Change); 3] = [
        ("graph", |build| build.hnsw_m = 32),
        ("quantisation", |build| build.quantisation = Quantisation::Int8),
        ("vectors", |build| build.on_disk = true),
    ];
    for (what, change) in changes {
        let place = place().await;
        let mut other = place.options();
        change(&mut other.build);
        assert_eq!(sent_again(&place, place.options(), other).await, 30, "{what}");
    }
}

#[tokio::test]
async fn what_a_node_says_that_is_behind_is_looked_at_again() {
    let place = place().await;
    load(&place, 3).await;
    let first = place.open().current(place.catalog()).await.unwrap().info().id.clone();
    load(&place, 4).await;
    place.stand_in().answer_as_before(2);
    assert_eq!(serving(&place).await, 4);
    place.stand_in().answer_as_before(1);
    place.open().switch(place.catalog(), Destination::Generation(first)).await.unwrap();
    assert_eq!(serving(&place).await, 3);
}

#[tokio::test]
async fn a_generation_from_before_there_were_keywords_is_searched_and_the_next_one_gets_them() {
    let place = place().await;
    load(&place, 30).await;
    let index = place.open();
    let client = Qdrant::from_url(&place.url()).skip_compatibility_check().build().unwrap();
    let without = UpdateCollectionBuilder::new(collection(&place, &*index).await);
    let nothing = HashMap::from([("vitrine_keywords".to_owned(), serde_json::Value::Null)]);
    client.update_collection(without.metadata(nothing)).await.unwrap();
    let generation = place.open().current(place.catalog()).await.unwrap();
    assert!(generation.info().keywords().is_none());
    assert_eq!(generation.search(query()).await.unwrap().len(), 10);
    let builder = index.build(place.catalog(), &model(), &schema(), Start::Serving).await.unwrap();
    builder.keep(&(0..30).map(|number| indexed(number).product.id).collect::<Vec<_>>()).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
    let serving = collection(&place, &*place.open()).await;
    assert_eq!(place.stand_in().upserted(&serving), 30, "its files have no words");
    let generation = place.open().current(place.catalog()).await.unwrap();
    assert!(generation.info().keywords().is_some());
}

#[tokio::test]
async fn shards_count_words_by_themselves_and_a_word_of_one_product_makes_a_half_in_each() {
    let place = TestIndex::on_cluster(3).await;
    load(&place, 300).await;
    let generation = place.open().current(place.catalog()).await.unwrap();
    for number in [0, 10, 299] {
        let keywords = Keywords::of_query([(indexed(number).product.id.as_str(), 1.0)]);
        let mut query = IndexQuery { keywords: Some(QueryKeywords { keywords, share: 0.9 }), ..query() };
        query.vectors[0].share = 0.1;
        let hits = generation.search(query).await.unwrap();
        assert_eq!(hits[0].product.id, indexed(number).product.id);
        let similarity = hits[0].keywords.unwrap();
        assert!((0.45..0.7).contains(&similarity), "{number}: {similarity}");
    }
}

#[tokio::test]
async fn a_held_generation_answers_whatever_is_published() {
    let place = place().await;
    load(&place, 3).await;
    let held = place.open().current(place.catalog()).await.unwrap();
    let index = Arc::new(place.open());
    load(&place, 5).await;
    assert_eq!(held.search(query()).await.unwrap().len(), 3);
    assert_eq!(index.current(place.catalog()).await.unwrap().search(query()).await.unwrap().len(), 5);
}
