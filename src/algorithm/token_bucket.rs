//! A bucket of tokens that refills evenly.
//!
//! Exact whatever the rate: what is less than a token is kept as a fraction of the window. It
//! knows its size and rate only from the quota it is asked with, so a changed number takes effect
//! at once and keeps the tokens, as far as they fit.

use super::arithmetic::{div, mul_add_div};
use super::{Counter, LONGEST_WAIT_MILLIS};
use crate::clock::Timestamp;
use crate::model::{Quota, SATURATED};

/// What is in the bucket: whole tokens, and the rest of one in units of 1/window.
///
/// Each millisecond brings `limit` such units, so no rate loses a fraction, however odd. A full
/// bucket has no rest: what does not fit is gone, so a key that was used and then left alone never
/// saves up a second burst.
///
/// Bound: `burst + floor(d * limit / window) + 1` in any `d` milliseconds. Under `debt` tokens go
/// below 0, down to -2^32.
///
/// Giving a charge back is not adding its tokens. Without the charge the bucket would have been
/// fuller since, so some of its refill would have spilled; whoever adds all tokens and has charged
/// meanwhile keeps what would be gone. How much that was is not known, but two bounds of it are:
/// the refill since the charge, and by how much the charge's tokens would not have fitted on top of
/// the fullest that the bucket has been since (`peak`). The smaller one is kept back. So there are
/// never more tokens than without the charge, and exactly as many if there was always room for the
/// charge once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    tokens: i64,
    /// Less than the window.
    rest: u64,
    /// When the two were true.
    last: u64,
    /// The most that it held when something was charged or given back, before that, since the
    /// [span](SPAN_MILLIS) of `last` began; rounded up to whole tokens.
    peak: i64,
}

impl TokenBucket {
    /// A new key's bucket.
    #[must_use]
    pub fn full(quota: &Quota, now: Timestamp) -> Self {
        Self {
            tokens: i64::from(quota.burst()),
            rest: 0,
            last: now.as_millis(),
            peak: i64::from(quota.burst()),
        }
    }

    /// The bucket at `now`: if the clock stepped back, as it was left.
    fn at(self, quota: &Quota, now: Timestamp) -> Self {
        let (limit, window) = (u64::from(quota.limit()), quota.window().millis());
        let burst = i64::from(quota.burst());
        let last = now.as_millis().max(self.last);
        let elapsed = last.saturating_sub(self.last);
        // Whole windows first, no more than fill the bucket: a key that slept since 1970 would
        // otherwise pass what a script can count.
        let missing = missing(burst, self.tokens);
        let whole = div(elapsed, window).min(div(missing, limit).saturating_add(1));
        let part = elapsed.checked_rem(window).unwrap_or(0);
        let (earned, rest) = mul_add_div(part, limit, self.rest, window);
        let gain = whole.saturating_mul(limit).saturating_add(earned);
        if gain >= missing {
            return Self {
                tokens: burst,
                rest: 0,
                last,
                ..self
            };
        }
        let gain = i64::try_from(gain).unwrap_or(i64::MAX);
        Self {
            tokens: self.tokens.saturating_add(gain),
            rest,
            last,
            ..self
        }
    }

    /// The bucket at `now`, about to be changed.
    fn touched(self, quota: &Quota, now: Timestamp) -> Self {
        let bucket = self.at(quota, now);
        let level = bucket.level();
        Self {
            peak: match span(bucket.last) == span(self.last) {
                true => self.peak.max(level),
                false => level,
            },
            ..bucket
        }
    }

    /// Tokens, rounded up.
    fn level(self) -> i64 {
        self.tokens.saturating_add(i64::from(self.rest > 0))
    }

    /// At most so much of `hits` that were charged at `at` would have spilled since: tokens, and
    /// units of 1/window. `self` is the bucket as it was changed last, `bucket` as it is now.
    fn spilled(self, bucket: Self, quota: &Quota, hits: u64, at: u64) -> (u64, u64) {
        if at > self.last {
            // Not charged to this state, which is younger.
            return (hits, 0);
        }
        let window = quota.window().millis();
        let elapsed = bucket.last.saturating_sub(at);
        let refill = match elapsed <= window {
            true => mul_add_div(elapsed, u64::from(quota.limit()), 0, window),
            false => (hits, 0),
        };
        let room = match span(at) == span(self.last) {
            true => missing(i64::from(quota.burst()), self.peak),
            false => 0,
        };
        refill.min((hits.saturating_sub(room), 0))
    }
}

impl Counter for TokenBucket {
    fn used(&self, quota: &Quota, now: Timestamp) -> u64 {
        missing(i64::from(quota.burst()), self.at(quota, now).tokens)
    }

    fn charge(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        *self = self.touched(quota, now);
        self.tokens = self
            .tokens
            .saturating_sub(signed(hits))
            .max(0_i64.saturating_sub(signed(SATURATED)));
    }

    fn refund(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        let used = self.used(quota, now);
        if used == 0 {
            return;
        }
        *self = self.touched(quota, now);
        self.tokens = self.tokens.saturating_add(signed(hits.min(used)));
        if hits >= used {
            self.rest = 0;
        }
    }

    fn give_back(&mut self, quota: &Quota, hits: u64, at: Timestamp, now: Timestamp) {
        if self.used(quota, now) == 0 {
            return;
        }
        let bucket = self.touched(quota, now);
        let (whole, part) = self.spilled(bucket, quota, hits, at.as_millis());
        *self = bucket;
        if whole >= hits {
            return;
        }
        let (borrowed, rest) = match self.rest.checked_sub(part) {
            Some(rest) => (0, rest),
            None => {
                let window = quota.window().millis();
                (1, self.rest.saturating_add(window).saturating_sub(part))
            }
        };
        let back = hits.saturating_sub(whole).saturating_sub(borrowed);
        self.tokens = self.tokens.saturating_add(signed(back));
        self.rest = rest;
        let burst = i64::from(quota.burst());
        if self.tokens >= burst {
            (self.tokens, self.rest) = (burst, 0);
        }
    }

    fn falls_to(&self, quota: &Quota, target: u64, now: Timestamp) -> Timestamp {
        let (limit, window) = (u64::from(quota.limit()), quota.window().millis());
        let bucket = self.at(quota, now);
        let missing = missing(i64::from(quota.burst()), bucket.tokens).saturating_sub(target);
        let Some(all_but_one) = missing.checked_sub(1) else {
            return now;
        };
        // Rounded up: (missing * window - rest) / limit.
        let last_token = window.saturating_sub(bucket.rest);
        let round_up = limit.saturating_sub(1);
        let (wait, _) = mul_add_div(
            all_but_one,
            window,
            last_token.saturating_add(round_up),
            limit,
        );
        Timestamp::from_millis(bucket.last.saturating_add(wait.min(LONGEST_WAIT_MILLIS)))
    }
}

/// Tokens that a bucket of this size lacks.
fn missing(burst: i64, tokens: i64) -> u64 {
    u64::try_from(burst.saturating_sub(tokens)).unwrap_or(0)
}

fn span(at: u64) -> u64 {
    div(at, SPAN_MILLIS)
}

/// How long a bucket remembers how full it has been: several times as long as a charge waits to be
/// given back. Longer, and a bucket that has just been full keeps more back than it needs to.
const SPAN_MILLIS: u64 = 256;

fn signed(hits: u64) -> i64 {
    i64::try_from(hits).unwrap_or(i64::MAX)
}
