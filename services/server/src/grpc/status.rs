//! Errors as gRPC statuses: the one place where they are mapped. Clients never see internals.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use vitrine_core::{Chain, Invalid, search::SearchError};

/// When a refused caller may try again: several inferences later.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// INVALID_ARGUMENT, with the field in `google.rpc.BadRequest`.
pub(super) fn from_invalid(invalid: Invalid) -> Status {
    let message = invalid.to_string();
    let details = ErrorDetails::with_bad_request_violation(invalid.field, invalid.problem);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

pub(super) fn from_search(error: SearchError) -> Status {
    let message = error.to_string();
    match error {
        SearchError::Invalid(invalid) => from_invalid(invalid),
        SearchError::UnknownCatalog(_) | SearchError::UnknownProduct(_) => Status::not_found(message),
        SearchError::ModelMismatch { .. } => Status::failed_precondition(message),
        SearchError::Overloaded { .. } => exhausted(message, None),
        SearchError::PoolBusy { retry_after, .. } => exhausted(message, retry_after),
        SearchError::DeadlineExceeded => Status::deadline_exceeded(message),
        SearchError::Unavailable(_) => {
            let id = error_id();
            tracing::error!(error_id = id, "{}", Chain(&error));
            Status::unavailable(format!("a part of the service does not answer (error {id})"))
        }
        SearchError::PoolAway { pool, .. } => {
            let id = error_id();
            tracing::error!(error_id = id, "{message}");
            Status::unavailable(format!("embedding pool `{pool}` does not answer (error {id})"))
        }
        SearchError::Internal(_) => {
            let id = error_id();
            tracing::error!(error_id = id, "{message}");
            Status::internal(format!("internal error {id}"))
        }
    }
}

/// `RESOURCE_EXHAUSTED`, with the pause in `google.rpc.RetryInfo`.
fn exhausted(message: String, retry_after: Option<Duration>) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after.unwrap_or(RETRY_AFTER)));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// UNAVAILABLE: what is needed to answer is not there yet.
pub(super) fn starting(reason: &str) -> Status {
    Status::unavailable(format!("the server is starting: {reason}"))
}

/// UNAVAILABLE: the caller should ask another replica, or this one when it has started again.
pub(super) fn stopping() -> Status {
    Status::unavailable("the server is stopping")
}

/// Finds the log line of an error that a client reports.
fn error_id() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
