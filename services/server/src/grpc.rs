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

use std::sync::Arc;

use tonic::{Request, Status};
use vitrine_core::{
    embed::{CallContext, Embedder},
    search::{Search, SearchError},
};

pub(crate) use admission::Admission;

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct Service {
    search: Arc<Search>,
    embedder: Arc<dyn Embedder>,
}

impl Service {
    pub(crate) fn new(search: Arc<Search>, embedder: Arc<dyn Embedder>) -> Self {
        Self { search, embedder }
    }
}

/// What [`Admission`] gave the request to bring with it.
fn call_of<T>(request: &Request<T>) -> Result<CallContext, Status> {
    let call = request.extensions().get::<CallContext>().copied();
    call.ok_or_else(|| status::from_search(SearchError::Internal("a request was not admitted".to_owned())))
}
