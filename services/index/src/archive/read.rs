//! Bringing a generation back from a file.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use serde::Deserialize;
use tokio::sync::mpsc;
use vitrine_core::{
    Invalid,
    embed::{Embedding, ModelInfo},
    gate::{self, Probe},
    index::{GenerationInfo, IndexedProduct, ProductIndex, SealedGeneration, Start},
    product::CatalogName,
};

use super::{
    ArchiveError, Checksum, END, End, FORMAT, HEADER, Header, Line, Progress, blocking, products_entry, vectors_entry,
};
use crate::error::unavailable;

/// Most bytes of one entry: hundreds of times what is written.
const ENTRY_BYTES_MAX: u64 = 2 << 30;
/// How many products must find themselves in what was brought back.
const PROBES: usize = 256;
/// The share of them that must. Less than a loader asks for: the generation has passed its gate once, and a graph that is
/// built anew misses a product now and then.
const FOUND_SHARE_MIN: f64 = 0.95;

/// What is in a whole file.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The catalogue that it was written from.
    pub catalog: String,
    /// The generation, as it was called there.
    pub info: GenerationInfo,
    checksum: String,
}

/// Reads a file to its end, and says what is in it if it is whole and undamaged.
///
/// # Errors
/// When it cannot be read, is no archive, is cut off, damaged, or of another version.
pub async fn check(file: &Path) -> Result<Contents, ArchiveError> {
    let path = file.to_owned();
    blocking(file, move || read(&path, |_, _, _| Ok(true))).await
}

/// Brings a generation back from a file, into a new generation that does not serve yet. All of its products are there,
/// with the vectors that were written, and a sample of them finds itself.
///
/// # Errors
/// When the file is not whole, or the index does not take it; then nothing has changed.
pub async fn restore(
    file: &Path,
    index: &dyn ProductIndex,
    catalog: &CatalogName,
    progress: Progress<'_>,
) -> Result<Box<dyn SealedGeneration>, ArchiveError> {
    let contents = check(file).await?;
    let GenerationInfo { model, schema, products, .. } = &contents.info;
    let builder = index.build(catalog, model, schema, Start::Empty).await?;
    let (sender, mut receiver) = mpsc::channel(1);
    let (path, dimensions) = (file.to_owned(), model.dimensions);
    let reading = blocking(file, move || {
        read(&path, |_, lines, vectors| {
            let products = decode(lines, vectors, dimensions)?;
            Ok(sender.blocking_send(products).is_ok())
        })
    });
    let adding = async {
        let (mut added, mut probes) = (0, Vec::new());
        while let Some(chunk) = receiver.recv().await {
            let stride = (products / PROBES).max(1);
            for indexed in &chunk {
                let first = indexed.image_embeddings.first().filter(|_| added % stride == 0);
                probes.extend(
                    first.map(|first| Probe { id: indexed.product.id.clone(), embedding: Some(first.clone()) }),
                );
                added += 1;
            }
            builder.add(chunk).await?;
            progress(added);
        }
        Ok(probes)
    };
    let (read, added): (_, Result<_, ArchiveError>) = futures::join!(reading, adding);
    let probes = added?;
    if read?.checksum != contents.checksum {
        return Err(damaged(file, "was changed while it was read"));
    }
    let sealed = builder.seal().await?;
    let generation = sealed.generation();
    let found = generation.info().products;
    let context = || format!("look at what came of {}", file.display());
    if found != *products {
        return Err(unavailable(context(), format!("{found} of {products} products are there")).into());
    }
    let report = gate::check(&*generation, &probes).await?;
    if report.found_share() < FOUND_SHARE_MIN {
        let reason = format!("{} of {} products do not find themselves", report.lost.len(), report.probes);
        return Err(unavailable(context(), reason).into());
    }
    Ok(sealed)
}

fn damaged(path: &Path, problem: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged { path: path.to_owned(), problem: problem.into() }
}

/// What comes next in a file.
#[derive(Debug)]
enum Next {
    Header,
    ProductsOrEnd,
    Vectors(Vec<u8>),
    Nothing,
}

/// Reads a file to its end. `each` gets the chunks, as long as it wants more: number, products, vectors. What is damaged
/// may reach it before that is known.
fn read(
    path: &Path,
    mut each: impl FnMut(usize, &[u8], &[u8]) -> Result<bool, String>,
) -> Result<Contents, ArchiveError> {
    let unreadable = |source| ArchiveError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    let (mut header, mut end, mut checksum) = (None::<Header>, None::<End>, Checksum::default());
    let (mut next, mut chunks, mut wanted) = (Next::Header, 0, true);
    for entry in archive.entries().map_err(unreadable)? {
        let (name, content) = entry.and_then(content).map_err(|error| not_whole(path, header.is_some(), error))?;
        next = match next {
            Next::Header if name == HEADER => {
                header = Some(read_header(path, &content)?);
                Next::ProductsOrEnd
            }
            Next::Header => return Err(damaged(path, "is no archive of a generation")),
            Next::ProductsOrEnd if name == END => {
                let problem = |error| damaged(path, format!("is damaged: {END}: {error}"));
                end = Some(serde_json::from_slice(&content).map_err(problem)?);
                Next::Nothing
            }
            Next::ProductsOrEnd if name == products_entry(chunks) => {
                checksum.add(&name, &content);
                next = Next::Vectors(content);
                continue;
            }
            Next::Vectors(products) if name == vectors_entry(chunks) => {
                let more = wanted
                    && each(chunks, &products, &content)
                        .map_err(|problem| damaged(path, format!("is damaged: in chunk {chunks}, {problem}")))?;
                wanted = more;
                chunks += 1;
                Next::ProductsOrEnd
            }
            Next::ProductsOrEnd | Next::Vectors(_) | Next::Nothing => {
                return Err(damaged(path, format!("is damaged: `{name}` is not in its place")));
            }
        };
        if end.is_none() {
            checksum.add(&name, &content);
        }
    }
    let header = header.ok_or_else(|| damaged(path, "is no archive of a generation"))?;
    let end = end.ok_or_else(|| damaged(path, "is cut off"))?;
    let checksum = checksum.to_hex();
    if end.blake3 != checksum || end.products != header.products {
        return Err(damaged(path, "is damaged: its checksum is not that of its contents"));
    }
    let model = ModelInfo { fingerprint: header.model_fingerprint, dimensions: header.dimensions };
    let info = GenerationInfo {
        id: header.generation,
        model,
        schema: header.schema,
        products: header.products,
        // They follow from the products, and are made when these are added.
        keywords: None,
    };
    Ok(Contents { catalog: header.catalog, info, checksum })
}

/// Name and content of an entry.
fn content(mut entry: tar::Entry<'_, BufReader<File>>) -> io::Result<(String, Vec<u8>)> {
    let size = entry.size();
    if size > ENTRY_BYTES_MAX {
        return Err(io::Error::other(format!("an entry is longer than {ENTRY_BYTES_MAX} bytes")));
    }
    let name = entry.path()?.to_string_lossy().into_owned();
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    if u64::try_from(content.len()).ok() != Some(size) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((name, content))
}

fn not_whole(path: &Path, is_archive: bool, error: io::Error) -> ArchiveError {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    if error.kind() == UnexpectedEof {
        return damaged(path, "is cut off");
    }
    // The archive's own errors, and what the system says of the file.
    match (matches!(error.kind(), Other | InvalidData | InvalidInput), is_archive) {
        (true, true) => damaged(path, format!("is damaged: {error}")),
        (true, false) => damaged(path, "is no archive of a generation"),
        (false, _) => ArchiveError::Unreadable { path: path.to_owned(), source: error },
    }
}

fn read_header(path: &Path, content: &[u8]) -> Result<Header, ArchiveError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let problem = |error| damaged(path, format!("is damaged: {HEADER}: {error}"));
    let Version { format } = serde_json::from_slice(content).map_err(problem)?;
    if format != FORMAT {
        return Err(damaged(path, format!("is of format {format}, and this program reads format {FORMAT}")));
    }
    serde_json::from_slice(content).map_err(problem)
}

fn decode(lines: &[u8], vectors: &[u8], dimensions: usize) -> Result<Vec<IndexedProduct>, String> {
    let bytes = dimensions * size_of::<f32>();
    let mut vectors = vectors.chunks(bytes.max(1));
    let mut embedding = || {
        let values = vectors.next()?.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
        Embedding::normalized(values.collect()).filter(|embedding| embedding.values().len() == dimensions)
    };
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let products = lines.map(|line| {
        let Line { product, digest } = serde_json::from_slice::<Line>(line).map_err(|error| error.to_string())?;
        let missing = || format!("product `{}` has a vector that is none", product.id);
        let images = product.image_links.iter().map(|_| embedding().ok_or_else(missing));
        let image_embeddings = images.collect::<Result<Vec<_>, String>>()?;
        let text_embedding = embedding().ok_or_else(missing)?;
        let digest = digest.map(|digest| digest.parse()).transpose();
        let digest = digest.map_err(|invalid: Invalid| format!("product `{}`: {invalid}", product.id))?;
        Ok(IndexedProduct { product, image_embeddings, text_embedding, digest })
    });
    let products = products.collect::<Result<Vec<_>, String>>()?;
    if vectors.next().is_some() {
        return Err("there are more vectors than products".to_owned());
    }
    Ok(products)
}
