//! What came of calls.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// What came of calls.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Nanoseconds of the calls that were answered.
    times: Histogram<u64>,
    pub(super) ok: u64,
    pub(super) over_limit: u64,
    /// Calls without an answer, by what went wrong.
    pub(super) errors: BTreeMap<String, u64>,
    /// Calls that were due while as many as may be were under way, and were not made.
    pub(super) unsent: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, String> {
        let times = Histogram::new_with_bounds(1, LONGEST_NANOS, DIGITS);
        Ok(Self {
            times: times.map_err(|error| error.to_string())?,
            ok: 0,
            over_limit: 0,
            errors: BTreeMap::new(),
            unsent: 0,
        })
    }

    /// A call was answered after `took`.
    pub(super) fn answered(&mut self, took: Duration, over_limit: bool) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.times.saturating_record(nanos.max(1));
        match over_limit {
            true => self.over_limit = self.over_limit.saturating_add(1),
            false => self.ok = self.ok.saturating_add(1),
        }
    }

    /// A call came to nothing.
    pub(super) fn failed(&mut self, why: &str) {
        let is_new = !self.errors.contains_key(why);
        let why = match is_new && self.errors.len() >= MOST_KINDS {
            true => OTHERS,
            false => why,
        };
        let count = self.errors.entry(why.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// Adds what another one counted.
    pub(super) fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _fits = self.times.add(&other.times);
        self.ok = self.ok.saturating_add(other.ok);
        self.over_limit = self.over_limit.saturating_add(other.over_limit);
        self.unsent = self.unsent.saturating_add(other.unsent);
        for (why, count) in &other.errors {
            let sum = self.errors.entry(why.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// Hands over what was counted since, and starts again.
    pub(super) fn take(&mut self) -> Self {
        let taken = self.clone();
        self.times.reset();
        (self.ok, self.over_limit, self.unsent) = (0, 0, 0);
        self.errors.clear();
        taken
    }

    /// Calls that were answered.
    pub(super) fn answered_count(&self) -> u64 {
        self.ok.saturating_add(self.over_limit)
    }

    /// Calls that came to nothing.
    pub(super) fn failed_count(&self) -> u64 {
        self.errors.values().copied().fold(0, u64::saturating_add)
    }

    /// The time within which this share of the answers came.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.times.value_at_quantile(share))
    }

    /// The longest time.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_nanos(self.times.max())
    }

    /// The mean time in seconds.
    pub(super) fn mean_seconds(&self) -> f64 {
        self.times.mean() / 1e9
    }
}

/// Times that are longer read as this: 10 minutes.
const LONGEST_NANOS: u64 = 600_000_000_000;

/// Decimal digits of a time that are right.
const DIGITS: u8 = 3;

/// Kinds of errors that are told apart.
const MOST_KINDS: usize = 20;

const OTHERS: &str = "other errors";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut total = Tally::new().unwrap();
        let mut part = Tally::new().unwrap();
        for millis in 1..=100 {
            part.answered(Duration::from_millis(millis), millis > 90);
        }
        part.failed("timeout");
        part.failed("timeout");
        total.add(&part.take());
        assert_eq!(part.answered_count(), 0);
        part.answered(Duration::from_secs(5), false);
        total.add(&part.take());
        assert_eq!((total.ok, total.over_limit), (91, 10));
        assert_eq!(total.failed_count(), 2);
        let median = total.quantile(0.5).as_secs_f64();
        assert!((0.049..0.053).contains(&median), "{median}");
        assert!(total.longest() >= Duration::from_millis(4_990));
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut tally = Tally::new().unwrap();
        for kind in 0..100 {
            tally.failed(&format!("error {kind}"));
        }
        assert_eq!(tally.errors.len(), MOST_KINDS + 1);
        assert_eq!(tally.failed_count(), 100);
    }
}
