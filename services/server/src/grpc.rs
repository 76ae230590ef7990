//! The gRPC handlers: generated types in, the domain's types to the use cases, and back. `pb` types stop here.

mod admission;
mod catalog;
mod deadline;
mod embedding;
mod from_pb;
mod recommendation;
mod status;
mod to_pb;
mod upload;

use std::sync::{Arc, OnceLock};

use tonic::{Request, Status};
use vitrine_core::{
    embed::{CallContext, Embedder},
    search::{Search, SearchError},
};

pub(crate) use admission::Admission;

/// What all handlers share: nothing, until the server has started.
#[derive(Clone)]
pub(crate) struct Service {
    parts: Arc<OnceLock<Parts>>,
    /// What a server waits for that has none yet.
    awaited: Arc<str>,
}

/// What a server answers with.
pub(crate) struct Parts {
    search: Search,
    embedder: Arc<dyn Embedder>,
}

impl Parts {
    pub(crate) fn new(search: Search, embedder: Arc<dyn Embedder>) -> Self {
        Self { search, embedder }
    }

    fn embedder(&self) -> &dyn Embedder {
        &*self.embedder
    }
}

impl Service {
    /// Answers UNAVAILABLE, naming what is awaited, until it has its parts.
    pub(crate) fn new(awaited: String) -> Self {
        Self { parts: Arc::default(), awaited: awaited.into() }
    }

    /// Begins to answer.
    pub(crate) fn start(&self, parts: Parts) {
        // A server starts once.
        drop(self.parts.set(parts));
    }

    fn parts(&self) -> Result<&Parts, Status> {
        self.parts.get().ok_or_else(|| status::starting(&self.awaited))
    }
}

/// What [`Admission`] gave the request to bring with it.
fn call_of<T>(request: &Request<T>) -> Result<CallContext, Status> {
    let call = request.extensions().get::<CallContext>().copied();
    call.ok_or_else(|| status::from_search(SearchError::Internal("a request was not admitted".to_owned())))
}
