//! Embeds by asking others: [`RemoteEmbedder`] is the [`Embedder`](vitrine_core::embed::Embedder) port over the
//! contract's `EmbeddingService`, served by a pool of processes that have a model.
//!
//! - `queue`: what waits to be asked for, in two lanes; what waits together goes out in one call.
//! - `call`: one such call, the second try on another endpoint, and what an answer means.
//! - `pool`: the endpoints, which of them are healthy and run the pool's model, and which is asked next.
//! - `member`: one endpoint over gRPC. The only part that knows tonic's client.

mod call;
mod embedder;
#[cfg(test)]
mod fakes;
mod member;
mod options;
mod pool;
mod queue;

pub use embedder::{RemoteEmbedder, RemoteError};
pub use options::{PoolName, PoolUrl, PoolUrls, RemoteOptions};
