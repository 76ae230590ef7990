//! Who is let in: before anything of its body is read, a request takes its place and its deadline begins. So bodies on
//! their way are counted, waited for when the server stops, and given up in time, like any other work.

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use metrics::{counter, gauge, histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower_service::Service;
use vitrine_core::{embed::CallContext, meter, search::SearchError};

use super::{deadline::Deadline, status};

/// The places for requests in work, and the longest time for each of them.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    requests_max: usize,
    deadline_max: Duration,
    closed: Arc<AtomicBool>,
}

impl Admission {
    pub(crate) fn new(requests_max: usize, deadline_max: Duration) -> Self {
        let places = Arc::new(Semaphore::new(requests_max));
        Self { places, requests_max, deadline_max, closed: Arc::default() }
    }

    /// Puts a service behind the places.
    pub(crate) fn before<S>(&self, inner: S) -> Admitted<S> {
        Admitted { inner, admission: self.clone() }
    }

    /// Lets no request in any more, and waits until none is worked on.
    pub(crate) async fn drained(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let all = u32::try_from(self.requests_max).unwrap_or(u32::MAX);
        // Only a closed semaphore refuses, and nobody closes it.
        if let Ok(places) = self.places.acquire_many(all).await {
            places.forget();
        }
    }

    /// A place to be held until the answer is made, and how long that may take.
    fn admit(&self, headers: &HeaderMap) -> Result<(Place, Deadline), Status> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(status::stopping());
        }
        let deadline = Deadline::of(headers, self.deadline_max, Instant::now()).map_err(status::from_invalid)?;
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            status::from_search(SearchError::Overloaded { queue: "request", capacity: self.requests_max })
        })?;
        Ok((Place::new(permit), deadline))
    }
}

/// A request that was let in counts as in flight for as long as this lives.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        gauge!(meter::REQUESTS_IN_FLIGHT).increment(1);
        Self { _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!(meter::REQUESTS_IN_FLIGHT).decrement(1);
    }
}

/// A service that only sees requests that were let in, each with its [`CallContext`] among its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Admitted<S> {
    inner: S,
    admission: Admission,
}

impl<S: NamedService> NamedService for Admitted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static> + NamedService,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let metered = Metered::new::<S>(request.uri().path());
        let (place, deadline) = match self.admission.admit(request.headers()) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                metered.answered(refusal.code());
                return Box::pin(ready(Ok(refusal.into_http())));
            }
        };
        request.extensions_mut().insert(CallContext::interactive(deadline.work));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let _place = place;
            let answer = tokio::time::timeout_at(deadline.answer.into(), answer).await;
            let answer =
                answer.unwrap_or_else(|_| Ok(status::from_search(SearchError::DeadlineExceeded).into_http()))?;
            // The status of a success comes in trailers, behind its message.
            metered.answered(Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code()));
            Ok(answer)
        })
    }
}

/// Counts and times one request.
struct Metered {
    service: &'static str,
    method: String,
    came: Instant,
}

impl Metered {
    fn new<S: NamedService>(path: &str) -> Self {
        let method = path.trim_start_matches('/').to_owned();
        Self { service: S::NAME, method, came: Instant::now() }
    }

    fn answered(self, code: Code) {
        // Methods that do not exist share a name: clients can make up any number of them.
        let method = if code == Code::Unimplemented { self.service.to_owned() } else { self.method };
        histogram!(meter::REQUEST_SECONDS, "method" => method.clone()).record(self.came.elapsed());
        counter!(meter::REQUESTS, "method" => method, "code" => format!("{code:?}")).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[tokio::test]
    async fn a_full_service_refuses_and_a_stopping_one_is_unavailable_and_waits() {
        let admission = Admission::new(1, Duration::from_secs(30));
        let (place, _) = admission.admit(&HeaderMap::new()).unwrap();
        let refused = admission.admit(&HeaderMap::new()).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);

        let mut drained = std::pin::pin!(admission.drained());
        assert!(futures::poll!(drained.as_mut()).is_pending());
        assert_eq!(admission.admit(&HeaderMap::new()).unwrap_err().code(), Code::Unavailable);
        drop(place);
        drained.await;
        assert_eq!(admission.admit(&HeaderMap::new()).unwrap_err().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn a_deadline_that_cannot_be_read_keeps_no_place() {
        let admission = Admission::new(1, Duration::from_secs(30));
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static("soon"));
        assert_eq!(admission.admit(&headers).unwrap_err().code(), Code::InvalidArgument);
        assert!(admission.admit(&HeaderMap::new()).is_ok());
    }
}
