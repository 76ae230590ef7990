//! What a shard is made with, and how its graphs are searched.

use qdrant_edge::{
    AcornSearchParams, BinaryQuantizationConfig, CompressionRatio, Distance, EdgeConfig, EdgeOptimizersConfig,
    EdgeVectorParams, HnswIndexConfig, MultiVectorConfig, ProductQuantizationConfig, QuantizationConfig,
    QuantizationSearchParams, ScalarQuantizationConfig, ScalarType, SearchParams,
    external::ordered_float::OrderedFloat,
};
use vitrine_core::index::Target;

use crate::{
    GRAPH_KIB_MIN,
    payload::vector_name,
    quantisation::Quantisation,
    scoring::{SEARCH_WIDTH_MIN, acorn_share_max},
};

/// Most vector data that a filtered query compares without the graph, in KiB of vectors as they are compared. 10,000: Qdrant's
/// own; it takes about as long as a search of the graph for the most candidates.
const SCAN_KIB: usize = 10_000;
/// Products for each that may pass a filter and be compared without the graph, where they are few.
const SCAN_RATIO: usize = 4;
/// How many times as many products are found without the filter as should pass it on average, if the filter has nothing to do
/// with the query. 5: then it hardly ever happens that fewer than are wanted pass.
const MARGIN: usize = 5;
/// Most products that are found without the filter, to see which pass.
const UNFILTERED_MAX: usize = 2000;
/// Candidates in hand where few of the nearest pass: the graph of what does pass has gaps.
const SPARSE_WIDTH: usize = 1000;

/// What a new shard is made with.
pub(super) fn config(dimensions: usize, quantisation: Quantisation) -> EdgeConfig {
    // Vectors that are only read to score a few candidates need no memory of their own.
    let on_disk = quantisation != Quantisation::None;
    let vector = || EdgeVectorParams::builder(dimensions, Distance::Cosine).on_disk(on_disk);
    let config = EdgeConfig::builder()
        .vector(vector_name(Target::Image), vector().multivector_config(MultiVectorConfig::default()).build())
        .vector(vector_name(Target::Text), vector().build())
        .hnsw_config(HnswIndexConfig {
            m: 16,
            ef_construct: 100,
            full_scan_threshold: SCAN_KIB,
            // Set when a graph is built.
            max_indexing_threads: 0,
            on_disk: None,
            // No edges among the products of one value of an attribute: with them, graphs of a million products take several
            // times as long to build. `Way` finds what passes a filter without them.
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

/// How the graphs of so many products are to be made, by so many threads. Another threshold than now builds them all again,
/// so one that is right to a factor of two stays.
pub(super) fn regraphed(config: &EdgeConfig, products: usize, threads: usize) -> HnswIndexConfig {
    let kib = kib(config, products.div_ceil(SCAN_RATIO)).clamp(SCAN_KIB, SCAN_KIB * quantisation(config).ratio());
    let now = config.hnsw_config.full_scan_threshold;
    let full_scan_threshold = if kib > 2 * now || now > 2 * kib { kib } else { now };
    HnswIndexConfig { full_scan_threshold, max_indexing_threads: threads, ..config.hnsw_config }
}

/// The vector data of so many products, in KiB.
fn kib(config: &EdgeConfig, products: usize) -> usize {
    let dimensions = config.vectors.get(vector_name(Target::Text)).map_or(0, |vector| vector.size);
    products * dimensions * size_of::<f32>() / 1024
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

/// How the nearest of those that pass a filter are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// All of them are compared.
    Scan,
    /// So many are found without the filter. If as many of these pass as are wanted, they are the nearest that pass. If not, the
    /// graph is searched by way of what passes, too, which alone would miss half of them: a tenth of the products have too few
    /// edges among themselves.
    Unfiltered(usize),
}

/// How to find `limit` of the `passing` among so many `products`.
pub(super) fn way(config: &EdgeConfig, products: usize, passing: usize, limit: usize) -> Way {
    if kib(config, passing) <= config.hnsw_config.full_scan_threshold {
        return Way::Scan;
    }
    let unfiltered = limit.saturating_mul(MARGIN).saturating_mul(products) / passing.max(1);
    Way::Unfiltered(unfiltered.clamp(SEARCH_WIDTH_MIN, UNFILTERED_MAX))
}

/// How the nearest are searched where few of those that are nearest without the filter pass it.
pub(super) fn sparse(limit: usize, quantisation: Quantisation) -> SearchParams {
    let nearest = nearest(limit, quantisation);
    // A wide search is to fill pages far behind the first ones, and finds enough without ACORN.
    let acorn = nearest.acorn.filter(|_| limit <= SEARCH_WIDTH_MIN);
    SearchParams { hnsw_ef: Some(limit.max(SPARSE_WIDTH)), acorn, ..nearest }
}

/// How the nearest are searched.
pub(super) fn nearest(limit: usize, quantisation: Quantisation) -> SearchParams {
    SearchParams {
        hnsw_ef: Some(limit.max(SEARCH_WIDTH_MIN)),
        acorn: Some(AcornSearchParams { enable: true, max_selectivity: Some(OrderedFloat(acorn_share_max(limit))) }),
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
    fn the_smaller_vectors_are_kept_the_more_are_compared_without_the_graph() {
        for (products, quantisation, kib) in [
            (24_000, Quantisation::None, 10_000),
            (1_000_000, Quantisation::None, 10_000),
            (60_000, Quantisation::Int8, 30_000),
            (1_000_000, Quantisation::Int8, 40_000),
            (100_000_000, Quantisation::Int8, 40_000),
        ] {
            let regraphed = regraphed(&config(512, quantisation), products, 0);
            assert_eq!(regraphed.full_scan_threshold, kib, "{products} {quantisation:?}");
        }
    }

    #[test]
    fn as_many_are_found_without_a_filter_as_are_needed_for_enough_of_them_to_pass() {
        let mut config = config(512, Quantisation::None);
        config.hnsw_config = regraphed(&config, 1_000_000, 1);
        for (passing, limit, expected) in [
            (0, 10, Way::Scan),
            (5_000, 10, Way::Scan),
            (6_000, 10, Way::Unfiltered(2000)),
            (100_000, 10, Way::Unfiltered(500)),
            (400_000, 10, Way::Unfiltered(SEARCH_WIDTH_MIN)),
            (400_000, 100, Way::Unfiltered(1250)),
            (1_000_000, usize::MAX, Way::Unfiltered(2000)),
        ] {
            assert_eq!(way(&config, 1_000_000, passing, limit), expected, "{passing} {limit}");
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
