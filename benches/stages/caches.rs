//! What is remembered: how a photo's key is made, what the cache of vectors costs, and what an answer from the cache of
//! answers. The model behind them hashes, the index looks at ten products: what is measured is the caches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion};
use tokio::runtime::{Builder, Runtime};
use vitrine_core::{
    cache::CachedEmbedder,
    embed::{CallContext, Embedder as _},
    fakes::{FakeEmbedder, MemoryIndex, embedding, load, product},
    index::IndexedProduct,
    product::CatalogName,
    search::{Search, SearchConfig, SearchRequest},
    signal::{Photo, QueryText, Signal, SignalSource, Weight},
};

use crate::{
    group,
    model::words,
    photos::{Format, SIZES, photo, written},
};

/// As `vitrine serve` has it by default.
const EMBEDDINGS_BYTES_MAX: u64 = 64 << 20;
const ANSWERS_BYTES_MAX: u64 = 32 << 20;
const PRODUCTS: i64 = 10;

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let photos = SIZES.map(|size| (written(size), Bytes::from(Format::Jpeg.encode(&photo(size)))));
    hashing(criterion, &runtime, &photos);
    vectors(criterion, &runtime, &photos);
    answers(criterion, &runtime, &photos);
}

fn new(content: &Bytes) -> Photo {
    Photo::new(content.clone(), None).unwrap()
}

/// A call with so much time that none of a bench runs out of it.
fn call() -> CallContext {
    CallContext::interactive(Instant::now() + Duration::from_hours(1))
}

fn hashing(criterion: &mut Criterion, runtime: &Runtime, photos: &[(String, Bytes)]) {
    let mut group = group(criterion, "hash a photo");
    for (size, content) in photos {
        let name = format!("{size} jpeg, {} kB", content.len() / 1000);
        // Each is new: a photo remembers its hash.
        group.bench_function(BenchmarkId::from_parameter(name), |bench| {
            bench.iter(|| runtime.block_on(new(content).digest()));
        });
    }
    group.finish();
}

fn vectors(criterion: &mut Criterion, runtime: &Runtime, photos: &[(String, Bytes)]) {
    let cached = CachedEmbedder::new(FakeEmbedder::default(), EMBEDDINGS_BYTES_MAX);
    let mut group = group(criterion, "cache of vectors");
    let text = QueryText::new(words(6), "text").unwrap();
    group.bench_function(BenchmarkId::new("hit", "6 words"), |bench| {
        bench.iter(|| runtime.block_on(cached.embed_text(&text, call())).unwrap());
    });
    for (size, content) in photos {
        group.bench_function(BenchmarkId::new("hit, hashed before", size), |bench| {
            let photo = new(content);
            bench.iter(|| runtime.block_on(cached.embed_photo(&photo, call())).unwrap());
        });
        group.bench_function(BenchmarkId::new("hit", size), |bench| {
            bench.iter(|| runtime.block_on(cached.embed_photo(&new(content), call())).unwrap());
        });
    }
    let mut numbers = 0_u64..;
    group.bench_function(BenchmarkId::new("miss", "6 words"), |bench| {
        let text = || QueryText::new(format!("{} {}", words(5), numbers.next().unwrap()), "text").unwrap();
        let miss = |text| runtime.block_on(cached.embed_text(&text, call())).unwrap();
        bench.iter_batched(text, miss, BatchSize::SmallInput);
    });
    let mut numbers = 0_u64..;
    let (size, content) = photos.first().unwrap();
    group.bench_function(BenchmarkId::new("miss", size), |bench| {
        let photo = || new(&[&content[..], &numbers.next().unwrap().to_le_bytes()].concat().into());
        let miss = |photo| runtime.block_on(cached.embed_photo(&photo, call())).unwrap();
        bench.iter_batched(photo, miss, BatchSize::SmallInput);
    });
    group.finish();
}

fn answers(criterion: &mut Criterion, runtime: &Runtime, photos: &[(String, Bytes)]) {
    let (embedder, index) = (FakeEmbedder::default(), MemoryIndex::default());
    let products = (0..PRODUCTS).map(|number| {
        let (id, vector) = (format!("p{number}"), embedding(&number.to_string()));
        let product = product(&id, &words(6), number);
        IndexedProduct { product, image_embeddings: vec![vector.clone()], text_embedding: vector, digest: None }
    });
    runtime.block_on(load(&index, embedder.model(), products.collect()));
    let config = SearchConfig {
        text_share: 0.5,
        keyword_share: 0.5,
        response_cache_bytes_max: ANSWERS_BYTES_MAX,
        // Longer than the bench runs.
        response_cache_ttl: Duration::from_hours(1),
    };
    let search = Search::new(Arc::new(embedder), Arc::new(index), config);
    let request = |source| SearchRequest {
        catalog: CatalogName::default(),
        signals: vec![Signal { source, weight: Weight::default() }],
        filter: None,
        page_size: 0,
        page_token: String::new(),
        score_min: None,
    };
    let text = || request(SignalSource::Text(QueryText::new(words(6), "text").unwrap()));
    let mut group = group(criterion, "cache of answers");
    group.bench_function(BenchmarkId::new("hit", "6 words"), |bench| {
        bench.iter(|| runtime.block_on(search.search(text(), call())).unwrap());
    });
    for (size, content) in photos {
        group.bench_function(BenchmarkId::new("hit", size), |bench| {
            let request = || request(SignalSource::Photo(new(content)));
            bench.iter(|| runtime.block_on(search.search(request(), call())).unwrap());
        });
    }
    group.bench_function(BenchmarkId::new("bypassed", "6 words"), |bench| {
        let call = || CallContext { bypass_cache: true, ..call() };
        bench.iter(|| runtime.block_on(search.search(text(), call())).unwrap());
    });
    group.finish();
}
