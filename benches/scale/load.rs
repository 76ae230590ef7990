//! Loading the shop, as `catalog-loader` does, but with vectors that no model has made.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use vitrine_core::{
    embed::ModelInfo,
    index::{ProductIndex, Start},
    product::CatalogName,
};

use crate::{
    process::{Clock, Memory, Peak, Spent, disk_mb},
    shop::{DIMENSIONS, Shop},
};

/// Products that are added at once.
const CHUNK: usize = 500;

/// What loading took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) products: usize,
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

/// Loads it, and makes it serve. `phase` is told when adding (1) and building graphs (2) begin.
pub(crate) async fn load(
    index: &dyn ProductIndex,
    catalog: &CatalogName,
    shop: &Shop,
    directory: Option<&Path>,
    phase: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<Loaded> {
    let model = ModelInfo { fingerprint: shop.fingerprint(), dimensions: DIMENSIONS };
    let builder = index.build(catalog, &model, &Shop::schema(), Start::Empty).await.context("begin a generation")?;
    phase(1);
    let (clock, peak, mut drawing) = (Clock::start(), Peak::watch(), Duration::ZERO);
    for start in (0..shop.products).step_by(CHUNK) {
        let started = Instant::now();
        let products = (start..(start + CHUNK).min(shop.products)).map(|number| shop.product(number)).collect();
        drawing += started.elapsed();
        builder.add(products).await.context("add products")?;
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
    Ok(Loaded { products, draw_seconds, insert, insert_peak, seal, seal_peak, publish, disk_mb })
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
