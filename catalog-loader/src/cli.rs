//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser};
use vitrine_clip::{ExecutionProvider, Precision};
use vitrine_core::product::CatalogName;
use vitrine_index::{ApiKey, BuildOptions, EdgeOptions, IndexPlace, QdrantOptions, Quantisation, RestUrl, ServerUrl};
use vitrine_remote::{PoolName, PoolUrls, RemoteOptions};

/// Rows in work for each endpoint of a pool: as many calls as an endpoint gets for jobs have several pictures each.
const ROWS_PER_ENDPOINT: usize = 32;

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
    /// How many generations stay after the switch, the new one among them, to go back to; at least 1.
    #[arg(long, value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    pub generations_kept: u16,
    /// Keep vectors of the index a second time, smaller and always in memory, to find candidates with: none, int8, binary
    /// or product. Scores are of the vectors themselves, which a directory then has on disk, in memory only as far as the
    /// page cache has them. none: the others lose some products that a search should find.
    #[arg(long, env = "VITRINE_INDEX_QUANTISATION", value_name = "KIND", default_value = "none")]
    pub index_quantisation: Quantisation,
    /// Embed every product, and build the graph, anew. Otherwise a load begins with what serves, if the model is the same,
    /// and takes over what has not changed.
    #[arg(long)]
    pub full: bool,
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
    /// Addresses of an embedding pool, in place of a model in this process, with commas between them: `vitrine serve`
    /// with one model, that of the server; https:// for TLS.
    #[arg(
        long,
        env = "VITRINE_EMBEDDER_URLS",
        value_name = "URLS",
        conflicts_with_all = ["model_dir", "precision", "execution_provider", "threads"]
    )]
    pub embedder_urls: Option<PoolUrls>,
    /// What errors call that pool.
    #[arg(long, env = "VITRINE_EMBEDDER_NAME", value_name = "NAME", default_value = "default")]
    pub embedder_name: PoolName,
    /// Longest wait for one answer of that pool, in ms. 10000: a server's own limit, if it is not told otherwise.
    #[arg(long, env = "VITRINE_EMBEDDER_LOAD_TIMEOUT_MS", value_name = "MS", default_value = "10000", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub embedder_load_timeout_ms: u64,
    /// Longest wait for that pool while it is away or busy, at the start and later, in ms. 600000 (ten minutes): people
    /// go first, and a peak of theirs takes that long.
    #[arg(long, env = "VITRINE_EMBEDDER_WAIT_MS_MAX", value_name = "MS", default_value = "600000")]
    pub embedder_wait_ms_max: u64,
    /// File for the rows and pictures that failed, one JSON object for each.
    #[arg(long, value_name = "FILE", default_value = "dead-letters.jsonl")]
    pub dead_letters: PathBuf,
    /// Gate: largest share of rows that may fail, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = share)]
    pub failures_share_max: f64,
    /// Gate: smallest share of sampled products that their own picture must find first, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value = "0.99", value_parser = share)]
    pub found_share_min: f64,
    /// Threads that decode pictures, of each tower's inference, and that build the graph of an index in a directory. 0 is one
    /// for each core. With 1 a load takes about one and a half cores while it embeds.
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub threads: usize,
    // The last one: what follows would be under its heading in the help.
    /// The index on a Qdrant server, in place of the directory.
    #[command(flatten)]
    pub server: ServerArguments,
}

/// The index on a Qdrant server or cluster. The key that it asks for is read from the variable `VITRINE_INDEX_API_KEY`
/// only.
#[derive(Debug, Args)]
#[command(next_help_heading = "Index on a Qdrant server (1.16 or newer); its key is read from VITRINE_INDEX_API_KEY")]
pub struct ServerArguments {
    /// Its address, such as `http://127.0.0.1:6334`, or with https for TLS. Wins over --index-dir.
    #[arg(long, env = "VITRINE_INDEX_URL", value_name = "URL")]
    pub index_url: Option<ServerUrl>,
    /// Addresses of its REST service, by which a load takes over the files of what serves, graph and all: one, which in a
    /// cluster tells where the others are, or one of each node, with commas between. By default at the same host, on port
    /// 6333. A key must allow to manage everything. Where the service cannot be reached, or shards, attributes or settings have
    /// changed, or what serves has no keywords, products are copied, and the server builds the graph again.
    #[arg(long, env = "VITRINE_INDEX_REST_URLS", value_name = "URLS", value_delimiter = ',')]
    pub index_rest_urls: Vec<RestUrl>,
    /// Parts that a generation is split into; 0 is one for each node.
    #[arg(long, env = "VITRINE_INDEX_SHARDS", value_name = "COUNT", default_value = "0")]
    pub index_shards: u32,
    /// Copies of each part, on different nodes. 2: one node may go away; a single node keeps one copy anyway.
    #[arg(long, env = "VITRINE_INDEX_REPLICAS", value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub index_replicas: u32,
    /// Copies that must have taken a write before it counts. 1: every copy is waited for before the switch anyway.
    #[arg(long, env = "VITRINE_INDEX_WRITE_CONSISTENCY", value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub index_write_consistency: u32,
    /// Keep vectors on disk, in memory only as far as the page cache has them.
    #[arg(long, env = "VITRINE_INDEX_ON_DISK")]
    pub index_on_disk: bool,
    /// Edges of each product in the graph: more find more, in more memory. 16: Qdrant's own default.
    #[arg(long, env = "VITRINE_INDEX_HNSW_M", value_name = "COUNT", default_value = "16", value_parser = clap::value_parser!(u32).range(2..=256))]
    pub index_hnsw_m: u32,
    /// Candidates kept in hand while the graph is built: more find more, built longer. 100: Qdrant's own default.
    #[arg(long, env = "VITRINE_INDEX_HNSW_EF_CONSTRUCT", value_name = "COUNT", default_value = "100", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub index_hnsw_ef_construct: u32,
    /// Longest wait for one answer, in ms. 60000: a busy server may take long to take in a batch.
    #[arg(long, env = "VITRINE_INDEX_LOAD_TIMEOUT_MS", value_name = "MS", default_value = "60000", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub index_load_timeout_ms: u64,
    /// Longest wait for the graph to be whole before the switch, and for files to be taken over, in ms. 21600000 (six hours):
    /// what takes a night is not ready by day.
    #[arg(long, env = "VITRINE_INDEX_GREEN_WAIT_MS_MAX", value_name = "MS", default_value = "21600000")]
    pub index_green_wait_ms_max: u64,
}

impl Arguments {
    /// The embedding pool, if one is used in place of the model, and how many rows to have in work for it at once.
    pub fn pool(&self) -> Option<(RemoteOptions, usize)> {
        let urls = self.embedder_urls.clone()?;
        let at_once = urls.get().len() * ROWS_PER_ENDPOINT;
        let options = RemoteOptions {
            name: self.embedder_name.clone(),
            urls,
            timeout: Duration::from_millis(self.embedder_load_timeout_ms),
            // Never full: fewer rows are in work at once.
            queue_size_max: at_once * 2,
            patience: Duration::from_millis(self.embedder_wait_ms_max),
        };
        Some((options, at_once))
    }

    /// Where the index is.
    pub fn index_place(&self, api_key: Option<ApiKey>) -> IndexPlace {
        let generations_kept = usize::from(self.generations_kept);
        let Some(url) = self.server.index_url.clone() else {
            let (root, quantisation) = (self.index_dir.clone(), self.index_quantisation);
            return IndexPlace::Directory(EdgeOptions {
                root,
                threads: 1,
                queue_size_max: 16,
                generations_kept,
                quantisation,
                build_threads: self.threads,
            });
        };
        let build = BuildOptions {
            shards: Some(self.server.index_shards).filter(|shards| *shards > 0),
            replicas: self.server.index_replicas,
            write_consistency: self.server.index_write_consistency,
            on_disk: self.server.index_on_disk,
            quantisation: self.index_quantisation,
            hnsw_m: self.server.index_hnsw_m,
            hnsw_ef_construct: self.server.index_hnsw_ef_construct,
            green_wait_max: Duration::from_millis(self.server.index_green_wait_ms_max),
            generations_kept,
            ..BuildOptions::default()
        };
        let timeout = Duration::from_millis(self.server.index_load_timeout_ms);
        let rest_urls = self.server.index_rest_urls.clone();
        IndexPlace::Server(Box::new(QdrantOptions { rest_urls, api_key, timeout, build, ..QdrantOptions::new(url) }))
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("is not a number from 0 to 1"),
    }
}
