//! What did not work, in the port's terms.

use std::{error::Error, sync::Arc};

use vitrine_core::index::IndexError;

/// That something did not work, and why.
pub(crate) fn unavailable(context: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> IndexError {
    IndexError::Unavailable { context: context.into(), source: Arc::from(source.into()) }
}

/// As [`unavailable`], for `map_err`.
pub(crate) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(
    context: impl Into<String>,
) -> impl FnOnce(E) -> IndexError {
    move |error| unavailable(context, error)
}
