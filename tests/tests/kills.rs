//! A loader that is killed at any moment: what served goes on to serve, whole.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fastrand::Rng;
use vitrine_proto::v1::{
    SearchRequest, Signal, recommendation_service_client::RecommendationServiceClient, signal::Source,
};
use vitrine_tests::{IndexKind, Server, StandIn, TestIndex, loader, small_feed};

const PRODUCTS: usize = 40;
const KILLS: usize = 20;

/// Two versions of a feed, which differ in the titles of a quarter of the products.
fn feeds(dir: &Path) -> [PathBuf; 2] {
    let odd = small_feed(dir, PRODUCTS);
    let lines = fs::read_to_string(&odd).unwrap();
    let changed = lines.lines().enumerate().map(|(nth, line)| {
        if nth % 4 == 0 { line.replace(r#""title": ""#, r#""title": "New "#) } else { line.to_owned() }
    });
    let even = dir.join("even.jsonl");
    fs::write(&even, changed.collect::<Vec<_>>().join("\n")).unwrap();
    [odd, even]
}

/// Asks a catalogue for everything. Out: the generation that answered, and how many of its products are of the second
/// version.
async fn everything(server: &Server, catalog: &str) -> (String, usize) {
    let mut client = RecommendationServiceClient::new(server.channel().await);
    let signal = Signal { source: Some(Source::Text("anything".to_owned())), weight: None };
    let (catalog, signals) = (catalog.to_owned(), vec![signal]);
    let request = SearchRequest { catalog, signals, page_size: 200, bypass_cache: true, ..Default::default() };
    let answer = client.search(request).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), PRODUCTS);
    let new = answer.results.iter().filter(|result| result.product.as_ref().unwrap().title.starts_with("New "));
    (answer.generation, new.count())
}

/// Kills loaders at moments that are drawn, and looks each time at what is served: by a server that ran meanwhile, and by one
/// that begins after it, in turn.
async fn kill_loaders(
    seed: u64,
    catalog: &str,
    load: impl Fn(&Path) -> Command,
    feeds: &[PathBuf; 2],
    serve: impl AsyncFn() -> Server,
    clear: impl AsyncFn(),
) {
    let mut server = serve().await;
    let mut rng = Rng::with_seed(seed);
    let run = |nth: usize, full: bool| {
        let mut command = load(&feeds[nth % 2]);
        command.args(full.then_some("--full")).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut longest = Duration::ZERO;
    for nth in 0..3 {
        let started = Instant::now();
        assert!(run(nth, nth == 0).status().unwrap().success());
        longest = longest.max(started.elapsed());
    }
    let mut published = 0;
    for nth in 0..KILLS {
        let full = rng.bool();
        let mut process = run(nth, full).spawn().unwrap();
        tokio::time::sleep(longest.mul_f64(rng.f64() * 1.1)).await;
        // It may have ended just before.
        drop(process.kill());
        published += usize::from(process.wait().unwrap().success());
        if nth % 2 == 1 {
            drop(server);
            server = serve().await;
        }
        let (generation, new) = everything(&server, catalog).await;
        assert!(new == 0 || new == PRODUCTS / 4, "{new} products of generation {generation} are new, after kill {nth}");
        clear().await;
    }
    eprintln!("{published} of {KILLS} loaders had published before they were killed");
    for nth in 0..2 {
        clear().await;
        assert!(run(nth, false).status().unwrap().success(), "what killed loaders left is in the way");
        let started = Instant::now();
        while everything(&server, catalog).await.1 != nth * PRODUCTS / 4 {
            assert!(started.elapsed() < Duration::from_secs(30), "the last load never serves");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_is_killed_at_any_moment_leaves_a_directory_that_serves() {
    let dir = tempfile::tempdir().unwrap();
    let feeds = feeds(dir.path());
    assert!(loader(&feeds[1], dir.path(), &[]).stdout(Stdio::null()).status().unwrap().success());
    let serve = async || Server::start(dir.path(), &[]).await;
    kill_loaders(5, "", |feed| loader(feed, dir.path(), &[]), &feeds, serve, async || ()).await;
    assert_eq!(everything(&Server::start(dir.path(), &[]).await, "").await.1, PRODUCTS / 4);
    let left = fs::read_dir(dir.path().join("default/generations")).unwrap();
    assert_eq!(left.count(), 2, "what killed loaders left is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_is_killed_at_any_moment_leaves_a_qdrant_server_that_serves() {
    let (dir, qdrant) = (tempfile::tempdir().unwrap(), StandIn::start().await);
    let (feeds, url, rest) = (feeds(dir.path()), qdrant.url(), qdrant.rest_urls().join(","));
    let load = |feed: &Path| loader(feed, dir.path(), &["--index-url", &url, "--index-rest-urls", &rest]);
    assert!(load(&feeds[1]).stdout(Stdio::null()).status().unwrap().success());
    let serve = async || Server::start(dir.path(), &["--index-url", &url]).await;
    // A loader watches what a dead one left for half a minute before it removes it; that is tested where time is short.
    kill_loaders(6, "", load, &feeds, serve, async || qdrant.remove_unpublished()).await;
}

/// As above, on the server that `QDRANT_URL` names.
#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_is_killed_at_any_moment_leaves_the_qdrant_server_that_is_named_serving() {
    let Some(qdrant) = TestIndex::new(IndexKind::Server).await else { return };
    let (dir, url, catalog) = (tempfile::tempdir().unwrap(), qdrant.url(), qdrant.catalog().as_str());
    let feeds = feeds(dir.path());
    let rest_urls: Vec<_> = qdrant.options().rest_urls.iter().map(ToString::to_string).collect();
    let load = |feed: &Path| {
        let mut command = loader(feed, dir.path(), &["--index-url", &url, "--catalog", catalog]);
        if !rest_urls.is_empty() {
            command.env("VITRINE_INDEX_REST_URLS", rest_urls.join(","));
        }
        command
    };
    assert!(load(&feeds[1]).stdout(Stdio::null()).status().unwrap().success());
    let serve = async || Server::start(dir.path(), &["--index-url", &url]).await;
    kill_loaders(7, catalog, load, &feeds, serve, async || qdrant.remove_unpublished().await).await;
    qdrant.clear().await;
}
