//! The search for the highest rate that keeps a promise.

use serde::Serialize;

use crate::{
    cli::RATE_MAX,
    report::{number, percent},
    summary::Summary,
};

/// Least share of requests that must succeed.
const SUCCEEDED_SHARE_MIN: f64 = 0.99;
/// The search ends when what held and what did not are this near: closer than runs of one rate are to each other.
const PRECISION: f64 = 1.05;
/// Lowest rate that is tried.
const RATE_MIN: f64 = 0.1;

/// Doubles a rate until it does not hold any more, then halves the distance.
#[derive(Debug)]
pub(crate) struct RateSearch {
    first: f64,
    held: Option<f64>,
    broke: Option<f64>,
}

impl RateSearch {
    /// Begins at a rate.
    pub(crate) fn new(first: f64) -> Self {
        Self { first, held: None, broke: None }
    }

    /// The rate to try next, in requests per second; nothing when the search is over.
    pub(crate) fn next(&self) -> Option<f64> {
        match (self.held, self.broke) {
            (None, None) => Some(self.first),
            (Some(held), None) => (held < RATE_MAX).then_some((2.0 * held).min(RATE_MAX)),
            (Some(held), Some(broke)) => (broke / held > PRECISION).then_some(f64::midpoint(held, broke)),
            (None, Some(broke)) => (broke > RATE_MIN).then_some((broke / 2.0).max(RATE_MIN)),
        }
    }

    /// Says whether a rate held.
    pub(crate) fn tried(&mut self, rate: f64, held: bool) {
        *(if held { &mut self.held } else { &mut self.broke }) = Some(rate);
    }

    /// The highest rate that held.
    pub(crate) fn found(&self) -> Option<f64> {
        self.held
    }
}

/// A rate that was tried.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    pub(crate) rate_per_second: f64,
    pub(crate) held: bool,
    pub(crate) summary: Summary,
}

impl Step {
    /// What came of it, in a line.
    pub(crate) fn describe(&self) -> String {
        let Summary { latency_ms, succeeded_share, .. } = &self.summary;
        let (rate, p99, share) =
            (number(Some(self.rate_per_second)), number(latency_ms.p99), percent(*succeeded_share));
        let verdict = if self.held { "holds" } else { "does not hold" };
        format!("{rate} per second: p99 {p99} ms, {share} succeeded: {verdict}")
    }
}

/// Whether a run kept the promise.
pub(crate) fn holds(summary: &Summary, p99_ms_max: f64) -> bool {
    summary.latency_ms.p99.is_some_and(|p99| p99 <= p99_ms_max)
        && summary.succeeded_share.is_some_and(|share| share >= SUCCEEDED_SHARE_MIN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ask::Outcome,
        mix::Kind,
        record::{Record, Sent},
        status::Status,
    };

    /// Searches a server whose p99 grows as that of one queue, without bound towards its capacity.
    fn search(first: f64, capacity: f64, p99_ms_max: f64) -> (Option<f64>, Vec<f64>) {
        let p99_ms = |rate: f64| if rate < capacity { 10.0 / (1.0 - rate / capacity) } else { f64::INFINITY };
        let mut search = RateSearch::new(first);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            assert!(tried.len() < 50, "{tried:?}");
            search.tried(rate, p99_ms(rate) <= p99_ms_max);
        }
        (search.found(), tried)
    }

    #[test]
    fn the_rate_is_found_within_the_precision_wherever_the_search_begins() {
        // 10 / (1 - r / 200) = 40 at r = 150.
        for first in [0.1, 1.0, 10.0, 149.0, 150.0, 151.0, 5000.0, RATE_MAX] {
            let (found, tried) = search(first, 200.0, 40.0);
            let found = found.unwrap();
            assert!(found <= 150.0 && found * PRECISION >= 150.0, "{found} after {tried:?}");
        }
    }

    #[test]
    fn it_doubles_first_and_bisects_then() {
        let (_, tried) = search(10.0, 200.0, 40.0);
        assert_eq!(tried, [10.0, 20.0, 40.0, 80.0, 160.0, 120.0, 140.0, 150.0, 155.0]);
    }

    #[test]
    fn a_server_that_never_holds_ends_the_search_without_a_rate() {
        let (found, tried) = search(10.0, 0.01, 40.0);
        assert_eq!(found, None);
        assert!(tried.len() < 10, "{tried:?}");
    }

    #[test]
    fn a_server_that_always_holds_ends_the_search_at_the_limit() {
        assert_eq!(search(10.0, f64::INFINITY, 40.0).0, Some(RATE_MAX));
    }

    #[test]
    fn a_fast_server_that_refuses_more_than_one_in_a_hundred_does_not_hold() {
        let summary = |refused: u32| {
            let mut record = Record::new(Duration::ZERO, 1, Duration::from_secs(1));
            for number in 0..100 {
                let due = Duration::from_millis(number);
                let request = Sent { kind: Kind::Text, due, sent: due, bytes: 1 };
                let status = if number < refused.into() { Status::REFUSED } else { Status::OK };
                let outcome = Outcome { status, message: None, retry_info: false, empty: false };
                record.ended(request, outcome, due + Duration::from_millis(5));
            }
            Summary::of(&record)
        };
        assert!(holds(&summary(0), 6.0) && holds(&summary(1), 6.0));
        assert!(!holds(&summary(2), 6.0) && !holds(&summary(0), 4.0));
        assert!(!holds(&Summary::of(&Record::new(Duration::ZERO, 1, Duration::ZERO)), 6.0), "nothing proves nothing");
    }
}
