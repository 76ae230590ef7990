//! The command line.

use std::path::PathBuf;

use clap::Parser;
use vitrine_clip::{ExecutionProvider, Precision};
use vitrine_core::product::CatalogName;

/// Loads a product feed and its pictures into a new generation of the index, checks it, and lets it serve.
///
/// Exit codes: 0 the new generation serves (rows that failed are in the dead letters); 64 wrong arguments; 65 the feed
/// cannot be read or the new generation did not pass the gate; 66 there is no such feed; 69 the model or the index
/// cannot be used; 75 another loader is loading this catalogue, try again later; 130 interrupted. After every code but
/// 0 the old generation serves as before.
#[derive(Debug, Parser)]
#[command(name = "catalog-loader", version)]
pub struct Arguments {
    /// The feed: .jsonl, .csv or .tsv, with the field names of the Google Merchant Center. Pictures are paths relative
    /// to it.
    pub feed: PathBuf,
    /// Catalogue to load.
    #[arg(long, env = "VITRINE_CATALOG", default_value = "default", value_parser = CatalogName::new)]
    pub catalog: CatalogName,
    /// Directory of the index.
    #[arg(long, env = "VITRINE_INDEX_DIR", default_value = "data/index")]
    pub index_dir: PathBuf,
    /// Folder of the model, in the Hugging Face ONNX layout.
    #[arg(long, env = "VITRINE_MODEL_DIR", default_value = "models/mini")]
    pub model_dir: PathBuf,
    /// Which weight files: auto, fp32, fp16, bf16 or int8. Must be what the server runs; auto and fp32 go together.
    #[arg(long, env = "VITRINE_PRECISION", default_value = "auto")]
    pub precision: Precision,
    /// Who does the arithmetic: cpu, openvino, cuda, tensorrt or coreml. May be another than the server's.
    #[arg(long, env = "VITRINE_EXECUTION_PROVIDER", value_name = "NAME", default_value = "cpu")]
    pub execution_provider: ExecutionProvider,
    /// ONNX Runtime's shared library.
    #[arg(long, env = "ORT_DYLIB_PATH")]
    pub ort_dylib_path: Option<PathBuf>,
    /// File for the rows and pictures that failed, one JSON object for each.
    #[arg(long, value_name = "FILE", default_value = "dead-letters.jsonl")]
    pub dead_letters: PathBuf,
    /// Gate: largest share of rows that may fail, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = share)]
    pub failures_share_max: f64,
    /// Gate: smallest share of sampled products that their own picture must find first, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value = "0.99", value_parser = share)]
    pub found_share_min: f64,
    /// Threads that decode pictures, and of each tower's inference; 0 is one for each core.
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub threads: usize,
}

fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("is not a number from 0 to 1"),
    }
}
