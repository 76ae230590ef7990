//! The gRPC handlers: generated types in, the domain's types to the use cases, and back. `pb` types stop here.

mod catalog;
mod deadline;
mod embedding;
mod from_pb;
mod recommendation;
mod status;
mod to_pb;
mod upload;

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status};
use vitrine_core::{
    embed::{CallContext, Embedder},
    search::{Search, SearchError},
};

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct Service {
    search: Arc<Search>,
    embedder: Arc<dyn Embedder>,
    places: Arc<Semaphore>,
    requests_max: usize,
    deadline_max: Duration,
}

impl Service {
    pub(crate) fn new(
        search: Arc<Search>,
        embedder: Arc<dyn Embedder>,
        requests_max: usize,
        deadline_max: Duration,
    ) -> Self {
        Self { search, embedder, places: Arc::new(Semaphore::new(requests_max)), requests_max, deadline_max }
    }

    /// Waits until no request is worked on, and lets no other one in.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(self.requests_max).unwrap_or(u32::MAX);
        // Only a closed semaphore refuses, and nobody closes it.
        if let Ok(places) = self.places.acquire_many(all).await {
            places.forget();
        }
    }

    /// Lets a request in: a place to be held while it is worked on, and how long it may take.
    fn admit<T>(&self, request: &Request<T>) -> Result<(OwnedSemaphorePermit, CallContext), Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            status::from_search(SearchError::Overloaded { queue: "request", capacity: self.requests_max })
        })?;
        let deadline = deadline::of(request.metadata(), self.deadline_max).map_err(status::from_invalid)?;
        Ok((place, CallContext::interactive(deadline)))
    }
}

/// Does something until the caller's deadline.
async fn within<T>(call: CallContext, work: impl Future<Output = Result<T, SearchError>>) -> Result<T, SearchError> {
    call.until_deadline(work).await.unwrap_or(Err(SearchError::DeadlineExceeded))
}
