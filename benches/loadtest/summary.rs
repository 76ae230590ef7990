//! What a run comes to.

use std::collections::BTreeMap;

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use crate::{
    mix::Kind,
    record::{Record, histogram},
    status::Status,
};

/// A run in numbers. Latencies are in ms and, but for those of refusals, of successes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// How long it was measured.
    pub(crate) seconds: f64,
    /// Requests that were due, per second.
    pub(crate) offered_per_second: f64,
    /// Answers that came, of whatever status, per second.
    pub(crate) achieved_per_second: f64,
    /// Successes that came within their deadline, per second.
    pub(crate) goodput_per_second: f64,
    /// Requests that were due.
    pub(crate) requests: u64,
    pub(crate) succeeded: u64,
    /// Of the requests; nothing without requests.
    pub(crate) succeeded_share: Option<f64>,
    /// Successes that came after their own deadline, as the client saw it.
    pub(crate) succeeded_late: u64,
    /// How long after it.
    pub(crate) late_by_ms: Latency,
    /// Successes without a product.
    pub(crate) succeeded_empty: u64,
    /// Bytes of the messages that were sent.
    pub(crate) bytes_sent: u64,
    pub(crate) statuses: BTreeMap<Status, u64>,
    /// The first message that came with a status.
    pub(crate) first_messages: BTreeMap<Status, String>,
    pub(crate) latency_ms: Latency,
    pub(crate) kinds: BTreeMap<Kind, KindSummary>,
    pub(crate) refused: Refused,
    /// From due to sent: how late the generator itself was.
    pub(crate) send_lag_ms: Latency,
    pub(crate) per_second: Vec<SecondSummary>,
}

/// One kind of query.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KindSummary {
    pub(crate) requests: u64,
    pub(crate) statuses: BTreeMap<Status, u64>,
    pub(crate) latency_ms: Latency,
}

/// Searches that the server refused with `RESOURCE_EXHAUSTED`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Refused {
    pub(crate) requests: u64,
    /// How many said when to try again.
    pub(crate) with_retry_info: u64,
    pub(crate) latency_ms: Latency,
}

/// One second.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SecondSummary {
    /// Of the successes that were due in it, in ms.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// Of what came in it.
    pub(crate) statuses: BTreeMap<Status, u64>,
}

/// A distribution in ms; nothing where there are no samples.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p99_9: Option<f64>,
    pub(crate) p99_99: Option<f64>,
    pub(crate) max: Option<f64>,
    /// Pairs of nines and latency: 1 nine is 90 %, 2 are 99 %. As far as there are samples, and to 99.99 %.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Summary {
    /// Sums a record up.
    pub(crate) fn of(record: &Record) -> Self {
        let seconds = record.measured().as_secs_f64();
        let per_second = |count| if seconds > 0.0 { real(count) / seconds } else { 0.0 };
        let mut statuses = BTreeMap::new();
        let mut latency = histogram();
        for kind in record.kinds.values() {
            for (status, count) in &kind.statuses {
                *statuses.entry(*status).or_default() += count;
            }
            latency.add(&kind.latency).expect("histograms of the same bounds add up");
        }
        let requests = statuses.values().sum();
        let count = |status| statuses.get(&status).copied().unwrap_or(0);
        let succeeded = count(Status::OK);
        Self {
            seconds,
            offered_per_second: per_second(requests),
            achieved_per_second: per_second(record.answers_in_time),
            goodput_per_second: per_second(record.successes_in_time),
            requests,
            succeeded,
            succeeded_share: (requests > 0).then(|| real(succeeded) / real(requests)),
            succeeded_late: record.late.len(),
            late_by_ms: Latency::of(&record.late),
            succeeded_empty: record.empty,
            bytes_sent: record.bytes_sent,
            refused: Refused {
                requests: record.refused_latency.len(),
                with_retry_info: record.refused_with_retry_info,
                latency_ms: Latency::of(&record.refused_latency),
            },
            statuses,
            first_messages: record.messages.clone(),
            latency_ms: Latency::of(&latency),
            kinds: record
                .kinds
                .iter()
                .map(|(kind, counts)| {
                    let requests = counts.statuses.values().sum();
                    let latency_ms = Latency::of(&counts.latency);
                    (*kind, KindSummary { requests, statuses: counts.statuses.clone(), latency_ms })
                })
                .collect(),
            send_lag_ms: Latency::of(&record.lag),
            per_second: record
                .seconds
                .iter()
                .map(|second| SecondSummary {
                    p50_ms: quantile_ms(&second.latency, 0.5),
                    p99_ms: quantile_ms(&second.latency, 0.99),
                    statuses: second.statuses.clone(),
                })
                .collect(),
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let quantile = |quantile| quantile_ms(histogram, quantile);
        let count = histogram.len();
        let nines = (0..=80).map(|step| f64::from(step) / 20.0);
        // Beyond one in `count` every quantile is the maximum.
        let nines = nines.take_while(|nines| 10_f64.powf(*nines) <= real(count));
        Self {
            count,
            mean: (count > 0).then(|| histogram.mean() / 1e3),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            p99_99: quantile(0.9999),
            max: quantile(1.0),
            curve: nines.filter_map(|nines| Some((nines, quantile(1.0 - 10_f64.powf(-nines))?))).collect(),
        }
    }
}

/// A quantile of a histogram of microseconds, in ms.
pub(crate) fn quantile_ms<C: Counter>(histogram: &Histogram<C>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| real(histogram.value_at_quantile(quantile)) / 1e3)
}

/// A count to calculate with.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "exact below 2⁵³, which no count here reaches")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;
    use crate::{ask::Outcome, record::Sent};

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn outcome(status: Status) -> Outcome {
        Outcome { status, message: Some("said".to_owned()), retry_info: status == Status::REFUSED, empty: false }
    }

    fn near(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found / expected - 1.0).abs() < 0.001)
    }

    /// Ten seconds after two of warm-up, with a deadline of one second.
    fn record() -> Record {
        Record::new(2 * SECOND, 10, SECOND)
    }

    #[test]
    fn a_batch_with_a_refused_input_is_no_refusal_of_a_request() {
        let mut record = record();
        let batch = Sent { kind: Kind::Bulk, ..photo(3 * SECOND) };
        record.ended(batch, outcome(Status::REFUSED), 3 * SECOND + ms(700));
        let summary = Summary::of(&record);
        assert_eq!((summary.refused.requests, summary.statuses.get(&Status::REFUSED)), (0, Some(&1)));
    }

    fn photo(due: Duration) -> Sent {
        Sent { kind: Kind::Photo, due, sent: due + ms(1), bytes: 100 }
    }

    #[test]
    fn percentiles_of_a_known_sequence_are_its_percentiles() {
        let mut record = record();
        for latency in 1..=1000 {
            let due = 2 * SECOND + ms(latency);
            record.ended(photo(due), outcome(Status::OK), due + ms(latency));
        }
        let latency = Summary::of(&record).latency_ms;
        let found = [latency.p50, latency.p90, latency.p95, latency.p99, latency.p99_9, latency.p99_99, latency.max];
        for (found, expected) in found.into_iter().zip([500.0, 900.0, 950.0, 990.0, 999.0, 1000.0, 1000.0]) {
            assert!(near(found, expected), "{found:?} for {expected}");
        }
        assert!(near(latency.mean, 500.5), "{:?}", latency.mean);
        assert_eq!(latency.count, 1000);
        let last = latency.curve.last().unwrap();
        assert!(
            (last.0 - 3.0).abs() < 1e-9 && near(Some(last.1), 999.0),
            "no more nines than there are samples: {last:?}"
        );
    }

    #[test]
    fn latency_counts_from_the_due_time_and_includes_the_wait_to_be_sent() {
        let mut record = record();
        let request = Sent { kind: Kind::Text, due: 3 * SECOND, sent: 3 * SECOND + ms(400), bytes: 1 };
        record.ended(request, outcome(Status::OK), 3 * SECOND + ms(500));
        let summary = Summary::of(&record);
        assert!(near(summary.latency_ms.p50, 500.0));
        assert!(near(summary.send_lag_ms.p50, 400.0));
    }

    #[test]
    fn rates_count_what_came_while_measured_and_goodput_only_successes_in_time() {
        let mut record = record();
        // Due in the warm-up, answered in the window: throughput, but no request of this run.
        record.ended(photo(ms(1500)), outcome(Status::OK), ms(2400));
        // 20 successes, one of which comes after its deadline, and five refusals.
        for number in 0..20 {
            let due = ms(2000 + 100 * number);
            let latency = if number == 0 { ms(1500) } else { ms(20) };
            record.ended(photo(due), outcome(Status::OK), due + latency);
        }
        for number in 0..5 {
            let due = ms(5000 + number);
            record.ended(photo(due), outcome(Status::REFUSED), due + ms(1));
        }
        // Answered after the window: a request, but no throughput.
        record.ended(photo(ms(11_990)), outcome(Status::OK), ms(12_100));
        record.ended(photo(ms(11_000)), outcome(Status::ConnectionLost), ms(11_001));
        record.not_sent(Kind::Photo, ms(11_500));
        // Due when it is over: neither.
        record.ended(photo(ms(12_000)), outcome(Status::OK), ms(12_020));

        let summary = Summary::of(&record);
        assert_eq!((summary.requests, summary.succeeded, summary.succeeded_late), (28, 21, 1));
        assert!(near(summary.late_by_ms.max, 500.0));
        let rates = [summary.offered_per_second, summary.achieved_per_second, summary.goodput_per_second];
        for (rate, expected) in rates.into_iter().zip([2.8, 2.6, 2.0]) {
            assert!((rate - expected).abs() < 1e-9, "{rate} for {expected}");
        }
        assert_eq!(summary.bytes_sent, 27 * 100, "what was not sent has no bytes");
        assert_eq!(summary.refused.requests, 5);
        assert_eq!(summary.refused.with_retry_info, 5);
        assert!(near(summary.refused.latency_ms.max, 1.0));
        let counts: Vec<_> = summary.statuses.iter().map(|(status, count)| (status.name(), *count)).collect();
        assert_eq!(counts, [("OK", 21), ("RESOURCE_EXHAUSTED", 5), ("CONNECTION_LOST", 1), ("NOT_SENT", 1)]);
    }

    #[test]
    fn all_kinds_are_the_sum_of_each() {
        let mut record = record();
        for (kind, status) in [(Kind::Photo, Status::OK), (Kind::Text, Status::OK), (Kind::Text, Code::Internal.into())]
        {
            record.ended(Sent { kind, ..photo(3 * SECOND) }, outcome(status), 3 * SECOND + ms(10));
        }
        let summary = Summary::of(&record);
        assert_eq!((summary.requests, summary.latency_ms.count), (3, 2));
        let kinds: Vec<_> = summary.kinds.values().map(|kind| (kind.requests, kind.latency_ms.count)).collect();
        assert_eq!(kinds, [(1, 1), (2, 1)]);
        assert_eq!(summary.first_messages.get(&Code::Internal.into()).map(String::as_str), Some("said"));
    }

    #[test]
    fn a_run_that_ends_early_is_divided_by_the_time_it_had() {
        let mut record = record();
        for number in 0..10 {
            let due = ms(2000 + 250 * number);
            record.ended(photo(due), outcome(Status::OK), due + ms(20));
        }
        record.end_at(ms(4500));
        let summary = Summary::of(&record);
        assert!((summary.offered_per_second - 4.0).abs() < 1e-9);
        assert_eq!(summary.per_second.len(), 2);
    }

    #[test]
    fn a_run_without_requests_has_no_numbers_instead_of_wrong_ones() {
        let mut record = record();
        record.end_at(SECOND);
        let summary = Summary::of(&record);
        assert_eq!((summary.requests, summary.succeeded_share, summary.latency_ms.p99), (0, None, None));
        assert!(summary.offered_per_second.abs() < f64::EPSILON && summary.per_second.is_empty());
    }
}
