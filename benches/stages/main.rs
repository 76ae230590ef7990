//! What each stage of a query costs by itself: pictures, texts, towers, caches, filters, the index.
//!
//! ```sh
//! make bench                                               # all, in less than ten minutes
//! VITRINE_BENCH_MODEL=path/to/folder make bench            # with another model than the bundled one
//! cargo bench -p vitrine-benches --bench stages -- decode  # those with "decode" in their name
//! ```
//!
//! Compare rows of one run with each other, not with another machine's.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is no interface, and one that panics has failed")]

mod caches;
mod filters;
mod index;
mod model;
mod photos;
mod pictures;
mod towers;

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use tikv_jemallocator::Jemalloc;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A group whose benches take about three seconds each, or ten runs of what is slower.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group
}

criterion_group!(stages, pictures::bench, towers::bench, caches::bench, filters::bench, index::bench);
criterion_main!(stages);
