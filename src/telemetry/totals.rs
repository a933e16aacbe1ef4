//! What this process has counted for each domain, for the fleet to add up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Telemetry;
use crate::event::{DecidedBy, DomainTotals, QueryResult, Total, Totals};

impl Telemetry {
    /// What was counted for each domain since the process began. No number ever goes backwards.
    /// Takes milliseconds with ten thousand rules: not for a thread that serves requests.
    #[must_use]
    pub fn totals(&self) -> Vec<DomainTotals> {
        let mut all: BTreeMap<Arc<str>, Totals> = BTreeMap::new();
        // Before the queries, so that no descriptor is ahead of its query by much.
        self.state
            .decisions
            .visit_sources(|domain, by, count| match all.get_mut(domain) {
                Some(totals) => totals.add(side(by), count),
                None => {
                    let mut totals = Totals::default();
                    totals.add(side(by), count);
                    all.insert(Arc::clone(domain), totals);
                }
            });
        for counts in self.state.domains.counts() {
            let totals = all.entry(counts.domain).or_default();
            for (result, count) in QueryResult::ALL.into_iter().zip(counts.queries) {
                totals.add(Total::Requests, count);
                let ended = match result {
                    QueryResult::Error => Total::Errors,
                    QueryResult::Ok => Total::Allowed,
                    QueryResult::OverLimit => Total::Denied,
                };
                totals.add(ended, count);
            }
            totals.add(Total::Batches, counts.batches);
            totals.add(Total::BatchFailures, counts.batch_failures);
        }
        all.into_iter()
            .map(|(domain, totals)| DomainTotals { domain, totals })
            .collect()
    }
}

/// A hit is what cost no call to the shared store.
fn side(by: DecidedBy) -> Total {
    match by {
        DecidedBy::Store | DecidedBy::Unreadable => Total::CacheMisses,
        DecidedBy::Fallback
        | DecidedBy::Local
        | DecidedBy::Memory
        | DecidedBy::Overflow
        | DecidedBy::Replaced
        | DecidedBy::Unlimited
        | DecidedBy::Unmatched => Total::CacheHits,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::event::{
        Decided, Events, Meters, Operation, Outcome, Queried, StoreCalled, StoreName, TracedQueries,
    };

    #[test]
    fn what_was_told_of_a_domain_is_added_up_under_its_name() {
        let telemetry = Telemetry::new(Clock::system(), DecidedBy::Store).unwrap();
        let shop = telemetry.domain("shop");
        telemetry.domain("idle");
        let [user, path] = ["user", "path"].map(|rule| telemetry.rule("shop", rule));
        for (meter, by) in [
            (user, DecidedBy::Store),
            (path, DecidedBy::Store),
            (path, DecidedBy::Local),
            (path, DecidedBy::Unlimited),
            (user, DecidedBy::Unreadable),
        ] {
            telemetry.decided(Decided {
                meter,
                label: None,
                outcome: Outcome::Allowed,
                by,
                near_limit: 5,
                exceeded: None,
            });
        }
        for result in [QueryResult::Ok, QueryResult::OverLimit, QueryResult::Error] {
            telemetry.queried(Queried {
                domain: shop,
                result,
            });
        }
        for result in ["ok", "timeout"] {
            telemetry.store_called(StoreCalled {
                store: StoreName::Main,
                operation: Operation::Decide,
                result,
                duration: Duration::from_millis(1),
                queries: 1,
                checks: 1,
                domains: &[shop],
                traced: TracedQueries::default(),
            });
        }
        let totals = telemetry.totals();
        assert_eq!(totals.len(), 1, "{totals:?}");
        assert_eq!(&*totals[0].domain, "shop");
        for (total, count) in [
            (Total::Requests, 3),
            (Total::Allowed, 1),
            (Total::Denied, 1),
            (Total::Errors, 1),
            (Total::CacheHits, 2),
            (Total::CacheMisses, 3),
            (Total::Batches, 2),
            (Total::BatchFailures, 1),
        ] {
            assert_eq!(totals[0].totals.get(total), count, "{total:?}");
        }
    }
}
