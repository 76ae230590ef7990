//! What is counted and timed, by the name that Prometheus knows it by.
//!
//! The numbers go to whatever recorder the process has installed; without one they cost next to nothing.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Requests answered, by `method` and gRPC `code`.
pub const REQUESTS: &str = "vitrine_requests_total";
/// From a request's first byte to its answer, by `method`.
pub const REQUEST_SECONDS: &str = "vitrine_request_seconds";
/// Requests in work.
pub const REQUESTS_IN_FLIGHT: &str = "vitrine_requests_in_flight";

const CACHE_HITS: &str = "vitrine_cache_hits_total";
const CACHE_MISSES: &str = "vitrine_cache_misses_total";
const CACHE_EVICTIONS: &str = "vitrine_cache_evictions_total";
const CACHE_BYTES: &str = "vitrine_cache_bytes";
const QUEUE_REFUSALS: &str = "vitrine_queue_refusals_total";
const QUEUE_DROPS: &str = "vitrine_queue_drops_total";
const BATCH_WAIT_SECONDS: &str = "vitrine_batch_wait_seconds";
const BATCH_SIZE: &str = "vitrine_batch_size";
const BATCH_WORK_SECONDS: &str = "vitrine_batch_work_seconds";
const COMPUTE_WAIT_SECONDS: &str = "vitrine_compute_wait_seconds";
const COMPUTE_WORK_SECONDS: &str = "vitrine_compute_work_seconds";
const SEARCH_SECONDS: &str = "vitrine_search_seconds";

/// Says to the recorder what each of them is.
pub fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by method and gRPC code.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From a request's first byte to its answer, by method.");
    describe_gauge!(REQUESTS_IN_FLIGHT, "Requests in work.");
    describe_counter!(CACHE_HITS, "Look-ups that a cache answered, or that joined one in flight.");
    describe_counter!(CACHE_MISSES, "Look-ups that had to be computed. Requests that bypass a cache do not count.");
    describe_counter!(CACHE_EVICTIONS, "Entries dropped for room or age.");
    describe_gauge!(CACHE_BYTES, Unit::Bytes, "Weight of what a cache holds, as of its last miss.");
    describe_counter!(QUEUE_REFUSALS, "Items refused since a queue was full or too long for their deadline, by lane.");
    describe_counter!(QUEUE_DROPS, "Items dropped from a queue since their caller left or their deadline passed.");
    describe_histogram!(BATCH_WAIT_SECONDS, Unit::Seconds, "What an item waited before its batch was formed.");
    describe_histogram!(BATCH_SIZE, "Items in a batch.");
    describe_histogram!(BATCH_WORK_SECONDS, Unit::Seconds, "Inference of a whole batch.");
    describe_histogram!(COMPUTE_WAIT_SECONDS, Unit::Seconds, "What a piece of work waited for a thread of a pool.");
    describe_histogram!(COMPUTE_WORK_SECONDS, Unit::Seconds, "What a piece of work took a thread of a pool.");
    describe_histogram!(SEARCH_SECONDS, Unit::Seconds, "A search by part: embedding, index.");
}

/// A cache answered, or did not.
pub(crate) fn cache_answered(cache: &'static str, hit: bool, bytes: impl FnOnce() -> u64) {
    if hit {
        counter!(CACHE_HITS, "cache" => cache).increment(1);
    } else {
        counter!(CACHE_MISSES, "cache" => cache).increment(1);
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "exact below 8 PiB")]
        gauge!(CACHE_BYTES, "cache" => cache).set(bytes() as f64);
    }
}

/// A cache dropped an entry for room or age.
pub(crate) fn cache_evicted(cache: &'static str) {
    counter!(CACHE_EVICTIONS, "cache" => cache).increment(1);
}

/// A queue let an item in no more.
pub(crate) fn queue_refused(queue: &'static str, lane: &'static str) {
    counter!(QUEUE_REFUSALS, "queue" => queue, "lane" => lane).increment(1);
}

/// A queue forgot items that nobody wants any more.
pub(crate) fn queue_dropped(queue: &'static str, count: usize) {
    if count > 0 {
        counter!(QUEUE_DROPS, "queue" => queue).increment(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// A batch was formed of items that had waited so long.
pub(crate) fn batch_formed(queue: &'static str, waits: impl ExactSizeIterator<Item = Duration>) {
    let size = u32::try_from(waits.len()).unwrap_or(u32::MAX);
    histogram!(BATCH_SIZE, "queue" => queue).record(size);
    let wait_seconds = histogram!(BATCH_WAIT_SECONDS, "queue" => queue);
    waits.for_each(|wait| wait_seconds.record(wait));
}

/// A batch was worked off.
pub(crate) fn batch_done(queue: &'static str, time: Duration) {
    histogram!(BATCH_WORK_SECONDS, "queue" => queue).record(time);
}

/// A pool did a piece of work.
pub(crate) fn compute_done(pool: &'static str, wait: Duration, work: Duration) {
    histogram!(COMPUTE_WAIT_SECONDS, "pool" => pool).record(wait);
    histogram!(COMPUTE_WORK_SECONDS, "pool" => pool).record(work);
}

/// A part of a search was done.
pub(crate) fn searched(part: &'static str, time: Duration) {
    histogram!(SEARCH_SECONDS, "part" => part).record(time);
}
