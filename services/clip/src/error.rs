//! Why a model cannot be used.

use std::path::PathBuf;

use crate::ExecutionProvider;

/// Why a model cannot be used. One variant for each thing that the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// ONNX Runtime is not where it was looked for: install it, or say where it is.
    #[error("ONNX Runtime is not at {}; run `make onnxruntime`, or name the shared library in ORT_DYLIB_PATH", list(.tried))]
    RuntimeMissing {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// What was found is no usable ONNX Runtime: install the version that `make onnxruntime` names.
    #[error("load ONNX Runtime: {0}")]
    RuntimeUnusable(String),
    /// What was asked to run the graphs is not there: choose another, or install it.
    #[error("execution provider `{provider}`: {problem}")]
    ProviderMissing {
        /// Who was asked.
        provider: ExecutionProvider,
        /// What is missing, and what to do.
        problem: String,
    },
    /// A file of the model's folder is missing: complete the folder.
    #[error("{} is missing: {reason}", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
        /// What it is for.
        reason: String,
    },
    /// A file of the model's folder cannot be used: export the model again.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gave no thread: our own bounds are too high for this machine.
    #[error("start the model's threads: {0}")]
    Threads(String),
}

impl ModelError {
    pub(crate) fn unusable(path: impl Into<PathBuf>, problem: impl std::fmt::Display) -> Self {
        Self::Unusable { path: path.into(), problem: problem.to_string() }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", nor at ")
}
