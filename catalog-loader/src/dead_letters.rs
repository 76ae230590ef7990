//! The file of what failed.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

/// What failed.
#[derive(Debug, Serialize)]
pub(crate) struct DeadLetter {
    /// Row of the feed, counted from 1.
    pub(crate) row: u64,
    /// The product's identifier, if the row has one.
    pub(crate) id: Option<String>,
    /// Names the field and what is wrong with it.
    pub(crate) reason: String,
    /// Whether the product is in the index all the same, with its other pictures.
    pub(crate) loaded: bool,
}

/// The file, replaced at each run.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    path: PathBuf,
    file: BufWriter<File>,
}

impl DeadLetters {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        Ok(Self { path: path.to_owned(), file: BufWriter::new(File::create(path)?) })
    }

    pub(crate) fn write(&mut self, letter: &DeadLetter) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, letter)?;
        self.file.write_all(b"\n")
    }

    pub(crate) fn close(mut self) -> io::Result<PathBuf> {
        self.file.flush()?;
        Ok(self.path)
    }
}
