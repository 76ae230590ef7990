//! One catalogue: the generation that serves, and what happens when the one that was published cannot be opened.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use vitrine_core::{
    Chain,
    compute::ComputePool,
    index::{Generation as _, IndexError},
    product::CatalogName,
};

use super::{blocking, directory::CatalogDirectory, generation::EdgeGeneration};

/// Pause before a generation that could not be opened is tried again, doubled each time. 1 s: the server that this one
/// replaces lets go of the directory within that.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest such pause: how long a repair may go unnoticed.
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(1);

/// One catalogue.
#[derive(Debug)]
pub(super) struct Catalog {
    name: CatalogName,
    directory: CatalogDirectory,
    pool: Arc<ComputePool>,
    state: Mutex<State>,
    /// Generations are opened one at a time: a second opener of the same directory would be refused.
    opening: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Arc<EdgeGeneration>>,
    failure: Option<Failure>,
}

/// What was published and could not be opened.
#[derive(Debug)]
struct Failure {
    /// The generation; `None` if `CURRENT` itself cannot be read.
    id: Option<String>,
    error: IndexError,
    pause: Duration,
    retry_at: Instant,
}

impl Catalog {
    pub(super) fn new(name: CatalogName, directory: CatalogDirectory, pool: Arc<ComputePool>) -> Self {
        Self { name, directory, pool, state: Mutex::default(), opening: Arc::default() }
    }

    /// The generation that is open, even if a later one could not be opened.
    pub(super) fn held(&self) -> Option<Arc<EdgeGeneration>> {
        self.state().open.clone()
    }

    /// Whether something was published, but nothing could be opened.
    pub(super) fn is_failing(&self) -> bool {
        let state = self.state();
        state.open.is_none() && state.failure.is_some()
    }

    /// The generation that is open, else what is known of why there is none; opens it if neither is known.
    pub(super) async fn generation(self: &Arc<Self>) -> Result<Arc<EdgeGeneration>, IndexError> {
        let known = {
            let state = self.state();
            let failed = state.failure.as_ref().filter(|failure| failure.retry_at > Instant::now());
            state.open.clone().map(Ok).or_else(|| failed.map(|failure| Err(failure.error.clone())))
        };
        match known {
            Some(known) => known,
            None => self.open_current().await,
        }
    }

    /// Opens what `CURRENT` names, unless it is open, or failed a short time ago.
    pub(super) async fn open_current(self: &Arc<Self>) -> Result<Arc<EdgeGeneration>, IndexError> {
        let one_at_a_time = Arc::clone(&self.opening).lock_owned().await;
        let this = Arc::clone(self);
        // It goes on when its caller has left, and so does the lock.
        blocking("open a generation", move || {
            let _one_at_a_time = one_at_a_time;
            this.open_now()
        })
        .await
    }

    fn open_now(&self) -> Result<Arc<EdgeGeneration>, IndexError> {
        let id = match self.directory.current() {
            Ok(Some(id)) => id,
            Ok(None) => return Err(IndexError::UnknownCatalog(self.name.clone())),
            Err(error) => return self.failed(None, error),
        };
        {
            let state = self.state();
            if let Some(open) = state.open.as_ref().filter(|open| open.id() == id) {
                return Ok(Arc::clone(open));
            }
            let same = state.failure.as_ref().filter(|failure| failure.id.as_ref() == Some(&id));
            if let Some(failure) = same.filter(|failure| failure.retry_at > Instant::now()) {
                return Err(failure.error.clone());
            }
        }
        match EdgeGeneration::open(&self.directory.generation(&id), Arc::clone(&self.pool)) {
            Ok(opened) => Ok(self.opened(opened)),
            Err(error) => self.failed(Some(id), error),
        }
    }

    fn opened(&self, opened: EdgeGeneration) -> Arc<EdgeGeneration> {
        let opened = Arc::new(opened);
        let mut state = self.state();
        state.failure = None;
        let replaced = state.open.replace(Arc::clone(&opened));
        drop(state);
        if let Some(replaced) = replaced {
            replaced.retire();
        }
        let (generation, products) = (opened.id(), opened.info().products);
        tracing::info!(catalog = %self.name, generation, products, "generation serves");
        opened
    }

    fn failed(&self, id: Option<String>, error: IndexError) -> Result<Arc<EdgeGeneration>, IndexError> {
        let mut state = self.state();
        let before = state.failure.take().filter(|failure| failure.id == id);
        if before.as_ref().is_none_or(|failure| Chain(&failure.error).to_string() != Chain(&error).to_string()) {
            let (generation, serving) = (id.as_deref(), state.open.as_ref().map(|open| open.id().to_owned()));
            tracing::error!(catalog = %self.name, generation, serving, error = %Chain(&error), "could not be opened; trying again");
        }
        let pause = before.map_or(RETRY_PAUSE_MIN, |failure| (failure.pause * 2).min(RETRY_PAUSE_MAX));
        state.failure = Some(Failure { id, error: error.clone(), pause, retry_at: Instant::now() + pause });
        Err(error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
