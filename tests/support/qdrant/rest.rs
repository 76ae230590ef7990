//! The REST service of the stand-in's nodes: what they know of each other, and snapshots of shards.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Multipart, Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use futures::stream;
use prost::Message as _;
use qdrant_client::qdrant::PointStruct;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Collection, Held};

/// What is wrong with the next snapshots.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotFault {
    /// Nothing.
    #[default]
    None,
    /// Nobody gets one.
    Refused,
    /// A product is missing.
    Short,
    /// It breaks off halfway.
    Cut,
    /// The last node cannot take one.
    NotTaken,
    /// There are copies of what does not serve that are not whole yet, when somebody looks for the first time.
    Behind,
}

#[derive(Clone)]
struct Node {
    held: Arc<Mutex<Held>>,
    /// Its place among the nodes.
    nth: usize,
}

type Refusal = (StatusCode, Json<Value>);

/// Serves a node.
pub(super) fn serve(listener: TcpListener, held: Arc<Mutex<Held>>, nth: usize) -> JoinHandle<()> {
    let routes = Router::new()
        .route("/cluster", get(cluster))
        .route("/collections/{collection}/cluster", get(holding))
        .route("/collections/{collection}/shards/{shard}/snapshot", get(snapshot))
        .route("/collections/{collection}/shards/{shard}/snapshots/upload", post(recover))
        .layer(DefaultBodyLimit::disable())
        .with_state(Node { held, nth });
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() })
}

impl Node {
    /// Does something with what is held, if the caller may.
    fn admit<T>(&self, headers: &HeaderMap, work: impl FnOnce(&mut Held) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let key = headers.get("api-key").and_then(|key| key.to_str().ok());
        if held.api_key.is_some() && held.api_key.as_deref() != key {
            return Err(refusal(StatusCode::UNAUTHORIZED, "Must provide an API key or an Authorization bearer token"));
        }
        work(&mut held)
    }

    /// Does something with a shard that this node has a copy of.
    fn with_shard<T>(
        &self,
        headers: &HeaderMap,
        (name, shard): (&str, usize),
        work: impl FnOnce(&mut Collection, usize, SnapshotFault) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.admit(headers, |held| {
            let (nodes, fault) = (held.nodes, held.snapshot_fault);
            let missing = || refusal(StatusCode::NOT_FOUND, &format!("Not found: Collection `{name}` doesn't exist!"));
            let collection = held.collections.get_mut(name).ok_or_else(missing)?;
            if !collection.nodes_of(shard, nodes).contains(&self.nth) {
                return Err(refusal(StatusCode::NOT_FOUND, &format!("Shard {shard} is not a local shard")));
            }
            work(collection, nodes, fault)
        })
    }
}

fn refusal(status: StatusCode, error: &str) -> Refusal {
    (status, Json(json!({"status": {"error": error}, "time": 0.0})))
}

/// What a node is called.
pub(super) fn peer(nth: usize) -> u64 {
    1000 + u64::try_from(nth).unwrap()
}

/// Where a node is, within the loopback: each on its own address where there are several, with one port for all.
pub(super) fn host(nth: usize) -> Ipv4Addr {
    let last = if cfg!(target_os = "linux") { 1 + nth } else { 1 };
    Ipv4Addr::new(127, 0, 0, last.try_into().unwrap())
}

fn answer(result: &Value) -> Json<Value> {
    Json(json!({"result": result, "status": "ok", "time": 0.0}))
}

async fn cluster(State(node): State<Node>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let nodes = node.admit(&headers, |held| Ok(held.nodes))?;
    let uri = |nth: usize| json!({"uri": format!("http://{}:1/", host(nth))});
    let peers: serde_json::Map<_, _> = (0..nodes).map(|nth| (peer(nth).to_string(), uri(nth))).collect();
    let enabled = json!({"status": "enabled", "peer_id": peer(node.nth), "peers": peers});
    Ok(answer(&if nodes == 1 { json!({"status": "disabled"}) } else { enabled }))
}

/// What this node has of a collection.
async fn holding(
    State(node): State<Node>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    node.admit(&headers, |held| {
        let nodes = held.nodes;
        let missing = || refusal(StatusCode::NOT_FOUND, &format!("Not found: Collection `{name}` doesn't exist!"));
        let collection = held.collections.get(&name).ok_or_else(missing)?;
        let here = (0..nodes).filter(|shard| collection.nodes_of(*shard, nodes).contains(&node.nth));
        let points = |shard| collection.points.keys().filter(|name| shard_of(name, nodes) == shard).count();
        let shards = here.map(|shard| json!({"shard_id": shard, "points_count": points(shard), "state": "Active"}));
        let shards: Vec<_> = shards.collect();
        Ok(answer(&json!({"peer_id": peer(node.nth), "local_shards": shards, "remote_shards": []})))
    })
}

/// The points of a shard, one after the other.
async fn snapshot(
    State(node): State<Node>,
    Path((name, shard)): Path<(String, usize)>,
    headers: HeaderMap,
) -> Result<Body, Refusal> {
    node.with_shard(&headers, (&name, shard), |collection, nodes, fault| {
        if fault == SnapshotFault::Refused {
            return Err(refusal(StatusCode::FORBIDDEN, "Forbidden: Global manage access is required"));
        }
        let points = collection.points.iter().filter(|(name, _)| shard_of(name, nodes) == shard);
        let points = points.skip(usize::from(fault == SnapshotFault::Short));
        let mut parts: Vec<_> = points.map(|(_, point)| Ok(point.encode_length_delimited_to_vec())).collect();
        if fault == SnapshotFault::Cut {
            parts.truncate(parts.len() / 2);
            parts.push(Err(io::Error::other("the connection broke")));
        }
        Ok(Body::from_stream(stream::iter(parts)))
    })
}

/// Replaces a shard by a snapshot.
async fn recover(
    State(node): State<Node>,
    Path((name, shard)): Path<(String, usize)>,
    headers: HeaderMap,
    mut form: Multipart,
) -> Result<Json<Value>, Refusal> {
    let cut = || refusal(StatusCode::BAD_REQUEST, "Bad request: Error parsing multipart: Incomplete");
    let field = form.next_field().await.ok().flatten().ok_or_else(cut)?;
    assert_eq!(field.name(), Some("snapshot"));
    let mut bytes = field.bytes().await.map_err(|_| cut())?;
    node.with_shard(&headers, (&name, shard), |collection, nodes, fault| {
        if fault == SnapshotFault::NotTaken && node.nth + 1 == nodes {
            return Err(refusal(StatusCode::INTERNAL_SERVER_ERROR, "Service internal error: no space left on device"));
        }
        collection.points.retain(|name, _| shard_of(name, nodes) != shard);
        while !bytes.is_empty() {
            let point = PointStruct::decode_length_delimited(&mut bytes).unwrap();
            collection.points.insert(super::name(point.id.as_ref()).unwrap(), point);
        }
        collection.recovered.insert((node.nth, shard));
        Ok(answer(&true.into()))
    })
}

/// The shard that a point is in, where there is one for each node.
fn shard_of(name: &str, nodes: usize) -> usize {
    name.bytes().map(usize::from).sum::<usize>() % nodes
}
