//! A whole generation on disk, open for search.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use qdrant_edge::{
    Condition, CountRequest, EdgeShard, Expression, Filter, Formula, NamedQuery, OperationResult, PointId, Prefetch,
    QueryEnum, QueryRequest, Record, ScoringQuery, ScrollRequest, SearchParams, VectorInternal, WithPayloadInterface,
    WithVector, external::ordered_float::OrderedFloat,
};
use tokio::runtime::Handle;
use vitrine_core::{
    compute::ComputePool,
    embed::Lane,
    index::{
        Generation, GenerationInfo, Hit, IndexError, IndexQuery, IndexedProduct, QueryKeywords, QueryVector, Target,
    },
    keywords::Keywords,
    meter,
    product::ProductId,
};

use super::{
    directory::{GenerationDirectory, ReadingCopy},
    filter::to_filter,
    graph,
    point::{sides, to_digest, to_embeddings, to_product, to_sparse},
    refused,
    way::{Among, Others, Searched, Way, category_width},
};
use crate::{
    among::{AWAY, merged},
    error::{failed, unavailable},
    filter::{self, Clause},
    payload::{KEYWORDS, category_key, point_after, point_id, vector_name},
    quantisation::Quantisation,
    scoring::{CANDIDATES_MAX, Candidate, Union, candidate_counts, nearest_picture, page, to_similarities},
};

/// A generation, open.
pub(super) struct EdgeGeneration {
    info: Arc<GenerationInfo>,
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
        let info = directory.read_info()?;
        let shard = Shard::load_whole(&directory.shard(), info.products)?;
        Ok(Self::of(info, shard, pool))
    }

    /// Closes the generation, if nobody searches it any more.
    pub(super) fn close(self) -> Result<(), IndexError> {
        let shard = Arc::into_inner(self.shard);
        shard.ok_or_else(|| unavailable("close a generation", "it is still being searched"))?.close()
    }

    /// Takes over a shard that was just built.
    pub(super) fn of(info: GenerationInfo, shard: Shard, pool: Arc<ComputePool>) -> Self {
        Self { info: Arc::new(info), pool, shard: Arc::new(shard) }
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

    async fn search(&self, mut query: IndexQuery) -> Result<Vec<Hit>, IndexError> {
        let (shard, info) = (Arc::clone(&self.shard), Arc::clone(&self.info));
        let clause = filter::of_query(&mut query, &info.schema);
        self.pool.run(Lane::Interactive, move || shard.search(&query, clause, &info)).await.map_err(refused)?
    }

    async fn get(&self, id: &ProductId) -> Result<Option<IndexedProduct>, IndexError> {
        let shard = Arc::clone(&self.shard);
        let id = PointId::Uuid(point_id(id));
        self.pool.run(Lane::Interactive, move || shard.get(id)).await.map_err(refused)?
    }

    async fn page(&self, after: Option<&ProductId>, limit: usize) -> Result<Vec<IndexedProduct>, IndexError> {
        let first = match after.map(point_after) {
            Some(None) => return Ok(Vec::new()),
            Some(Some(point)) => Some(PointId::Uuid(point)),
            None => None,
        };
        let shard = Arc::clone(&self.shard);
        self.pool.run(Lane::Bulk, move || shard.page(first, limit)).await.map_err(refused)?
    }
}

/// A generation that is read from a copy of its files.
#[derive(Debug)]
pub(super) struct CopiedGeneration {
    // Dropped in this order: the shard is closed before its files are removed.
    generation: EdgeGeneration,
    _copy: ReadingCopy,
}

impl CopiedGeneration {
    pub(super) fn open(copy: ReadingCopy, pool: Arc<ComputePool>) -> Result<Self, IndexError> {
        let generation = EdgeGeneration::open(copy.directory(), pool)?;
        Ok(Self { generation, _copy: copy })
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.generation.shard
    }
}

#[async_trait]
impl Generation for CopiedGeneration {
    fn info(&self) -> &GenerationInfo {
        self.generation.info()
    }

    async fn search(&self, query: IndexQuery) -> Result<Vec<Hit>, IndexError> {
        self.generation.search(query).await
    }

    async fn get(&self, id: &ProductId) -> Result<Option<IndexedProduct>, IndexError> {
        self.generation.get(id).await
    }

    async fn page(&self, after: Option<&ProductId>, limit: usize) -> Result<Vec<IndexedProduct>, IndexError> {
        self.generation.page(after, limit).await
    }
}

/// Qdrant Edge's shard. Its own drop flushes, and panics where it cannot.
pub(super) struct Shard {
    shard: Option<EdgeShard>,
    /// How its vectors are kept a second time.
    quantisation: Quantisation,
    /// Keys, and whether every product has something there, of those that were asked for.
    complete: Mutex<HashMap<String, bool>>,
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
        let quantisation = graph::quantisation(&shard.config());
        Self { shard: Some(shard), quantisation, complete: Mutex::default(), retired: AtomicBool::new(false) }
    }

    /// Writes what is still in memory and closes the files.
    pub(super) fn close(mut self) -> Result<(), IndexError> {
        let shard = self.shard.take();
        let closed = catch_unwind(AssertUnwindSafe(|| drop(shard)));
        closed.map_err(|_| unavailable("close a generation", "its last changes could not be written"))
    }

    pub(super) fn load(path: &Path) -> Result<Self, IndexError> {
        let shard = EdgeShard::load(path, None);
        shard.map(Self::new).map_err(failed(format!("open {}", path.display())))
    }

    /// Opens one that must have so many products.
    pub(super) fn load_whole(path: &Path, products: usize) -> Result<Self, IndexError> {
        let shard = Self::load(path)?;
        let found = shard.products()?;
        if found != products {
            let reason = format!("{found} of its {products} products are there");
            return Err(unavailable(format!("open {}", path.display()), reason));
        }
        Ok(shard)
    }

    /// How its vectors are kept a second time.
    pub(super) fn quantisation(&self) -> Quantisation {
        self.quantisation
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
        self.retrieve(&[id], Part::All)?.pop().as_ref().map(indexed).transpose()
    }

    /// Those of these products that are there.
    pub(super) fn products_at(&self, ids: &[ProductId]) -> Result<Vec<IndexedProduct>, IndexError> {
        let points: Vec<_> = ids.iter().map(|id| PointId::Uuid(point_id(id))).collect();
        self.retrieve(&points, Part::All)?.iter().map(indexed).collect()
    }

    /// The products at this point and those that follow it.
    fn page(&self, first: Option<PointId>, limit: usize) -> Result<Vec<IndexedProduct>, IndexError> {
        let request = ScrollRequest {
            offset: first,
            limit: Some(limit),
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: WithVector::Bool(true),
            ..ScrollRequest::default()
        };
        let (records, _) = self.with("read from the index", |shard| shard.scroll(request))?;
        records.iter().map(indexed).collect()
    }

    fn search(
        &self,
        query: &IndexQuery,
        clause: Option<Clause>,
        info: &GenerationInfo,
    ) -> Result<Vec<Hit>, IndexError> {
        let wanted = query.wanted();
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let clause = clause.map(|clause| clause.without_empty(&|key| self.is_complete(key))).transpose()?;
        let candidates = match query.vectors.as_slice() {
            [only] if query.keywords.is_none() => {
                let found = self.nearest(only, self.way(clause, wanted, info)?, wanted)?.into_iter();
                found.map(|(id, cosine)| Candidate::of_one(only, id, cosine)).collect()
            }
            _ => self.nearest_by_sum(query, clause.as_ref(), info)?,
        };
        let page = page(candidates, query);
        let ids: Vec<PointId> = page.iter().map(|candidate| candidate.id).collect();
        let mut products = HashMap::with_capacity(ids.len());
        for record in self.retrieve(&ids, Part::Payload)? {
            products.insert(record.id, to_product(record.payload.as_ref())?);
        }
        // Vectors are large, and only tell which of several pictures came nearest.
        let several = products.iter().filter(|(_, product)| product.image_links.len() > 1).map(|(id, _)| *id);
        let vectors = self.retrieve(&several.collect::<Vec<_>>(), Part::Vectors)?;
        let vectors: HashMap<PointId, Record> = vectors.into_iter().map(|record| (record.id, record)).collect();
        let hits = page.into_iter().filter_map(|candidate| {
            let similarities = candidate.similarities(&query.vectors, |vector| match vectors.get(&candidate.id) {
                Some(record) => nearest_picture(vector, &sides(record.vector.as_ref(), vector.target)),
                None => Some(0),
            });
            let (score, keywords) = (candidate.score, candidate.keywords(query));
            Some(Hit { product: products.remove(&candidate.id)?, score, similarities, keywords })
        });
        Ok(hits.collect())
    }

    /// Whether every product has something at a key. Qdrant looks at each of them to find those that have not, so it is asked
    /// once: a generation that is searched does not change any more.
    fn is_complete(&self, key: &str) -> Result<bool, IndexError> {
        let complete = || self.complete.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = complete().get(key).copied() {
            return Ok(known);
        }
        let filter = Some(to_filter(Clause::Empty(key.to_owned())));
        let empty = self.with("query the index", |shard| shard.count(CountRequest { filter, exact: true }))?;
        complete().insert(key.to_owned(), empty == 0);
        Ok(empty == 0)
    }

    /// The candidates of all vectors and of the keywords, each scored by all of them.
    fn nearest_by_sum(
        &self,
        query: &IndexQuery,
        clause: Option<&Clause>,
        info: &GenerationInfo,
    ) -> Result<Vec<Candidate<PointId>>, IndexError> {
        let (mut union, mut found) = (Union::new(query), Vec::new());
        for (round, count) in candidate_counts(query.wanted()).enumerate() {
            // With a filter, a few more take about as long as the most.
            if clause.is_some() && round > 0 && count < CANDIDATES_MAX {
                continue;
            }
            let way = self.way(clause.cloned(), count, info)?;
            let lists = query.vectors.iter().map(|vector| self.nearest(vector, way.clone(), count));
            let lists = lists.collect::<Result<Vec<_>, _>>()?;
            if let Some((keywords, asked)) = union.words_to_ask(count) {
                let filter = clause.cloned().map(to_filter);
                union.add_words(self.with_words(keywords, filter, asked, info.products)?, asked);
            }
            union.add_all(&lists);
            self.score_missing(query, &mut union, info.products)?;
            if union.admit(&lists, count) {
                self.score_missing(query, &mut union, info.products)?;
            }
            found = union.candidates();
            if union.is_page_settled(&found, &lists, count) {
                break;
            }
        }
        Ok(found)
    }

    /// Has each vector, and the keywords, score what it did not find itself.
    fn score_missing(
        &self,
        query: &IndexQuery,
        union: &mut Union<'_, PointId>,
        products: usize,
    ) -> Result<(), IndexError> {
        for nth in 0..=query.vectors.len() {
            let missing: Vec<PointId> = union.missing(nth).collect();
            if missing.is_empty() {
                continue;
            }
            let limit = missing.len();
            let only = Filter::new_must(Condition::HasId(missing.iter().copied().collect()));
            let exactly = SearchParams { exact: true, ..SearchParams::default() };
            let scored = match (query.vectors.get(nth), &query.keywords) {
                (Some(vector), _) => self.query(vector, Some(only), limit, exactly)?,
                (None, Some(QueryKeywords { keywords, .. })) => {
                    self.with_words(keywords, Some(only), limit, products)?
                }
                (None, None) => Vec::new(),
            };
            union.add_asked(nth, &missing, &scored);
        }
        Ok(())
    }

    /// Those that pass and have some of these words, with how similar that makes them, best first.
    fn with_words(
        &self,
        keywords: &Keywords,
        filter: Option<Filter>,
        limit: usize,
        products: usize,
    ) -> Result<Vec<(PointId, f32)>, IndexError> {
        let words = NamedQuery::new(VectorInternal::Sparse(to_sparse(keywords)), KEYWORDS);
        let words = ScoringQuery::Vector(QueryEnum::Nearest(words));
        let mut found = self.scored(QueryRequest { filter, ..request(words, limit) })?;
        to_similarities(&mut found, products);
        Ok(found)
    }

    /// How to find so many of what passes.
    fn way(&self, clause: Option<Clause>, limit: usize, info: &GenerationInfo) -> Result<Way, IndexError> {
        let category = category_key(&info.schema);
        self.with("query the index", |shard| {
            let count = |filter| shard.count(CountRequest { filter: Some(filter), exact: false });
            let config = &shard.config();
            let searched = Searched { products: info.products, config, category: category.as_deref() };
            Way::of(clause, limit, searched, count)
        })
    }

    fn nearest(&self, vector: &QueryVector, way: Way, limit: usize) -> Result<Vec<(PointId, f32)>, IndexError> {
        let quantisation = self.quantisation;
        match way {
            Way::Graph { width } => self.query(vector, None, limit, graph::nearest(limit, width, quantisation)),
            Way::Scan(filter) => self.query(vector, Some(filter), limit, graph::scan(limit, quantisation)),
            Way::Among(among) => self.nearest_that_pass(vector, among, limit),
        }
    }

    /// The nearest that pass a filter, among those that are the nearest without it; if those are too few, others, too.
    fn nearest_that_pass(
        &self,
        vector: &QueryVector,
        among: Among,
        limit: usize,
    ) -> Result<Vec<(PointId, f32)>, IndexError> {
        let quantisation = self.quantisation;
        let (mut wide, mut passed) = (Some(among.first), Vec::new());
        while let Some(count) = wide {
            passed = self.passing(vector, &among.filter, count, graph::nearest(count, among.width, quantisation))?;
            wide = among.wider(count, passed.len(), limit);
        }
        if !among.are_enough(passed.len(), limit) {
            let how = match among.others {
                Others::Compared if passed.is_empty() => graph::scan(limit, quantisation),
                _ if among.is_category => graph::nearest(limit, category_width(passed.len()), quantisation),
                Others::Compared | Others::Searched => graph::sparse(limit, quantisation),
            };
            let more = self.query(vector, Some(among.filter), limit, how)?;
            passed = merged(passed, more, |id| *id);
        }
        passed.truncate(limit);
        Ok(passed)
    }

    fn query(
        &self,
        vector: &QueryVector,
        filter: Option<Filter>,
        limit: usize,
        params: SearchParams,
    ) -> Result<Vec<(PointId, f32)>, IndexError> {
        let request = QueryRequest { filter, params: Some(params), ..request(nearest_to(vector), limit) };
        self.scored(request)
    }

    /// Those of the nearest so many that pass a filter. Qdrant looks up each once to see whether it does, as a formula; by a second
    /// query of them by name it would look up each three times, and score it again.
    fn passing(
        &self,
        vector: &QueryVector,
        filter: &Filter,
        found: usize,
        params: SearchParams,
    ) -> Result<Vec<(PointId, f32)>, IndexError> {
        // What passes keeps its score.
        let passes = Expression::Condition(Box::new(Condition::Filter(filter.clone())));
        let back = Expression::Mult(vec![passes, Expression::Constant(AWAY)]);
        let score = Expression::Variable("$score".to_owned());
        let formula = Expression::Sum(vec![score, Expression::Constant(-AWAY), back]);
        let formula = Formula { formula, defaults: HashMap::new() };
        let formula = ScoringQuery::Formula(formula.try_into().map_err(failed("query the index"))?);
        let prefetch = Prefetch {
            prefetches: Vec::new(),
            query: Some(nearest_to(vector)),
            limit: found,
            params: Some(params),
            filter: None,
            score_threshold: None,
        };
        let score_threshold = Some(OrderedFloat(-AWAY / 2.0));
        self.scored(QueryRequest { prefetches: vec![prefetch], score_threshold, ..request(formula, found) })
    }

    fn scored(&self, request: QueryRequest) -> Result<Vec<(PointId, f32)>, IndexError> {
        let found = self.timed("query the index", |shard| shard.query(request))?;
        Ok(found.into_iter().map(|point| (point.id, point.score)).collect())
    }

    fn retrieve(&self, ids: &[PointId], part: Part) -> Result<Vec<Record>, IndexError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let payload = WithPayloadInterface::Bool(part != Part::Vectors);
        let vectors = WithVector::Bool(part != Part::Payload);
        self.timed("read from the index", |shard| shard.retrieve(ids, Some(payload), Some(vectors)))
    }

    /// What a query asks of Qdrant. How long that takes is what a query would take without us.
    fn timed<T>(&self, context: &str, work: impl FnOnce(&EdgeShard) -> OperationResult<T>) -> Result<T, IndexError> {
        let started = Instant::now();
        let answer = self.with(context, work);
        meter::index_queried(started.elapsed());
        answer
    }
}

pub(super) fn nearest_to(vector: &QueryVector) -> ScoringQuery {
    let values = VectorInternal::from(vector.embedding.values().to_vec());
    ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(values, vector_name(vector.target))))
}

/// A request for so many points, without what is in them.
pub(super) fn request(query: ScoringQuery, limit: usize) -> QueryRequest {
    QueryRequest {
        prefetches: Vec::new(),
        query: Some(query),
        filter: None,
        score_threshold: None,
        limit,
        offset: 0,
        params: None,
        with_vector: WithVector::Bool(false),
        with_payload: WithPayloadInterface::Bool(false),
    }
}

/// The product of a point that was read whole.
fn indexed(record: &Record) -> Result<IndexedProduct, IndexError> {
    let image_embeddings = to_embeddings(record.vector.as_ref(), Target::Image);
    let text = to_embeddings(record.vector.as_ref(), Target::Text).pop();
    let text_embedding = text.ok_or_else(|| unavailable("read a product", "it has no text vector"))?;
    let (product, digest) = (to_product(record.payload.as_ref())?, to_digest(record.payload.as_ref()));
    Ok(IndexedProduct { product, image_embeddings, text_embedding, digest })
}

/// What of a point is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Payload,
    Vectors,
    All,
}

#[cfg(test)]
mod tests {
    use qdrant_edge::{PointInsertOperations, PointOperations, UpdateOperation};
    use vitrine_core::{embed::Embedding, product::AttributeValue};

    use super::*;
    use crate::edge::{
        graph::config,
        point::{product_at, whole_point},
    };

    /// Product n is at n hundredths of a right angle from the query, and of the brand `even` or `odd`.
    fn product(number: u16) -> IndexedProduct {
        let angle = f32::from(number) / 100.0;
        let brand = AttributeValue::Keyword(["even", "odd"][usize::from(number % 2)].to_owned());
        product_at(number.into(), vec![angle.cos(), angle.sin()], ("brand", brand))
    }

    #[test]
    fn what_passes_among_the_nearest_leads_and_others_follow_once_where_it_is_too_few() {
        let directory = tempfile::tempdir().unwrap();
        let shard = Shard::new(EdgeShard::new(directory.path(), config(2, Quantisation::None)).unwrap());
        let points = (0..100).map(|number| whole_point(&product(number)).into()).collect();
        let upsert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
        shard.with("fill", |shard| shard.update(UpdateOperation::PointOperation(upsert))).unwrap();

        let embedding = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        let query = QueryVector { target: Target::Image, embedding, share: 1.0 };
        let odd = to_filter(Clause::Texts("a.brand".to_owned(), vec!["odd".to_owned()]));
        let expected: Vec<_> = (0..100).filter(|number| number % 2 == 1).map(product).collect();
        let expected = expected.iter().map(|indexed| PointId::Uuid(point_id(&indexed.product.id)));
        // Of the twenty nearest ten pass: enough for five, but not for ten and more; and fifty of all, which are too few for eighty.
        let among = |filter: &Filter, others, is_category| Among {
            filter: filter.clone(),
            first: 20,
            width: 128,
            others,
            is_category,
        };
        for (limit, is_category) in [5, 10, 30, 80].into_iter().flat_map(|limit| [(limit, false), (limit, true)]) {
            let found = shard.nearest_that_pass(&query, among(&odd, Others::Searched, is_category), limit).unwrap();
            let found = found.into_iter().map(|(id, _)| id);
            assert!(found.eq(expected.clone().take(limit)), "{limit} {is_category}");
        }
        // And if none passes.
        let farthest: Vec<_> = (70..100).map(|number| point_id(&product(number).product.id)).collect();
        let filter = to_filter(Clause::Ids(farthest.clone()));
        for others in [Others::Compared, Others::Searched] {
            let found = shard.nearest_that_pass(&query, among(&filter, others, false), 10).unwrap();
            let found = found.into_iter().map(|(id, _)| id);
            assert!(found.eq(farthest.iter().take(10).map(|id| PointId::Uuid(*id))), "{others:?}");
        }
        let complete = ["a.brand", "a.colour"].map(|key| shard.is_complete(key).unwrap());
        assert_eq!(complete, [true, false]);
    }
}
