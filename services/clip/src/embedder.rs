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
    Execution, ExecutionProvider, ModelError, ModelFolder, Precision, Runtime,
    decode::decode,
    load::{Loader, Towers},
    preprocess::Preprocess,
    session::{Facts, TextTower, VisionTower},
    tokenize::{Tokenize, Tokens},
};

/// How a model is run.
#[derive(Debug, Clone, Copy)]
pub struct ClipOptions {
    /// Which weight files.
    pub precision: Precision,
    /// Who does the arithmetic.
    pub execution_provider: ExecutionProvider,
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

impl ClipOptions {
    /// How each session runs.
    pub fn execution(&self) -> Execution {
        Execution {
            provider: self.execution_provider,
            threads: self.inference_threads,
            bf16: self.precision == Precision::Bf16,
        }
    }
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
        let loader = Loader::open(runtime, &folder, options.execution())?;
        let Towers { vision, text } = loader.towers(options.inference_sessions)?;
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
        // Where all texts are padded to one length, none is longer than another.
        let padded = text.first().is_some_and(|tower| tower.length().is_some());
        let length: fn(&Tokens) -> usize = if padded { |_| 1 } else { |tokens| tokens.0.len() };
        let vision = Batcher::spawn("vision", batching(pictures), |_| 1, vision.into_iter().map(see).collect());
        let text = Batcher::spawn("text", batching(texts), length, text.into_iter().map(read).collect());
        Ok(Self {
            model,
            preprocess: Arc::new(loader.preprocess),
            tokenize: loader.tokenize,
            pool,
            vision: vision.map_err(|error| threads(&error))?,
            text: text.map_err(|error| threads(&error))?,
        })
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
