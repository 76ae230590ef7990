//! Words to tokens, and both towers in batches, each with one thread. A row of a batch also says how many inputs that is
//! in a second.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{
    group,
    model::{Model, words},
    photos::{SIZES, photo},
};

const BATCHES: [usize; 4] = [1, 4, 16, 64];
/// A short search and a long one.
const WORDS: [usize; 2] = [3, 12];

pub(crate) fn bench(criterion: &mut Criterion) {
    let model = Model::open();
    let (mut vision, mut text) = (model.vision(), model.text());
    let [small, ..] = SIZES;
    let picture = model.preprocess.tensor(&model.preprocess.pixels(&photo(small)));

    let mut tokenising = group(criterion, "tokenise");
    for count in WORDS {
        let words = words(count);
        tokenising.bench_function(BenchmarkId::from_parameter(format!("{count} words")), |bench| {
            bench.iter(|| model.tokenize.tokens(black_box(&words)).unwrap());
        });
    }
    tokenising.finish();

    let mut seeing = group(criterion, "picture tower");
    let batch_size_max = vision.facts().batch_size_max.unwrap_or(usize::MAX);
    for batch in BATCHES.into_iter().filter(|batch| *batch <= batch_size_max) {
        let pictures = vec![picture.clone(); batch];
        seeing.throughput(Throughput::Elements(batch.try_into().unwrap()));
        seeing.bench_function(BenchmarkId::new("batch", batch), |bench| {
            bench.iter(|| vision.run(black_box(&pictures)).unwrap());
        });
    }
    seeing.finish();

    let mut reading = group(criterion, "text tower");
    let batch_size_max = text.facts().batch_size_max.unwrap_or(usize::MAX);
    for count in WORDS {
        let tokens = model.tokenize.tokens(&words(count)).unwrap();
        for batch in BATCHES.into_iter().filter(|batch| *batch <= batch_size_max) {
            let texts = vec![tokens.clone(); batch];
            reading.throughput(Throughput::Elements(batch.try_into().unwrap()));
            reading.bench_function(BenchmarkId::new(format!("{count} words, batch"), batch), |bench| {
                bench.iter(|| text.run(black_box(&texts)).unwrap());
            });
        }
    }
    reading.finish();
}
