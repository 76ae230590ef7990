//! The product index behind the [`ProductIndex`] port.
//!
//! The only crate that knows Qdrant. [`EdgeIndex`] runs Qdrant Edge in process, on directories; [`QdrantIndex`] asks a
//! Qdrant server or cluster. Both keep the same points, filter them by the same clauses and score them by the same rule.
//! An [`archive`] carries a generation from one to the other.

mod among;
pub mod archive;
mod edge;
mod error;
mod filter;
mod nothing;
mod payload;
mod qdrant;
mod quantisation;
mod scoring;
mod staying;

use std::sync::Arc;

use async_trait::async_trait;
use vitrine_core::{
    generations::Generations,
    index::{Generation, IndexError, IndexedProduct, ProductIndex},
    product::CatalogName,
};

pub use edge::{EdgeIndex, EdgeOptions};
pub use qdrant::{ApiKey, BuildOptions, QdrantIndex, QdrantOptions, RestUrl, ServerUrl};
pub use quantisation::Quantisation;

/// From how much vector data on a graph is built, in KiB; below it, every query compares with every product.
/// 10,000, of 10,000 products with 512 numbers: comparing with that much takes some three milliseconds and misses nothing.
const GRAPH_KIB_MIN: usize = 10_000;

/// Where the catalogues are.
#[derive(Debug, Clone)]
pub enum IndexPlace {
    /// In directories, by Qdrant Edge.
    Directory(EdgeOptions),
    /// On a Qdrant server or cluster.
    Server(Box<QdrantOptions>),
}

/// An index whose publications are followed, as a server does.
#[async_trait]
pub trait ServedIndex: ProductIndex + Generations {
    /// Opens what was published since the last call, and lets go of what serves no more. Queries that run on an old
    /// generation finish on it. A catalogue that cannot be opened keeps its old generation, and is tried again after a
    /// pause, or when something else is published. What fails is logged when it begins to.
    async fn refresh(&self);

    /// The catalogues that are open, and the generation that serves each.
    fn serving(&self) -> Vec<(CatalogName, Arc<dyn Generation>)>;

    /// Whether every catalogue that was published has a generation that is open, as far as could be seen.
    fn is_whole(&self) -> bool;

    /// Waits for the removal of what was dropped unpublished, for as long as that takes.
    async fn settle(&self);
}

/// Takes an index into use. Nothing is opened or connected yet.
///
/// # Errors
/// When the system gives no threads, or the options cannot be used.
pub fn open(place: IndexPlace) -> Result<Arc<dyn ServedIndex>, IndexError> {
    Ok(match place {
        IndexPlace::Directory(options) => Arc::new(EdgeIndex::new(options)?),
        IndexPlace::Server(options) => Arc::new(QdrantIndex::new(*options)?),
    })
}

/// Refuses products that no point can be made of.
fn refuse_misshapen(products: &[IndexedProduct], dimensions: usize) -> Result<(), IndexError> {
    let wrong = |indexed: &&IndexedProduct| {
        let mut embeddings = indexed.image_embeddings.iter().chain([&indexed.text_embedding]);
        indexed.image_embeddings.is_empty() || embeddings.any(|e| e.values().len() != dimensions)
    };
    let Some(indexed) = products.iter().find(wrong) else { return Ok(()) };
    let reason = format!("it has no picture vector, or one that is not of {dimensions} dimensions");
    Err(error::unavailable(format!("add product `{}`", indexed.product.id), reason))
}
