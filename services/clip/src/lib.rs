//! Dual encoders (CLIP, SigLIP and their kin) in the Hugging Face ONNX layout, run by ONNX Runtime.
//!
//! The only crate that knows `ort`. A photo flows [`decode`] → [`preprocess`] → [`session`]; a text flows
//! [`tokenize`] → [`session`]; [`ClipEmbedder`] joins them behind the [`Embedder`](vitrine_core::embed::Embedder) port.

mod check;
pub mod decode;
mod embedder;
mod error;
mod execution;
mod folder;
mod load;
pub mod preprocess;
mod probes;
mod resample;
mod runtime;
pub mod session;
pub mod tokenize;

pub use check::{Finding, Report, Verdict, check};
pub use embedder::{ClipEmbedder, ClipOptions};
pub use error::ModelError;
pub use execution::{Execution, ExecutionProvider};
pub use folder::{ModelFolder, Precision, Weights};
pub use runtime::Runtime;
