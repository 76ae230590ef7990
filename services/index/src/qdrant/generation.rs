//! A whole generation on a Qdrant server.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use qdrant_client::qdrant::{
    AcornSearchParams, Filter, QuantizationSearchParams, Query, QueryPoints, SearchParams, VectorInput, query,
    vector_input,
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
    filter::to_filter,
    point::{Found, to_sparse},
};
use crate::{
    error::unavailable,
    filter::{self, Clause},
    payload::{KEYWORDS, point_after, point_id, vector_name},
    scoring::{
        Candidate, Union, acorn_share_max, candidate_counts, nearest_picture, page, search_width, to_similarities,
    },
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
}

/// A generation that is searched by its collection's own name: whatever is published, it stays the same.
#[derive(Debug)]
pub(super) struct QdrantGeneration {
    pub(super) connection: Arc<Connection>,
    pub(super) collection: String,
    pub(super) info: GenerationInfo,
    pub(super) searching: Searching,
    /// How many times more candidates quantised vectors find than are asked for.
    pub(super) oversampling: f64,
    /// Into how many its collection is split.
    pub(super) shards: usize,
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
        let filter = filter::of_query(&mut query, &self.info.schema).map(to_filter);
        let (scored, mut found) = match query.vectors.as_slice() {
            [only] if query.keywords.is_none() => self.nearest(only, filter, &query).await?,
            _ => (self.nearest_by_sum(&query, filter).await?, HashMap::new()),
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

    /// The nearest by one vector. The first page comes with all that a hit is made of, and so needs no second call.
    async fn nearest(
        &self,
        vector: &QueryVector,
        filter: Option<Filter>,
        query: &IndexQuery,
    ) -> Result<(Vec<Candidate<Uuid>>, HashMap<Uuid, Found>), IndexError> {
        let mut request = self.request(vector, filter, query.wanted());
        let whole = query.offset == 0;
        (request.with_payload, request.with_vectors) = (Some(whole.into()), Some(whole.into()));
        let mut lists = self.query(vec![request]).await?;
        let (mut scored, mut found) = (Vec::new(), HashMap::new());
        for (point, cosine) in lists.pop().unwrap_or_default() {
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
        filter: Option<Filter>,
    ) -> Result<Vec<Candidate<Uuid>>, IndexError> {
        let (mut union, mut found) = (Union::new(query), Vec::new());
        for count in candidate_counts(query.wanted()) {
            let vectors = query.vectors.iter().map(|vector| self.request(vector, filter.clone(), count));
            let words = union.words_to_ask(count);
            let with_words = words.map(|(keywords, asked)| self.with_words(keywords, filter.clone(), asked));
            let mut lists = self.scored(vectors.chain(with_words).collect()).await?;
            if let Some((_, asked)) = words
                && let Some(mut by_words) = lists.pop()
            {
                to_similarities(&mut by_words, self.products_of_shard());
                union.add_words(by_words, asked);
            }
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
                (Some(vector), _) => QueryPoints { params, ..self.request(vector, filter, limit) },
                (None, Some(QueryKeywords { keywords, .. })) => self.with_words(keywords, filter, limit),
                (None, None) => return None,
            };
            (!missing.is_empty()).then_some(((nth, missing), request))
        };
        let (asked, requests): (Vec<_>, Vec<_>) = (0..=query.vectors.len()).filter_map(exactly).unzip();
        if requests.is_empty() {
            return Ok(());
        }
        for ((nth, asked), mut list) in asked.into_iter().zip(self.scored(requests).await?) {
            if nth == query.vectors.len() {
                to_similarities(&mut list, self.products_of_shard());
            }
            union.add_asked(nth, &asked, &list);
        }
        Ok(())
    }

    /// Among how many products it is counted how many have a word: each shard counts by itself.
    fn products_of_shard(&self) -> usize {
        self.info.products.div_ceil(self.shards.max(1))
    }

    /// Those that pass and have some of these words, best first.
    fn with_words(&self, keywords: &Keywords, filter: Option<Filter>, limit: usize) -> QueryPoints {
        let words = VectorInput { variant: Some(vector_input::Variant::Sparse(to_sparse(keywords))) };
        self.query_by(words, KEYWORDS, filter, limit)
    }

    /// What each query found, by id alone.
    async fn scored(&self, queries: Vec<QueryPoints>) -> Result<Vec<Vec<(Uuid, f32)>>, IndexError> {
        let lists = self.query(queries).await?.into_iter();
        Ok(lists.map(|list| list.into_iter().map(|(found, cosine)| (found.id, cosine)).collect()).collect())
    }

    fn request(&self, vector: &QueryVector, filter: Option<Filter>, limit: usize) -> QueryPoints {
        let nearest = VectorInput::new_dense(vector.embedding.values().to_vec());
        let width = self.searching.width.unwrap_or_else(|| search_width(self.info.products));
        QueryPoints {
            params: Some(SearchParams {
                hnsw_ef: u64::try_from(limit.max(width)).ok(),
                quantization: Some(QuantizationSearchParams {
                    ignore: None,
                    // Scores are always those of the vectors themselves.
                    rescore: Some(true),
                    oversampling: Some(self.oversampling),
                }),
                acorn: Some(AcornSearchParams { enable: Some(true), max_selectivity: Some(acorn_share_max(limit)) }),
                ..SearchParams::default()
            }),
            ..self.query_by(nearest, vector_name(vector.target), filter, limit)
        }
    }

    /// So many of the nearest by a vector of this name, without what is in them.
    fn query_by(&self, nearest: VectorInput, name: &str, filter: Option<Filter>, limit: usize) -> QueryPoints {
        QueryPoints {
            collection_name: self.collection.clone(),
            query: Some(Query { variant: Some(query::Variant::Nearest(nearest)) }),
            using: Some(name.to_owned()),
            filter,
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
