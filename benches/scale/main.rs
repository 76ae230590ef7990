//! `index-bench`: the index at scale, and filters of every kind and selectivity. See `benches/README.md`.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the report is its output; a bench that panics has failed; numbers are drawn and averaged, not counted"
)]

mod ask;
mod cli;
mod load;
mod measure;
mod plot;
mod process;
mod report;
mod shop;
mod truth;

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use chrono::Utc;
use clap::Parser as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::{Builder, Runtime};
use vitrine_core::{
    index::{IndexError, ProductIndex},
    product::CatalogName,
};
use vitrine_index::{BuildOptions, EdgeOptions, IndexPlace, QdrantOptions};

use crate::{
    ask::{Case, questions},
    cli::Arguments,
    load::{keep, kept, load},
    measure::{beside_a_process, beside_a_thread, row},
    process::{Clock, Memory},
    report::{Report, phases},
    shop::{DIMENSIONS, Shop},
    truth::truth,
};

/// As the server and the loader have it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let shop = Shop::new(arguments.products.try_into()?, arguments.seed, arguments.shape);
    let quantisation = format!("{:?}", arguments.index_quantisation).to_lowercase();
    let shape = format!("{:?}", arguments.shape).to_lowercase();
    let name = format!("{shape}-{}-{}-{quantisation}", arguments.products, arguments.seed);
    let catalog = CatalogName::new(&name)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let memory_before = Memory::now();
    let index: Arc<dyn ProductIndex> = vitrine_index::open(place(arguments)).context("open the index")?;
    let clock = Clock::start();
    let generation = match runtime.block_on(index.current(&catalog)) {
        Err(IndexError::UnknownCatalog(_)) => {
            fill(&runtime, &*index, &catalog, &shop, arguments)?;
            if arguments.load_only {
                return Ok(());
            }
            drop((index, runtime));
            // What loading left in memory is not what serving takes: begin anew.
            return Err(Command::new(env::current_exe()?).args(env::args_os().skip(1)).exec()).context("begin anew");
        }
        generation => generation.context("open the generation")?,
    };
    let (open, memory_open) = (clock.spent(), Memory::now());
    if arguments.load_only {
        return Ok(());
    }
    if let Some(per_cent) = arguments.again {
        drop(generation);
        let loaded = runtime.block_on(load(&*index, &catalog, &shop, directory(arguments), &|_| (), Some(per_cent)))?;
        println!("{}", phases(&loaded));
        return Ok(());
    }
    let info = generation.info();
    ensure!(info.model.fingerprint == shop.fingerprint(), "`{catalog}` was loaded by another version of this program");
    let meter = PrometheusBuilder::new().install_recorder().context("start counting")?;

    let (cases, rounds) = (wanted(&shop, &arguments.only)?, usize::from(arguments.rounds));
    let words = info.keywords().context("its products have no keywords")?;
    let questions = questions(&shop, &cases, arguments.queries.into(), &words.common);
    eprintln!("comparing {} queries with all products", questions.len());
    let truth = truth(&shop, &cases, &questions);
    let mut rows = Vec::new();
    for (nth, case) in cases.iter().enumerate() {
        let answers: Vec<_> = truth.iter().map(|answers| &answers[nth]).collect();
        rows.push(row(&runtime, &*generation, (nth, case), (&questions, &answers), rounds, &meter)?);
        eprintln!("{}", case.name());
    }
    let memory_asked = Memory::now();
    let mut beside = Vec::new();
    if arguments.beside > 0 {
        let products = arguments.beside.try_into()?;
        beside.extend(beside_a_thread(&runtime, &index, &*generation, (&cases, &questions), products)?);
    }
    if arguments.beside_process > 0 {
        let products = arguments.beside_process.to_string();
        let mut options =
            vec!["--products".to_owned(), products, "--seed".to_owned(), Utc::now().timestamp().to_string()];
        match &arguments.index_url {
            Some(url) => options.extend(["--index-url".to_owned(), url.to_string()]),
            None => options.extend(["--index-dir".to_owned(), arguments.index_dir.display().to_string()]),
        }
        beside.extend(beside_a_process(&runtime, &*generation, (&cases, &questions), &options)?);
    }
    let report = Report {
        tool: "index-bench",
        version: env!("CARGO_PKG_VERSION"),
        started: Utc::now().to_rfc3339(),
        index: arguments.index_url.as_ref().map_or_else(|| "Qdrant Edge".to_owned(), |url| format!("Qdrant at {url}")),
        quantisation,
        shape,
        products: shop.products,
        dimensions: DIMENSIONS,
        seed: arguments.seed,
        queries: questions.len(),
        rounds,
        loaded: kept(&arguments.index_dir, &catalog),
        open,
        memory_before,
        memory_open,
        memory_asked,
        rows,
        beside,
    };
    if let Some(directory) = &arguments.report {
        report.write(directory)?;
    }
    print!("{report}");
    Ok(())
}

fn fill(
    runtime: &Runtime,
    index: &dyn ProductIndex,
    catalog: &CatalogName,
    shop: &Shop,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let loaded = runtime.block_on(load(index, catalog, shop, directory(arguments), &|_| (), None))?;
    std::fs::create_dir_all(&arguments.index_dir)?;
    keep(&arguments.index_dir, catalog, &loaded)
}

/// Where the index is, if that is a directory.
fn directory(arguments: &Arguments) -> Option<&Path> {
    arguments.index_url.is_none().then_some(arguments.index_dir.as_path())
}

fn place(arguments: &Arguments) -> IndexPlace {
    match arguments.index_url.clone() {
        Some(url) => {
            let build = BuildOptions { quantisation: arguments.index_quantisation, ..BuildOptions::default() };
            // A busy server may take long to take in a batch.
            let timeout = std::time::Duration::from_mins(1);
            let rest_urls = arguments.index_rest_urls.clone();
            IndexPlace::Server(Box::new(QdrantOptions { rest_urls, build, timeout, ..QdrantOptions::new(url) }))
        }
        None => IndexPlace::Directory(EdgeOptions {
            build_threads: 0,
            root: arguments.index_dir.clone(),
            threads: 1,
            queue_size_max: 16,
            generations_kept: 1,
            quantisation: arguments.index_quantisation,
        }),
    }
}

fn wanted(shop: &Shop, only: &[String]) -> anyhow::Result<Vec<Case>> {
    let mut cases = Case::all(shop);
    cases.retain(|case| only.is_empty() || only.iter().any(|text| case.name().contains(text.as_str())));
    ensure!(!cases.is_empty(), "no row has a name with {only:?} in it");
    Ok(cases)
}
