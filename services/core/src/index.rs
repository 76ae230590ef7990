//! The port to the index: generations of a catalogue, built whole and searched by vector and filter.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;

use crate::{
    embed::{Embedding, ModelInfo},
    filter::ResolvedFilter,
    keywords::{self, KeptWords, Keywords},
    product::{CatalogName, Product, ProductId, Schema},
};

pub use crate::digest::Digest;

/// A product with its vectors.
#[derive(Debug, Clone)]
pub struct IndexedProduct {
    /// The product.
    pub product: Product,
    /// One vector for each of `product.image_links`, in that order; at least one.
    pub image_embeddings: Vec<Embedding>,
    /// The vector of `product.text()`.
    pub text_embedding: Embedding,
    /// What all of this was made of; `None` if a load is not to keep it.
    pub digest: Option<Digest>,
}

/// What a generation is made of.
#[derive(Debug, Clone)]
pub struct GenerationInfo {
    /// Names it; later ones sort after earlier ones.
    pub id: String,
    /// The model that made its vectors.
    pub model: ModelInfo,
    /// The attributes that can be filtered by.
    pub schema: Schema,
    /// How many products it has.
    pub products: usize,
    /// How the words of its products are kept, if they are: a generation that was made before there were keywords has none.
    pub keywords: Option<KeptWords>,
}

impl GenerationInfo {
    /// How the words of its products are kept, if they are such as this version makes.
    pub fn keywords(&self) -> Option<&KeptWords> {
        self.keywords.as_ref().filter(|kept| kept.version == keywords::VERSION)
    }
}

/// A side of a product that a query is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Its pictures; the nearest counts.
    Image,
    /// Its text.
    Text,
}

/// One vector of a query, and what to compare it with.
#[derive(Debug, Clone)]
pub struct QueryVector {
    /// What to compare it with.
    pub target: Target,
    /// The vector.
    pub embedding: Embedding,
    /// Its share of the score; the shares of a query, with that of its keywords, sum to 1.
    pub share: f32,
}

/// The words of a query.
#[derive(Debug, Clone)]
pub struct QueryKeywords {
    /// At least one.
    pub keywords: Keywords,
    /// Their share of the score.
    pub share: f32,
}

/// What to look for in one generation.
#[derive(Debug, Clone)]
pub struct IndexQuery {
    /// At least one, of different targets.
    pub vectors: Vec<QueryVector>,
    /// For a generation that [keeps them](GenerationInfo::keywords).
    pub keywords: Option<QueryKeywords>,
    /// Which products may be in the answer.
    pub filter: Option<ResolvedFilter>,
    /// Products that may not be in the answer.
    pub exclude: Vec<ProductId>,
    /// How many of the best hits to leave out.
    pub offset: usize,
    /// Most hits to answer.
    pub limit: usize,
    /// Hits that score less are left out.
    pub score_min: Option<f32>,
}

impl IndexQuery {
    /// How many of the best hits lead to the end of its page.
    pub fn wanted(&self) -> usize {
        self.offset + self.limit
    }
}

/// How near one side of a product came.
#[derive(Debug, Clone, PartialEq)]
pub struct Similarity {
    /// What was compared.
    pub target: Target,
    /// Cosine, -1 to 1.
    pub cosine: f32,
    /// For [`Target::Image`]: which of `image_links` came nearest.
    pub picture: Option<usize>,
}

/// A product that a query found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The product.
    pub product: Product,
    /// Sum of the similarities, and of what the keywords make, by share, -1 to 1.
    pub score: f32,
    /// One for each vector of the query that the product has a side for.
    pub similarities: Vec<Similarity>,
    /// What the keywords of the query make of it, 0 to 1: see [`keywords::similarity`]. `None` if the query has none.
    pub keywords: Option<f32>,
}

/// Why the index did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IndexError {
    /// No generation of this catalogue has been published.
    #[error("catalogue `{0}` is unknown")]
    UnknownCatalog(CatalogName),
    /// A bounded queue was full; retry after a pause.
    #[error("{queue} queue is full ({capacity} waiting)")]
    Overloaded {
        /// Which queue.
        queue: &'static str,
        /// How many it holds.
        capacity: usize,
    },
    /// No generation of this catalogue is called so.
    #[error("catalogue `{catalog}` has no generation `{id}`")]
    UnknownGeneration {
        /// The catalogue.
        catalog: CatalogName,
        /// What it has not.
        id: String,
    },
    /// No whole generation of this catalogue is older than the serving one.
    #[error("catalogue `{0}` has no generation before the one that serves")]
    NothingBefore(CatalogName),
    /// Another process builds a generation of this catalogue, or has just changed what serves it.
    #[error("catalogue `{0}` is being loaded or switched by another process")]
    Locked(CatalogName),
    /// The index does not answer, or what it holds cannot be read.
    #[error("{context}")]
    Unavailable {
        /// What was tried.
        context: String,
        /// What came of it.
        source: Arc<dyn Error + Send + Sync>,
    },
}

/// What a new generation begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Empty,
    /// What serves, as far as it can be carried over: see [`GenerationBuilder::origin`].
    Serving,
}

/// What a generation that is being filled has begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing, and why.
    Nothing(String),
    /// The products of this generation, of which those stay that are [kept](GenerationBuilder::keep).
    Generation(String),
}

/// All catalogues of one installation.
#[async_trait]
pub trait ProductIndex: Send + Sync + 'static {
    /// The serving generation of a catalogue. It answers for as long as it is held, whatever is published meanwhile.
    async fn current(&self, catalog: &CatalogName) -> Result<Arc<dyn Generation>, IndexError>;

    /// Begins a new generation beside the serving one. At most one is built of each catalogue at a time.
    async fn build(
        &self,
        catalog: &CatalogName,
        model: &ModelInfo,
        schema: &Schema,
        start: Start,
    ) -> Result<Box<dyn GenerationBuilder>, IndexError>;
}

/// A whole generation, which never changes.
#[async_trait]
pub trait Generation: Send + Sync {
    /// What it is made of.
    fn info(&self) -> &GenerationInfo;

    /// The nearest products, best first; equal scores in an order that stays the same.
    async fn search(&self, query: IndexQuery) -> Result<Vec<Hit>, IndexError>;

    /// A product with its vectors; `None` if it is not there.
    async fn get(&self, id: &ProductId) -> Result<Option<IndexedProduct>, IndexError>;

    /// The products that come after this one, or the first ones, with their vectors as they were added, in an order of
    /// the index's own that stays the same. Fewer than `limit`, which is at least 1, only at the end.
    async fn page(&self, after: Option<&ProductId>, limit: usize) -> Result<Vec<IndexedProduct>, IndexError>;
}

/// A generation that is being filled. Dropping it discards it.
#[async_trait]
pub trait GenerationBuilder: Send + Sync {
    /// What it has begun with.
    fn origin(&self) -> &Origin;

    /// What each of these products was made of in the generation that this one begins with; `None` for what that did not
    /// have, or does not know.
    async fn known(&self, ids: &[ProductId]) -> Result<Vec<Option<Digest>>, IndexError>;

    /// Keeps [known](Self::known) products as they are, with their vectors, which a copy may round once more.
    async fn keep(&self, ids: &[ProductId]) -> Result<(), IndexError>;

    /// Adds products. One that was added or kept before with the same id is replaced.
    async fn add(&self, products: Vec<IndexedProduct>) -> Result<(), IndexError>;

    /// Makes it searchable and durable, but not serving yet. It has the products that were kept or added, and no others.
    async fn seal(self: Box<Self>) -> Result<Box<dyn SealedGeneration>, IndexError>;
}

/// A whole generation that does not serve yet. Dropping it discards it.
#[async_trait]
pub trait SealedGeneration: Send {
    /// The generation, to try it before it serves.
    fn generation(&self) -> Arc<dyn Generation>;

    /// Makes it the serving generation, in one step that happens whole or not at all.
    async fn publish(self: Box<Self>) -> Result<(), IndexError>;

    /// Lets it stay beside the serving generation, to be [switched to](crate::generations::Generations::switch).
    async fn set_aside(self: Box<Self>) -> Result<(), IndexError>;
}
