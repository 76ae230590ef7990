//! A whole generation on disk, open for search.

use std::{
    cmp::Reverse,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use qdrant_edge::{
    CountRequest, EdgeShard, NamedQuery, OperationResult, PointId, QueryEnum, QueryRequest, Record, ScoringQuery,
    SearchParams, VectorInternal, WithPayloadInterface, WithVector, external::ordered_float::OrderedFloat,
};
use tokio::runtime::Handle;
use vitrine_core::{
    compute::ComputePool,
    embed::Lane,
    index::{Generation, GenerationInfo, Hit, IndexError, IndexQuery, IndexedProduct, QueryVector, Similarity, Target},
    product::ProductId,
};

use super::{
    directory::GenerationDirectory,
    failed, filter,
    point::{point_id, sides, to_embeddings, to_product, vector_name},
    refused, unavailable,
};

/// Fewest candidates that the graph search keeps in hand; more find more of the true neighbours.
/// 128: Qdrant's own default is 100, and a page of products is read by people who notice what is missing.
const SEARCH_WIDTH_MIN: usize = 128;
/// Candidates taken for each vector of a query of several, whose best sums need not lead in either. The same for every
/// page, so that pages join.
const CANDIDATES: usize = 1000;

/// A generation, open.
pub(super) struct EdgeGeneration {
    info: GenerationInfo,
    pool: Arc<ComputePool>,
    shard: Arc<Shard>,
}

impl std::fmt::Debug for EdgeGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgeGeneration").field("info", &self.info).finish_non_exhaustive()
    }
}

impl EdgeGeneration {
    pub(super) fn open(directory: &GenerationDirectory, pool: Arc<ComputePool>) -> Result<Self, IndexError> {
        let (info, shard) = (directory.read_info()?, Shard::load(&directory.shard())?);
        let found = shard.products()?;
        if found != info.products {
            let reason = format!("{found} of its {} products are there", info.products);
            return Err(unavailable(format!("open {}", directory.path.display()), reason));
        }
        Ok(Self { info, pool, shard: Arc::new(shard) })
    }

    /// Closes the generation, if nobody searches it any more.
    pub(super) fn close(self) -> Result<(), IndexError> {
        let shard = Arc::into_inner(self.shard);
        shard.ok_or_else(|| unavailable("close a generation", "it is still being searched"))?.close()
    }

    /// Takes over a shard that was just built.
    pub(super) fn of(info: GenerationInfo, shard: Shard, pool: Arc<ComputePool>) -> Self {
        Self { info, pool, shard: Arc::new(shard) }
    }

    pub(super) fn id(&self) -> &str {
        &self.info.id
    }

    /// Says that another generation serves: whoever lets go of this one last may be on an async thread, which has no
    /// time to close it.
    pub(super) fn retire(&self) {
        self.shard.retired.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Generation for EdgeGeneration {
    fn info(&self) -> &GenerationInfo {
        &self.info
    }

    async fn search(&self, query: IndexQuery) -> Result<Vec<Hit>, IndexError> {
        let shard = Arc::clone(&self.shard);
        let filter = filter::of_query(&query, &self.info.schema);
        self.pool.run(Lane::Interactive, move || shard.search(&query, filter)).await.map_err(refused)?
    }

    async fn get(&self, id: &ProductId) -> Result<Option<IndexedProduct>, IndexError> {
        let shard = Arc::clone(&self.shard);
        let id = point_id(id);
        self.pool.run(Lane::Interactive, move || shard.get(id)).await.map_err(refused)?
    }
}

/// Qdrant Edge's shard. Its own drop flushes, and panics where it cannot.
pub(super) struct Shard {
    shard: Option<EdgeShard>,
    /// Whether it is closed on a blocking thread, where there is one, and not by who drops it.
    retired: AtomicBool,
}

impl Drop for Shard {
    fn drop(&mut self) {
        let Some(shard) = self.shard.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if self.retired.load(Ordering::Relaxed) => {
                // A runtime that is shutting down drops it here and now.
                let closing = Self::new(shard);
                drop(runtime.spawn_blocking(move || drop(closing)));
            }
            Ok(_) | Err(_) => {
                if catch_unwind(AssertUnwindSafe(|| drop(shard))).is_err() {
                    tracing::warn!(
                        "closing a generation failed; it is no longer needed, or will be repaired when it opens"
                    );
                }
            }
        }
    }
}

impl Shard {
    pub(super) fn new(shard: EdgeShard) -> Self {
        Self { shard: Some(shard), retired: AtomicBool::new(false) }
    }

    /// Writes what is still in memory and closes the files.
    fn close(mut self) -> Result<(), IndexError> {
        let shard = self.shard.take();
        let closed = catch_unwind(AssertUnwindSafe(|| drop(shard)));
        closed.map_err(|_| unavailable("close a generation", "its last changes could not be written"))
    }

    fn load(path: &Path) -> Result<Self, IndexError> {
        let shard = EdgeShard::load(path, None);
        shard.map(Self::new).map_err(failed(format!("open {}", path.display())))
    }

    pub(super) fn with<T>(
        &self,
        context: &str,
        work: impl FnOnce(&EdgeShard) -> OperationResult<T>,
    ) -> Result<T, IndexError> {
        let shard = self.shard.as_ref().ok_or_else(|| unavailable(context, "the generation is closed"))?;
        work(shard).map_err(failed(context))
    }

    /// How many products there are.
    pub(super) fn products(&self) -> Result<usize, IndexError> {
        self.with("count products", |shard| shard.count(CountRequest { filter: None, exact: true }))
    }

    fn get(&self, id: PointId) -> Result<Option<IndexedProduct>, IndexError> {
        let record = self.retrieve(&[id], Part::All)?.pop();
        let indexed = |record: Record| {
            let image_embeddings = to_embeddings(record.vector.as_ref(), Target::Image);
            let text = to_embeddings(record.vector.as_ref(), Target::Text).pop();
            let text_embedding = text.ok_or_else(|| unavailable("read a product", "it has no text vector"))?;
            Ok(IndexedProduct { product: to_product(record.payload.as_ref())?, image_embeddings, text_embedding })
        };
        record.map(indexed).transpose()
    }

    fn search(&self, query: &IndexQuery, filter: Option<qdrant_edge::Filter>) -> Result<Vec<Hit>, IndexError> {
        let wanted = query.offset + query.limit;
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let mut scored: Vec<Candidate> = match query.vectors.as_slice() {
            [only] => {
                let found = self.nearest(only, filter, wanted)?.into_iter();
                found.map(|(id, cosine)| Candidate { id, score: cosine * only.share, cosines: vec![cosine] }).collect()
            }
            several => self.nearest_by_sum(several, filter.as_ref())?,
        };
        scored.retain(|candidate| query.score_min.is_none_or(|score_min| candidate.score >= score_min));
        scored.sort_unstable_by_key(|candidate| (Reverse(OrderedFloat(candidate.score)), candidate.id));

        let page: Vec<Candidate> = scored.into_iter().skip(query.offset).take(query.limit).collect();
        let ids: Vec<PointId> = page.iter().map(|candidate| candidate.id).collect();
        let mut products = HashMap::with_capacity(ids.len());
        for record in self.retrieve(&ids, Part::Payload)? {
            products.insert(record.id, to_product(record.payload.as_ref())?);
        }
        // Vectors are large, and only tell which of several pictures came nearest.
        let several = products.iter().filter(|(_, product)| product.image_links.len() > 1).map(|(id, _)| *id);
        let vectors = self.retrieve(&several.collect::<Vec<_>>(), Part::Vectors)?;
        let mut vectors: HashMap<PointId, Record> = vectors.into_iter().map(|record| (record.id, record)).collect();
        let hits = page.into_iter().filter_map(|Candidate { id, score, cosines }| {
            let similarities = match vectors.remove(&id) {
                Some(record) => similarities(&query.vectors, &record),
                None => {
                    query.vectors.iter().zip(cosines).map(|(vector, cosine)| of_first_picture(vector, cosine)).collect()
                }
            };
            Some(Hit { product: products.remove(&id)?, score, similarities })
        });
        Ok(hits.collect())
    }

    /// The candidates of all vectors, each scored by all of them.
    fn nearest_by_sum(
        &self,
        vectors: &[QueryVector],
        filter: Option<&qdrant_edge::Filter>,
    ) -> Result<Vec<Candidate>, IndexError> {
        let mut cosines = HashMap::<PointId, Vec<f32>>::with_capacity(2 * CANDIDATES);
        for (number, vector) in vectors.iter().enumerate() {
            for (id, cosine) in self.nearest(vector, filter.cloned(), CANDIDATES)? {
                let known = cosines.entry(id).or_default();
                // Shorter than this, it is not among the candidates of every vector before.
                if known.len() == number {
                    known.push(cosine);
                }
            }
        }
        // Those that are not among every vector's candidates are scored from their own vectors.
        let partly = cosines.iter().filter(|(_, known)| known.len() < vectors.len()).map(|(id, _)| *id);
        for record in self.retrieve(&partly.collect::<Vec<_>>(), Part::Vectors)? {
            let sides = similarities(vectors, &record).into_iter().map(|side| side.cosine);
            cosines.insert(record.id, sides.collect());
        }
        let scored = cosines.into_iter().map(|(id, cosines)| {
            let score = vectors.iter().zip(&cosines).map(|(vector, cosine)| vector.share * cosine).sum();
            Candidate { id, score, cosines }
        });
        Ok(scored.collect())
    }

    fn nearest(
        &self,
        vector: &QueryVector,
        filter: Option<qdrant_edge::Filter>,
        limit: usize,
    ) -> Result<Vec<(PointId, f32)>, IndexError> {
        let values = VectorInternal::from(vector.embedding.values().to_vec());
        let request = QueryRequest {
            prefetches: Vec::new(),
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(values, vector_name(vector.target))))),
            filter,
            score_threshold: None,
            limit,
            offset: 0,
            params: Some(SearchParams { hnsw_ef: Some(limit.max(SEARCH_WIDTH_MIN)), ..SearchParams::default() }),
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        };
        let found = self.with("query the index", |shard| shard.query(request))?;
        Ok(found.into_iter().map(|point| (point.id, point.score)).collect())
    }

    fn retrieve(&self, ids: &[PointId], part: Part) -> Result<Vec<Record>, IndexError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let payload = WithPayloadInterface::Bool(part != Part::Vectors);
        let vectors = WithVector::Bool(part != Part::Payload);
        self.with("read from the index", |shard| shard.retrieve(ids, Some(payload), Some(vectors)))
    }
}

/// What of a point is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Payload,
    Vectors,
    All,
}

/// A point that may be in the answer, with its cosine to each vector of the query.
struct Candidate {
    id: PointId,
    score: f32,
    cosines: Vec<f32>,
}

/// How near each side of a product comes to its vector of the query.
fn similarities(vectors: &[QueryVector], record: &Record) -> Vec<Similarity> {
    let nearest = |vector: &QueryVector| {
        let sides = sides(record.vector.as_ref(), vector.target);
        let cosines = sides.iter().map(|side| vector.embedding.cosine_to(side)).enumerate();
        let (picture, cosine) = cosines.max_by(|a, b| a.1.total_cmp(&b.1))?;
        let picture = (vector.target == Target::Image).then_some(picture);
        Some(Similarity { target: vector.target, cosine, picture })
    };
    vectors.iter().filter_map(nearest).collect()
}

/// The same for a product with one picture, whose cosine is known.
fn of_first_picture(vector: &QueryVector, cosine: f32) -> Similarity {
    Similarity { target: vector.target, cosine, picture: (vector.target == Target::Image).then_some(0) }
}
