//! The second pass: rows to products, pictures and texts to vectors, all of them into the new generation.

use std::{collections::HashMap, io};

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use vitrine_core::{
    Invalid,
    embed::{CallContext, EmbedError, Embedder, Embedding},
    gate::Probe,
    index::{GenerationBuilder, IndexError, IndexedProduct},
    product::{Product, Schema},
    signal::{Photo, QueryText},
};

use crate::{
    dead_letters::{DeadLetter, DeadLetters},
    feed::{Feed, Row},
    pictures::Pictures,
    product::{id_of, to_product},
    progress::Progress,
};

/// Products added to the index at once.
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

/// A row that was worked on.
struct Worked {
    row: u64,
    id: Option<String>,
    /// The product with its vectors, or why it has none.
    outcome: Result<IndexedProduct, String>,
    /// What was wrong with some of its pictures.
    pictures_failed: Vec<String>,
}

impl Ingest<'_> {
    /// Reads the feed to its end. Out: what became of the rows, and products to try the generation with.
    pub(crate) async fn run(
        &self,
        feed: &Feed,
        builder: &mut dyn GenerationBuilder,
        dead_letters: &mut DeadLetters,
        progress: &mut Progress,
    ) -> Result<(Tally, Vec<Probe>), IngestError> {
        let (mut tally, mut sample, mut first_rows) = (Tally::default(), Sample::default(), HashMap::new());
        let rows = read_ahead(feed.clone());
        let worked = stream::unfold(rows, async |mut rows| rows.recv().await.map(|row| (row, rows)));
        let mut worked = std::pin::pin!(worked.map(|row| self.work(row)).buffered(self.at_once));
        let mut waiting = Vec::with_capacity(ADD_SIZE);
        while let Some(worked) = worked.next().await {
            let Worked { row, id, outcome, pictures_failed } = worked?;
            tally.rows += 1;
            let outcome = outcome.and_then(|indexed| match first_rows.insert(key(&indexed), row) {
                None => Ok(indexed),
                Some(first) => {
                    first_rows.insert(key(&indexed), first);
                    Err(format!("field `id` is that of row {first} already"))
                }
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
                Ok(indexed) => {
                    tally.products += 1;
                    tally.pictures += indexed.image_embeddings.len();
                    sample.see(&indexed);
                    waiting.push(indexed);
                }
            }
            progress.advance(tally.rows_failed);
            if waiting.len() == ADD_SIZE {
                builder.add(std::mem::take(&mut waiting)).await?;
            }
        }
        builder.add(waiting).await?;
        Ok((tally, sample.probes))
    }

    async fn work(&self, row: io::Result<Row>) -> Result<Worked, IngestError> {
        let Row { number, fields } = row.map_err(IngestError::Feed)?;
        let id = fields.as_ref().ok().and_then(id_of);
        let mut pictures_failed = Vec::new();
        let product = fields.and_then(|fields| to_product(fields, self.schema).map_err(|invalid| invalid.to_string()));
        let outcome = match product {
            Ok(product) => self.embed(product, &mut pictures_failed).await?,
            Err(reason) => Err(reason),
        };
        Ok(Worked { row: number, id, outcome, pictures_failed })
    }

    /// Embeds a product. Pictures that fail are left out of it; without any, the product fails.
    async fn embed(
        &self,
        mut product: Product,
        failed: &mut Vec<String>,
    ) -> Result<Result<IndexedProduct, String>, IngestError> {
        let (mut links, mut image_embeddings) = (Vec::new(), Vec::new());
        for link in std::mem::take(&mut product.image_links) {
            match self.embed_picture(&link).await? {
                Ok(embedding) => {
                    links.push(link);
                    image_embeddings.push(embedding);
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
            Ok(text_embedding) => Ok(Ok(IndexedProduct { product, image_embeddings, text_embedding })),
            // A row that our own code fails on must not stop the others.
            Err(EmbedError::Internal(reason)) => Ok(Err(format!("the product's text: {reason}"))),
            Err(error) => Err(IngestError::Model(error)),
        }
    }

    async fn embed_picture(&self, link: &str) -> Result<Result<Embedding, String>, IngestError> {
        let content = match self.pictures.read(link).await {
            Ok(content) => content,
            Err(reason) => return Ok(Err(format!("picture {reason}"))),
        };
        let of_picture = |invalid: Invalid| format!("picture `{link}` {}", invalid.problem);
        let photo = match Photo::new(content, None) {
            Ok(photo) => photo,
            Err(invalid) => return Ok(Err(of_picture(invalid))),
        };
        match self.embedder.embed_photo(&photo, CallContext::bulk()).await {
            Ok(embedding) => Ok(Ok(embedding)),
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
fn key(indexed: &IndexedProduct) -> u128 {
    let hash = blake3::hash(indexed.product.id.as_str().as_bytes());
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
    fn see(&mut self, indexed: &IndexedProduct) {
        self.stride = self.stride.max(1);
        if self.seen.is_multiple_of(self.stride)
            && let Some(embedding) = indexed.image_embeddings.first()
        {
            self.probes.push(Probe { id: indexed.product.id.clone(), embedding: embedding.clone() });
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
