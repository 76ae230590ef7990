//! A whole measurement: connections, a run or a search for a rate, and its report.

use std::{fs, process::exit, sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::{SecondsFormat, Utc};
use tokio::sync::watch;

use crate::{
    ask::Asker,
    cli::Arguments,
    connection::Connections,
    find::{RateSearch, Step, holds},
    live::Live,
    report::{Report, Search},
    run::{Generator, Load, Run},
    summary::Summary,
    target::Target,
    workload::Workload,
};

/// The first rate that a search tries, in requests per second: what a server on two cores should hold.
const FIRST_RATE: f64 = 10.0;
/// Warm-up of the steps after a search's first, in s: the time in which the server comes to terms with the new rate.
const STEP_WARM_UP_SECONDS: u32 = 1;
/// As a shell reports a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Measures, and writes the report's files where they are asked for.
///
/// # Errors
/// When the server cannot be reached, or the report not be written.
pub(crate) fn measure(
    arguments: &Arguments,
    target: &Target,
    workload: Workload,
    command_line: String,
) -> anyhow::Result<Report> {
    // Made first: it would be a pity to notice after the run.
    if let Some(directory) = &arguments.report {
        fs::create_dir_all(directory).with_context(|| format!("--report: make {}", directory.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.threads)
        .enable_all()
        .build()
        .context("start")?;
    let started = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let queries = workload.describe();
    let (summary, search, interrupted) = runtime.block_on(send(arguments, target, workload))?;
    let mut report = Report {
        tool: env!("CARGO_BIN_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        started,
        command_line,
        server: arguments.server.clone(),
        catalog: arguments.catalog.clone(),
        seed: arguments.seed,
        load: describe(arguments),
        workload: queries,
        deadline_ms: arguments.deadline_ms,
        interrupted,
        warnings: Vec::new(),
        summary,
        search,
    };
    report.warn();
    if let Some(directory) = &arguments.report {
        report.write(directory)?;
    }
    Ok(report)
}

async fn send(
    arguments: &Arguments,
    target: &Target,
    workload: Workload,
) -> anyhow::Result<(Summary, Option<Search>, bool)> {
    let connections = Connections::open(target, arguments.connections).await?;
    let stop = stop_at_ctrl_c();
    let generator = Generator {
        asker: Arc::new(Asker::new(connections, target, arguments.deadline_ms)?),
        workload: Arc::new(workload),
        seed: arguments.seed,
        deadline: Duration::from_millis(arguments.deadline_ms.into()),
        stop: stop.clone(),
    };
    let open = |rate| Load::Open { rate, arrivals: arguments.arrivals, in_flight_max: arguments.in_flight_max };
    let (summary, search) = match (arguments.p99_ms_max, arguments.clients, arguments.rate) {
        (Some(p99_ms_max), _, rate) => {
            let first = RateSearch::new(rate.unwrap_or(FIRST_RATE));
            let (summary, search) = find_rate(&generator, arguments, open, first, p99_ms_max).await?;
            (summary, Some(search))
        }
        (None, Some(clients), _) => (run(&generator, arguments, Load::Closed { clients }).await, None),
        (None, None, rate) => (run(&generator, arguments, open(rate.context("--rate is needed")?)).await, None),
    };
    let interrupted = *stop.borrow();
    Ok((summary, search, interrupted))
}

async fn run(generator: &Generator, arguments: &Arguments, load: Load) -> Summary {
    let run = Run::new(generator.clone(), arguments.warm_up_seconds, arguments.seconds);
    let _live = Live::show(&run);
    run.go(load).await
}

/// Tries rates; says each step on stderr.
async fn find_rate(
    generator: &Generator,
    arguments: &Arguments,
    open: impl Fn(f64) -> Load,
    mut search: RateSearch,
    p99_ms_max: f64,
) -> anyhow::Result<(Summary, Search)> {
    let mut steps: Vec<Step> = Vec::new();
    let mut warm_up_seconds = arguments.warm_up_seconds;
    while let Some(rate) = search.next() {
        let run = Run::new(generator.clone(), warm_up_seconds, arguments.step_seconds);
        warm_up_seconds = STEP_WARM_UP_SECONDS;
        let live = Live::show(&run);
        let summary = run.go(open(rate)).await;
        drop(live);
        let interrupted = *generator.stop.borrow();
        // A step that was cut short proves nothing.
        let held = !interrupted && holds(&summary, p99_ms_max);
        let step = Step { rate_per_second: rate, held, summary };
        eprintln!("step {}: {}", steps.len() + 1, step.describe());
        steps.push(step);
        if interrupted {
            break;
        }
        search.tried(rate, held);
    }
    let best = steps.iter().rfind(|step| step.held).or(steps.last());
    let summary = best.context("no rate was tried")?.summary.clone();
    Ok((summary, Search { p99_ms_max, rate_found: search.found(), steps }))
}

/// Turns true at the first Ctrl-C; the second one ends the process.
fn stop_at_ctrl_c() -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("ending: waiting for the answers on their way; Ctrl-C again ends at once, without a report");
            stop.send_replace(true);
            if tokio::signal::ctrl_c().await.is_ok() {
                exit(EXIT_INTERRUPTED);
            }
        }
    });
    stopped
}

fn describe(arguments: &Arguments) -> String {
    let Arguments { arrivals, connections, .. } = arguments;
    let load = match (arguments.p99_ms_max, arguments.clients, arguments.rate) {
        (Some(_), ..) => format!("open loop of growing rates, {arrivals} arrivals"),
        (None, Some(clients), _) => format!("closed loop, clients: {clients}"),
        (None, None, rate) => format!("open loop of {} requests per second, {arrivals} arrivals", rate.unwrap_or(0.0)),
    };
    format!("{load}, connections: {connections}")
}
