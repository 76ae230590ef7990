//! The files of one catalogue, and the order in which they change.

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use chrono::Utc;
use serde::{Deserialize, Serialize};
use vitrine_core::{
    embed::ModelInfo,
    index::{GenerationInfo, IndexError},
    product::{CatalogName, Schema},
};

use crate::error::{failed, unavailable};

const CURRENT: &str = "CURRENT";
const PARTIAL: &str = "partial";

/// The directory of one catalogue.
#[derive(Debug, Clone)]
pub(super) struct CatalogDirectory {
    path: PathBuf,
}

/// The directory of one generation.
#[derive(Debug, Clone)]
pub(super) struct GenerationDirectory {
    pub(super) path: PathBuf,
}

/// The right to build a generation of a catalogue; given up when dropped, or by the system when the process dies.
#[derive(Debug)]
pub(super) struct BuildLock {
    _file: File,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    id: String,
    model_fingerprint: String,
    dimensions: usize,
    schema: Schema,
    products: usize,
}

impl CatalogDirectory {
    pub(super) fn new(root: &Path, catalog: &CatalogName) -> Self {
        Self { path: root.join(catalog.as_str()) }
    }

    /// The catalogues that have a serving generation.
    pub(super) fn list(root: &Path) -> Result<Vec<CatalogName>, IndexError> {
        let listed = || -> io::Result<Vec<CatalogName>> {
            let entries = match fs::read_dir(root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let names = entries.map(|entry| {
                let entry = entry?;
                let name = entry.file_name().into_string().ok().and_then(|name| CatalogName::new(&name).ok());
                Ok(name.filter(|_| Self { path: entry.path() }.is_published()))
            });
            names.filter_map(Result::transpose).collect()
        };
        listed().map_err(failed(format!("list {}", root.display())))
    }

    /// Whether a generation was ever published.
    pub(super) fn is_published(&self) -> bool {
        self.path.join(CURRENT).is_file()
    }

    /// Name of the serving generation, if one was published.
    pub(super) fn current(&self) -> Result<Option<String>, IndexError> {
        let path = self.path.join(CURRENT);
        match fs::read_to_string(&path) {
            Ok(id) => Ok(Some(id.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(format!("read {}", path.display()), error)),
        }
    }

    pub(super) fn generation(&self, id: &str) -> GenerationDirectory {
        GenerationDirectory { path: self.generations().join(id) }
    }

    /// Takes the right to build; `None` if another process has it.
    pub(super) fn lock(&self) -> io::Result<Option<BuildLock>> {
        fs::create_dir_all(self.generations())?;
        let file = File::options().create(true).append(true).open(self.path.join("LOCK"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(BuildLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Makes the directory of a new generation, and removes what killed builders left: generations that were not
    /// whole, and whole ones that never served.
    pub(super) fn begin(&self, _lock: &BuildLock) -> io::Result<(String, GenerationDirectory)> {
        let current = self.current().map_err(io::Error::other)?.unwrap_or_default();
        for entry in fs::read_dir(self.generations())? {
            let path = entry?.path();
            let never_served = path.file_name().is_some_and(|id| id > OsStr::new(&current));
            if never_served || path.extension().is_some_and(|extension| extension == PARTIAL) {
                tracing::info!(path = %path.display(), "removing what a killed loader left");
                remove_if_free(&path)?;
            }
        }
        let id = Utc::now().format("%Y%m%dT%H%M%S%3fZ").to_string();
        if id <= current {
            return Err(io::Error::other(format!("the clock, at {id}, is behind the serving generation, {current}")));
        }
        let partial = self.generation(&format!("{id}.{PARTIAL}"));
        fs::create_dir_all(partial.shard())?;
        Ok((id, partial))
    }

    /// Makes a whole generation the serving one. Killed before the last rename, the old one serves; after it, the new.
    pub(super) fn publish(&self, _lock: &BuildLock, id: &str, partial: &GenerationDirectory) -> io::Result<()> {
        sync_tree(&partial.path)?;
        fs::rename(&partial.path, self.generation(id).path)?;
        sync(&self.generations())?;
        let replacement = self.path.join("CURRENT.new");
        let mut file = File::create(&replacement)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        fs::rename(&replacement, self.path.join(CURRENT))?;
        sync(&self.path)?;
        self.path.parent().map_or(Ok(()), sync)
    }

    /// Removes all generations but the newest, of which the serving one is the first. One that a process has open stays.
    pub(super) fn prune(&self, _lock: &BuildLock, kept: usize) -> io::Result<()> {
        let entries = fs::read_dir(self.generations())?;
        let mut whole = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        whole.sort();
        whole.truncate(whole.len().saturating_sub(kept));
        whole.iter().try_for_each(|path| remove_if_free(path))
    }

    fn generations(&self) -> PathBuf {
        self.path.join("generations")
    }
}

impl GenerationDirectory {
    /// Where Qdrant Edge keeps its files.
    pub(super) fn shard(&self) -> PathBuf {
        self.path.join("shard")
    }

    pub(super) fn write_info(&self, info: &GenerationInfo) -> io::Result<()> {
        let manifest = Manifest {
            id: info.id.clone(),
            model_fingerprint: info.model.fingerprint.clone(),
            dimensions: info.model.dimensions,
            schema: info.schema.clone(),
            products: info.products,
        };
        fs::write(self.info(), serde_json::to_vec_pretty(&manifest)?)
    }

    pub(super) fn read_info(&self) -> Result<GenerationInfo, IndexError> {
        let manifest = || -> io::Result<Manifest> { Ok(serde_json::from_slice(&fs::read(self.info())?)?) };
        let manifest = manifest().map_err(failed(format!("read {}", self.info().display())))?;
        let Manifest { id, model_fingerprint: fingerprint, dimensions, schema, products } = manifest;
        Ok(GenerationInfo { id, model: ModelInfo { fingerprint, dimensions }, schema, products })
    }

    fn info(&self) -> PathBuf {
        self.path.join("generation.json")
    }
}

/// Removes a generation, unless a process has it open: Qdrant Edge holds a lock on an open shard's log.
fn remove_if_free(path: &Path) -> io::Result<()> {
    let log = File::open(path.join("shard/wal"));
    // A shard that was never begun has no log to lock.
    let locked = log.as_ref().is_ok_and(|log| log.try_lock().is_err());
    if locked { Ok(()) } else { fs::remove_dir_all(path) }
}

/// Makes every file below a directory, and the names of all of them, survive a loss of power.
fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { sync_tree(&path)? } else { sync(&path)? }
    }
    sync(directory)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
