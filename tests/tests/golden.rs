//! Preprocessing and tokenising equal the reference: `golden/` has its results and the scripts that made them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType};
use serde_json::Value;
use vitrine_clip::{
    Execution, ModelFolder, Precision, decode::decode, preprocess::Preprocess, session::VisionTower, tokenize::Tokenize,
};
use vitrine_tests::{mini, repository, runtime, shared};

/// Largest difference of a channel value, 0 to 255, and smallest cosine of the embeddings.
const EXACT: (u8, f32) = (2, 0.9999);
/// The same for JPEG, whose standard leaves the rounding of the transform and the interpolation of chroma to the
/// decoder: the reference decodes with libjpeg-turbo, this project with zune-jpeg.
const JPEG: (u8, f32) = (4, 0.998);

fn golden(path: &str) -> PathBuf {
    repository().join("tests/golden").join(path)
}

fn read_json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(path)).unwrap()).unwrap()
}

/// Every picture with each of its configurations: picture, configuration, what we make, what the reference makes.
fn pictures() -> Vec<(String, String, RgbImage, RgbImage)> {
    let mut all = Vec::new();
    for entry in read_json("preprocess/manifest.json").as_array().unwrap() {
        let picture = entry["picture"].as_str().unwrap();
        let content = fs::read(golden(picture)).unwrap();
        let decoded = decode(&content, None, |full| full).unwrap_or_else(|error| panic!("{picture}: {error}"));
        for config in entry["configs"].as_array().unwrap() {
            let config = config.as_str().unwrap();
            let json = fs::read_to_string(golden(&format!("preprocess/{config}/preprocessor_config.json"))).unwrap();
            let ours = Preprocess::from_json(&json).unwrap().pixels(&decoded);
            let stem = PathBuf::from(picture).file_stem().unwrap().to_str().unwrap().to_owned();
            let reference = image::open(golden(&format!("preprocess/{config}/{stem}.png"))).unwrap().into_rgb8();
            assert_eq!(ours.dimensions(), reference.dimensions(), "{picture} {config}");
            all.push((picture.to_owned(), config.to_owned(), ours, reference));
        }
    }
    all
}

fn bounds(picture: &str) -> (u8, f32) {
    if Path::new(picture).extension().is_some_and(|extension| extension == "jpg") { JPEG } else { EXACT }
}

fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn pixels_equal_the_references() {
    let pictures = pictures();
    assert!(pictures.len() >= 60);
    let mut differences = BTreeMap::<u8, usize>::new();
    let mut wrong = Vec::new();
    for (picture, config, ours, reference) in &pictures {
        let difference = largest_difference(ours, reference);
        *differences.entry(difference).or_default() += 1;
        if difference > bounds(picture).0 {
            wrong.push(format!("{picture} {config}: {difference}"));
        }
    }
    eprintln!("largest difference of a channel value → pictures: {differences:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn embeddings_equal_the_references() {
    let folder = ModelFolder::open(&mini(), Precision::Auto).unwrap();
    let preprocess = Preprocess::from_json(&folder.preprocessor).unwrap();
    let mut tower =
        VisionTower::load(&runtime(), &folder.vision.exact, Execution::cpu(2), preprocess.output_size().unwrap())
            .unwrap();
    let mut cosines = Vec::new();
    for (picture, config, ours, reference) in pictures() {
        if config == "clip" {
            let tensors = [preprocess.tensor(&ours), preprocess.tensor(&reference)];
            let embeddings = tower.run(&tensors).unwrap();
            cosines.push((embeddings[0].cosine(&embeddings[1]), picture));
        }
    }
    cosines.sort_by(|a, b| a.0.total_cmp(&b.0));
    eprintln!("smallest cosines: {:?}", &cosines[..8]);
    let wrong: Vec<_> = cosines.iter().filter(|(cosine, picture)| *cosine < bounds(picture).1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Smallest cosine of the embeddings of a picture that was decoded at a part of its size and in full.
const PART: f32 = 0.995;

#[test]
fn a_jpeg_decoded_at_a_part_of_its_size_embeds_as_in_full() {
    let folder = ModelFolder::open(&mini(), Precision::Auto).unwrap();
    let preprocess = Preprocess::from_json(&folder.preprocessor).unwrap();
    let mut tower =
        VisionTower::load(&runtime(), &folder.vision.exact, Execution::cpu(2), preprocess.output_size().unwrap())
            .unwrap();
    let real = shared("data/appliances/images").into_iter().flat_map(|folder| files(&folder).into_iter().step_by(30));
    for path in files(&repository().join("demo/queries")).into_iter().step_by(3).chain(real) {
        let picture = image::open(&path).unwrap().into_rgb8();
        for divisor in [2, 4, 8] {
            let large = enlarged(&picture, 340 * divisor);
            let full = decode(&large, None, |full| full).unwrap();
            let part = decode(&large, None, |size| preprocess.enough(size)).unwrap();
            assert_eq!(part.width(), full.width().div_ceil(divisor), "{}", path.display());
            let tensors = [full, part].map(|picture| preprocess.tensor(&preprocess.pixels(&picture)));
            let embeddings = tower.run(&tensors).unwrap();
            let cosine = embeddings[0].cosine(&embeddings[1]);
            eprintln!("1/{divisor} {cosine:.5} {}", path.display());
            assert!(cosine >= PART, "{cosine} at 1/{divisor}: {}", path.display());
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A JPEG file of the picture with its shorter edge as given.
fn enlarged(picture: &RgbImage, edge: u32) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let long = |side: u32| side * edge / width.min(height);
    let picture = image::imageops::resize(picture, long(width), long(height), FilterType::CatmullRom);
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, 88).encode_image(&picture).unwrap();
    bytes.into_inner()
}

fn check_tokens(folder: &ModelFolder, golden: &str) {
    let tokenize = Tokenize::open(folder).unwrap();
    let strings = read_json("tokens/strings.json");
    let strings = strings.as_array().unwrap();
    assert!(strings.len() >= 200);
    let ids = read_json(golden);
    for (text, ids) in strings.iter().zip(ids["ids"].as_array().unwrap()) {
        let text = text.as_str().unwrap();
        let expected: Vec<u64> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let ours: Vec<u64> = tokenize.tokens(text).unwrap().0.into_iter().map(u64::from).collect();
        assert_eq!(ours, expected, "{text:?}");
    }
}

#[test]
fn tokens_of_the_bundled_model_equal_the_references() {
    check_tokens(&ModelFolder::open(&mini(), Precision::Auto).unwrap(), "tokens/mini.json");
}

#[test]
fn tokens_of_clip_equal_the_references() {
    let folder = repository().join("target/random-clip");
    if folder.exists() {
        check_tokens(&ModelFolder::open(&folder, Precision::Auto).unwrap(), "tokens/clip.json");
    } else {
        eprintln!("skipped: `make random-clip` needs ../shared for CLIP's vocabulary");
    }
}
