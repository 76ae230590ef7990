//! The model that is measured.

use std::{
    env,
    path::{Path, PathBuf},
};

use vitrine_clip::{
    Execution, ModelFolder, Precision, Runtime,
    preprocess::Preprocess,
    session::{TextTower, TextsOf, VisionTower},
    tokenize::Tokenize,
};

/// As `vitrine serve` has it by default.
const THREADS: usize = 1;

/// A model's parts, loaded where they are needed.
pub(crate) struct Model {
    runtime: Runtime,
    folder: ModelFolder,
    pub(crate) preprocess: Preprocess,
    pub(crate) tokenize: Tokenize,
}

impl Model {
    /// The folder of `VITRINE_BENCH_MODEL`, from the repository's root; the bundled one if that is not set.
    pub(crate) fn open() -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = env::var_os("VITRINE_BENCH_MODEL").map_or_else(|| PathBuf::from("models/mini"), PathBuf::from);
        let folder = ModelFolder::open(&repository.join(folder), Precision::Auto).unwrap();
        let configured = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
        let runtime = Runtime::load(configured.as_deref(), &env::current_exe().unwrap()).unwrap();
        let preprocess = Preprocess::from_json(&folder.preprocessor).unwrap();
        let tokenize = Tokenize::open(&folder).unwrap();
        Self { runtime, folder, preprocess, tokenize }
    }

    pub(crate) fn vision(&self) -> VisionTower {
        let size = self.preprocess.output_size().unwrap();
        VisionTower::load(&self.runtime, &self.folder.vision.exact, Execution::cpu(THREADS), size).unwrap()
    }

    pub(crate) fn text(&self) -> TextTower {
        let kind = self.folder.config.get("model_type").and_then(|kind| kind.as_str()).unwrap_or("unknown");
        let texts = TextsOf {
            model_type: kind,
            length_max: self.tokenize.length_max(),
            padding: self.tokenize.padding(),
            probe: self.tokenize.tokens(&words(3)).unwrap(),
        };
        TextTower::load(&self.runtime, &self.folder.text.exact, Execution::cpu(THREADS), &texts).unwrap()
    }
}

/// The beginning of a sentence that could be a search.
pub(crate) fn words(count: usize) -> String {
    let sentence = "long dark blue striped cotton dress with short sleeves and two pockets";
    sentence.split(' ').take(count).collect::<Vec<_>>().join(" ")
}
