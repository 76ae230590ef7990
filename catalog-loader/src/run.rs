//! The whole load, from arguments to summary.

use std::{
    env,
    error::Error,
    fmt, io,
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use vitrine_clip::{ClipEmbedder, ClipOptions, Runtime};
use vitrine_core::{
    cache::CachedEmbedder,
    compute::blocking,
    embed::Embedder,
    gate::{self, GateReport},
    index::{IndexError, Origin, SealedGeneration, Start},
};
use vitrine_index::{ApiKey, ServedIndex};
use vitrine_remote::{RemoteEmbedder, RemoteOptions};

use crate::{
    cli::Arguments,
    dead_letters::DeadLetters,
    feed::Feed,
    ingest::{Ingest, IngestError, Tally},
    pictures::Pictures,
    progress::Progress,
    survey::{Survey, survey},
};

/// Texts repeat in a feed (the same title in many sizes), pictures hardly do: 16 MiB hold the texts.
const CACHE_BYTES_MAX: u64 = 16 << 20;
/// Rows in work for each core: one is decoded while another is inferred and others wait for the disk.
const ROWS_PER_CORE: usize = 4;

/// Longest wait for the removal of a generation that is not published. 5 s: who stops a program waits ten at most.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Why no new generation serves. The old one does, as before.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such feed.
    #[error("{}: {reason}", path.display())]
    NoFeed {
        /// The feed.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The feed cannot be read to its end.
    #[error("read the feed")]
    Unreadable(#[source] io::Error),
    /// The new generation did not pass.
    #[error("the new generation did not pass the gate: {0}")]
    Gate(String),
    /// The model cannot be used.
    #[error("{context}")]
    Model {
        /// What was tried.
        context: &'static str,
        /// What came of it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The index cannot be used.
    #[error(transparent)]
    Index(IndexError),
    /// The dead letters cannot be written.
    #[error("write the dead letters")]
    DeadLetters(#[source] io::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl LoadError {
    /// For the scheduler, after sysexits.h; the command line's help lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable(_) | Self::Gate(_) => 65,
            Self::NoFeed { .. } => 66,
            Self::Index(IndexError::Locked(_)) => 75,
            Self::Model { .. } | Self::Index(_) | Self::DeadLetters(_) => 69,
            Self::Interrupted => 130,
        }
    }
}

impl LoadError {
    fn model<E: Into<Box<dyn Error + Send + Sync>>>(context: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Model { context, source: error.into() }
    }
}

impl From<IngestError> for LoadError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Feed(error) => Self::Unreadable(error),
            IngestError::DeadLetters(error) => Self::DeadLetters(error),
            IngestError::Index(error) => Self::Index(error),
            IngestError::Model(error) => Self::model("embed")(error),
        }
    }
}

/// What was loaded.
#[derive(Debug)]
pub struct Summary {
    generation: String,
    origin: Origin,
    survey: Survey,
    tally: Tally,
    gate: GateReport,
    dead_letters: PathBuf,
    took: Duration,
}

/// Loads the feed.
///
/// # Errors
/// See [`LoadError`].
pub fn run(arguments: &Arguments, api_key: Option<ApiKey>) -> Result<Summary, LoadError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(LoadError::model("start the async runtime"))?;
    let outcome = runtime.block_on(async {
        let index = vitrine_index::open(arguments.index_place(api_key)).map_err(LoadError::Index)?;
        let outcome = load_and_publish(arguments, &*index).await;
        // A generation that did not get so far is being removed. What is left of it, the next loader has to wait for.
        drop(tokio::time::timeout(SETTLE_MAX, index.settle()).await);
        outcome
    });
    // Whatever still runs after an interruption is of no use.
    runtime.shutdown_background();
    outcome
}

async fn load_and_publish(arguments: &Arguments, index: &dyn ServedIndex) -> Result<Summary, LoadError> {
    let (summary, sealed) = tokio::select! {
        outcome = load(arguments, index) => outcome?,
        () = interrupted() => return Err(LoadError::Interrupted),
    };
    // Not to be interrupted: what is published serves, and the exit code must say so.
    sealed.publish().await.map_err(LoadError::Index)?;
    Ok(summary)
}

/// Waits for Ctrl-C, or SIGTERM where there is one.
async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Builds a new generation that has passed the gate, and serves once it is published.
async fn load(
    arguments: &Arguments,
    index: &dyn ServedIndex,
) -> Result<(Summary, Box<dyn SealedGeneration>), LoadError> {
    let started = Instant::now();
    let no_feed = |reason| LoadError::NoFeed { path: arguments.feed.clone(), reason };
    let feed = Feed::new(&arguments.feed).map_err(no_feed)?;
    if let Err(error) = std::fs::File::open(&arguments.feed) {
        return Err(no_feed(error.to_string()));
    }
    let survey = blocking({
        let feed = feed.clone();
        move || survey(&feed)
    });
    let survey = survey.await.map_err(io::Error::other).flatten().map_err(LoadError::Unreadable)?;

    let (embedder, at_once) = if let Some((pool, at_once)) = arguments.pool() {
        (connect(&pool).await?, at_once)
    } else {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if arguments.threads == 0 { cores } else { arguments.threads };
        (remembering(load_model(arguments, threads)?), threads * ROWS_PER_CORE)
    };
    let start = if arguments.full { Start::Empty } else { Start::Serving };
    let builder = index.build(&arguments.catalog, embedder.model(), &survey.schema, start).await;
    let builder = builder.map_err(LoadError::Index)?;
    let origin = builder.origin().clone();

    let mut dead_letters = DeadLetters::create(&arguments.dead_letters).map_err(LoadError::DeadLetters)?;
    let mut progress = Progress::start(survey.rows);
    let ingest =
        Ingest { embedder: &*embedder, pictures: Pictures::new(feed.directory()), schema: &survey.schema, at_once };
    let ingested = ingest.run(&feed, &*builder, &mut dead_letters, &mut progress).await;
    progress.finish();
    let dead_letters = dead_letters.close().map_err(LoadError::DeadLetters)?;
    let (tally, probes) = ingested?;
    check_tally(&tally, &survey, arguments).map_err(LoadError::Gate)?;

    let sealed = builder.seal().await.map_err(LoadError::Index)?;
    let generation = sealed.generation();
    let id = generation.info().id.clone();
    let gate = gate::check(&*generation, &probes).await.map_err(LoadError::Index)?;
    drop(generation);
    if gate.found_share() < arguments.found_share_min {
        let lost: Vec<_> = gate.lost.iter().take(5).map(ToString::to_string).collect();
        let lost = lost.join(", ");
        let found = gate.probes - gate.lost.len();
        let min = arguments.found_share_min;
        let problem = format!("only {found} of {} products found themselves, less than {min}: {lost}", gate.probes);
        return Err(LoadError::Gate(problem));
    }
    Ok((Summary { generation: id, origin, survey, tally, gate, dead_letters, took: started.elapsed() }, sealed))
}

async fn connect(pool: &RemoteOptions) -> Result<Box<dyn Embedder>, LoadError> {
    let remote = RemoteEmbedder::connect(pool, Some(pool.patience)).await;
    Ok(remembering(remote.map_err(LoadError::model("connect to the embedding pool"))?))
}

fn remembering(embedder: impl Embedder) -> Box<dyn Embedder> {
    Box::new(CachedEmbedder::new(embedder, CACHE_BYTES_MAX))
}

fn load_model(arguments: &Arguments, threads: usize) -> Result<ClipEmbedder, LoadError> {
    let executable = env::current_exe().map_err(LoadError::model("find this program"))?;
    let runtime = Runtime::load(arguments.ort_dylib_path.as_deref(), &executable);
    let runtime = runtime.map_err(LoadError::model("load the model"))?;
    let options = ClipOptions {
        precision: arguments.precision,
        execution_provider: arguments.execution_provider,
        inference_sessions: threads,
        inference_threads: 1,
        preprocess_threads: threads,
        batch_size_max: 8,
        batch_wait_max: Duration::ZERO,
        // Never full: fewer rows are in work at once.
        queue_size_max: threads * ROWS_PER_CORE * 2,
    };
    ClipEmbedder::load(&runtime, &arguments.model_dir, options).map_err(LoadError::model("load the model"))
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn check_tally(tally: &Tally, survey: &Survey, arguments: &Arguments) -> Result<(), String> {
    if usize::try_from(survey.rows) != Ok(tally.rows) {
        return Err(format!("the feed changed while it was read: {} rows, then {}", survey.rows, tally.rows));
    }
    if tally.products == 0 {
        return Err(format!("no product could be loaded; {} tells why", arguments.dead_letters.display()));
    }
    let (failed, max) = (tally.rows_failed as f64 / tally.rows as f64, arguments.failures_share_max);
    if failed > max {
        let dead_letters = arguments.dead_letters.display();
        return Err(format!(
            "{} of {} rows failed, more than a share of {max}; {dead_letters} tells why",
            tally.rows_failed, tally.rows
        ));
    }
    Ok(())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, origin, survey, tally, gate, dead_letters, took } = self;
        writeln!(f, "generation {generation} serves, after {took:.1?}")?;
        match origin {
            Origin::Generation(from) => {
                writeln!(
                    f,
                    "  begun     with generation {from}, {} of whose products are kept as they are",
                    tally.kept
                )?;
            }
            Origin::Nothing(why) => writeln!(f, "  begun     with nothing: {why}")?,
        }
        writeln!(f, "  rows      {} ({} failed)", tally.rows, tally.rows_failed)?;
        writeln!(f, "  products  {}", tally.products)?;
        writeln!(f, "  pictures  {} ({} failed)", tally.pictures, tally.pictures_failed)?;
        writeln!(f, "  gate      {} of {} products found themselves", gate.probes - gate.lost.len(), gate.probes)?;
        writeln!(f, "  attributes")?;
        for (name, spec) in &survey.schema.attributes {
            let currencies: Vec<_> = spec.currencies.iter().map(ToString::to_string).collect();
            let kind = format!("{} {}", spec.kind, currencies.join(", "));
            writeln!(f, "    {name:<24} {kind:<14} in {} rows", survey.filled.get(name).unwrap_or(&0))?;
        }
        for (name, reason) in &survey.ignored {
            writeln!(f, "    {name:<24} left out: {reason}")?;
        }
        if tally.rows_failed + tally.pictures_failed > 0 {
            write!(f, "  what failed is in {}", dead_letters.display())?;
        } else {
            write!(f, "  nothing failed")?;
        }
        Ok(())
    }
}
