//! An embedder that remembers.

use std::sync::Arc;

use async_trait::async_trait;
use blake3::Hasher;
use moka::{Entry, future::Cache};

use crate::{
    embed::{CallContext, EmbedError, Embedder, Embedding, Lane, ModelInfo},
    meter,
    signal::{Photo, QueryText},
};

/// Bytes of an entry beside its vector: key, reference counts and the cache's own bookkeeping.
const ENTRY_BYTES: usize = 256;

/// Its name in metrics.
const NAME: &str = "embedding";

type Key = [u8; 32];

/// Remembers the vectors of an [`Embedder`], up to a number of bytes. Callers of one lane that ask for the same thing at
/// the same time share one computation.
#[derive(Debug)]
pub struct CachedEmbedder<E> {
    inner: E,
    cache: Cache<Key, Embedding>,
    /// Computations of the bulk lane, remembered in `cache` only: a person must neither wait with a job that asked
    /// first, nor be refused because its lane is full.
    bulk: Cache<Key, Embedding>,
}

impl<E: Embedder> CachedEmbedder<E> {
    /// Puts a cache of `bytes_max` bytes before `inner`; 0 remembers nothing, but computations are shared all the same.
    pub fn new(inner: E, bytes_max: u64) -> Self {
        let weight = |_: &Key, embedding: &Embedding| {
            u32::try_from(size_of_val(embedding.values()) + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weight).max_capacity(bytes_max);
        let cache = cache.eviction_listener(|_: Arc<Key>, _: Embedding, cause| {
            if cause.was_evicted() {
                meter::cache_evicted(NAME);
            }
        });
        Self { inner, cache: cache.build(), bulk: Cache::new(0) }
    }

    async fn get_or_embed<F>(&self, key: Key, call: CallContext, embed: impl Fn() -> F) -> Result<Embedding, EmbedError>
    where
        F: Future<Output = Result<Embedding, EmbedError>>,
    {
        if call.bypass_cache {
            return call.until_deadline(embed()).await.ok_or(EmbedError::DeadlineExceeded)?;
        }
        loop {
            let shared = async {
                match call.lane {
                    Lane::Interactive => self.cache.entry(key).or_try_insert_with(embed()).await.map(known),
                    Lane::Bulk => {
                        if let Some(embedding) = self.cache.get(&key).await {
                            return Ok((true, embedding));
                        }
                        let computed = async {
                            let embedding = embed().await?;
                            self.cache.insert(key, embedding.clone()).await;
                            Ok(embedding)
                        };
                        self.bulk.entry(key).or_try_insert_with(computed).await.map(known)
                    }
                }
            };
            match call.until_deadline(shared).await.ok_or(EmbedError::DeadlineExceeded)? {
                Ok((hit, embedding)) => {
                    meter::cache_answered(NAME, hit, || self.cache.weighted_size());
                    return Ok(embedding);
                }
                // The computation was another caller's, who had less time than this one.
                Err(error) if *error == EmbedError::DeadlineExceeded && call.has_time() => {}
                Err(error) => return Err(EmbedError::clone(&error)),
            }
        }
    }
}

/// Whether another call computed the vector, and the vector.
fn known(entry: Entry<Key, Embedding>) -> (bool, Embedding) {
    (!entry.is_fresh(), entry.into_value())
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

    fn can_embed(&self) -> bool {
        self.inner.can_embed()
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
    use futures::future::join_all;

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
    async fn a_person_neither_waits_nor_is_refused_with_a_job_that_asked_first() {
        let cached = CachedEmbedder::new(FakeEmbedder::default(), 1 << 20);
        let text = QueryText::new(FakeEmbedder::STUCK_IN_BULK, "").unwrap();
        let mut job = std::pin::pin!(cached.embed_text(&text, CallContext::bulk()));
        assert!(futures::poll!(job.as_mut()).is_pending());
        let person = CallContext::interactive(Instant::now() + Duration::from_secs(30));
        assert!(cached.embed_text(&text, person).await.is_ok());
        assert!(futures::poll!(job.as_mut()).is_pending());
    }

    #[tokio::test]
    async fn what_one_lane_embedded_the_other_finds() {
        let cached = CachedEmbedder::new(FakeEmbedder::default(), 1 << 20);
        let person = CallContext::interactive(Instant::now() + Duration::from_secs(30));
        for (content, first, second) in
            [(&b"sofa"[..], person, CallContext::bulk()), (b"chair", CallContext::bulk(), person)]
        {
            let before = cached.inner.calls();
            cached.embed_photo(&photo(content, None), first).await.unwrap();
            cached.embed_photo(&photo(content, None), second).await.unwrap();
            assert_eq!(cached.inner.calls(), before + 1);
        }
    }

    #[tokio::test]
    async fn a_call_that_bypasses_the_cache_neither_reads_nor_fills_it() {
        let cached = CachedEmbedder::new(FakeEmbedder::default(), 1 << 20);
        let bypassing = CallContext { bypass_cache: true, ..CallContext::bulk() };
        for (call, calls) in [(bypassing, 1), (CallContext::bulk(), 2), (bypassing, 3), (CallContext::bulk(), 3)] {
            cached.embed_photo(&photo(b"sofa", None), call).await.unwrap();
            assert_eq!(cached.inner.calls(), calls);
        }
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
