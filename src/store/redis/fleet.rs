//! What the fleet tells of itself in Redis, beside [heartbeats](super::Heartbeat): names and calls.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `<prefix>:<domain>:metrics` | hash | what all replicas together counted for a domain |
//! | `<prefix>:<domain>:alerts` | stream | alerts of replicas that serve it, begun and ended |
//! | `<prefix>:domains` | sorted set | the domains with such keys, and when each was last told of |
//!
//! Domains stand as operators wrote them, whatever characters they have: what follows them is fixed,
//! so no two names can be confused, nor with a counter's, which ends in its window. Each is one key
//! and written in one call, so a Cluster may have each anywhere. All expire.

use std::time::Duration;

use bytes::Bytes;

/// One call of [`FLEET`](super::FLEET), for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetCall {
    key: String,
    arguments: Vec<Bytes>,
}

impl FleetCall {
    /// For how long what was written stays if nobody writes again.
    pub const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

    /// Entries that a domain's history keeps, give or take.
    pub const MOST_ALERTS: usize = 1_000;

    /// Domains that are known by name.
    pub const MOST_DOMAINS: usize = 10_000;

    /// Adds to a domain's counts; those that are 0 are left out.
    pub fn add<'a>(
        prefix: &str,
        domain: &str,
        counts: impl IntoIterator<Item = (&'a str, u64)>,
    ) -> Self {
        let mut call = Self::new("add", metrics_key(prefix, domain));
        for (field, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            call.push(field);
            // As much as one addition can be.
            call.push(i64::try_from(count).unwrap_or(i64::MAX).to_string());
        }
        call
    }

    /// Says that these domains were seen now.
    pub fn seen<'a>(prefix: &str, domains: impl IntoIterator<Item = &'a str>) -> Self {
        let mut call = Self::new("seen", domains_key(prefix));
        call.push(Self::MOST_DOMAINS.to_string());
        domains.into_iter().for_each(|domain| call.push(domain));
        call
    }

    /// Appends to a domain's history.
    #[must_use]
    pub fn note(prefix: &str, domain: &str, fields: &[(&str, String)]) -> Self {
        let mut call = Self::new("note", alerts_key(prefix, domain));
        call.push(Self::MOST_ALERTS.to_string());
        for (field, value) in fields {
            call.push(*field);
            call.push(value.as_str());
        }
        call
    }

    /// `KEYS[1]`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// `ARGV`.
    #[must_use]
    pub fn arguments(&self) -> &[Bytes] {
        &self.arguments
    }

    fn new(what: &'static str, key: String) -> Self {
        let lifetime = Self::LIFETIME.as_millis().to_string();
        Self {
            key,
            arguments: vec![Bytes::from_static(what.as_bytes()), lifetime.into()],
        }
    }

    fn push(&mut self, argument: impl Into<String>) {
        self.arguments.push(Bytes::from(argument.into()));
    }
}

/// The key of a domain's counts.
#[must_use]
pub fn metrics_key(prefix: &str, domain: &str) -> String {
    format!("{prefix}:{domain}:metrics")
}

/// The key of a domain's history of alerts.
#[must_use]
pub fn alerts_key(prefix: &str, domain: &str) -> String {
    format!("{prefix}:{domain}:alerts")
}

/// The key of the list of domains.
#[must_use]
pub fn domains_key(prefix: &str) -> String {
    format!("{prefix}:domains")
}
