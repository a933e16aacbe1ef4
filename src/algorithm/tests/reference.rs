//! What the algorithms mean, written so that it is plainly right: every charge is kept for ever,
//! and a count is a sum over all of them.

use crate::clock::Timestamp;
use crate::model::{Algorithm, DeniedHits, Hits, Quota, SATURATED};

/// A charge that stands, less what was given back of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge {
    pub(crate) at: u64,
    pub(crate) hits: u64,
    /// It was within the limit.
    pub(crate) admitted: bool,
}

/// One key's history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    pub(crate) charges: Vec<Charge>,
    /// The last time that something landed.
    latest: u64,
    /// A bucket's level in tokens times the window's milliseconds; none while it is new.
    level: Option<i128>,
}

impl Reference {
    /// A history that begins now, with a bucket of this size.
    pub(crate) fn new(quota: &Quota, now: Timestamp) -> Self {
        match quota.algorithm() {
            Algorithm::TokenBucket => Self {
                latest: now.as_millis(),
                level: Some(i128::from(quota.burst()) * window(quota)),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    pub(crate) fn used(&self, quota: &Quota, now: Timestamp) -> u64 {
        if quota.algorithm() == Algorithm::TokenBucket {
            let tokens = self.level(quota, now).div_euclid(window(quota));
            return u64::try_from(i128::from(quota.burst()) - tokens).unwrap();
        }
        let now = self.time(now);
        let sum: u64 = self
            .charges
            .iter()
            .filter(|charge| counts(quota, charge.at, now))
            .map(|charge| charge.hits)
            .sum();
        sum.min(SATURATED)
    }

    /// Whether these hits are over the limit.
    pub(crate) fn is_over(&self, quota: &Quota, hits: Hits, now: Timestamp) -> bool {
        let used = self.used(quota, now);
        let limit = match quota.algorithm() {
            Algorithm::TokenBucket if quota.limit() == 0 => 0,
            Algorithm::TokenBucket => u64::from(quota.burst()),
            _ => u64::from(quota.limit()),
        };
        match (hits, quota.denied_hits()) {
            (Hits::Refund(_), _) => false,
            (Hits::Charge(hits), DeniedHits::Free | DeniedHits::Charged) => used + hits > limit,
            (Hits::Peek, DeniedHits::Free) => used + 1 > limit,
            (Hits::Peek, DeniedHits::Charged) => used > limit,
            (_, DeniedHits::Debt) => used >= limit,
        }
    }

    /// Adds or takes back.
    pub(crate) fn apply(&mut self, quota: &Quota, hits: Hits, over: bool, now: Timestamp) {
        match hits {
            Hits::Peek => {}
            Hits::Charge(hits) => self.charge(quota, hits, !over, now),
            Hits::Refund(hits) => self.refund(quota, hits, now),
        }
    }

    fn charge(&mut self, quota: &Quota, hits: u64, admitted: bool, now: Timestamp) {
        let at = self.time(now);
        // What saturated is not counted, so it cannot be given back either.
        let mut counted = hits;
        if quota.algorithm() == Algorithm::TokenBucket {
            if quota.limit() == 0 {
                return;
            }
            let level = self.level(quota, now);
            let tokens = level.div_euclid(window(quota));
            let room = u64::try_from(tokens + i128::from(SATURATED)).unwrap();
            counted = hits.min(room);
            self.level = Some(level - i128::from(counted) * window(quota));
        } else {
            let together: u64 = self
                .charges
                .iter()
                .filter(|charge| leave_together(quota, charge.at, at))
                .map(|charge| charge.hits)
                .sum();
            counted = counted.min(SATURATED - together);
        }
        self.latest = at;
        self.charges.push(Charge {
            at,
            hits: counted,
            admitted,
        });
    }

    fn refund(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        let mut left = hits.min(self.used(quota, now));
        if left == 0 {
            return;
        }
        if quota.algorithm() == Algorithm::TokenBucket {
            let full = i128::from(quota.burst()) * window(quota);
            let level = self.level(quota, now) + i128::from(left) * window(quota);
            self.level = Some(level.min(full));
            self.latest = self.time(now);
        }
        for charge in self.charges.iter_mut().rev() {
            let back = charge.hits.min(left);
            charge.hits -= back;
            left -= back;
        }
    }

    fn level(&self, quota: &Quota, now: Timestamp) -> i128 {
        let full = i128::from(quota.burst()) * window(quota);
        self.level.map_or(full, |level| {
            let elapsed = i128::from(self.time(now) - self.latest);
            (level + elapsed * i128::from(quota.limit())).min(full)
        })
    }

    fn time(&self, now: Timestamp) -> u64 {
        now.as_millis().max(self.latest)
    }
}

/// Whether a charge at `at` still counts at `now`.
fn counts(quota: &Quota, at: u64, now: u64) -> bool {
    let window = quota.window().millis();
    match quota.algorithm() {
        Algorithm::FixedWindow => at / window == now / window,
        Algorithm::SlidingWindow => now / (window / 10) - at / (window / 10) <= 10,
        Algorithm::SlidingLog => now - at <= window,
        Algorithm::TokenBucket => unreachable!("a bucket has a level"),
    }
}

/// Whether two charges stop counting at the same moment; their sum saturates.
fn leave_together(quota: &Quota, one: u64, other: u64) -> bool {
    let window = quota.window().millis();
    match quota.algorithm() {
        Algorithm::FixedWindow => one / window == other / window,
        Algorithm::SlidingWindow => one / (window / 10) == other / (window / 10),
        Algorithm::SlidingLog => one == other,
        Algorithm::TokenBucket => unreachable!("a bucket has a level"),
    }
}

fn window(quota: &Quota) -> i128 {
    i128::from(quota.window().millis())
}
