//! Why a generation begins with nothing: the same for both kinds of index.

use vitrine_core::index::Origin;

/// Nobody wanted anything else.
pub(crate) fn asked_for() -> Origin {
    Origin::Nothing("all products were to be made anew".to_owned())
}

/// It is the first one.
pub(crate) fn serves() -> Origin {
    Origin::Nothing("nothing serves yet".to_owned())
}

/// Vectors of different models must not be compared.
pub(crate) fn of_this_model(serving: &str) -> Origin {
    Origin::Nothing(format!("another model made the vectors of generation {serving}"))
}
