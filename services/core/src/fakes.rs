//! Fakes at the ports, for unit tests: a model that hashes, and an index that looks at everything.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that panics has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;

use crate::{
    Invalid,
    embed::{CallContext, EmbedError, Embedder, Embedding, Lane, ModelInfo},
    filter::{Condition, NumberRange, ResolvedFilter},
    index::{
        Digest, Generation, GenerationBuilder, GenerationInfo, Hit, IndexError, IndexQuery, IndexedProduct, Origin,
        ProductIndex, SealedGeneration, Similarity, Start, Target,
    },
    keywords::{self, KeptWords, Keywords, rarity},
    product::{AttributeSpec, AttributeType, AttributeValue, CatalogName, Money, Product, ProductId, Schema},
    signal::{Photo, QueryText},
};

/// Length of the fake model's vectors.
pub const DIMENSIONS: usize = 8;

/// The fake model's vector of a text.
pub fn embedding(text: &str) -> Embedding {
    let hash = blake3::hash(text.as_bytes());
    let values = hash.as_bytes().iter().take(DIMENSIONS).map(|byte| f32::from(*byte) - 127.5).collect();
    Embedding::normalized(values).unwrap()
}

/// A product with a price of `number` EUR and the brand `odd` or `even`.
pub fn product(id: &str, title: &str, number: i64) -> Product {
    let price = Money { amount_micros: number * 1_000_000, currency: "EUR".parse().unwrap() };
    let brand = if number % 2 == 0 { "even" } else { "odd" };
    Product {
        id: ProductId::new(id, "id").unwrap(),
        title: title.to_owned(),
        description: String::new(),
        link: String::new(),
        image_links: vec![format!("{id}.jpg")],
        attributes: BTreeMap::from([
            ("price".to_owned(), AttributeValue::Money(price)),
            ("brand".to_owned(), AttributeValue::Keyword(brand.to_owned())),
        ]),
    }
}

/// Publishes products, with the schema that [`product`] needs.
pub async fn load(index: &dyn ProductIndex, model: &ModelInfo, products: Vec<IndexedProduct>) {
    let spec = |kind, currency: Option<&str>| AttributeSpec {
        kind,
        currencies: currency.into_iter().map(|code| code.parse().unwrap()).collect(),
    };
    let attributes = BTreeMap::from([
        ("price".to_owned(), spec(AttributeType::Money, Some("EUR"))),
        ("brand".to_owned(), spec(AttributeType::Keyword, None)),
    ]);
    let schema = Schema { attributes };
    let builder = index.build(&CatalogName::default(), model, &schema, Start::Empty).await.unwrap();
    builder.add(products).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
}

/// A model that hashes its input and counts its calls.
#[derive(Debug)]
pub struct FakeEmbedder {
    model: ModelInfo,
    calls: AtomicUsize,
}

impl Default for FakeEmbedder {
    fn default() -> Self {
        Self::with_fingerprint("fake")
    }
}

impl FakeEmbedder {
    /// Photo bytes that are no picture.
    pub const BROKEN: &'static [u8] = b"broken";
    /// A text that never gets through the bulk lane.
    pub const STUCK_IN_BULK: &'static str = "stuck";

    /// A model that calls itself so.
    pub fn with_fingerprint(fingerprint: &str) -> Self {
        let model = ModelInfo { fingerprint: fingerprint.to_owned(), dimensions: DIMENSIONS };
        Self { model, calls: AtomicUsize::new(0) }
    }

    /// How often it was asked.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Embedder for FakeEmbedder {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    async fn embed_photo(&self, photo: &Photo, _: CallContext) -> Result<Embedding, EmbedError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if photo.content().as_ref() == Self::BROKEN {
            return Err(Invalid::new("content", "is not a picture").into());
        }
        Ok(embedding(&String::from_utf8_lossy(photo.content())))
    }

    async fn embed_text(&self, text: &QueryText, call: CallContext) -> Result<Embedding, EmbedError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if text.as_str() == "slow" || (text.as_str() == Self::STUCK_IN_BULK && call.lane == Lane::Bulk) {
            std::future::pending::<()>().await;
        }
        Ok(embedding(text.as_str()))
    }

    fn is_alive(&self) -> bool {
        true
    }
}

/// An index that compares a query with every product: slow, exact, and so the reference for the others.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    catalogs: Arc<Mutex<BTreeMap<CatalogName, Arc<MemoryGeneration>>>>,
}

#[derive(Debug)]
struct MemoryGeneration {
    info: GenerationInfo,
    products: BTreeMap<ProductId, IndexedProduct>,
}

struct MemoryBuilder {
    catalogs: Arc<Mutex<BTreeMap<CatalogName, Arc<MemoryGeneration>>>>,
    catalog: CatalogName,
    info: GenerationInfo,
    origin: Origin,
    products: Mutex<BTreeMap<ProductId, IndexedProduct>>,
}

struct MemorySealed {
    catalogs: Arc<Mutex<BTreeMap<CatalogName, Arc<MemoryGeneration>>>>,
    catalog: CatalogName,
    generation: Arc<MemoryGeneration>,
}

#[async_trait]
impl ProductIndex for MemoryIndex {
    async fn current(&self, catalog: &CatalogName) -> Result<Arc<dyn Generation>, IndexError> {
        let catalogs = self.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = catalogs.get(catalog).ok_or_else(|| IndexError::UnknownCatalog(catalog.clone()))?;
        Ok(Arc::<MemoryGeneration>::clone(generation))
    }

    async fn build(
        &self,
        catalog: &CatalogName,
        model: &ModelInfo,
        schema: &Schema,
        _: Start,
    ) -> Result<Box<dyn GenerationBuilder>, IndexError> {
        let info = GenerationInfo {
            id: "memory".to_owned(),
            model: model.clone(),
            schema: schema.clone(),
            products: 0,
            keywords: Some(KeptWords { version: keywords::VERSION, common: BTreeSet::new() }),
        };
        Ok(Box::new(MemoryBuilder {
            catalogs: Arc::clone(&self.catalogs),
            catalog: catalog.clone(),
            info,
            origin: Origin::Nothing("this index carries nothing over".to_owned()),
            products: Mutex::default(),
        }))
    }
}

#[async_trait]
impl GenerationBuilder for MemoryBuilder {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn known(&self, ids: &[ProductId]) -> Result<Vec<Option<Digest>>, IndexError> {
        Ok(vec![None; ids.len()])
    }

    async fn keep(&self, _: &[ProductId]) -> Result<(), IndexError> {
        Ok(())
    }

    async fn add(&self, products: Vec<IndexedProduct>) -> Result<(), IndexError> {
        let keyed = products.into_iter().map(|indexed| (indexed.product.id.clone(), indexed));
        self.products.lock().unwrap_or_else(PoisonError::into_inner).extend(keyed);
        Ok(())
    }

    async fn seal(self: Box<Self>) -> Result<Box<dyn SealedGeneration>, IndexError> {
        let Self { catalogs, catalog, mut info, products, .. } = *self;
        let products = products.into_inner().unwrap_or_else(PoisonError::into_inner);
        info.products = products.len();
        Ok(Box::new(MemorySealed { catalogs, catalog, generation: Arc::new(MemoryGeneration { info, products }) }))
    }
}

#[async_trait]
impl SealedGeneration for MemorySealed {
    fn generation(&self) -> Arc<dyn Generation> {
        Arc::<MemoryGeneration>::clone(&self.generation)
    }

    async fn publish(self: Box<Self>) -> Result<(), IndexError> {
        self.catalogs.lock().unwrap_or_else(PoisonError::into_inner).insert(self.catalog, self.generation);
        Ok(())
    }

    async fn set_aside(self: Box<Self>) -> Result<(), IndexError> {
        // This index keeps what serves, and nothing else.
        Ok(())
    }
}

#[async_trait]
impl Generation for MemoryGeneration {
    fn info(&self) -> &GenerationInfo {
        &self.info
    }

    async fn search(&self, query: IndexQuery) -> Result<Vec<Hit>, IndexError> {
        let wanted = |indexed: &&IndexedProduct| {
            !query.exclude.contains(&indexed.product.id)
                && query.filter.as_ref().is_none_or(|filter| matches(filter, &indexed.product))
        };
        let rarities = self.rarities(&query);
        let hit = |indexed| hit(&query, &rarities, self.info.products, indexed);
        let mut hits: Vec<_> = self.products.values().filter(wanted).map(hit).collect();
        hits.retain(|hit| query.score_min.is_none_or(|score_min| hit.score >= score_min));
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.product.id.cmp(&b.product.id)));
        Ok(hits.into_iter().skip(query.offset).take(query.limit).collect())
    }

    async fn get(&self, id: &ProductId) -> Result<Option<IndexedProduct>, IndexError> {
        Ok(self.products.get(id).cloned())
    }

    async fn page(&self, after: Option<&ProductId>, limit: usize) -> Result<Vec<IndexedProduct>, IndexError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let following = self.products.range((start, Bound::Unbounded));
        Ok(following.take(limit).map(|(_, indexed)| indexed.clone()).collect())
    }
}

impl MemoryGeneration {
    /// How rare each word of a query is.
    fn rarities(&self, query: &IndexQuery) -> BTreeMap<u32, f32> {
        let Some(wanted) = &query.keywords else { return BTreeMap::new() };
        let kept: Vec<_> = self.products.values().map(|indexed| Keywords::of_product(&indexed.product)).collect();
        let rarity = |(word, _)| {
            let having = kept.iter().filter(|keywords| keywords.weight(word).is_some()).count();
            (word, rarity(kept.len(), having))
        };
        wanted.keywords.iter().map(rarity).collect()
    }
}

fn hit(query: &IndexQuery, rarities: &BTreeMap<u32, f32>, products: usize, indexed: &IndexedProduct) -> Hit {
    let similarities: Vec<_> = query
        .vectors
        .iter()
        .map(|vector| match vector.target {
            Target::Text => Similarity {
                target: Target::Text,
                cosine: vector.embedding.cosine(&indexed.text_embedding),
                picture: None,
            },
            Target::Image => {
                let cosines = indexed.image_embeddings.iter().map(|image| vector.embedding.cosine(image)).enumerate();
                let (picture, cosine) = cosines.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, -1.0));
                Similarity { target: Target::Image, cosine, picture: Some(picture) }
            }
        })
        .collect();
    let by_vectors: f32 =
        query.vectors.iter().zip(&similarities).map(|(vector, found)| vector.share * found.cosine).sum();
    let in_words = query.keywords.as_ref().map(|wanted| {
        let kept = Keywords::of_product(&indexed.product);
        let word = |(word, weight)| Some(weight * kept.weight(word)? * rarities.get(&word)?);
        (keywords::similarity(wanted.keywords.iter().filter_map(word).sum(), products), wanted.share)
    });
    let score = by_vectors + in_words.map_or(0.0, |(similarity, share)| similarity * share);
    Hit { product: indexed.product.clone(), score, similarities, keywords: in_words.map(|(similarity, _)| similarity) }
}

/// Whether a product meets a filter: the reference for what an index does with it.
pub fn matches(filter: &ResolvedFilter, product: &Product) -> bool {
    match filter {
        ResolvedFilter::All(filters) => filters.iter().all(|filter| matches(filter, product)),
        ResolvedFilter::Any(filters) => filters.iter().any(|filter| matches(filter, product)),
        ResolvedFilter::Not(filter) => !matches(filter, product),
        ResolvedFilter::Is { attribute, condition } => {
            product.attributes.get(attribute).is_some_and(|value| meets(condition, value))
        }
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "ranges are of f64")]
fn meets(condition: &Condition, value: &AttributeValue) -> bool {
    match (condition, value) {
        (Condition::Exists, AttributeValue::Keywords(texts)) => !texts.is_empty(),
        (Condition::Exists, _) => true,
        (Condition::KeywordIn(wanted), AttributeValue::Keyword(text)) => wanted.contains(text),
        (Condition::KeywordIn(wanted), AttributeValue::Keywords(texts)) => {
            texts.iter().any(|text| wanted.contains(text))
        }
        (Condition::PathIn(wanted), AttributeValue::Path(path)) => wanted.contains(path),
        (Condition::PathUnder(prefix), AttributeValue::Path(path)) => {
            path.prefixes().any(|under| under == prefix.to_string())
        }
        (Condition::IntegerIn(wanted), AttributeValue::Integer(number)) => wanted.contains(number),
        (Condition::BoolIs(wanted), AttributeValue::Bool(yes)) => wanted == yes,
        (Condition::Number(range), AttributeValue::Integer(number)) => within(*range, *number as f64),
        (Condition::Number(range), AttributeValue::Decimal(number)) => within(*range, *number),
        (Condition::Amount(currency, range), AttributeValue::Money(money)) => {
            *currency == money.currency && within(*range, money.amount_micros as f64)
        }
        _ => false,
    }
}

fn within(range: NumberRange, number: f64) -> bool {
    let above = match range.lower {
        Bound::Included(lower) => number >= lower,
        Bound::Excluded(lower) => number > lower,
        Bound::Unbounded => true,
    };
    let below = match range.upper {
        Bound::Included(upper) => number <= upper,
        Bound::Excluded(upper) => number < upper,
        Bound::Unbounded => true,
    };
    above && below
}
