//! Why a generation begins with nothing, or without files: the same for both kinds of index.

use vitrine_core::index::Origin;

/// Why files are of no use: what is added to them has other words.
pub(crate) const OTHER_KEYWORDS: &str = "its products have no keywords, or those of another version";

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
