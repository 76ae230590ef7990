//! What Prometheus may ask for: [`vitrine_core::meter`] over HTTP, at `/metrics`.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use anyhow::Context as _;
use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, task::JoinSet, time};
use vitrine_core::meter;

/// Upper bounds in seconds, from a cached answer to the longest deadline by default.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// How often samples are folded into their buckets; nobody may come to ask for them.
const UPKEEP: Duration = Duration::from_secs(5);
const SIZES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// A process has one recorder, however many servers it runs.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to count, before anything is counted.
///
/// # Errors
/// When the process has another recorder already.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZES));
    let handle = builder.and_then(PrometheusBuilder::install_recorder).context("start counting")?;
    meter::describe();
    Ok(RECORDER.get_or_init(|| handle).clone())
}

/// Answers until the set is dropped.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, handle: PrometheusHandle) -> anyhow::Result<JoinSet<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} for metrics"))?;
    tracing::info!(address = %listener.local_addr().context("read the address of metrics")?, "metrics at /metrics");
    let mut tasks = JoinSet::new();
    let answers = handle.clone();
    let router = Router::new().route("/metrics", get(move || std::future::ready(answers.render())));
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    tasks.spawn(async move {
        let mut ticks = time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            handle.run_upkeep();
        }
    });
    Ok(tasks)
}
