//! The second pass: rows to products, pictures and texts to vectors, all of them into the new generation. What was made of
//! the same before is kept, if the generation has begun with it.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
};

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use vitrine_core::{
    Invalid,
    embed::{CallContext, EmbedError, Embedder, Embedding},
    gate::Probe,
    index::{Digest, GenerationBuilder, IndexError, IndexedProduct},
    product::{Product, ProductId, Schema},
    signal::{Photo, QueryText},
};

use crate::{
    dead_letters::{DeadLetter, DeadLetters},
    digest::digest,
    feed::{Feed, Row},
    pictures::Pictures,
    product::{id_of, to_product},
    progress::Progress,
};

/// Products added to the index, or kept in it, at once.
const ADD_SIZE: usize = 64;
/// Rows read ahead of the embedding.
const ROWS_AHEAD: usize = 64;
/// Most products that the gate tries.
const PROBES_MAX: usize = 256;

/// What became of the rows.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rows: usize,
    pub(crate) products: usize,
    /// Products that were kept as they were.
    pub(crate) kept: usize,
    pub(crate) pictures: usize,
    pub(crate) rows_failed: usize,
    pub(crate) pictures_failed: usize,
}

/// Why the pass could not be finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    #[error("read the feed")]
    Feed(#[source] io::Error),
    #[error("write the dead letters")]
    DeadLetters(#[source] io::Error),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("embed")]
    Model(#[source] EmbedError),
}

/// What the pass works with.
pub(crate) struct Ingest<'a> {
    pub(crate) embedder: &'a dyn Embedder,
    pub(crate) pictures: Pictures,
    pub(crate) schema: &'a Schema,
    /// Rows in work at once.
    pub(crate) at_once: usize,
}

/// A row that was read.
struct Read {
    row: u64,
    id: Option<String>,
    /// Its product, or why it has none.
    product: Result<Product, String>,
    /// What the generation's product of that id was made of.
    known: Option<Digest>,
}

/// A row that was worked on.
struct Worked {
    row: u64,
    id: Option<String>,
    /// What came of it, or why nothing did.
    outcome: Result<Made, String>,
    /// What was wrong with some of its pictures.
    pictures_failed: Vec<String>,
}

/// What comes of a row.
enum Made {
    /// A product with its vectors.
    New(Box<IndexedProduct>),
    /// The generation has it already.
    Kept { id: ProductId, pictures: usize },
}

impl Made {
    fn id(&self) -> &ProductId {
        match self {
            Self::New(indexed) => &indexed.product.id,
            Self::Kept { id, .. } => id,
        }
    }
}

impl Ingest<'_> {
    /// Reads the feed to its end. Out: what became of the rows, and products to try the generation with.
    pub(crate) async fn run(
        &self,
        feed: &Feed,
        builder: &dyn GenerationBuilder,
        dead_letters: &mut DeadLetters,
        progress: &mut Progress,
    ) -> Result<(Tally, Vec<Probe>), IngestError> {
        let (mut tally, mut sample, mut first_rows) = (Tally::default(), Sample::default(), HashMap::new());
        let rows = read_ahead(feed.clone());
        let rows = stream::unfold(rows, async |mut rows| rows.recv().await.map(|row| (row, rows)));
        let read = rows.ready_chunks(ROWS_AHEAD).then(|rows| self.read(rows, builder)).flat_map(|read| match read {
            Ok(read) => stream::iter(read.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        });
        let worked = read.map(async |read| self.work(read?).await).buffered(self.at_once);
        let mut worked = std::pin::pin!(worked);
        let (mut new, mut kept) = (Vec::with_capacity(ADD_SIZE), Vec::with_capacity(ADD_SIZE));
        while let Some(worked) = worked.next().await {
            let Worked { row, id, outcome, pictures_failed } = worked?;
            tally.rows += 1;
            let outcome = outcome.and_then(|made| match first_rows.entry(key(made.id())) {
                Entry::Vacant(first) => {
                    first.insert(row);
                    Ok(made)
                }
                Entry::Occupied(first) => Err(format!("field `id` is that of row {} already", first.get())),
            });
            let loaded = outcome.is_ok();
            let reasons = pictures_failed.into_iter().map(|reason| (reason, loaded));
            tally.pictures_failed += reasons.len();
            let reasons = reasons.chain(outcome.as_ref().err().map(|reason| (reason.clone(), false)));
            for (reason, loaded) in reasons {
                let letter = DeadLetter { row, id: id.clone(), reason, loaded };
                dead_letters.write(&letter).map_err(IngestError::DeadLetters)?;
            }
            match outcome {
                Err(_) => tally.rows_failed += 1,
                Ok(Made::New(indexed)) => {
                    tally.products += 1;
                    tally.pictures += indexed.image_embeddings.len();
                    sample.see(&indexed.product.id, indexed.image_embeddings.first());
                    new.push(*indexed);
                }
                Ok(Made::Kept { id, pictures }) => {
                    tally.products += 1;
                    tally.kept += 1;
                    tally.pictures += pictures;
                    sample.see(&id, None);
                    kept.push(id);
                }
            }
            progress.advance(tally.rows_failed);
            if new.len() == ADD_SIZE {
                builder.add(std::mem::take(&mut new)).await?;
            }
            if kept.len() == ADD_SIZE {
                builder.keep(&std::mem::take(&mut kept)).await?;
            }
        }
        builder.add(new).await?;
        builder.keep(&kept).await?;
        Ok((tally, sample.probes))
    }

    /// Makes products of rows, and asks what is known of them.
    async fn read(
        &self,
        rows: Vec<io::Result<Row>>,
        builder: &dyn GenerationBuilder,
    ) -> Result<Vec<Read>, IngestError> {
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            let Row { number: row, fields } = row.map_err(IngestError::Feed)?;
            let id = fields.as_ref().ok().and_then(id_of);
            let product = fields.and_then(|fields| to_product(fields, self.schema).map_err(|wrong| wrong.to_string()));
            read.push(Read { row, id, product, known: None });
        }
        let products = || read.iter().filter_map(|read| read.product.as_ref().ok());
        let ids: Vec<_> = products().map(|product| product.id.clone()).collect();
        let known = builder.known(&ids).await?;
        let good = read.iter_mut().filter(|read| read.product.is_ok());
        good.zip(known).for_each(|(read, known)| read.known = known);
        Ok(read)
    }

    async fn work(&self, read: Read) -> Result<Worked, IngestError> {
        let Read { row, id, product, known } = read;
        let mut pictures_failed = Vec::new();
        let outcome = match product {
            Err(reason) => Err(reason),
            Ok(product) if known.is_some() && self.digest(&product).await == known => {
                Ok(Made::Kept { pictures: product.image_links.len(), id: product.id })
            }
            Ok(product) => self.embed(product, &mut pictures_failed).await?.map(|indexed| Made::New(Box::new(indexed))),
        };
        Ok(Worked { row, id, outcome, pictures_failed })
    }

    /// What a product is made of now; `None` if a picture cannot be read.
    async fn digest(&self, product: &Product) -> Option<Digest> {
        let mut pictures = Vec::with_capacity(product.image_links.len());
        for link in &product.image_links {
            pictures.push(blake3::hash(&self.pictures.read(link).await.ok()?));
        }
        digest(product, &pictures)
    }

    /// Embeds a product. Pictures that fail are left out of it; without any, the product fails.
    async fn embed(
        &self,
        mut product: Product,
        failed: &mut Vec<String>,
    ) -> Result<Result<IndexedProduct, String>, IngestError> {
        let (mut links, mut image_embeddings, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for link in std::mem::take(&mut product.image_links) {
            match self.embed_picture(&link).await? {
                Ok((embedding, hash)) => {
                    links.push(link);
                    image_embeddings.push(embedding);
                    hashes.push(hash);
                }
                Err(reason) => failed.push(reason),
            }
        }
        if image_embeddings.is_empty() {
            return Ok(Err("no picture of the product could be read".to_owned()));
        }
        product.image_links = links;
        let Some(text) = QueryText::truncated(&product.text()) else {
            return Ok(Err("field `title` has nothing to read in it".to_owned()));
        };
        match self.embedder.embed_text(&text, CallContext::bulk()).await {
            Ok(text_embedding) => {
                // One with a picture that failed is tried again by every load, and reported again.
                let digest = failed.is_empty().then(|| digest(&product, &hashes)).flatten();
                Ok(Ok(IndexedProduct { product, image_embeddings, text_embedding, digest }))
            }
            // A row that our own code fails on must not stop the others.
            Err(EmbedError::Internal(reason)) => Ok(Err(format!("the product's text: {reason}"))),
            Err(error) => Err(IngestError::Model(error)),
        }
    }

    /// The vector of a picture, and the hash of what its file has in it.
    async fn embed_picture(&self, link: &str) -> Result<Result<(Embedding, blake3::Hash), String>, IngestError> {
        let content = match self.pictures.read(link).await {
            Ok(content) => content,
            Err(reason) => return Ok(Err(format!("picture {reason}"))),
        };
        let of_picture = |invalid: Invalid| format!("picture `{link}` {}", invalid.problem);
        let hash = blake3::hash(&content);
        let photo = match Photo::new(content, None) {
            Ok(photo) => photo,
            Err(invalid) => return Ok(Err(of_picture(invalid))),
        };
        match self.embedder.embed_photo(&photo, CallContext::bulk()).await {
            Ok(embedding) => Ok(Ok((embedding, hash))),
            Err(EmbedError::Invalid(invalid)) => Ok(Err(of_picture(invalid))),
            // A picture that our own code fails on must not stop the others.
            Err(EmbedError::Internal(reason)) => Ok(Err(format!("picture `{link}`: {reason}"))),
            Err(error) => Err(IngestError::Model(error)),
        }
    }
}

/// Reads rows on a thread of their own, a bounded number ahead.
fn read_ahead(feed: Feed) -> mpsc::Receiver<io::Result<Row>> {
    let (sender, receiver) = mpsc::channel(ROWS_AHEAD);
    tokio::task::spawn_blocking(move || match feed.rows() {
        Err(error) => drop(sender.blocking_send(Err(error))),
        Ok(mut rows) => while rows.next().is_some_and(|row| sender.blocking_send(row).is_ok()) {},
    });
    receiver
}

/// What is remembered of the whole feed, to find repeated ids: some forty bytes for each product.
fn key(id: &ProductId) -> u128 {
    let hash = blake3::hash(id.as_str().as_bytes());
    let (short, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
    u128::from_le_bytes(*short)
}

/// Every `stride`th product, thinned out as the feed goes on.
#[derive(Default)]
struct Sample {
    seen: usize,
    stride: usize,
    probes: Vec<Probe>,
}

impl Sample {
    fn see(&mut self, id: &ProductId, embedding: Option<&Embedding>) {
        self.stride = self.stride.max(1);
        if self.seen.is_multiple_of(self.stride) {
            self.probes.push(Probe { id: id.clone(), embedding: embedding.cloned() });
        }
        self.seen += 1;
        if self.probes.len() > PROBES_MAX {
            let mut position = 0;
            self.probes.retain(|_| {
                position += 1;
                position % 2 == 1
            });
            self.stride *= 2;
        }
    }
}
