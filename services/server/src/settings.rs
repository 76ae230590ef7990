//! What `vitrine serve` can be told: by flags, else `VITRINE_…` variables, else a file, else the defaults below.
//!
//! One word everywhere: `batch_size_max` in the file is `VITRINE_BATCH_SIZE_MAX` and `--batch-size-max`. Every error
//! is reported, then the process exits with [`EXIT_WRONG_SETTINGS`].

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::Args;
use figment::{
    Figment,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Map, Value},
};
use serde::Serialize;
use vitrine_clip::{ClipOptions, ExecutionProvider, Precision};
use vitrine_core::search::SearchConfig;
use vitrine_index::{ApiKey, EdgeOptions, IndexPlace, QdrantOptions, Quantisation, ServerUrl};
use vitrine_remote::{PoolName, PoolUrls, RemoteOptions};

use crate::telemetry::{LogFilter, LogFormat};

/// `EX_USAGE` of sysexits.h.
pub const EXIT_WRONG_SETTINGS: u8 = 64;

const ENV_PREFIX: &str = "VITRINE_";
/// The setting that puts the model into other processes.
const EMBEDDER_URLS: &str = "embedder_urls";
/// The setting that is a secret, and therefore no setting.
const API_KEY: &str = "index_api_key";
/// Variables with the prefix that belong to the other commands.
const OTHER_VARIABLES: [&str; 14] = [
    "catalog",
    "embedder_load_timeout_ms",
    "embedder_wait_ms_max",
    "server",
    "index_rest_urls",
    "index_shards",
    "index_replicas",
    "index_write_consistency",
    "index_on_disk",
    "index_quantisation",
    "index_hnsw_m",
    "index_hnsw_ef_construct",
    "index_load_timeout_ms",
    "index_green_wait_ms_max",
];

/// Settings of a model in this process, which go with no embedding pool.
const MODEL_SETTINGS: [&str; 9] = [
    "model_dir",
    "precision",
    "execution_provider",
    "ort_dylib_path",
    "inference_sessions",
    "inference_threads",
    "preprocess_threads",
    "batch_size_max",
    "batch_wait_ms_max",
];

/// Settings as flags, not checked yet.
#[derive(Debug, Default, Args, Serialize)]
pub struct Flags {
    /// File of settings, in TOML. [env: VITRINE_CONFIG]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address to listen on. [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Address to answer Prometheus on, over HTTP at /metrics; none if not set.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<String>,
    /// Directory of the index. [default: data/index]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_dir: Option<String>,
    /// Address of a Qdrant server or cluster that has the index, in place of the directory; https:// for TLS. The key
    /// that it asks for is read from the variable VITRINE_INDEX_API_KEY only.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_url: Option<String>,
    /// Longest wait for one answer of that server, in ms. [default: 5000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_timeout_ms: Option<String>,
    /// Connections to that server. [default: 4]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_connections: Option<String>,
    /// Fewest candidates that the server's graph search keeps in hand; more find more, slower; 0 is by the number of
    /// products: 128, and 300 from 500,000 in each segment on, with a filter from 250,000 in all. [default: 0]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_search_width: Option<String>,
    /// How many times more candidates quantised vectors find than are asked for, before these are scored exactly; 0 is
    /// by their kind: 2 for int8, 4 for product and binary. [default: 0]
    #[arg(long, value_name = "TIMES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_oversampling: Option<String>,
    /// Threads that search the index; 0 is one for each core. [default: 0]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_threads: Option<String>,
    /// How often to look for a newly published generation, in ms. [default: 1000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_poll_ms: Option<String>,
    /// Addresses of an embedding pool, in place of a model in this process, with commas between them: servers that have
    /// one, and all the same; https:// for TLS. Not to be mixed with the settings of a model.
    #[arg(long, value_name = "URLS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedder_urls: Option<String>,
    /// What errors call that pool. [default: default]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedder_name: Option<String>,
    /// Longest wait for one answer of that pool, in ms. [default: 5000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedder_timeout_ms: Option<String>,
    /// Folder of the model, in the Hugging Face ONNX layout. [default: models/mini]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_dir: Option<String>,
    /// Which weight files: auto, fp32, fp16, bf16 or int8. auto runs the 8-bit files where they are there and make the
    /// same vectors, to a cosine of 0.999; bf16 is the 32-bit files in bf16 arithmetic, by openvino only.
    /// [default: auto]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Who does the arithmetic of the model: cpu, openvino, cuda, tensorrt or coreml. [default: cpu]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_provider: Option<String>,
    /// ONNX Runtime's shared library. [env: ORT_DYLIB_PATH, too] [default: onnxruntime/ beside the program]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ort_dylib_path: Option<String>,
    /// Sessions of each tower, each with a copy of its weights; 0 is one for each core. [default: 0]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_sessions: Option<String>,
    /// Threads of each session; 0 is one for each core. [default: 1]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_threads: Option<String>,
    /// Threads that decode photos; 0 is one for each core. [default: 0]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess_threads: Option<String>,
    /// Most inputs in one inference. [default: 8]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size_max: Option<String>,
    /// Longest wait of a batch's first input for company, in ms; 0 never waits. [default: 0]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_wait_ms_max: Option<String>,
    /// Most entries in each queue. [default: 256]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_size_max: Option<String>,
    /// Most requests at once, from their first byte to their answer. [default: 512]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_max: Option<String>,
    /// Longest time for a request, its upload included, in ms, whatever deadline it brings. [default: 10000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms_max: Option<String>,
    /// Size of the cache of embeddings, in bytes. [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_cache_bytes_max: Option<String>,
    /// Size of the cache of answers, in bytes. [default: 33554432]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_cache_bytes_max: Option<String>,
    /// How long an answer is remembered, in ms. [default: 30000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_cache_ttl_ms: Option<String>,
    /// How much titles count against pictures in a search by words, 0 to 1. [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_share: Option<String>,
    /// How much the words themselves count in a search by words, against what they mean, 0 to 1. Beside a photo, by the share
    /// that the words' weights have. [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyword_share: Option<String>,
    /// Pause between SIGTERM and refusing connections, in ms, for load balancers to notice. [default: 0]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_pause_ms: Option<String>,
    /// Longest wait for running requests after that, in ms. [default: 20000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_ms_max: Option<String>,
    /// What log lines look like: text or json. [default: text]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    listen: SocketAddr,
    metrics_listen: Option<SocketAddr>,
    index: IndexPlace,
    index_poll: Duration,
    pool: Option<RemoteOptions>,
    model_dir: PathBuf,
    ort_dylib_path: Option<PathBuf>,
    clip: ClipOptions,
    queue_size_max: usize,
    requests_max: usize,
    deadline_max: Duration,
    embedding_cache_bytes_max: u64,
    search: SearchConfig,
    drain_pause: Duration,
    drain_max: Duration,
    log_format: LogFormat,
    log_filter: LogFilter,
}

/// Everything that is wrong with the settings.
#[derive(Debug)]
pub struct SettingsErrors(Vec<String>);

impl std::error::Error for SettingsErrors {}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} wrong in the settings:",
            if self.0.len() == 1 { "1 thing is".to_owned() } else { format!("{} things are", self.0.len()) }
        )?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl Settings {
    /// Reads all layers and checks them.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first: unknown names, values of the wrong kind or out of range, each with
    /// where it came from.
    pub fn load(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Self, SettingsErrors> {
        let (mut variables, mut config, mut library) = (Dict::new(), flags.config.clone(), None);
        let (mut log_filter, mut api_key) = (None, None);
        for (name, value) in env {
            match name.strip_prefix(ENV_PREFIX).map(str::to_ascii_lowercase) {
                Some(name) if name == "config" => config = config.or(Some(value.into())),
                // Never among the layers: what is wrong there is shown.
                Some(name) if name == API_KEY => api_key = Some(value).filter(|key| !key.is_empty()),
                Some(name) if OTHER_VARIABLES.contains(&name.as_str()) || is_service_link(&name) => {}
                Some(name) => drop(variables.insert(name, Value::from(value))),
                None if name == "ORT_DYLIB_PATH" => library = Some(Value::from(value)),
                None if name == "RUST_LOG" => log_filter = Some(value),
                None => {}
            }
        }
        let mut layers = Figment::new();
        if let Some(file) = &config {
            let content = std::fs::read_to_string(file);
            let content = content.map_err(|error| SettingsErrors(vec![format!("{}: {error}", file.display())]))?;
            layers = layers.merge(Toml::string(&content));
        }
        if let Some(library) = library {
            // It is not only ours, and so no wish for a model in this process.
            let written = variables.get(EMBEDDER_URLS).and_then(Value::as_str).map(str::to_owned);
            let pooled = match flags.embedder_urls.clone().or(written) {
                Some(urls) => !urls.is_empty(),
                None => layers.find_value(EMBEDDER_URLS).is_ok_and(|urls| urls.as_str() != Some("")),
            };
            if !pooled {
                variables.entry("ort_dylib_path".to_owned()).or_insert(library);
            }
        }
        let layers = layers.merge(Layer { name: "the environment", values: variables });
        Reader::new(layers.merge(Serialized::defaults(flags))).read(log_filter, api_key.as_deref())
    }

    /// What log lines look like.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// What is in the log.
    pub fn log_filter(&self) -> &LogFilter {
        &self.log_filter
    }

    /// The address to listen on.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The address to answer Prometheus on.
    pub fn metrics_listen(&self) -> Option<SocketAddr> {
        self.metrics_listen
    }

    /// Where the index is.
    pub fn index(&self) -> &IndexPlace {
        &self.index
    }

    /// How often to look for a newly published generation.
    pub fn index_poll(&self) -> Duration {
        self.index_poll
    }

    /// The embedding pool, if one is used in place of the model.
    pub fn pool(&self) -> Option<&RemoteOptions> {
        self.pool.as_ref()
    }

    /// The folder of the model.
    pub fn model_dir(&self) -> &Path {
        &self.model_dir
    }

    /// ONNX Runtime's shared library, if it was named.
    pub fn ort_dylib_path(&self) -> Option<&Path> {
        self.ort_dylib_path.as_deref()
    }

    /// How the model is run.
    pub fn clip(&self) -> ClipOptions {
        self.clip
    }

    /// Most entries in each queue.
    pub fn queue_size_max(&self) -> usize {
        self.queue_size_max
    }

    /// Most requests at once, from their first byte to their answer.
    pub fn requests_max(&self) -> usize {
        self.requests_max
    }

    /// Longest time for a request, its upload included.
    pub fn deadline_max(&self) -> Duration {
        self.deadline_max
    }

    /// Size of the cache of embeddings, in bytes.
    pub fn embedding_cache_bytes_max(&self) -> u64 {
        self.embedding_cache_bytes_max
    }

    /// How searches are done.
    pub fn search(&self) -> SearchConfig {
        self.search
    }

    /// Pause between SIGTERM and refusing connections.
    pub fn drain_pause(&self) -> Duration {
        self.drain_pause
    }

    /// Longest wait for running requests after that.
    pub fn drain_max(&self) -> Duration {
        self.drain_max
    }
}

/// Whether Kubernetes made the variable, as it does in every pod for a Service whose name begins with `vitrine`.
///
/// Source: Kubernetes documentation, "Discovering services", environment variables.
fn is_service_link(name: &str) -> bool {
    let of_service = name.contains("service_host") || name.contains("service_port");
    of_service || name == "port" || name.ends_with("_port") || name.contains("port_")
}

/// Values of one source, by setting.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl figment::Provider for Layer {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.name)
    }

    fn data(&self) -> figment::Result<Map<figment::Profile, Dict>> {
        Ok(Map::from([(figment::Profile::Default, self.values.clone())]))
    }
}

/// Takes settings one by one and collects what is wrong with them.
struct Reader {
    layers: Figment,
    known: BTreeSet<&'static str>,
    errors: Vec<String>,
}

impl Reader {
    fn new(layers: Figment) -> Self {
        Self { layers, known: BTreeSet::new(), errors: Vec::new() }
    }

    fn read(mut self, log_filter: Option<String>, api_key: Option<&str>) -> Result<Settings, SettingsErrors> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let all_cores = |threads: usize| if threads == 0 { cores } else { threads };
        let queue_size_max = self.number("queue_size_max", 256, 1..=65_536);
        let settings = Settings {
            // Loopback: a service without authentication is not to be offered to a network by default.
            listen: self.parse("listen", "127.0.0.1:50051"),
            metrics_listen: self.parse_if_written("metrics_listen"),
            index: self.index(api_key, queue_size_max, all_cores),
            index_poll: self.millis("index_poll_ms", 1000, 10..=3_600_000),
            pool: self.pool(queue_size_max),
            model_dir: self.parse("model_dir", "models/mini"),
            ort_dylib_path: self.parse_if_written("ort_dylib_path"),
            clip: ClipOptions {
                precision: self.parse::<Precision>("precision", "auto"),
                execution_provider: self.parse::<ExecutionProvider>("execution_provider", "cpu"),
                inference_sessions: all_cores(self.number("inference_sessions", 0, 0..=64)),
                inference_threads: all_cores(self.number("inference_threads", 1, 0..=1024)),
                preprocess_threads: all_cores(self.number("preprocess_threads", 0, 0..=1024)),
                // 8: on a CPU larger batches gain nothing (`benches/README.md`) and keep the next caller waiting longer.
                batch_size_max: self.number("batch_size_max", 8, 1..=1024),
                // 0: on a CPU n inputs take n times as long as one, so waiting for company saves nothing; batches
                // form by themselves while the session is busy.
                batch_wait_max: self.millis("batch_wait_ms_max", 0, 0..=1000),
                queue_size_max,
            },
            queue_size_max,
            requests_max: self.number("requests_max", 512, 1..=65_536),
            deadline_max: self.millis("deadline_ms_max", 10_000, 1..=600_000),
            // 64 MiB: about twenty thousand vectors of 768 dimensions.
            embedding_cache_bytes_max: self.number("embedding_cache_bytes_max", 64 << 20, 0..=1 << 40),
            search: SearchConfig {
                text_share: self.share("text_share", 0.5),
                // 0.5: of five catalogues, 0.3 finds fewer names and identifiers first, and 0.7 no more of them, and less by
                // descriptions in prose.
                keyword_share: self.share("keyword_share", 0.5),
                response_cache_bytes_max: self.number("response_cache_bytes_max", 32 << 20, 0..=1 << 40),
                // 30 s: people page back and forth within it, and stock is not yet stale after it.
                response_cache_ttl: self.millis("response_cache_ttl_ms", 30_000, 0..=86_400_000),
            },
            // 0: outside a cluster nobody watches the health service. In Kubernetes: longer than its endpoints take.
            drain_pause: self.millis("drain_pause_ms", 0, 0..=600_000),
            // 20 s: with a pause of 5 s it is over before Kubernetes kills, 30 s after SIGTERM.
            drain_max: self.millis("drain_ms_max", 20_000, 0..=600_000),
            log_format: self.parse_or("log_format", LogFormat::Text),
            log_filter: self.log_filter(log_filter),
        };
        self.refuse_unknown();
        if self.errors.is_empty() { Ok(settings) } else { Err(SettingsErrors(self.errors)) }
    }

    /// Where the index is. All of its settings are checked, those of the place that is not used, too.
    fn index(
        &mut self,
        api_key: Option<&str>,
        queue_size_max: usize,
        all_cores: impl FnOnce(usize) -> usize,
    ) -> IndexPlace {
        let edge = EdgeOptions {
            build_threads: 0,
            root: self.parse("index_dir", "data/index"),
            threads: all_cores(self.number("index_threads", 0, 0..=1024)),
            queue_size_max,
            // The server builds no generations.
            generations_kept: 2,
            quantisation: Quantisation::None,
        };
        let url = self.written("index_url").filter(|url| !url.is_empty());
        let url = url.and_then(|written| match written.parse::<ServerUrl>() {
            Ok(url) => Some(url),
            Err(problem) => {
                self.wrong("index_url", &written, problem);
                None
            }
        });
        // A hundred times what a query takes; a server that needs longer does not answer any more.
        let timeout = self.millis("index_timeout_ms", 5000, 1..=600_000);
        // 4: one connection carries about a gigabit; more only help larger answers.
        let connections = self.number("index_connections", 4, 1..=64);
        let search_width = Some(self.number("index_search_width", 0, 0..=65_536)).filter(|width| *width > 0);
        let oversampling = Some(self.number("index_oversampling", 0.0, 0.0..=64.0)).filter(|times| *times > 0.0);
        let api_key = api_key.and_then(|key| match key.parse::<ApiKey>() {
            Ok(key) => Some(key),
            Err(problem) => {
                self.errors.push(format!("`VITRINE_INDEX_API_KEY` in the environment {problem}"));
                None
            }
        });
        if self.layers.contains(API_KEY) {
            // Known now, so that it is not called unknown, too. Its value is not shown.
            self.known.insert(API_KEY);
            let problem = "is a secret, and read from the variable `VITRINE_INDEX_API_KEY` only";
            self.errors.push(format!("`{API_KEY}` in the file {problem}"));
        }
        match url {
            None => IndexPlace::Directory(edge),
            Some(url) => IndexPlace::Server(Box::new(QdrantOptions {
                api_key,
                timeout,
                connections,
                queue_size_max,
                search_width,
                oversampling,
                ..QdrantOptions::new(url)
            })),
        }
    }

    /// The embedding pool, if there is one.
    fn pool(&mut self, queue_size_max: usize) -> Option<RemoteOptions> {
        let name: PoolName = self.parse_or("embedder_name", PoolName::default());
        // 5 s: half of the longest request by default, so that there is time to ask another endpoint.
        let timeout = self.millis("embedder_timeout_ms", 5000, 1..=600_000);
        let urls = self.written(EMBEDDER_URLS).filter(|urls| !urls.is_empty())?;
        for model in MODEL_SETTINGS {
            if let Some(written) = self.written(model) {
                self.wrong(model, &written, format_args!("goes with no `{EMBEDDER_URLS}`: the pool has the model"));
            }
        }
        match urls.parse::<PoolUrls>() {
            // Every request has a deadline, and with it the last word on its patience.
            Ok(urls) => Some(RemoteOptions { name, urls, timeout, queue_size_max, patience: Duration::ZERO }),
            Err(problem) => {
                self.wrong(EMBEDDER_URLS, &urls, problem);
                None
            }
        }
    }

    /// The setting as it was written, if it was.
    fn written(&mut self, name: &'static str) -> Option<String> {
        self.known.insert(name);
        // A file that is not TOML fails every look-up; that is reported once, with the unknown names.
        let value = self.layers.find_value(name).ok()?;
        if let Value::String(_, text) = value {
            return Some(text);
        }
        // Scalars are written in JSON as in TOML; what is not a scalar fails to parse and is shown so.
        serde_json::to_string(&value).ok()
    }

    fn wrong(&mut self, name: &str, written: &str, problem: impl fmt::Display) {
        let source = self.layers.find_metadata(name).map_or("the defaults", |metadata| match metadata.name.as_ref() {
            "the environment" => "the environment",
            "TOML source string" => "the file",
            _ => "the command line",
        });
        self.errors.push(format!("`{name}` is `{written}` in {source}: {problem}"));
    }

    fn parse_or<T>(&mut self, name: &'static str, default: T) -> T
    where
        T: FromStr<Err: fmt::Display>,
    {
        let Some(written) = self.written(name) else { return default };
        written.parse().unwrap_or_else(|problem| {
            self.wrong(name, &written, problem);
            default
        })
    }

    fn parse_if_written<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let written = self.written(name)?;
        written.parse().map_err(|problem| self.wrong(name, &written, problem)).ok()
    }

    /// `default` is written as a person would, and is of the right kind.
    fn parse<T>(&mut self, name: &'static str, default: &str) -> T
    where
        T: FromStr<Err: fmt::Display>,
    {
        match default.parse() {
            Ok(default) => self.parse_or(name, default),
            Err(error) => unreachable!("default of {name}: {error}"),
        }
    }

    fn number<T>(&mut self, name: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display,
    {
        let Some(written) = self.written(name) else { return default };
        match written.parse() {
            Ok(number) if range.contains(&number) => number,
            Ok(_) | Err(_) => {
                self.wrong(name, &written, format_args!("not a number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    fn millis(&mut self, name: &'static str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(name, default, range))
    }

    fn share(&mut self, name: &'static str, default: f32) -> f32 {
        self.number(name, default, 0.0..=1.0)
    }

    /// `RUST_LOG` is no setting of ours, but can be wrong like one.
    fn log_filter(&mut self, written: Option<String>) -> LogFilter {
        let Some(written) = written else { return LogFilter::default() };
        written.parse().unwrap_or_else(|problem| {
            self.errors.push(format!("`RUST_LOG` is `{written}` in the environment: {problem}"));
            LogFilter::default()
        })
    }

    fn refuse_unknown(&mut self) {
        match self.layers.extract::<Dict>() {
            Ok(values) => {
                for name in values.keys().filter(|name| !self.known.contains(name.as_str())) {
                    self.errors.push(format!("`{name}` is not a setting; see `vitrine serve --help`"));
                }
            }
            Err(errors) => self.errors.extend(errors.into_iter().map(|error| error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, env: &[(&str, &str)], flags: &Flags) -> Result<Settings, SettingsErrors> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vitrine.toml");
        std::fs::write(&path, file).unwrap();
        let mut env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        env.push(("VITRINE_CONFIG".to_owned(), path.display().to_string()));
        Settings::load(flags, env.into_iter())
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_defaults() {
        let flags = Flags { batch_size_max: Some("3".to_owned()), ..Flags::default() };
        let file = "batch_size_max = 1\nqueue_size_max = 10\nlisten = \"127.0.0.1:1\"\n";
        let env = [
            ("VITRINE_BATCH_SIZE_MAX", "2"),
            ("VITRINE_QUEUE_SIZE_MAX", "20"),
            ("VITRINE_CATALOG", "the loader's"),
            ("VITRINE_PORT_50051_TCP", "tcp://a service link of Kubernetes"),
            ("VITRINE_EMBED_SERVICE_HOST", "another"),
        ];
        let settings = load(file, &env, &flags).unwrap();
        assert_eq!((settings.clip().batch_size_max, settings.queue_size_max()), (3, 20));
        assert_eq!(settings.listen().port(), 1);
        assert_eq!(settings.model_dir(), Path::new("models/mini"));
    }

    #[test]
    fn every_error_is_reported_with_its_source() {
        let flags = Flags { text_share: Some("NaN".to_owned()), ..Flags::default() };
        let file = "batch_sise_max = 1\nlisten = 5\n";
        let errors = load(file, &[("VITRINE_QUEUE_SIZE_MAX", "0"), ("VITRINE_PRECISION", "fp8")], &flags).unwrap_err();
        insta::assert_snapshot!(errors, @r"
        5 things are wrong in the settings:
          `queue_size_max` is `0` in the environment: not a number from 1 to 65536
          `listen` is `5` in the file: invalid socket address syntax
          `precision` is `fp8` in the environment: is `fp8`, not auto, fp32, fp16, bf16 or int8
          `text_share` is `NaN` in the command line: not a number from 0 to 1
          `batch_sise_max` is not a setting; see `vitrine serve --help`
        ");
    }

    #[test]
    fn an_address_puts_the_index_on_a_server_and_without_one_it_is_in_the_directory() {
        let settings = load("index_dir = \"here\"", &[], &Flags::default()).unwrap();
        assert!(matches!(settings.index(), IndexPlace::Directory(edge) if edge.root == Path::new("here")));
        let env = [("VITRINE_INDEX_URL", "https://qdrant.example"), ("VITRINE_INDEX_API_KEY", "s3cret")];
        let settings = load("index_oversampling = 3", &env, &Flags::default()).unwrap();
        let IndexPlace::Server(server) = settings.index() else { panic!("{:?}", settings.index()) };
        assert_eq!(server.url.to_string(), "https://qdrant.example:6334");
        assert_eq!((server.oversampling, server.api_key.clone()), (Some(3.0), "s3cret".parse().ok()));
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn a_pool_is_listed_with_commas_or_in_toml_and_goes_with_no_settings_of_a_model() {
        let env = [("ORT_DYLIB_PATH", "/somewhere"), ("VITRINE_EMBEDDER_NAME", "gpu")];
        let settings = load("embedder_urls = [\"http://a:1\", \"http://b:2\"]", &env, &Flags::default()).unwrap();
        let pool = settings.pool().unwrap();
        assert_eq!((pool.urls.get().len(), pool.name.to_string()), (2, "gpu".to_owned()));
        assert_eq!((pool.timeout, settings.ort_dylib_path()), (Duration::from_secs(5), None));
        let settings = load("embedder_urls = \"\"", &env, &Flags::default()).unwrap();
        assert_eq!((settings.pool().is_none(), settings.ort_dylib_path()), (true, Some(Path::new("/somewhere"))));

        let flags = Flags { embedder_urls: Some("http://a:1,b".to_owned()), ..Flags::default() };
        let env = [("VITRINE_ORT_DYLIB_PATH", "/here"), ("VITRINE_EMBEDDER_TIMEOUT_MS", "0")];
        let errors = load("model_dir = \"models/mini\"\nbatch_size_max = 4", &env, &flags).unwrap_err();
        insta::assert_snapshot!(errors, @r"
        5 things are wrong in the settings:
          `embedder_timeout_ms` is `0` in the environment: not a number from 1 to 600000
          `model_dir` is `models/mini` in the file: goes with no `embedder_urls`: the pool has the model
          `ort_dylib_path` is `/here` in the environment: goes with no `embedder_urls`: the pool has the model
          `batch_size_max` is `4` in the file: goes with no `embedder_urls`: the pool has the model
          `embedder_urls` is `http://a:1,b` in the command line: `b` is not an address such as `http://127.0.0.1:50051`
        ");
    }

    #[test]
    fn a_key_is_refused_in_a_file_and_not_shown_when_it_is_wrong() {
        let (file, env) = ("index_api_key = \"s3cret\"", [("VITRINE_INDEX_API_KEY", "s3 cret")]);
        let errors = load(file, &env, &Flags::default()).unwrap_err();
        insta::assert_snapshot!(errors, @r"
        2 things are wrong in the settings:
          `VITRINE_INDEX_API_KEY` in the environment is empty, or has a character that is not visible ASCII
          `index_api_key` in the file is a secret, and read from the variable `VITRINE_INDEX_API_KEY` only
        ");
    }

    #[test]
    fn what_is_no_address_of_an_index_is_an_error() {
        let flags = Flags { index_url: Some("qdrant:6334".to_owned()), ..Flags::default() };
        let errors = load("index_connections = 0", &[], &flags).unwrap_err();
        insta::assert_snapshot!(errors, @r"
        2 things are wrong in the settings:
          `index_url` is `qdrant:6334` in the command line: is not an address such as `http://127.0.0.1:6334`
          `index_connections` is `0` in the file: not a number from 1 to 64
        ");
    }

    #[test]
    fn a_log_filter_that_cannot_be_read_is_an_error_that_names_the_variable() {
        let errors = load("", &[("RUST_LOG", "vitrine_server=loud")], &Flags::default()).unwrap_err().to_string();
        assert!(errors.contains("`RUST_LOG` is `vitrine_server=loud` in the environment: "), "{errors}");
        let settings = load("", &[("RUST_LOG", "warn,vitrine_index=debug")], &Flags::default()).unwrap();
        assert_eq!(*settings.log_filter(), "warn,vitrine_index=debug".parse().unwrap());
        assert_eq!(*load("", &[], &Flags::default()).unwrap().log_filter(), LogFilter::default());
    }

    #[test]
    fn a_file_that_is_not_there_is_said_once() {
        let flags = Flags { config: Some("/nowhere/vitrine.toml".into()), ..Flags::default() };
        let errors = Settings::load(&flags, std::iter::empty()).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert!(errors.to_string().contains("/nowhere/vitrine.toml"), "{errors}");
    }
}
