//! Looking after generations on a Qdrant server, beside servers and loaders that run.
//!
//! A switch is made as a loader's publication is: see [`super::build`].

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use vitrine_core::{
    generations::{Destination, Generations, KeptGeneration, Pruned, Switch, before, surplus},
    index::{Generation, IndexError},
    product::CatalogName,
};

use super::{
    QdrantIndex,
    build::Site,
    description::Description,
    names::{catalog_and_id, collection, generation_id},
};
use crate::error::unavailable;

#[async_trait]
impl Generations for QdrantIndex {
    async fn list(&self) -> Result<BTreeMap<CatalogName, Vec<KeptGeneration>>, IndexError> {
        let aliases = self.connection.aliases().await?;
        let mut names = self.connection.collections().await?;
        names.sort();
        let mut catalogs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for name in names {
            let Some((catalog, id)) = catalog_and_id(&name) else { continue };
            let described = match self.connection.describe(&name).await {
                Ok(collection) => collection.and_then(Description::read),
                // A cluster cannot say what a collection is like while none of its copies is whole; it can of the others.
                Err(refusal) => Some(Err(refusal)),
            };
            // What has no description, other people have made.
            let Some(description) = described else { continue };
            let context = || format!("look at generation {id}");
            let unfinished = "it is not whole: it is being loaded, or a killed loader left it";
            let serves = aliases.get(catalog.as_str()) == Some(&name);
            let info = description.and_then(|description| {
                let finished = description.published || serves;
                let info = description.into_info(id).filter(|_| finished);
                info.ok_or_else(|| unavailable(context(), unfinished))
            });
            let place = format!("{name} on {}", self.connection.url());
            let kept = KeptGeneration { id: id.to_owned(), serves, info, place, disk_bytes: None };
            catalogs.entry(catalog).or_default().push(kept);
        }
        Ok(catalogs)
    }

    async fn generation(&self, catalog: &CatalogName, id: &str) -> Result<Arc<dyn Generation>, IndexError> {
        let site = self.site(catalog);
        let serving = site.serving().await?.collection;
        self.find(&site, id, serving.as_deref()).await?;
        let mut generation = self.look_at(catalog, &collection(catalog, id)).await?;
        generation.connection = site.connection;
        Ok(Arc::new(generation))
    }

    async fn switch(&self, catalog: &CatalogName, to: Destination) -> Result<Switch, IndexError> {
        let site = self.site(catalog);
        let serving = site.serving().await?;
        let from = serving.collection.as_deref();
        let id = |collection: &str| generation_id(catalog, collection).unwrap_or(collection).to_owned();
        let to = match to {
            Destination::Generation(id) => id,
            Destination::Before => {
                let published = self.published_of(&site).await?;
                let earlier = from.and_then(|from| before(published.iter().map(String::as_str), from));
                id(earlier.ok_or_else(|| IndexError::NothingBefore(catalog.clone()))?)
            }
        };
        let switch = Switch { from: from.map(id), to };
        let to = collection(catalog, &switch.to);
        self.find(&site, &switch.to, from).await?;
        if from == Some(to.as_str()) {
            return Ok(switch);
        }
        self.look_at(catalog, &to).await?;
        site.switch(&switch.to, &serving).await?;
        let now = site.serving().await?;
        if now.collection == Some(to) {
            return Ok(switch);
        }
        // A loader removed it as an old one in this very moment, and the server the alias with it.
        if let (None, Some(from)) = (&now.collection, &switch.from) {
            site.switch(from, &now).await?;
        }
        Err(IndexError::Locked(catalog.clone()))
    }

    async fn prune(&self, catalog: &CatalogName, kept: usize) -> Result<Pruned, IndexError> {
        let site = self.site(catalog);
        let (serving, published) = (site.serving().await?.collection, self.published_of(&site).await?);
        let old = surplus(published.iter().map(String::as_str), serving.as_deref(), kept);
        let in_use = site.remove(old.clone()).await?;
        let (in_use, removed) = old.into_iter().partition::<Vec<_>, _>(|name| in_use.contains(name));
        let ids = |names: Vec<&str>| {
            let ids = names.into_iter().filter_map(|name| generation_id(catalog, name));
            ids.map(str::to_owned).collect()
        };
        Ok(Pruned { removed: ids(removed), in_use: ids(in_use) })
    }
}

impl QdrantIndex {
    /// A catalogue, to be changed.
    fn site(&self, catalog: &CatalogName) -> Site {
        Site {
            connection: Arc::new(self.connection.patient()),
            catalog: catalog.clone(),
            options: self.options.clone(),
            removals: Arc::clone(&self.removals),
        }
    }

    /// The collections of whole generations, oldest first.
    async fn published_of(&self, site: &Site) -> Result<Vec<String>, IndexError> {
        let generations = site.generations().await?;
        if generations.is_empty() {
            return Err(IndexError::UnknownCatalog(site.catalog.clone()));
        }
        let published = generations.into_iter().filter(|(_, generation)| generation.published);
        Ok(published.map(|(name, _)| name).collect())
    }

    /// Refuses what is no whole generation of the catalogue.
    async fn find(&self, site: &Site, id: &str, serving: Option<&str>) -> Result<(), IndexError> {
        let name = collection(&site.catalog, id);
        let known = generation_id(&site.catalog, &name).is_some();
        let is_one = |description: &Description| description.published || serving == Some(name.as_str());
        let described = if known { site.connection.describe_when(&name, is_one).await? } else { None };
        match described {
            Some(description) if is_one(&description) => Ok(()),
            Some(_) | None => {
                let catalog = site.catalog.clone();
                // Whether there is anything of that catalogue is said first.
                self.published_of(site).await?;
                Err(IndexError::UnknownGeneration { catalog, id: id.to_owned() })
            }
        }
    }
}
