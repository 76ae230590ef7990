//! The REST service of the stand-in's nodes: what they know of each other, and snapshots of shards.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Multipart, Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use prost::Message as _;
use qdrant_client::qdrant::PointStruct;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Collection, Held};

/// What the first node is called; the others follow.
pub(super) const FIRST_PEER: u64 = 1000;

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

async fn cluster(State(node): State<Node>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let nodes = node.admit(&headers, |held| Ok(held.nodes))?;
    let peer = |nth: usize| FIRST_PEER + u64::try_from(nth).unwrap();
    let peers: serde_json::Map<_, _> =
        (0..nodes).map(|nth| (peer(nth).to_string(), json!({"uri": "http://127.0.0.1:1/"}))).collect();
    let enabled = json!({"status": "enabled", "peer_id": peer(node.nth), "peers": peers});
    let result = if nodes == 1 { json!({"status": "disabled"}) } else { enabled };
    Ok(Json(json!({"result": result, "status": "ok", "time": 0.0})))
}

/// The points of a shard, one after the other.
async fn snapshot(
    State(node): State<Node>,
    Path((name, shard)): Path<(String, usize)>,
    headers: HeaderMap,
) -> Result<Vec<u8>, Refusal> {
    node.with_shard(&headers, (&name, shard), |collection, nodes, fault| {
        if fault == SnapshotFault::Refused {
            return Err(refusal(StatusCode::FORBIDDEN, "Forbidden: Global manage access is required"));
        }
        let points = collection.points.iter().filter(|(name, _)| shard_of(name, nodes) == shard);
        let points = points.skip(usize::from(fault == SnapshotFault::Short));
        Ok(points.flat_map(|(_, point)| point.encode_length_delimited_to_vec()).collect())
    })
}

/// Replaces a shard by a snapshot.
async fn recover(
    State(node): State<Node>,
    Path((name, shard)): Path<(String, usize)>,
    headers: HeaderMap,
    mut form: Multipart,
) -> Result<Json<Value>, Refusal> {
    let field = form.next_field().await.unwrap().unwrap();
    assert_eq!(field.name(), Some("snapshot"));
    let mut bytes = field.bytes().await.unwrap();
    node.with_shard(&headers, (&name, shard), |collection, nodes, _| {
        collection.points.retain(|name, _| shard_of(name, nodes) != shard);
        while !bytes.is_empty() {
            let point = PointStruct::decode_length_delimited(&mut bytes).unwrap();
            collection.points.insert(super::name(point.id.as_ref()).unwrap(), point);
        }
        Ok(Json(json!({"result": true, "status": "ok", "time": 0.0})))
    })
}

/// The shard that a point is in, where there is one for each node.
fn shard_of(name: &str, nodes: usize) -> usize {
    name.bytes().map(usize::from).sum::<usize>() % nodes
}
