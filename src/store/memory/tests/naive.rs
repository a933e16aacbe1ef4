//! A store that is plainly right: every key's whole history, copied before each query and put back
//! if the query is denied.

use std::collections::HashMap;

use crate::algorithm::tests::reference::Reference;
use crate::clock::Timestamp;
use crate::model::{Algorithm, Check, DeniedHits, Hits};

#[derive(Clone, Debug, Default)]
pub(super) struct Naive {
    keys: HashMap<String, Reference>,
}

/// What it says of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) over: bool,
    pub(super) counted: u64,
    pub(super) remaining: u64,
}

impl Naive {
    /// Decides as a store should, and charges.
    pub(super) fn decide(
        &mut self,
        checks: &[Check],
        enforce: bool,
        now: Timestamp,
    ) -> (Vec<Said>, bool) {
        let before = self.clone();
        let over: Vec<bool> = checks
            .iter()
            .map(|check| {
                let over = self.key(check).is_over(&check.quota, check.hits, now);
                if !over || charges_anyway(check) {
                    self.apply(check, over, now);
                }
                over
            })
            .collect();
        let denied = enforce && denies(checks, &over);
        *self = before;
        let said = checks
            .iter()
            .zip(over)
            .map(|(check, over)| {
                let lands = charges_anyway(check)
                    || matches!(check.hits, Hits::Refund(_))
                    || (!over && !denied);
                if lands {
                    self.apply(check, over, now);
                }
                self.said(check, over, now)
            })
            .collect();
        (said, denied)
    }

    /// Hits of this check's key that are counted.
    pub(super) fn used(&mut self, check: &Check, now: Timestamp) -> u64 {
        self.key(check).used(&check.quota, now)
    }

    /// Notes what another store did.
    pub(super) fn apply(&mut self, check: &Check, over: bool, now: Timestamp) {
        self.key(check).apply(&check.quota, check.hits, over, now);
    }

    pub(super) fn is_over(&mut self, check: &Check, now: Timestamp) -> bool {
        self.key(check).is_over(&check.quota, check.hits, now)
    }

    fn said(&mut self, check: &Check, over: bool, now: Timestamp) -> Said {
        let counted = self.used(check, now);
        let limit = match check.quota.algorithm() {
            Algorithm::TokenBucket if check.quota.limit() > 0 => check.quota.burst(),
            _ => check.quota.limit(),
        };
        let left = u64::from(limit).saturating_sub(counted);
        Said {
            over,
            counted,
            remaining: if over { 0 } else { left },
        }
    }

    fn key(&mut self, check: &Check) -> &mut Reference {
        self.keys.entry(check.key.to_string()).or_default()
    }
}

pub(super) fn charges_anyway(check: &Check) -> bool {
    matches!(check.hits, Hits::Charge(_)) && check.quota.denied_hits() != DeniedHits::Free
}

/// As the reference folds: any plain check denies; quota checks only all together.
fn denies(checks: &[Check], over: &[bool]) -> bool {
    let enforced: Vec<(bool, bool)> = checks
        .iter()
        .zip(over)
        .map(|(check, &over)| (check.role.quota, over && !check.role.shadow))
        .collect();
    let mut quotas = enforced.iter().filter(|(quota, _)| *quota).peekable();
    let exhausted = quotas.peek().is_some() && quotas.all(|(_, over)| *over);
    exhausted || enforced.iter().any(|&(quota, over)| !quota && over)
}
