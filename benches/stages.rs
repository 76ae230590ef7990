//! What each stage of a query costs by itself, on the bundled model and the demo's photos.
//!
//! `cargo bench -p vitrine-benches`. Compare rows of one run with each other, not with another machine's.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is no interface, and one that panics has failed")]

use std::{env, fs, hint::black_box, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use vitrine_clip::{
    Execution, ModelFolder, Precision, Runtime,
    decode::decode,
    preprocess::Preprocess,
    session::{TextTower, TextsOf, VisionTower},
    tokenize::Tokenize,
};
use vitrine_core::filter;

fn stages(criterion: &mut Criterion) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let configured = env::var_os("ORT_DYLIB_PATH").map(std::path::PathBuf::from);
    let runtime = Runtime::load(configured.as_deref(), &env::current_exe().unwrap()).unwrap();
    let folder = ModelFolder::open(&repository.join("models/mini"), Precision::Auto).unwrap();
    let preprocess = Preprocess::from_json(&folder.preprocessor).unwrap();
    let tokenize = Tokenize::open(&folder).unwrap();
    let size = preprocess.output_size().unwrap();
    let mut vision = VisionTower::load(&runtime, &folder.vision.exact, Execution::cpu(1), size).unwrap();
    let texts = TextsOf {
        model_type: "mini",
        length_max: tokenize.length_max(),
        padding: tokenize.padding(),
        probe: tokenize.tokens("a sofa").unwrap(),
    };
    let mut text = TextTower::load(&runtime, &folder.text.exact, Execution::cpu(1), &texts).unwrap();

    let photo = fs::read(repository.join("demo/queries/sofa-living-room.jpg")).unwrap();
    let picture = decode(&photo, None, |full| full).unwrap();
    let pixels = preprocess.pixels(&picture);
    let tensor = preprocess.tensor(&pixels);
    let words = "a dark blue striped cotton dress";
    let tokens = tokenize.tokens(words).unwrap();
    let name = |stage: &str| format!("{stage} ({}×{})", picture.width(), picture.height());

    criterion.bench_function(&name("decode jpeg"), |bench| {
        bench.iter(|| decode(black_box(&photo), None, |full| full).unwrap());
    });
    criterion.bench_function(&name("resize and crop"), |bench| bench.iter(|| preprocess.pixels(black_box(&picture))));
    criterion.bench_function("normalise", |bench| bench.iter(|| preprocess.tensor(black_box(&pixels))));
    for batch in [1, 4, 16] {
        let tensors = vec![tensor.clone(); batch];
        criterion.bench_function(&format!("picture tower, batch of {batch}, 1 thread"), |bench| {
            bench.iter(|| vision.run(black_box(&tensors)).unwrap());
        });
    }
    criterion.bench_function("tokenize 6 words", |bench| bench.iter(|| tokenize.tokens(black_box(words)).unwrap()));
    criterion.bench_function("text tower, 6 words, 1 thread", |bench| {
        bench.iter(|| text.run(black_box(std::slice::from_ref(&tokens))).unwrap());
    });
    let expression = "price < 50 AND brand = \"Daybird\" AND NOT color IN (\"red\", \"blue\")";
    criterion.bench_function("parse a filter", |bench| bench.iter(|| filter::parse(black_box(expression)).unwrap()));
}

criterion_group!(benches, stages);
criterion_main!(benches);
