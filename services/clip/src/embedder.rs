//! The towers behind the port: preprocessing on a bounded pool, inference in batches on a thread for each tower.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use vitrine_core::{
    Invalid,
    batch::{BatchConfig, BatchError, Batcher},
    compute::{ComputeError, ComputePool},
    embed::{CallContext, EmbedError, Embedder, Embedding, ModelInfo},
    signal::{Photo, QueryText},
};

use crate::{
    ModelError, ModelFolder, Precision, Runtime,
    decode::decode,
    preprocess::Preprocess,
    session::{Facts, TextTower, VisionTower},
    tokenize::{Tokenize, Tokens},
};

/// How a model is run.
#[derive(Debug, Clone, Copy)]
pub struct ClipOptions {
    /// Which weight files.
    pub precision: Precision,
    /// Sessions of each tower.
    pub inference_sessions: usize,
    /// Threads of each session.
    pub inference_threads: usize,
    /// Threads that decode and resize photos.
    pub preprocess_threads: usize,
    /// Most inputs in one inference.
    pub batch_size_max: usize,
    /// Longest wait of a batch's first input for company.
    pub batch_wait_max: Duration,
    /// Most photos being decoded, and most inputs waiting for each tower, in each lane.
    pub queue_size_max: usize,
}

/// A dual encoder, running. Dropping it lets its threads finish their batches.
pub struct ClipEmbedder {
    model: ModelInfo,
    preprocess: Arc<Preprocess>,
    tokenize: Tokenize,
    pool: ComputePool,
    vision: Batcher<Vec<f32>, Embedding, String>,
    text: Batcher<Tokens, Embedding, String>,
}

impl ClipEmbedder {
    /// Loads the model in a folder, checks it and runs each tower once.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(runtime: &Runtime, path: &Path, options: ClipOptions) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(path, options.precision)?;
        let Parts { preprocess, tokenize, vision, text } =
            Parts::load(runtime, &folder, options.inference_sessions, options.inference_threads)?;
        let (pictures, texts) = (facts(&vision, VisionTower::facts), facts(&text, TextTower::facts));
        let model = ModelInfo { fingerprint: folder.fingerprint()?, dimensions: pictures.dimensions };
        let batching = |tower: Facts| BatchConfig {
            batch_size_max: options.batch_size_max.min(tower.batch_size_max.unwrap_or(usize::MAX)),
            batch_wait_max: options.batch_wait_max,
            queue_size_max: options.queue_size_max,
        };
        let threads = |error: &dyn std::fmt::Display| ModelError::Threads(error.to_string());
        let pool = ComputePool::new("preprocess", options.preprocess_threads, options.queue_size_max)
            .map_err(|error| threads(&error))?;
        let see = |mut tower: VisionTower| {
            move |batch: Vec<Vec<f32>>| one_by_one_on_failure(&batch, |pictures| tower.run(pictures))
        };
        let read =
            |mut tower: TextTower| move |batch: Vec<Tokens>| one_by_one_on_failure(&batch, |texts| tower.run(texts));
        let vision = Batcher::spawn("vision", batching(pictures), vision.into_iter().map(see).collect());
        let text = Batcher::spawn("text", batching(texts), text.into_iter().map(read).collect());
        Ok(Self {
            model,
            preprocess: Arc::new(preprocess),
            tokenize,
            pool,
            vision: vision.map_err(|error| threads(&error))?,
            text: text.map_err(|error| threads(&error))?,
        })
    }
}

/// What a model is made of, checked against each other.
pub(crate) struct Parts {
    pub(crate) preprocess: Preprocess,
    pub(crate) tokenize: Tokenize,
    /// The same tower in each of several sessions.
    pub(crate) vision: Vec<VisionTower>,
    pub(crate) text: Vec<TextTower>,
}

impl Parts {
    pub(crate) fn load(
        runtime: &Runtime,
        folder: &ModelFolder,
        sessions: usize,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let unreadable = |problem| ModelError::unusable(folder.path.join("preprocessor_config.json"), problem);
        let preprocess = Preprocess::from_json(&folder.preprocessor).map_err(unreadable)?;
        let size = preprocess.output_size().map_err(unreadable)?;
        let tokenize = Tokenize::open(folder)?;
        let model_type = folder.config.get("model_type").and_then(serde_json::Value::as_str).unwrap_or("unknown");
        let (length_max, padding) = (tokenize.length_max(), tokenize.padding());
        let see = || VisionTower::load(runtime, &folder.vision, threads, size);
        let read = || TextTower::load(runtime, &folder.text, threads, model_type, length_max, padding);
        // The towers are independent; loading them side by side halves the start on two cores.
        let (vision, text) = std::thread::scope(|scope| {
            let text = scope.spawn(|| (0..sessions).map(|_| read()).collect::<Result<Vec<_>, _>>());
            let vision = (0..sessions).map(|_| see()).collect::<Result<Vec<_>, _>>();
            (vision, text.join())
        });
        let text = text.map_err(|_| ModelError::Threads("the text tower's loader panicked".to_owned()))??;
        let vision = vision?;
        let (pictures, texts) = (facts(&vision, VisionTower::facts), facts(&text, TextTower::facts));
        let (pictures, texts) = (pictures.dimensions, texts.dimensions);
        if pictures != texts {
            let problem = format!(
                "has vectors of {texts} dimensions, but the picture tower has {pictures}: they are not of one space"
            );
            return Err(ModelError::unusable(&folder.text, problem));
        }
        Ok(Self { preprocess, tokenize, vision, text })
    }
}

/// What the graph is like that all of these sessions run.
fn facts<T>(towers: &[T], of: impl Fn(&T) -> Facts) -> Facts {
    towers.first().map(of).unwrap_or_default()
}

/// Runs a batch; if that fails, each of its items alone, so that one cannot fail its neighbours.
fn one_by_one_on_failure<T>(
    batch: &[T],
    mut run: impl FnMut(&[T]) -> Result<Vec<Embedding>, String>,
) -> Vec<Result<Embedding, String>> {
    match run(batch) {
        Ok(embeddings) => embeddings.into_iter().map(Ok).collect(),
        Err(error) if batch.len() == 1 => vec![Err(error)],
        Err(_) => {
            let alone = |item| run(std::slice::from_ref(item))?.pop().ok_or_else(|| "no answer".to_owned());
            batch.iter().map(alone).collect()
        }
    }
}

#[async_trait]
impl Embedder for ClipEmbedder {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    async fn embed_photo(&self, photo: &Photo, call: CallContext) -> Result<Embedding, EmbedError> {
        // Before it is decoded: what the tower has no time for is not worth decoding.
        let place = self.vision.reserve(call).map_err(into_embed_error)?;
        let (photo, preprocess) = (photo.clone(), Arc::clone(&self.preprocess));
        let tensor = self.pool.run(call.lane, move || -> Result<Vec<f32>, Invalid> {
            let picture = decode(photo.content(), photo.region(), |size| preprocess.enough(size))?;
            Ok(preprocess.tensor(&preprocess.pixels(&picture)))
        });
        let tensor = tensor.await.map_err(|error| match error {
            ComputeError::Full { queue, capacity } => EmbedError::Overloaded { queue, capacity },
            ComputeError::Panicked { .. } => EmbedError::Internal(error.to_string()),
        })??;
        self.vision.submit_in(place, tensor).await.map_err(into_embed_error)
    }

    async fn embed_text(&self, text: &QueryText, call: CallContext) -> Result<Embedding, EmbedError> {
        let tokens = self.tokenize.tokens(text.as_str()).map_err(EmbedError::Internal)?;
        self.text.submit(tokens, call).await.map_err(into_embed_error)
    }

    fn is_alive(&self) -> bool {
        self.vision.is_alive() && self.text.is_alive()
    }
}

fn into_embed_error(error: BatchError<String>) -> EmbedError {
    match error {
        BatchError::Full { queue, capacity } => EmbedError::Overloaded { queue, capacity },
        BatchError::DeadlineExceeded { .. } => EmbedError::DeadlineExceeded,
        BatchError::Stopped { .. } => EmbedError::Unavailable(error.to_string()),
        BatchError::Work(reason) => EmbedError::Internal(reason),
    }
}
