//! Reading pictures from the places that a feed names.

use std::{io, path::PathBuf};

use bytes::Bytes;
use vitrine_core::{compute::blocking, limits::PHOTO_BYTES_MAX};

/// Pictures in files whose paths are relative to the feed.
#[derive(Debug, Clone)]
pub(crate) struct Pictures {
    directory: PathBuf,
}

impl Pictures {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The encoded bytes of a picture.
    ///
    /// # Errors
    /// When it is not there, is not a file, or is too large; says which path.
    pub(crate) async fn read(&self, link: &str) -> Result<Bytes, String> {
        if link.contains("://") {
            return Err(format!("`{link}` is an address; pictures are read from files beside the feed"));
        }
        let path = self.directory.join(link);
        let shown = path.display().to_string();
        let read = move || -> io::Result<Vec<u8>> {
            let metadata = path.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("is not a file"));
            }
            if metadata.len() > u64::try_from(PHOTO_BYTES_MAX).unwrap_or(u64::MAX) {
                return Err(io::Error::other(format!("is larger than {PHOTO_BYTES_MAX} bytes")));
            }
            std::fs::read(path)
        };
        let content = blocking(read).await.map_err(|error| error.to_string())?;
        content.map(Bytes::from).map_err(|error| format!("{shown}: {error}"))
    }
}
