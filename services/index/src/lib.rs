//! The product index behind the [`ProductIndex`](vitrine_core::index::ProductIndex) port.
//!
//! The only crate that knows Qdrant. [`EdgeIndex`] runs Qdrant Edge in process, on directories.

mod edge;

pub use edge::{EdgeIndex, EdgeOptions};
