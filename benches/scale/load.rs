//! Loading the shop, as `catalog-loader` does, but with vectors that no model has made.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use vitrine_core::{
    embed::ModelInfo,
    index::{Origin, ProductIndex, Start},
    product::{CatalogName, ProductId},
};

use crate::{
    process::{Clock, Memory, Peak, Spent, disk_mb},
    shop::{DIMENSIONS, Shop, product_id},
};

/// Products that are added at once.
const CHUNK: usize = 500;

/// What loading took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) products: usize,
    /// Of these so many per cent were added and the others kept; nothing, if it was loaded in full.
    pub(crate) again: Option<u8>,
    /// Beginning a generation; with one that serves, copying it.
    pub(crate) begin: Spent,
    /// Drawing the products, which is not the index's.
    pub(crate) draw_seconds: f64,
    /// Adding them, without drawing them.
    pub(crate) insert: Spent,
    pub(crate) insert_peak: Memory,
    /// The graphs.
    pub(crate) seal: Spent,
    pub(crate) seal_peak: Memory,
    pub(crate) publish: Spent,
    /// Of the directory; nothing on a server.
    pub(crate) disk_mb: Option<f64>,
}

/// Loads it, and makes it serve: all of it, or again from what serves, with so many per cent of the products added anew.
/// `phase` is told when adding (1) and building graphs (2) begin.
pub(crate) async fn load(
    index: &dyn ProductIndex,
    catalog: &CatalogName,
    shop: &Shop,
    directory: Option<&Path>,
    phase: &(dyn Fn(usize) + Sync),
    again: Option<u8>,
) -> anyhow::Result<Loaded> {
    let model = ModelInfo { fingerprint: shop.fingerprint(), dimensions: DIMENSIONS };
    let clock = Clock::start();
    let start = if again.is_some() { Start::Serving } else { Start::Empty };
    let builder = index.build(catalog, &model, &Shop::schema(), start).await.context("begin a generation")?;
    let begin = clock.spent();
    if let (Some(_), Origin::Nothing(why)) = (again, builder.origin()) {
        bail!("nothing to begin with: {why}");
    }
    phase(1);
    let (clock, peak, mut drawing) = (Clock::start(), Peak::watch(), Duration::ZERO);
    for start in (0..shop.products).step_by(CHUNK) {
        let started = Instant::now();
        let numbers = start..(start + CHUNK).min(shop.products);
        let (added, kept): (Vec<_>, Vec<_>) = numbers.partition(|number| is_added(*number, again));
        let products: Vec<_> = added.into_iter().map(|number| shop.product(number)).collect();
        let kept: Vec<ProductId> = kept.into_iter().map(product_id).collect();
        drawing += started.elapsed();
        if !kept.is_empty() {
            builder.keep(&kept).await.context("keep products")?;
        }
        if !products.is_empty() {
            builder.add(products).await.context("add products")?;
        }
    }
    let draw_seconds = drawing.as_secs_f64();
    let all = clock.spent();
    // One thread draws and nothing else runs meanwhile.
    let insert = Spent { seconds: all.seconds - draw_seconds, cpu_seconds: all.cpu_seconds - draw_seconds };
    let insert_peak = peak.end();
    eprintln!("{} products added in {:.1} s", shop.products, insert.seconds);
    phase(2);
    let (clock, peak) = (Clock::start(), Peak::watch());
    let sealed = builder.seal().await.context("seal the generation")?;
    let (seal, seal_peak) = (clock.spent(), peak.end());
    eprintln!("sealed in {:.1} s, {:.1} s of the processors", seal.seconds, seal.cpu_seconds);
    let clock = Clock::start();
    sealed.publish().await.context("publish the generation")?;
    let publish = clock.spent();
    let disk_mb = directory.map(|directory| disk_mb(&directory.join(catalog.as_str()))).transpose()?;
    let products = shop.products;
    Ok(Loaded { products, again, begin, draw_seconds, insert, insert_peak, seal, seal_peak, publish, disk_mb })
}

/// Whether a product is added, and not kept: those that are lie everywhere.
fn is_added(number: usize, again: Option<u8>) -> bool {
    again.is_none_or(|per_cent| number * 37 % 100 < usize::from(per_cent))
}

/// Where the figures of a load stand, for later runs.
fn file(directory: &Path, catalog: &CatalogName) -> PathBuf {
    directory.join(format!("{catalog}.load.json"))
}

/// Keeps the figures of a load beside the index.
pub(crate) fn keep(directory: &Path, catalog: &CatalogName, loaded: &Loaded) -> anyhow::Result<()> {
    let file = file(directory, catalog);
    fs::write(&file, serde_json::to_vec_pretty(loaded)?).with_context(|| format!("write {}", file.display()))
}

/// The figures of the load that made the index, if they were kept.
pub(crate) fn kept(directory: &Path, catalog: &CatalogName) -> Option<Loaded> {
    serde_json::from_slice(&fs::read(file(directory, catalog)).ok()?).ok()
}
