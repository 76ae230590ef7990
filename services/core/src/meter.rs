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
const POOL_CALLS: &str = "vitrine_pool_calls_total";
const POOL_CALL_SECONDS: &str = "vitrine_pool_call_seconds";
const POOL_CALL_SIZE: &str = "vitrine_pool_call_size";
const POOL_FAILURES: &str = "vitrine_pool_failures_total";
const POOL_RETRIES: &str = "vitrine_pool_retries_total";
const POOL_HEALTHY: &str = "vitrine_pool_endpoint_healthy";
const INDEX_QUERY_SECONDS: &str = "vitrine_index_query_seconds";

/// Says to the recorder what each of them is.
pub fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by method and gRPC code.");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From a request's first byte to its answer, by method.");
    describe_gauge!(REQUESTS_IN_FLIGHT, "Requests let in and not answered yet.");
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
    describe_counter!(
        POOL_CALLS,
        "Calls of the embedding pool, by endpoint, counted from 0 as they are listed, and code."
    );
    describe_histogram!(POOL_CALL_SECONDS, Unit::Seconds, "A call of the embedding pool, by endpoint.");
    describe_histogram!(POOL_CALL_SIZE, "Photos or texts in a call of the embedding pool, by endpoint.");
    describe_counter!(POOL_FAILURES, "Times that an endpoint of the embedding pool was left out for a pause.");
    describe_counter!(
        POOL_RETRIES,
        "Photos and texts that were asked for a second time, of another endpoint if there was one."
    );
    describe_gauge!(POOL_HEALTHY, "1 for an endpoint of the embedding pool that is asked, 0 for one that is left out.");
    describe_histogram!(
        INDEX_QUERY_SECONDS,
        Unit::Seconds,
        "What Qdrant itself took for one call: to estimate how many pass a filter, to find the nearest, or to read what was found."
    );
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
pub fn queue_refused(queue: &'static str, lane: &'static str) {
    counter!(QUEUE_REFUSALS, "queue" => queue, "lane" => lane).increment(1);
}

/// A queue forgot items that nobody wants any more.
pub fn queue_dropped(queue: &'static str, count: usize) {
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

/// An endpoint of the embedding pool was asked for so many photos or texts.
pub fn pool_called(endpoint: usize, code: String, size: usize, time: Duration) {
    let endpoint = endpoint.to_string();
    counter!(POOL_CALLS, "endpoint" => endpoint.clone(), "code" => code).increment(1);
    histogram!(POOL_CALL_SIZE, "endpoint" => endpoint.clone()).record(u32::try_from(size).unwrap_or(u32::MAX));
    histogram!(POOL_CALL_SECONDS, "endpoint" => endpoint).record(time);
}

/// An endpoint of the embedding pool is left out for a pause.
pub fn pool_failed(endpoint: usize) {
    counter!(POOL_FAILURES, "endpoint" => endpoint.to_string()).increment(1);
}

/// So many photos and texts are asked for a second time.
pub fn pool_retried(size: usize) {
    counter!(POOL_RETRIES).increment(u64::try_from(size).unwrap_or(u64::MAX));
}

/// An endpoint of the embedding pool is asked from now on, or left out.
pub fn pool_healthy(endpoint: usize, healthy: bool) {
    gauge!(POOL_HEALTHY, "endpoint" => endpoint.to_string()).set(if healthy { 1.0 } else { 0.0 });
}

/// Qdrant answered one call of a search or a look-up.
pub fn index_queried(time: Duration) {
    histogram!(INDEX_QUERY_SECONDS).record(time);
}
