//! The main use case: signals in, similar products out.

use std::{
    collections::BTreeSet,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use moka::future::Cache;

use crate::{
    Invalid,
    embed::{CallContext, EmbedError, Embedder, Embedding},
    filter::{Filter, ResolvedFilter},
    index::{Generation, Hit, IndexError, IndexQuery, ProductIndex, QueryKeywords, QueryVector, Target},
    keywords::Keywords,
    limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, RESULTS_MAX, SIGNALS_MAX},
    meter,
    page_token::{self, QueryKey},
    product::{CatalogName, Product, ProductId},
    signal::{Signal, SignalSource},
};

/// Name of the cache of answers in metrics.
const CACHE: &str = "response";

/// A search, as far as it can be checked without knowing the catalogue.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// Catalogue to search.
    pub catalog: CatalogName,
    /// 1 to [`SIGNALS_MAX`], at least one of positive weight.
    pub signals: Vec<Signal>,
    /// Which products may be in the answer.
    pub filter: Option<Filter>,
    /// Most products in the answer; 0 is [`PAGE_SIZE_DEFAULT`], at most [`PAGE_SIZE_MAX`].
    pub page_size: usize,
    /// Where the page begins; empty is the first page.
    pub page_token: String,
    /// Leaves out products that score less, -1 to 1.
    pub score_min: Option<f32>,
}

/// The answer to a search.
#[derive(Debug, Clone)]
pub struct SearchResponse {
    /// Products, best first.
    pub hits: Arc<[Hit]>,
    /// Token of the next page; `None` on the last one.
    pub next_page_token: Option<String>,
    /// The generation that answered.
    pub generation: String,
    /// Where the time went.
    pub timings: SearchTimings,
}

/// Where the time of a search went. A remembered answer took none.
#[derive(Debug, Clone, Copy, Default)]
pub struct SearchTimings {
    /// Turning signals into vectors.
    pub embedding: Duration,
    /// Querying the index.
    pub index: Duration,
    /// All of it.
    pub total: Duration,
}

/// Why a search could not be answered. One variant for each thing that the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SearchError {
    /// The request is wrong; the same bytes fail again.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such catalogue.
    #[error("catalogue `{0}` is unknown")]
    UnknownCatalog(CatalogName),
    /// There is no such product.
    #[error("product `{0}` is unknown")]
    UnknownProduct(ProductId),
    /// The catalogue was made with another model: load it again, or serve with that model.
    #[error("the catalogue was made with model {catalog}, but this server runs {server}: load it again")]
    ModelMismatch {
        /// Fingerprint of the catalogue's model.
        catalog: String,
        /// Fingerprint of the serving model.
        server: String,
    },
    /// A bounded queue was full; retry after a pause.
    #[error("{queue} queue is full ({capacity} waiting)")]
    Overloaded {
        /// Which queue.
        queue: &'static str,
        /// How many it holds.
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
    /// The deadline passed.
    #[error("deadline passed before the answer was made")]
    DeadlineExceeded,
    /// No endpoint of the pool that embeds does; retry later.
    #[error("embedding pool `{pool}` is away: {reason}")]
    PoolAway {
        /// Its name in the settings.
        pool: Arc<str>,
        /// What is wrong with each endpoint: for the log, not for clients.
        reason: String,
    },
    /// The index or the model does not answer; retry elsewhere or later.
    #[error(transparent)]
    Unavailable(Arc<dyn Error + Send + Sync>),
    /// Our own fault.
    #[error("{0}")]
    Internal(String),
}

impl SearchError {
    fn within(self, parent: &str) -> Self {
        if let Self::Invalid(invalid) = self { invalid.within(parent).into() } else { self }
    }
}

impl From<IndexError> for SearchError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::UnknownCatalog(catalog) => Self::UnknownCatalog(catalog),
            IndexError::Overloaded { queue, capacity } => Self::Overloaded { queue, capacity },
            IndexError::UnknownGeneration { .. }
            | IndexError::NothingBefore(_)
            | IndexError::Locked(_)
            | IndexError::Unavailable { .. } => Self::Unavailable(Arc::new(error)),
        }
    }
}

impl From<EmbedError> for SearchError {
    fn from(error: EmbedError) -> Self {
        match error {
            EmbedError::Invalid(invalid) => Self::Invalid(invalid),
            EmbedError::Overloaded { queue, capacity } => Self::Overloaded { queue, capacity },
            EmbedError::PoolBusy { pool, retry_after } => Self::PoolBusy { pool, retry_after },
            EmbedError::PoolAway { pool, reason } => Self::PoolAway { pool, reason },
            EmbedError::DeadlineExceeded => Self::DeadlineExceeded,
            EmbedError::Unavailable(_) => Self::Unavailable(Arc::new(error)),
            EmbedError::Internal(reason) => Self::Internal(reason),
        }
    }
}

/// How searches are done.
#[derive(Debug, Clone, Copy)]
pub struct SearchConfig {
    /// How much a product's text counts against its pictures in a search by words; a search by photo has its
    /// pictures only.
    pub text_share: f32,
    /// How much the words themselves count in a search by words, against what they mean: of the share that texts have in the
    /// weights of all signals, without those that are not wanted.
    pub keyword_share: f32,
    /// Size of the cache of answers, in bytes; 0 remembers none.
    pub response_cache_bytes_max: u64,
    /// How long an answer is remembered.
    pub response_cache_ttl: Duration,
}

/// The use case.
pub struct Search {
    embedder: Arc<dyn Embedder>,
    index: Arc<dyn ProductIndex>,
    config: SearchConfig,
    responses: Cache<QueryKeyAt, SearchResponse>,
}

/// A query and where its page begins.
type QueryKeyAt = (QueryKey, usize);

/// Which part of the answer is asked for.
#[derive(Debug, Clone, Copy)]
struct Page {
    key: QueryKey,
    offset: usize,
    size: usize,
}

impl Search {
    /// Joins a model and an index.
    pub fn new(embedder: Arc<dyn Embedder>, index: Arc<dyn ProductIndex>, config: SearchConfig) -> Self {
        let responses = Cache::builder()
            .weigher(|_, response: &SearchResponse| {
                let bytes = response.hits.iter().map(|hit| approximate_bytes(&hit.product)).sum::<usize>();
                u32::try_from(bytes + 256).unwrap_or(u32::MAX)
            })
            .max_capacity(config.response_cache_bytes_max)
            .time_to_live(config.response_cache_ttl)
            .eviction_listener(|_, _, cause| {
                if cause.was_evicted() {
                    meter::cache_evicted(CACHE);
                }
            })
            .build();
        Self { embedder, index, config, responses }
    }

    /// Answers with the products most similar to the signals.
    ///
    /// # Errors
    /// See [`SearchError`]. Fields are named as in the contract's `SearchRequest`.
    pub async fn search(&self, request: SearchRequest, call: CallContext) -> Result<SearchResponse, SearchError> {
        let started = Instant::now();
        let page_size = check(&request)?;
        let generation = self.index.current(&request.catalog).await?;
        self.check_model(&*generation)?;
        self.check_dimensions(&request.signals)?;
        let filter = request.filter.as_ref().map(|filter| filter.resolve(&generation.info().schema)).transpose()?;
        let key = query_key(&request, page_size, &*generation).await;
        let offset = page_token::decode(&request.page_token, &key)?;

        let page = Page { key, offset, size: page_size };
        if call.bypass_cache {
            let answer = call.until_deadline(self.answer(&request, filter, &*generation, page, call)).await;
            let mut response = answer.ok_or(SearchError::DeadlineExceeded)??;
            response.timings.total = started.elapsed();
            return Ok(response);
        }
        loop {
            let answer = self.answer(&request, filter.clone(), &*generation, page, call);
            let entry = call.until_deadline(self.responses.entry((key, offset)).or_try_insert_with(answer)).await;
            match entry.ok_or(SearchError::DeadlineExceeded)? {
                Ok(entry) => {
                    let fresh = entry.is_fresh();
                    meter::cache_answered(CACHE, !fresh, || self.responses.weighted_size());
                    let mut response = entry.into_value();
                    if !fresh {
                        response.timings = SearchTimings::default();
                    }
                    response.timings.total = started.elapsed();
                    return Ok(response);
                }
                // The answer was made for another caller, who had less time than this one.
                Err(error) if matches!(*error, SearchError::DeadlineExceeded) && call.has_time() => {}
                Err(error) => return Err(SearchError::clone(&error)),
            }
        }
    }

    async fn answer(
        &self,
        request: &SearchRequest,
        filter: Option<ResolvedFilter>,
        generation: &dyn Generation,
        page: Page,
        call: CallContext,
    ) -> Result<SearchResponse, SearchError> {
        let (vectors, embedding) = timed(self.query_vectors(&request.signals, generation, call)).await;
        let mut vectors = vectors?;
        let keywords = self.query_keywords(&request.signals, generation);
        for vector in &mut vectors {
            vector.share *= 1.0 - keywords.as_ref().map_or(0.0, |keywords| keywords.share);
        }
        let query = IndexQuery {
            vectors,
            keywords,
            filter,
            exclude: products(&request.signals).cloned().collect(),
            offset: page.offset,
            // One more than the page tells whether there is another page.
            limit: (page.size + 1).min(RESULTS_MAX.saturating_sub(page.offset)),
            score_min: request.score_min,
        };
        let (hits, index) = timed(generation.search(query)).await;
        meter::searched("embedding", embedding);
        meter::searched("index", index);
        let mut hits = hits?;
        let more = hits.len() > page.size;
        hits.truncate(page.size);
        Ok(SearchResponse {
            next_page_token: more.then(|| page_token::encode(page.offset + page.size, &page.key)),
            hits: hits.into(),
            generation: generation.info().id.clone(),
            timings: SearchTimings { embedding, index, total: Duration::ZERO },
        })
    }

    /// Answers with one product and the generation it is in.
    ///
    /// # Errors
    /// When the catalogue or the product is unknown, or the index does not answer.
    pub async fn product(&self, catalog: &CatalogName, id: &ProductId) -> Result<(Product, String), SearchError> {
        let generation = self.index.current(catalog).await?;
        let found = generation.get(id).await?.ok_or_else(|| SearchError::UnknownProduct(id.clone()))?;
        Ok((found.product, generation.info().id.clone()))
    }

    fn check_model(&self, generation: &dyn Generation) -> Result<(), SearchError> {
        let (catalog, server) = (&generation.info().model, self.embedder.model());
        if catalog == server {
            return Ok(());
        }
        Err(SearchError::ModelMismatch { catalog: catalog.fingerprint.clone(), server: server.fingerprint.clone() })
    }

    /// The vectors to compare with pictures and with texts.
    async fn query_vectors(
        &self,
        signals: &[Signal],
        generation: &dyn Generation,
        call: CallContext,
    ) -> Result<Vec<QueryVector>, SearchError> {
        let embedded = signals.iter().enumerate().map(|(position, signal)| async move {
            let embedding = self.signal_vector(signal, generation, call).await;
            embedding.map_err(|error| error.within(&format!("signals[{position}]")))
        });
        let embeddings = try_join_all(embedded).await?;
        let weighted = |wanted: fn(&SignalSource) -> bool| {
            let terms = signals.iter().zip(&embeddings).filter(move |(signal, _)| wanted(&signal.source));
            terms.map(|(signal, embedding)| (embedding, signal.weight.get()))
        };
        let image = Embedding::weighted_sum(weighted(|_| true))
            .ok_or_else(|| Invalid::new("signals", "cancel each other out: their weighted sum is zero"))?;
        let text = Embedding::weighted_sum(weighted(is_text));

        let in_words: f32 = weighted(is_text).map(|(_, weight)| weight.abs()).sum();
        let text_share = if text.is_some() { self.config.text_share * in_words / total_weight(signals) } else { 0.0 };
        let image = QueryVector { target: Target::Image, embedding: image, share: 1.0 - text_share };
        let text = text.filter(|_| text_share > 0.0);
        let text = text.map(|embedding| QueryVector { target: Target::Text, embedding, share: text_share });
        Ok(std::iter::once(image).chain(text).collect())
    }

    /// The words to look for: those that the products are to have. `None` if there are none, or the generation knows of none.
    fn query_keywords(&self, signals: &[Signal], generation: &dyn Generation) -> Option<QueryKeywords> {
        let texts = signals.iter().filter_map(|signal| match &signal.source {
            SignalSource::Text(text) => Some((text.as_str(), signal.weight.get())),
            SignalSource::Photo(_) | SignalSource::Product(_) | SignalSource::Embedding(_) => None,
        });
        let texts: Vec<_> = texts.filter(|(_, weight)| *weight > 0.0).collect();
        let wanted: f32 = texts.iter().map(|(_, weight)| weight).sum();
        let share = self.config.keyword_share * wanted / total_weight(signals);
        let kept = generation.info().keywords().filter(|_| share > 0.0)?;
        // The heaviest counts in full: the share says how much words count.
        let heaviest = texts.iter().map(|(_, weight)| *weight).fold(0.0, f32::max);
        let keywords = Keywords::of_query(texts.into_iter().map(|(text, weight)| (text, weight / heaviest)));
        let keywords = keywords.without(&kept.common);
        (!keywords.is_empty()).then_some(QueryKeywords { keywords, share })
    }

    async fn signal_vector(
        &self,
        signal: &Signal,
        generation: &dyn Generation,
        call: CallContext,
    ) -> Result<Embedding, SearchError> {
        match &signal.source {
            SignalSource::Photo(photo) => {
                let embedding = self.embedder.embed_photo(photo, call).await;
                Ok(embedding.map_err(|error| error.within("photo"))?)
            }
            SignalSource::Text(text) => Ok(self.embedder.embed_text(text, call).await?),
            SignalSource::Product(id) => {
                let product = generation.get(id).await?.ok_or_else(|| SearchError::UnknownProduct(id.clone()))?;
                Embedding::weighted_sum(product.image_embeddings.iter().map(|embedding| (embedding, 1.0)))
                    .ok_or_else(|| SearchError::Internal(format!("product `{id}` has no picture vector")))
            }
            SignalSource::Embedding(values) => {
                let embedding = Embedding::normalized(values.clone());
                Ok(embedding.ok_or_else(|| Invalid::new("embedding.values", "are all zero, or not all finite"))?)
            }
        }
    }

    /// Before anything is hashed: a vector can be as long as a message.
    fn check_dimensions(&self, signals: &[Signal]) -> Result<(), Invalid> {
        let dimensions = self.embedder.model().dimensions;
        for (position, signal) in signals.iter().enumerate() {
            if let SignalSource::Embedding(values) = &signal.source
                && values.len() != dimensions
            {
                let problem = format!("has {} values, but the model has {dimensions} dimensions", values.len());
                return Err(Invalid::new(format!("signals[{position}].embedding.values"), problem));
            }
        }
        Ok(())
    }
}

/// Hashes everything that the answer depends on, except where the page begins.
async fn query_key(request: &SearchRequest, page_size: usize, generation: &dyn Generation) -> QueryKey {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&bytes.len().to_le_bytes()).update(bytes);
    };
    field(generation.info().id.as_bytes());
    field(request.catalog.as_str().as_bytes());
    field(format!("{page_size} {:?} {:?}", request.score_min, request.filter).as_bytes());
    for signal in &request.signals {
        field(&signal.weight.get().to_le_bytes());
        match &signal.source {
            SignalSource::Photo(photo) => {
                field(format!("photo {:?}", photo.region()).as_bytes());
                field(&photo.digest().await);
            }
            SignalSource::Text(text) => field(format!("text {}", text.as_str()).as_bytes()),
            SignalSource::Product(id) => field(format!("product {id}").as_bytes()),
            SignalSource::Embedding(values) => {
                field(b"embedding");
                for value in values {
                    field(&value.to_le_bytes());
                }
            }
        }
    }
    QueryKey(*hasher.finalize().as_bytes())
}

/// Checks what needs no catalogue; answers with the page size.
fn check(request: &SearchRequest) -> Result<usize, Invalid> {
    let signals = &request.signals;
    if signals.is_empty() {
        return Err(Invalid::new("signals", "is empty: say a photo, a text, a product or a vector to look for"));
    }
    if signals.len() > SIGNALS_MAX {
        return Err(Invalid::new(
            "signals",
            format_args!("has {}, more than the limit of {SIGNALS_MAX}", signals.len()),
        ));
    }
    if signals.iter().all(|signal| signal.weight.get() < 0.0) {
        return Err(Invalid::new("signals", "have negative weights only: say what to look for, too"));
    }
    if let Some(duplicate) = first_duplicate(products(signals)) {
        return Err(Invalid::new("signals", format_args!("name product `{duplicate}` twice")));
    }
    if let Some(score) = request.score_min
        && !(-1.0..=1.0).contains(&score)
    {
        return Err(Invalid::new("score_min", format_args!("is {score}, not in -1 to 1")));
    }
    match request.page_size {
        0 => Ok(PAGE_SIZE_DEFAULT),
        size if size <= PAGE_SIZE_MAX => Ok(size),
        size => Err(Invalid::new("page_size", format_args!("is {size}, more than the limit of {PAGE_SIZE_MAX}"))),
    }
}

fn is_text(source: &SignalSource) -> bool {
    matches!(source, SignalSource::Text(_))
}

/// How much all signals count together, wanted or not.
fn total_weight(signals: &[Signal]) -> f32 {
    signals.iter().map(|signal| signal.weight.get().abs()).sum()
}

fn products(signals: &[Signal]) -> impl Iterator<Item = &ProductId> {
    signals.iter().filter_map(|signal| match &signal.source {
        SignalSource::Product(id) => Some(id),
        SignalSource::Photo(_) | SignalSource::Text(_) | SignalSource::Embedding(_) => None,
    })
}

fn first_duplicate<'a>(mut ids: impl Iterator<Item = &'a ProductId>) -> Option<&'a ProductId> {
    let mut seen = BTreeSet::new();
    ids.find(|id| !seen.insert(*id))
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (work.await, started.elapsed())
}

/// What a product takes in memory, roughly.
fn approximate_bytes(product: &Product) -> usize {
    let links = product.image_links.iter().map(|link| 64 + link.len());
    let attributes = product.attributes.iter().map(|(name, value)| 64 + name.len() + value.text_bytes());
    512 + product.title.len() + product.description.len() + links.chain(attributes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        fakes::{self, FakeEmbedder, MemoryIndex},
        filter,
        index::IndexedProduct,
        signal::{Photo, QueryText, Weight},
    };

    const CONFIG: SearchConfig = SearchConfig {
        text_share: 0.5,
        keyword_share: 0.2,
        response_cache_bytes_max: 1 << 20,
        response_cache_ttl: Duration::from_mins(1),
    };

    fn call() -> CallContext {
        CallContext::interactive(Instant::now() + Duration::from_secs(30))
    }

    fn text(words: &str, weight: f32) -> Signal {
        let source = SignalSource::Text(QueryText::new(words, "text").unwrap());
        Signal { source, weight: Weight::new(weight).unwrap() }
    }

    fn request(signals: Vec<Signal>) -> SearchRequest {
        SearchRequest {
            catalog: CatalogName::default(),
            signals,
            filter: None,
            page_size: 0,
            page_token: String::new(),
            score_min: None,
        }
    }

    /// 30 products, `p0` to `p29`, whose pictures and titles are "thing 0" to "thing 29".
    async fn thirty() -> (Search, Arc<FakeEmbedder>) {
        let embedder = Arc::new(FakeEmbedder::default());
        let index = Arc::new(MemoryIndex::default());
        let products = (0..30).map(|number| {
            let product = fakes::product(&format!("p{number}"), &format!("thing {number}"), number);
            let embedding = fakes::embedding(&format!("thing {number}"));
            IndexedProduct {
                product,
                image_embeddings: vec![embedding.clone()],
                text_embedding: embedding,
                digest: None,
            }
        });
        fakes::load(&*index, embedder.model(), products.collect()).await;
        (Search::new(Arc::<FakeEmbedder>::clone(&embedder), index, CONFIG), embedder)
    }

    fn ids(response: &SearchResponse) -> Vec<&str> {
        response.hits.iter().map(|hit| hit.product.id.as_str()).collect()
    }

    #[tokio::test]
    async fn the_thing_itself_comes_first_and_pages_join_without_gaps() {
        let (search, _) = thirty().await;
        let mut request = request(vec![text("thing 7", 1.0)]);
        request.page_size = 12;
        let mut seen = Vec::new();
        loop {
            let response = search.search(request.clone(), call()).await.unwrap();
            seen.extend(ids(&response).into_iter().map(str::to_owned));
            match response.next_page_token {
                Some(token) => request.page_token = token,
                None => break,
            }
        }
        assert_eq!(seen[0], "p7");
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 30);
        assert_eq!(seen.len(), 30);
    }

    #[tokio::test]
    async fn a_page_token_of_another_query_is_refused() {
        let (search, _) = thirty().await;
        let first = search.search(request(vec![text("thing 7", 1.0)]), call()).await.unwrap();
        let mut other = request(vec![text("thing 8", 1.0)]);
        other.page_token = first.next_page_token.unwrap();
        let error = search.search(other, call()).await.unwrap_err();
        assert!(error.to_string().starts_with("field `page_token` belongs to another query"), "{error}");
    }

    #[tokio::test]
    async fn a_filter_leaves_exactly_what_matches() {
        let (search, _) = thirty().await;
        let mut request = request(vec![text("thing 7", 1.0)]);
        request.filter = Some(filter::parse("price < 4 AND NOT brand = \"odd\"").unwrap());
        let response = search.search(request, call()).await.unwrap();
        assert_eq!(BTreeSet::from_iter(ids(&response)), BTreeSet::from(["p0", "p2"]));
        assert_eq!(response.next_page_token, None);
    }

    #[tokio::test]
    async fn a_liked_product_is_left_out_of_its_own_answer() {
        let (search, _) = thirty().await;
        let liked = ProductId::new("p3", "").unwrap();
        let signal = Signal { source: SignalSource::Product(liked), weight: Weight::default() };
        let response = search.search(request(vec![signal]), call()).await.unwrap();
        assert!(!ids(&response).contains(&"p3"));
    }

    #[tokio::test]
    async fn the_same_search_again_is_remembered() {
        let (search, embedder) = thirty().await;
        let first = search.search(request(vec![text("thing 7", 1.0)]), call()).await.unwrap();
        let again = search.search(request(vec![text("thing 7", 1.0)]), call()).await.unwrap();
        assert_eq!(ids(&first), ids(&again));
        assert_eq!(embedder.calls(), 1);
        assert_eq!(again.timings.embedding, Duration::ZERO);
        let bypassing = CallContext { bypass_cache: true, ..call() };
        let computed = search.search(request(vec![text("thing 7", 1.0)]), bypassing).await.unwrap();
        assert_eq!(ids(&first), ids(&computed));
        assert_eq!(embedder.calls(), 2);
    }

    #[tokio::test]
    async fn what_is_called_so_leads_if_words_count() {
        let (embedder, index) = (Arc::new(FakeEmbedder::default()), Arc::new(MemoryIndex::default()));
        let called = |id: &str, title: &str| {
            let embedding = fakes::embedding("the same");
            let product = fakes::product(id, title, 1);
            IndexedProduct {
                product,
                image_embeddings: vec![embedding.clone()],
                text_embedding: embedding,
                digest: None,
            }
        };
        let products = vec![called("a", "chair Alva"), called("b", "chair Berit"), called("c", "chair Clio")];
        fakes::load(&*index, embedder.model(), products).await;
        let find = async |keyword_share: f32, signals: Vec<Signal>| {
            let config = SearchConfig { keyword_share, ..CONFIG };
            let search = Search::new(Arc::<FakeEmbedder>::clone(&embedder), Arc::<MemoryIndex>::clone(&index), config);
            let hits = search.search(request(signals), call()).await.unwrap().hits;
            (hits[0].product.id.to_string(), hits[0].keywords, hits[0].score)
        };
        let (first, keywords, score) = find(0.5, vec![text("berit", 1.0)]).await;
        let (_, none, by_vectors) = find(0.0, vec![text("berit", 1.0)]).await;
        assert_eq!((first.as_str(), none), ("b", None));
        assert!((score - f32::midpoint(by_vectors, keywords.unwrap())).abs() < 1e-6);
        // What is not wanted is not looked for, and a photo has no words.
        assert_eq!(find(0.5, vec![text("clio", 2.0), text("berit", -1.0)]).await.0, "c");
        let photo = Photo::new(Bytes::from_static(b"a photo"), None).unwrap();
        let photo = Signal { source: SignalSource::Photo(photo), weight: Weight::default() };
        assert_eq!(find(0.5, vec![photo.clone()]).await.1, None);
        assert_eq!(find(0.5, vec![photo, text("!", 1.0)]).await.1, None);
        // Of the share only so much counts as is wanted: a tenth of half.
        let (_, keywords, score) = find(0.5, vec![text("berit", 0.1), text("the same", -0.9)]).await;
        let (_, _, by_vectors) = find(0.0, vec![text("berit", 0.1), text("the same", -0.9)]).await;
        assert!((score - 0.95 * by_vectors - 0.05 * keywords.unwrap()).abs() < 1e-6);
    }

    #[tokio::test]
    async fn wrong_requests_name_their_field() {
        let (search, _) = thirty().await;
        let broken = Photo::new(Bytes::from_static(FakeEmbedder::BROKEN), None).unwrap();
        let vector = |values| Signal { source: SignalSource::Embedding(values), weight: Weight::default() };
        let broken = Signal { source: SignalSource::Photo(broken), weight: Weight::default() };
        for (signals, field) in [
            (vec![], "signals"),
            (vec![text("a", 1.0); 17], "signals"),
            (vec![text("a", -1.0)], "signals"),
            (vec![text("a", 1.0), text("a", -1.0)], "signals"),
            (vec![text("a", 1.0), vector(vec![1.0; 3])], "signals[1].embedding.values"),
            (vec![vector(vec![0.0; fakes::DIMENSIONS])], "signals[0].embedding.values"),
            (vec![broken], "signals[0].photo.content"),
        ] {
            let error = search.search(request(signals), call()).await.unwrap_err();
            assert!(matches!(&error, SearchError::Invalid(invalid) if invalid.field == field), "{error}");
        }
        let mut large = request(vec![text("a", 1.0)]);
        large.page_size = 201;
        let error = search.search(large, call()).await.unwrap_err().to_string();
        assert_eq!(error, "field `page_size` is 201, more than the limit of 200");
    }

    #[tokio::test]
    async fn a_catalogue_of_another_model_is_refused() {
        let index = Arc::new(MemoryIndex::default());
        let embedder = FakeEmbedder::with_fingerprint("old");
        fakes::load(&*index, embedder.model(), Vec::new()).await;
        let search = Search::new(Arc::new(FakeEmbedder::with_fingerprint("new")), index, CONFIG);
        let error = search.search(request(vec![text("a", 1.0)]), call()).await.unwrap_err();
        assert!(matches!(error, SearchError::ModelMismatch { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_passed_deadline_is_said_as_such() {
        let (search, _) = thirty().await;
        let late = CallContext::interactive(Instant::now());
        let error = search.search(request(vec![text("slow", 1.0)]), late).await.unwrap_err();
        assert!(matches!(error, SearchError::DeadlineExceeded), "{error}");
    }
}
