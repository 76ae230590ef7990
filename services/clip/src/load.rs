//! From a model's folder to its towers, checked against each other.

use std::path::Path;

use vitrine_core::embed::Embedding;

use crate::{
    Execution, ExecutionProvider, ModelError, ModelFolder, Runtime,
    folder::Weights,
    preprocess::Preprocess,
    probes,
    session::{TextTower, TextsOf, VisionTower},
    tokenize::{Tokenize, Tokens},
};

/// Least cosine between the vectors of a small file and the exact one's, for the small one to be run instead.
const SMALL_COSINE_MIN: f32 = 0.999;

/// Everything of a model but its towers, which it loads.
pub(crate) struct Loader<'a> {
    runtime: &'a Runtime,
    folder: &'a ModelFolder,
    execution: Execution,
    pub(crate) preprocess: Preprocess,
    pub(crate) tokenize: Tokenize,
    /// [`probes::pictures`] as the picture tower takes them.
    pub(crate) pictures: Vec<Vec<f32>>,
    /// [`probes::TEXTS`] as the text tower takes them.
    pub(crate) texts: Vec<Tokens>,
}

/// The two towers, each in several sessions.
pub(crate) struct Towers {
    pub(crate) vision: Vec<VisionTower>,
    pub(crate) text: Vec<TextTower>,
}

impl<'a> Loader<'a> {
    pub(crate) fn open(
        runtime: &'a Runtime,
        folder: &'a ModelFolder,
        execution: Execution,
    ) -> Result<Self, ModelError> {
        execution.check()?;
        let unreadable = |problem| ModelError::unusable(folder.path.join("preprocessor_config.json"), problem);
        let preprocess = Preprocess::from_json(&folder.preprocessor).map_err(unreadable)?;
        preprocess.output_size().map_err(unreadable)?;
        let pictures = probes::pictures().iter().map(|it| preprocess.tensor(&preprocess.pixels(it))).collect();
        let tokenize = Tokenize::open(folder)?;
        let texts = probes::TEXTS.iter().map(|text| tokenize.tokens(text)).collect::<Result<_, _>>();
        let texts = texts.map_err(|error| ModelError::unusable(&folder.tokenizer, error))?;
        Ok(Self { runtime, folder, execution, preprocess, tokenize, pictures, texts })
    }

    /// Loads each tower so many times. Where a small file is allowed and its vectors are those of the exact one, it is
    /// the small one.
    pub(crate) fn towers(&self, sessions: usize) -> Result<Towers, ModelError> {
        // They are independent; loading them side by side halves the start on two cores.
        let (vision, text) = std::thread::scope(|scope| {
            let read = |file: &Path| self.text(file);
            let text =
                scope.spawn(move || self.sessions(&self.folder.text, sessions, read, TextTower::run, &self.texts));
            let see = |file: &Path| self.vision(file);
            let vision = self.sessions(&self.folder.vision, sessions, see, VisionTower::run, &self.pictures);
            (vision, text.join())
        });
        let text = text.map_err(|_| ModelError::Threads("the text tower's loader panicked".to_owned()))??;
        let vision = vision?;
        let pictures = vision.first().map(|tower| tower.facts().dimensions);
        let texts = text.first().map(|tower| tower.facts().dimensions);
        if let (Some(pictures), Some(texts)) = (pictures, texts)
            && pictures != texts
        {
            let problem = format!(
                "has vectors of {texts} dimensions, but the picture tower has {pictures}: they are not of one space"
            );
            return Err(ModelError::unusable(&self.folder.text.exact, problem));
        }
        Ok(Towers { vision, text })
    }

    /// The picture tower in a file.
    pub(crate) fn vision(&self, file: &Path) -> Result<VisionTower, ModelError> {
        let size = self.preprocess.output_size().map_err(|problem| ModelError::unusable(&self.folder.path, problem))?;
        VisionTower::load(self.runtime, file, self.execution, size)
    }

    /// The text tower in a file.
    pub(crate) fn text(&self, file: &Path) -> Result<TextTower, ModelError> {
        let model_type = self.folder.config.get("model_type").and_then(serde_json::Value::as_str);
        let texts = TextsOf {
            model_type: model_type.unwrap_or("unknown"),
            length_max: self.tokenize.length_max(),
            padding: self.tokenize.padding(),
            probe: self.texts.first().cloned().unwrap_or_else(|| Tokens(vec![self.tokenize.padding()])),
        };
        TextTower::load(self.runtime, file, self.execution, &texts)
    }

    fn sessions<T, I>(
        &self,
        weights: &Weights,
        count: usize,
        load: impl Fn(&Path) -> Result<T, ModelError>,
        run: impl Fn(&mut T, &[I]) -> Result<Vec<Embedding>, String>,
        probes: &[I],
    ) -> Result<Vec<T>, ModelError> {
        let (mut file, mut first) = (&weights.exact, load(&weights.exact)?);
        // Other providers have their own ways to be fast, and not all know the 8-bit operators.
        if let Some(small) = weights.small.as_ref().filter(|_| self.execution.provider == ExecutionProvider::Cpu) {
            let mut other = load(small)?;
            let embed = |file: &Path, tower: &mut T| {
                let vectors = probes.chunks(1).map(|probe| run(tower, probe)).collect::<Result<Vec<_>, _>>();
                vectors.map(|vectors| vectors.concat()).map_err(|error| ModelError::unusable(file, error))
            };
            let cosine = cosine_worst(&embed(file, &mut first)?, &embed(small, &mut other)?);
            let chosen = cosine >= SMALL_COSINE_MIN;
            tracing::info!(file = %small.display(), cosine, chosen, "compared with the exact weights");
            if chosen {
                (file, first) = (small, other);
            }
        }
        std::iter::once(Ok(first)).chain((1..count).map(|_| load(file))).collect()
    }
}

/// The least cosine of two ways to embed the same inputs.
pub(crate) fn cosine_worst(one: &[Embedding], other: &[Embedding]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a.cosine(b)).fold(1.0, f32::min)
}
