//! How long a caller waits: the `grpc-timeout` header.

use std::time::Duration;

use http::HeaderMap;

/// How long the message of a call may take to come. A caller that has given up needs no answer, and
/// nobody may hold a place among the calls under way for longer than [`LONGEST`].
pub(super) fn patience(headers: &HeaderMap) -> Duration {
    let header = headers
        .get(GRPC_TIMEOUT)
        .and_then(|value| parse(value.as_bytes()));
    header.map_or(LONGEST, |timeout| timeout.min(LONGEST))
}

/// At most eight digits and a unit, as gRPC over HTTP/2 defines it. Anything else is as good as none.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = u64::from(digit.checked_sub(b'0')?);
        (digit < 10).then(|| number.saturating_mul(10).saturating_add(digit))
    })?;
    Some(match unit {
        b'H' => Duration::from_secs(number.saturating_mul(3600)),
        b'M' => Duration::from_secs(number.saturating_mul(60)),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

const GRPC_TIMEOUT: &str = "grpc-timeout";

const MOST_DIGITS: usize = 8;

/// Envoy sends a call in one go; a message that takes longer than this never ends.
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, want) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(want), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in ["", "m", "5", "5x", "-5m", "5 m", "123456789m", "0x5m"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn nobody_is_waited_for_too_long() {
        let mut headers = HeaderMap::new();
        assert_eq!(patience(&headers), LONGEST);
        headers.insert(GRPC_TIMEOUT, "20M".parse().unwrap());
        assert_eq!(patience(&headers), LONGEST);
        headers.insert(GRPC_TIMEOUT, "20m".parse().unwrap());
        assert_eq!(patience(&headers), Duration::from_millis(20));
    }
}
