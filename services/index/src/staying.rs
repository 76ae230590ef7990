//! What stays of a generation that another one begins with.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;
use vitrine_core::{index::IndexedProduct, product::ProductId};

use crate::payload::point_id;

/// Points that were carried over and are wanted; the others are to be removed.
#[derive(Debug, Default)]
pub(crate) struct Staying(Mutex<HashSet<Uuid>>);

impl Staying {
    /// These are kept.
    pub(crate) fn keep(&self, ids: &[ProductId]) {
        self.extend(ids.iter().map(point_id));
    }

    /// These are added, in place of what was there of the same ids.
    pub(crate) fn add(&self, products: &[IndexedProduct]) {
        self.extend(products.iter().map(|indexed| point_id(&indexed.product.id)));
    }

    /// All of them.
    pub(crate) fn into_points(self) -> HashSet<Uuid> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, points: impl Iterator<Item = Uuid>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(points);
    }
}
