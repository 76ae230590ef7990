//! `vitrine index`: looks after catalogues and their generations, and carries them between indexes.

#![expect(clippy::print_stdout, reason = "what was done is this command's output")]

mod show;

use std::{
    io,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use vitrine_core::{
    generations::{Destination, KeptGeneration, Switch},
    index::IndexError,
    product::CatalogName,
};
use vitrine_index::{
    IndexPlace, ServedIndex,
    archive::{self, ArchiveError},
    open,
};

pub(crate) use self::show::bytes;
use crate::{
    cli::{IndexArguments, IndexCommand},
    settings::Settings,
    stop::stop_signal,
};

/// Longest wait for what an interrupted restore leaves to be removed.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// Pause between two lines about how far a file is.
const PROGRESS_PAUSE: Duration = Duration::from_secs(10);

/// Why nothing came of a command.
#[derive(Debug, thiserror::Error)]
pub enum IndexCommandError {
    /// There is no such catalogue or generation.
    #[error("{0}; `vitrine index list` shows what there is")]
    Unknown(IndexError),
    /// No generation was named, and none serves.
    #[error("catalogue `{0}` serves no generation; name one, as `vitrine index list` shows them")]
    NothingServes(CatalogName),
    /// The index does not do its part.
    #[error(transparent)]
    Index(IndexError),
    /// The file does not.
    #[error(transparent)]
    Archive(ArchiveError),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The system gives no threads, or no signals.
    #[error("start the async runtime, or listen for signals")]
    Start(#[source] io::Error),
}

impl IndexCommandError {
    /// For scripts, after sysexits.h; the command line's help lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Archive(ArchiveError::Damaged { .. }) => 65,
            Self::Unknown(_) | Self::NothingServes(_) | Self::Archive(ArchiveError::Unreadable { .. }) => 66,
            Self::Index(IndexError::Locked(_)) => 75,
            Self::Archive(ArchiveError::Unwritable { .. }) => 73,
            Self::Index(_) | Self::Archive(ArchiveError::Index(_)) | Self::Start(_) => 69,
            Self::Interrupted => 130,
        }
    }
}

impl From<IndexError> for IndexCommandError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::UnknownCatalog(_) | IndexError::UnknownGeneration { .. } | IndexError::NothingBefore(_) => {
                Self::Unknown(error)
            }
            IndexError::Locked(_) | IndexError::Overloaded { .. } | IndexError::Unavailable { .. } => {
                Self::Index(error)
            }
        }
    }
}

impl From<ArchiveError> for IndexCommandError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Index(error) => error.into(),
            ArchiveError::Unreadable { .. } | ArchiveError::Damaged { .. } | ArchiveError::Unwritable { .. } => {
                Self::Archive(error)
            }
        }
    }
}

/// Does what was asked, and prints what came of it.
///
/// # Errors
/// See [`IndexCommandError`].
pub fn look_after_index(arguments: &IndexArguments, settings: &Settings) -> Result<(), IndexCommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(IndexCommandError::Start)?;
    let place = match &arguments.command {
        IndexCommand::Restore { build, .. } => build.at(settings.index().clone()),
        IndexCommand::List { .. }
        | IndexCommand::Info { .. }
        | IndexCommand::Switch { .. }
        | IndexCommand::Rollback { .. }
        | IndexCommand::Prune { .. }
        | IndexCommand::Snapshot { .. } => settings.index().clone(),
    };
    let outcome = runtime.block_on(async {
        let index = open(place.clone())?;
        let outcome = run(&arguments.command, &*index, &place).await;
        // A generation that did not get so far is being removed.
        drop(tokio::time::timeout(SETTLE_MAX, index.settle()).await);
        outcome
    });
    // Whatever still runs after an interruption is of no use.
    runtime.shutdown_background();
    outcome
}

async fn run(command: &IndexCommand, index: &dyn ServedIndex, place: &IndexPlace) -> Result<(), IndexCommandError> {
    match command {
        IndexCommand::List { json } => {
            let catalogs = index.list().await?;
            if *json { show::list_json(&catalogs) } else { show::list(&catalogs, &shown(place)) }
        }
        IndexCommand::Info { catalog, generation, json } => {
            let kept = find(index, catalog, generation.as_deref()).await?;
            if *json { show::info_json(catalog, &kept) } else { show::info(catalog, &kept) }
        }
        IndexCommand::Switch { catalog, generation } => {
            let switch = index.switch(catalog, Destination::Generation(generation.clone())).await?;
            say_switch(catalog, &switch);
        }
        IndexCommand::Rollback { catalog } => {
            let switch = index.switch(catalog, Destination::Before).await?;
            say_switch(catalog, &switch);
        }
        IndexCommand::Prune { catalog, keep } => {
            let pruned = index.prune(catalog, usize::from(*keep)).await?;
            pruned.removed.iter().for_each(|id| println!("removed {id}"));
            pruned.in_use.iter().for_each(|id| println!("{id} is in use and stays"));
            if pruned.removed.is_empty() && pruned.in_use.is_empty() {
                println!("nothing to remove");
            }
        }
        IndexCommand::Snapshot { catalog, file, generation } => {
            let kept = find(index, catalog, generation.as_deref()).await?;
            let stop = stop_signal().map_err(IndexCommandError::Start)?;
            tokio::select! {
                outcome = snapshot(index, catalog, &kept.id, file) => outcome?,
                _ = stop => return Err(IndexCommandError::Interrupted),
            }
        }
        IndexCommand::Restore { catalog, file, switch, .. } => {
            let progress = progress(file);
            let stop = stop_signal().map_err(IndexCommandError::Start)?;
            let restored = tokio::select! {
                restored = archive::restore(file, index, catalog, &progress) => restored?,
                _ = stop => return Err(IndexCommandError::Interrupted),
            };
            let (id, products) = {
                let generation = restored.generation();
                (generation.info().id.clone(), generation.info().products)
            };
            restored.set_aside().await?;
            println!("generation {id} of catalogue `{catalog}` has {products} products from {}", file.display());
            if *switch {
                let switch = index.switch(catalog, Destination::Generation(id)).await?;
                say_switch(catalog, &switch);
            } else {
                println!("it does not serve yet: vitrine index switch {catalog} {id}");
            }
        }
    }
    Ok(())
}

/// The generation that was named, or the one that serves.
async fn find(
    index: &dyn ServedIndex,
    catalog: &CatalogName,
    id: Option<&str>,
) -> Result<KeptGeneration, IndexCommandError> {
    let kept = index.list().await?.remove(catalog).ok_or_else(|| IndexError::UnknownCatalog(catalog.clone()))?;
    let found = kept.into_iter().find(|kept| id.map_or(kept.serves, |id| kept.id == id));
    found.ok_or_else(|| match id {
        Some(id) => IndexError::UnknownGeneration { catalog: catalog.clone(), id: id.to_owned() }.into(),
        None => IndexCommandError::NothingServes(catalog.clone()),
    })
}

async fn snapshot(
    index: &dyn ServedIndex,
    catalog: &CatalogName,
    id: &str,
    file: &Path,
) -> Result<(), IndexCommandError> {
    let generation = index.generation(catalog, id).await?;
    let written = archive::write(catalog, &*generation, file, &progress(file)).await?;
    let (products, bytes, file) = (written.products, show::bytes(written.bytes), file.display());
    println!("generation {id} of catalogue `{catalog}`, {products} products, is in {file} ({bytes})");
    Ok(())
}

/// Says now and then how many products are done.
fn progress(file: &Path) -> impl Fn(usize) + Send + Sync {
    let last = Mutex::new(Instant::now());
    move |products| {
        let Ok(mut last) = last.lock() else { return };
        if last.elapsed() >= PROGRESS_PAUSE {
            *last = Instant::now();
            tracing::info!(file = %file.display(), products, "at work");
        }
    }
}

fn say_switch(catalog: &CatalogName, Switch { from, to }: &Switch) {
    match from {
        Some(from) if from == to => println!("catalogue `{catalog}` serves generation {to} already"),
        Some(from) => println!("catalogue `{catalog}` serves generation {to}, in place of {from}"),
        None => println!("catalogue `{catalog}` serves generation {to}"),
    }
}

fn shown(place: &IndexPlace) -> String {
    match place {
        IndexPlace::Directory(edge) => edge.root.display().to_string(),
        IndexPlace::Server(server) => server.url.to_string(),
    }
}
