//! What is counted while a run goes on.
//!
//! Statuses and latencies are those of the requests that were due while it was measured, followed to their end.
//! Throughput counts what came in that time, whenever it was due: the backlog of an overloaded server neither flatters
//! nor hides it.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    ask::Outcome,
    mix::{Kind, Method},
    status::Status,
};

/// A request that was sent. Times are from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) kind: Kind,
    /// When it was due; in the closed loop, when it was sent.
    pub(crate) due: Duration,
    pub(crate) sent: Duration,
    /// Bytes of its framed message.
    pub(crate) bytes: usize,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Record {
    /// When measuring begins.
    pub(crate) begin: Duration,
    /// When it ends.
    pub(crate) end: Duration,
    pub(crate) deadline: Duration,
    pub(crate) kinds: BTreeMap<Kind, KindRecord>,
    /// Of refused searches.
    pub(crate) refused_latency: Histogram<u64>,
    pub(crate) refused_with_retry_info: u64,
    /// Of successes that came after their deadline, how long after it.
    pub(crate) late: Histogram<u64>,
    /// Successes without a product.
    pub(crate) empty: u64,
    /// Bytes of the messages that were sent.
    pub(crate) bytes_sent: u64,
    /// From due to sent: what the generator itself adds.
    pub(crate) lag: Histogram<u64>,
    /// Answers that came while it was measured, and those of them that are successes in time.
    pub(crate) answers_in_time: u64,
    pub(crate) successes_in_time: u64,
    /// The first message that came with a status.
    pub(crate) messages: BTreeMap<Status, String>,
    pub(crate) seconds: Vec<Second>,
}

/// Counts of one kind of query.
#[derive(Debug)]
pub(crate) struct KindRecord {
    pub(crate) statuses: BTreeMap<Status, u64>,
    /// Of successes.
    pub(crate) latency: Histogram<u64>,
}

/// Counts of one second.
#[derive(Debug)]
pub(crate) struct Second {
    /// Of the successes that were due in it. To two digits, which keeps an hour of seconds small.
    pub(crate) latency: Histogram<u32>,
    /// Of the answers that came in it, and of what was not sent.
    pub(crate) statuses: BTreeMap<Status, u64>,
}

/// An empty histogram of microseconds, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("the bounds of a histogram are right")
}

/// An hour: far longer than an answer is waited for.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;

impl Record {
    /// Measures from `begin` for `seconds`.
    pub(crate) fn new(begin: Duration, seconds: u32, deadline: Duration) -> Self {
        let second = || Second {
            latency: Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 2).expect("the bounds of a histogram are right"),
            statuses: BTreeMap::new(),
        };
        Self {
            begin,
            end: begin + Duration::from_secs(seconds.into()),
            deadline,
            kinds: BTreeMap::new(),
            refused_latency: histogram(),
            refused_with_retry_info: 0,
            late: histogram(),
            empty: 0,
            bytes_sent: 0,
            lag: histogram(),
            answers_in_time: 0,
            successes_in_time: 0,
            messages: BTreeMap::new(),
            seconds: (0..seconds).map(|_| second()).collect(),
        }
    }

    /// Ends measuring now, if it is not over; keeps whole seconds only.
    pub(crate) fn end_at(&mut self, now: Duration) {
        self.end = self.end.min(now.max(self.begin));
        self.seconds.truncate(usize::try_from(self.measured().as_secs()).unwrap_or(usize::MAX));
    }

    /// How long is measured.
    pub(crate) fn measured(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }

    /// Counts a request that was left out.
    pub(crate) fn not_sent(&mut self, kind: Kind, due: Duration) {
        if self.measures(due) {
            *self.kind(kind).statuses.entry(Status::NotSent).or_default() += 1;
            self.count_in_second(due, Status::NotSent);
        }
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&mut self, request: Sent, outcome: Outcome, at: Duration) {
        let Outcome { status, message, retry_info, empty } = outcome;
        let latency = at.saturating_sub(request.due);
        let late = latency.checked_sub(self.deadline).filter(|late| !late.is_zero());
        if self.measures(at) {
            self.answers_in_time += u64::from(status.is_answer());
            self.successes_in_time += u64::from(status == Status::OK && late.is_none());
            self.count_in_second(at, status);
        }
        if !self.measures(request.due) {
            return;
        }
        self.bytes_sent += u64::try_from(request.bytes).unwrap_or(u64::MAX);
        self.lag.saturating_record(micros(request.sent.saturating_sub(request.due)));
        let kind = self.kind(request.kind);
        *kind.statuses.entry(status).or_default() += 1;
        if status == Status::OK {
            kind.latency.saturating_record(micros(latency));
            if let Some(late) = late {
                self.late.saturating_record(micros(late));
            }
            self.empty += u64::from(empty);
            if let Some(second) = self.second(request.due) {
                second.latency.saturating_record(micros(latency));
            }
        } else if let Some(message) = message {
            self.messages.entry(status).or_insert(message);
        }
        // A batch is not refused as a whole: others of its inputs may have taken their time.
        if status == Status::REFUSED && request.kind.method() == Method::Search {
            self.refused_latency.saturating_record(micros(latency));
            self.refused_with_retry_info += u64::from(retry_info);
        }
    }

    fn measures(&self, time: Duration) -> bool {
        (self.begin..self.end).contains(&time)
    }

    fn kind(&mut self, kind: Kind) -> &mut KindRecord {
        self.kinds.entry(kind).or_insert_with(|| KindRecord { statuses: BTreeMap::new(), latency: histogram() })
    }

    fn second(&mut self, time: Duration) -> Option<&mut Second> {
        let second = time.checked_sub(self.begin)?.as_secs();
        self.seconds.get_mut(usize::try_from(second).ok()?)
    }

    fn count_in_second(&mut self, time: Duration, status: Status) {
        if let Some(second) = self.second(time) {
            *second.statuses.entry(status).or_default() += 1;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
