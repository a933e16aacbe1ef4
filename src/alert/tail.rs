//! How long the slow ones took: a histogram whose buckets grow with what they hold.

use std::time::Duration;

/// Durations of a millisecond and more, counted in buckets of which eight cover each doubling up to
/// a minute: a percentile is right to an eighth, whatever its size. What is faster is not counted:
/// nobody is alarmed by it, and to count it would cost every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail([u64; Self::BUCKETS]);

impl Tail {
    /// How many buckets there are; the last is for whatever is longer than all others hold.
    pub const BUCKETS: usize = DOUBLINGS * PER_DOUBLING + 1;

    /// The bucket of a duration; none if it is too short to be counted.
    #[must_use]
    pub fn bucket(duration: Duration) -> Option<usize> {
        // Nearly all end here.
        if duration < SHORTEST {
            return None;
        }
        let last = Self::BUCKETS.saturating_sub(1);
        let Ok(micros) = u64::try_from(duration.as_micros()) else {
            return Some(last);
        };
        let steps = micros / STEP_MICROS;
        let doubling = steps.checked_ilog2()?.checked_sub(PER_DOUBLING.ilog2())?;
        let within = (steps >> doubling) % PER_DOUBLING_U64;
        let bucket = u64::from(doubling)
            .saturating_mul(PER_DOUBLING_U64)
            .saturating_add(within);
        Some(usize::try_from(bucket).unwrap_or(last).min(last))
    }

    /// One whose buckets hold what `count` says of each.
    #[must_use]
    pub fn from_fn(count: impl FnMut(usize) -> u64) -> Self {
        Self(std::array::from_fn(count))
    }

    /// Counts one more.
    pub fn record(&mut self, duration: Duration) {
        if let Some(count) = Self::bucket(duration).and_then(|bucket| self.0.get_mut(bucket)) {
            *count = count.saturating_add(1);
        }
    }

    /// How long the `rank`th slowest took, the slowest being the first. Zero if it was too fast to
    /// be counted. What lies in one bucket is taken to lie there evenly.
    #[must_use]
    pub fn slowest(&self, rank: u64) -> Duration {
        let mut slower = 0_u64;
        for (bucket, &count) in self.0.iter().enumerate().rev() {
            let here = rank.saturating_sub(slower);
            slower = slower.saturating_add(count);
            if slower >= rank && count > 0 {
                let (from, to) = bounds(bucket);
                // The middle of its share of the bucket.
                let below = here.saturating_mul(2).saturating_sub(1);
                let width = u128::from(to.saturating_sub(from));
                let down = width.saturating_mul(below.into()) / (u128::from(count) * 2).max(1);
                let down = u64::try_from(down).unwrap_or(0);
                return Duration::from_micros(to.saturating_sub(down));
            }
        }
        Duration::ZERO
    }

    /// Bucket by bucket.
    pub(super) fn zip(&self, other: &Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let both = self.0.iter().zip(other.0.iter());
        let mut all = both.map(|(one, two)| each(*one, *two));
        Self::from_fn(|_| all.next().unwrap_or_default())
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self([0; Self::BUCKETS])
    }
}

/// From and up to which duration a bucket holds, in microseconds.
fn bounds(bucket: usize) -> (u64, u64) {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let edge = |within: u64| {
        let doubling = u32::try_from(bucket / PER_DOUBLING_U64).unwrap_or(u32::MAX);
        let steps = PER_DOUBLING_U64.saturating_add(within);
        steps
            .checked_shl(doubling)
            .unwrap_or(u64::MAX)
            .saturating_mul(STEP_MICROS)
    };
    let within = bucket % PER_DOUBLING_U64;
    let from = edge(within);
    match usize::try_from(bucket) {
        // Nobody knows how far the last one reaches.
        Ok(last) if last >= Tail::BUCKETS.saturating_sub(1) => (from, from),
        _ => (from, edge(within.saturating_add(1))),
    }
}

/// What is counted takes this long at least.
const SHORTEST: Duration = Duration::from_millis(1);

/// From 1 ms to 65.5 s.
const DOUBLINGS: usize = 16;

const PER_DOUBLING: usize = 8;

const PER_DOUBLING_U64: u64 = 8;

/// The width of the narrowest buckets, and an eighth of what the first begins with: 1 ms.
const STEP_MICROS: u64 = 125;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn only_what_takes_a_millisecond_is_counted() {
        assert_eq!(Tail::bucket(Duration::ZERO), None);
        assert_eq!(Tail::bucket(Duration::from_micros(999)), None);
        assert_eq!(Tail::bucket(millis(1)), Some(0));
        assert_eq!(Tail::bucket(millis(2)), Some(8));
        assert_eq!(Tail::bucket(millis(65_535)), Some(Tail::BUCKETS - 2));
        assert_eq!(Tail::bucket(millis(65_536)), Some(Tail::BUCKETS - 1));
        assert_eq!(Tail::bucket(Duration::MAX), Some(Tail::BUCKETS - 1));
    }

    #[test]
    fn the_slowest_come_first_and_the_fast_are_zero() {
        let mut tail = Tail::default();
        for each in [3, 800, 40, 0] {
            tail.record(millis(each));
        }
        assert!(tail.slowest(1) >= millis(700));
        assert!((millis(35)..millis(46)).contains(&tail.slowest(2)));
        assert!((millis(2)..millis(4)).contains(&tail.slowest(3)));
        assert_eq!(tail.slowest(4), Duration::ZERO);
        assert_eq!(Tail::default().slowest(1), Duration::ZERO);
        tail.record(Duration::MAX);
        assert_eq!(tail.slowest(1), millis(65_536), "as long as is known");
    }

    proptest! {
        #[test]
        fn a_rank_is_right_to_an_eighth(mut all in prop::collection::vec(1_000_u64..60_000_000, 1..200), pick in 0_usize..200) {
            let mut tail = Tail::default();
            for micros in &all {
                tail.record(Duration::from_micros(*micros));
            }
            all.sort_unstable();
            all.reverse();
            let rank = pick % all.len();
            let told = tail.slowest(u64::try_from(rank).unwrap() + 1);
            let real = Duration::from_micros(all[rank]);
            prop_assert!(told <= real.mul_f64(1.13) && told.mul_f64(1.13) >= real, "{told:?} for {real:?}");
        }

        #[test]
        fn every_duration_lies_within_its_bucket(micros in 1_000_u64..65_536_000) {
            let bucket = Tail::bucket(Duration::from_micros(micros)).unwrap();
            let (from, to) = bounds(bucket);
            prop_assert!(from <= micros && micros < to);
        }
    }
}
