//! Filling a new generation.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use qdrant_edge::{
    CreateIndex, EdgeShard, FieldIndexOperations, PointInsertOperations, PointOperations, UpdateOperation,
};
use vitrine_core::{
    compute::ComputePool,
    embed::ModelInfo,
    index::{
        Digest, Generation, GenerationBuilder, GenerationInfo, IndexError, IndexedProduct, Origin, SealedGeneration,
        Start,
    },
    keywords::{Keywords, WordCounter},
    product::{CatalogName, ProductId, Schema},
};

use super::{
    blocking,
    carry::{NotCarried, Wanted, carry, digests, open_beside, products, remove_others},
    directory::{BuildLock, CatalogDirectory, GenerationDirectory},
    generation::{CopiedGeneration, EdgeGeneration, Shard},
    graph::{config, regraphed},
    layout, log,
    point::{payload_indexes, to_point},
};
use crate::{
    error::{failed, unavailable},
    nothing,
    quantisation::Quantisation,
    refuse_misshapen,
    staying::Staying,
};

/// The files of a generation that does not serve yet. Dropping them removes them.
struct Partial {
    name: CatalogName,
    catalog: CatalogDirectory,
    directory: Option<GenerationDirectory>,
    generations_kept: usize,
    lock: BuildLock,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take()
            && let Err(error) = std::fs::remove_dir_all(&directory.path)
        {
            // The next loader tries again.
            tracing::warn!(path = %directory.path.display(), %error, "could not remove an unpublished generation");
        }
    }
}

/// A generation that is being filled.
pub(super) struct EdgeBuilder {
    // Dropped in this order: the shard is closed before its files are removed.
    shard: Arc<Shard>,
    partial: Partial,
    info: GenerationInfo,
    origin: Origin,
    begun: Begun,
    words: Arc<Mutex<WordCounter>>,
    /// Threads that build graphs; 0 is one for each core.
    threads: usize,
    pool: Arc<ComputePool>,
}

/// What a generation has begun with.
#[derive(Clone)]
enum Begun {
    /// Nothing.
    Empty,
    /// The files of what serves, of whose products these stay.
    Files(Arc<Staying>),
    /// The products of what serves, which are copied one by one.
    Products(Arc<CopiedGeneration>),
}

/// How generations are built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Building {
    pub(super) generations_kept: usize,
    pub(super) quantisation: Quantisation,
    /// Threads that build graphs; 0 is one for each core.
    pub(super) threads: usize,
}

/// A generation that is whole and does not serve yet.
struct EdgeSealed {
    generation: Arc<EdgeGeneration>,
    partial: Partial,
}

impl EdgeBuilder {
    pub(super) fn begin(
        catalog: CatalogDirectory,
        building: Building,
        name: &CatalogName,
        (model, schema): (ModelInfo, Schema),
        start: Start,
        pool: Arc<ComputePool>,
    ) -> Result<Self, IndexError> {
        const CONTEXT: &str = "begin a generation";
        let lock = catalog.lock().map_err(failed(CONTEXT))?;
        let lock = lock.ok_or_else(|| IndexError::Locked(name.clone()))?;
        let (id, directory) = catalog.begin(&lock).map_err(failed(CONTEXT))?;
        let Building { generations_kept, quantisation, threads } = building;
        let wanted = Wanted { model: &model, schema: &schema, quantisation };
        let (begun, carried, origin) = match (start, lock.replaces.as_deref()) {
            (Start::Empty, _) => (Begun::Empty, None, nothing::asked_for()),
            (Start::Serving, None) => (Begun::Empty, None, nothing::serves()),
            (Start::Serving, Some(serving)) => begin_with(serving, &catalog, &directory, &wanted, &pool),
        };
        let shard_path = directory.shard();
        let partial = Partial { name: name.clone(), catalog, directory: Some(directory), generations_kept, lock };
        let (shard, words) = match carried {
            Some(carried) => carried,
            None => (Shard::new(empty(&shard_path, &model, &schema, quantisation)?), WordCounter::empty()),
        };
        let info = GenerationInfo { id, model, schema, products: 0, keywords: None };
        let (shard, words) = (Arc::new(shard), Arc::new(Mutex::new(words)));
        Ok(Self { shard, partial, info, origin, begun, words, threads, pool })
    }
}

/// Begins with the files of what serves, in the new place; or with its products, or with nothing, and then there is no shard yet.
fn begin_with(
    serving: &str,
    catalog: &CatalogDirectory,
    directory: &GenerationDirectory,
    wanted: &Wanted<'_>,
    pool: &Arc<ComputePool>,
) -> (Begun, Option<(Shard, WordCounter)>, Origin) {
    let origin = Origin::Generation(serving.to_owned());
    match carry(catalog, serving, directory, wanted) {
        Ok(carried) => (Begun::Files(Arc::default()), Some(carried), origin),
        Err(NotCarried::Nothing(why)) => (Begun::Empty, None, why),
        Err(NotCarried::Otherwise(reason)) => match open_beside(catalog, serving, Arc::clone(pool)) {
            Ok(source) => {
                tracing::warn!(serving, reason, "copying its products; the graph is built again");
                (Begun::Products(Arc::new(source)), None, origin)
            }
            Err(why) => (Begun::Empty, None, why),
        },
    }
}

/// A shard without products, that can be filtered by every attribute.
fn empty(path: &Path, model: &ModelInfo, schema: &Schema, quantisation: Quantisation) -> Result<EdgeShard, IndexError> {
    const CONTEXT: &str = "begin a generation";
    let shard = EdgeShard::new(path, config(model.dimensions, quantisation)).map_err(failed(CONTEXT))?;
    for (field_name, field_type) in payload_indexes(schema, quantisation) {
        let create = CreateIndex { field_name, field_schema: Some(field_type) };
        let create = UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create));
        shard.update(create).map_err(failed(CONTEXT))?;
    }
    Ok(shard)
}

/// The same shard without the log of what was added: as large as the vectors are, on disk and mapped into memory.
fn without_log(shard: Shard, directory: &GenerationDirectory) -> Result<Shard, IndexError> {
    shard.close()?;
    log::shorten(&directory.shard()).map_err(failed("seal a generation"))?;
    Shard::load(&directory.shard())
}

#[async_trait]
impl GenerationBuilder for EdgeBuilder {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn known(&self, ids: &[ProductId]) -> Result<Vec<Option<Digest>>, IndexError> {
        let (ids, shard) = (ids.to_owned(), Arc::clone(&self.shard));
        match self.begun.clone() {
            Begun::Empty => Ok(vec![None; ids.len()]),
            Begun::Files(_) => blocking("read from the index", move || digests(&shard, &ids)).await,
            Begun::Products(source) => blocking("read from the index", move || digests(source.shard(), &ids)).await,
        }
    }

    async fn keep(&self, ids: &[ProductId]) -> Result<(), IndexError> {
        match self.begun.clone() {
            Begun::Empty => Ok(()),
            Begun::Files(staying) => {
                staying.keep(ids);
                Ok(())
            }
            Begun::Products(source) => {
                let ids = ids.to_owned();
                self.add(blocking("copy products", move || products(source.shard(), &ids)).await?).await
            }
        }
    }

    async fn add(&self, products: Vec<IndexedProduct>) -> Result<(), IndexError> {
        let dimensions = self.info.model.dimensions;
        let (shard, begun, words) = (Arc::clone(&self.shard), self.begun.clone(), Arc::clone(&self.words));
        blocking("add products", move || {
            refuse_misshapen(&products, dimensions)?;
            if let Begun::Files(staying) = begun {
                staying.add(&products);
            }
            let points = products.iter().map(|indexed| {
                let keywords = Keywords::of_product(&indexed.product);
                let keywords = words.lock().unwrap_or_else(PoisonError::into_inner).keep(keywords);
                Ok(to_point(indexed, &keywords)?.into())
            });
            let points = PointInsertOperations::PointsList(points.collect::<Result<_, IndexError>>()?);
            let upsert = UpdateOperation::PointOperation(PointOperations::UpsertPoints(points));
            shard.with("add products", |shard| shard.update(upsert))
        })
        .await
    }

    async fn seal(self: Box<Self>) -> Result<Box<dyn SealedGeneration>, IndexError> {
        let Self { shard, partial, mut info, begun, words, threads, pool, .. } = *self;
        info.keywords = Some(words.lock().unwrap_or_else(PoisonError::into_inner).kept());
        let in_use = || unavailable("seal a generation", "products are being added");
        let shard = Arc::into_inner(shard).ok_or_else(in_use)?;
        let carried = matches!(begun, Begun::Files(_));
        let sealed = blocking("seal a generation", move || {
            match begun {
                Begun::Files(staying) => remove_others(Arc::into_inner(staying).ok_or_else(in_use)?, &shard)?,
                // The files of what was copied are not needed any more.
                Begun::Products(source) => drop(source),
                Begun::Empty => {}
            }
            let shard = match &partial.directory {
                Some(directory) => without_log(shard, directory)?,
                None => shard,
            };
            info.products = shard.products()?;
            shard.with("seal a generation", |shard| {
                let graphs = regraphed(&shard.config(), info.products, threads);
                if carried { layout::build_more(shard, graphs) } else { layout::build(shard, &info.schema, graphs) }
            })?;
            if let Some(directory) = &partial.directory {
                directory.write_info(&info).map_err(failed("seal a generation"))?;
            }
            let generation = Arc::new(EdgeGeneration::of(info, shard, pool));
            Ok(EdgeSealed { generation, partial })
        });
        Ok(Box::new(sealed.await?))
    }
}

#[async_trait]
impl SealedGeneration for EdgeSealed {
    fn generation(&self) -> Arc<dyn Generation> {
        Arc::<EdgeGeneration>::clone(&self.generation)
    }

    async fn publish(self: Box<Self>) -> Result<(), IndexError> {
        self.finish("publish a generation", |partial, id, directory| {
            let Partial { catalog, lock, generations_kept, .. } = partial;
            catalog.publish(lock, id, directory, *generations_kept)
        })
        .await
    }

    async fn set_aside(self: Box<Self>) -> Result<(), IndexError> {
        self.finish("set a generation aside", |partial, id, directory| {
            partial.catalog.set_aside(&partial.lock, id, directory).map(|()| true)
        })
        .await
    }
}

impl EdgeSealed {
    /// Closes the generation and does the last step with its files, which are removed if that is refused.
    async fn finish(
        self,
        context: &'static str,
        last: impl FnOnce(&Partial, &str, &GenerationDirectory) -> io::Result<bool> + Send + 'static,
    ) -> Result<(), IndexError> {
        let Self { generation, mut partial } = self;
        blocking(context, move || {
            let id = generation.id().to_owned();
            // Closing flushes; and the process that will serve it must be able to open it.
            let generation = Arc::into_inner(generation);
            let generation = generation.ok_or_else(|| unavailable(context, "it is still being searched"))?;
            generation.close()?;
            let done = match &partial.directory {
                Some(directory) => last(&partial, &id, directory).map_err(failed(context))?,
                None => true,
            };
            if !done {
                return Err(IndexError::Locked(partial.name.clone()));
            }
            // It is not partial any more, and stays.
            drop(partial.directory.take());
            Ok(())
        })
        .await
    }
}
