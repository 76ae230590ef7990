//! Requests on their way: a body that has not arrived whole is counted, waited for, and given up in time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use vitrine_proto::v1::{
    EmbedInput, EmbedRequest, Photo, SearchRequest, SearchUploadRequest, Signal, UploadedPhoto, embed_input,
    recommendation_service_client::RecommendationServiceClient, search_upload_request::Part, signal::Source,
};
use vitrine_tests::{RawCall, Server, free_address, halves, load_well, repository, scrape, small_feed};

const SEARCH: &str = "/vitrine.v1.RecommendationService/Search";
const SEARCH_UPLOAD: &str = "/vitrine.v1.RecommendationService/SearchUpload";
const EMBED: &str = "/vitrine.v1.EmbeddingService/Embed";
const OK: &str = "0";
const DEADLINE_EXCEEDED: &str = "4";
/// Far beyond what anything here takes, for machines that do other things besides.
const PATIENCE: Duration = Duration::from_secs(30);

fn photo() -> Bytes {
    fs::read(repository().join("demo/queries/sofa-living-room.jpg")).unwrap().into()
}

fn search(source: Source) -> SearchRequest {
    SearchRequest { signals: vec![Signal { source: Some(source), weight: None }], ..SearchRequest::default() }
}

fn search_by_photo() -> SearchRequest {
    search(Source::Photo(Photo { content: photo(), region: None }))
}

/// Starts a server with so many places. Out: the server and where it is measured.
async fn server_with_places(dir: &Path, places: usize) -> (Server, String) {
    let metrics = free_address();
    let server = Server::start(dir, &["--requests-max", &places.to_string(), "--metrics-listen", &metrics]).await;
    (server, metrics)
}

/// Waits until so many requests have their places. Nothing else is asked meanwhile: it could take one of them.
async fn taken(metrics: &str, places: usize) {
    let (wanted, started) = (format!("vitrine_requests_in_flight {places}"), Instant::now());
    while !scrape(metrics).lines().any(|line| line == wanted) {
        assert!(started.elapsed() < PATIENCE, "bodies on their way take no place");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a server without a place answers.
async fn refusal(server: &Server) -> Status {
    let mut client = RecommendationServiceClient::new(server.channel().await);
    client.search(search(Source::Text("a sofa".to_owned()))).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_on_its_way_takes_a_place_and_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    load_well(&small_feed(dir.path(), 5), dir.path(), &[]);
    let (server, metrics) = server_with_places(dir.path(), 1).await;
    let (first, second) = halves(&search_by_photo());
    let mut call = RawCall::open(server.authority(), SEARCH, &[]).await;
    call.send(first);
    taken(&metrics, 1).await;

    let refused = refusal(&server).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{refused:?}");
    let asked = Instant::now();
    assert_eq!(refusal(&server).await.code(), Code::ResourceExhausted);
    assert!(asked.elapsed() < Duration::from_secs(1), "refused after {:?}", asked.elapsed());
    assert!(server.is_serving().await, "health is not behind the places");

    call.send(second);
    assert_eq!(call.finish().await, OK);
    let mut client = RecommendationServiceClient::new(server.channel().await);
    let again = client.search(search(Source::Text("a sofa".to_owned()))).await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_that_are_half_sent_at_sigterm_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    load_well(&small_feed(dir.path(), 5), dir.path(), &[]);
    let (mut server, metrics) = server_with_places(dir.path(), 2).await;
    let (first, second) = halves(&search_by_photo());
    let mut whole = RawCall::open(server.authority(), SEARCH, &[]).await;
    whole.send(first);
    let request = search(Source::UploadedPhoto(UploadedPhoto { region: None }));
    let (one, two) = halves(&SearchUploadRequest { part: Some(Part::Request(request)) });
    let (three, four) = halves(&SearchUploadRequest { part: Some(Part::Chunk(photo())) });
    let mut chunks = RawCall::open(server.authority(), SEARCH_UPLOAD, &[]).await;
    for piece in [one, two, three] {
        chunks.send(piece);
    }
    taken(&metrics, 2).await;
    assert_eq!(refusal(&server).await.code(), Code::ResourceExhausted);

    server.send_sigterm();
    let started = Instant::now();
    while TcpStream::connect(server.authority()).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "the server goes on taking connections");
    }
    whole.send(second);
    chunks.send(four);
    assert_eq!((whole.finish().await.as_str(), chunks.finish().await.as_str()), (OK, OK));
    assert!(server.process().wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_too_slowly_ends_with_its_callers_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let source = embed_input::Source::Photo(Photo { content: photo(), region: None });
    let input = EmbedInput { source: Some(source), ..EmbedInput::default() };
    let embed = EmbedRequest { inputs: vec![input], ..EmbedRequest::default() };
    for (path, half) in [(SEARCH, halves(&search_by_photo()).0), (EMBED, halves(&embed).0)] {
        let started = Instant::now();
        let mut call = RawCall::open(server.authority(), path, &[("grpc-timeout", "500m")]).await;
        call.send(half);
        assert_eq!(call.status().await, DEADLINE_EXCEEDED, "{path}");
        assert!(started.elapsed() < Duration::from_secs(5), "{path} took {:?}", started.elapsed());
    }
}
