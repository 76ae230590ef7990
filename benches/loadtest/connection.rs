//! Connections to the server: HTTP/2 without more, so that nothing here waits in a queue, or ends a request, unseen.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::Mutex};

use crate::target::Target;

/// Longest wait for a connection: on this machine or near it, 3 s is an outage.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Room for an answer of a full page, and for hundreds of them on one connection: reading never holds a server up.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * STREAM_WINDOW_BYTES;

type Sender = SendRequest<Full<Bytes>>;

/// Several connections, taken in turn; a broken one is made again by the next request that comes to it.
#[derive(Debug)]
pub(crate) struct Connections {
    addresses: Vec<SocketAddr>,
    senders: Vec<Mutex<Sender>>,
    turn: AtomicUsize,
}

impl Connections {
    /// Makes `count` connections, at least one.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(crate) async fn open(target: &Target, count: usize) -> anyhow::Result<Self> {
        let mut senders = Vec::with_capacity(count);
        for _ in 0..count {
            senders.push(Mutex::new(connect(&target.addresses).await?));
        }
        Ok(Self { addresses: target.addresses.clone(), senders, turn: AtomicUsize::new(0) })
    }

    /// The next connection in turn.
    ///
    /// # Errors
    /// When it broke and cannot be made again.
    pub(crate) async fn next(&self) -> anyhow::Result<Sender> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.senders.len();
        let mut sender = self.senders.get(turn).context("there is no connection")?.lock().await;
        // Locked meanwhile: a broken connection is made again once, not by everyone who waits for it.
        if sender.is_closed() {
            *sender = connect(&self.addresses).await?;
        }
        Ok(sender.clone())
    }
}

async fn connect(addresses: &[SocketAddr]) -> anyhow::Result<Sender> {
    let made = tokio::time::timeout(CONNECT_MAX, async {
        let stream = TcpStream::connect(addresses).await?;
        stream.set_nodelay(true)?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(STREAM_WINDOW_BYTES);
        builder.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // What breaks the connection ends its requests, too, and is counted there.
        tokio::spawn(async move { drop(connection.await) });
        anyhow::Ok(sender)
    });
    let address = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let made = made.await.with_context(|| format!("connect to {address}: no connection after {CONNECT_MAX:?}"))?;
    made.with_context(|| format!("connect to {address}; is `vitrine serve` running?"))
}
