//! Running the service: model and index up, gRPC, readiness, drain.

use std::{env, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{net::TcpListener, runtime, task::JoinHandle, time};
use tonic::transport::{Server, server::TcpIncoming};
use vitrine_clip::{ClipEmbedder, Runtime};
use vitrine_core::{cache::CachedEmbedder, embed::Embedder, limits::MESSAGE_BYTES_MAX, search::Search};
use vitrine_index::{IndexPlace, ServedIndex};
use vitrine_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        catalog_service_server::CatalogServiceServer, embedding_service_server::EmbeddingServiceServer,
        recommendation_service_server::RecommendationServiceServer,
    },
};
use vitrine_remote::{RemoteEmbedder, RemoteOptions};

use crate::{
    grpc::{Admission, Parts, Service},
    health::{Ability, Health},
    metrics,
    settings::Settings,
    stop::{Stop, stop_signal},
};

/// Bytes that a client may send on one stream before the server has read them: a typical photo whole.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Streams of a connection beside those of requests in work: health checks, and requests that are refused in words.
/// What comes beyond them is held back by its client.
const SPARE_STREAMS: u32 = 64;

/// Time for the last answers to reach their clients, and for connections to close by themselves.
const CLOSE_GRACE: Duration = Duration::from_millis(250);

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the model cannot be used or the address cannot be listened on.
pub fn serve(settings: Settings) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().context("start the async runtime")?;
    let outcome = runtime.block_on(async {
        let listener =
            TcpListener::bind(settings.listen()).await.with_context(|| format!("listen on {}", settings.listen()))?;
        let (pause, stop) = (settings.drain_pause(), stop_signal().context("listen for signals")?);
        run(listener, settings, async move {
            // Ctrl-C has no load balancer behind it that must notice first.
            if stop.await == Stop::Terminate { pause } else { Duration::ZERO }
        })
        .await
    });
    // A generation may still be on its way to nobody.
    runtime.shutdown_timeout(CLOSE_GRACE);
    outcome
}

/// Serves on a listener until `stop` is ready, which says how long to go on after readiness is off.
///
/// # Errors
/// When the model cannot be used, or the transport fails.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    stop: impl Future<Output = Duration>,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("read the address")?;
    let mut stop = std::pin::pin!(stop);
    // Before anything is counted.
    let _metrics = match settings.metrics_listen() {
        Some(address) => Some(metrics::serve(address, metrics::install()?).await?),
        None => None,
    };
    let index = vitrine_index::open(settings.index().clone())?;
    // A model is there soon: callers that come before it wait in the listener's queue. A pool may be away for long.
    let (pool, mut embedder) = (settings.pool(), None);
    if pool.is_none() {
        let mut model = load_model(&settings);
        embedder = tokio::select! {
            model = start_model(&settings, &mut model, &*index) => Some(model?),
            _ = &mut stop => None,
        };
        if embedder.is_none() {
            tracing::info!("stopping before it could serve");
            // ONNX Runtime cannot be interrupted, and the process must not end, and with it what it uses, while it works.
            drop(model.await);
            return Ok(());
        }
    }
    let awaited = pool.map(|pool| format!("embedding pool `{}` does not answer yet", pool.name));
    let service = Service::new(awaited.unwrap_or_default());
    let serve = |embedder: &Arc<dyn Embedder>| {
        let index = Arc::<dyn ServedIndex>::clone(&index);
        let search = Search::new(Arc::clone(embedder), index, settings.search());
        service.start(Parts::new(search, Arc::clone(embedder)));
    };
    let requests = Admission::new(settings.requests_max(), settings.deadline_max());
    let recommendation = RecommendationServiceServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let catalog = CatalogServiceServer::new(service.clone());
    let embedding = EmbeddingServiceServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);

    let (reporter, health_service) = tonic_health::server::health_reporter();
    let mut health = Health::new(reporter);
    let (draining, drain) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
        .max_concurrent_streams(streams_max(settings.requests_max()))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(health_service)
        .add_service(reflection().build_v1().context("describe the contract")?)
        .add_service(reflection().build_v1alpha().context("describe the contract")?)
        .add_service(requests.before(recommendation))
        .add_service(requests.before(catalog))
        .add_service(requests.before(embedding))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async {
            // A dropped sender is the end of this function, which drops the server, too.
            drop(drain.await);
        });
    match &embedder {
        Some(embedder) => {
            serve(embedder);
            health.follow(Ability::of(&**embedder, &*index)).await;
        }
        None => health.deny().await,
    }
    tracing::info!(%address, "listening");

    let watching = async {
        let embedder = match (embedder, pool) {
            (Some(embedder), _) => embedder,
            (None, Some(pool)) => {
                let embedder = start_pool(&settings, pool, &*index).await?;
                serve(&embedder);
                embedder
            }
            (None, None) => return Ok(()),
        };
        watch(&*embedder, &*index, &mut health, settings.index_poll()).await;
        anyhow::Ok(())
    };
    let mut server = std::pin::pin!(server);
    let pause = tokio::select! {
        stopped = &mut server => return stopped.context("serve"),
        watched = watching => return watched,
        pause = &mut stop => pause,
    };
    tracing::info!(pause_ms = pause.as_millis(), "stopping");
    health.deny().await;
    tokio::select! {
        stopped = &mut server => return stopped.context("serve"),
        () = time::sleep(pause) => {}
    }
    drop(draining);
    // Clients may keep idle connections open for as long as they like; only requests are waited for.
    let idle = async {
        requests.drained().await;
        time::sleep(CLOSE_GRACE).await;
    };
    tokio::select! {
        stopped = &mut server => stopped.context("drain")?,
        () = idle => {}
        () = time::sleep(settings.drain_max()) => {
            tracing::warn!("requests were still running when the drain's time was over");
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// What clients can ask of the contract.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Most streams of one connection: one client alone may fill every place, and is told when it has.
fn streams_max(requests_max: usize) -> u32 {
    u32::try_from(requests_max).unwrap_or(u32::MAX).saturating_add(SPARE_STREAMS)
}

/// Loads the model on a blocking thread.
fn load_model(settings: &Settings) -> JoinHandle<anyhow::Result<ClipEmbedder>> {
    let (library, model_dir) = (settings.ort_dylib_path().map(Path::to_owned), settings.model_dir().to_owned());
    let clip = settings.clip();
    tokio::task::spawn_blocking(move || {
        let executable = env::current_exe().context("find this program")?;
        let runtime = Runtime::load(library.as_deref(), &executable)?;
        ClipEmbedder::load(&runtime, &model_dir, clip).context("load the model")
    })
}

/// Opens what the index holds while the model is loaded.
async fn start_model(
    settings: &Settings,
    model: &mut JoinHandle<anyhow::Result<ClipEmbedder>>,
    index: &dyn ServedIndex,
) -> anyhow::Result<Arc<dyn Embedder>> {
    open_index(settings, index).await;
    let model = model.await.context("load the model")??;
    tracing::info!(fingerprint = model.model().fingerprint, dimensions = model.model().dimensions, "model loaded");
    Ok(started(settings, model, index))
}

/// Opens what the index holds while the embedding pool is waited for, as long as that takes.
async fn start_pool(
    settings: &Settings,
    pool: &RemoteOptions,
    index: &dyn ServedIndex,
) -> anyhow::Result<Arc<dyn Embedder>> {
    let (remote, ()) = tokio::join!(RemoteEmbedder::connect(pool, None), open_index(settings, index));
    let remote = remote.context("use the embedding pool")?;
    let model = remote.model();
    tracing::info!(pool = %pool.name, model.fingerprint, model.dimensions, "the embedding pool answers");
    Ok(started(settings, remote, index))
}

async fn open_index(settings: &Settings, index: &dyn ServedIndex) {
    index.refresh().await;
    if index.serving().is_empty() && index.is_whole() {
        let place = match settings.index() {
            IndexPlace::Directory(edge) => edge.root.display().to_string(),
            IndexPlace::Server(server) => server.url.to_string(),
        };
        tracing::warn!(index = place, "no catalogue there yet; run catalog-loader");
    }
}

/// Puts the cache before an embedder, and says which catalogues were made with another model.
fn started(settings: &Settings, embedder: impl Embedder, index: &dyn ServedIndex) -> Arc<dyn Embedder> {
    for (catalog, generation) in index.serving() {
        if generation.info().model != *embedder.model() {
            tracing::error!(%catalog, "was made with another model and is refused; load it again");
        }
    }
    Arc::new(CachedEmbedder::new(embedder, settings.embedding_cache_bytes_max()))
}

/// Opens newly published generations, and says what can be searched.
async fn watch(embedder: &dyn Embedder, index: &dyn ServedIndex, health: &mut Health, every: Duration) {
    let mut ticks = time::interval(every);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        index.refresh().await;
        health.follow(Ability::of(embedder, index)).await;
    }
}
