//! The command line.

mod index;
mod plan;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vitrine_clip::{ExecutionProvider, Precision};

pub use self::{
    index::{BuildArguments, IndexArguments, IndexCommand, PlaceArguments},
    plan::{PlanArguments, PlannedModel},
};
use crate::settings::Flags;

/// Visual product search that a shop runs itself.
#[derive(Debug, Parser)]
#[command(name = "vitrine", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve searches over gRPC until SIGTERM or Ctrl-C.
    Serve(Box<Flags>),
    /// Ask a running server.
    Search(SearchArguments),
    /// Look after the index's catalogues and their generations, beside servers that run.
    Index(Box<IndexArguments>),
    /// Reckon what machines a catalogue needs, and what it outgrows first.
    Plan(PlanArguments),
    /// Look at models.
    #[command(subcommand)]
    Model(ModelCommand),
}

/// What to do with a model.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Load a model's folder, try it and say what was found; fails if it cannot serve.
    Check(CheckArguments),
}

/// A search on the command line.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("signal").required(true).multiple(true).args(["images", "texts", "likes"])))]
pub struct SearchArguments {
    /// Photo to look for; may be repeated.
    #[arg(long = "image", value_name = "FILE")]
    pub images: Vec<PathBuf>,
    /// Words to look for; may be repeated.
    #[arg(long = "text", value_name = "WORDS")]
    pub texts: Vec<String>,
    /// Product whose like to look for; may be repeated.
    #[arg(long = "like", value_name = "PRODUCT_ID")]
    pub likes: Vec<String>,
    /// Which products may be in the answer, such as: price < 50 AND brand = "Daybird"
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Most products to show.
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(i32).range(1..=200))]
    pub limit: i32,
    /// Catalogue to search.
    #[arg(long, default_value = "default")]
    pub catalog: String,
    /// Page to show, as the answer before it named it.
    #[arg(long, value_name = "TOKEN", default_value = "")]
    pub page_token: String,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// Address of the server.
    #[arg(long, env = "VITRINE_SERVER", default_value = "http://127.0.0.1:50051")]
    pub server: String,
    /// Longest wait for the answer, in ms.
    #[arg(long, default_value = "10000")]
    pub deadline_ms: u64,
}

/// A model to check.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The model's folder.
    pub folder: PathBuf,
    /// Which weight files: auto, fp32, fp16, bf16 or int8.
    #[arg(long, default_value = "auto")]
    pub precision: Precision,
    /// Who does the arithmetic: cpu, openvino, cuda, tensorrt or coreml.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub execution_provider: ExecutionProvider,
    /// ONNX Runtime's shared library.
    #[arg(long, env = "ORT_DYLIB_PATH")]
    pub ort_dylib_path: Option<PathBuf>,
}
