//! What Vitrine means: products, filters and signals, the use cases on them, and the ports they need.
//!
//! Nothing here knows gRPC, ONNX Runtime, Qdrant, the environment or the file system; adapters on the floors above do.
//!
//! - [`product`], [`filter`], [`signal`]: the words of the domain, checked when they are made. [`keywords`]: what a product
//!   is called, word by word.
//! - [`embed`], [`index`]: the two ports, [`Embedder`](embed::Embedder) and [`ProductIndex`](index::ProductIndex).
//! - [`search`]: the main use case. [`gate`]: what a new generation must show before it serves. [`generations`]: which
//!   ones are kept, and how to go back.
//! - [`batch`], [`compute`], [`cache`]: the bounded machinery between them. [`meter`]: what it says of itself.

pub mod batch;
pub mod cache;
mod chain;
pub mod compute;
mod digest;
pub mod embed;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
pub mod filter;
pub mod gate;
pub mod generations;
pub mod index;
mod invalid;
pub mod keywords;
pub mod limits;
pub mod meter;
mod page_token;
pub mod product;
pub mod search;
pub mod signal;

pub use chain::Chain;
pub use invalid::Invalid;
