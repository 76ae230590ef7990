//! Model folders of every shape: what must load loads and embeds, what must not says why. `models/` has the folders
//! and the script that made them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{fs, path::Path, time::Duration};

use vitrine_clip::{ClipEmbedder, ClipOptions, Execution, ExecutionProvider, Precision, check};
use vitrine_core::{
    embed::{CallContext, Embedder as _},
    signal::{Photo, QueryText},
};
use vitrine_tests::{mini, repository, runtime};

fn options() -> ClipOptions {
    ClipOptions {
        precision: Precision::Auto,
        execution_provider: ExecutionProvider::Cpu,
        inference_sessions: 2,
        inference_threads: 1,
        preprocess_threads: 1,
        batch_size_max: 4,
        batch_wait_max: Duration::ZERO,
        queue_size_max: 64,
    }
}

fn photo() -> Photo {
    let picture = fs::read(repository().join("demo/queries/sofa-living-room.jpg")).unwrap();
    Photo::new(picture.into(), None).unwrap()
}

/// Loads a folder and embeds a photo and texts of different lengths with it, alone and side by side.
async fn embeds(folder: &Path) {
    let name = folder.display();
    let embedder = ClipEmbedder::load(&runtime(), folder, options()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let call = CallContext::bulk();
    let alone = embedder.embed_photo(&photo(), call).await.unwrap();
    assert_eq!(alone.values().len(), embedder.model().dimensions);
    let words = ["red sofa", "blue mug and green boot on a red sofa"].map(|words| QueryText::new(words, "").unwrap());
    let short = embedder.embed_text(&words[0], call).await.unwrap();
    let (photo, other, again) = (photo(), embedder.embed_text(&words[1], call), embedder.embed_text(&words[0], call));
    let (photo, other, again) = tokio::join!(embedder.embed_photo(&photo, call), other, again);
    assert!(photo.unwrap().cosine(&alone) > 0.999, "{name}");
    assert!(again.unwrap().cosine(&short) > 0.97, "{name}: padding changes a text's vector");
    assert!(other.unwrap().cosine(&short) < 0.9999, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_dual_encoder_loads_and_embeds() {
    let names = [
        "good",
        "half",
        "narrow_ids",
        "mixed_ids",
        "token_types",
        "siglip",
        "one_by_one",
        "normalised",
        "long_only",
        "pad_blind",
    ];
    for name in names {
        embeds(&repository().join("tests/models").join(name)).await;
    }
    embeds(&mini()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_tower_takes_its_input_changes_no_vector() {
    let vectors = async |name: &str| {
        let folder = repository().join("tests/models").join(name);
        let embedder = ClipEmbedder::load(&runtime(), &folder, options()).unwrap();
        let words = QueryText::new("blue mug and green boot", "").unwrap();
        let text = embedder.embed_text(&words, CallContext::bulk()).await.unwrap();
        (embedder.embed_photo(&photo(), CallContext::bulk()).await.unwrap(), text)
    };
    let (photo, text) = vectors("good").await;
    for name in ["narrow_ids", "mixed_ids", "one_by_one", "long_only", "pad_blind"] {
        let (same_photo, same_text) = vectors(name).await;
        assert!(photo.cosine(&same_photo) > 0.99999 && text.cosine(&same_text) > 0.99999, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_clips_own_shape_loads_and_embeds() {
    let folder = repository().join("target/random-clip");
    if folder.exists() {
        embeds(&folder).await;
    } else {
        eprintln!("skipped: `make random-clip` needs ../shared for CLIP's vocabulary");
    }
}

#[test]
fn folders_that_would_answer_wrongly_say_why() {
    for (name, file, problem) in [
        ("widths_differ", "text_model.onnx", "has vectors of 4 dimensions, but the picture tower has 8"),
        ("no_mask", "text_model.onnx", "has no `attention_mask` input"),
        ("wrong_picture_shape", "vision_model.onnx", "not [batch, 3, 16, 16]"),
        ("wrong_rank", "vision_model.onnx", "not [batch, dimensions]"),
        ("two_inputs", "vision_model.onnx", "`extra`"),
        ("no_embeds", "vision_model.onnx", "neither `image_embeds` nor `pooler_output`"),
        ("nan", "vision_model.onnx", "not finite"),
        ("unknown_text_input", "text_model.onnx", "`position_bias`"),
        ("short_text", "text_model.onnx", "takes 4 tokens, but the tokenizer makes up to 16"),
        ("fixed_batch", "_model.onnx", "takes batches of 4 only"),
        ("fixed_batch_vision", "vision_model.onnx", "takes batches of 4 only"),
        ("bytes_input", "vision_model.onnx", "not f32 or f16"),
    ] {
        let folder = repository().join("tests/models").join(name);
        let error = ClipEmbedder::load(&runtime(), &folder, options()).err().unwrap_or_else(|| panic!("{name} loads"));
        let error = error.to_string();
        assert!(error.contains(file) && error.contains(problem), "{name}: {error}");
    }
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let good = repository().join("tests/models/good");
    let files =
        ["config.json", "preprocessor_config.json", "tokenizer.json", "onnx/vision_model.onnx", "onnx/text_model.onnx"];
    for broken in files {
        for content in [None, Some("nonsense")] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("onnx")).unwrap();
            for file in files.into_iter().filter(|file| *file != broken) {
                fs::copy(good.join(file), dir.path().join(file)).unwrap();
            }
            if let Some(content) = content {
                fs::write(dir.path().join(broken), content).unwrap();
            }
            let error = ClipEmbedder::load(&runtime(), dir.path(), options()).err().unwrap().to_string();
            assert!(error.contains(broken), "{broken}: {error}");
        }
    }
    let error = ClipEmbedder::load(&runtime(), Path::new("/nowhere"), options()).err().unwrap().to_string();
    assert!(error.contains("/nowhere is missing"), "{error}");
}

#[test]
fn the_check_passes_the_bundled_model_and_notes_what_it_corrects() {
    let report = check(&runtime(), &mini(), Precision::Auto, Execution::cpu(2)).unwrap();
    assert!(report.can_serve(), "{report}");
    let report =
        check(&runtime(), &repository().join("tests/models/good"), Precision::Auto, Execution::cpu(1)).unwrap();
    assert!(report.can_serve() && report.to_string().contains("not normalised by the graph"), "{report}");
}

/// A folder with the files of `good`, and those of another folder as its 8-bit files.
fn with_small_files_of(other: &str) -> tempfile::TempDir {
    let [good, other] = ["good", other].map(|name| repository().join("tests/models").join(name));
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("onnx")).unwrap();
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        fs::copy(good.join(file), folder.path().join(file)).unwrap();
    }
    for file in ["vision_model", "text_model"].map(|tower| format!("onnx/{tower}")) {
        fs::copy(good.join(format!("{file}.onnx")), folder.path().join(format!("{file}.onnx"))).unwrap();
        fs::copy(other.join(format!("{file}.onnx")), folder.path().join(format!("{file}_int8.onnx"))).unwrap();
    }
    folder
}

#[test]
fn the_check_compares_the_files_of_a_folder_with_each_other() {
    let folder = with_small_files_of("good");
    let report = check(&runtime(), folder.path(), Precision::Auto, Execution::cpu(1)).unwrap().to_string();
    assert!(report.contains("onnx/vision_model_int8.onnx: "), "{report}");
    assert!(report.contains("cosine to onnx/vision_model.onnx at worst 1.00000"), "{report}");
}

#[test]
fn small_files_run_where_they_make_the_same_vectors_and_nowhere_else() {
    let loads = |folder: &Path| {
        let report = check(&runtime(), folder, Precision::Auto, Execution::cpu(1)).unwrap().to_string();
        report.lines().next().unwrap().to_owned()
    };
    let (same, another) = (with_small_files_of("good"), with_small_files_of("token_types"));
    assert_eq!(loads(same.path()), "ok    onnx/vision_model_int8.onnx and onnx/text_model_int8.onnx load");
    // Only the text tower of `token_types` is another.
    assert_eq!(loads(another.path()), "ok    onnx/vision_model_int8.onnx and onnx/text_model.onnx load");
    let fingerprint = |folder: &Path, precision| {
        let embedder = ClipEmbedder::load(&runtime(), folder, ClipOptions { precision, ..options() }).unwrap();
        embedder.model().fingerprint.clone()
    };
    let exact = fingerprint(&repository().join("tests/models/good"), Precision::Fp32);
    assert_eq!(
        [same.path(), another.path()].map(|folder| fingerprint(folder, Precision::Auto)),
        [&exact; 2].map(Clone::clone)
    );
    assert_ne!(fingerprint(another.path(), Precision::Int8), exact);
}

#[test]
fn what_cannot_run_the_graphs_is_named_with_what_to_do() {
    let good = repository().join("tests/models/good");
    let load = |options| ClipEmbedder::load(&runtime(), &good, options).err().unwrap().to_string();
    let error = load(ClipOptions { precision: Precision::Bf16, ..options() });
    assert!(error.contains("execution provider `cpu`: it has no bf16 arithmetic"), "{error}");
    let error = load(ClipOptions { execution_provider: ExecutionProvider::Cuda, ..options() });
    assert!(error.contains("execution provider `cuda`") && error.contains("cargo feature `cuda`"), "{error}");
}

#[test]
fn the_fingerprint_follows_every_file_that_shapes_vectors() {
    let good = repository().join("tests/models/good");
    let fingerprint = |folder: &Path| {
        let embedder = ClipEmbedder::load(&runtime(), folder, options()).unwrap();
        embedder.model().fingerprint.clone()
    };
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("onnx")).unwrap();
    for file in ["config.json", "tokenizer.json", "onnx/vision_model.onnx", "onnx/text_model.onnx"] {
        fs::copy(good.join(file), dir.path().join(file)).unwrap();
    }
    let preprocessor = fs::read_to_string(good.join("preprocessor_config.json")).unwrap();
    fs::write(dir.path().join("preprocessor_config.json"), &preprocessor).unwrap();
    assert_eq!(fingerprint(&good), fingerprint(dir.path()));
    fs::write(dir.path().join("preprocessor_config.json"), format!("{preprocessor} ")).unwrap();
    assert_ne!(fingerprint(&good), fingerprint(dir.path()));
}
