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

/// Least vector data that passes a filter from which on the graph is searched, in KiB; Qdrant's own.
const SCAN_KIB_MIN: usize = 10_000;
/// Most vector data that a filtered query compares without the graph, in KiB of vectors as they are compared. 64 MiB:
/// about ten milliseconds.
const SCAN_KIB_MAX: usize = 64 << 10;
/// Products for each that may pass a filter and be compared without the graph. 4: of what passes less, the graph has too
/// few edges to hold together, and going through what does not pass takes longer than comparing all that does. Edges for the
/// values of attributes are only made above it, which is most of what a build costs.
const SCAN_RATIO: usize = 4;

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
            full_scan_threshold: SCAN_KIB_MIN,
            // Set when a graph is built.
            max_indexing_threads: 0,
            on_disk: None,
            // As many edges among the products of one value of an attribute, where those are too many to be compared one by
            // one. Without any, filters that a tenth passes find half of the true neighbours among a million.
            payload_m: None,
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
    let dimensions = config.vectors.get(vector_name(Target::Text)).map_or(0, |vector| vector.size);
    let kib = products.div_ceil(SCAN_RATIO) * dimensions * size_of::<f32>() / 1024;
    let kib_max = SCAN_KIB_MAX * quantisation(config).ratio();
    let kib = kib.clamp(SCAN_KIB_MIN, kib_max);
    let now = config.hnsw_config.full_scan_threshold;
    let full_scan_threshold = if kib > 2 * now || now > 2 * kib { kib } else { now };
    HnswIndexConfig { full_scan_threshold, max_indexing_threads: threads, ..config.hnsw_config }
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
    fn a_quarter_of_the_products_is_compared_without_the_graph_up_to_64_mib() {
        for (products, quantisation, kib) in [
            (100_000, Quantisation::None, 50_000),
            (1_000_000, Quantisation::None, 65_536),
            (1_000_000, Quantisation::Int8, 262_144),
            (100_000_000, Quantisation::Int8, 262_144),
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
        config.hnsw_config = regraphed(&config, 200_000, 1);
        assert!([110_000, 200_000, 390_000].iter().all(|products| stays(&config, *products)));
        assert!(!stays(&config, 90_000) && !stays(&config, 500_000));
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
