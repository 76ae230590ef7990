//! An embedder that remembers.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use blake3::Hasher;
use moka::future::Cache;

use crate::{
    embed::{CallContext, EmbedError, Embedder, Embedding, ModelInfo},
    signal::{Photo, QueryText},
};

/// Bytes of an entry beside its vector: key, reference counts and the cache's own bookkeeping.
const ENTRY_BYTES: usize = 256;

type Key = [u8; 32];

/// Remembers the vectors of an [`Embedder`], up to a number of bytes. Callers that ask for the same thing at the same
/// time share one computation.
#[derive(Debug)]
pub struct CachedEmbedder<E> {
    inner: E,
    cache: Cache<Key, Embedding>,
}

impl<E: Embedder> CachedEmbedder<E> {
    /// Puts a cache of `bytes_max` bytes before `inner`; 0 remembers nothing, but computations are shared all the same.
    pub fn new(inner: E, bytes_max: u64) -> Self {
        let weight = |_: &Key, embedding: &Embedding| {
            u32::try_from(size_of_val(embedding.values()) + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        Self { inner, cache: Cache::builder().weigher(weight).max_capacity(bytes_max).build() }
    }

    async fn get_or_embed<F>(&self, key: Key, call: CallContext, embed: impl Fn() -> F) -> Result<Embedding, EmbedError>
    where
        F: Future<Output = Result<Embedding, EmbedError>>,
    {
        loop {
            let is_own = AtomicBool::new(false);
            let own = async {
                is_own.store(true, Ordering::Relaxed);
                embed().await
            };
            let shared = call.until_deadline(self.cache.try_get_with(key, own)).await;
            match shared.ok_or(EmbedError::DeadlineExceeded)? {
                Ok(embedding) => return Ok(embedding),
                // Another caller had less time than this one, or found its lane full.
                Err(error) if !is_own.into_inner() && of_its_caller(&error) && call.has_time() => {}
                Err(error) => return Err(EmbedError::clone(&error)),
            }
        }
    }
}

/// Whether an error tells of who asked, and not of what was asked for.
fn of_its_caller(error: &EmbedError) -> bool {
    match error {
        EmbedError::DeadlineExceeded | EmbedError::Overloaded { .. } => true,
        EmbedError::Invalid(_) | EmbedError::Unavailable(_) | EmbedError::Internal(_) => false,
    }
}

#[async_trait]
impl<E: Embedder> Embedder for CachedEmbedder<E> {
    fn model(&self) -> &ModelInfo {
        self.inner.model()
    }

    async fn embed_photo(&self, photo: &Photo, call: CallContext) -> Result<Embedding, EmbedError> {
        let mut hasher = self.hasher(b"photo");
        for edge in photo.region().map_or([0.0, 0.0, 1.0, 1.0], |region| region.edges()) {
            hasher.update(&edge.to_le_bytes());
        }
        let key = *hasher.update(&photo.digest().await).finalize().as_bytes();
        self.get_or_embed(key, call, || self.inner.embed_photo(photo, call)).await
    }

    async fn embed_text(&self, text: &QueryText, call: CallContext) -> Result<Embedding, EmbedError> {
        let mut hasher = self.hasher(b"text");
        let key = *hasher.update(text.as_str().as_bytes()).finalize().as_bytes();
        self.get_or_embed(key, call, || self.inner.embed_text(text, call)).await
    }

    fn is_alive(&self) -> bool {
        self.inner.is_alive()
    }
}

impl<E: Embedder> CachedEmbedder<E> {
    fn hasher(&self, kind: &[u8]) -> Hasher {
        let mut hasher = Hasher::new();
        hasher.update(self.inner.model().fingerprint.as_bytes()).update(b"\0").update(kind).update(b"\0");
        hasher
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use bytes::Bytes;
    use futures::future::{join, join_all};

    use super::*;
    use crate::{fakes::FakeEmbedder, signal::Region};

    fn photo(content: &'static [u8], region: Option<Region>) -> Photo {
        Photo::new(Bytes::from_static(content), region).unwrap()
    }

    #[tokio::test]
    async fn the_same_photo_in_flight_ten_times_is_embedded_once() {
        let cached = Arc::new(CachedEmbedder::new(FakeEmbedder::default(), 1 << 20));
        let ten = join_all((0..10).map(|_| {
            let cached = Arc::clone(&cached);
            async move { cached.embed_photo(&photo(b"sofa", None), CallContext::bulk()).await.unwrap() }
        }));
        assert!(ten.await.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(cached.inner.calls(), 1);
    }

    #[tokio::test]
    async fn kind_and_region_are_part_of_the_key() {
        let cached = CachedEmbedder::new(FakeEmbedder::default(), 1 << 20);
        let half = Region::new(0.0, 0.0, 0.5, 1.0).unwrap();
        cached.embed_photo(&photo(b"sofa", None), CallContext::bulk()).await.unwrap();
        cached.embed_photo(&photo(b"sofa", Some(half)), CallContext::bulk()).await.unwrap();
        cached.embed_text(&QueryText::new("sofa", "").unwrap(), CallContext::bulk()).await.unwrap();
        assert_eq!(cached.inner.calls(), 3);
    }

    #[tokio::test]
    async fn a_person_is_not_refused_because_a_jobs_lane_is_full() {
        let cached = CachedEmbedder::new(FakeEmbedder::default(), 1 << 20);
        let text = QueryText::new(FakeEmbedder::TOO_MUCH_FOR_JOBS, "").unwrap();
        let person = CallContext::interactive(Instant::now() + Duration::from_secs(30));
        let (job, person) = join(cached.embed_text(&text, CallContext::bulk()), cached.embed_text(&text, person)).await;
        assert!(matches!(job, Err(EmbedError::Overloaded { .. })), "{job:?}");
        assert!(person.is_ok(), "{person:?}");
        assert_eq!(cached.inner.calls(), 2);
    }

    #[tokio::test]
    async fn failures_are_not_remembered() {
        let cached = CachedEmbedder::new(FakeEmbedder::default(), 1 << 20);
        for _ in 0..2 {
            assert!(cached.embed_photo(&photo(FakeEmbedder::BROKEN, None), CallContext::bulk()).await.is_err());
        }
        assert_eq!(cached.inner.calls(), 2);
    }
}
