//! The command line of `vitrine index`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use vitrine_core::product::CatalogName;
use vitrine_index::{BuildOptions, EdgeOptions, IndexPlace, QdrantOptions, Quantisation};

use crate::settings::Flags;

/// What to do with the index, and where it is.
///
/// Exit codes: 0 done; 64 wrong arguments or settings; 65 the file is damaged, cut off, or no archive; 66 there is no such
/// catalogue, generation or file; 69 the index cannot be used; 73 the file cannot be written; 75 another process loads or
/// switches the catalogue, try again later; 130 interrupted. After every code but 0 what served serves as before.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct IndexArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: IndexCommand,
    /// Where the index is.
    #[command(flatten)]
    pub place: PlaceArguments,
}

/// Where the index is: as for `vitrine serve`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Where the index is, as for `vitrine serve`")]
pub struct PlaceArguments {
    /// File of settings, in TOML. [env: VITRINE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the index. [env: `VITRINE_INDEX_DIR`] [default: data/index]
    #[arg(long, global = true, value_name = "DIR")]
    pub index_dir: Option<String>,
    /// Address of a Qdrant server or cluster that has the index, in place of the directory. The key that it asks for is
    /// read from the variable VITRINE_INDEX_API_KEY only. [env: `VITRINE_INDEX_URL`]
    #[arg(long, global = true, value_name = "URL")]
    pub index_url: Option<String>,
    /// Longest wait for one answer of that server, in ms. [env: `VITRINE_INDEX_TIMEOUT_MS`] [default: 5000]
    #[arg(long, global = true, value_name = "MS")]
    pub index_timeout_ms: Option<String>,
}

impl PlaceArguments {
    /// The same as settings.
    pub fn to_flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            index_dir: self.index_dir.clone(),
            index_url: self.index_url.clone(),
            index_timeout_ms: self.index_timeout_ms.clone(),
            ..Flags::default()
        }
    }
}

/// What to do with the index.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Show all catalogues and their generations, oldest first. `*` marks the one that serves.
    List {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of one generation, its attributes among it.
    Info {
        /// The catalogue.
        #[arg(value_parser = CatalogName::new)]
        catalog: CatalogName,
        /// The generation. [default: the one that serves]
        generation: Option<String>,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a generation serve. Servers notice within a second; a load that runs fails at its end, and does not undo it.
    Switch {
        /// The catalogue.
        #[arg(value_parser = CatalogName::new)]
        catalog: CatalogName,
        /// The generation, as `list` shows it.
        generation: String,
    },
    /// Let the generation serve that is the newest before the one that serves.
    Rollback {
        /// The catalogue.
        #[arg(value_parser = CatalogName::new)]
        catalog: CatalogName,
    },
    /// Remove generations until the serving one and the newest of the others are left.
    Prune {
        /// The catalogue.
        #[arg(value_parser = CatalogName::new)]
        catalog: CatalogName,
        /// How many stay, the one that serves among them; at least 1.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
        keep: u16,
    },
    /// Write a generation with its vectors to one file, which any index can take back, in a directory or on a server.
    #[command(visible_alias = "export")]
    Snapshot {
        /// The catalogue.
        #[arg(value_parser = CatalogName::new)]
        catalog: CatalogName,
        /// The file; what is there is replaced when the new one is whole.
        file: PathBuf,
        /// The generation. [default: the one that serves]
        #[arg(long, value_name = "ID")]
        generation: Option<String>,
    },
    /// Bring a generation back from a file, without embedding anything.
    #[command(visible_alias = "import")]
    Restore {
        /// The catalogue to bring it back to; any name.
        #[arg(value_parser = CatalogName::new)]
        catalog: CatalogName,
        /// The file that `snapshot` wrote, of any catalogue, on either kind of index.
        file: PathBuf,
        /// Let it serve at once.
        #[arg(long)]
        switch: bool,
        /// How a generation is made.
        #[command(flatten)]
        build: BuildArguments,
    },
}

/// How a generation is made: as for `catalog-loader`, whose help tells more.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "How it is made, as for `catalog-loader`; all but the quantisation on a Qdrant server only"
)]
pub struct BuildArguments {
    /// Parts that a generation is split into; 0 is one for each node.
    #[arg(long, env = "VITRINE_INDEX_SHARDS", value_name = "COUNT", default_value = "0")]
    pub index_shards: u32,
    /// Copies of each part, on different nodes.
    #[arg(long, env = "VITRINE_INDEX_REPLICAS", value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub index_replicas: u32,
    /// Copies that must have taken a write before it counts.
    #[arg(long, env = "VITRINE_INDEX_WRITE_CONSISTENCY", value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub index_write_consistency: u32,
    /// Keep vectors on disk, in memory only as far as the page cache has them.
    #[arg(long, env = "VITRINE_INDEX_ON_DISK")]
    pub index_on_disk: bool,
    /// Keep vectors a second time, smaller, to find candidates with: none, int8, binary or product.
    #[arg(long, env = "VITRINE_INDEX_QUANTISATION", value_name = "KIND", default_value = "none")]
    pub index_quantisation: Quantisation,
    /// Edges of each product in the graph.
    #[arg(long, env = "VITRINE_INDEX_HNSW_M", value_name = "COUNT", default_value = "16", value_parser = clap::value_parser!(u32).range(2..=256))]
    pub index_hnsw_m: u32,
    /// Candidates kept in hand while the graph is built.
    #[arg(long, env = "VITRINE_INDEX_HNSW_EF_CONSTRUCT", value_name = "COUNT", default_value = "100", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub index_hnsw_ef_construct: u32,
    /// Longest wait for one answer while products are added, in ms.
    #[arg(long, env = "VITRINE_INDEX_LOAD_TIMEOUT_MS", value_name = "MS", default_value = "60000", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub index_load_timeout_ms: u64,
    /// Longest wait for the graph to be whole, in ms.
    #[arg(long, env = "VITRINE_INDEX_GREEN_WAIT_MS_MAX", value_name = "MS", default_value = "21600000")]
    pub index_green_wait_ms_max: u64,
}

impl BuildArguments {
    /// The same place, with generations made so.
    pub fn at(&self, place: IndexPlace) -> IndexPlace {
        let server = match place {
            IndexPlace::Directory(edge) => {
                return IndexPlace::Directory(EdgeOptions { quantisation: self.index_quantisation, ..edge });
            }
            IndexPlace::Server(server) => server,
        };
        let build = BuildOptions {
            shards: Some(self.index_shards).filter(|shards| *shards > 0),
            replicas: self.index_replicas,
            write_consistency: self.index_write_consistency,
            on_disk: self.index_on_disk,
            quantisation: self.index_quantisation,
            hnsw_m: self.index_hnsw_m,
            hnsw_ef_construct: self.index_hnsw_ef_construct,
            green_wait_max: Duration::from_millis(self.index_green_wait_ms_max),
            ..server.build.clone()
        };
        let timeout = Duration::from_millis(self.index_load_timeout_ms);
        IndexPlace::Server(Box::new(QdrantOptions { build, timeout, ..*server }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        build: BuildArguments,
    }

    #[test]
    fn a_restore_into_a_directory_keeps_vectors_as_it_is_told() {
        let place = || {
            IndexPlace::Directory(EdgeOptions {
                build_threads: 0,
                root: "somewhere".into(),
                threads: 1,
                queue_size_max: 8,
                generations_kept: 2,
                quantisation: Quantisation::None,
            })
        };
        for (arguments, quantisation) in
            [(&["restore"][..], Quantisation::None), (&["restore", "--index-quantisation", "int8"], Quantisation::Int8)]
        {
            let IndexPlace::Directory(edge) = Cli::parse_from(arguments).build.at(place()) else { panic!("moved") };
            assert_eq!(edge.quantisation, quantisation);
        }
    }
}
