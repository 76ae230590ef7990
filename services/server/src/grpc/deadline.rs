//! How long a caller waits.

use std::time::{Duration, Instant};

use http::HeaderMap;
use vitrine_core::Invalid;

/// Most time kept back from the caller's deadline for the answer to be made and to arrive.
const MARGIN_MAX: Duration = Duration::from_millis(5);

/// Until when a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline {
    /// When to stop working on it and answer with what there is.
    pub(super) work: Instant,
    /// When to answer that the deadline passed, whatever is still going on: shortly before the caller, or tonic's own
    /// timer, gives up, so that the answer is DEADLINE_EXCEEDED and not CANCELLED.
    pub(super) answer: Instant,
}

impl Deadline {
    /// What the headers of a request that came `now` ask for, at most `max`.
    ///
    /// Source of the header's form: gRPC over HTTP/2, `Timeout`.
    pub(super) fn of(headers: &HeaderMap, max: Duration, now: Instant) -> Result<Self, Invalid> {
        let (work, margin) = match headers.get("grpc-timeout") {
            None => (max, MARGIN_MAX),
            Some(header) => {
                let timeout = header.to_str().ok().and_then(parse);
                let timeout = timeout
                    .ok_or_else(|| Invalid::new("grpc-timeout", "is not up to 8 digits and one of H M S m u n"))?;
                let margin = (timeout / 20).min(MARGIN_MAX);
                (timeout.saturating_sub(margin).min(max), margin)
            }
        };
        Ok(Self { work: now + work, answer: now + work + margin / 2 })
    }
}

fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_hours(2)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for header in ["", "S", "123456789S", "1s", "-1S", "1.5S", "1€"] {
            assert_eq!(parse(header), None, "{header}");
        }
    }

    #[test]
    fn work_ends_before_the_answer_and_the_answer_before_the_caller_leaves() {
        let (now, max) = (Instant::now(), Duration::from_secs(10));
        let of = |timeout: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(timeout));
            Deadline::of(&headers, max, now).unwrap()
        };
        let micros = |count| now + Duration::from_micros(count);
        assert_eq!(of("1S"), Deadline { work: micros(995_000), answer: micros(997_500) });
        assert_eq!(of("20m"), Deadline { work: micros(19_000), answer: micros(19_500) });
        assert_eq!(of("1H"), Deadline { work: micros(10_000_000), answer: micros(10_002_500) });
        assert_eq!(Deadline::of(&HeaderMap::new(), max, now).unwrap(), of("1H"));
    }
}
