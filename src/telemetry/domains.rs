//! Counts of queries and of calls to the shared stores, for each domain.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cells::Cells;
use crate::event::{Queried, QueryResult, StoreCalled};

/// All counts by domain. Bounded: the domains beyond [`MAX_DOMAINS`] are counted as `(other)`.
pub(super) struct Domains {
    cells: Cells<{ QueryResult::ALL.len() + 2 }>,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    rows: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, u32>,
}

/// What was counted for a domain, ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DomainCounts {
    pub(super) domain: Arc<str>,
    /// By [`QueryResult::index`].
    pub(super) queries: [u64; QueryResult::ALL.len()],
    /// Calls to the shared stores that had queries of this domain.
    pub(super) batches: u64,
    /// Those that failed.
    pub(super) batch_failures: u64,
}

impl Domains {
    pub(super) fn new(shards: usize) -> Self {
        let domains = Self {
            cells: Cells::new(shards, MAX_DOMAINS),
            names: Mutex::default(),
        };
        // Takes the row OVERFLOW, being the first.
        domains.number(super::decisions::OTHER);
        domains
    }

    /// The row of a domain, which is made if it is new.
    pub(super) fn number(&self, domain: &str) -> u32 {
        let mut names = self.names.lock();
        if let Some(row) = names.by_name.get(domain) {
            return *row;
        }
        let Ok(row) = u32::try_from(names.rows.len()) else {
            return OVERFLOW;
        };
        if names.rows.len() >= MAX_DOMAINS {
            return OVERFLOW;
        }
        self.cells.make(row);
        let name: Arc<str> = Arc::from(domain);
        names.rows.push(Arc::clone(&name));
        names.by_name.insert(name, row);
        row
    }

    pub(super) fn queried(&self, event: Queried) {
        self.add(event.domain, event.result.index());
    }

    pub(super) fn called(&self, event: StoreCalled<'_>) {
        for domain in event.domains {
            self.add(*domain, BATCHES);
            if event.result != "ok" {
                self.add(*domain, BATCH_FAILURES);
            }
        }
    }

    fn add(&self, row: u32, cell: usize) {
        if !self.cells.add(row, cell, 1) {
            self.cells.add(OVERFLOW, cell, 1);
        }
    }

    /// Every domain that was counted, and `(other)` if anything was counted there.
    pub(super) fn counts(&self) -> Vec<DomainCounts> {
        let names = self.names.lock();
        let counts = (0..).zip(&names.rows).map(|(row, domain)| DomainCounts {
            domain: Arc::clone(domain),
            queries: QueryResult::ALL.map(|result| self.cells.total(row, result.index())),
            batches: self.cells.total(row, BATCHES),
            batch_failures: self.cells.total(row, BATCH_FAILURES),
        });
        let is_told = |counts: &DomainCounts| {
            counts.batches > 0 || counts.queries.iter().any(|count| *count > 0)
        };
        counts.filter(is_told).collect()
    }
}

const BATCHES: usize = QueryResult::ALL.len();

const BATCH_FAILURES: usize = BATCHES + 1;

/// The row of all domains that have none.
const OVERFLOW: u32 = 0;

/// Most domains that are told apart, `(other)` included.
pub(super) const MAX_DOMAINS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_counted_by_domain_and_result() {
        let domains = Domains::new(2);
        let shop = domains.number("shop");
        assert_eq!(domains.number("shop"), shop);
        for result in [QueryResult::Ok, QueryResult::Ok, QueryResult::OverLimit] {
            let domain = shop;
            domains.queried(Queried { domain, result });
        }
        let counts = domains.counts();
        assert_eq!(counts.len(), 1, "only what was counted: {counts:?}");
        assert_eq!((&*counts[0].domain, counts[0].queries), ("shop", [0, 2, 1]));
    }

    #[test]
    fn domains_beyond_the_cap_are_counted_together() {
        let domains = Domains::new(1);
        let numbers: Vec<u32> = (0..MAX_DOMAINS + 5)
            .map(|number| domains.number(&format!("domain{number}")))
            .collect();
        for domain in numbers {
            let result = QueryResult::Ok;
            domains.queried(Queried { domain, result });
        }
        let counts = domains.counts();
        assert_eq!(counts.len(), MAX_DOMAINS);
        assert_eq!(&*counts[0].domain, "(other)");
        assert_eq!(counts[0].queries[QueryResult::Ok.index()], 6);
        let all = counts.iter().map(|counts| counts.queries[1]).sum::<u64>();
        assert_eq!(all, 1_005);
    }
}
