//! The programs as their users run them: load, serve, search, stop, and be killed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tonic::Request;
use vitrine_proto::v1::{
    SearchRequest, Signal, recommendation_service_client::RecommendationServiceClient, signal::Source,
};
use vitrine_tests::{
    Server, ServingStatus, StandIn, demo, free_address, load, load_well, loader, manifest, program, repository, scrape,
    small_feed,
};

fn search(server: &str, arguments: &[&str]) -> std::process::Output {
    program("vitrine").args(["search", "--server", server, "--json"]).args(arguments).output().unwrap()
}

fn words(text: &str) -> SearchRequest {
    let signal = Signal { source: Some(Source::Text(text.to_owned())), weight: None };
    SearchRequest { signals: vec![signal], ..SearchRequest::default() }
}

async fn generation(server: &Server) -> String {
    let mut client = RecommendationServiceClient::new(server.channel().await);
    client.search(words("a sofa")).await.unwrap().into_inner().generation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_loaded_served_and_searched_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let summary = load_well(&demo(), dir.path(), &[]);
    assert!(summary.contains("rows      180 (0 failed)"), "{summary}");
    assert!(summary.contains("nothing failed"), "{summary}");
    let mut server = Server::start(dir.path(), &[]).await;
    let address = server.address();

    let queries = fs::read_to_string(repository().join("demo/queries.jsonl")).unwrap();
    let mut right = 0;
    for query in queries.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let file = repository().join("demo").join(query["file"].as_str().unwrap());
        let output = search(&address, &["--image", file.to_str().unwrap(), "--limit", "3"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        right += usize::from(answer["results"][0]["product"]["product_type"] == query["expected_product_type"]);
    }
    assert!(right >= 10, "{right} of 12 query photos find their kind");

    let filter = "price < 50 AND availability = \"in_stock\" AND product_type UNDER \"Home\"";
    let output = search(&address, &["--text", "a mug", "--filter", filter, "--limit", "200"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = answer["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let product = &result["product"];
        let price: f64 = product["price"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(price < 50.0 && product["availability"] == "in_stock", "{product}");
        assert!(product["product_type"].as_str().unwrap().starts_with("Home"), "{product}");
    }

    for (arguments, problem) in [
        (&["--text", "a", "--filter", "price <"][..], "--filter"),
        (&["--text", "a", "--filter", "nonsense = 1"], "filter.nonsense"),
        (&["--image", "/nowhere.jpg"], "/nowhere.jpg"),
        (&["--text", "a", "--catalog", "other"], "`other` is unknown"),
    ] {
        let output = search(&address, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(problem), "{arguments:?}: {error}");
    }
    assert!(server.terminate(), "SIGTERM is answered with a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_an_index_is_all_that_changes_with_a_qdrant_server() {
    let (dir, qdrant) = (tempfile::tempdir().unwrap(), StandIn::start().await);
    let feed = small_feed(dir.path(), 5);
    qdrant.ask_for_key("s3cret");
    let url = qdrant.url();
    let mut without_key = loader(&feed, dir.path(), &["--index-url", &url]);
    let refused = without_key.output().unwrap();
    assert_eq!(refused.status.code(), Some(69), "{}", String::from_utf8_lossy(&refused.stderr));

    let mut command = loader(&feed, dir.path(), &["--index-url", &url]);
    let loaded = command.env("VITRINE_INDEX_API_KEY", "s3cret").output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    let server = Server::start_with(dir.path(), &["--index-url", &url], &[("VITRINE_INDEX_API_KEY", "s3cret")]).await;
    let first = generation(&server).await;
    let output = search(&server.address(), &["--text", "a chair", "--filter", "price > 0", "--limit", "3"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["results"].as_array().unwrap().len(), 3);

    let mut command = loader(&feed, dir.path(), &["--index-url", &url, "--generations-kept", "1"]);
    assert!(command.env("VITRINE_INDEX_API_KEY", "s3cret").status().unwrap().success());
    let started = Instant::now();
    while generation(&server).await == first {
        assert!(started.elapsed() < Duration::from_secs(30), "the new generation never serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(qdrant.collections().len(), 1);
    assert!(!dir.path().join("default").exists(), "nothing is in the directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_running_requests_finish() {
    let dir = tempfile::tempdir().unwrap();
    load_well(&small_feed(dir.path(), 5), dir.path(), &[]);
    let mut server = Server::start(dir.path(), &["--drain-pause-ms", "300"]).await;
    let channel = server.channel().await;
    server.send_sigterm();
    let started = Instant::now();
    while server.is_serving().await {
        assert!(started.elapsed() < Duration::from_secs(30), "readiness is never turned off");
    }
    let answer = RecommendationServiceClient::new(channel).search(words("a red sofa")).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert!(server.process().wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_generation_is_served_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 5);
    load_well(&feed, dir.path(), &[]);
    let server = Server::start(dir.path(), &[]).await;
    let first = generation(&server).await;
    load_well(&feed, dir.path(), &[]);
    let started = Instant::now();
    while generation(&server).await == first {
        assert!(started.elapsed() < Duration::from_secs(30), "the new generation never serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_has_not_changed_is_taken_over_from_what_serves() {
    let dir = tempfile::tempdir().unwrap();
    let pictures: Vec<_> =
        fs::read_dir(repository().join("demo/images")).unwrap().take(4).map(Result::unwrap).collect();
    let copy = |from: usize, to: &str| fs::copy(pictures[from].path(), dir.path().join(to)).unwrap();
    for (nth, name) in ["a.jpg", "b.jpg", "c.jpg"].into_iter().enumerate() {
        copy(nth, name);
    }
    let feed = dir.path().join("feed.jsonl");
    let row = |id: &str, price: &str, more: &str| {
        format!(r#"{{"id": "{id}", "title": "Thing {id}", "image_link": "{id}.jpg", "price": "{price} EUR"{more}}}"#)
    };
    let load = |rows: &[String], arguments: &[&str]| {
        fs::write(&feed, rows.join("\n")).unwrap();
        let summary = load_well(&feed, dir.path(), arguments);
        let begun = summary.lines().find_map(|line| line.trim_start().strip_prefix("begun")).unwrap();
        begun.trim_start().strip_prefix("with ").unwrap().to_owned()
    };
    let rows = [row("a", "1", ""), row("b", "2", ""), row("c", "3", "")];
    assert_eq!(load(&rows, &[]), "nothing: nothing serves yet");
    assert!(load(&rows, &[]).ends_with(", 3 of whose products are kept as they are"));
    // Another price, another picture in the same file, and another picture beside: each makes another product.
    assert!(load(&[row("a", "9", ""), rows[1].clone(), rows[2].clone()], &[]).contains(", 2 of whose"));
    copy(3, "b.jpg");
    assert!(load(&[row("a", "9", ""), rows[1].clone(), rows[2].clone()], &[]).contains(", 2 of whose"));
    let more = r#", "additional_image_link": ["a.jpg"]"#;
    assert!(load(&[row("a", "9", ""), rows[1].clone(), row("c", "3", more)], &[]).contains(", 2 of whose"));
    // What is half broken is tried again each time, and reported each time.
    let broken = row("c", "3", r#", "additional_image_link": ["missing.jpg"]"#);
    for _ in 0..2 {
        assert!(load(&[row("a", "9", ""), rows[1].clone(), broken.clone()], &[]).contains(", 2 of whose"));
        let letters = fs::read_to_string(dir.path().join("dead-letters.jsonl")).unwrap();
        assert!(letters.contains("missing.jpg"), "{letters}");
    }
    assert!(load(&rows, &["--full"]).starts_with("nothing: "));
    let coloured = [row("a", "9", r#", "color": "red""#), rows[1].clone(), rows[2].clone()];
    // With another attribute the files are of no use, and what has not changed is not embedded again all the same.
    assert!(load(&coloured, &[]).contains(", 2 of whose"));
}

#[test]
fn bad_rows_and_pictures_are_dead_letters_and_the_rest_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let image = |name: &str| repository().join("demo/images").join(name).display().to_string();
    let mut pictures = fs::read_dir(repository().join("demo/images")).unwrap();
    let good = image(pictures.next().unwrap().unwrap().file_name().to_str().unwrap());
    fs::write(dir.path().join("broken.jpg"), "no picture").unwrap();
    let rows = [
        format!(r#"{{"id": "good", "title": "Good", "image_link": "{good}", "price": "5 EUR"}}"#),
        "nonsense".to_owned(),
        format!(r#"{{"id": "good", "title": "Again", "image_link": "{good}"}}"#),
        r#"{"id": "broken", "title": "Broken", "image_link": "broken.jpg"}"#.to_owned(),
        r#"{"id": "missing", "title": "Missing", "image_link": "missing.jpg"}"#.to_owned(),
        format!(r#"{{"id": "price", "title": "Price", "image_link": "{good}", "price": "cheap"}}"#),
        format!(
            r#"{{"id": "half", "title": "Half", "image_link": "broken.jpg", "additional_image_link": ["{good}"]}}"#
        ),
    ];
    let feed = dir.path().join("feed.jsonl");
    fs::write(&feed, rows.join("\n")).unwrap();

    let refused = load(&feed, dir.path(), &[]);
    assert_eq!(refused.status.code(), Some(65), "most rows fail, which the gate does not let pass");
    let summary = load_well(&feed, dir.path(), &["--failures-share-max", "0.9"]);
    assert!(summary.contains("rows      7 (5 failed)") && summary.contains("pictures  2 (3 failed)"), "{summary}");
    let letters = fs::read_to_string(dir.path().join("dead-letters.jsonl")).unwrap();
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about = |row: u64| letters.iter().filter(|letter| letter["row"] == row).collect::<Vec<_>>();
    assert!(about(2)[0]["reason"].as_str().unwrap().contains("not a JSON object"));
    assert!(about(3)[0]["reason"].as_str().unwrap().contains("row 1 already") && about(3)[0]["id"] == "good");
    assert!(about(4)[0]["reason"].as_str().unwrap().contains("not a JPEG, PNG, WebP, GIF or BMP"));
    assert!(about(5)[0]["reason"].as_str().unwrap().contains("missing.jpg"));
    assert!(about(6)[0]["reason"].as_str().unwrap().contains("field `price` is `cheap`"));
    assert!(about(7)[0]["loaded"] == true);
}

#[test]
fn csv_is_loaded_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut feed = vec!["ID,Title,Image Link,Price,Stock,New in".to_owned()];
    for (number, entry) in fs::read_dir(repository().join("demo/images")).unwrap().take(5).enumerate() {
        let picture = entry.unwrap().path().display().to_string();
        feed.push(format!("c{number},\"Thing, {number}\",{picture},{number}.50 EUR,{number},yes"));
    }
    let path = dir.path().join("feed.csv");
    fs::write(&path, feed.join("\n")).unwrap();
    let summary = load_well(&path, dir.path(), &[]);
    for expected in ["products  5", "stock                    integer", "new_in                   bool", "money EUR"] {
        assert!(summary.contains(expected), "{summary}");
    }
}

#[test]
fn the_scheduler_is_told_what_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 1);
    for (arguments, feed, code) in [
        (&["--failures-share-max", "2"][..], feed.clone(), 64),
        (&[], dir.path().join("none.jsonl"), 66),
        (&[], dir.path().join("feed.xls"), 66),
        (&["--model-dir", "demo"], feed.clone(), 69),
        (&["--ort-dylib-path", "/nowhere.so"], feed, 69),
    ] {
        let output = load(&feed, dir.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {error}");
        assert!(code != 69 || error.starts_with("error: load the model: "), "{arguments:?} {error}");
    }
}

#[test]
fn wrong_settings_are_all_reported_before_the_exit() {
    let output = program("vitrine").args(["serve", "--batch-size-max", "0", "--listen", "here"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64));
    assert!(errors.contains("batch_size_max") && errors.contains("listen"), "{errors}");
}

#[test]
fn a_log_filter_that_cannot_be_read_is_said_and_nothing_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = program("vitrine");
    serve.arg("serve").arg("--index-dir").arg(dir.path());
    let load = loader(&small_feed(dir.path(), 1), dir.path(), &[]);
    for mut command in [serve, load] {
        let output = command.env("RUST_LOG", "vitrine_index=loud").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{errors}");
        assert!(errors.contains("`RUST_LOG` is `vitrine_index=loud`"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_told_what_was_asked_and_what_the_caches_knew() {
    let dir = tempfile::tempdir().unwrap();
    load_well(&small_feed(dir.path(), 5), dir.path(), &[]);
    let metrics = free_address();
    let server = Server::start(dir.path(), &["--metrics-listen", &metrics]).await;
    let mut client = RecommendationServiceClient::new(server.channel().await);
    for _ in 0..3 {
        client.search(words("a red sofa")).await.unwrap();
    }
    client.search(words("")).await.unwrap_err();
    let answer = scrape(&metrics);
    for line in [
        "# TYPE vitrine_request_seconds histogram",
        r#"vitrine_requests_total{method="vitrine.v1.RecommendationService/Search",code="Ok"} 3"#,
        r#"vitrine_requests_total{method="vitrine.v1.RecommendationService/Search",code="InvalidArgument"} 1"#,
        "vitrine_requests_in_flight 0",
        r#"vitrine_cache_hits_total{cache="response"} 2"#,
        r#"vitrine_cache_misses_total{cache="response"} 1"#,
        r#"vitrine_cache_misses_total{cache="embedding"} 1"#,
        r#"vitrine_batch_size_count{queue="text"} 1"#,
        r#"vitrine_search_seconds_count{part="index"} 1"#,
    ] {
        assert!(answer.lines().any(|found| found == line), "{line} is not in\n{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_index_serves_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let mut client = RecommendationServiceClient::new(server.channel().await);
    let status = client.search(Request::new(words("a sofa"))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    eprintln!("ready after {:?}", server.ready_after);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_catalogue_of_two_is_unavailable_and_the_server_serves_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 5);
    load_well(&feed, dir.path(), &[]);
    load_well(&feed, dir.path(), &["--catalog", "broken"]);
    fs::remove_file(manifest(&dir.path().join("broken"))).unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let mut client = RecommendationServiceClient::new(server.channel().await);
    let broken = SearchRequest { catalog: "broken".to_owned(), ..words("a sofa") };
    assert_eq!(client.search(broken).await.unwrap_err().code(), tonic::Code::Unavailable);
    assert!(client.search(words("a sofa")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_search_nothing_says_so_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 5);
    load_well(&feed, dir.path(), &[]);
    fs::remove_file(manifest(&dir.path().join("default"))).unwrap();
    let server = Server::spawn(dir.path(), &[]);
    let started = Instant::now();
    while server.health("").await.is_none() {
        assert!(started.elapsed() < Duration::from_mins(1), "the server does not come up");
    }
    for (service, status) in [
        ("", ServingStatus::NotServing),
        ("vitrine.v1.RecommendationService", ServingStatus::NotServing),
        ("vitrine.v1.CatalogService", ServingStatus::NotServing),
        ("vitrine.v1.EmbeddingService", ServingStatus::Serving),
    ] {
        assert_eq!(server.health(service).await, Some(status), "{service}");
    }
    load_well(&feed, dir.path(), &[]);
    let published = Instant::now();
    while !server.is_serving().await {
        assert!(published.elapsed() < Duration::from_secs(30), "what is published anew never serves");
    }
}

#[cfg(unix)]
#[test]
fn sigterm_during_the_start_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = dir.path().join("default");
    fs::create_dir_all(catalog.join("generations/1")).unwrap();
    fs::write(catalog.join("CURRENT"), "1").unwrap();
    // Who opens a named pipe waits until somebody writes to it, and the other way round.
    let manifest = manifest(&catalog);
    assert!(Command::new("mkfifo").arg(&manifest).status().unwrap().success());
    let mut server = Server::spawn(dir.path(), &[]);
    let writer = fs::OpenOptions::new().write(true).open(manifest).unwrap();
    server.send_sigterm();
    let asked = Instant::now();
    let status = loop {
        if let Some(status) = server.process().try_wait().unwrap() {
            break status;
        }
        assert!(asked.elapsed() < Duration::from_secs(30), "the start goes on");
    };
    assert!(status.success(), "{status}");
    drop(writer);
}
