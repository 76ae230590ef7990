//! Writing a generation to a file.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use vitrine_core::{
    index::{Generation, GenerationInfo, IndexError, IndexedProduct},
    product::CatalogName,
};

use super::{
    ArchiveError, Checksum, END, End, FORMAT, HEADER, Header, Line, Progress, blocking, products_entry, vectors_entry,
};
use crate::error::{failed, unavailable};

/// About how many bytes of vectors are read and written at once.
const CHUNK_BYTES: usize = 4 << 20;
/// Most products that are read and written at once.
const CHUNK_PRODUCTS_MAX: usize = 1000;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many products.
    pub products: usize,
    /// Size of the file.
    pub bytes: u64,
}

/// Writes a whole generation to a file, in place of what is there. It is written beside it first, as
/// `<file>.partial`, and takes its place when it is whole and on the disk.
///
/// # Errors
/// When the file cannot be written, or the generation cannot be read to its end; then the file is as it was.
pub async fn write(
    catalog: &CatalogName,
    generation: &dyn Generation,
    file: &Path,
    progress: Progress<'_>,
) -> Result<Written, ArchiveError> {
    let info = generation.info();
    let (path, header) = (file.to_owned(), header(catalog, info));
    let mut writer = blocking(file, move || Writer::begin(&path, &header)).await?;
    let size = chunk_size(info.model.dimensions);
    let mut last = None;
    loop {
        let chunk = generation.page(last.as_ref(), size).await?;
        last = chunk.last().map(|indexed| indexed.product.id.clone());
        let is_last = chunk.len() < size;
        writer = blocking(file, move || writer.append(&chunk)).await?;
        progress(writer.products);
        if is_last {
            break;
        }
    }
    if writer.products != info.products {
        let reason = format!("{} of its {} products came", writer.products, info.products);
        return Err(unavailable(format!("read generation {}", info.id), reason).into());
    }
    blocking(file, move || writer.finish()).await
}

fn header(catalog: &CatalogName, info: &GenerationInfo) -> Header {
    Header {
        format: FORMAT,
        catalog: catalog.to_string(),
        generation: info.id.clone(),
        model_fingerprint: info.model.fingerprint.clone(),
        dimensions: info.model.dimensions,
        schema: info.schema.clone(),
        products: info.products,
    }
}

/// How many products are read at once: most have a picture or two, and a text.
fn chunk_size(dimensions: usize) -> usize {
    (CHUNK_BYTES / (3 * size_of::<f32>() * dimensions.max(1))).clamp(1, CHUNK_PRODUCTS_MAX)
}

/// The file while it is written.
struct Writer {
    tar: tar::Builder<BufWriter<File>>,
    partial: PartialFile,
    checksum: Checksum,
    chunks: usize,
    products: usize,
}

impl Writer {
    fn begin(path: &Path, header: &Header) -> Result<Self, ArchiveError> {
        let unwritable = |source| ArchiveError::Unwritable { path: path.to_owned(), source };
        let (partial, file) = PartialFile::create(path).map_err(unwritable)?;
        let tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
        let mut writer = Self { tar, partial, checksum: Checksum::default(), chunks: 0, products: 0 };
        let header = serde_json::to_vec_pretty(header).map_err(|error| unwritable(error.into()))?;
        writer.entry(HEADER, &header)?;
        Ok(writer)
    }

    fn append(mut self, products: &[IndexedProduct]) -> Result<Self, ArchiveError> {
        if products.is_empty() {
            return Ok(self);
        }
        let (mut lines, mut vectors) = (Vec::new(), Vec::new());
        for indexed in products {
            encode(indexed, &mut lines, &mut vectors)?;
        }
        self.entry(&products_entry(self.chunks), &lines)?;
        self.entry(&vectors_entry(self.chunks), &vectors)?;
        self.chunks += 1;
        self.products += products.len();
        Ok(self)
    }

    fn finish(mut self) -> Result<Written, ArchiveError> {
        let end = End { products: self.products, blake3: self.checksum.to_hex() };
        let end = serde_json::to_vec_pretty(&end).map_err(|error| self.partial.unwritable(error.into()))?;
        self.entry(END, &end)?;
        let Self { tar, partial, products, .. } = self;
        let flushed = tar.into_inner().and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error));
        let bytes = flushed.and_then(|file| partial.take_place(&file));
        Ok(Written { products, bytes: bytes.map_err(|error| partial.unwritable(error))? })
    }

    fn entry(&mut self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        self.checksum.add(name, content);
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        let appended = self.tar.append_data(&mut header, name, content);
        appended.map_err(|error| self.partial.unwritable(error))
    }
}

fn encode(indexed: &IndexedProduct, lines: &mut Vec<u8>, vectors: &mut Vec<u8>) -> Result<(), IndexError> {
    let IndexedProduct { product, image_embeddings, text_embedding, digest } = indexed;
    if product.image_links.len() != image_embeddings.len() {
        let (pictures, found) = (product.image_links.len(), image_embeddings.len());
        let reason = format!("it has {pictures} pictures and {found} vectors of them");
        return Err(unavailable(format!("read product `{}`", product.id), reason));
    }
    let line = serde_json::to_writer(&mut *lines, &Line { product, digest: digest.map(|digest| digest.to_string()) });
    line.map_err(failed(format!("write product `{}`", product.id)))?;
    lines.push(b'\n');
    for embedding in image_embeddings.iter().chain([text_embedding]) {
        vectors.extend(embedding.values().iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok(())
}

/// `<file>.partial`, which only one process writes at a time. Removed when dropped before it took the file's place.
#[derive(Debug)]
struct PartialFile {
    path: PathBuf,
    file: PathBuf,
}

impl PartialFile {
    fn create(file: &Path) -> io::Result<(Self, File)> {
        let name = file.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        let mut partial = name.to_owned();
        partial.push(".partial");
        let path = file.with_file_name(partial);
        // What a killed process left is written over.
        let opened = File::options().create(true).truncate(false).write(true).open(&path)?;
        match opened.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(format!("another process is writing {}", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        opened.set_len(0)?;
        Ok((Self { path, file: file.to_owned() }, opened))
    }

    /// Puts it on the disk and in the file's place. Out: its size.
    fn take_place(&self, mut opened: &File) -> io::Result<u64> {
        opened.flush()?;
        opened.sync_all()?;
        let bytes = opened.metadata()?.len();
        fs::rename(&self.path, &self.file)?;
        let parent = self.file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
        Ok(bytes)
    }

    fn unwritable(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Unwritable { path: self.file.clone(), source }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "could not remove what was begun");
            }
            // It has taken the file's place, or is gone.
            Ok(()) | Err(_) => {}
        }
    }
}
