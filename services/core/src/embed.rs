//! The port to the model: photos and texts to vectors.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use crate::{
    Invalid,
    signal::{Photo, QueryText},
};

/// A vector of length 1 in the model's space. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Arc<[f32]>);

impl Embedding {
    /// Scales numbers to length 1 in the Euclidean norm; `None` when they have no direction: all zero, NaN or infinite.
    /// Those that have length 1, to rounding, stay as they are to the last bit: what was read back is what was written.
    pub fn normalized(values: Vec<f32>) -> Option<Self> {
        let norm = length(&values);
        // Qdrant's own measure of it.
        if (norm - 1.0).abs() < 5e-7 {
            return Some(Self(values.into()));
        }
        if !norm.is_finite() || norm < f64::from(f32::MIN_POSITIVE) {
            return None;
        }
        #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "to the precision of the vector")]
        let unit = values.into_iter().map(|value| (f64::from(value) / norm) as f32);
        Some(Self(unit.collect()))
    }

    /// Takes numbers that were scaled before, to the last bit as they are; `None` when their length is not 1, to a
    /// thousandth.
    pub fn of_length_one(values: Vec<f32>) -> Option<Self> {
        ((length(&values) - 1.0).abs() < 1e-3).then(|| Self(values.into()))
    }

    /// The numbers, as many as the model has dimensions.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// Cosine similarity, -1 to 1.
    pub fn cosine(&self, other: &Self) -> f32 {
        self.cosine_to(&other.0)
    }

    /// Cosine similarity to numbers of length 1, -1 to 1.
    pub fn cosine_to(&self, values: &[f32]) -> f32 {
        // Eight sums side by side, which the compiler puts into vector registers.
        let (ours, our_rest) = self.0.as_chunks::<8>();
        let (theirs, their_rest) = values.as_chunks::<8>();
        let mut sums = [0.0; 8];
        for (a, b) in ours.iter().zip(theirs) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
        let rest: f32 = our_rest.iter().zip(their_rest).map(|(a, b)| a * b).sum();
        sums.iter().sum::<f32>() + rest
    }

    /// The direction of a weighted sum; `None` when the terms cancel out or there is none.
    pub fn weighted_sum<'a>(terms: impl IntoIterator<Item = (&'a Self, f32)>) -> Option<Self> {
        let mut sum: Vec<f32> = Vec::new();
        for (embedding, weight) in terms {
            sum.resize(embedding.values().len(), 0.0);
            sum.iter_mut().zip(embedding.values()).for_each(|(sum, value)| *sum += weight * value);
        }
        // Rounding leaves crumbs of exactly opposite terms; their direction is noise.
        let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length < 1e-5 { None } else { Self::normalized(sum) }
    }
}

/// The Euclidean norm.
fn length(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

impl AsRef<[f32]> for Embedding {
    fn as_ref(&self) -> &[f32] {
        &self.0
    }
}

/// What tells one model's vectors from another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Hash over every file that shapes the vectors; vectors of different fingerprints must not be compared.
    pub fingerprint: String,
    /// Length of every vector.
    pub dimensions: usize,
}

/// Which work goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A person waits.
    Interactive,
    /// A job waits.
    Bulk,
}

impl Lane {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// What a call brings with it to every queue that it meets.
#[derive(Debug, Clone, Copy)]
pub struct CallContext {
    /// Which work goes first.
    pub lane: Lane,
    /// When the caller stops waiting; never if `None`.
    pub deadline: Option<Instant>,
    /// Whether to compute what is remembered, and remember nothing of it.
    pub bypass_cache: bool,
}

impl CallContext {
    /// A person's call with a deadline.
    pub fn interactive(deadline: Instant) -> Self {
        Self { lane: Lane::Interactive, deadline: Some(deadline), bypass_cache: false }
    }

    /// A job's call: it waits as long as it takes.
    pub fn bulk() -> Self {
        Self { lane: Lane::Bulk, deadline: None, bypass_cache: false }
    }

    /// Whether there is time left to try something again.
    pub fn has_time(&self) -> bool {
        self.deadline.is_none_or(|deadline| deadline > Instant::now() + Duration::from_millis(1))
    }

    /// Waits for something until the deadline; `None` when that comes first.
    pub async fn until_deadline<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            None => Some(work.await),
            Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.ok(),
        }
    }
}

/// Why something was not embedded. Cloned to every caller that waited for the same thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// The input is wrong, such as bytes that are no picture.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A bounded queue was full, or would take longer than the call's deadline; retry after a pause.
    #[error("{queue} queue is full ({capacity} waiting)")]
    Overloaded {
        /// Which queue.
        queue: &'static str,
        /// How many wait.
        capacity: usize,
    },
    /// The pool that embeds has more to do than it takes on; retry after a pause.
    #[error("embedding pool `{pool}` is busy")]
    PoolBusy {
        /// Its name in the settings.
        pool: Arc<str>,
        /// How long the pause should be, as the pool said.
        retry_after: Option<Duration>,
    },
    /// The caller's deadline passed.
    #[error("deadline passed before the embedding was made")]
    DeadlineExceeded,
    /// The model does not run any more.
    #[error("the model is not running: {0}")]
    Unavailable(String),
    /// No endpoint of the pool that embeds does.
    #[error("embedding pool `{pool}` is away: {reason}")]
    PoolAway {
        /// Its name in the settings.
        pool: Arc<str>,
        /// What is wrong with each endpoint: for the log, not for clients.
        reason: String,
    },
    /// Our own fault.
    #[error("{0}")]
    Internal(String),
}

impl EmbedError {
    /// The same error, seen from the message that contains the input.
    #[must_use]
    pub fn within(self, parent: &str) -> Self {
        if let Self::Invalid(invalid) = self { invalid.within(parent).into() } else { self }
    }
}

/// A dual encoder: pictures and texts to vectors of one space.
#[async_trait]
pub trait Embedder: Send + Sync + 'static {
    /// What tells its vectors from another's.
    fn model(&self) -> &ModelInfo;

    /// Embeds a photo. In [`EmbedError::Invalid`] the field is that of [`Photo`]: `content`.
    async fn embed_photo(&self, photo: &Photo, call: CallContext) -> Result<Embedding, EmbedError>;

    /// Embeds a text.
    async fn embed_text(&self, text: &QueryText, call: CallContext) -> Result<Embedding, EmbedError>;

    /// Whether everything of it in this process still runs.
    fn is_alive(&self) -> bool;

    /// Whether it can embed now. One that asks other processes cannot while they are away, and is alive all the same.
    fn can_embed(&self) -> bool {
        self.is_alive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_without_a_direction_are_refused() {
        for values in [vec![], vec![0.0; 3], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert_eq!(Embedding::normalized(values), None);
        }
    }

    #[test]
    fn what_has_length_one_stays_as_it_is_and_nothing_else_is_taken() {
        let made = Embedding::normalized(vec![0.3, -0.7, 0.2]).unwrap();
        assert_eq!(Embedding::of_length_one(made.values().to_vec()), Some(made));
        for values in [vec![], vec![0.5, 0.5], vec![f32::NAN, 1.0], vec![2.0, 0.0]] {
            assert_eq!(Embedding::of_length_one(values), None);
        }
    }

    #[test]
    fn what_has_length_one_stays_as_it_is_bit_for_bit() {
        // Their length is 1.00000007, the nearest to 1 that eight equal numbers come.
        let values = vec![0.353_553_4; 8];
        assert_eq!(Embedding::normalized(values.clone()).unwrap().values(), values);
        assert_ne!(Embedding::normalized(vec![0.3536; 8]).unwrap().values(), [0.3536; 8]);
    }

    #[test]
    fn cosines_are_of_every_number_whatever_their_count() {
        for count in [1_u8, 7, 8, 9, 16, 31] {
            let values: Vec<f32> = (1..=count).map(|value| f32::from(value) - 3.5).collect();
            let one = Embedding::normalized(values.clone()).unwrap();
            let other = Embedding::normalized(values.into_iter().rev().collect()).unwrap();
            let plain: f32 = one.values().iter().zip(other.values()).map(|(a, b)| a * b).sum();
            assert!((one.cosine(&other) - plain).abs() < 1e-6 && (one.cosine(&one) - 1.0).abs() < 1e-6, "{count}");
        }
    }

    #[test]
    fn opposite_terms_leave_no_direction() {
        let a = Embedding::normalized(vec![0.3, -0.7, 0.2]).unwrap();
        assert_eq!(Embedding::weighted_sum([(&a, 0.7), (&a, -0.7)]), None);
        let b = Embedding::normalized(vec![0.1, 0.7, 0.2]).unwrap();
        let sum = Embedding::weighted_sum([(&a, 1.0), (&b, -0.5)]).unwrap();
        assert!((sum.cosine(&sum) - 1.0).abs() < 1e-6);
    }
}
