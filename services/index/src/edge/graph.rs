//! What a shard is made with, and how its graphs are searched.

use qdrant_edge::{
    AcornSearchParams, BinaryQuantizationConfig, CompressionRatio, Distance, EdgeConfig, EdgeOptimizersConfig,
    EdgeSparseVectorParams, EdgeVectorParams, HnswIndexConfig, Modifier, MultiVectorConfig, ProductQuantizationConfig,
    QuantizationConfig, QuantizationSearchParams, ScalarQuantizationConfig, ScalarType, SearchParams,
    VectorStorageDatatype, external::ordered_float::OrderedFloat,
};
use vitrine_core::index::Target;

use crate::{
    GRAPH_KIB_MIN,
    payload::{KEYWORDS, vector_name},
    quantisation::Quantisation,
    scoring::{SEARCH_WIDTH_MIN, acorn_share_max},
};

/// Most vector data that a filtered query always compares without the graph, in KiB before it is quantised. 5,000, of 5,000
/// products with 512 numbers: it takes about as long as a search of the graph for the most candidates.
const SCAN_KIB: usize = 5_000;
/// Most vector data of a category that has no edges of its own, in KiB. 20,000: half of that, which lies together, is compared in
/// 4 ms, and edges take time to build.
const CATEGORY_KIB: usize = 20_000;
/// Products for each that may pass a filter and be compared without the graph, where they are few.
const SCAN_RATIO: usize = 4;
/// Edges of a product to others of its category, on the upper levels. 16: as many as it has to all.
pub(super) const CATEGORY_EDGES: usize = 16;
/// Products for each of the largest category that has edges of its own. 8: of larger ones, a search of the whole graph finds enough,
/// and Qdrant makes none.
const CATEGORY_RATIO: usize = 8;
/// Candidates in hand while a graph is built. 100: Qdrant's own.
const BUILD_WIDTH: usize = 100;
/// The same where vectors are quantised. 200: with 100, among 100,000 products, 2 of 100 queries never come to where
/// their answers are, however many candidates a search has; it takes twice as long.
const BUILD_WIDTH_QUANTISED: usize = 200;
/// Candidates in hand where few of the nearest pass: the graph of what does pass has gaps.
const SPARSE_WIDTH: usize = 1000;

/// What a new shard is made with.
pub(super) fn config(dimensions: usize, quantisation: Quantisation) -> EdgeConfig {
    // Of 16 bits, which is what CLIP's numbers are good for: half of the memory, and a third less to wait for.
    let vector = || {
        let on_disk = is_on_disk(quantisation);
        EdgeVectorParams::builder(dimensions, Distance::Cosine)
            .datatype(VectorStorageDatatype::Float16)
            .on_disk(on_disk)
    };
    let config = EdgeConfig::builder()
        .vector(vector_name(Target::Image), vector().multivector_config(MultiVectorConfig::default()).build())
        .vector(vector_name(Target::Text), vector().build())
        .sparse_vector(KEYWORDS, keywords(quantisation))
        .hnsw_config(HnswIndexConfig {
            m: 16,
            ef_construct: if is_on_disk(quantisation) { BUILD_WIDTH_QUANTISED } else { BUILD_WIDTH },
            full_scan_threshold: SCAN_KIB,
            // Set when a graph is built.
            max_indexing_threads: 0,
            on_disk: None,
            // No edges among the products of one value of an attribute, but those of categories (`layout.rs`): with them, graphs
            // of a million products take several times as long to build. `way.rs` finds what passes a filter without them.
            payload_m: Some(0),
            inline_storage: None,
        })
        .optimizers(EdgeOptimizersConfig {
            indexing_threshold: Some(GRAPH_KIB_MIN),
            default_segment_number: Some(1),
            ..EdgeOptimizersConfig::default()
        });
    match quantized(quantisation) {
        Some(quantized) => config.quantization_config(quantized).build(),
        None => config.build(),
    }
}

/// How the words of products are kept: how rare each is, Qdrant counts. Of 16 bits, as vectors are.
fn keywords(quantisation: Quantisation) -> EdgeSparseVectorParams {
    let params = EdgeSparseVectorParams::builder().modifier(Modifier::Idf).datatype(VectorStorageDatatype::Float16);
    params.on_disk(is_on_disk(quantisation)).build()
}

/// Whether vectors and what filters look at are read from disk. Beside quantised vectors the others only score a few
/// candidates, and need no memory of their own.
pub(super) fn is_on_disk(quantisation: Quantisation) -> bool {
    quantisation != Quantisation::None
}

/// How the graphs of so many products are to be made, by so many threads. Another threshold than now has them all written again,
/// so one that is right to a factor of two stays.
pub(super) fn regraphed(config: &EdgeConfig, products: usize, threads: usize) -> HnswIndexConfig {
    let kib_max = CATEGORY_KIB.max(SCAN_KIB * quantisation(config).ratio());
    let kib = kib(config, products.div_ceil(SCAN_RATIO)).clamp(SCAN_KIB, kib_max);
    let now = config.hnsw_config.full_scan_threshold;
    let full_scan_threshold = if kib > 2 * now || now > 2 * kib { kib } else { now };
    HnswIndexConfig { full_scan_threshold, max_indexing_threads: threads, ..config.hnsw_config }
}

/// The vector data of so many products, in KiB, as Qdrant reckons it.
fn kib(config: &EdgeConfig, products: usize) -> usize {
    let bytes = config.vectors.get(vector_name(Target::Text)).map_or(0, |vector| {
        // A generation may have begun with one of before, when numbers had 32 bits.
        let of_number = if vector.datatype == Some(VectorStorageDatatype::Float16) { 2 } else { 4 };
        vector.size * of_number
    });
    products * bytes / 1024
}

fn quantized(kind: Quantisation) -> Option<QuantizationConfig> {
    let always_ram = Some(true);
    match kind {
        Quantisation::None => None,
        // Of numbers that are nearly all small: the few large ones need not be told apart.
        Quantisation::Int8 => {
            Some(ScalarQuantizationConfig { r#type: ScalarType::Int8, quantile: Some(0.99), always_ram }.into())
        }
        Quantisation::Binary => {
            Some(BinaryQuantizationConfig { always_ram, encoding: None, query_encoding: None }.into())
        }
        Quantisation::Product => {
            Some(ProductQuantizationConfig { compression: CompressionRatio::X16, always_ram }.into())
        }
    }
}

/// How the vectors of a shard are kept a second time.
pub(super) fn quantisation(config: &EdgeConfig) -> Quantisation {
    match &config.quantization_config {
        None | Some(QuantizationConfig::Turbo(_)) => Quantisation::None,
        Some(QuantizationConfig::Scalar(_)) => Quantisation::Int8,
        Some(QuantizationConfig::Product(_)) => Quantisation::Product,
        Some(QuantizationConfig::Binary(_)) => Quantisation::Binary,
    }
}

/// Whether so many are always compared without the graph.
pub(super) fn few(config: &EdgeConfig, compared: usize) -> bool {
    kib(config, compared) <= SCAN_KIB
}

/// Whether so many are compared without the graph if [`scan`] says so. Where vectors are quantised, it cannot forbid Qdrant
/// its graph, and Qdrant's estimate of how many they are may be twice the truth.
pub(super) fn is_scanned(config: &EdgeConfig, compared: usize) -> bool {
    quantisation(config) == Quantisation::None || kib(config, 2 * compared) <= config.hnsw_config.full_scan_threshold
}

/// Whether a category of so many products has edges of its own, among so many.
pub(super) fn has_edges(config: &EdgeConfig, category: usize, products: usize) -> bool {
    let made = config.hnsw_config.payload_m.is_some_and(|edges| edges > 0);
    made && kib(config, category) > config.hnsw_config.full_scan_threshold && category <= products / CATEGORY_RATIO
}

/// How what passes a filter is searched by way of it.
pub(super) fn sparse(limit: usize, quantisation: Quantisation) -> SearchParams {
    // A wide search is to fill pages far behind the first ones, and finds enough without ACORN.
    let enable = limit <= SEARCH_WIDTH_MIN;
    let acorn = AcornSearchParams { enable, max_selectivity: Some(OrderedFloat(acorn_share_max(limit))) };
    SearchParams { acorn: Some(acorn), ..nearest(limit, SPARSE_WIDTH, quantisation) }
}

/// How what passes a filter is compared. Quantised vectors may be so many that Qdrant prefers its graph.
pub(super) fn scan(limit: usize, quantisation: Quantisation) -> SearchParams {
    SearchParams { exact: quantisation == Quantisation::None, ..sparse(limit, quantisation) }
}

/// How the nearest are searched, with so many candidates in hand at the least.
pub(super) fn nearest(limit: usize, width: usize, quantisation: Quantisation) -> SearchParams {
    SearchParams {
        hnsw_ef: Some(limit.max(width)),
        quantization: Some(QuantizationSearchParams {
            ignore: false,
            // Scores are always those of the vectors themselves.
            rescore: Some(true),
            oversampling: Some(quantisation.oversampling(limit)),
        }),
        ..SearchParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_compared_without_the_graph_unless_it_is_much() {
        for (products, quantisation, kib) in [
            (24_000, Quantisation::None, 5_000),
            (60_000, Quantisation::None, 15_000),
            (1_000_000, Quantisation::None, 20_000),
            (60_000, Quantisation::Int8, 15_000),
            (1_000_000, Quantisation::Int8, 20_000),
            (100_000_000, Quantisation::Int8, 20_000),
            (100_000_000, Quantisation::Binary, 160_000),
        ] {
            let regraphed = regraphed(&config(512, quantisation), products, 0);
            assert_eq!(regraphed.full_scan_threshold, kib, "{products} {quantisation:?}");
        }
    }

    #[test]
    fn graphs_stay_as_they_are_until_there_are_twice_as_many_products_or_half() {
        let mut config = config(512, Quantisation::Int8);
        let stays = |config: &EdgeConfig, products| {
            regraphed(config, products, 1).full_scan_threshold == config.hnsw_config.full_scan_threshold
        };
        assert!(stays(&config, 35_000));
        config.hnsw_config = regraphed(&config, 100_000, 1);
        assert!([55_000, 100_000, 1_000_000].iter().all(|products| stays(&config, *products)));
        assert!(!stays(&config, 38_000));
    }

    #[test]
    fn the_quantisation_of_a_shard_is_read_from_what_it_was_made_with() {
        for kind in [Quantisation::None, Quantisation::Int8, Quantisation::Binary, Quantisation::Product] {
            let config = config(512, kind);
            assert_eq!(quantisation(&config), kind);
            let on_disk = config.vectors.values().all(|vector| vector.on_disk == Some(true));
            assert_eq!(on_disk, kind != Quantisation::None);
        }
    }
}
