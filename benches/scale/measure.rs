//! Asking the index, and comparing what it answers with the truth.

use std::{
    env,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use vitrine_core::{
    index::{Generation, ProductIndex},
    product::CatalogName,
};

use crate::{
    ask::{Case, Kind, LIMIT, Question, Sides},
    load::load,
    shop::{Shape, Shop, number},
    truth::Answer,
};

/// Queries that nobody times, before each row.
const WARM_UP: usize = 50;
/// The phases of a load that goes on beside queries.
const PHASES: [&str; 3] = ["quiet", "while products are added", "while the graphs are built"];
/// How long it is quiet before that.
const QUIET: Duration = Duration::from_secs(5);

/// How a row was answered. Times are in ms.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// Of the products that should pass.
    pub(crate) share: f64,
    pub(crate) words: bool,
    /// Products that pass, on average.
    pub(crate) passed: f64,
    /// Of the ten nearest that pass, or of all if they are fewer.
    pub(crate) recall: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) mean_ms: f64,
    /// What of the mean the index itself took, as it is known to the process.
    pub(crate) index_ms: f64,
}

/// Asks every query of a case, several times.
pub(crate) fn row(
    runtime: &Runtime,
    generation: &dyn Generation,
    (nth, case): (usize, &Case),
    (questions, answers): (&[Question], &[&Answer]),
    rounds: usize,
    meter: &PrometheusHandle,
) -> anyhow::Result<Row> {
    for question in questions.iter().take(WARM_UP) {
        runtime.block_on(generation.search(question.query(nth, case)))?;
    }
    let (mut times, before) = (times(), index_seconds(meter));
    let (mut found, mut wanted) = (0, 0);
    for round in 0..rounds {
        for (question, answer) in questions.iter().zip(answers) {
            let query = question.query(nth, case);
            let started = Instant::now();
            let hits = runtime.block_on(generation.search(query))?;
            times.saturating_record(nanos(started.elapsed()));
            if round == 0 {
                wanted += answer.best.len();
                let numbers = hits.iter().take(LIMIT).filter_map(|hit| number(&hit.product.id));
                found += numbers.filter(|number| answer.best.contains(number)).count();
            }
        }
    }
    let index_seconds = index_seconds(meter) - before;
    Ok(Row {
        name: case.name(),
        kind: case.kind.name(),
        share: case.share,
        words: case.sides != Sides::Photo,
        passed: answers.iter().map(|answer| answer.passed).sum::<usize>() as f64 / answers.len() as f64,
        recall: if wanted == 0 { 1.0 } else { f64::from(u32::try_from(found)?) / f64::from(u32::try_from(wanted)?) },
        p50_ms: ms(times.value_at_quantile(0.5)),
        p99_ms: ms(times.value_at_quantile(0.99)),
        max_ms: ms(times.max()),
        mean_ms: times.mean() / 1e6,
        index_ms: index_seconds * 1e3 / times.len() as f64,
    })
}

/// How long queries took in one phase of a load beside them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Beside {
    pub(crate) loader: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) queries: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// Asks without a pause while a thread of this process loads another catalogue.
pub(crate) fn beside_a_thread(
    runtime: &Runtime,
    index: &Arc<dyn ProductIndex>,
    generation: &dyn Generation,
    (cases, questions): (&[Case], &[Question]),
    products: usize,
) -> anyhow::Result<Vec<Beside>> {
    let phase = Arc::new(AtomicUsize::new(0));
    let (index, seen) = (Arc::clone(index), Arc::clone(&phase));
    let loading = thread::spawn(move || -> anyhow::Result<()> {
        thread::sleep(QUIET);
        let shop = Shop::new(products, 2, Shape::Categories);
        let catalog = CatalogName::new("index-bench-beside")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let phase = |phase| seen.store(phase, Ordering::Relaxed);
        runtime.block_on(load(&*index, &catalog, &shop, None, &phase, None)).map(drop)
    });
    let over = || loading.is_finished();
    let rows = ask_until(runtime, generation, (cases, questions), "a thread", over, || phase.load(Ordering::Relaxed));
    loading.join().map_err(|_| anyhow!("the loading thread panicked"))??;
    rows
}

/// Asks without a pause while another process loads another catalogue below the same directory.
pub(crate) fn beside_a_process(
    runtime: &Runtime,
    generation: &dyn Generation,
    (cases, questions): (&[Case], &[Question]),
    options: &[String],
) -> anyhow::Result<Vec<Beside>> {
    let mut child = None;
    let started = Instant::now();
    let mut loader = || -> anyhow::Result<bool> {
        if child.is_none() && started.elapsed() > QUIET {
            child = Some(spawn(options)?);
        }
        let Some(child) = &mut child else { return Ok(false) };
        let ended = child.try_wait()?;
        anyhow::ensure!(ended.is_none_or(|status| status.success()), "the loading process failed");
        Ok(ended.is_some())
    };
    let mut failure = None;
    let over = || {
        loader().unwrap_or_else(|error| {
            failure = Some(error);
            true
        })
    };
    let rows = ask_until(runtime, generation, (cases, questions), "a process", over, || {
        usize::from(started.elapsed() > QUIET) * 2
    });
    failure.map_or(rows, Err)
}

fn spawn(options: &[String]) -> anyhow::Result<Child> {
    let program = env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(options).arg("--load-only").stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("start a loader")
}

fn ask_until(
    runtime: &Runtime,
    generation: &dyn Generation,
    (cases, questions): (&[Case], &[Question]),
    loader: &'static str,
    mut over: impl FnMut() -> bool,
    phase: impl Fn() -> usize,
) -> anyhow::Result<Vec<Beside>> {
    let mut phases = PHASES.map(|_| times());
    // What takes long by itself would hide that something waited.
    let plain = |case: &Case| case.sides == Sides::Photo && (case.kind == Kind::None || case.kind == Kind::Price);
    let plain: Vec<_> = cases.iter().enumerate().filter(|(_, case)| plain(case)).collect();
    'asking: loop {
        for question in questions {
            for (nth, case) in &plain {
                if over() {
                    break 'asking;
                }
                let query = question.query(*nth, case);
                let (started, during) = (Instant::now(), phase());
                runtime.block_on(generation.search(query))?;
                phases[during].saturating_record(nanos(started.elapsed()));
            }
        }
    }
    let rows = PHASES.into_iter().zip(&phases).filter(|(_, times)| !times.is_empty());
    let row = |(phase, times): (&'static str, &Histogram<u64>)| Beside {
        loader,
        phase,
        queries: times.len(),
        p50_ms: ms(times.value_at_quantile(0.5)),
        p99_ms: ms(times.value_at_quantile(0.99)),
        p999_ms: ms(times.value_at_quantile(0.999)),
        max_ms: ms(times.max()),
    };
    Ok(rows.map(row).collect())
}

/// Up to a minute, in ns.
fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// What the index has taken of all queries so far.
fn index_seconds(meter: &PrometheusHandle) -> f64 {
    let numbers = meter.render();
    let sum = numbers.lines().filter_map(|line| line.strip_prefix("vitrine_index_query_seconds_sum"));
    sum.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
