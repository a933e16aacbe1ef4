//! Response headers that tell the client where it stands. Opt-in: Envoy has `x-ratelimit-*` of its
//! own, and appends ours to the response without replacing anything.

use std::fmt::Write;

use envoy_types::pb::envoy::config::core::v3::HeaderValue;

use super::HeaderStyle;
use crate::limiter::{Answer, Ruling, Status};

/// The headers for `answer`; none if no descriptor had a limit.
pub(super) fn headers(answer: &Answer<'_>, style: HeaderStyle) -> Vec<HeaderValue> {
    match style {
        HeaderStyle::None => Vec::new(),
        HeaderStyle::Reference => reference(answer),
        HeaderStyle::Ietf => ietf(answer),
    }
}

/// The three headers of envoyproxy/ratelimit, under its default names.
fn reference(answer: &Answer<'_>) -> Vec<HeaderValue> {
    let Some((_, ruling)) = most_restrictive(answer) else {
        return Vec::new();
    };
    vec![
        header("RateLimit-Limit", ruling.quota.limit().to_string()),
        header("RateLimit-Remaining", ruling.remaining().to_string()),
        header("RateLimit-Reset", ruling.reset_seconds().to_string()),
    ]
}

/// `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11: every policy that
/// applied, and where the most restrictive one stands.
fn ietf(answer: &Answer<'_>) -> Vec<HeaderValue> {
    let Some((status, ruling)) = most_restrictive(answer) else {
        return Vec::new();
    };
    let mut policies: Vec<String> = Vec::new();
    for (status, ruling) in limited(answer) {
        let window = ruling.quota.window().millis() / 1000;
        let policy = format!("{};q={};w={window}", name(status), ruling.quota.limit());
        if !policies.contains(&policy) {
            policies.push(policy);
        }
    }
    let state = format!(
        "{};r={};t={}",
        name(status),
        ruling.remaining(),
        ruling.reset_seconds()
    );
    vec![
        header("RateLimit-Policy", policies.join(", ")),
        header("RateLimit", state),
    ]
}

fn limited<'a, 'p>(answer: &'a Answer<'p>) -> impl Iterator<Item = (&'a Status<'p>, &'a Ruling)> {
    answer
        .statuses
        .iter()
        .filter_map(|status| Some((status, status.ruling.as_ref()?)))
}

/// The limit that the client should look at, chosen as envoyproxy/ratelimit does: the last one
/// that denies; else the first with the fewest hits left.
fn most_restrictive<'a, 'p>(answer: &'a Answer<'p>) -> Option<(&'a Status<'p>, &'a Ruling)> {
    let mut choice = None;
    let mut fewest = u32::MAX;
    for (status, ruling) in limited(answer) {
        if status.is_over() && !status.is_quota() {
            choice = Some((status, ruling));
            fewest = 0;
        } else if ruling.remaining() < fewest {
            choice = Some((status, ruling));
            fewest = ruling.remaining();
        }
    }
    choice
}

/// The policy's name as a Structured Fields string (RFC 9651): printable ASCII, quoted.
fn name(status: &Status<'_>) -> String {
    let text = match status.rule() {
        Some(rule) => rule.name.as_deref().unwrap_or(&rule.path),
        None => "override",
    };
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                quoted.push('\\');
                quoted.push(char::from(byte));
            }
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _infallible = write!(quoted, "%{byte:02X}");
            }
        }
    }
    quoted.push('"');
    quoted
}

fn header(key: &str, value: String) -> HeaderValue {
    HeaderValue {
        key: key.to_owned(),
        value,
        ..HeaderValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::testing::{limited_status, unmatched_status};

    fn answer(statuses: Vec<Status<'_>>) -> Answer<'_> {
        Answer {
            domain: None,
            denied: false,
            statuses: statuses.into(),
        }
    }

    fn pairs(headers: &[HeaderValue]) -> Vec<(&str, &str)> {
        headers
            .iter()
            .map(|header| (header.key.as_str(), header.value.as_str()))
            .collect()
    }

    #[test]
    fn no_limit_no_headers() {
        let answer = answer(vec![unmatched_status()]);
        assert!(headers(&answer, HeaderStyle::Reference).is_empty());
        assert!(headers(&answer, HeaderStyle::Ietf).is_empty());
    }

    #[test]
    fn the_fewest_left_speaks_unless_one_denies() {
        let statuses = vec![limited_status(10, 5, false), limited_status(20, 3, false)];
        let headers = headers(&answer(statuses), HeaderStyle::Reference);
        assert_eq!(
            pairs(&headers),
            [
                ("RateLimit-Limit", "20"),
                ("RateLimit-Remaining", "3"),
                ("RateLimit-Reset", "2")
            ]
        );
        let statuses = vec![limited_status(7, 0, false), limited_status(9, 0, true)];
        let headers = super::headers(&answer(statuses), HeaderStyle::Reference);
        assert_eq!(pairs(&headers)[0], ("RateLimit-Limit", "9"));
    }

    #[test]
    fn ietf_lists_every_policy_once_and_the_state_of_one() {
        let statuses = vec![limited_status(10, 5, false), limited_status(20, 3, false)];
        let headers = headers(&answer(statuses), HeaderStyle::Ietf);
        assert_eq!(
            pairs(&headers),
            [
                (
                    "RateLimit-Policy",
                    "\"override\";q=10;w=60, \"override\";q=20;w=60"
                ),
                ("RateLimit", "\"override\";r=3;t=2"),
            ]
        );
    }
}
