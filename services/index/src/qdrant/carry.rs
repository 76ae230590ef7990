//! Beginning a generation with the one that serves: a snapshot of each shard goes into the same shard of the new collection,
//! on every node that is to have a copy of it. The graph comes along; what is new or changed is added to it, and what is gone
//! is removed.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use qdrant_client::qdrant::{CollectionConfig, CollectionInfo};
use tokio::time::timeout;
use vitrine_core::index::IndexError;

use super::{
    connection::{Connection, ShardCopy},
    nodes::{NodeError, Nodes, Peer},
    options::QdrantOptions,
};
use crate::{
    error::{failed, unavailable},
    staying::Staying,
};

/// Segments that a shard may have more than its generation began with, before the server joins the smallest. 3: changes of a few
/// days lie beside the large segments that they are changes of. By default a server with few cores would join the first change
/// with the largest of them, and build its graph again; now it does so when a fifth of one has changed or gone, which is its own
/// rule, too.
const SEGMENTS_ADDED: u64 = 3;
/// Points that are looked through, or removed, at once.
const CHUNK: usize = 10_000;

/// Why nothing was carried over.
pub(super) enum NotCarried {
    /// The new collection is as it was.
    Untouched(IndexError),
    /// The new collection has some of it, and is of no use.
    Spoiled(IndexError),
}

/// How a collection is filled with the files of another one.
struct Plan {
    /// What to copy to each node.
    copies: BTreeMap<Peer, Vec<Copying>>,
    /// How many segments a shard may have then.
    segments: u64,
}

/// A shard to be copied.
struct Copying {
    shard: u32,
    from: Peer,
    to: Peer,
}

/// Fills a new, empty collection with the files of another one.
pub(super) async fn carry(
    options: &QdrantOptions,
    connection: &Connection,
    from: &str,
    to: &str,
) -> Result<(), NotCarried> {
    let (context, limit) = (|| format!("carry over {from}"), options.build.green_wait_max);
    let nodes = Nodes::new(options).map_err(failed(context())).map_err(NotCarried::Untouched)?;
    let Plan { copies, segments } = plan(connection, from, to).await.map_err(NotCarried::Untouched)?;
    let peers = copies.values().flatten().flat_map(|copying| [copying.from, copying.to]).collect();
    let found = nodes.find(&peers).await.map_err(failed(context())).map_err(NotCarried::Untouched)?;
    let node = |peer: Peer| found.get(&peer).ok_or(NodeError::Unknown(peer));
    // One shard after the other on each node, and all nodes at once; to the end of each, so that nothing is on its way
    // when the collection is thrown away.
    let to_node = async |copies: Vec<Copying>| -> Result<(), NodeError> {
        for Copying { shard, from: source, to: target } in copies {
            nodes.copy_shard(shard, (node(source)?, from), (node(target)?, to)).await?;
        }
        Ok(())
    };
    let copied = async {
        let copied = join_all(copies.into_values().map(to_node)).await;
        copied.into_iter().collect::<Result<(), _>>().map_err(failed(context()))?;
        connection.set_segments(to, segments).await.map_err(failed(context()))
    };
    let late = |_| unavailable(context(), format!("it is not done after {} s", limit.as_secs()));
    timeout(limit, copied).await.map_err(late).flatten().map_err(NotCarried::Spoiled)
}

/// What to do, if the shards of one collection fit into the other.
async fn plan(connection: &Connection, from: &str, to: &str) -> Result<Plan, IndexError> {
    let context = || format!("carry over {from}");
    let (ours, theirs) = (connection.describe(to).await?, connection.describe(from).await?);
    let (ours, theirs) = ours.zip(theirs).ok_or_else(|| unavailable(context(), "it is gone"))?;
    if let Some(what) = difference(&ours, &theirs) {
        return Err(unavailable(context(), format!("{what} of the new generation are others")));
    }
    let mut sources: BTreeMap<u32, Vec<Peer>> = BTreeMap::new();
    for ShardCopy { shard, peer, whole } in connection.copies(from).await? {
        sources.entry(shard).or_default().extend(whole.then_some(peer));
    }
    let targets = connection.copies(to).await?;
    let shards = targets.iter().map(|copy| copy.shard).collect::<BTreeSet<_>>().len();
    if sources.len() != shards {
        let reason = format!("it has {} shards, and the new generation {shards}", sources.len());
        return Err(unavailable(context(), reason));
    }
    let mut copies: BTreeMap<Peer, Vec<Copying>> = BTreeMap::new();
    for ShardCopy { shard, peer, whole } in targets {
        if !whole {
            // What it gets later would be what another copy had before.
            return Err(unavailable(context(), format!("a copy of shard {shard} of the new generation is not ready")));
        }
        let sources = sources.get(&shard).map(Vec::as_slice).unwrap_or_default();
        // Its own copy, if it has one.
        let source = sources.iter().find(|source| **source == peer).or_else(|| sources.first());
        let source = source.ok_or_else(|| unavailable(context(), format!("no copy of its shard {shard} is whole")))?;
        copies.entry(peer).or_default().push(Copying { shard, from: *source, to: peer });
    }
    // As it was said when the first of these generations was carried over, or else now. What the new collection has is what the
    // server says of all.
    let said = |info: CollectionInfo| info.config?.optimizer_config?.default_segment_number;
    let (count, of_all, said) = (theirs.segments_count, said(ours), said(theirs));
    let shards = u64::try_from(shards.max(1)).map_err(failed(context()))?;
    let segments = said.filter(|_| said != of_all).unwrap_or(count.div_ceil(shards) + SEGMENTS_ADDED);
    Ok(Plan { copies, segments })
}

/// What is not the same of two collections, so that the files of one are of no use to the other.
fn difference(ours: &CollectionInfo, theirs: &CollectionInfo) -> Option<&'static str> {
    let attributes = |info: &CollectionInfo| -> BTreeMap<String, i32> {
        info.payload_schema.iter().map(|(key, schema)| (key.clone(), schema.data_type)).collect()
    };
    if attributes(ours) != attributes(theirs) {
        return Some("the attributes");
    }
    let (ours, theirs) = (ours.config.as_ref()?, theirs.config.as_ref()?);
    let vectors = |config: &CollectionConfig| config.params.clone().and_then(|params| params.vectors_config);
    let keywords = |config: &CollectionConfig| config.params.clone().and_then(|params| params.sparse_vectors_config);
    let same = [
        ("the vectors", vectors(ours) == vectors(theirs)),
        ("the keywords", keywords(ours) == keywords(theirs)),
        ("the settings of the graph", ours.hnsw_config == theirs.hnsw_config),
        ("the settings of the quantisation", ours.quantization_config == theirs.quantization_config),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}

/// Removes what does not stay. Out: how many do.
pub(super) async fn remove_others(
    staying: Staying,
    connection: &Connection,
    collection: &str,
) -> Result<usize, IndexError> {
    let (staying, mut next) = (staying.into_points(), Some(None));
    while let Some(first) = next {
        let page = connection.scroll_ids(collection, first, CHUNK).await;
        let (ids, following) = page.map_err(failed("look for products that are gone"))??;
        next = following.map(Some);
        let gone: Vec<_> = ids.into_iter().filter(|id| !staying.contains(id)).collect();
        if !gone.is_empty() {
            connection.remove(collection, &gone).await.map_err(failed("remove products"))?;
        }
    }
    Ok(staying.len())
}
