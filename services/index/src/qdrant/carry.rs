//! Beginning a generation with the one that serves: a snapshot of each shard goes into the same shard of the new collection,
//! on every node that is to have a copy of it. The graph comes along; what is new or changed is added to it, and what is gone
//! is removed.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use qdrant_client::qdrant::{CollectionConfig, CollectionInfo};
use tokio::time::timeout;
use vitrine_core::index::IndexError;

use super::{
    connection::Connection,
    nodes::{NodeError, Nodes, Peer},
    options::{QdrantOptions, RestUrl},
};
use crate::{
    error::{failed, unavailable},
    staying::Staying,
};

/// Points that are looked through, or removed, at once.
const CHUNK: usize = 10_000;

/// Why nothing was carried over.
pub(super) enum NotCarried {
    /// The new collection is as it was.
    Untouched(IndexError),
    /// The new collection has some of it, and is of no use.
    Spoiled(IndexError),
}

/// A shard to be copied.
struct Copying {
    shard: u32,
    from: RestUrl,
    to: RestUrl,
}

/// Fills a new, empty collection with the files of one that has so many products.
pub(super) async fn carry(
    options: &QdrantOptions,
    connection: &Connection,
    (from, products): (&str, usize),
    to: &str,
) -> Result<(), NotCarried> {
    let context = || format!("carry over {from}");
    let nodes = Nodes::new(options).map_err(failed(context())).map_err(NotCarried::Untouched)?;
    let copies = plan(&nodes, connection, from, to).await.map_err(NotCarried::Untouched)?;
    // One shard after the other on each node, and all nodes at once.
    let node = async |copies: Vec<Copying>| -> Result<(), NodeError> {
        for Copying { shard, from: source, to: target } in copies {
            nodes.copy_shard(shard, (&source, from), (&target, to)).await?;
        }
        Ok(())
    };
    let copied = try_join_all(copies.into_values().map(node));
    let copied = timeout(options.build.green_wait_max, copied).await;
    let copied = copied.map_err(failed(context())).and_then(|copied| copied.map(drop).map_err(failed(context())));
    copied.map_err(NotCarried::Spoiled)?;
    let came = connection.count(to).await.map_err(failed(context())).map_err(NotCarried::Spoiled)?;
    if came == products {
        return Ok(());
    }
    Err(NotCarried::Spoiled(unavailable(context(), format!("{came} of {products} products came"))))
}

/// What to copy to each node. Refused if the shards of one collection do not fit into the other.
async fn plan(
    nodes: &Nodes,
    connection: &Connection,
    from: &str,
    to: &str,
) -> Result<BTreeMap<Peer, Vec<Copying>>, IndexError> {
    let context = || format!("carry over {from}");
    let (ours, theirs) = (connection.describe(to).await?, connection.describe(from).await?);
    if let Some(what) = ours.zip(theirs).and_then(|(ours, theirs)| difference(&ours, &theirs)) {
        return Err(unavailable(context(), format!("{what} of the new generation are others")));
    }
    let (sources, targets) = (connection.copies(from).await?, connection.copies(to).await?);
    if !sources.keys().eq(targets.keys()) {
        let reason = format!("it has {} shards, and the new generation {}", sources.len(), targets.len());
        return Err(unavailable(context(), reason));
    }
    let peers: BTreeSet<_> = sources.values().chain(targets.values()).flatten().copied().collect();
    let urls = nodes.find(&peers).await.map_err(failed(context()))?;
    let url = |peer: Peer| urls.get(&peer).cloned().ok_or(NodeError::Unknown(peer)).map_err(failed(context()));
    let mut copies: BTreeMap<Peer, Vec<Copying>> = BTreeMap::new();
    for ((shard, sources), targets) in sources.into_iter().zip(targets.into_values()) {
        for peer in targets {
            // Its own copy, if it has one.
            let source = sources.get(&peer).or_else(|| sources.first()).copied();
            let source = source.ok_or_else(|| unavailable(context(), format!("no copy of shard {shard} is whole")))?;
            copies.entry(peer).or_default().push(Copying { shard, from: url(source)?, to: url(peer)? });
        }
    }
    Ok(copies)
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
    let same = [
        ("the vectors", vectors(ours) == vectors(theirs)),
        ("the settings of the graph", ours.hnsw_config == theirs.hnsw_config),
        ("the settings of the quantisation", ours.quantization_config == theirs.quantization_config),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}

/// Removes what does not stay.
pub(super) async fn remove_others(
    staying: Staying,
    connection: &Connection,
    collection: &str,
) -> Result<(), IndexError> {
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
    Ok(())
}
