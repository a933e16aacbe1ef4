//! How hits are counted: four algorithms, one question.
//!
//! Each file holds the state of one counter and how its count fades: [`FixedWindow`],
//! [`SlidingWindow`], [`SlidingLog`], [`TokenBucket`]. What a count means is the same for all of
//! them and stands here: [`passes_at`] says up to which count hits pass, [`lands`] whether they
//! are then charged, [`report`] what the caller is told. A store looks at a counter, judges,
//! folds the whole query, and only then charges.
//!
//! Promises
//! - Pure: time is an argument, and asking ([`Counter::used`], [`Counter::falls_to`]) changes
//!   nothing. Only what lands is written.
//! - Integers only, and no result that a Lua script could not reach with doubles below 2^53.
//! - A clock that steps back freezes a counter at the last time something was charged; it never
//!   refills it.
//! - Counts stop growing at [`SATURATED`], above every limit.
//!
//! It does not know keys, queries or other counters; that is `store`.
#![warn(clippy::arithmetic_side_effects, clippy::integer_division)]

mod arithmetic;
mod fixed_window;
mod sliding_log;
mod sliding_window;
#[cfg(test)]
pub(crate) mod tests;
mod token_bucket;

pub use fixed_window::FixedWindow;
pub use sliding_log::SlidingLog;
pub use sliding_window::SlidingWindow;
pub use token_bucket::TokenBucket;

use crate::clock::Timestamp;
use crate::model::{Algorithm, Check, DeniedHits, Hits, Quota, SATURATED, Source, Verdict};

/// The longest wait that is told, 2^48 ms: what is further away than that many years (8,900) is
/// as good as never. A protobuf `Duration` still holds it.
pub const LONGEST_WAIT_MILLIS: u64 = 1 << 48;

/// One key's hits, as one algorithm remembers them.
pub trait Counter {
    /// Hits that are charged and still counted.
    fn used(&self, quota: &Quota, now: Timestamp) -> u64;

    /// Adds hits, whether or not they fit.
    fn charge(&mut self, quota: &Quota, hits: u64, now: Timestamp);

    /// Takes hits back, the newest first, at most what is charged and still counted.
    fn refund(&mut self, quota: &Quota, hits: u64, now: Timestamp);

    /// Takes back hits that were charged at `at`, and no others: what else was charged, before or
    /// since, counts on as if these had never been. At most what is still counted of that time
    /// (the window, cell or millisecond that `at` lies in), so nothing once it is over.
    ///
    /// For hits that passed: of a count that has saturated nothing comes back, since what it would
    /// be without them is not known. A refund that came in between may have taken some of them.
    fn give_back(&mut self, quota: &Quota, hits: u64, at: Timestamp, now: Timestamp);

    /// From when on no more than `target` hits are counted if nothing else is charged; `now` if
    /// that is so already. At a target of 0 the state is then as good as a new one.
    fn falls_to(&self, quota: &Quota, target: u64, now: Timestamp) -> Timestamp;

    /// From when on everything has come back: what a caller that was let through is told.
    fn resets_at(&self, quota: &Quota, now: Timestamp) -> Timestamp {
        self.falls_to(quota, 0, now)
    }

    /// When a whole window has passed: the reset reported for hits that can never pass. Always
    /// later than `now`, whatever is counted, so that no caller retries at once.
    fn window_passes_at(&self, quota: &Quota, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis().saturating_add(quota.window().millis()))
    }
}

/// The most hits that stand against a quota at once: its limit, or its bucket's size. A bucket
/// that never refills counts as none.
#[must_use]
pub fn capacity(quota: &Quota) -> u64 {
    match quota.algorithm() {
        Algorithm::TokenBucket if never_refills(quota) => 0,
        Algorithm::TokenBucket => u64::from(quota.burst()),
        Algorithm::FixedWindow | Algorithm::SlidingLog | Algorithm::SlidingWindow => {
            u64::from(quota.limit())
        }
    }
}

/// The highest count at which `hits` pass; none if they never do.
///
/// A charge passes if it fits, or under `debt` if anything is left. A peek passes if one more hit
/// would; under `charged` it is answered as envoyproxy/ratelimit answers hits of 0.
#[must_use]
pub fn passes_at(quota: &Quota, hits: Hits) -> Option<u64> {
    let capacity = capacity(quota);
    match (hits, quota.denied_hits()) {
        (Hits::Refund(_), _) => Some(u64::MAX),
        (Hits::Charge(hits), DeniedHits::Free | DeniedHits::Charged) => capacity.checked_sub(hits),
        (Hits::Peek, DeniedHits::Charged) => Some(capacity),
        (Hits::Peek, DeniedHits::Free | DeniedHits::Debt) | (Hits::Charge(_), DeniedHits::Debt) => {
            capacity.checked_sub(1)
        }
    }
}

/// Whether `hits` are over the limit when `used` are counted.
#[must_use]
pub fn is_over(quota: &Quota, hits: Hits, used: u64) -> bool {
    passes_at(quota, hits).is_none_or(|most| used > most)
}

/// Whether `hits` change the counter, given that they are over or not, and that the whole query
/// is denied or not. A refund belongs to an earlier request, so it always lands. A bucket without
/// refill is never charged: nothing passes it, and its state would never fade.
#[must_use]
pub fn lands(quota: &Quota, hits: Hits, over: bool, denied: bool) -> bool {
    match (hits, quota.denied_hits()) {
        (Hits::Peek, _) => false,
        (Hits::Refund(_), _) => true,
        (Hits::Charge(_), DeniedHits::Charged) => true,
        (Hits::Charge(_), DeniedHits::Debt) => !never_refills(quota),
        (Hits::Charge(_), DeniedHits::Free) => !over && !denied,
    }
}

/// The hits that have to be given back if a query turns out to be denied by a check that was
/// decided elsewhere, given that these were over or not; 0 if they stay, or were never charged.
#[must_use]
pub fn comes_back(quota: &Quota, hits: Hits, over: bool) -> u64 {
    match hits {
        Hits::Charge(count)
            if lands(quota, hits, over, false) && !lands(quota, hits, over, true) =>
        {
            count.min(SATURATED)
        }
        Hits::Charge(_) | Hits::Peek | Hits::Refund(_) => 0,
    }
}

/// Charges or gives back what `hits` says.
pub fn apply(counter: &mut (impl Counter + ?Sized), quota: &Quota, hits: Hits, now: Timestamp) {
    match hits {
        Hits::Charge(hits) => counter.charge(quota, hits.min(SATURATED), now),
        Hits::Peek => {}
        Hits::Refund(hits) => counter.refund(quota, hits.min(SATURATED), now),
    }
}

/// What to say of a check, from the state that it leaves behind.
///
/// `over` is how it was judged. `beside` are other hits of the same query on the same key that were
/// not charged: the same request needs room for them too.
#[must_use]
pub fn report(
    counter: &(impl Counter + ?Sized),
    check: &Check,
    over: bool,
    beside: u64,
    now: Timestamp,
) -> Verdict {
    let quota = &check.quota;
    let used = counter.used(quota, now);
    let room = passes_at(quota, check.hits).and_then(|most| most.checked_sub(beside));
    let at = match room {
        Some(most) if over => counter.falls_to(quota, most, now),
        None if over => counter.window_passes_at(quota, now),
        Some(_) | None => counter.resets_at(quota, now),
    };
    let left = if over {
        0
    } else {
        capacity(quota).saturating_sub(used)
    };
    Verdict {
        over,
        remaining: u32::try_from(left).unwrap_or(u32::MAX),
        counted: used,
        // The state at hand may have room for a check that is over: a counter that keys share rounds
        // up, and a bucket that is asked twice at two rates was judged as refilled at the other one.
        reset_millis: at
            .as_millis()
            .saturating_sub(now.as_millis())
            .max(u64::from(over)),
        never: over && room.is_none(),
        source: Source::Memory,
        at: now,
    }
}

/// Whether this is a bucket without refill. Nothing passes it, and it is never charged.
#[must_use]
pub fn never_refills(quota: &Quota) -> bool {
    quota.algorithm() == Algorithm::TokenBucket && quota.limit() == 0
}
