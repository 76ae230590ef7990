//! A whole generation on a Qdrant server.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use qdrant_client::qdrant::{
    AcornSearchParams, Condition, Expression, Filter, Formula, PrefetchQuery, QuantizationSearchParams, Query,
    QueryPoints, SearchParams, VectorInput, query, vector_input,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;
use vitrine_core::{
    index::{Generation, GenerationInfo, Hit, IndexError, IndexQuery, IndexedProduct, QueryKeywords, QueryVector},
    keywords::Keywords,
    product::ProductId,
};

use super::{
    connection::{Connection, Refusal},
    description::Parts,
    filter::to_filter,
    point::{Found, to_sparse},
    way::{Estimate, Passing, Search, Searched, Step},
};
use crate::{
    among::{AWAY, sketch},
    error::unavailable,
    filter::{self, Clause},
    payload::{KEYWORDS, point_after, point_id, vector_name},
    quantisation::Quantisation,
    scoring::{Candidate, Union, acorn_share_max, candidate_counts, nearest_picture, page, to_similarities},
};

/// How searches are done, whichever generation they are in.
#[derive(Debug, Clone)]
pub(super) struct Searching {
    /// Places for searches.
    pub(super) places: Arc<Semaphore>,
    /// How many there are.
    pub(super) capacity: usize,
    /// Fewest candidates that the graph search keeps in hand; `None` is by the number of products.
    pub(super) width: Option<usize>,
    /// How many times more candidates than asked for are found by quantised vectors; `None` is by how those are kept.
    pub(super) oversampling: Option<f64>,
}

/// A generation that is searched by its collection's own name: whatever is published, it stays the same.
#[derive(Debug)]
pub(super) struct QdrantGeneration {
    pub(super) connection: Arc<Connection>,
    pub(super) collection: String,
    pub(super) info: GenerationInfo,
    pub(super) searching: Searching,
    /// How its vectors are kept a second time.
    pub(super) quantisation: Quantisation,
    /// Into how many its collection is split.
    pub(super) parts: Parts,
}

#[async_trait]
impl Generation for QdrantGeneration {
    fn info(&self) -> &GenerationInfo {
        &self.info
    }

    async fn search(&self, mut query: IndexQuery) -> Result<Vec<Hit>, IndexError> {
        let _place = self.place()?;
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let clause = filter::of_query(&mut query, &self.info.schema);
        let (scored, mut found) = match query.vectors.as_slice() {
            [only] if query.keywords.is_none() => {
                self.nearest(only, &self.passing(clause, query.wanted()).await?, &query).await?
            }
            _ => (self.nearest_by_sum(&query, clause).await?, HashMap::new()),
        };
        let page = page(scored, &query);
        let wanted = page.iter().map(|candidate| candidate.id).filter(|id| !found.contains_key(id));
        let wanted: Vec<Uuid> = wanted.collect();
        found.extend(self.retrieve(&wanted).await?);
        let hits = page.into_iter().filter_map(|candidate| Some((found.remove(&candidate.id)?, candidate)));
        let hits = hits.map(|(found, candidate)| {
            let similarities =
                candidate.similarities(&query.vectors, |vector| nearest_picture(vector, found.pictures()));
            let (score, keywords) = (candidate.score, candidate.keywords(&query));
            Ok(Hit { product: found.into_product()?, score, similarities, keywords })
        });
        hits.collect()
    }

    async fn get(&self, id: &ProductId) -> Result<Option<IndexedProduct>, IndexError> {
        let _place = self.place()?;
        let mut found = self.retrieve(&[point_id(id)]).await?;
        found.pop().map(|(_, found)| found.into_indexed()).transpose()
    }

    async fn page(&self, after: Option<&ProductId>, limit: usize) -> Result<Vec<IndexedProduct>, IndexError> {
        let first = match after.map(point_after) {
            Some(None) => return Ok(Vec::new()),
            Some(Some(point)) => Some(point),
            None => None,
        };
        let _place = self.place()?;
        let found = self.connection.scroll(&self.collection, first, limit).await;
        let found = found.map_err(|refusal| self.failed("read from", refusal))??;
        found.into_iter().map(Found::into_indexed).collect()
    }
}

impl QdrantGeneration {
    /// A place among the searches that may run.
    fn place(&self) -> Result<SemaphorePermit<'_>, IndexError> {
        self.searching.places.try_acquire().map_err(|_| self.overloaded())
    }

    /// What a filter lets pass, of which so many are wanted at the least.
    async fn passing(&self, clause: Option<Clause>, limit: usize) -> Result<Passing, IndexError> {
        let (products, dimensions) = (self.info.products, self.info.model.dimensions);
        let searched = Searched { products, dimensions, parts: self.parts, width_set: self.searching.width };
        let estimate = match clause.as_ref().and_then(|clause| searched.worth_estimating(clause, limit)) {
            Some(clause) => {
                let (sketch, times) = sketch(&clause);
                let counted = self.connection.estimate(&self.collection, to_filter(sketch)).await;
                let counted = counted.map_err(|refusal| self.failed("query", refusal))?;
                Some(Estimate { passing: counted.saturating_mul(times).min(products), times })
            }
            None => None,
        };
        Ok(Passing { filter: clause.map(to_filter), estimate, searched })
    }

    /// The nearest by one vector. The first page comes with all that a hit is made of, which need not be read then.
    async fn nearest(
        &self,
        vector: &QueryVector,
        passing: &Passing,
        query: &IndexQuery,
    ) -> Result<(Vec<Candidate<Uuid>>, HashMap<Uuid, Found>), IndexError> {
        let whole = query.offset == 0;
        let mut search = Search::new(vector, passing, query.wanted());
        while let Some(mut request) = self.request(&search) {
            (request.with_payload, request.with_vectors) = (Some(whole.into()), Some(whole.into()));
            let mut lists = self.query(vec![request]).await?;
            search.take(lists.pop().unwrap_or_default());
        }
        let (mut scored, mut found) = (Vec::new(), HashMap::new());
        for (point, cosine) in search.into_found() {
            scored.push(Candidate::of_one(vector, point.id, cosine));
            if whole {
                found.insert(point.id, point);
            }
        }
        Ok((scored, found))
    }

    /// The candidates of all vectors and of the keywords, each scored by all of them.
    async fn nearest_by_sum(
        &self,
        query: &IndexQuery,
        clause: Option<Clause>,
    ) -> Result<Vec<Candidate<Uuid>>, IndexError> {
        let mut counts = candidate_counts(query.wanted()).peekable();
        let passing = self.passing(clause, counts.peek().copied().unwrap_or_default()).await?;
        let (mut union, mut found) = (Union::new(query), Vec::new());
        for count in counts {
            let lists = self.nearest_of_each(query, &passing, count, &mut union).await?;
            union.add_all(&lists);
            self.score_missing(query, &mut union).await?;
            if union.admit(&lists, count) {
                self.score_missing(query, &mut union).await?;
            }
            found = union.candidates();
            if union.is_page_settled(&found, &lists, count) {
                break;
            }
        }
        Ok(found)
    }

    /// So many of the nearest to each vector. The union takes in what the keywords find.
    async fn nearest_of_each(
        &self,
        query: &IndexQuery,
        passing: &Passing,
        count: usize,
        union: &mut Union<'_, Uuid>,
    ) -> Result<Vec<Vec<(Uuid, f32)>>, IndexError> {
        let mut searches: Vec<_> = query.vectors.iter().map(|vector| Search::new(vector, passing, count)).collect();
        let mut words = union.words_to_ask(count);
        // What all of them ask for next goes in one call, the words with the first.
        loop {
            let vectors = searches.iter().filter_map(|search| self.request(search));
            let with_words = words.map(|(keywords, asked)| self.with_words(keywords, passing.filter.clone(), asked));
            let requests: Vec<_> = vectors.chain(with_words).collect();
            if requests.is_empty() {
                break;
            }
            let mut lists = self.query(requests).await?.into_iter();
            for search in searches.iter_mut().filter(|search| search.step.is_some()) {
                search.take(lists.next().unwrap_or_default());
            }
            if let Some((_, asked)) = words.take() {
                let mut by_words = by_name(lists.next().unwrap_or_default());
                to_similarities(&mut by_words, self.products_of_shard());
                union.add_words(by_words, asked);
            }
        }
        Ok(searches.into_iter().map(|search| by_name(search.into_found())).collect())
    }

    /// Has the server score, by each vector and by the keywords, what that did not find itself.
    async fn score_missing(&self, query: &IndexQuery, union: &mut Union<'_, Uuid>) -> Result<(), IndexError> {
        let exactly = |nth: usize| {
            let missing: Vec<Uuid> = union.missing(nth).collect();
            let (filter, limit) = (Some(to_filter(Clause::Ids(missing.clone()))), missing.len());
            let params = Some(SearchParams {
                exact: Some(true),
                quantization: Some(QuantizationSearchParams { ignore: Some(true), ..Default::default() }),
                ..SearchParams::default()
            });
            let request = match (query.vectors.get(nth), &query.keywords) {
                (Some(vector), _) => {
                    let name = vector_name(vector.target);
                    QueryPoints { params, ..self.query_by(near(vector), name, filter, limit) }
                }
                (None, Some(QueryKeywords { keywords, .. })) => self.with_words(keywords, filter, limit),
                (None, None) => return None,
            };
            (!missing.is_empty()).then_some(((nth, missing), request))
        };
        let (asked, requests): (Vec<_>, Vec<_>) = (0..=query.vectors.len()).filter_map(exactly).unzip();
        if requests.is_empty() {
            return Ok(());
        }
        for ((nth, asked), list) in asked.into_iter().zip(self.query(requests).await?) {
            let mut list = by_name(list);
            if nth == query.vectors.len() {
                to_similarities(&mut list, self.products_of_shard());
            }
            union.add_asked(nth, &asked, &list);
        }
        Ok(())
    }

    /// Among how many products it is counted how many have a word: each shard counts by itself.
    fn products_of_shard(&self) -> usize {
        self.info.products.div_ceil(self.parts.shards)
    }

    /// Those that pass and have some of these words, best first.
    fn with_words(&self, keywords: &Keywords, filter: Option<Filter>, limit: usize) -> QueryPoints {
        let words = VectorInput { variant: Some(vector_input::Variant::Sparse(to_sparse(keywords))) };
        self.query_by(words, KEYWORDS, filter, limit)
    }

    /// What a search asks for next; `None` if it is done.
    fn request(&self, search: &Search<'_>) -> Option<QueryPoints> {
        let Search { vector, passing: Passing { filter, searched, .. }, .. } = search;
        let limit = search.limit();
        let name = vector_name(vector.target);
        let request = match search.step? {
            Step::Filtered { width } => {
                let acorn = AcornSearchParams { enable: Some(true), max_selectivity: Some(acorn_share_max(limit)) };
                // Of so few, each may be one that small vectors confuse with another.
                let params = SearchParams { acorn: Some(acorn), ..self.params(limit.max(width), 1) };
                QueryPoints { params: Some(params), ..self.query_by(near(vector), name, filter.clone(), limit) }
            }
            Step::Among { found } => {
                let found = searched.of_shard(found);
                let nearest = PrefetchQuery {
                    query: Some(nearest_to(near(vector))),
                    using: Some(name.to_owned()),
                    params: Some(self.params(found.max(searched.width()), found)),
                    limit: u64::try_from(found).ok(),
                    ..PrefetchQuery::default()
                };
                QueryPoints {
                    prefetch: vec![nearest],
                    query: Some(Query { variant: Some(query::Variant::Formula(formula(filter.clone()))) }),
                    score_threshold: Some(-AWAY / 2.0),
                    ..self.points(limit)
                }
            }
        };
        Some(request)
    }

    /// How the nearest are searched, with so many candidates in hand, and with small vectors as for so many of them.
    fn params(&self, width: usize, limit: usize) -> SearchParams {
        let oversampling = self.searching.oversampling.unwrap_or_else(|| self.quantisation.oversampling(limit));
        SearchParams {
            hnsw_ef: u64::try_from(width).ok(),
            quantization: Some(QuantizationSearchParams {
                ignore: None,
                // Scores are always those of the vectors themselves.
                rescore: Some(true),
                oversampling: Some(oversampling),
            }),
            ..SearchParams::default()
        }
    }

    /// So many of the nearest by a vector of this name, without what is in them.
    fn query_by(&self, nearest: VectorInput, name: &str, filter: Option<Filter>, limit: usize) -> QueryPoints {
        QueryPoints { query: Some(nearest_to(nearest)), using: Some(name.to_owned()), filter, ..self.points(limit) }
    }

    /// So many points, without what is in them.
    fn points(&self, limit: usize) -> QueryPoints {
        QueryPoints {
            collection_name: self.collection.clone(),
            limit: u64::try_from(limit).ok(),
            with_payload: Some(false.into()),
            with_vectors: Some(false.into()),
            ..QueryPoints::default()
        }
    }

    async fn query(&self, queries: Vec<QueryPoints>) -> Result<Vec<Vec<(Found, f32)>>, IndexError> {
        self.connection.query(&self.collection, queries).await.map_err(|refusal| self.failed("query", refusal))?
    }

    async fn retrieve(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Found)>, IndexError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.connection.retrieve(&self.collection, ids).await;
        let found = found.map_err(|refusal| self.failed("read from", refusal))??;
        Ok(found.into_iter().map(|found| (found.id, found)).collect())
    }

    fn failed(&self, what: &str, refusal: Refusal) -> IndexError {
        if refusal.is_overloaded() {
            return self.overloaded();
        }
        unavailable(format!("{what} generation {}", self.info.id), refusal)
    }

    fn overloaded(&self) -> IndexError {
        IndexError::Overloaded { queue: "index", capacity: self.searching.capacity }
    }
}

fn near(vector: &QueryVector) -> VectorInput {
    VectorInput::new_dense(vector.embedding.values().to_vec())
}

fn nearest_to(vector: VectorInput) -> Query {
    Query { variant: Some(query::Variant::Nearest(vector)) }
}

/// What passes keeps its score, and what does not has one that is too small. The server looks up each point once to see whether it
/// does; by a second query of them by name it would look up each three times, and score it again.
fn formula(filter: Option<Filter>) -> Formula {
    let passes = Expression::condition(Condition::from(filter.unwrap_or_default()));
    let back = Expression::mult_with([passes, Expression::constant(AWAY)]);
    let score = Expression::score();
    Formula { expression: Some(Expression::sum_with([score, Expression::constant(-AWAY), back])), ..Formula::default() }
}

fn by_name(list: Vec<(Found, f32)>) -> Vec<(Uuid, f32)> {
    list.into_iter().map(|(found, score)| (found.id, score)).collect()
}
