//! The port to what an index keeps beside the serving generations, and the rules by which it keeps them.
//!
//! The generations of a catalogue are in the order of their ids, which is the order in which they were made. A rollback
//! goes one back in it. A load that is published goes on from what it replaces, as an edit does after an undo: what is
//! newer than that was rolled back from, or restored and never switched to, and goes.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use crate::{
    index::{Generation, GenerationInfo, IndexError},
    product::CatalogName,
};

/// A generation as its catalogue keeps it: what is known without opening it.
#[derive(Debug, Clone)]
pub struct KeptGeneration {
    /// Names it; later ones sort after earlier ones.
    pub id: String,
    /// Whether its catalogue serves it.
    pub serves: bool,
    /// What it is made of; else why it can never serve as it is: it is not whole yet, or damaged.
    pub info: Result<GenerationInfo, IndexError>,
    /// Where it is: a directory, or a collection of a server.
    pub place: String,
    /// Its size on disk, in bytes, where that is known.
    pub disk_bytes: Option<u64>,
}

/// A change of what serves a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The generation that served; `None` if none did.
    pub from: Option<String>,
    /// The one that serves; the same as `from` if it served already.
    pub to: String,
}

/// What came of removing old generations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Those that are gone.
    pub removed: Vec<String>,
    /// Those that should have gone and are in use.
    pub in_use: Vec<String>,
}

/// Which generation to switch to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The one of this id.
    Generation(String),
    /// The newest that is older than the serving one.
    Before,
}

/// The generations that an index keeps, to look after beside servers and loaders that run.
#[async_trait]
pub trait Generations: Send + Sync {
    /// Everything that is kept of every catalogue, oldest first, what is being built among it.
    async fn list(&self) -> Result<BTreeMap<CatalogName, Vec<KeptGeneration>>, IndexError>;

    /// Opens a whole generation to read it, whether it serves or not, without keeping anybody else from it.
    async fn generation(&self, catalog: &CatalogName, id: &str) -> Result<Arc<dyn Generation>, IndexError>;

    /// Makes a whole generation the serving one, in one step that happens whole or not at all. A load that runs
    /// meanwhile fails when it is to be published, and does not undo it.
    ///
    /// # Errors
    /// [`IndexError::Locked`] if something else was published in this moment; then nothing has changed.
    async fn switch(&self, catalog: &CatalogName, to: Destination) -> Result<Switch, IndexError>;

    /// Removes whole generations until `kept` are left at most: the serving one, and the newest of the others.
    async fn prune(&self, catalog: &CatalogName, kept: usize) -> Result<Pruned, IndexError>;
}

/// The generation to go back to: the newest that is older than the serving one.
pub fn before<'a>(ids: impl IntoIterator<Item = &'a str>, serving: &str) -> Option<&'a str> {
    ids.into_iter().filter(|id| *id < serving).max()
}

/// What goes so that `kept` stay: all but the serving one and the newest of the others.
pub fn surplus<'a>(ids: impl IntoIterator<Item = &'a str>, serving: Option<&str>, kept: usize) -> Vec<&'a str> {
    let mut others: Vec<_> = ids.into_iter().filter(|id| Some(*id) != serving).collect();
    others.sort_unstable_by(|a, b| b.cmp(a));
    others.split_off(others.len().min(kept.saturating_sub(usize::from(serving.is_some()))))
}

/// What goes once a load has replaced `replaced` by `published`: whatever is newer than `replaced`, and what is surplus.
pub fn superseded<'a>(
    ids: impl IntoIterator<Item = &'a str>,
    replaced: Option<&str>,
    published: &str,
    kept: usize,
) -> Vec<&'a str> {
    let undone = |id: &&str| replaced.is_some_and(|replaced| *id > replaced) && *id != published;
    let (mut gone, rest): (Vec<_>, Vec<_>) = ids.into_iter().partition(undone);
    gone.extend(surplus(rest, Some(published), kept));
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_goes_one_back_in_the_order_of_ids() {
        assert_eq!(before(["1", "3", "2", "4"], "3"), Some("2"));
        assert_eq!(before(["1", "2"], "1"), None);
        assert_eq!(before([], "1"), None);
    }

    #[test]
    fn the_serving_one_stays_and_then_the_newest() {
        assert_eq!(surplus(["1", "2", "3", "4"], Some("2"), 2), ["3", "1"]);
        assert_eq!(surplus(["1", "2", "3", "4"], Some("4"), 2), ["2", "1"]);
        assert_eq!(surplus(["1", "2", "3"], Some("1"), 0), ["3", "2"]);
        assert_eq!(surplus(["1", "2", "3"], None, 1), ["2", "1"]);
        assert!(surplus(["1", "2", "3"], Some("3"), 9).is_empty());
    }

    #[test]
    fn a_load_goes_on_from_what_it_replaces() {
        // Nothing was rolled back: the newest stay.
        assert_eq!(superseded(["1", "2", "3", "4"], Some("3"), "4", 2), ["2", "1"]);
        // 4 and 3 were rolled back from; 2 is what to go back to from 5.
        assert_eq!(superseded(["1", "2", "3", "4", "5"], Some("2"), "5", 2), ["3", "4", "1"]);
        assert_eq!(superseded(["1", "2", "3", "4", "5"], Some("2"), "5", 9), ["3", "4"]);
        // Nothing served: what was set aside stays, as far as there is room.
        assert_eq!(superseded(["1", "2", "3"], None, "3", 2), ["1"]);
    }
}
