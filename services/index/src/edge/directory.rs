//! The files of one catalogue, and the order in which they change.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use chrono::Utc;
use serde::{Deserialize, Serialize};
use vitrine_core::{
    embed::ModelInfo,
    generations::superseded,
    index::{GenerationInfo, IndexError},
    keywords::KeptWords,
    product::{CatalogName, Schema},
};

use crate::error::{failed, unavailable};

const CURRENT: &str = "CURRENT";
const PARTIAL: &str = "partial";
const READING: &str = "reading";
/// Qdrant Edge's log of changes, below a shard.
const LOG: &str = "wal";
/// Longest wait for another process that switches, or removes old generations.
const SWITCH_WAIT_MAX: Duration = Duration::from_secs(30);

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

/// What becomes of the log when a shard is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogFiles {
    /// A new one is made when the copy is opened. Enough to read: the log is never read but for the number of the last
    /// change.
    LeftOut,
    /// It is copied, for changes to come, which need a higher number.
    Copied,
}

/// The right to build a generation of a catalogue; given up when dropped, or by the system when the process dies.
#[derive(Debug)]
pub(super) struct BuildLock {
    _file: File,
    /// The generation that served when it was taken.
    pub(super) replaces: Option<String>,
}

/// The right to change what serves a catalogue and what is kept of it, for a moment; given up as a [`BuildLock`] is.
#[derive(Debug)]
pub(super) struct SwitchLock {
    _file: File,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    id: String,
    model_fingerprint: String,
    dimensions: usize,
    schema: Schema,
    products: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keywords: Option<KeptWords>,
}

impl CatalogDirectory {
    pub(super) fn new(root: &Path, catalog: &CatalogName) -> Self {
        Self { path: root.join(catalog.as_str()) }
    }

    /// The catalogues that have a serving generation.
    pub(super) fn list(root: &Path) -> Result<Vec<CatalogName>, IndexError> {
        Self::list_where(root, Self::is_published)
    }

    /// The catalogues that have a generation, whether one serves or not.
    pub(super) fn list_all(root: &Path) -> Result<Vec<CatalogName>, IndexError> {
        Self::list_where(root, Self::exists)
    }

    fn list_where(root: &Path, wanted: impl Fn(&Self) -> bool) -> Result<Vec<CatalogName>, IndexError> {
        let listed = || -> io::Result<Vec<CatalogName>> {
            let entries = match fs::read_dir(root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let names = entries.map(|entry| {
                let entry = entry?;
                let name = entry.file_name().into_string().ok().and_then(|name| CatalogName::new(&name).ok());
                Ok(name.filter(|_| wanted(&Self { path: entry.path() })))
            });
            names.filter_map(Result::transpose).collect()
        };
        listed().map_err(failed(format!("list {}", root.display())))
    }

    /// Whether a generation was ever published.
    pub(super) fn is_published(&self) -> bool {
        self.path.join(CURRENT).is_file()
    }

    /// Whether a generation was ever begun.
    pub(super) fn exists(&self) -> bool {
        self.generations().is_dir()
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

    /// The names of everything below `generations/`, oldest first: whole generations, and those that are being built.
    pub(super) fn ids(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.generations())?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let mut ids = entries.filter_map(Result::transpose).collect::<io::Result<Vec<String>>>()?;
        ids.sort();
        Ok(ids)
    }

    /// The names of whole generations, oldest first.
    pub(super) fn whole_ids(&self) -> io::Result<Vec<String>> {
        let mut ids = self.ids()?;
        ids.retain(|id| !is_partial(id));
        Ok(ids)
    }

    /// Takes the right to build; `None` if another process has it.
    pub(super) fn lock(&self) -> io::Result<Option<BuildLock>> {
        fs::create_dir_all(self.generations())?;
        let Some(file) = try_lock(self.path.join("LOCK"))? else { return Ok(None) };
        let replaces = self.current().map_err(io::Error::other)?;
        Ok(Some(BuildLock { _file: file, replaces }))
    }

    /// Takes the right to switch; `None` if another process has it for too long.
    pub(super) fn lock_switch(&self) -> io::Result<Option<SwitchLock>> {
        let deadline = Instant::now() + SWITCH_WAIT_MAX;
        loop {
            if let Some(file) = try_lock(self.path.join("SWITCH"))? {
                return Ok(Some(SwitchLock { _file: file }));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes the directory of a new generation, and removes what killed builders left: generations that are not whole.
    pub(super) fn begin(&self, _lock: &BuildLock) -> io::Result<(String, GenerationDirectory)> {
        let current = self.current().map_err(io::Error::other)?.unwrap_or_default();
        for id in self.ids()?.iter().filter(|id| is_partial(id)) {
            let GenerationDirectory { path } = self.generation(id);
            tracing::info!(path = %path.display(), "removing what a killed loader left");
            remove_if_free(&path)?;
        }
        let id = Utc::now().format("%Y%m%dT%H%M%S%3fZ").to_string();
        if id <= current {
            return Err(io::Error::other(format!("the clock, at {id}, is behind the serving generation, {current}")));
        }
        let partial = self.generation(&format!("{id}.{PARTIAL}"));
        fs::create_dir_all(partial.shard())?;
        Ok((id, partial))
    }

    /// Makes a whole generation the serving one, and removes what is superseded. Killed before the last rename, the old
    /// one serves; after it, the new. Out: false if something else was published since the lock was taken, or is for too
    /// long; then nothing has changed.
    pub(super) fn publish(
        &self,
        lock: &BuildLock,
        id: &str,
        partial: &GenerationDirectory,
        kept: usize,
    ) -> io::Result<bool> {
        sync_tree(&partial.path)?;
        let Some(switching) = self.lock_switch()? else { return Ok(false) };
        if self.current().map_err(io::Error::other)? != lock.replaces {
            return Ok(false);
        }
        fs::rename(&partial.path, self.generation(id).path)?;
        sync(&self.generations())?;
        self.set_current(&switching, id)?;
        if let Err(error) = self.supersede(&switching, lock.replaces.as_deref(), id, kept) {
            tracing::warn!(%error, "could not remove an old generation");
        }
        Ok(true)
    }

    /// Lets a whole generation stay beside the serving one.
    pub(super) fn set_aside(&self, _lock: &BuildLock, id: &str, partial: &GenerationDirectory) -> io::Result<()> {
        sync_tree(&partial.path)?;
        fs::rename(&partial.path, self.generation(id).path)?;
        sync(&self.generations())?;
        sync(&self.path)?;
        self.path.parent().map_or(Ok(()), sync)
    }

    /// Makes a generation the serving one.
    pub(super) fn set_current(&self, _lock: &SwitchLock, id: &str) -> io::Result<()> {
        let replacement = self.path.join("CURRENT.new");
        let mut file = File::create(&replacement)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        fs::rename(&replacement, self.path.join(CURRENT))?;
        sync(&self.path)?;
        self.path.parent().map_or(Ok(()), sync)
    }

    fn supersede(&self, _lock: &SwitchLock, replaced: Option<&str>, id: &str, kept: usize) -> io::Result<()> {
        let whole = self.whole_ids()?;
        for old in superseded(whole.iter().map(String::as_str), replaced, id, kept) {
            if replaced.is_some_and(|replaced| old > replaced) {
                tracing::info!(generation = old, "removing what was rolled back from, or never served");
            }
            remove_if_free(&self.generation(old).path)?;
        }
        Ok(())
    }

    /// Removes a generation. Out: false if a process has it open; then it stays.
    pub(super) fn remove(&self, _lock: &SwitchLock, id: &str) -> io::Result<bool> {
        remove_if_free(&self.generation(id).path)
    }

    /// Copies what is needed to read a generation, so that nobody else is kept from opening it.
    pub(super) fn copy(&self, id: &str) -> io::Result<ReadingCopy> {
        let reading = self.path.join(READING);
        let copy = {
            // Under the lock, so that nobody takes a copy that was just begun for one that was left.
            let lock = self.lock_switch()?;
            let _lock = lock.ok_or_else(|| io::Error::other("another process does not let go of the catalogue"))?;
            fs::create_dir_all(&reading)?;
            for entry in fs::read_dir(&reading)? {
                let path = entry?.path();
                if File::open(&path).is_ok_and(|directory| directory.try_lock().is_ok()) {
                    fs::remove_dir_all(&path)?;
                }
            }
            ReadingCopy::begin(reading.join(format!("{id}-{:08x}", fastrand::u32(..))))?
        };
        let (from, to) = (self.generation(id), copy.directory());
        fs::create_dir(to.shard())?;
        fs::copy(from.info(), to.info())?;
        from.copy_shard(to, LogFiles::LeftOut)?;
        Ok(copy)
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

    /// Copies Qdrant Edge's files, which do not change while a generation serves, to where there are none yet.
    pub(super) fn copy_shard(&self, to: &Self, log: LogFiles) -> io::Result<()> {
        for entry in fs::read_dir(self.shard())? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|name| *name != LOG || log == LogFiles::Copied) {
                copy_tree(&path, &to.shard().join(name))?;
            }
        }
        Ok(())
    }

    /// Its size on disk, in bytes. What others remove meanwhile does not count.
    pub(super) fn disk_bytes(&self) -> u64 {
        tree_bytes(&self.path)
    }

    /// Whether a process has it open.
    pub(super) fn is_open(&self) -> bool {
        open_log(&self.path).is_ok_and(|log| log.try_lock().is_err())
    }

    pub(super) fn write_info(&self, info: &GenerationInfo) -> io::Result<()> {
        let manifest = Manifest {
            id: info.id.clone(),
            model_fingerprint: info.model.fingerprint.clone(),
            dimensions: info.model.dimensions,
            schema: info.schema.clone(),
            products: info.products,
            keywords: info.keywords.clone(),
        };
        fs::write(self.info(), serde_json::to_vec_pretty(&manifest)?)
    }

    pub(super) fn read_info(&self) -> Result<GenerationInfo, IndexError> {
        let manifest = || -> io::Result<Manifest> { Ok(serde_json::from_slice(&fs::read(self.info())?)?) };
        let manifest = manifest().map_err(failed(format!("read {}", self.info().display())))?;
        let Manifest { id, model_fingerprint: fingerprint, dimensions, schema, products, keywords } = manifest;
        Ok(GenerationInfo { id, model: ModelInfo { fingerprint, dimensions }, schema, products, keywords })
    }

    fn info(&self) -> PathBuf {
        self.path.join("generation.json")
    }
}

/// A generation's files a second time, to be read in peace. Removed when dropped; what a killed reader leaves, the next
/// one removes.
#[derive(Debug)]
pub(super) struct ReadingCopy {
    directory: GenerationDirectory,
    /// Says that its reader lives.
    _lock: File,
}

impl ReadingCopy {
    fn begin(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        let lock = File::open(&path)?;
        lock.try_lock()?;
        Ok(Self { directory: GenerationDirectory { path }, _lock: lock })
    }

    pub(super) fn directory(&self) -> &GenerationDirectory {
        &self.directory
    }
}

impl Drop for ReadingCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory.path) {
            tracing::warn!(path = %self.directory.path.display(), %error, "could not remove a copy that was read");
        }
    }
}

/// Whether this is the name of a generation that is not whole.
pub(super) fn is_partial(id: &str) -> bool {
    Path::new(id).extension().is_some_and(|extension| extension == PARTIAL)
}

/// Locks a file, made for that; `None` if another process has it locked.
fn try_lock(path: PathBuf) -> io::Result<Option<File>> {
    let file = File::options().create(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What Qdrant Edge locks while a shard is open.
fn open_log(generation: &Path) -> io::Result<File> {
    File::open(generation.join("shard").join(LOG))
}

/// Removes a generation, unless a process has it open. Out: whether it is gone.
fn remove_if_free(path: &Path) -> io::Result<bool> {
    let log = open_log(path);
    // A shard that was never begun has no log to lock.
    let locked = log.as_ref().is_ok_and(|log| log.try_lock().is_err());
    if !locked {
        fs::remove_dir_all(path)?;
    }
    Ok(!locked)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    fs::read_dir(from)?.try_for_each(|entry| {
        let entry = entry?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))
    })
}

fn tree_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return file_bytes(&metadata);
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| tree_bytes(&entry.path())).sum()
}

/// What a file takes of the disk: Qdrant's files have holes.
#[cfg(unix)]
fn file_bytes(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn file_bytes(metadata: &fs::Metadata) -> u64 {
    metadata.len()
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
