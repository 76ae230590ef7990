//! What the end-to-end tests share: where things are, and a server to talk to.

#![expect(clippy::panic, clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that panics has failed")]

mod index;
mod qdrant;
mod raw;

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use vitrine_clip::Runtime;

pub use index::{IndexKind, TestIndex};
pub use qdrant::{SearchCall, SnapshotFault, StandIn};
pub use raw::{RawCall, halves};
pub use tonic_health::pb::health_check_response::ServingStatus;

/// Longest wait for a server to come up; far beyond what it needs, for machines that do other things besides.
const START_MAX: Duration = Duration::from_mins(1);

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The bundled model.
pub fn mini() -> PathBuf {
    repository().join("models/mini")
}

/// ONNX Runtime, as the programs find it.
pub fn runtime() -> Runtime {
    let configured = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    Runtime::load(configured.as_deref(), &env::current_exe().unwrap()).unwrap()
}

/// A folder beside the repository that only developers have. Says that the test is skipped where it is not.
pub fn shared(path: &str) -> Option<PathBuf> {
    let folder = repository().join("../shared").join(path);
    if folder.exists() {
        return folder.canonicalize().ok();
    }
    eprintln!("skipped: there is no ../shared/{path} beside this repository");
    None
}

/// The drawn shop's feed.
pub fn demo() -> PathBuf {
    repository().join("demo/products.jsonl")
}

/// The first products of the drawn shop, in a feed of their own whose pictures are found.
pub fn small_feed(dir: &Path, count: usize) -> PathBuf {
    let feed = fs::read_to_string(demo()).unwrap();
    let lines: Vec<_> = feed.lines().take(count).collect();
    let path = dir.join("small.jsonl");
    fs::write(&path, lines.join("\n").replace("images/", &format!("{}/demo/images/", repository().display()))).unwrap();
    path
}

/// The manifest of a catalogue's serving generation, without which it cannot be opened.
pub fn manifest(catalog: &Path) -> PathBuf {
    let id = fs::read_to_string(catalog.join("CURRENT")).unwrap();
    catalog.join("generations").join(id).join("generation.json")
}

/// A program of this workspace, built beside the tests.
pub fn program(name: &str) -> Command {
    let tests = env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace --all-targets` first", path.display());
    let mut command = Command::new(path);
    command.current_dir(repository()).stdin(Stdio::null());
    command
}

/// Runs the loader to its end.
pub fn load(feed: &Path, index_dir: &Path, arguments: &[&str]) -> Output {
    loader(feed, index_dir, arguments).output().unwrap()
}

/// The loader, not started yet. Its dead letters go beside the index.
pub fn loader(feed: &Path, index_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = program("catalog-loader");
    command.arg(feed).arg("--index-dir").arg(index_dir);
    command.arg("--dead-letters").arg(index_dir.join("dead-letters.jsonl")).args(arguments);
    command
}

/// Loads a feed that must load.
pub fn load_well(feed: &Path, index_dir: &Path, arguments: &[&str]) -> String {
    let output = load(feed, index_dir, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An address of this machine that nothing listens on. It is free when it is asked for; another process taking it
/// meanwhile fails the test, and no more.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What a server answers to Prometheus at its `--metrics-listen`.
pub fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: vitrine\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A running `vitrine serve`, killed when dropped.
pub struct Server {
    process: Child,
    endpoint: Endpoint,
    /// How long it took from start to SERVING.
    pub ready_after: Duration,
}

impl Server {
    /// Starts a server on a free port and waits until it serves.
    pub async fn start(index_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(index_dir, arguments, &[]).await
    }

    /// The same, with variables of the environment.
    pub async fn start_with(index_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn_with(&free_address(), index_dir, arguments, variables).serving().await
    }

    /// The same, at an address that was free a moment ago.
    pub async fn start_at(address: &str, index_dir: &Path, arguments: &[&str]) -> Self {
        Self::spawn_with(address, index_dir, arguments, &[]).serving().await
    }

    async fn serving(self) -> Self {
        let (mut server, started) = (self, Instant::now());
        while !server.is_serving().await {
            assert!(started.elapsed() < START_MAX, "the server does not come up");
            if let Some(status) = server.process.try_wait().unwrap() {
                panic!("the server ended: {status}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.ready_after = started.elapsed();
        server
    }

    /// Starts a server on a free port and waits for nothing.
    pub fn spawn(index_dir: &Path, arguments: &[&str]) -> Self {
        Self::spawn_with(&free_address(), index_dir, arguments, &[])
    }

    fn spawn_with(address: &str, index_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = program("vitrine");
        command.args(["serve", "--listen", address, "--index-poll-ms", "50", "--index-dir"]).arg(index_dir);
        let process = command.args(arguments).envs(variables.iter().copied()).spawn().unwrap();
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        Self { process, endpoint, ready_after: Duration::ZERO }
    }

    /// Its address, for the command line.
    pub fn address(&self) -> String {
        self.endpoint.uri().to_string()
    }

    /// Its host and port.
    pub fn authority(&self) -> &str {
        self.endpoint.uri().authority().unwrap().as_str()
    }

    /// A connection to it.
    pub async fn channel(&self) -> Channel {
        self.endpoint.connect().await.unwrap()
    }

    /// Whether its health service says SERVING.
    pub async fn is_serving(&self) -> bool {
        self.health("").await == Some(ServingStatus::Serving)
    }

    /// What its health service says of a service; `None` while it does not answer.
    pub async fn health(&self, service: &str) -> Option<ServingStatus> {
        let channel = self.endpoint.connect().await.ok()?;
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(channel).check(request).await.ok()?;
        Some(health.into_inner().status())
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Sends SIGTERM.
    pub fn send_sigterm(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Sends SIGTERM and waits for the end. Out: whether it ended well.
    pub fn terminate(&mut self) -> bool {
        self.send_sigterm();
        self.process.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
