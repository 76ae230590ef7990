//! The nodes of a Qdrant server, by their REST service: snapshots of shards are had there, and not over gRPC.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::StatusCode;
use reqwest::{
    Client, RequestBuilder, Response,
    header::{HeaderMap, HeaderValue, InvalidHeaderValue},
    multipart::{Form, Part},
    redirect::Policy,
};
use rustls::crypto::ring;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{address::RestUrl, options::QdrantOptions};

/// How Qdrant names a node.
pub(super) type Peer = u64;

/// Longest wait for a node to say who it is, and for a connection. 5 s: it takes no work, and a load goes on without.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Most characters of a refusal that are shown. 300: the sentence, not the page of a proxy.
const REASON_MAX: usize = 300;

/// Why a node did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum NodeError {
    #[error("the server's key cannot be sent")]
    Key(#[source] InvalidHeaderValue),
    #[error("prepare to call the server's nodes")]
    Client(#[source] reqwest::Error),
    #[error("{url}")]
    Silent { url: RestUrl, source: reqwest::Error },
    #[error("{url}: {status}: {reason}")]
    Refused { url: RestUrl, status: StatusCode, reason: String },
    #[error("the REST service of node {0} is not known")]
    Unknown(Peer),
    #[error("{0} has no TLS, and the server's key would leave this machine: name the nodes' addresses")]
    InTheOpen(RestUrl),
    #[error("{url} is not always node {peer}")]
    Another { url: RestUrl, peer: Peer },
    #[error("{url} has no shard {shard} any more")]
    Moved { url: RestUrl, shard: u32 },
    #[error("{came} of {of} products came to {url}")]
    Short { url: RestUrl, came: u64, of: u64 },
}

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    peer: Peer,
    url: RestUrl,
}

/// What calls the nodes.
pub(super) struct Nodes {
    client: Client,
    urls: Vec<RestUrl>,
    /// Whether the server asks for a key.
    keyed: bool,
    /// Longest wait for a node to count what it has.
    timeout: Duration,
}

/// What every answer is in.
#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

/// What a node knows of its cluster; nothing, where it is alone.
#[derive(Deserialize)]
struct Cluster {
    peer_id: Option<Peer>,
    #[serde(default)]
    peers: BTreeMap<Peer, PeerInfo>,
}

#[derive(Deserialize)]
struct PeerInfo {
    /// Its address within the cluster.
    uri: String,
}

/// What a node has of a collection.
#[derive(Deserialize)]
struct Holding {
    peer_id: Peer,
    local_shards: Vec<LocalShard>,
}

#[derive(Deserialize)]
struct LocalShard {
    shard_id: u32,
    points_count: u64,
}

impl Nodes {
    /// For nodes that are not called yet.
    pub(super) fn new(options: &QdrantOptions) -> Result<Self, NodeError> {
        // There is one already if anything else has used TLS; it is the same.
        drop(ring::default_provider().install_default());
        let beside = || RestUrl::beside(&options.url).into_iter().collect();
        let urls = if options.rest_urls.is_empty() { beside() } else { options.rest_urls.clone() };
        let mut headers = HeaderMap::new();
        if let Some(key) = &options.api_key {
            if let Some(url) = urls.iter().find(|url| url.is_in_the_open()) {
                tracing::warn!(%url, "the index's key is sent without TLS; use https");
            }
            let mut key = HeaderValue::from_str(&key.reveal()).map_err(NodeError::Key)?;
            key.set_sensitive(true);
            headers.insert("api-key", key);
        }
        let mut client = Client::builder();
        if !urls.iter().any(RestUrl::is_tls) {
            // Otherwise a machine that trusts nobody could not call anybody.
            client = client.tls_certs_only([]);
        }
        // As gRPC: through no proxy, and to nobody else.
        let client = client.default_headers(headers).no_proxy().redirect(Policy::none());
        let client = client.connect_timeout(LOOK_MAX).build().map_err(NodeError::Client)?;
        Ok(Self { client, urls, keyed: options.api_key.is_some(), timeout: options.timeout })
    }

    /// Finds these nodes.
    pub(super) async fn find(&self, wanted: &BTreeSet<Peer>) -> Result<BTreeMap<Peer, Node>, NodeError> {
        let (mut found, mut silent) = (BTreeMap::new(), None);
        let node = |peer: Peer, url: &RestUrl| (peer, Node { peer, url: url.clone() });
        for url in &self.urls {
            match self.read(url, "/cluster", LOOK_MAX).await {
                // A server that is no cluster.
                Ok(Cluster { peer_id: None, .. }) => found.extend(wanted.iter().map(|peer| node(*peer, url))),
                // The only address of several nodes may lead to any of them: each is looked for at its own host.
                Ok(Cluster { peers, .. }) if self.urls.len() == 1 && peers.len() > 1 => {
                    for peer in wanted {
                        let at_its_host = peers.get(peer).and_then(|info| url.of_peer(&info.uri));
                        let at_its_host = at_its_host.ok_or(NodeError::Unknown(*peer))?;
                        if self.keyed && at_its_host.is_in_the_open() && !url.is_in_the_open() {
                            return Err(NodeError::InTheOpen(at_its_host));
                        }
                        let there: Cluster = self.read(&at_its_host, "/cluster", LOOK_MAX).await?;
                        found.extend(there.peer_id.map(|peer| node(peer, &at_its_host)));
                    }
                }
                Ok(Cluster { peer_id: Some(peer), .. }) => found.extend([node(peer, url)]),
                // It may be one that is not needed.
                Err(error) => silent = Some(error),
            }
        }
        match wanted.iter().find(|peer| !found.contains_key(peer)) {
            Some(missing) => Err(silent.unwrap_or(NodeError::Unknown(*missing))),
            None => Ok(found),
        }
    }

    /// Replaces a shard of one collection by that of another, files and all. The bytes pass through here: a node need not
    /// reach the other, and none has to be allowed to read from addresses that it is told.
    pub(super) async fn copy_shard(
        &self,
        shard: u32,
        (from, source): (&Node, &str),
        (to, target): (&Node, &str),
    ) -> Result<(), NodeError> {
        let of = self.points(from, source, shard).await?;
        let snapshot = self.client.get(format!("{}/collections/{source}/shards/{shard}/snapshot", from.url));
        let snapshot = answer(&from.url, snapshot).await?;
        let form = Form::new().part("snapshot", Part::stream(snapshot).file_name("shard.snapshot"));
        // Without a look at the other copies, which get the same.
        let upload = format!("shards/{shard}/snapshots/upload?wait=true&priority=no_sync");
        let upload = self.client.post(format!("{}/collections/{target}/{upload}", to.url)).multipart(form);
        answer(&to.url, upload).await?;
        let came = self.points(to, target, shard).await?;
        if came == of { Ok(()) } else { Err(NodeError::Short { url: to.url.clone(), came, of }) }
    }

    /// How many points a node has of a shard.
    async fn points(&self, node: &Node, collection: &str, shard: u32) -> Result<u64, NodeError> {
        let (path, url) = (format!("/collections/{collection}/cluster"), node.url.clone());
        let Holding { peer_id, local_shards } = self.read(&node.url, &path, self.timeout).await?;
        if peer_id != node.peer {
            return Err(NodeError::Another { url, peer: node.peer });
        }
        let held = local_shards.into_iter().find(|held| held.shard_id == shard);
        Ok(held.ok_or(NodeError::Moved { url, shard })?.points_count)
    }

    async fn read<T: DeserializeOwned>(&self, url: &RestUrl, path: &str, wait: Duration) -> Result<T, NodeError> {
        let request = self.client.get(format!("{url}{path}")).timeout(wait);
        let answer = answer(url, request).await?.json::<Answer<T>>().await;
        Ok(answer.map_err(silent(url))?.result)
    }
}

async fn answer(url: &RestUrl, request: RequestBuilder) -> Result<Response, NodeError> {
    let mut response = request.send().await.map_err(silent(url))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text =
        timeout(LOOK_MAX, response.chunk()).await.ok().and_then(|chunk| chunk.ok().flatten()).unwrap_or_default();
    let reason = String::from_utf8_lossy(&text).chars().take(REASON_MAX).collect();
    Err(NodeError::Refused { url: url.clone(), status, reason })
}

fn silent(url: &RestUrl) -> impl FnOnce(reqwest::Error) -> NodeError {
    // Its own text begins with the address, too.
    let url = url.clone();
    move |error| NodeError::Silent { url, source: error.without_url() }
}
