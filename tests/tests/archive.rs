//! A generation in a file: from one index to another without a bit lost, and nothing from a file that is not whole.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{fs, path::Path};

use tonic::async_trait;
use vitrine_core::{
    Chain,
    embed::{Embedding, ModelInfo},
    fakes::MemoryIndex,
    index::{
        Digest, Generation, GenerationInfo, Hit, IndexError, IndexQuery, IndexedProduct, ProductIndex, QueryKeywords,
        QueryVector, Start, Target,
    },
    keywords::Keywords,
    product::{AttributeSpec, AttributeType, AttributeValue, CatalogName, Product, ProductId, Schema},
};
use vitrine_index::archive::{ArchiveError, check, restore, write};
use vitrine_tests::{IndexKind, TestIndex};

const DIMENSIONS: usize = 48;
/// Most that two servers' cosines of the same vectors of 16 bits differ by.
const ROUNDING: f32 = 1e-3;

fn model() -> ModelInfo {
    ModelInfo { fingerprint: "test".to_owned(), dimensions: DIMENSIONS }
}

fn schema() -> Schema {
    let spec = |kind, currencies: &[&str]| AttributeSpec {
        kind,
        currencies: currencies.iter().map(|code| code.parse().unwrap()).collect(),
    };
    let attributes = [
        ("brand", spec(AttributeType::Keyword, &[])),
        ("product_type", spec(AttributeType::Path, &[])),
        ("weight", spec(AttributeType::Decimal, &[])),
        ("price", spec(AttributeType::Money, &["EUR"])),
    ];
    Schema { attributes: attributes.map(|(name, spec)| (name.to_owned(), spec)).into() }
}

fn vector(seed: usize) -> Embedding {
    let mut bytes = [0; DIMENSIONS];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    Embedding::normalized(bytes.iter().map(|byte| f32::from(*byte) - 127.5).collect()).unwrap()
}

fn product(number: usize) -> IndexedProduct {
    let pictures = 1 + number % 3;
    let attributes = [
        ("brand", AttributeValue::Keywords(vec!["naïve \"x\"\n".to_owned(), "Loft & Co".to_owned()])),
        ("product_type", AttributeValue::Path("Home > Sofas".parse().unwrap())),
        ("weight", AttributeValue::Decimal(0.1 * f64::from(u32::try_from(number).unwrap()))),
        ("price", AttributeValue::Money("19.90 EUR".parse().unwrap())),
    ];
    let product = Product {
        id: ProductId::new(format!("p{number}"), "id").unwrap(),
        title: format!("product {number}"),
        description: "long\nand wide".to_owned(),
        link: String::new(),
        image_links: (0..pictures).map(|picture| format!("{number}-{picture}.jpg")).collect(),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
    };
    let image_embeddings = (0..pictures).map(|picture| vector(1000 * number + picture)).collect();
    IndexedProduct { product, image_embeddings, text_embedding: vector(1_000_000 + number), digest: digest(number) }
}

/// Every third is of another program, which knows no digests.
fn digest(number: usize) -> Option<Digest> {
    (!number.is_multiple_of(3)).then(|| Digest::of([number.to_string().as_bytes()]))
}

async fn load(index: &dyn ProductIndex, catalog: &CatalogName, count: usize) {
    let builder = index.build(catalog, &model(), &schema(), Start::Empty).await.unwrap();
    builder.add((0..count).map(product).collect()).await.unwrap();
    builder.seal().await.unwrap().publish().await.unwrap();
}

/// An archive of so many products.
async fn archive(file: &Path, count: usize) {
    let (index, catalog) = (MemoryIndex::default(), CatalogName::default());
    load(&index, &catalog, count).await;
    let generation = index.current(&catalog).await.unwrap();
    assert_eq!(write(&catalog, &*generation, file, &|_| {}).await.unwrap().products, count);
}

/// Every product with its vectors, to the last bit, in the order of ids.
async fn contents(generation: &dyn Generation) -> Vec<(Product, Option<Digest>, Vec<u32>)> {
    let (mut contents, mut last): (Vec<_>, Option<ProductId>) = (Vec::new(), None);
    loop {
        let page = generation.page(last.as_ref(), 64).await.unwrap();
        let Some(indexed) = page.last() else { break };
        last = Some(indexed.product.id.clone());
        contents.extend(page.into_iter().map(|indexed| {
            let vectors = indexed.image_embeddings.iter().chain([&indexed.text_embedding]);
            let bits = vectors.flat_map(|vector| vector.values().iter().map(|value| value.to_bits()));
            (indexed.product, indexed.digest, bits.collect())
        }));
    }
    contents.sort_by(|a: &(Product, _, _), b| a.0.id.cmp(&b.0.id));
    contents
}

async fn answers(generation: &dyn Generation) -> Vec<(String, f32)> {
    let query = IndexQuery {
        vectors: vec![
            QueryVector { target: Target::Image, embedding: vector(8002), share: 0.4 },
            QueryVector { target: Target::Text, embedding: vector(1_000_009), share: 0.4 },
        ],
        keywords: Some(QueryKeywords { keywords: Keywords::of_query([("product 9", 1.0)]), share: 0.2 }),
        filter: None,
        exclude: Vec::new(),
        offset: 0,
        limit: 50,
        score_min: None,
    };
    let hits = generation.search(query).await.unwrap();
    hits.into_iter().map(|hit| (hit.product.id.to_string(), hit.score)).collect()
}

async fn moves_bit_for_bit(from: IndexKind, to: IndexKind) {
    let (Some(from), Some(to)) = (TestIndex::new(from).await, TestIndex::new(to).await) else { return };
    let (dir, count) = (tempfile::tempdir().unwrap(), 500);
    let file = dir.path().join("shop.tar");
    load(&*from.open(), from.catalog(), count).await;
    let old = from.open().current(from.catalog()).await.unwrap();
    write(from.catalog(), &*old, &file, &|_| {}).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
    let said = check(&file).await.unwrap();
    assert_eq!((said.catalog.as_str(), &said.info.id), (from.catalog().as_str(), &old.info().id));

    load(&*to.open(), to.catalog(), 3).await;
    let index = to.open();
    let restored = restore(&file, &*index, to.catalog(), &|_| {}).await.unwrap();
    assert_eq!(to.open().current(to.catalog()).await.unwrap().info().products, 3, "it does not serve by itself");
    restored.publish().await.unwrap();
    let new = to.open().current(to.catalog()).await.unwrap();
    assert_eq!((new.info().products, &new.info().model, &new.info().schema), (count, &model(), &schema()));
    assert!(contents(&*new).await == contents(&*old).await, "something was lost");
    let (old, new) = (answers(&*old).await, answers(&*new).await);
    assert_eq!(old.len(), 50);
    for (old, new) in old.iter().zip(&new) {
        assert!(old.0 == new.0 && (old.1 - new.1).abs() < ROUNDING, "{old:?} {new:?}");
    }
    from.clear().await;
    to.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_directory_to_a_directory() {
    moves_bit_for_bit(IndexKind::Edge, IndexKind::Edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_directory_to_a_server() {
    moves_bit_for_bit(IndexKind::Edge, IndexKind::StandIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_server_to_a_directory() {
    moves_bit_for_bit(IndexKind::StandIn, IndexKind::Edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_directory_to_a_real_server() {
    moves_bit_for_bit(IndexKind::Edge, IndexKind::Server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_real_server_to_a_directory() {
    moves_bit_for_bit(IndexKind::Server, IndexKind::Edge).await;
}

#[tokio::test]
async fn the_file_is_a_tar_with_lines_of_json_and_plain_floats() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.tar");
    archive(&file, 2).await;
    let list = std::process::Command::new("tar").arg("tf").arg(&file).output().unwrap();
    let names = "vitrine.json\nproducts/00000000.jsonl\nvectors/00000000.f32\nend.json\n";
    assert_eq!(String::from_utf8(list.stdout).unwrap(), names);
    let vectors = std::process::Command::new("tar").arg("xOf").arg(&file).arg("vectors/00000000.f32").output().unwrap();
    let (zero, one) = (product(0), product(1));
    let written = [&zero, &one].into_iter().flat_map(|p| p.image_embeddings.iter().chain([&p.text_embedding]));
    let bytes: Vec<u8> =
        written.flat_map(vitrine_core::embed::Embedding::values).flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(vectors.stdout, bytes);
}

/// That the file is refused, and nothing begun with it.
async fn is_refused(file: &Path) -> String {
    let place = TestIndex::new(IndexKind::Edge).await.unwrap();
    let error = check(file).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error:?}");
    let refused = restore(file, &*place.open(), place.catalog(), &|_| {}).await.err().unwrap();
    assert_eq!(refused.to_string(), error.to_string());
    assert!(place.open().list().await.unwrap().is_empty());
    error.to_string()
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused_wherever_that_is() {
    let dir = tempfile::tempdir().unwrap();
    let (file, cut) = (dir.path().join("shop.tar"), dir.path().join("cut.tar"));
    archive(&file, 20).await;
    let whole = fs::read(&file).unwrap();
    // Behind the end there is only what fills a block, and two empty ones.
    let end = whole.windows(9).rposition(|window| window == b"\"blake3\":").unwrap();
    for length in (0..end).step_by(499).chain((0..end).step_by(512)).chain([end - 1, end]) {
        fs::write(&cut, &whole[..length]).unwrap();
        is_refused(&cut).await;
    }
    fs::write(&cut, &whole[..3000]).unwrap();
    assert!(is_refused(&cut).await.ends_with("is cut off"));
}

#[tokio::test]
async fn a_file_with_a_wrong_bit_is_refused_wherever_that_is() {
    let dir = tempfile::tempdir().unwrap();
    let (file, wrong) = (dir.path().join("shop.tar"), dir.path().join("wrong.tar"));
    archive(&file, 20).await;
    let whole = fs::read(&file).unwrap();
    let end = whole.windows(9).rposition(|window| window == b"\"blake3\":").unwrap();
    // What fills a block is zeros, and nobody's.
    let used = (0..end).filter(|position| whole[*position] != 0);
    for position in used.step_by(97) {
        let mut changed = whole.clone();
        changed[position] ^= 1;
        fs::write(&wrong, changed).unwrap();
        is_refused(&wrong).await;
    }
}

#[tokio::test]
async fn what_is_no_archive_or_of_another_version_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.tar");
    for (content, problem) in [
        (Vec::new(), "is no archive of a generation"),
        (b"{}".to_vec(), "is no archive of a generation"),
        (vec![b'x'; 5000], "is no archive of a generation"),
    ] {
        fs::write(&file, content).unwrap();
        assert!(is_refused(&file).await.ends_with(problem));
    }
    let error = check(&dir.path().join("none.tar")).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Unreadable { .. }), "{error:?}");
    let error = check(dir.path()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Unreadable { .. }), "{error:?}");

    archive(&file, 1).await;
    let content = fs::read(&file).unwrap();
    let at = content.windows(11).position(|window| window == b"\"format\": 1").unwrap();
    let mut newer = content;
    newer[at + 10] = b'2';
    fs::write(&file, newer).unwrap();
    assert!(is_refused(&file).await.ends_with("is of format 2, and this program reads format 1"));
}

/// A generation that says it has more products than come.
struct WithHoles(GenerationInfo, std::sync::Arc<dyn Generation>);

#[async_trait]
impl Generation for WithHoles {
    fn info(&self) -> &GenerationInfo {
        &self.0
    }

    async fn search(&self, query: IndexQuery) -> Result<Vec<Hit>, IndexError> {
        self.1.search(query).await
    }

    async fn get(&self, id: &ProductId) -> Result<Option<IndexedProduct>, IndexError> {
        self.1.get(id).await
    }

    async fn page(&self, after: Option<&ProductId>, limit: usize) -> Result<Vec<IndexedProduct>, IndexError> {
        self.1.page(after, limit).await
    }
}

#[tokio::test]
async fn a_file_is_replaced_by_a_whole_one_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (file, catalog) = (dir.path().join("shop.tar"), CatalogName::default());
    archive(&file, 3).await;
    let before = fs::read(&file).unwrap();
    let index = MemoryIndex::default();
    load(&index, &catalog, 4).await;
    let generation = index.current(&catalog).await.unwrap();
    let info = GenerationInfo { products: 5, ..generation.info().clone() };
    let holes = WithHoles(info, std::sync::Arc::clone(&generation));
    let error = write(&catalog, &holes, &file, &|_| {}).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("4 of its 5 products"), "{error:?}");
    assert_eq!(fs::read(&file).unwrap(), before);

    // What a killed process left is written over; what a living one writes is not.
    let partial = dir.path().join("shop.tar.partial");
    fs::write(&partial, vec![b'x'; 1 << 20]).unwrap();
    let other = fs::File::open(&partial).unwrap();
    other.lock().unwrap();
    let error = write(&catalog, &*generation, &file, &|_| {}).await.unwrap_err();
    assert!(Chain(&error).to_string().contains("another process is writing"), "{error:?}");
    drop(other);
    assert_eq!(write(&catalog, &*generation, &file, &|_| {}).await.unwrap().products, 4);
    assert_eq!(check(&file).await.unwrap().info.products, 4);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let nowhere = dir.path().join("nowhere/shop.tar");
    let error = write(&catalog, &*generation, &nowhere, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Unwritable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_empty_generation_is_carried_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.tar");
    archive(&file, 0).await;
    let place = TestIndex::new(IndexKind::Edge).await.unwrap();
    let restored = restore(&file, &*place.open(), place.catalog(), &|_| {}).await.unwrap();
    restored.publish().await.unwrap();
    assert_eq!(place.open().current(place.catalog()).await.unwrap().info().products, 0);
}
