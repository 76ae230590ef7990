//! `vitrine index` as people run it: beside servers, on directories and on a server, and with wrong names.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use vitrine_tests::{Server, StandIn, load_well, loader, program, small_feed};

fn index(arguments: &[&str]) -> Output {
    program("vitrine").arg("index").args(arguments).output().unwrap()
}

/// What a command says that must do well.
fn well(arguments: &[&str]) -> String {
    let output = index(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn listed(place: &[&str]) -> Value {
    serde_json::from_str(&well(&[&["list", "--json"], place].concat())).unwrap()
}

/// The ids of a catalogue's generations, oldest first, and the one that serves.
fn generations(place: &[&str], catalog: &str) -> (Vec<String>, Option<String>) {
    let listed = listed(place);
    let catalog = listed["catalogs"].as_array().unwrap().iter().find(|listed| listed["catalog"] == catalog).unwrap();
    let ids = catalog["generations"].as_array().unwrap().iter().map(|kept| kept["generation"].as_str().unwrap());
    (ids.map(str::to_owned).collect(), catalog["serving"].as_str().map(str::to_owned))
}

/// The products that a server finds, and their scores.
fn found(server: &Server) -> Vec<(String, f64)> {
    let answer = answer(server);
    let results = answer["results"].as_array().unwrap().iter();
    results.map(|result| (result["product"]["id"].to_string(), result["score"].as_f64().unwrap())).collect()
}

fn answer(server: &Server) -> Value {
    let arguments = ["search", "--json", "--text", "a chair", "--filter", "price > 0", "--server", &server.address()];
    let output = program("vitrine").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn serves(server: &Server, generation: &str) {
    let started = Instant::now();
    while answer(server)["generation"] != generation {
        assert!(started.elapsed() < Duration::from_secs(30), "{generation} never serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_moves_from_a_directory_to_a_server_and_back_without_embedding_again() {
    let (dir, qdrant) = (tempfile::tempdir().unwrap(), StandIn::start().await);
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    fs::create_dir(&first).unwrap();
    load_well(&small_feed(dir.path(), 20), &first, &[]);
    let server = Server::start(&first, &[]).await;
    let before = found(&server);
    assert_eq!(before.len(), 10);

    let path = |name: &str| dir.path().join(name).display().to_string();
    let (one, other) = (path("one.tar"), path("other.tar"));
    let (first_dir, second_dir, url) = (path("first"), path("second"), qdrant.url());
    // Beside the server, which goes on.
    let said = well(&["snapshot", "default", &one, "--index-dir", &first_dir]);
    assert!(said.contains("20 products"), "{said}");
    let said = well(&["restore", "shop", &one, "--switch", "--index-url", &url, "--index-shards", "3"]);
    assert!(said.contains("20 products") && said.contains("serves generation"), "{said}");
    assert_eq!(qdrant.made(&qdrant.collections()[0]).shard_number, Some(3));
    assert_eq!(qdrant.aliases()["shop"], qdrant.collections()[0]);
    well(&["export", "shop", &other, "--index-url", &url]);
    let said = well(&["import", "default", &other, "--index-dir", &second_dir]);
    assert!(said.contains("does not serve yet"), "{said}");
    let (ids, serving) = generations(&["--index-dir", &second_dir], "default");
    assert_eq!((ids.len(), serving), (1, None));
    well(&["switch", "default", &ids[0], "--index-dir", &second_dir]);

    let moved = Server::start(&second, &[]).await;
    let after = found(&moved);
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert!(before.0 == after.0 && (before.1 - after.1).abs() < 1e-6, "{before:?} {after:?}");
    }
    assert_eq!(fs::read(&one).unwrap().len(), fs::read(&other).unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_beside_a_server_serves_and_so_does_a_switch_back() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 5);
    for _ in 0..2 {
        load_well(&feed, dir.path(), &[]);
    }
    let server = Server::start(dir.path(), &[]).await;
    let place = ["--index-dir", dir.path().to_str().unwrap()];
    let (ids, serving) = generations(&place, "default");
    assert_eq!((ids.len(), serving.as_deref()), (2, Some(ids[1].as_str())));
    let said = well(&[&["rollback", "default"], &place[..]].concat());
    assert!(said.contains(&ids[0]) && said.contains(&ids[1]), "{said}");
    serves(&server, &ids[0]).await;
    well(&[&["switch", "default", &ids[1]], &place[..]].concat());
    serves(&server, &ids[1]).await;

    let table = well(&[&["list"], &place[..]].concat());
    assert!(table.lines().any(|line| line.contains('*') && line.contains(&ids[1]) && line.contains("792")), "{table}");
    let info = well(&[&["info", "default"], &place[..]].concat());
    assert!(info.contains(&ids[1]) && info.contains("price") && info.contains("money EUR"), "{info}");
    let info: Value =
        serde_json::from_str(&well(&[&["info", "default", &ids[0], "--json"], &place[..]].concat())).unwrap();
    assert_eq!((&info["serves"], &info["products"]), (&Value::Bool(false), &Value::from(5)));
    assert_eq!(info["schema"]["attributes"]["price"]["type"], "money");

    // The server lets go of the old one as soon as it serves the new one.
    let started = Instant::now();
    let pruned = loop {
        let said = well(&[&["prune", "default", "--keep", "1"], &place[..]].concat());
        if !said.contains("is in use") || started.elapsed() > Duration::from_secs(30) {
            break said;
        }
    };
    assert_eq!(pruned, format!("removed {}\n", ids[0]));
    let nothing = index(&[&["rollback", "default"], &place[..]].concat());
    assert_eq!(nothing.status.code(), Some(66));
    assert!(!answer(&server)["results"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_and_files_are_said_with_an_exit_code() {
    let (dir, qdrant) = (tempfile::tempdir().unwrap(), StandIn::start().await);
    let index_dir = dir.path().join("index");
    fs::create_dir(&index_dir).unwrap();
    load_well(&small_feed(dir.path(), 3), &index_dir, &[]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (here, file, damaged) = (path("index"), path("shop.tar"), path("damaged.tar"));
    well(&["snapshot", "default", &file, "--index-dir", &here]);
    let mut content = fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&damaged, &content).unwrap();
    let (cut, unwritable, url) = (path("cut.tar"), path("nowhere/shop.tar"), qdrant.url());
    fs::write(&cut, &content[..middle]).unwrap();

    let (at, on) = (["--index-dir", &here], ["--index-url", &url]);
    for (arguments, place, code, problem) in [
        (&["info", "none"][..], &at, 66, "catalogue `none` is unknown; `vitrine index list` shows what there is"),
        (&["info", "default", "none"], &at, 66, "has no generation `none`"),
        (&["switch", "none", "1"], &at, 66, "`none` is unknown"),
        (&["switch", "none", "1"], &on, 66, "`none` is unknown"),
        (&["switch", "default", "../default"], &at, 66, "has no generation `../default`"),
        (&["rollback", "default"], &at, 66, "no generation before the one that serves"),
        (&["rollback", "none"], &on, 66, "`none` is unknown"),
        (&["prune", "none", "--keep", "1"], &at, 66, "`none` is unknown"),
        (&["prune", "default", "--keep", "0"], &at, 64, "--keep"),
        (&["prune", "default"], &at, 64, "--keep"),
        (&["info", "No Name"], &at, 64, "is not 1 to 64 of a-z"),
        (&["snapshot", "none", &file], &at, 66, "`none` is unknown"),
        (&["snapshot", "default", &file, "--generation", "1"], &at, 66, "has no generation `1`"),
        (&["snapshot", "default", &unwritable], &at, 73, "nowhere/shop.tar"),
        (&["restore", "default", &path("none.tar")], &at, 66, "none.tar"),
        (&["restore", "default", &damaged], &at, 65, "is damaged"),
        (&["restore", "default", &cut], &at, 65, "is cut off"),
        (&["restore", "default", &damaged], &on, 65, "is damaged"),
        (&["list"], &["--index-url", "http://127.0.0.1:1"], 69, "list the"),
        (&["list"], &["--index-url", "qdrant"], 64, "`index_url` is `qdrant`"),
    ] {
        let output = index(&[arguments, &place[..]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {error}");
        assert!(error.contains(problem), "{arguments:?} {error}");
    }
    assert_eq!(generations(&at, "default").0.len(), 1, "nothing was left of what was refused");
    assert!(qdrant.collections().is_empty());
    assert!(well(&[&["list"], &on[..]].concat()).contains("there is no catalogue in http"));
}

/// Whoever builds holds the lock, whether it is a loader or not.
#[tokio::test(flavor = "multi_thread")]
async fn beside_a_loader_a_rollback_is_made_and_the_rest_is_to_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 3);
    for _ in 0..2 {
        load_well(&feed, dir.path(), &[]);
    }
    let place = ["--index-dir", dir.path().to_str().unwrap()];
    let file = dir.path().join("shop.tar").display().to_string();
    let loading = fs::File::open(dir.path().join("default/LOCK")).unwrap();
    loading.lock().unwrap();
    well(&[&["list"], &place[..]].concat());
    well(&[&["rollback", "default"], &place[..]].concat());
    well(&[&["snapshot", "default", &file], &place[..]].concat());
    for refused in [&["prune", "default", "--keep", "1"][..], &["restore", "default", &file]] {
        let output = index(&[refused, &place[..]].concat());
        assert_eq!(output.status.code(), Some(75), "{refused:?}");
    }
    drop(loading);
    well(&[&["restore", "default", &file, "--switch"], &place[..]].concat());
    assert_eq!(generations(&place, "default").0.len(), 3, "a restore removes nothing");
}

#[cfg(unix)]
#[test]
fn sigterm_ends_a_restore_and_nothing_is_left_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("shop.tar");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut command = program("vitrine");
    command.args(["index", "restore", "default"]).arg(&fifo).arg("--index-dir").arg(dir.path().join("index"));
    let mut process = command.stderr(Stdio::null()).spawn().unwrap();
    // Who opens a named pipe waits until somebody reads from it.
    let writer = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(130));
    drop(writer);
    assert!(!Path::new(&dir.path().join("index")).exists());
}

#[test]
fn a_load_after_a_rollback_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let feed = small_feed(dir.path(), 3);
    for _ in 0..2 {
        load_well(&feed, dir.path(), &[]);
    }
    let place = ["--index-dir", dir.path().to_str().unwrap()];
    let (ids, _) = generations(&place, "default");
    well(&[&["rollback", "default"], &place[..]].concat());
    let mut failing = loader(&feed, dir.path(), &["--model-dir", "demo"]);
    assert!(!failing.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(generations(&place, "default"), (ids.clone(), Some(ids[0].clone())));
    load_well(&feed, dir.path(), &[]);
    let (after, serving) = generations(&place, "default");
    assert_eq!((after.len(), &after[0], &serving), (2, &ids[0], &after.last().cloned()));
    assert_ne!(after[1], ids[1], "what was rolled back from is gone");
}
