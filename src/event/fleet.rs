//! What a replica tells the others of itself, and whoever looks at the fleet.

use std::sync::Arc;

/// What was counted for a domain by this process, ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainTotals {
    /// The domain, as an operator wrote it.
    pub domain: Arc<str>,
    /// The counts.
    pub totals: Totals,
}

/// Counts of one domain, one for each [`Total`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; Total::ALL.len()]);

impl Totals {
    /// One of them.
    #[must_use]
    pub fn get(&self, total: Total) -> u64 {
        self.0.get(total.index()).copied().unwrap_or_default()
    }

    /// Adds to one of them.
    pub fn add(&mut self, total: Total, count: u64) {
        if let Some(known) = self.0.get_mut(total.index()) {
            *known = known.saturating_add(count);
        }
    }

    /// All of both.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        let mut sum = *self;
        for total in Total::ALL {
            sum.add(total, more.get(total));
        }
        sum
    }

    /// What has come since it was `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut more = Self::default();
        for total in Total::ALL {
            more.add(total, self.get(total).saturating_sub(before.get(total)));
        }
        more
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}

/// What the fleet adds up for each domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Total {
    /// Queries that passed.
    Allowed,
    /// Calls to the shared store that carried queries of the domain.
    Batches,
    /// Those of these calls that failed.
    BatchFailures,
    /// Descriptors that were decided in the process, without the shared store.
    CacheHits,
    /// Descriptors that the shared store decided.
    CacheMisses,
    /// Queries that were denied.
    Denied,
    /// Queries that could not be decided, where a rule wants that to be an error.
    Errors,
    /// Queries, however they ended.
    Requests,
}

impl Total {
    /// Every one, in the order of [`Total::index`].
    pub const ALL: [Self; 8] = [
        Self::Allowed,
        Self::Batches,
        Self::BatchFailures,
        Self::CacheHits,
        Self::CacheMisses,
        Self::Denied,
        Self::Errors,
        Self::Requests,
    ];

    /// The name in Redis and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Batches => "batches",
            Self::BatchFailures => "batch_failures",
            Self::CacheHits => "cache_hits",
            Self::CacheMisses => "cache_misses",
            Self::Denied => "denied",
            Self::Errors => "errors",
            Self::Requests => "requests",
        }
    }

    /// Its place in [`Total::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Allowed => 0,
            Self::Batches => 1,
            Self::BatchFailures => 2,
            Self::CacheHits => 3,
            Self::CacheMisses => 4,
            Self::Denied => 5,
            Self::Errors => 6,
            Self::Requests => 7,
        }
    }
}

/// An alert of this replica began or ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlertChanged {
    /// The alert's name, as its setting is called.
    pub alert: &'static str,
    /// Which of the two.
    pub state: AlertState,
    /// How urgent it is: `critical` or `warning`.
    pub severity: &'static str,
    /// What was measured, in the unit of the threshold.
    pub value: f64,
    /// What it may be.
    pub threshold: f64,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
}

/// How an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// It has begun.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// The name in Redis and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_total_has_a_place_and_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (index, total) in Total::ALL.into_iter().enumerate() {
            assert_eq!(total.index(), index);
            assert!(names.insert(total.name()));
        }
    }

    #[test]
    fn what_came_since_and_what_was_before_is_all() {
        let (mut before, mut now) = (Totals::default(), Totals::default());
        before.add(Total::Denied, 3);
        now.add(Total::Denied, 5);
        now.add(Total::Requests, u64::MAX);
        let more = now.since(&before);
        assert_eq!((more.get(Total::Denied), more.get(Total::Allowed)), (2, 0));
        assert_eq!(before.plus(&more), now);
        assert!(before.since(&now).is_zero() && !more.is_zero());
    }
}
