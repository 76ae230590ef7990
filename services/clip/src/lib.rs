//! Dual encoders (CLIP, SigLIP and their kin) in the Hugging Face ONNX layout, run by ONNX Runtime.
//!
//! The only crate that knows `ort`. A photo flows [`decode`] → [`preprocess`] → [`session`]; a text flows
//! [`tokenize`] → [`session`]; [`ClipEmbedder`] joins them behind the [`Embedder`](vitrine_core::embed::Embedder) port.

mod check;
pub mod decode;
mod embedder;
mod error;
mod folder;
pub mod preprocess;
mod resample;
mod runtime;
pub mod session;
pub mod tokenize;

pub use check::{Finding, Report, Verdict, check};
pub use embedder::{ClipEmbedder, ClipOptions};
pub use error::ModelError;
pub use folder::{ModelFolder, Precision};
pub use runtime::Runtime;
