//! The command line of `vitrine plan`.

use clap::{Args, ValueEnum};
use vitrine_index::Quantisation;

/// What a catalogue of a size takes of machines, by unit costs that were measured: docs/SCALE.md.
///
/// Nothing is measured or asked; the same arguments always have the same answer.
///
/// Exit codes: 0 done; 64 wrong arguments.
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct PlanArguments {
    /// Products of the catalogue. 1 to 4000000000.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=4_000_000_000))]
    pub products: u32,
    /// Numbers in a vector. 1 to 8192; 512 is what the index was measured with. The bundled model has 792.
    #[arg(long, value_name = "COUNT", default_value = "512", value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub dimensions: u16,
    /// Pictures of a product, on average. 1 to 50; 1 is what was measured.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=50))]
    pub pictures_per_product: u16,
    /// How vectors are kept a second time: none, int8, binary or product. None, as the loader's default.
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub quantisation: Quantisation,
    /// Whose time a picture and a text take. 8-bit files of a ViT-B/32, which `make quantise` writes: the cheapest of its
    /// size that keeps its vectors.
    #[arg(long, value_name = "MODEL", default_value = "vit-b32-int8")]
    pub model: PlannedModel,
    /// Copies of the index, on different machines. 1 to 16; 2, so that one machine may fail. 1 may be a directory.
    #[arg(long, value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub replicas: u16,
    /// Searches a second at the busiest, with no help of the caches. Up to 1000000; 50 is a shop with some thousand visitors.
    #[arg(long, value_name = "RATE", default_value = "50", value_parser = rate)]
    pub queries_per_second: f64,
    /// Share of the searches that are by words, which search two vectors and not one. 0 to 1; half, for want of anything better.
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = share)]
    pub words_share: f64,
    /// Share of the searches with a filter that a tenth of the products pass: the dearest kind. 0 to 1; half, as above.
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = share)]
    pub filtered_share: f64,
    /// Longest time within which 99 % of the searches are to be answered, in ms. 1 to 60000; 100, which people do not notice.
    #[arg(long, value_name = "MS", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=60_000))]
    pub p99_ms: u16,
    /// Longest time that a load may take, in hours. 1 to 720; 8, a night.
    #[arg(long, value_name = "HOURS", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=720))]
    pub load_hours: u16,
    /// Share of the products that a load embeds: those that are new or have changed since the one before. 0 to 1; 1, as with
    /// the first load, a new model, or `catalog-loader --full`.
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = share)]
    pub changed_share: f64,
    /// Memory of a machine, in GiB. 1 to 65536; 64, a common size.
    #[arg(long, value_name = "GIB", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub node_memory_gib: u32,
    /// Cores of a machine. 1 to 1024; 16, as machines with 64 GiB often have.
    #[arg(long, value_name = "COUNT", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub node_cores: u16,
    /// Disk of a machine, in GiB. 10 to 1000000; 1000, a common size.
    #[arg(long, value_name = "GIB", default_value = "1000", value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub node_disk_gib: u32,
    /// Price of a GiB of memory for a month, in any currency. A round number that was made up, nobody's offer: put in your own.
    #[arg(long, value_name = "MONEY", default_value = "1", value_parser = price)]
    pub memory_price_per_gib_month: f64,
    /// Price of a core for a month. Made up, too.
    #[arg(long, value_name = "MONEY", default_value = "10", value_parser = price)]
    pub core_price_per_month: f64,
    /// Price of a GiB of disk for a month. Made up, too.
    #[arg(long, value_name = "MONEY", default_value = "0.1", value_parser = price)]
    pub disk_price_per_gib_month: f64,
    /// Print it as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A model whose time for pictures and texts was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlannedModel {
    /// The bundled one.
    Mini,
    /// A ViT-B/32 with its 32-bit files.
    VitB32,
    /// The same with its 8-bit files.
    VitB32Int8,
}

fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("is not a number from 0 to 1"),
    }
}

fn rate(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(rate) if (0.0..=1e6).contains(&rate) => Ok(rate),
        _ => Err("is not a number from 0 to 1000000"),
    }
}

fn price(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(price) if (0.0..=1e6).contains(&price) => Ok(price),
        _ => Err("is not a number from 0 to 1000000"),
    }
}
