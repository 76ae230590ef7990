//! A generation as one file, to copy away and to bring back, to the same back end or the other.
//!
//! A tar archive, so that it can be looked into with what every system has:
//!
//! ```text
//! vitrine.json             [`Header`]: what the generation is made of
//! products/00000000.jsonl  some products, a line of JSON for each: {"product": …, "digest": …}
//! vectors/00000000.f32     their vectors: of each product one for each of its pictures, then that of its text; numbers
//!                          are 32-bit floats, little-endian, as many to a vector as the model has dimensions
//! products/00000001.jsonl  … and so on
//! end.json                 [`End`]: how many products there were, and BLAKE3 over the names, sizes and contents before
//! ```
//!
//! A file is read once to the end before anything is begun with it: one that is cut off or damaged is refused whole.

mod read;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use vitrine_core::{
    compute::{self, ComputeError},
    index::IndexError,
    product::{Product, Schema},
};

pub use self::{
    read::{Contents, check, restore},
    write::{Written, write},
};
use crate::error::unavailable;

/// The version that is written, and the only one that is read.
const FORMAT: u32 = 1;
const HEADER: &str = "vitrine.json";
const END: &str = "end.json";

/// Says how many products are done.
pub type Progress<'a> = &'a (dyn Fn(usize) + Send + Sync);

/// Why a generation was not written to a file, or not brought back from one.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The file is no archive, not whole, or of another version.
    #[error("{} {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file cannot be written.
    #[error("write {}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The index does not do its part.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What stands first.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    catalog: String,
    generation: String,
    model_fingerprint: String,
    dimensions: usize,
    schema: Schema,
    products: usize,
}

/// What stands last.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    products: usize,
    blake3: String,
}

/// A line of products.
#[derive(Debug, Serialize, Deserialize)]
struct Line<P = Product> {
    product: P,
    /// What it was made of, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

fn products_entry(chunk: usize) -> String {
    format!("products/{chunk:08}.jsonl")
}

fn vectors_entry(chunk: usize) -> String {
    format!("vectors/{chunk:08}.f32")
}

/// The checksum over what stands before the end.
#[derive(Debug, Default)]
struct Checksum(blake3::Hasher);

impl Checksum {
    fn add(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            self.0.update(&length.to_le_bytes()).update(part);
        }
    }

    fn to_hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// Does what waits for the disk, on a thread that may wait.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    let panicked = |error: ComputeError| unavailable(format!("work on {}", path.display()), error);
    compute::blocking(work).await.map_err(panicked)?
}
