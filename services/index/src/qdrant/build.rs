//! Filling a new generation on a Qdrant server, and letting it serve.
//!
//! A server has no locks that outlive their owner, so loaders keep out of each other's way like this:
//!
//! - **Nobody writes into another's collection**: its name ends in eight random digits of its loader's.
//! - **One loader at a time, as far as can be seen.** While a loader lives it raises a number in its collection's
//!   metadata, the *beat*. Who finds an unpublished collection watches it for three and a half beats: if the number
//!   grows, its loader lives, and the newcomer is refused; if not, it is dead, and its collection is removed. No clocks
//!   are compared. Of two that begin at the same moment, each looks again after making its collection, and one gives way.
//!   In a cluster whose nodes are behind each other both may go on: see the next point.
//! - **Who comes late does not replace what it did not see.** A loader remembers what serves when it begins. The switch is
//!   one `UpdateAliases`; its first action renames the alias `<catalogue>~<id>`, which is there only as long as nobody
//!   else has published, and without which the server carries out none of the rest. The very first load of a catalogue
//!   has no such alias to rename, and only looks whether something serves by now.
//! - **What serves is whole**: the alias `<catalogue>` is only ever pointed to a collection that is sealed, and one call
//!   moves it.
//!
//! With the model of what serves, a generation begins with that: with its files, where they can be had ([`super::carry`]),
//! or products that have not changed are copied from collection to collection with their vectors, and the server builds the
//! graph again.
//!
//! Not guaranteed: a loader that is cut off from the server for longer than the watch, or suspended, may find its
//! collection gone; its load fails then, and what serves stays. A person who points the alias to an older generation in
//! the very moment in which a loader removes it as the oldest loses that generation: the server removes a collection
//! whatever points to it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use qdrant_client::qdrant::{
    AliasOperations, BinaryQuantization, CollectionStatus, CompressionRatio, CreateAlias, CreateCollection, Datatype,
    Distance, HnswConfigDiff, Modifier, MultiVectorComparator, MultiVectorConfig, OptimizersConfigDiff,
    ProductQuantization, QuantizationConfig, QuantizationType, RenameAlias, ScalarQuantization, SparseIndexConfig,
    SparseVectorConfig, SparseVectorParams, StrictModeConfig, VectorParams, VectorParamsMap, VectorsConfig,
    alias_operations::Action, quantization_config::Quantization, vectors_config,
};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};
use uuid::Uuid;
use vitrine_core::{
    Chain,
    embed::ModelInfo,
    generations::superseded,
    index::{
        Digest, Generation, GenerationBuilder, GenerationInfo, IndexError, IndexedProduct, Origin, SealedGeneration,
        Start, Target,
    },
    keywords::{KeptWords, Keywords, WordCounter},
    product::{CatalogName, ProductId, Schema},
};

use super::{
    carry::{NotCarried, carry, remove_others},
    connection::Connection,
    description::{self, Description, Parts},
    generation::QdrantGeneration,
    names::{collection, generation_id, is_publication, new_generation_id, publication},
    options::{BuildOptions, QdrantOptions},
    point::{Found, field_type, to_point},
};
use crate::{
    GRAPH_KIB_MIN,
    error::{failed, unavailable},
    nothing,
    payload::{KEYWORDS, payload_indexes, point_id, vector_name},
    quantisation::Quantisation,
    refuse_misshapen,
    staying::Staying,
};

/// Most bytes of vectors in one upsert. 4 MiB: a call that a server on a busy machine ends within its timeout, and far
/// more than a call costs by itself.
const UPSERT_BYTES_MAX: usize = 4 << 20;
/// What is being done while a generation is begun.
const BEGIN: &str = "begin a generation";
/// Pauses between two looks at whether a generation is green, the first and the longest.
const GREEN_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The removals that run by themselves, because a builder was dropped.
pub(super) type Removals = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// What a loader has of a catalogue: everything it needs to know of the server.
pub(super) struct Site {
    pub(super) connection: Arc<Connection>,
    pub(super) catalog: CatalogName,
    pub(super) options: QdrantOptions,
    pub(super) removals: Removals,
}

/// What serves a catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Serving {
    pub(super) collection: Option<String>,
    publication: Option<String>,
}

impl Site {
    pub(super) async fn serving(&self) -> Result<Serving, IndexError> {
        let mut aliases = self.connection.aliases().await?;
        let collection = aliases.remove(self.catalog.as_str());
        // There is one, unless people made more; the newest is the one that loaders go by.
        let publication = aliases.into_keys().rfind(|alias| is_publication(&self.catalog, alias));
        Ok(Serving { collection, publication })
    }

    /// The generations of this catalogue, by collection.
    pub(super) async fn generations(&self) -> Result<BTreeMap<String, Description>, IndexError> {
        let mut generations = BTreeMap::new();
        for name in self.connection.collections().await? {
            if generation_id(&self.catalog, &name).is_none() {
                continue;
            }
            if let Some(description) = self.connection.describe(&name).await?.and_then(Description::read) {
                generations.insert(name, description?);
            }
        }
        Ok(generations)
    }

    /// The generations that were never published, each with its loader's last beat.
    async fn unfinished(&self) -> Result<BTreeMap<String, i64>, IndexError> {
        let serving = self.serving().await?;
        let generations = self.generations().await?.into_iter();
        let unfinished = generations
            .filter(|(name, generation)| !generation.published && serving.collection.as_deref() != Some(name.as_str()));
        Ok(unfinished.map(|(name, generation)| (name, generation.beat)).collect())
    }

    /// Removes what dead loaders left. Refused while one lives.
    async fn clear(&self) -> Result<(), IndexError> {
        let before = self.unfinished().await?;
        if before.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(self.options.build.beat.mul_f64(3.5)).await;
        let after = self.unfinished().await?;
        if after.iter().any(|(name, beat)| before.get(name) != Some(beat)) {
            return Err(IndexError::Locked(self.catalog.clone()));
        }
        for name in after.keys() {
            let described = self.connection.describe_when(name, |description| description.published).await?;
            if described.is_some_and(|description| description.published) {
                // Who said otherwise was behind.
                continue;
            }
            tracing::info!(collection = name, "removing what a killed loader left");
            self.connection.delete(name).await.map_err(failed(format!("remove {name}")))?;
        }
        Ok(())
    }

    /// Refused if another loader has begun since the way was clear: one with an earlier name, at once; one with a later
    /// name, if it has not given way in its turn after a beat, because it looked before this one was there.
    async fn give_way(&self, name: &str) -> Result<(), IndexError> {
        let locked = || Err(IndexError::Locked(self.catalog.clone()));
        let mut others: Vec<String> = self.unfinished().await?.into_keys().filter(|other| other != name).collect();
        if others.iter().any(|other| other.as_str() < name) {
            return locked();
        }
        if !others.is_empty() {
            tokio::time::sleep(self.options.build.beat).await;
            others = self.unfinished().await?.into_keys().filter(|other| other != name).collect();
        }
        if others.is_empty() { Ok(()) } else { locked() }
    }

    /// Makes a whole collection the serving one, unless something else serves than `replaces`.
    pub(super) async fn switch(&self, id: &str, replaces: &Serving) -> Result<(), SwitchError> {
        const CONTEXT: &str = "publish a generation";
        let locked = || Err(SwitchError::NotDone(IndexError::Locked(self.catalog.clone())));
        if self.serving().await.map_err(SwitchError::NotDone)? != *replaces {
            return locked();
        }
        let collection = collection(&self.catalog, id);
        if let Err(refusal) = self.connection.change_aliases(switch(&self.catalog, id, &collection, replaces)).await {
            if refusal.is_not_found() {
                // What the first action renames is gone: somebody else has published.
                return locked();
            }
            // The server may have done it all the same, or still do it.
            let serving = self.serving().await;
            if serving.is_ok_and(|serving| serving.collection.as_ref() == Some(&collection)) {
                return Ok(());
            }
            return Err(SwitchError::Unknown(unavailable(CONTEXT, refusal)));
        }
        Ok(())
    }

    /// Removes generations, by collection. One that an alias points to stays. Out: those that stayed.
    pub(super) async fn remove<'a>(&self, collections: Vec<&'a str>) -> Result<Vec<&'a str>, IndexError> {
        let mut stayed = Vec::new();
        for name in collections {
            let aliases = self.connection.aliases().await?;
            if aliases.values().any(|collection| collection == name) {
                stayed.push(name);
                continue;
            }
            self.connection.delete(name).await.map_err(failed(format!("remove {name}")))?;
        }
        Ok(stayed)
    }

    /// Removes what is superseded by a publication.
    async fn supersede(&self, replaced: Option<&str>, collection: &str) -> Result<(), IndexError> {
        let published = self.generations().await?.into_iter().filter(|(_, generation)| generation.published);
        let published: Vec<String> = published.map(|(name, _)| name).collect();
        let kept = self.options.build.generations_kept.max(1);
        let old = superseded(published.iter().map(String::as_str), replaced, collection, kept);
        for undone in old.iter().filter(|old| replaced.is_some_and(|replaced| **old > replaced)) {
            tracing::info!(collection = undone, "removing what was rolled back from, or never served");
        }
        self.remove(old).await.map(drop)
    }
}

/// Why a switch was not made.
pub(super) enum SwitchError {
    /// Nothing has changed.
    NotDone(IndexError),
    /// The server did not say whether it was made; it may still be.
    Unknown(IndexError),
}

impl From<SwitchError> for IndexError {
    fn from(error: SwitchError) -> Self {
        match error {
            SwitchError::NotDone(error) | SwitchError::Unknown(error) => error,
        }
    }
}

/// A collection that does not serve yet. Dropping it removes it.
struct Unpublished {
    site: Site,
    collection: String,
    /// What served when it was begun.
    replaces: Serving,
    /// Says that the loader lives.
    beating: AbortHandle,
    /// Whether the collection is to be removed.
    discarded: bool,
}

impl Unpublished {
    fn new(site: Site, collection: String, replaces: Serving) -> Self {
        let (connection, name, every) = (Arc::clone(&site.connection), collection.clone(), site.options.build.beat);
        let beating = tokio::spawn(async move {
            for number in 1.. {
                tokio::time::sleep(every).await;
                if let Err(refusal) = connection.set_metadata(&name, [description::beat(number)]).await {
                    // Whether the load can go on shows when it next asks for something.
                    tracing::debug!(%refusal, "could not say that this loader lives");
                }
            }
        });
        Self { site, collection, replaces, beating: beating.abort_handle(), discarded: true }
    }

    /// What can be begun with, and how the words of how many products are kept there, if they are such as this version makes.
    async fn origin(&self, model: &ModelInfo) -> Result<(Origin, Option<(KeptWords, usize)>), IndexError> {
        let Some(serving) = &self.replaces.collection else { return Ok((nothing::serves(), None)) };
        let described = self.site.connection.describe_when(serving, Description::is_whole).await?;
        let id = generation_id(&self.site.catalog, serving);
        let Some(info) = id.zip(described).and_then(|(id, description)| description.into_info(id)) else {
            return Ok((Origin::Nothing("what serves is no whole generation".to_owned()), None));
        };
        let kept = info.keywords().map(|kept| (kept.clone(), info.products));
        let same = info.model == *model;
        Ok((if same { Origin::Generation(info.id) } else { nothing::of_this_model(&info.id) }, kept))
    }

    /// Makes the collection searchable by its attributes. Before the first product: indexes are cheap to keep and dear to
    /// make, and the graph is built with them.
    async fn index_fields(&self, schema: &Schema) -> Result<(), IndexError> {
        for (key, kind) in payload_indexes(schema) {
            let indexed = self.site.connection.index_field(&self.collection, &key, field_type(kind)).await;
            indexed.map_err(failed(BEGIN))?;
        }
        Ok(())
    }

    /// Begins with the files of a generation, if they can be had. Out: what is to stay of them; `None`, and then the
    /// collection is as it was made.
    async fn carry_over(
        &self,
        from: &str,
        (create, schema): (&CreateCollection, &Schema),
    ) -> Result<Option<Staying>, IndexError> {
        let Self { site, collection: to, .. } = self;
        let (reason, spoiled) = match carry(&site.options, &site.connection, from, to).await {
            Ok(()) => {
                tracing::info!(from, to, "carried over, graph and all");
                return Ok(Some(Staying::default()));
            }
            Err(NotCarried::Untouched(reason)) => (reason, false),
            Err(NotCarried::Spoiled(reason)) => (reason, true),
        };
        tracing::warn!(from, reason = %Chain(&reason), "copying its products; the server builds the graph again");
        if spoiled {
            site.connection.delete(to).await.map_err(failed(BEGIN))?;
            site.connection.create(create).await.map_err(failed(BEGIN))?;
            // For a moment nobody could see that this loader lives.
            site.give_way(to).await?;
            self.index_fields(schema).await?;
        }
        Ok(None)
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        self.beating.abort();
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.discarded {
            return;
        }
        let (connection, collection) = (Arc::clone(&self.site.connection), self.collection.clone());
        let removal = runtime.spawn(async move {
            if let Err(refusal) = connection.delete(&collection).await {
                // The next loader tries again.
                tracing::warn!(collection, %refusal, "could not remove an unpublished generation");
            }
        });
        self.site.removals.lock().unwrap_or_else(PoisonError::into_inner).push(removal);
    }
}

/// A generation that is being filled.
pub(super) struct QdrantBuilder {
    unpublished: Unpublished,
    info: GenerationInfo,
    origin: Origin,
    /// What stays of the collection's points, if it has those of what it begins with.
    staying: Option<Staying>,
    words: Mutex<WordCounter>,
    /// What makes a generation of the whole collection.
    open: Open,
}

/// What makes a generation of a whole collection, which is split into such parts.
pub(super) type Open = Box<dyn FnOnce(String, GenerationInfo, Parts) -> QdrantGeneration + Send + Sync>;

/// A generation that is whole and does not serve yet.
struct QdrantSealed {
    unpublished: Unpublished,
    generation: Arc<QdrantGeneration>,
}

impl QdrantBuilder {
    pub(super) async fn begin(
        site: Site,
        model: &ModelInfo,
        schema: &Schema,
        start: Start,
        open: Open,
    ) -> Result<Self, IndexError> {
        site.connection.check_version().await?;
        site.clear().await?;
        let replaces = site.serving().await?;
        let id = new_generation_id();
        let name = collection(&site.catalog, &id);
        if let Some(serving) = replaces.collection.as_ref().filter(|serving| **serving >= name) {
            let reason = format!("the clock, at {id}, is behind the serving generation, {serving}");
            return Err(unavailable(BEGIN, reason));
        }
        let create = create(&name, model, schema, &site.options.build)?;
        site.connection.create(&create).await.map_err(failed(BEGIN))?;
        let unpublished = Unpublished::new(site, name, replaces);
        unpublished.site.give_way(&unpublished.collection).await?;
        unpublished.index_fields(schema).await?;
        let (origin, kept) = match start {
            Start::Empty => (nothing::asked_for(), None),
            Start::Serving => unpublished.origin(model).await?,
        };
        let staying = match (&origin, &kept) {
            (Origin::Generation(serving), Some(_)) => {
                let from = collection(&unpublished.site.catalog, serving);
                unpublished.carry_over(&from, (&create, schema)).await?
            }
            (Origin::Generation(from), None) => {
                let reason = nothing::OTHER_KEYWORDS;
                tracing::warn!(from, reason, "copying its products; the server builds the graph again");
                None
            }
            (Origin::Nothing(_), _) => None,
        };
        let words = match (&staying, kept) {
            (Some(_), Some((kept, products))) => WordCounter::going_on(kept.common, products),
            // What is copied is counted once more.
            (Some(_) | None, _) => WordCounter::empty(),
        };
        let info = GenerationInfo { id, model: model.clone(), schema: schema.clone(), products: 0, keywords: None };
        Ok(Self { unpublished, info, origin, staying, words: Mutex::new(words), open })
    }

    /// The collection that it begins with.
    fn begun_with(&self) -> Option<String> {
        match &self.origin {
            Origin::Generation(id) => Some(collection(&self.unpublished.site.catalog, id)),
            Origin::Nothing(_) => None,
        }
    }

    /// What is to be kept of a product's words.
    fn words_of(&self, indexed: &IndexedProduct) -> Keywords {
        let keywords = Keywords::of_product(&indexed.product);
        self.words.lock().unwrap_or_else(PoisonError::into_inner).keep(keywords)
    }

    /// Writes products into the collection, a few megabytes at once.
    async fn upsert(&self, products: &[IndexedProduct]) -> Result<(), IndexError> {
        let Unpublished { site, collection, .. } = &self.unpublished;
        let dimensions = self.info.model.dimensions;
        let bytes = |indexed: &IndexedProduct| (indexed.image_embeddings.len() + 1) * dimensions * size_of::<f32>();
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        for indexed in products {
            batch_bytes += bytes(indexed);
            batch.push(to_point(indexed, &self.words_of(indexed))?);
            if batch_bytes >= UPSERT_BYTES_MAX {
                batch_bytes = 0;
                let full = std::mem::take(&mut batch);
                site.connection.upsert(collection, full).await.map_err(failed("add products"))?;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        site.connection.upsert(collection, batch).await.map_err(failed("add products"))
    }
}

#[expect(deprecated, reason = "what replaces `on_disk` is not known to servers before 1.20")]
fn create(
    name: &str,
    model: &ModelInfo,
    schema: &Schema,
    options: &BuildOptions,
) -> Result<CreateCollection, IndexError> {
    let size = u64::try_from(model.dimensions).map_err(failed(BEGIN))?;
    let vector = VectorParams {
        size,
        distance: Distance::Cosine.into(),
        datatype: Some(Datatype::Float16.into()),
        on_disk: Some(options.on_disk),
        ..VectorParams::default()
    };
    let multivector = MultiVectorConfig { comparator: MultiVectorComparator::MaxSim.into() };
    let vectors =
        [(Target::Image, VectorParams { multivector_config: Some(multivector), ..vector }), (Target::Text, vector)];
    let vectors = vectors.into_iter().map(|(target, params)| (vector_name(target).to_owned(), params));
    // How rare each word is, the server counts.
    let keywords = SparseVectorParams {
        index: Some(SparseIndexConfig {
            on_disk: Some(options.on_disk),
            datatype: Some(Datatype::Float16.into()),
            ..SparseIndexConfig::default()
        }),
        modifier: Some(Modifier::Idf.into()),
    };
    Ok(CreateCollection {
        collection_name: name.to_owned(),
        vectors_config: Some(VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(VectorParamsMap { map: vectors.collect() })),
        }),
        sparse_vectors_config: Some(SparseVectorConfig { map: [(KEYWORDS.to_owned(), keywords)].into() }),
        hnsw_config: Some(HnswConfigDiff {
            m: Some(options.hnsw_m.into()),
            ef_construct: Some(options.hnsw_ef_construct.into()),
            ..HnswConfigDiff::default()
        }),
        optimizers_config: Some(OptimizersConfigDiff {
            indexing_threshold: u64::try_from(GRAPH_KIB_MIN).ok(),
            ..OptimizersConfigDiff::default()
        }),
        shard_number: options.shards,
        replication_factor: Some(options.replicas),
        write_consistency_factor: Some(options.write_consistency),
        quantization_config: quantisation(options.quantisation)
            .map(|kind| QuantizationConfig { quantization: Some(kind) }),
        // A filter by what has no index is a mistake of ours, and must not become a scan of all products.
        strict_mode_config: Some(StrictModeConfig {
            enabled: Some(true),
            unindexed_filtering_retrieve: Some(false),
            ..StrictModeConfig::default()
        }),
        metadata: description::made(model, schema)?,
        ..CreateCollection::default()
    })
}

/// What a kind of quantisation is to Qdrant.
#[expect(deprecated, reason = "what replaces `always_ram` is not known to servers before 1.20")]
pub(super) fn quantisation(kind: Quantisation) -> Option<Quantization> {
    match kind {
        Quantisation::None => None,
        Quantisation::Int8 => Some(Quantization::Scalar(ScalarQuantization {
            r#type: QuantizationType::Int8.into(),
            // Of numbers that are nearly all small: the few large ones need not be told apart.
            quantile: Some(0.99),
            always_ram: Some(true),
            ..ScalarQuantization::default()
        })),
        Quantisation::Binary => {
            Some(Quantization::Binary(BinaryQuantization { always_ram: Some(true), ..BinaryQuantization::default() }))
        }
        Quantisation::Product => Some(Quantization::Product(ProductQuantization {
            compression: CompressionRatio::X16.into(),
            always_ram: Some(true),
            ..ProductQuantization::default()
        })),
    }
}

#[async_trait]
impl GenerationBuilder for QdrantBuilder {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn known(&self, ids: &[ProductId]) -> Result<Vec<Option<Digest>>, IndexError> {
        let (Some(from), false) = (self.begun_with(), ids.is_empty()) else { return Ok(vec![None; ids.len()]) };
        let points: Vec<Uuid> = ids.iter().map(point_id).collect();
        let found = self.unpublished.site.connection.retrieve_digests(&from, &points).await;
        let found = found.map_err(failed(format!("read from {from}")))??;
        let known: HashMap<_, _> = found.into_iter().map(|found| (found.id, found.digest)).collect();
        Ok(points.iter().map(|point| known.get(point).copied().flatten()).collect())
    }

    async fn keep(&self, ids: &[ProductId]) -> Result<(), IndexError> {
        if let Some(staying) = &self.staying {
            staying.keep(ids);
            return Ok(());
        }
        let (Some(from), false) = (self.begun_with(), ids.is_empty()) else { return Ok(()) };
        let points: Vec<Uuid> = ids.iter().map(point_id).collect();
        let found = self.unpublished.site.connection.retrieve(&from, &points).await;
        let found = found.map_err(failed(format!("read from {from}")))??;
        let found = found.into_iter().map(Found::into_indexed).collect::<Result<Vec<_>, _>>()?;
        if found.len() != points.len() {
            let reason = format!("{} of {} products are there", found.len(), points.len());
            return Err(unavailable(format!("read from {from}"), reason));
        }
        self.upsert(&found).await
    }

    async fn add(&self, products: Vec<IndexedProduct>) -> Result<(), IndexError> {
        refuse_misshapen(&products, self.info.model.dimensions)?;
        if let Some(staying) = &self.staying {
            staying.add(&products);
        }
        self.upsert(&products).await
    }

    async fn seal(self: Box<Self>) -> Result<Box<dyn SealedGeneration>, IndexError> {
        const CONTEXT: &str = "seal a generation";
        let Self { unpublished, mut info, staying, words, open, .. } = *self;
        let Unpublished { site, collection, .. } = &unpublished;
        let stay = match staying {
            Some(staying) => Some(remove_others(staying, &site.connection, collection).await?),
            None => None,
        };
        green(&site.connection, collection, site.options.build.green_wait_max).await?;
        let described = site.connection.description(collection).await?;
        let parts = described.ok_or_else(|| unavailable(CONTEXT, "its collection is gone"))?.parts;
        info.products = site.connection.count(collection).await.map_err(failed(CONTEXT))?;
        if let Some(stay) = stay.filter(|stay| *stay != info.products) {
            return Err(unavailable(CONTEXT, format!("{} of its {stay} products are there", info.products)));
        }
        let kept = words.into_inner().unwrap_or_else(PoisonError::into_inner).kept();
        let whole = description::whole(info.products, &kept);
        info.keywords = Some(kept);
        site.connection.set_metadata(collection, whole).await.map_err(failed(CONTEXT))?;
        let generation = Arc::new(open(collection.clone(), info, parts));
        Ok(Box::new(QdrantSealed { unpublished, generation }))
    }
}

/// Waits until the graph of a collection is built and every copy of it whole.
async fn green(connection: &Connection, collection: &str, wait_max: Duration) -> Result<(), IndexError> {
    const CONTEXT: &str = "wait for the index to finish a generation";
    let (deadline, mut pause) = (Instant::now() + wait_max, GREEN_PAUSES.0);
    loop {
        let info = connection.describe(collection).await?;
        let info = info.ok_or_else(|| unavailable(CONTEXT, format!("{collection} is gone")))?;
        let behind = connection.copies(collection).await?.iter().filter(|copy| !copy.whole).count();
        let missing = match info.status() {
            CollectionStatus::Green if behind == 0 => return Ok(()),
            CollectionStatus::Green => format!("{behind} copies of its shards are not whole"),
            CollectionStatus::Red => {
                let reason = info.optimizer_status.map(|status| status.error).unwrap_or_default();
                return Err(unavailable(CONTEXT, format!("the server gave up on {collection}: {reason}")));
            }
            CollectionStatus::Yellow | CollectionStatus::Grey | CollectionStatus::UnknownCollectionStatus => {
                "it is still being optimised".to_owned()
            }
        };
        if Instant::now() >= deadline {
            let reason = format!("after {} s, {missing}", wait_max.as_secs());
            return Err(unavailable(CONTEXT, reason));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(GREEN_PAUSES.1);
    }
}

#[async_trait]
impl SealedGeneration for QdrantSealed {
    fn generation(&self) -> Arc<dyn Generation> {
        Arc::<QdrantGeneration>::clone(&self.generation)
    }

    async fn publish(self: Box<Self>) -> Result<(), IndexError> {
        const CONTEXT: &str = "publish a generation";
        let Self { mut unpublished, generation } = *self;
        let Unpublished { site, collection, replaces, .. } = &unpublished;
        // First, so that what serves is never taken for what a dead loader left.
        site.connection.set_metadata(collection, [description::published()]).await.map_err(failed(CONTEXT))?;
        if let Err(error) = site.switch(&generation.info.id, replaces).await {
            // Nothing is removed that may serve by and by; what never does is pruned in its time.
            unpublished.discarded = matches!(error, SwitchError::NotDone(_));
            return Err(error.into());
        }
        unpublished.discarded = false;
        let Unpublished { site, collection, replaces, .. } = &unpublished;
        if let Err(error) = site.supersede(replaces.collection.as_deref(), collection).await {
            tracing::warn!(error = %Chain(&error), "could not remove an old generation");
        }
        Ok(())
    }

    async fn set_aside(self: Box<Self>) -> Result<(), IndexError> {
        let Self { mut unpublished, .. } = *self;
        let Unpublished { site, collection, .. } = &unpublished;
        let published = site.connection.set_metadata(collection, [description::published()]).await;
        published.map_err(failed("set a generation aside"))?;
        unpublished.discarded = false;
        Ok(())
    }
}

/// The actions that make a collection the serving one, none of which happens if somebody else has published meanwhile.
fn switch(catalog: &CatalogName, id: &str, collection: &str, replaces: &Serving) -> Vec<AliasOperations> {
    let now = publication(catalog, id);
    let before = replaces.publication.iter();
    let renamed = before
        .map(|before| Action::RenameAlias(RenameAlias { old_alias_name: before.clone(), new_alias_name: now.clone() }));
    let pointed = [now.clone(), catalog.to_string()]
        .map(|alias_name| Action::CreateAlias(CreateAlias { collection_name: collection.to_owned(), alias_name }));
    renamed.chain(pointed).map(|action| AliasOperations { action: Some(action) }).collect()
}
