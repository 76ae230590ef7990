//! Qdrant Edge: the index in process, one directory for each generation.
//!
//! ```text
//! <root>/<catalogue>/CURRENT                   name of the serving generation, replaced atomically
//!                    LOCK                      held by the one process that builds a generation
//!                    generations/<id>/         a whole generation: generation.json and shard/
//!                    generations/<id>.partial/ one being built; what a killed loader leaves, the next one removes
//! ```
//!
//! A generation is opened by one process at a time: Qdrant Edge locks its directory.

mod build;
mod directory;
mod filter;
mod generation;
mod point;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use vitrine_core::{
    compute::{ComputeError, ComputePool},
    embed::ModelInfo,
    index::{Generation, GenerationBuilder, IndexError, ProductIndex},
    product::{CatalogName, Schema},
};

use self::{build::EdgeBuilder, directory::CatalogDirectory, generation::EdgeGeneration};

/// How the index is run.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// Directory of all catalogues; made when the first one is built.
    pub root: PathBuf,
    /// Threads that search.
    pub threads: usize,
    /// Most searches waiting or running.
    pub queue_size_max: usize,
}

/// All catalogues below one directory.
#[derive(Debug)]
pub struct EdgeIndex {
    root: PathBuf,
    pool: Arc<ComputePool>,
    open: Mutex<HashMap<CatalogName, Arc<EdgeGeneration>>>,
    /// Generations are opened one at a time: a second opener of the same directory would be refused.
    opening: tokio::sync::Mutex<()>,
}

impl EdgeIndex {
    /// Starts the threads. Nothing is opened yet.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(options: EdgeOptions) -> Result<Self, IndexError> {
        let pool = ComputePool::new("index", options.threads, options.queue_size_max)
            .map_err(|error| unavailable("start the index threads", &error))?;
        Ok(Self {
            root: options.root,
            pool: Arc::new(pool),
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        })
    }

    /// Opens what was published since the last call, and lets go of what serves no more. Queries that run on an old
    /// generation finish on it. A catalogue that cannot be opened keeps its old generation.
    ///
    /// # Errors
    /// The first catalogue that could not be opened; the others are open all the same.
    pub async fn refresh(&self) -> Result<(), IndexError> {
        let root = self.root.clone();
        let catalogs = self.blocking("list the catalogues", move || CatalogDirectory::list(&root)).await??;
        let mut outcome = Ok(());
        for catalog in catalogs {
            let refreshed = self.open_current(&catalog).await.map(drop);
            outcome = outcome.and(refreshed);
        }
        outcome
    }

    /// The catalogues that are open, and the generation that serves each.
    pub fn serving(&self) -> Vec<(CatalogName, Arc<dyn Generation>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = |(catalog, generation): (&CatalogName, &Arc<EdgeGeneration>)| {
            let generation: Arc<dyn Generation> = Arc::<EdgeGeneration>::clone(generation);
            (catalog.clone(), generation)
        };
        open.iter().map(serving).collect()
    }

    async fn open_current(&self, catalog: &CatalogName) -> Result<Arc<EdgeGeneration>, IndexError> {
        let _one_at_a_time = self.opening.lock().await;
        let directory = CatalogDirectory::new(&self.root, catalog);
        let (held, pool) = (self.held(catalog), Arc::clone(&self.pool));
        let catalog_name = catalog.clone();
        let opened = self.blocking("open a generation", move || {
            let id = directory.current()?.ok_or(IndexError::UnknownCatalog(catalog_name))?;
            match held {
                Some(held) if held.id() == id => Ok(held),
                _ => EdgeGeneration::open(&directory.generation(&id), pool).map(Arc::new),
            }
        });
        let opened = opened.await??;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = open.insert(catalog.clone(), Arc::clone(&opened));
        drop(open);
        if replaced.is_none_or(|old| old.id() != opened.id()) {
            tracing::info!(%catalog, generation = opened.id(), products = opened.info().products, "generation serves");
        }
        Ok(opened)
    }

    fn held(&self, catalog: &CatalogName) -> Option<Arc<EdgeGeneration>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(catalog).cloned()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        context: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IndexError> {
        tokio::task::spawn_blocking(work).await.map_err(|error| unavailable(context, &error))
    }
}

#[async_trait]
impl ProductIndex for EdgeIndex {
    async fn current(&self, catalog: &CatalogName) -> Result<Arc<dyn Generation>, IndexError> {
        match self.held(catalog) {
            Some(generation) => Ok(generation),
            None => Ok(self.open_current(catalog).await?),
        }
    }

    async fn build(
        &self,
        catalog: &CatalogName,
        model: &ModelInfo,
        schema: &Schema,
    ) -> Result<Box<dyn GenerationBuilder>, IndexError> {
        let directory = CatalogDirectory::new(&self.root, catalog);
        let (catalog, model, schema) = (catalog.clone(), model.clone(), schema.clone());
        let pool = Arc::clone(&self.pool);
        let begin = move || EdgeBuilder::begin(directory, &catalog, model, schema, pool);
        Ok(Box::new(self.blocking("begin a generation", begin).await??))
    }
}

fn unavailable(context: impl Into<String>, reason: &dyn std::fmt::Display) -> IndexError {
    IndexError::Unavailable { context: context.into(), reason: reason.to_string() }
}

fn refused(error: &ComputeError) -> IndexError {
    match *error {
        ComputeError::Full { queue, capacity } => IndexError::Overloaded { queue, capacity },
        ComputeError::Panicked { .. } => unavailable("query the index", error),
    }
}
