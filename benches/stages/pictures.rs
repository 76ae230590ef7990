//! Encoded bytes to the picture tower's input.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use vitrine_clip::decode::decode;

use crate::{
    group,
    model::Model,
    photos::{Format, SIZES, photo, written},
};

pub(crate) fn bench(criterion: &mut Criterion) {
    let preprocess = Model::open().preprocess;
    let photos = SIZES.map(photo);

    let mut decoding = group(criterion, "decode");
    for picture in &photos {
        let size = picture.dimensions();
        for format in Format::ALL {
            let bytes = format.encode(picture);
            decoding.bench_function(BenchmarkId::new(format.name(), written(size)), |bench| {
                bench.iter(|| decode(black_box(&bytes), None, |full| full).unwrap());
            });
        }
        let bytes = Format::Jpeg.encode(picture);
        let enough = |full| preprocess.enough(full);
        let smaller = decode(&bytes, None, enough).unwrap().dimensions();
        if smaller != size {
            let sizes = format!("{} at {}", written(size), written(smaller));
            decoding.bench_function(BenchmarkId::new("jpeg, as the service does", sizes), |bench| {
                bench.iter(|| decode(black_box(&bytes), None, enough).unwrap());
            });
        }
    }
    decoding.finish();

    let mut resizing = group(criterion, "resize and crop");
    // In full, and what the service leaves of the larger ones.
    let reduced = photos
        .iter()
        .map(|picture| decode(&Format::Jpeg.encode(picture), None, |full| preprocess.enough(full)).unwrap());
    let mut pictures: Vec<_> = photos.iter().cloned().chain(reduced).collect();
    pictures.sort_by_key(|picture| picture.len());
    pictures.dedup_by_key(|picture| picture.dimensions());
    for picture in &pictures {
        resizing.bench_function(BenchmarkId::from_parameter(written(picture.dimensions())), |bench| {
            bench.iter(|| preprocess.pixels(black_box(picture)));
        });
    }
    resizing.finish();

    let pixels = preprocess.pixels(pictures.first().unwrap());
    let mut normalising = group(criterion, "normalise");
    normalising.bench_function(BenchmarkId::from_parameter(written(pixels.dimensions())), |bench| {
        bench.iter(|| preprocess.tensor(black_box(&pixels)));
    });
    normalising.finish();
}
