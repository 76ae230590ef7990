//! Unit costs: what one product, one search and one picture take, and where that was measured.
//!
//! Unless it says otherwise, a number comes from `make bench-index` (512 dimensions, one picture, ten attributes, Qdrant Edge,
//! two cores) or `make bench-compare`, whose tables stand in benches/README.md. *Estimate* means that nobody measured it.

use vitrine_index::Quantisation;

use crate::cli::PlannedModel;

/// Dimensions that the index was measured with.
const DIMENSIONS: f64 = 512.0;
/// Bytes of a number of a vector: a float of 16 bits.
const FLOAT_BYTES: f64 = 2.0;
/// Share of the time of a search, or of building a graph, that is arithmetic on vectors, and so grows with their dimensions
/// and number. Estimate.
const ARITHMETIC_SHARE: f64 = 0.7;

/// What an index takes of the disk beside its products, in bytes: what fits 10,000 (106 MB) and 100,000 products (449 MB).
pub(super) const DISK_BYTES: f64 = 68e6;
/// What a product takes of the disk beside its vectors, in bytes: attributes, their indexes, words, the edges of two graphs. The
/// same two sizes.
const PRODUCT_DISK_BYTES: f64 = 1765.0;
/// What the log of a load takes of the disk until the load is sealed, in bytes for each number of each vector: they stand in it
/// as text. From the 19 GB that the loader of a million products had open, of which the index was 5.7. A Qdrant server keeps a
/// shorter log, but copies what it optimises; that the same is enough for it is an estimate.
const LOG_BYTES: f64 = 11.0;

/// What an open index takes of memory beside its products, in bytes: what fits 10,000 (208 MB) and 100,000 products (513 MB).
pub(super) const MEMORY_BYTES: f64 = 174e6;
/// What a product takes of memory beside its vectors when these are in memory, in bytes. The same two sizes.
const PRODUCT_MEMORY_BYTES: f64 = 1340.0;
/// The same where only quantised vectors are: 100,000 products with int8 (289 MB), and what words take without quantisation (19 MB).
/// A directory of now has indexes of attributes, and words, on disk, too (223 MB), which a Qdrant server has not.
const PRODUCT_MEMORY_BYTES_QUANTISED: f64 = 620.0;
/// The part of it that cannot be read again from disk: 100,000 (125 MB) and 1,000,000 products (1.06 GB).
const PRODUCT_PINNED_BYTES: f64 = 1060.0;

/// Processor time of a search beside embedding and index, in ms: `vitrine, Search` and the index's own time in benches/README.md.
pub(super) const SEARCH_OVERHEAD_MS: f64 = 0.4;
/// p99 of the time that the index takes, over its p50. Measured with a million: 1.2 to 2.5 for most filters.
pub(super) const P99_OF_P50: f64 = 1.7;

/// A cost that grows by the same amount whenever there are ten times as many products, from 10,000 on.
struct Growth {
    /// Up to 10,000 products.
    at_ten_thousand: f64,
    /// More of it for each factor of ten.
    per_decade: f64,
}

impl Growth {
    fn at(&self, products: f64) -> f64 {
        self.at_ten_thousand + self.per_decade * (products / 1e4).log10().max(0.0)
    }
}

/// Processor time to add a product, in µs. Measured: 125, 131, 132 at 10,000, 100,000 and 1,000,000.
const ADD: Growth = Growth { at_ten_thousand: 125.0, per_decade: 4.0 };
/// Processor time to build a product's part of both graphs, in µs, and to write them again by category. Measured: 438, 660 to 712.
const BUILD: Growth = Growth { at_ten_thousand: 424.0, per_decade: 240.0 };
/// From how many products on a directory gives its largest categories edges of their own: 512 dimensions.
const EDGED_PRODUCTS: f64 = 160_000.0;
/// How many times as long the graphs take then. Measured: 1357 µs a product at 1,000,000.
const EDGED_TIMES: f64 = 1.5;
/// The same on a Qdrant server, which gives edges to the values of every attribute that has enough products. Measured: 4070, 6540
/// at 100,000 and 1,000,000; 20,000 took no longer than in a directory.
const SERVER_BUILD: Growth = Growth { at_ten_thousand: 1600.0, per_decade: 2470.0 };
/// Processor time to take over a product that has not changed, in µs: in a directory, and on a server, the loader's among it.
/// Measured with 100,000: 1.8 and 6.4 s; with 1,000,000 on a server 69.
const CARRY: (f64, f64) = (18.0, 66.0);
/// Processor time of a search by photo in the index, in ms. Measured, p50: 0.21, 0.48, 0.86.
const PHOTO: Growth = Growth { at_ten_thousand: 0.21, per_decade: 0.31 };
/// The same by words: two vectors, and the words. Measured: 1.09, 1.42, 3.35, of which the model makes a third too much at 100,000.
const WORDS: Growth = Growth { at_ten_thousand: 1.0, per_decade: 0.95 };
/// By photo, with a filter that a tenth of the products pass. Measured: 0.24, 0.64, 1.02; up to ten times as long for a category
/// that is nothing like the photo.
const PHOTO_FILTERED: Growth = Growth { at_ten_thousand: 0.25, per_decade: 0.4 };
/// By words, with such a filter. Measured: 1.36, 4.61, 5.32.
const WORDS_FILTERED: Growth = Growth { at_ten_thousand: 1.4, per_decade: 2.1 };
/// How many times as much a Qdrant server takes, which searches several segments and answers over gRPC. Measured: photo, words, and
/// both with such a filter take it 7.4, 22, 12.5 and 62 ms at a million; 2.8, 9.8, 4.7 and 24 at 100,000, of which the time by the
/// clock was measured, and how much more processor time that is at a million. Beyond that an estimate.
const SERVER_SEARCH: Growth = Growth { at_ten_thousand: 3.0, per_decade: 3.0 };

/// Share of as many cores as a Qdrant server has segments that a search of it keeps busy. Measured: 1.33 of two. Estimate for more.
const SERVER_BUSY: f64 = 0.67;
/// Most segments of a part by Qdrant's default: one for each two cores, from two to eight.
const SERVER_SEGMENTS_MAX: f64 = 8.0;

/// How many cores of so many a search of a part keeps busy at once.
pub(super) fn search_cores(cores: f64, on_server: bool) -> f64 {
    let segments = (cores / 2.0).clamp(2.0, SERVER_SEGMENTS_MAX);
    if on_server { (SERVER_BUSY * segments.min(cores)).max(1.0) } else { 1.0 }
}

/// A catalogue's vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vectors {
    pub(super) dimensions: f64,
    /// Of a product. There is one vector for each, and one for the texts.
    pub(super) pictures: f64,
    pub(super) quantisation: Quantisation,
}

impl Vectors {
    fn numbers(self) -> f64 {
        self.dimensions * (self.pictures + 1.0)
    }

    /// Bytes of a product's quantised vectors. Measured with int8: 104 MB of disk and 108 of memory for 100,000 products; for
    /// the others from their definition.
    fn quantised_bytes(self) -> f64 {
        let bytes = match self.quantisation {
            Quantisation::None => 0.0,
            Quantisation::Int8 => 1.0,
            Quantisation::Product => 0.25,
            Quantisation::Binary => 0.125,
        };
        1.03 * bytes * self.numbers()
    }

    /// Bytes that a product takes of the disk, of one generation that is whole.
    pub(super) fn disk_bytes(self) -> f64 {
        FLOAT_BYTES * self.numbers() + self.quantised_bytes() + PRODUCT_DISK_BYTES
    }

    /// Bytes of the log that a product takes besides, until its load is sealed.
    pub(super) fn log_bytes(self) -> f64 {
        LOG_BYTES * self.numbers()
    }

    /// Bytes that a product takes of the memory of an open index.
    pub(super) fn memory_bytes(self) -> f64 {
        match self.quantisation {
            Quantisation::None => FLOAT_BYTES * self.numbers() + PRODUCT_MEMORY_BYTES,
            Quantisation::Int8 | Quantisation::Binary | Quantisation::Product => {
                self.quantised_bytes() + PRODUCT_MEMORY_BYTES_QUANTISED
            }
        }
    }

    /// Bytes of those that cannot be read again from disk.
    pub(super) fn pinned_bytes(self) -> f64 {
        let all = PRODUCT_PINNED_BYTES + self.quantised_bytes();
        all.min(self.memory_bytes())
    }

    /// Processor seconds to add a product to an index of a size. Half of it grows with the vectors: estimate.
    pub(super) fn add_seconds(self, products: f64) -> f64 {
        let share = self.numbers() / (2.0 * DIMENSIONS);
        ADD.at(products) / 1e6 * f64::midpoint(1.0, share)
    }

    /// Processor seconds to take over a product that has not changed. It grows with the vectors: estimate.
    pub(super) fn carry_seconds(self, on_server: bool) -> f64 {
        let (directory, server) = CARRY;
        let micros = if on_server { server } else { directory };
        micros / 1e6 * self.numbers() / (2.0 * DIMENSIONS)
    }

    /// Processor seconds to build a product's part of the graphs of an index of a size. Pictures are compared with pictures, each
    /// with each, half of the time being theirs: estimate.
    pub(super) fn build_seconds(self, products: f64, on_server: bool) -> f64 {
        let kind = match self.quantisation {
            Quantisation::None => 1.0,
            // Measured with 100,000 products: 85.5 seconds in place of 66. Binary is an estimate.
            Quantisation::Int8 | Quantisation::Binary => 1.3,
            // Estimate.
            Quantisation::Product => 2.0,
        };
        let micros = match (on_server, products < EDGED_PRODUCTS) {
            (true, _) => SERVER_BUILD.at(products),
            (false, true) => BUILD.at(products),
            (false, false) => EDGED_TIMES * BUILD.at(products),
        };
        micros / 1e6 * kind * self.work(f64::midpoint(self.pictures * self.pictures, 1.0))
    }

    /// Milliseconds of a processor for a search in an index of a size; p50.
    pub(super) fn search_ms(self, products: f64, words: bool, filtered: bool, on_server: bool) -> f64 {
        let growth = match (words, filtered) {
            (false, false) => PHOTO,
            (true, false) => WORDS,
            (false, true) => PHOTO_FILTERED,
            (true, true) => WORDS_FILTERED,
        };
        let kind = match self.quantisation {
            Quantisation::None => 1.0,
            // Measured with 100,000 products: 0.42 in place of 0.48 without a filter, 0.84 in place of 0.64 where a tenth passes.
            Quantisation::Int8 => 1.1,
            // Estimates: four times as many candidates; tables in place of arithmetic.
            Quantisation::Binary => 1.3,
            Quantisation::Product => 2.0,
        };
        let vectors = if words { f64::midpoint(self.pictures, 1.0) } else { self.pictures };
        let place = if on_server { SERVER_SEARCH.at(products) } else { 1.0 };
        growth.at(products) * place * kind * self.work(vectors)
    }

    /// How many times as long as measured it takes to compare so many vectors of these dimensions where it was one. Estimate.
    fn work(self, vectors: f64) -> f64 {
        1.0 - ARITHMETIC_SHARE + ARITHMETIC_SHARE * vectors * self.dimensions / DIMENSIONS
    }
}

/// Milliseconds of a processor for a photo of 400×533 in a search, gRPC among it: `make bench-compare`, *vitrine, Embed*. One
/// thread does it, so it is also how long it takes on an idle machine.
pub(super) fn query_photo_ms(model: PlannedModel) -> f64 {
    match model {
        PlannedModel::Mini => 16.6,
        PlannedModel::VitB32 => 93.0,
        PlannedModel::VitB32Int8 => 32.0,
    }
}

/// The same for a text of 3 to 12 words: of a search, and of a product.
pub(super) fn text_ms(model: PlannedModel) -> f64 {
    match model {
        PlannedModel::Mini => 3.6,
        PlannedModel::VitB32 => 11.9,
        PlannedModel::VitB32Int8 => 4.5,
    }
}

/// The same for a product's picture, of 1024×1024.
pub(super) fn product_photo_ms(model: PlannedModel) -> f64 {
    match model {
        PlannedModel::Mini => 20.4,
        PlannedModel::VitB32 => 95.3,
        PlannedModel::VitB32Int8 => 35.8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(quantisation: Quantisation) -> Vectors {
        Vectors { dimensions: 512.0, pictures: 1.0, quantisation }
    }

    fn near(what: &str, modelled: f64, measured: f64, slack: f64) {
        assert!((modelled / measured - 1.0).abs() < slack, "{what}: {modelled} by the model, {measured} measured");
    }

    /// Rows of benches/README.md.
    #[test]
    fn what_was_measured_comes_out_again() {
        for (products, disk_mb, memory_mb, add_s, build_s, photo_ms, words_ms) in [
            (1e4, 106.0, 208.0, 1.25, 4.38, 0.21, 1.09),
            (1e5, 449.0, 513.0, 13.1, 66.0, 0.48, 1.42),
            (1e6, 3911.0, 3267.0, 132.0, 1357.0, 0.86, 3.35),
        ] {
            let vectors = measured(Quantisation::None);
            near("disk", (DISK_BYTES + products * vectors.disk_bytes()) / 1e6, disk_mb, 0.1);
            near("memory", (MEMORY_BYTES + products * vectors.memory_bytes()) / 1e6, memory_mb, 0.1);
            near("add", products * vectors.add_seconds(products), add_s, 0.1);
            near("build", products * vectors.build_seconds(products, false), build_s, 0.1);
            near("photo", vectors.search_ms(products, false, false, false), photo_ms, 0.15);
            // It grows faster beyond 100,000 than before, where the graph is searched wider.
            near("words", vectors.search_ms(products, true, false, false), words_ms, 0.4);
        }
        let vectors = measured(Quantisation::Int8);
        for (products, on_server, build_s, carry_s) in
            [(1e5, false, 66.0, 1.8), (1e5, true, 407.0, 6.4), (1e6, true, 6540.0, 69.0)]
        {
            near("build", products * measured(Quantisation::None).build_seconds(products, on_server), build_s, 0.1);
            near("carry", products * measured(Quantisation::None).carry_seconds(on_server), carry_s, 0.1);
        }
        near("int8 disk", (DISK_BYTES + 1e5 * vectors.disk_bytes()) / 1e6, 554.0, 0.1);
        near("int8 memory", (MEMORY_BYTES + 1e5 * vectors.memory_bytes()) / 1e6, 308.0, 0.15);
        // Sixty megabytes of it are beside the products, and not in the model.
        near("int8 pinned", 1e5 * vectors.pinned_bytes() / 1e6, 208.0, 0.3);
        near("int8 build", 1e5 * vectors.build_seconds(1e5, false), 85.5, 0.1);
        near("int8 photo", vectors.search_ms(1e5, false, true, false), 0.84, 0.25);
        near("pinned", 1e6 * measured(Quantisation::None).pinned_bytes() / 1e6, 1060.0, 0.1);
    }

    #[test]
    fn filtered_searches_are_within_a_quarter_of_what_was_measured() {
        let vectors = measured(Quantisation::None);
        near("photo", vectors.search_ms(1e5, false, true, false), 0.64, 0.25);
        near("photo, a million", vectors.search_ms(1e6, false, true, false), 1.02, 0.25);
        near("words", vectors.search_ms(1e5, true, true, false), 4.61, 0.25);
        near("words, a million", vectors.search_ms(1e6, true, true, false), 5.32, 0.25);
        near("words, a million, p99", P99_OF_P50 * vectors.search_ms(1e6, true, true, false), 8.14, 0.25);
    }

    #[test]
    fn searches_of_a_server_are_within_a_quarter_of_what_was_measured() {
        let vectors = measured(Quantisation::None);
        for (products, measured) in [(1e5, [2.8, 9.8, 4.7, 24.0]), (1e6, [7.4, 22.0, 12.5, 62.0])] {
            let kinds = [(false, false), (true, false), (false, true), (true, true)];
            for ((words, filtered), measured) in kinds.into_iter().zip(measured) {
                near("server", vectors.search_ms(products, words, filtered, true), measured, 0.25);
            }
        }
        for (cores, on_server, busy) in
            [(1.0, true, 1.0), (2.0, true, 1.33), (16.0, true, 5.4), (64.0, true, 5.4), (16.0, false, 1.0)]
        {
            near("cores", search_cores(cores, on_server), busy, 0.02);
        }
    }

    #[test]
    fn more_dimensions_and_pictures_take_more_of_everything() {
        for quantisation in [Quantisation::None, Quantisation::Int8, Quantisation::Binary, Quantisation::Product] {
            let small = measured(quantisation);
            for large in [Vectors { dimensions: 792.0, ..small }, Vectors { pictures: 4.0, ..small }] {
                assert!(large.disk_bytes() > small.disk_bytes() && large.memory_bytes() > small.memory_bytes());
                assert!(large.add_seconds(1e6) > small.add_seconds(1e6));
                assert!(large.build_seconds(1e6, true) > small.build_seconds(1e6, true));
                assert!(large.search_ms(1e6, false, false, false) > small.search_ms(1e6, false, false, false));
                assert!(small.pinned_bytes() <= small.memory_bytes());
            }
        }
    }
}
