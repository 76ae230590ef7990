//! An index to test, of each kind, with a catalogue that nobody else has.

use std::{env, sync::Arc, time::Duration};

use qdrant_client::Qdrant;
use tempfile::TempDir;
use vitrine_core::product::CatalogName;
use vitrine_index::{BuildOptions, EdgeOptions, IndexPlace, QdrantOptions, Quantisation, ServedIndex, open};

use crate::StandIn;

/// Which index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// Qdrant Edge, in a directory.
    Edge,
    /// The client of a Qdrant server, on a stand-in for one.
    StandIn,
    /// The same on the server whose address is in `QDRANT_URL`.
    Server,
}

/// An index with an empty catalogue.
pub struct TestIndex {
    catalog: CatalogName,
    place: Place,
}

enum Place {
    Edge(TempDir),
    StandIn(StandIn),
    Server(String),
}

impl TestIndex {
    /// An empty one; `None`, which is said, if there is none of that kind here.
    pub async fn new(kind: IndexKind) -> Option<Self> {
        let place = match kind {
            IndexKind::Edge => Place::Edge(tempfile::tempdir().unwrap()),
            IndexKind::StandIn => Place::StandIn(StandIn::start().await),
            IndexKind::Server => {
                let Some(url) = env::var("QDRANT_URL").ok().filter(|url| !url.is_empty()) else {
                    eprintln!("skipped: QDRANT_URL names no Qdrant server to test with");
                    return None;
                };
                Place::Server(url)
            }
        };
        Some(Self::at(place))
    }

    /// An empty one on a stand-in for a cluster of so many nodes.
    pub async fn on_cluster(nodes: usize) -> Self {
        Self::at(Place::StandIn(StandIn::start_cluster(nodes).await))
    }

    fn at(place: Place) -> Self {
        // Several tests share a server.
        let name = format!("vitrine-test-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Self { catalog: CatalogName::new(&name).unwrap(), place }
    }

    /// The catalogue to use.
    pub fn catalog(&self) -> &CatalogName {
        &self.catalog
    }

    /// The stand-in, where it is one.
    pub fn stand_in(&self) -> &StandIn {
        match &self.place {
            Place::StandIn(stand_in) => stand_in,
            Place::Edge(_) | Place::Server(_) => panic!("there is no stand-in"),
        }
    }

    /// Opens it, as another process would.
    pub fn open(&self) -> Arc<dyn ServedIndex> {
        self.open_keeping(2)
    }

    /// Opens it, to keep so many generations.
    pub fn open_keeping(&self, generations_kept: usize) -> Arc<dyn ServedIndex> {
        let place = match &self.place {
            Place::Edge(dir) => {
                let root = dir.path().to_owned();
                let quantisation = Quantisation::None;
                IndexPlace::Directory(EdgeOptions {
                    build_threads: 0,
                    root,
                    threads: 2,
                    queue_size_max: 64,
                    generations_kept,
                    quantisation,
                })
            }
            Place::StandIn(_) | Place::Server(_) => {
                let mut options = self.options();
                options.build.generations_kept = generations_kept;
                IndexPlace::Server(Box::new(options))
            }
        };
        open(place).unwrap()
    }

    /// Whether a generation begins with the files of another one, and is of the same bits. Of a server that is not known: a
    /// node may be away.
    pub fn takes_files_over(&self) -> bool {
        !matches!(self.place, Place::Server(_))
    }

    /// Whether there are several copies or parts of a generation, each of which counts words by itself.
    pub fn has_copies(&self) -> bool {
        matches!(self.place, Place::Server(_)) && env::var_os("QDRANT_REPLICAS").is_some()
    }

    /// Address of its server.
    pub fn url(&self) -> String {
        match &self.place {
            Place::StandIn(stand_in) => stand_in.url(),
            Place::Server(url) => url.clone(),
            Place::Edge(_) => panic!("there is no server"),
        }
    }

    /// How its server is used: impatiently, with as many copies as `QDRANT_REPLICAS` says. `QDRANT_REST_URLS` are the REST
    /// addresses of its nodes, if they are not at its host, on Qdrant's usual port.
    pub fn options(&self) -> QdrantOptions {
        let replicas = env::var("QDRANT_REPLICAS").ok().map_or(1, |replicas| replicas.parse().unwrap());
        // A cluster brings back the copies of a node that was away when its consensus is idle, from which beats are not to
        // keep it.
        let beat = Duration::from_millis(if matches!(self.place, Place::Server(_)) { 2000 } else { 200 });
        let build = BuildOptions { replicas, green_wait_max: Duration::from_mins(2), beat, ..BuildOptions::default() };
        let api_key = env::var("QDRANT_API_KEY").ok().and_then(|key| key.parse().ok());
        let timeout = Duration::from_secs(30);
        let rest_urls = match &self.place {
            Place::StandIn(stand_in) => stand_in.rest_urls().iter().map(|url| url.parse().unwrap()).collect(),
            Place::Server(_) | Place::Edge(_) => {
                let urls = env::var("QDRANT_REST_URLS").unwrap_or_default();
                urls.split(',').filter(|url| !url.is_empty()).map(|url| url.parse().unwrap()).collect()
            }
        };
        QdrantOptions { rest_urls, build, api_key, timeout, ..QdrantOptions::new(self.url().parse().unwrap()) }
    }

    /// What is kept of the catalogue's generations, whole or not, serving or not.
    pub async fn generations(&self) -> Vec<String> {
        match &self.place {
            Place::Edge(dir) => {
                let generations = dir.path().join(self.catalog.as_str()).join("generations");
                let names = std::fs::read_dir(generations).unwrap().map(|entry| entry.unwrap().file_name());
                names.map(|name| name.into_string().unwrap()).collect()
            }
            Place::StandIn(_) | Place::Server(_) => {
                let collections = self.client().list_collections().await.unwrap().collections;
                let names = collections.into_iter().map(|collection| collection.name);
                names.filter(|name| name.starts_with(self.catalog.as_str())).collect()
            }
        }
    }

    /// Removes the catalogue from a server that others use, too.
    pub async fn clear(&self) {
        if matches!(self.place, Place::Server(_)) {
            for name in self.generations().await {
                self.client().delete_collection(name).await.unwrap();
            }
        }
    }

    /// Removes from a server what no alias points to and was never published, as a loader does.
    pub async fn remove_unpublished(&self) {
        let client = self.client();
        let aliases = client.list_aliases().await.unwrap().aliases;
        for name in self.generations().await {
            if aliases.iter().any(|alias| alias.collection_name == name) {
                continue;
            }
            // What a killed loader asked for last may still be done: a generation that it found old may be gone by now.
            let Ok(answer) = client.collection_info(&name).await else { continue };
            let config = answer.result.and_then(|info| info.config);
            if config.is_some_and(|config| !config.metadata.contains_key("vitrine_published")) {
                client.delete_collection(name).await.unwrap();
            }
        }
    }

    fn client(&self) -> Qdrant {
        let config = Qdrant::from_url(&self.options().url.to_string()).skip_compatibility_check();
        config.api_key(env::var("QDRANT_API_KEY")).build().unwrap()
    }
}
