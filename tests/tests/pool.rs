//! An embedding pool as its users run it: servers that have a model, and servers and loaders that ask them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Server as GrpcServer, server::TcpIncoming},
};
use vitrine_core::{
    embed::{CallContext, EmbedError, Embedder, Embedding},
    limits::PHOTO_BYTES_MAX,
    signal::{Photo, QueryText, Region},
};
use vitrine_proto::v1::{
    self as pb, EmbedInput, EmbedPriority, EmbedRequest, EmbedResponse, GetModelRequest, GetModelResponse,
    SearchRequest, SearchResponse, Signal,
    embed_input::Source as Embedded,
    embed_result::Outcome,
    embedding_service_client::EmbeddingServiceClient,
    embedding_service_server::{EmbeddingService, EmbeddingServiceServer},
    recommendation_service_client::RecommendationServiceClient,
    signal::Source,
};
use vitrine_remote::{RemoteEmbedder, RemoteOptions};
use vitrine_tests::{Server, ServingStatus, demo, free_address, load, load_well, repository, small_feed};

const EMBEDDING: &str = "vitrine.v1.EmbeddingService";
/// Far beyond what anything here takes, for machines that do other things besides.
const PATIENCE: Duration = Duration::from_mins(1);

fn photo() -> Bytes {
    fs::read(repository().join("demo/queries/sofa-living-room.jpg")).unwrap().into()
}

fn request(source: Source) -> SearchRequest {
    SearchRequest { signals: vec![Signal { source: Some(source), weight: None }], ..SearchRequest::default() }
}

fn words(text: &str) -> SearchRequest {
    request(Source::Text(text.to_owned()))
}

async fn search(channel: &Channel, request: SearchRequest) -> Result<SearchResponse, Status> {
    let mut request = Request::new(request);
    request.set_timeout(Duration::from_secs(10));
    Ok(RecommendationServiceClient::new(channel.clone()).search(request).await?.into_inner())
}

/// A server that embeds, and has nothing to search.
async fn member(dir: &Path) -> Server {
    Server::start(&dir.join("no-index"), &[]).await
}

fn pool_of(members: &[&Server]) -> String {
    members.iter().map(|member| member.address()).collect::<Vec<_>>().join(",")
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn metric(address: &str, line: &str) -> f64 {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: vitrine\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let found = answer.lines().find_map(|found| found.strip_prefix(line));
    found.map_or(0.0, |number| number.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_answers_as_a_model_in_the_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let (local, pooled) = (dir.path().join("local"), dir.path().join("pooled"));
    let (one, two) = (member(dir.path()).await, member(dir.path()).await);
    let urls = pool_of(&[&one, &two]);
    load_well(&demo(), &local, &[]);
    let summary = load_well(&demo(), &pooled, &["--embedder-urls", &urls]);
    assert!(summary.contains("rows      180 (0 failed)"), "{summary}");

    let alone = Server::start(&local, &[]).await;
    let front = Server::start(&pooled, &["--embedder-urls", &urls]).await;
    let region = Some(pb::Region { left: 0.1, top: 0.2, right: 0.8, bottom: 0.9 });
    for request in [
        words("a striped dress"),
        request(Source::Photo(pb::Photo { content: photo(), region: None })),
        request(Source::Photo(pb::Photo { content: photo(), region })),
    ] {
        let expected = search(&alone.channel().await, request.clone()).await.unwrap().results;
        let found = search(&front.channel().await, request).await.unwrap().results;
        assert_eq!(found.len(), 10);
        for (expected, found) in expected.iter().zip(&found) {
            assert!((expected.score - found.score).abs() < 1e-5, "{} {}", expected.score, found.score);
            assert_eq!(expected.product.as_ref().unwrap().id, found.product.as_ref().unwrap().id);
        }
    }

    let broken = request(Source::Photo(pb::Photo { content: "no picture".into(), region: None }));
    let expected = search(&alone.channel().await, broken.clone()).await.unwrap_err();
    let refused = search(&front.channel().await, broken).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, expected.message()));
    assert!(refused.message().starts_with("field `signals[0].photo.content` "), "{refused}");

    // What both say of the model is the same, and an input may bring its own time.
    let model = async |server: &Server| {
        let mut client = EmbeddingServiceClient::new(server.channel().await);
        client.get_model(GetModelRequest {}).await.unwrap().into_inner()
    };
    assert_eq!(model(&alone).await, model(&front).await);
    let input = |text: &str, timeout: Option<i32>| EmbedInput {
        source: Some(Embedded::Text(text.to_owned())),
        timeout: timeout.map(|nanos| prost_types::Duration { seconds: i64::from(nanos).min(0), nanos }),
    };
    for server in [&alone, &front] {
        let inputs = vec![input("in time", None), input("late", Some(1)), input("wrong", Some(-1))];
        let request = EmbedRequest { inputs, ..EmbedRequest::default() };
        let results = EmbeddingServiceClient::new(server.channel().await).embed(request).await.unwrap().into_inner();
        let error = |position: usize| match results.results[position].outcome.clone().unwrap() {
            Outcome::Error(error) => (error.code, error.field),
            Outcome::Embedding(_) => (0, String::new()),
        };
        let outcomes = [error(0), error(1), error(2)];
        assert_eq!(outcomes, [(0, String::new()), (4, String::new()), (3, "inputs[2].timeout".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_fails_with_a_member_and_without_any_the_pool_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("index");
    load_well(&small_feed(dir.path(), 20), &index, &[]);
    let addresses = [free_address(), free_address()];
    let none = dir.path().join("no-index");
    let mut one = Server::start_at(&addresses[0], &none, &[]).await;
    let mut two = Server::start_at(&addresses[1], &none, &[]).await;
    let (urls, metrics) = (pool_of(&[&one, &two]), free_address());
    let arguments = ["--embedder-urls", &urls, "--embedder-name", "gpu", "--metrics-listen", &metrics];
    let front = Server::start(&index, &arguments).await;
    let channel = front.channel().await;
    let healthy =
        |endpoint: usize| metric(&metrics, &format!("vitrine_pool_endpoint_healthy{{endpoint=\"{endpoint}\"}}"));
    until("both endpoints are healthy", async || healthy(0) + healthy(1) > 1.9).await;
    let known = search(&channel, words("what is remembered")).await.unwrap();

    // Four callers ask for what nobody knows yet, while one member dies.
    let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<JoinHandle<usize>> = (0..4)
        .map(|caller| {
            let (channel, asked, stop) = (channel.clone(), Arc::clone(&asked), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    let answer = search(&channel, words(&format!("sofa {caller} {count}"))).await;
                    assert_eq!(answer.unwrap().results.len(), 10);
                    count += 1;
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                count
            })
        })
        .collect();
    let running = || callers.iter().all(|caller| !caller.is_finished());
    until("queries are answered", async || asked.load(Ordering::SeqCst) >= 40 || !running()).await;
    one.kill();
    let at_kill = asked.load(Ordering::SeqCst);
    until("queries go on", async || asked.load(Ordering::SeqCst) >= at_kill + 100 || !running()).await;
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(caller.await.unwrap() > 0, "no query fails");
    }
    for (endpoint, expected) in [(0, 0.0), (1, 1.0)] {
        assert!((healthy(endpoint) - expected).abs() < 0.1, "endpoint {endpoint}");
        let calls = format!("vitrine_pool_calls_total{{endpoint=\"{endpoint}\",code=\"Ok\"}}");
        assert!(metric(&metrics, &calls) > 0.0, "{calls}");
    }

    two.kill();
    let counter = AtomicUsize::new(0);
    let fresh = || words(&format!("chair {}", counter.fetch_add(1, Ordering::SeqCst)));
    let refused = search(&channel, fresh()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().starts_with("embedding pool `gpu` does not answer (error "), "{refused}");
    until("embedding is said to be off", async || front.health(EMBEDDING).await == Some(ServingStatus::NotServing))
        .await;
    assert!(front.is_serving().await, "what is remembered can be asked for");
    let again = SearchRequest { page_size: 3, ..words("what is remembered") };
    let again = search(&channel, again).await.unwrap();
    assert_eq!(again.results[0].product, known.results[0].product, "its vector is known, though not this page");
    let id = known.results[0].product.as_ref().unwrap().id.clone();
    assert!(search(&channel, request(Source::ProductId(id))).await.is_ok());

    let _one = Server::start_at(&addresses[0], &none, &[]).await;
    until("the pool is found again", async || search(&channel, fresh()).await.is_ok()).await;
    until("and said to be", async || front.health(EMBEDDING).await == Some(ServingStatus::Serving)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_waits_for_its_pool_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("index");
    load_well(&small_feed(dir.path(), 5), &index, &[]);
    let address = free_address();
    let arguments = ["--embedder-urls", &format!("http://{address}")];
    let front = Server::spawn(&index, &arguments);
    until("the replica listens", async || front.health("").await.is_some()).await;
    for service in ["", EMBEDDING, "vitrine.v1.RecommendationService"] {
        assert_eq!(front.health(service).await, Some(ServingStatus::NotServing), "{service:?}");
    }
    let refused = search(&front.channel().await, words("a sofa")).await.unwrap_err();
    let expected = "the server is starting: embedding pool `default` does not answer yet";
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, expected));

    let mut stopped = Server::spawn(&dir.path().join("no-index"), &arguments);
    until("the other replica listens", async || stopped.health("").await.is_some()).await;
    assert!(stopped.terminate(), "SIGTERM ends the wait");

    let _member = Server::start_at(&address, &dir.path().join("no-index"), &[]).await;
    until("the replica serves", async || front.is_serving().await).await;
    assert!(search(&front.channel().await, words("a sofa")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_another_model_is_refused_and_never_mixed_in() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("no-index");
    let ours = member(dir.path()).await;
    let address = free_address();
    let mut other = Server::start_at(&address, &none, &["--model-dir", "tests/models/good"]).await;
    let options = options(&pool_of(&[&ours, &other]));
    let remote = RemoteEmbedder::connect(&options, None).await.unwrap();
    let remote = &remote;
    let made = stream::iter(0..40).map(async |number| text(remote, &format!("sofa {number}")).await);
    let made: Vec<_> = made.buffered(8).collect().await;
    for embedding in made {
        assert_eq!(embedding.unwrap().values().len(), remote.model().dimensions);
    }
    let asked = EmbeddingServiceClient::new(ours.channel().await).get_model(GetModelRequest {}).await.unwrap();
    assert_eq!(remote.model().fingerprint, asked.into_inner().model_fingerprint);

    // Where it takes the place of the last that was right, the pool is away, and the other model is the reason.
    drop(ours);
    let away = text(remote, "chair").await.unwrap_err();
    assert!(matches!(&away, EmbedError::PoolAway { reason, .. } if reason.contains("runs another model")), "{away}");
    other.kill();
    let _same = Server::start_at(&address, &none, &[]).await;
    until("it runs the right one now", async || text(remote, "chair").await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_of_the_largest_size_go_out_together_as_far_as_they_fit() {
    let dir = tempfile::tempdir().unwrap();
    let member = member(dir.path()).await;
    let remote = RemoteEmbedder::connect(&options(&pool_of(&[&member])), None).await.unwrap();
    let call = || CallContext::interactive(Instant::now() + PATIENCE);
    let small = remote.embed_photo(&Photo::new(photo(), None).unwrap(), call()).await.unwrap();
    // Decoders do not look at what is behind a picture's end.
    let mut large = photo().to_vec();
    large.resize(PHOTO_BYTES_MAX, 0);
    let large = Bytes::from(large);
    let region = Region::new(0.0, 0.0, 1.0, 1.0).unwrap();
    let photos = [Some(region), None, None].map(|region| Photo::new(large.clone(), region).unwrap());
    let made = stream::iter(photos.iter().map(|photo| remote.embed_photo(photo, call()))).buffered(3);
    for embedding in made.collect::<Vec<_>>().await {
        assert!(embedding.unwrap().cosine(&small) > 0.9999);
    }
}

#[test]
fn the_loader_takes_a_model_or_a_pool_and_names_the_pool_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 1);
    let url = format!("http://{}", free_address());
    for (arguments, code, problem) in [
        (&["--embedder-urls", &url, "--model-dir", "models/mini"][..], 64, "'--model-dir"),
        (&["--embedder-urls", "here"], 64, "`here` is not an address"),
        (
            &["--embedder-urls", &url, "--embedder-name", "gpu", "--embedder-wait-ms-max", "300"],
            69,
            "connect to the embedding pool: embedding pool `gpu` is away",
        ),
    ] {
        let output = load(&feed, dir.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {error}");
        assert!(error.contains(problem), "{arguments:?} {error}");
    }
}

fn options(urls: &str) -> RemoteOptions {
    RemoteOptions {
        name: "test".parse().unwrap(),
        urls: urls.parse().unwrap(),
        timeout: Duration::from_secs(20),
        queue_size_max: 64,
        patience: Duration::ZERO,
    }
}

async fn text(remote: &RemoteEmbedder, text: &str) -> Result<Embedding, EmbedError> {
    let call = CallContext::interactive(Instant::now() + Duration::from_secs(10));
    remote.embed_text(&QueryText::new(text, "").unwrap(), call).await
}

/// An endpoint that never answers, and notes what it was asked.
#[derive(Clone, Default)]
struct Silent {
    asked: Arc<Mutex<Vec<(Duration, EmbedRequest)>>>,
    changed: Arc<Notify>,
    taken_back: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl EmbeddingService for Silent {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        struct TakenBack(Silent);
        impl Drop for TakenBack {
            fn drop(&mut self) {
                self.0.taken_back.fetch_add(1, Ordering::SeqCst);
                self.0.changed.notify_one();
            }
        }
        let header = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap();
        let (number, unit) = header.split_at(header.len() - 1);
        let unit = match unit {
            "S" => Duration::from_secs(1),
            "m" => Duration::from_millis(1),
            "u" => Duration::from_micros(1),
            _ => Duration::from_nanos(1),
        };
        self.asked.lock().unwrap().push((unit * number.parse().unwrap(), request.into_inner()));
        self.changed.notify_one();
        let _taken_back = TakenBack(self.clone());
        std::future::pending().await
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        Ok(Response::new(GetModelResponse { model_fingerprint: "silent".to_owned(), dimensions: 3 }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_and_lanes_go_along_and_what_nobody_waits_for_is_taken_back() {
    let silent = Silent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<EmbeddingServiceServer<Silent>>().await;
    let server = GrpcServer::builder().add_service(health).add_service(EmbeddingServiceServer::new(silent.clone()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let remote = Arc::new(RemoteEmbedder::connect(&options(&url), None).await.unwrap());
    let sofa = QueryText::new("sofa", "").unwrap();

    let asked = Instant::now();
    let person = CallContext::interactive(asked + Duration::from_millis(700));
    assert_eq!(remote.embed_text(&sofa, person).await, Err(EmbedError::DeadlineExceeded));
    assert!((690..2000).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());

    let job = {
        let (remote, sofa) = (Arc::clone(&remote), sofa.clone());
        let job = CallContext { bypass_cache: true, ..CallContext::bulk() };
        tokio::spawn(async move { remote.embed_text(&sofa, job).await })
    };
    until("the job asks", async || silent.asked.lock().unwrap().len() == 2).await;
    assert_eq!(silent.taken_back.load(Ordering::SeqCst), 1, "the person's call was taken back");
    job.abort();
    until("the job's call is taken back", async || silent.taken_back.load(Ordering::SeqCst) == 2).await;

    let asked = silent.asked.lock().unwrap();
    for ((time, request), (limit, priority, bypass_cache)) in
        asked.iter().zip([(700, EmbedPriority::Interactive, false), (20_000, EmbedPriority::Bulk, true)])
    {
        let limit = Duration::from_millis(limit);
        assert!((limit / 2..=limit).contains(time), "{time:?}");
        assert_eq!((request.priority(), request.bypass_cache, request.inputs.len()), (priority, bypass_cache, 1));
        let own: Duration = request.inputs[0].timeout.unwrap().try_into().unwrap();
        assert!(own < *time && own > limit / 2, "the answer has time to arrive: {own:?} of {time:?}");
    }
}
