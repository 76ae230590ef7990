//! How long a caller waits.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;
use vitrine_core::Invalid;

/// When to stop working on a request: shortly before its caller, or tonic's own timer, gives up on it, so that the
/// answer is DEADLINE_EXCEEDED and not CANCELLED; at the latest after `max`.
///
/// Source of the header's form: gRPC over HTTP/2, `Timeout`.
pub(super) fn of(metadata: &MetadataMap, max: Duration) -> Result<Instant, Invalid> {
    let Some(header) = metadata.get("grpc-timeout") else { return Ok(Instant::now() + max) };
    let timeout = header.to_str().ok().and_then(parse);
    let timeout =
        timeout.ok_or_else(|| Invalid::new("grpc-timeout", "is not up to 8 digits and one of H M S m u n"))?;
    let margin = (timeout / 20).min(Duration::from_millis(5));
    Ok(Instant::now() + timeout.saturating_sub(margin).min(max))
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
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_hours(2)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for header in ["", "S", "123456789S", "1s", "-1S", "1.5S", "1€"] {
            assert_eq!(parse(header), None, "{header}");
        }
    }
}
