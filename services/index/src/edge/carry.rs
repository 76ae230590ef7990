//! Beginning a generation with the one that serves: its files are copied, what is new or changed goes into a part of its
//! own, and what is gone is marked. The graph of what stays is not built again. Where the files are of no use, because
//! attributes or settings are others now, the products that stay are copied one by one, and need not be embedded again.

use std::{collections::HashMap, fmt, fs, sync::Arc};

use qdrant_edge::{
    EdgeOptimizersConfig, EdgeShard, PointId, PointOperations, ScrollRequest, UpdateOperation, WithPayloadInterface,
    WithVector,
};
use vitrine_core::{
    Chain,
    compute::ComputePool,
    embed::ModelInfo,
    index::{Digest, IndexError, IndexedProduct, Origin},
    keywords::WordCounter,
    product::{ProductId, Schema},
};

use super::{
    directory::{CatalogDirectory, GenerationDirectory, LogFiles},
    generation::{CopiedGeneration, Shard},
    point::{path, to_digest},
};
use crate::{
    error::{failed, unavailable},
    nothing,
    payload::{DIGEST, point_id},
    quantisation::Quantisation,
    staying::Staying,
};

/// Most parts that a generation is searched in. 4: changes of a few days lie beside the large part that they are changes
/// of; then the small ones are joined, and the large one only when a fifth of it is gone.
const PARTS_MAX: usize = 4;
/// Points that are looked through, or removed, at once.
const CHUNK: usize = 10_000;

/// Why the files of the serving generation are not begun with.
pub(super) enum NotCarried {
    /// They were made otherwise; its products can be copied one by one.
    Otherwise(String),
    /// There is nothing to begin with.
    Nothing(Origin),
}

/// What the new generation must be.
pub(super) struct Wanted<'a> {
    pub(super) model: &'a ModelInfo,
    pub(super) schema: &'a Schema,
    pub(super) quantisation: Quantisation,
}

/// Copies the serving generation's files to a new place and opens them. Out: the shard, and what goes on counting its words;
/// or why not, and then the new place is empty, as far as it could be emptied.
pub(super) fn carry(
    catalog: &CatalogDirectory,
    serving: &str,
    to: &GenerationDirectory,
    wanted: &Wanted<'_>,
) -> Result<(Shard, WordCounter), NotCarried> {
    let from = catalog.generation(serving);
    let unread = |error: IndexError| NotCarried::Nothing(useless(serving, &Chain(&error)));
    let info = from.read_info().map_err(unread)?;
    if info.model != *wanted.model {
        return Err(NotCarried::Nothing(nothing::of_this_model(serving)));
    }
    let otherwise = |reason: &str| NotCarried::Otherwise(reason.to_owned());
    let kept = info.keywords().ok_or_else(|| otherwise(nothing::OTHER_KEYWORDS))?;
    if info.schema != *wanted.schema {
        return Err(otherwise("its attributes are others"));
    }
    let copied = from.copy_shard(to, LogFiles::Copied).map_err(|error| error.to_string());
    let opened = copied.and_then(|()| open(to, info.products, wanted.quantisation));
    opened.map(|shard| (shard, WordCounter::going_on(kept.common.clone(), info.products))).map_err(|reason| {
        let shard = to.shard();
        let emptied = fs::remove_dir_all(&shard).and_then(|()| fs::create_dir(&shard));
        match emptied {
            Ok(()) => NotCarried::Otherwise(reason),
            Err(error) => {
                NotCarried::Nothing(useless(serving, &format_args!("{reason}; {}: {error}", shard.display())))
            }
        }
    })
}

fn useless(serving: &str, reason: &dyn fmt::Display) -> Origin {
    Origin::Nothing(format!("generation {serving} cannot be copied: {reason}"))
}

/// Opens the serving generation beside whoever has it open, for its products to be copied one by one.
pub(super) fn open_beside(
    catalog: &CatalogDirectory,
    serving: &str,
    pool: Arc<ComputePool>,
) -> Result<CopiedGeneration, Origin> {
    let copy = catalog.copy(serving).map_err(failed("copy it"));
    let opened = copy.and_then(|copy| CopiedGeneration::open(copy, pool));
    opened.map_err(|error| useless(serving, &Chain(&error)))
}

/// These products of a shard, each of which must be there.
pub(super) fn products(shard: &Shard, ids: &[ProductId]) -> Result<Vec<IndexedProduct>, IndexError> {
    let products = shard.products_at(ids)?;
    if products.len() != ids.len() {
        let reason = format!("{} of {} products are there", products.len(), ids.len());
        return Err(unavailable("copy products", reason));
    }
    Ok(products)
}

fn open(copy: &GenerationDirectory, products: usize, wanted: Quantisation) -> Result<Shard, String> {
    let why = |error: IndexError| Chain(&error).to_string();
    let shard = Shard::load_whole(&copy.shard(), products).map_err(why)?;
    if shard.quantisation() != wanted {
        return Err("its vectors are quantised otherwise".to_owned());
    }
    let parts = |shard: &EdgeShard| {
        let optimizers = shard.config().optimizers.clone();
        shard.set_optimizers_config(EdgeOptimizersConfig { default_segment_number: Some(PARTS_MAX), ..optimizers })
    };
    shard.with("begin a generation", parts).map_err(why)?;
    Ok(shard)
}

/// Removes what does not stay.
pub(super) fn remove_others(staying: Staying, shard: &Shard) -> Result<(), IndexError> {
    let staying = staying.into_points();
    let mut next = Some(None);
    while let Some(offset) = next {
        let request = ScrollRequest {
            offset,
            limit: Some(CHUNK),
            with_payload: Some(WithPayloadInterface::Bool(false)),
            with_vector: WithVector::Bool(false),
            ..ScrollRequest::default()
        };
        let (records, following) = shard.with("read from the index", |shard| shard.scroll(request))?;
        next = following.map(Some);
        let stays = |point: &PointId| matches!(point, PointId::Uuid(uuid) if staying.contains(uuid));
        let gone: Vec<_> = records.iter().map(|record| record.id).filter(|point| !stays(point)).collect();
        if !gone.is_empty() {
            let remove = UpdateOperation::PointOperation(PointOperations::DeletePoints { ids: gone });
            shard.with("remove products", |shard| shard.update(remove))?;
        }
    }
    Ok(())
}

/// What the products of a shard were made of.
pub(super) fn digests(shard: &Shard, ids: &[ProductId]) -> Result<Vec<Option<Digest>>, IndexError> {
    let points: Vec<_> = ids.iter().map(|id| PointId::Uuid(point_id(id))).collect();
    let payload = WithPayloadInterface::Fields(vec![path(DIGEST)]);
    let read = |shard: &EdgeShard| shard.retrieve(&points, Some(payload), Some(WithVector::Bool(false)));
    let records = shard.with("read from the index", read)?;
    let known: HashMap<_, _> = records.iter().map(|record| (record.id, to_digest(record.payload.as_ref()))).collect();
    Ok(points.iter().map(|point| known.get(point).copied().flatten()).collect())
}
