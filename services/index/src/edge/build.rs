//! Filling a new generation.

use std::{io, sync::Arc};

use async_trait::async_trait;
use qdrant_edge::{
    CreateIndex, EdgeShard, FieldIndexOperations, PointInsertOperations, PointOperations, UpdateOperation,
};
use vitrine_core::{
    compute::ComputePool,
    embed::ModelInfo,
    index::{Generation, GenerationBuilder, GenerationInfo, IndexError, IndexedProduct, SealedGeneration},
    product::{CatalogName, Schema},
};

use super::{
    blocking,
    directory::{BuildLock, CatalogDirectory, GenerationDirectory},
    generation::{EdgeGeneration, Shard},
    graph::{config, regraphed},
    log,
    point::{payload_indexes, to_point},
};
use crate::{
    error::{failed, unavailable},
    quantisation::Quantisation,
    refuse_misshapen,
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
    pool: Arc<ComputePool>,
}

/// A generation that is whole and does not serve yet.
struct EdgeSealed {
    generation: Arc<EdgeGeneration>,
    partial: Partial,
}

impl EdgeBuilder {
    pub(super) fn begin(
        catalog: CatalogDirectory,
        generations_kept: usize,
        quantisation: Quantisation,
        name: &CatalogName,
        model: ModelInfo,
        schema: Schema,
        pool: Arc<ComputePool>,
    ) -> Result<Self, IndexError> {
        const CONTEXT: &str = "begin a generation";
        let lock = catalog.lock().map_err(failed(CONTEXT))?;
        let lock = lock.ok_or_else(|| IndexError::Locked(name.clone()))?;
        let (id, directory) = catalog.begin(&lock).map_err(failed(CONTEXT))?;
        let shard_path = directory.shard();
        let partial = Partial { name: name.clone(), catalog, directory: Some(directory), generations_kept, lock };
        let shard = EdgeShard::new(&shard_path, config(model.dimensions, quantisation)).map_err(failed(CONTEXT))?;
        for (field_name, field_type) in payload_indexes(&schema) {
            let create = CreateIndex { field_name, field_schema: Some(field_type.into()) };
            let create = UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create));
            shard.update(create).map_err(failed(CONTEXT))?;
        }
        let info = GenerationInfo { id, model, schema, products: 0 };
        Ok(Self { shard: Arc::new(Shard::new(shard)), partial, info, pool })
    }
}

/// The same shard without the log of what was added: as large as the vectors are, on disk and mapped into memory.
fn without_log(shard: Shard, directory: &GenerationDirectory) -> Result<Shard, IndexError> {
    shard.close()?;
    log::shorten(&directory.shard()).map_err(failed("seal a generation"))?;
    Shard::load(&directory.shard())
}

#[async_trait]
impl GenerationBuilder for EdgeBuilder {
    async fn add(&mut self, products: Vec<IndexedProduct>) -> Result<(), IndexError> {
        let dimensions = self.info.model.dimensions;
        let shard = Arc::clone(&self.shard);
        blocking("add products", move || {
            refuse_misshapen(&products, dimensions)?;
            let points = products.iter().map(|indexed| Ok(to_point(indexed)?.into()));
            let points = PointInsertOperations::PointsList(points.collect::<Result<_, IndexError>>()?);
            let upsert = UpdateOperation::PointOperation(PointOperations::UpsertPoints(points));
            shard.with("add products", |shard| shard.update(upsert))
        })
        .await
    }

    async fn seal(self: Box<Self>) -> Result<Box<dyn SealedGeneration>, IndexError> {
        let Self { shard, partial, mut info, pool } = *self;
        let shard =
            Arc::into_inner(shard).ok_or_else(|| unavailable("seal a generation", "products are being added"))?;
        let sealed = blocking("seal a generation", move || {
            let shard = match &partial.directory {
                Some(directory) => without_log(shard, directory)?,
                None => shard,
            };
            info.products = shard.products()?;
            shard.with("seal a generation", |shard| {
                let regraphed = regraphed(&shard.config(), info.products);
                regraphed.map_or(Ok(()), |hnsw| shard.set_hnsw_config(hnsw))?;
                shard.optimize()
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
