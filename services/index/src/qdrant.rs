//! A Qdrant server or cluster: the index beside the process, for as many of them as there are.
//!
//! ```text
//! <catalogue>-<id>    collection: a generation; what it is made of is in its metadata
//! <catalogue>         alias: the serving generation, switched atomically
//! <catalogue>~<id>    alias: which publication that was, so that none replaces another unseen
//! ```

mod address;
mod build;
mod carry;
mod connection;
mod description;
mod filter;
mod generation;
mod generations;
mod names;
mod nodes;
mod options;
mod point;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use qdrant_client::qdrant::quantization_config::Quantization;
use tokio::{sync::Semaphore, time::Instant};
use vitrine_core::{
    Chain,
    embed::ModelInfo,
    index::{Generation, GenerationBuilder, IndexError, ProductIndex, Start},
    product::{CatalogName, Schema},
};

pub use self::{
    address::{RestUrl, ServerUrl},
    options::{ApiKey, BuildOptions, QdrantOptions},
};
use self::{
    build::{QdrantBuilder, Removals, Site},
    connection::Connection,
    description::Description,
    generation::{QdrantGeneration, Searching},
    names::generation_id,
};
use crate::{
    ServedIndex,
    error::{failed, unavailable},
    quantisation::Quantisation,
};

/// Catalogues that are opened side by side: one that takes long does not hold up the others.
const OPENED_AT_ONCE: usize = 4;
/// Pause before a generation that could not be opened is looked at again. 1 s: not for every request, and soon enough for
/// a person who has just repaired it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long the server may be silent before this process says that it can search nothing. 5 s: a node that starts anew
/// takes about that long, and an answer to health checks that changes with every lost packet helps nobody.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// All catalogues on one Qdrant server or cluster.
#[derive(Debug)]
pub struct QdrantIndex {
    connection: Arc<Connection>,
    searching: Searching,
    options: QdrantOptions,
    /// Those that were published, as far as somebody has looked.
    catalogs: Mutex<BTreeMap<CatalogName, State>>,
    /// Since when the catalogues cannot be listed.
    silent_since: Mutex<Option<Instant>>,
    removals: Removals,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Arc<QdrantGeneration>>,
    failure: Option<Failure>,
}

/// What is published and cannot be searched.
#[derive(Debug)]
struct Failure {
    collection: String,
    error: IndexError,
    retry_at: Instant,
}

impl QdrantIndex {
    /// For a server that is not called yet.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub fn new(options: QdrantOptions) -> Result<Self, IndexError> {
        let places = Arc::new(Semaphore::new(options.queue_size_max.min(Semaphore::MAX_PERMITS)));
        let searching = Searching {
            places,
            capacity: options.queue_size_max,
            width: options.search_width,
            oversampling: options.oversampling,
        };
        Ok(Self {
            connection: Arc::new(Connection::new(&options)?),
            searching,
            options,
            catalogs: Mutex::default(),
            silent_since: Mutex::default(),
            removals: Removals::default(),
        })
    }

    /// The collection that serves each catalogue.
    async fn published(&self) -> Result<BTreeMap<CatalogName, String>, IndexError> {
        let aliases = self.connection.aliases().await?.into_iter();
        let catalog = |alias: &str| CatalogName::new(alias).ok();
        let named = aliases.filter_map(|(alias, collection)| Some((catalog(&alias)?, collection)));
        // Aliases that people made for themselves are no catalogues.
        Ok(named.filter(|(catalog, collection)| generation_id(catalog, collection).is_some()).collect())
    }

    /// Opens what is published, unless it is open, or failed a short time ago.
    async fn open(&self, catalog: &CatalogName, collection: &str) -> Result<Arc<QdrantGeneration>, IndexError> {
        {
            let catalogs = self.catalogs();
            let state = catalogs.get(catalog);
            let open = state.and_then(|state| state.open.as_ref());
            if let Some(open) = open.filter(|open| open.collection == collection) {
                return Ok(Arc::clone(open));
            }
            let failure = state.and_then(|state| state.failure.as_ref());
            let same = failure.filter(|failure| failure.collection == collection);
            if let Some(failure) = same.filter(|failure| failure.retry_at > Instant::now()) {
                return Err(failure.error.clone());
            }
        }
        let opened = self.look_at(catalog, collection).await;
        let mut catalogs = self.catalogs();
        let state = catalogs.entry(catalog.clone()).or_default();
        match opened {
            Ok(opened) => {
                let (generation, products) = (&opened.info.id, opened.info.products);
                tracing::info!(%catalog, generation, products, "generation serves");
                state.failure = None;
                Ok(Arc::clone(state.open.insert(Arc::new(opened))))
            }
            Err(error) => {
                let said = state.failure.as_ref().map(|failure| Chain(&failure.error).to_string());
                if said.is_none_or(|said| said != Chain(&error).to_string()) {
                    let serving = state.open.as_ref().map(|open| open.info.id.as_str());
                    tracing::error!(%catalog, collection, serving, error = %Chain(&error), "cannot be searched; trying again");
                }
                let retry_at = Instant::now() + RETRY_PAUSE;
                state.failure = Some(Failure { collection: collection.to_owned(), error: error.clone(), retry_at });
                Err(error)
            }
        }
    }

    async fn look_at(&self, catalog: &CatalogName, collection: &str) -> Result<QdrantGeneration, IndexError> {
        let context = || format!("open {collection}");
        let described = self.connection.describe_when(collection, Description::is_whole).await?;
        let foreign = || unavailable(context(), "it is gone, or has no description of a generation");
        let description = described.ok_or_else(foreign)?;
        let (quantisation, parts) = (kind_of(description.quantisation.as_ref()), description.parts);
        let info = generation_id(catalog, collection).and_then(|id| description.into_info(id));
        let info = info.ok_or_else(|| unavailable(context(), "it was never whole"))?;
        let found = self.connection.count(collection).await.map_err(failed(context()))?;
        if found != info.products {
            return Err(unavailable(context(), format!("{found} of its {} products are there", info.products)));
        }
        Ok(QdrantGeneration {
            connection: Arc::clone(&self.connection),
            collection: collection.to_owned(),
            info,
            searching: self.searching.clone(),
            quantisation,
            parts,
        })
    }

    fn catalogs(&self) -> MutexGuard<'_, BTreeMap<CatalogName, State>> {
        self.catalogs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server has been silent for too long to count on it.
    fn is_away(&self) -> bool {
        self.silent_since().is_some_and(|since| since.elapsed() >= SILENCE_MAX)
    }
}

/// How vectors are kept a second time.
fn kind_of(quantisation: Option<&Quantization>) -> Quantisation {
    match quantisation {
        None | Some(Quantization::Turboquant(_)) => Quantisation::None,
        Some(Quantization::Scalar(_)) => Quantisation::Int8,
        Some(Quantization::Product(_)) => Quantisation::Product,
        Some(Quantization::Binary(_)) => Quantisation::Binary,
    }
}

#[async_trait]
impl ProductIndex for QdrantIndex {
    async fn current(&self, catalog: &CatalogName) -> Result<Arc<dyn Generation>, IndexError> {
        let open = self.catalogs().get(catalog).and_then(|state| state.open.clone());
        if let Some(open) = open {
            return Ok(open);
        }
        let failed = |state: &State| {
            let failure = state.failure.as_ref().filter(|failure| failure.retry_at > Instant::now());
            failure.map(|failure| failure.error.clone())
        };
        let failed = self.catalogs().get(catalog).and_then(failed);
        if let Some(error) = failed {
            return Err(error);
        }
        // Names that nobody published are not remembered: callers can make up any number of them.
        let collection = self.published().await?.remove(catalog);
        let collection = collection.ok_or_else(|| IndexError::UnknownCatalog(catalog.clone()))?;
        Ok(self.open(catalog, &collection).await?)
    }

    async fn build(
        &self,
        catalog: &CatalogName,
        model: &ModelInfo,
        schema: &Schema,
        start: Start,
    ) -> Result<Box<dyn GenerationBuilder>, IndexError> {
        let connection = Arc::new(self.connection.patient());
        let site = Site {
            connection: Arc::clone(&connection),
            catalog: catalog.clone(),
            options: self.options.clone(),
            removals: Arc::clone(&self.removals),
        };
        let searching = self.searching.clone();
        let quantisation = self.options.build.quantisation;
        let open = Box::new(move |collection, info, parts| QdrantGeneration {
            connection,
            collection,
            info,
            searching,
            quantisation,
            parts,
        });
        Ok(Box::new(QdrantBuilder::begin(site, model, schema, start, open).await?))
    }
}

#[async_trait]
impl ServedIndex for QdrantIndex {
    async fn refresh(&self) {
        let published = match self.published().await {
            Ok(published) => published,
            Err(error) => {
                let mut silent_since = self.silent_since();
                if silent_since.is_none() {
                    tracing::error!(error = %Chain(&error), "the index does not answer; trying again");
                }
                silent_since.get_or_insert_with(Instant::now);
                return;
            }
        };
        if self.silent_since().take().is_some() {
            tracing::info!("the index answers again");
        }
        let names: BTreeSet<_> = published.keys().cloned().collect();
        self.catalogs().retain(|catalog, _| names.contains(catalog));
        // What comes of it is in the catalogue's state.
        let open = |(catalog, collection): (CatalogName, String)| async move {
            drop(self.open(&catalog, &collection).await);
        };
        stream::iter(published).for_each_concurrent(OPENED_AT_ONCE, open).await;
    }

    fn serving(&self) -> Vec<(CatalogName, Arc<dyn Generation>)> {
        if self.is_away() {
            return Vec::new();
        }
        let serving = |(catalog, state): (&CatalogName, &State)| {
            let generation: Arc<dyn Generation> = state.open.clone()?;
            Some((catalog.clone(), generation))
        };
        self.catalogs().iter().filter_map(serving).collect()
    }

    fn is_whole(&self) -> bool {
        let failing = |state: &State| state.open.is_none() && state.failure.is_some();
        self.silent_since().is_none() && !self.catalogs().values().any(failing)
    }

    async fn settle(&self) {
        let removals = std::mem::take(&mut *self.removals.lock().unwrap_or_else(PoisonError::into_inner));
        for removal in removals {
            // One that panicked removed nothing; the next loader does.
            drop(removal.await);
        }
    }
}
