//! Looking after generations in directories, beside servers and loaders that run.
//!
//! What is only read needs no lock and no open shard. Changing `CURRENT` and removing generations is done under the lock
//! `SWITCH`, which a loader takes, too, for the moment of its publication; it publishes only if what serves is what it
//! found when it began.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use vitrine_core::{
    compute::ComputePool,
    generations::{Destination, Generations, KeptGeneration, Pruned, Switch, before, surplus},
    index::{Generation, IndexError},
    product::CatalogName,
};

use super::{
    EdgeIndex, blocking,
    directory::{CatalogDirectory, is_partial},
    generation::{CopiedGeneration, EdgeGeneration},
};
use crate::error::{failed, unavailable};

#[async_trait]
impl Generations for EdgeIndex {
    async fn list(&self) -> Result<BTreeMap<CatalogName, Vec<KeptGeneration>>, IndexError> {
        let root = self.root.clone();
        blocking("list the generations", move || {
            let kept = |name: CatalogName| {
                let kept = list(&CatalogDirectory::new(&root, &name))?;
                Ok((name, kept))
            };
            CatalogDirectory::list_all(&root)?.into_iter().map(kept).collect()
        })
        .await
    }

    async fn generation(&self, catalog: &CatalogName, id: &str) -> Result<Arc<dyn Generation>, IndexError> {
        let (directory, pool) = (CatalogDirectory::new(&self.root, catalog), Arc::clone(&self.pool));
        let (catalog, id) = (catalog.clone(), id.to_owned());
        blocking("read a generation", move || {
            find(&directory, &catalog, &id)?;
            let copy = directory.copy(&id).map_err(failed(format!("copy generation {id}, to read it")))?;
            let generation: Arc<dyn Generation> = Arc::new(CopiedGeneration::open(copy, pool)?);
            Ok(generation)
        })
        .await
    }

    async fn switch(&self, catalog: &CatalogName, to: Destination) -> Result<Switch, IndexError> {
        let (directory, pool) = (CatalogDirectory::new(&self.root, catalog), Arc::clone(&self.pool));
        let catalog = catalog.clone();
        blocking("switch a catalogue", move || switch(&directory, &catalog, to, &pool)).await
    }

    async fn prune(&self, catalog: &CatalogName, kept: usize) -> Result<Pruned, IndexError> {
        let directory = CatalogDirectory::new(&self.root, catalog);
        let catalog = catalog.clone();
        blocking("remove old generations", move || prune(&directory, &catalog, kept)).await
    }
}

fn list(directory: &CatalogDirectory) -> Result<Vec<KeptGeneration>, IndexError> {
    let serving = directory.current()?;
    let ids = directory.ids().map_err(failed("list the generations"))?;
    let kept = ids.into_iter().map(|id| {
        let generation = directory.generation(&id);
        let info = if is_partial(&id) {
            let context = format!("look at generation {id}");
            Err(unavailable(context, "it is not whole: it is being loaded, or a killed loader left it"))
        } else {
            generation.read_info()
        };
        let (serves, place) = (serving.as_ref() == Some(&id), generation.path.display().to_string());
        KeptGeneration { serves, info, place, disk_bytes: Some(generation.disk_bytes()), id }
    });
    Ok(kept.collect())
}

/// Refuses what is no whole generation of the catalogue.
fn find(directory: &CatalogDirectory, catalog: &CatalogName, id: &str) -> Result<(), IndexError> {
    if !directory.exists() {
        return Err(IndexError::UnknownCatalog(catalog.clone()));
    }
    // Looked for among the names, so that none leads out of the directory.
    let known = directory.whole_ids().map_err(failed("list the generations"))?.iter().any(|known| known == id);
    if !known {
        return Err(IndexError::UnknownGeneration { catalog: catalog.clone(), id: id.to_owned() });
    }
    directory.generation(id).read_info().map(drop)
}

fn switch(
    directory: &CatalogDirectory,
    catalog: &CatalogName,
    to: Destination,
    pool: &Arc<ComputePool>,
) -> Result<Switch, IndexError> {
    const CONTEXT: &str = "switch a catalogue";
    if !directory.exists() {
        return Err(IndexError::UnknownCatalog(catalog.clone()));
    }
    let from = directory.current()?;
    let to = match to {
        Destination::Generation(id) => id,
        Destination::Before => {
            let mut whole = directory.whole_ids().map_err(failed(CONTEXT))?;
            whole.retain(|id| directory.generation(id).read_info().is_ok());
            let earlier = from.as_deref().and_then(|serving| before(whole.iter().map(String::as_str), serving));
            earlier.ok_or_else(|| IndexError::NothingBefore(catalog.clone()))?.to_owned()
        }
    };
    find(directory, catalog, &to)?;
    if from.as_ref() == Some(&to) {
        return Ok(Switch { from, to });
    }
    let generation = directory.generation(&to);
    // One that is open can be opened.
    if !generation.is_open() {
        EdgeGeneration::open(&generation, Arc::clone(pool))?.close()?;
    }
    let locked = || IndexError::Locked(catalog.clone());
    let lock = directory.lock_switch().map_err(failed(CONTEXT))?.ok_or_else(locked)?;
    if directory.current()? != from {
        return Err(locked());
    }
    // It may have been removed while it was looked at.
    find(directory, catalog, &to)?;
    directory.set_current(&lock, &to).map_err(failed(CONTEXT))?;
    Ok(Switch { from, to })
}

fn prune(directory: &CatalogDirectory, catalog: &CatalogName, kept: usize) -> Result<Pruned, IndexError> {
    const CONTEXT: &str = "remove old generations";
    if !directory.exists() {
        return Err(IndexError::UnknownCatalog(catalog.clone()));
    }
    let locked = || IndexError::Locked(catalog.clone());
    // Not while a load runs, which may read what it begins from.
    let _building = directory.lock().map_err(failed(CONTEXT))?.ok_or_else(locked)?;
    let switching = directory.lock_switch().map_err(failed(CONTEXT))?.ok_or_else(locked)?;
    let (serving, whole) = (directory.current()?, directory.whole_ids().map_err(failed(CONTEXT))?);
    let mut pruned = Pruned::default();
    for id in surplus(whole.iter().map(String::as_str), serving.as_deref(), kept) {
        let gone = directory.remove(&switching, id).map_err(failed(format!("remove generation {id}")))?;
        let list = if gone { &mut pruned.removed } else { &mut pruned.in_use };
        list.push(id.to_owned());
    }
    Ok(pruned)
}
