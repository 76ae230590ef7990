//! Qdrant Edge: the index in process, one directory for each generation.
//!
//! ```text
//! <root>/<catalogue>/CURRENT                   name of the serving generation, replaced atomically
//!                    LOCK                      held by the one process that builds a generation
//!                    SWITCH                    held for a moment by whoever replaces CURRENT or removes a generation
//!                    generations/<id>/         a whole generation: generation.json and shard/
//!                    generations/<id>.partial/ one being built; what a killed loader leaves, the next one removes
//!                    reading/<id>-<digits>/    a copy of one that is read while servers may open it
//! ```
//!
//! A generation is opened by one process at a time: Qdrant Edge locks its directory.

mod build;
mod carry;
mod catalog;
mod directory;
mod filter;
mod generation;
mod generations;
mod graph;
mod layout;
mod log;
mod point;
mod way;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use vitrine_core::{
    Chain,
    compute::{self, ComputeError, ComputePool},
    embed::ModelInfo,
    index::{Generation, GenerationBuilder, IndexError, ProductIndex, Start},
    product::{CatalogName, Schema},
};

use self::{
    build::{Building, EdgeBuilder},
    catalog::Catalog,
    directory::CatalogDirectory,
};
use crate::{
    ServedIndex,
    error::{failed, unavailable},
    quantisation::Quantisation,
};

/// Catalogues that are opened side by side: one that takes long does not hold up the others.
const OPENED_AT_ONCE: usize = 4;

/// How the index is run.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// Directory of all catalogues; made when the first one is built.
    pub root: PathBuf,
    /// Threads that search.
    pub threads: usize,
    /// Most searches waiting or running.
    pub queue_size_max: usize,
    /// How many generations stay after a new one was published, that one among them; at least 1.
    pub generations_kept: usize,
    /// How vectors of new generations are kept a second time, smaller and always in memory. The vectors themselves are
    /// then in memory only as far as the page cache has them.
    pub quantisation: Quantisation,
    /// Threads that build the graphs of new generations; 0 is one for each core.
    pub build_threads: usize,
}

/// All catalogues below one directory.
#[derive(Debug)]
pub struct EdgeIndex {
    root: PathBuf,
    pool: Arc<ComputePool>,
    building: Building,
    /// Those that were published, as far as somebody has looked.
    catalogs: Mutex<BTreeMap<CatalogName, Arc<Catalog>>>,
    /// Whether the catalogues could be listed when that was last tried.
    listed: AtomicBool,
}

impl EdgeIndex {
    /// Starts the threads. Nothing is opened yet.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(options: EdgeOptions) -> Result<Self, IndexError> {
        let pool = ComputePool::new("index", options.threads, options.queue_size_max)
            .map_err(failed("start the index threads"))?;
        Ok(Self {
            root: options.root,
            pool: Arc::new(pool),
            building: Building {
                generations_kept: options.generations_kept.max(1),
                quantisation: options.quantisation,
                threads: options.build_threads,
            },
            catalogs: Mutex::default(),
            listed: AtomicBool::new(true),
        })
    }

    fn published(&self, name: &CatalogName) -> Arc<Catalog> {
        let new = || {
            let directory = CatalogDirectory::new(&self.root, name);
            Arc::new(Catalog::new(name.clone(), directory, Arc::clone(&self.pool)))
        };
        Arc::clone(self.catalogs().entry(name.clone()).or_insert_with(new))
    }

    fn catalogs(&self) -> MutexGuard<'_, BTreeMap<CatalogName, Arc<Catalog>>> {
        self.catalogs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ProductIndex for EdgeIndex {
    async fn current(&self, catalog: &CatalogName) -> Result<Arc<dyn Generation>, IndexError> {
        let known = self.catalogs().get(catalog).cloned();
        if let Some(known) = known {
            return Ok(known.generation().await?);
        }
        let directory = CatalogDirectory::new(&self.root, catalog);
        // Names that nobody published are not remembered: callers can make up any number of them.
        if !blocking("look for a catalogue", move || Ok(directory.is_published())).await? {
            return Err(IndexError::UnknownCatalog(catalog.clone()));
        }
        Ok(self.published(catalog).generation().await?)
    }

    async fn build(
        &self,
        catalog: &CatalogName,
        model: &ModelInfo,
        schema: &Schema,
        start: Start,
    ) -> Result<Box<dyn GenerationBuilder>, IndexError> {
        let directory = CatalogDirectory::new(&self.root, catalog);
        let (catalog, made_of) = (catalog.clone(), (model.clone(), schema.clone()));
        let (pool, building) = (Arc::clone(&self.pool), self.building);
        let begin = move || EdgeBuilder::begin(directory, building, &catalog, made_of, start, pool);
        Ok(Box::new(blocking("begin a generation", begin).await?))
    }
}

#[async_trait]
impl ServedIndex for EdgeIndex {
    async fn refresh(&self) {
        let root = self.root.clone();
        let names = match blocking("list the catalogues", move || CatalogDirectory::list(&root)).await {
            Ok(names) => names,
            Err(error) => {
                if self.listed.swap(false, Ordering::Relaxed) {
                    tracing::error!(error = %Chain(&error), "the index cannot be read; trying again");
                }
                return;
            }
        };
        self.listed.store(true, Ordering::Relaxed);
        self.catalogs().retain(|name, catalog| names.contains(name) || catalog.held().is_some());
        let published: Vec<_> = names.iter().map(|name| self.published(name)).collect();
        // What comes of it is in the catalogue's state.
        let open = |catalog: Arc<Catalog>| async move { drop(catalog.open_current().await) };
        stream::iter(published).for_each_concurrent(OPENED_AT_ONCE, open).await;
    }

    fn serving(&self) -> Vec<(CatalogName, Arc<dyn Generation>)> {
        let serving = |(name, catalog): (&CatalogName, &Arc<Catalog>)| {
            let generation: Arc<dyn Generation> = catalog.held()?;
            Some((name.clone(), generation))
        };
        self.catalogs().iter().filter_map(serving).collect()
    }

    fn is_whole(&self) -> bool {
        self.listed.load(Ordering::Relaxed) && !self.catalogs().values().any(|catalog| catalog.is_failing())
    }

    async fn settle(&self) {}
}

/// Does what waits for the disk, on a thread that may wait.
async fn blocking<T: Send + 'static>(
    context: &str,
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    compute::blocking(work).await.map_err(failed(context))?
}

fn refused(error: ComputeError) -> IndexError {
    match error {
        ComputeError::Full { queue, capacity } => IndexError::Overloaded { queue, capacity },
        ComputeError::Panicked { .. } => unavailable("query the index", error),
    }
}
