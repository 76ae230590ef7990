//! The command line.

use std::path::PathBuf;

use clap::Parser;
use vitrine_index::{Quantisation, RestUrl, ServerUrl};

use crate::shop::Shape;

/// Loads a drawn shop into the index, and measures what it takes and how well and fast filtered queries are answered.
///
/// The index is kept: another run with the same directory, products, seed and quantisation only measures.
///
/// Exit codes: 0 the report is there; 1 it is not; 2 wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "index-bench", version)]
pub(crate) struct Arguments {
    /// How many products. 100 to 100000000.
    #[arg(long, value_name = "COUNT", default_value = "100000", value_parser = clap::value_parser!(u32).range(100..=100_000_000))]
    pub(crate) products: u32,
    /// Draws the shop: the same seed draws the same products and asks the same.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) seed: u64,
    /// How vectors lie: by category and style, as pictures do, or in clusters that are all noise, which is harder.
    #[arg(long, value_name = "SHAPE", default_value = "categories")]
    pub(crate) shape: Shape,
    /// Directory of the index, one catalogue for each shop and quantisation.
    #[arg(long, value_name = "DIR", default_value = "target/index-bench")]
    pub(crate) index_dir: PathBuf,
    /// Address of a Qdrant server, in place of the directory.
    #[arg(long, value_name = "URL")]
    pub(crate) index_url: Option<ServerUrl>,
    /// Addresses of its REST service, for --again: of one node or of each, with commas between; by default at the same host,
    /// on port 6333.
    #[arg(long, value_name = "URLS", value_delimiter = ',', requires = "index_url")]
    pub(crate) index_rest_urls: Vec<RestUrl>,
    /// How vectors are kept a second time: none, int8, binary or product.
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub(crate) index_quantisation: Quantisation,
    /// Different queries of each row. 1 to 10000.
    #[arg(long, value_name = "COUNT", default_value = "200", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) queries: u16,
    /// How often each is timed. 1 to 1000.
    #[arg(long, value_name = "COUNT", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// Only rows whose name has this in it; several of them.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Also measures queries while so many products are loaded into another catalogue of the same index; 0 is none.
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub(crate) beside: u32,
    /// The same, loaded by another process.
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub(crate) beside_process: u32,
    /// Only loads.
    #[arg(long)]
    pub(crate) load_only: bool,
    /// Only loads what is there again, from the serving generation, with so many per cent of the products made anew, which
    /// stay as they were. 0 to 100. Later runs ask the generation that it makes.
    #[arg(long, value_name = "PERCENT", conflicts_with = "load_only", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) again: Option<u8>,
    /// Directory for index.json and index.svg.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}
