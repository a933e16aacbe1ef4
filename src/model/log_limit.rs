//! Limits how often a kind of line is logged.

use std::sync::atomic::{AtomicU64, Ordering};

/// When each of `N` kinds of lines was logged last, in milliseconds since the epoch.
#[derive(Debug)]
pub struct LogLimit<const N: usize> {
    logged: [AtomicU64; N],
    interval_millis: u64,
}

impl<const N: usize> LogLimit<N> {
    /// One line of a kind in each interval.
    #[must_use]
    pub const fn new(interval_millis: u64) -> Self {
        Self {
            logged: [const { AtomicU64::new(0) }; N],
            interval_millis,
        }
    }

    /// Returns whether a line of this kind is to be logged at `now_millis`, and takes note of it. A clock
    /// that is set back does not silence a kind for longer than an interval.
    pub fn allows(&self, kind: usize, now_millis: u64) -> bool {
        let Some(logged) = self.logged.get(kind) else {
            return false;
        };
        let last = logged.load(Ordering::Relaxed);
        let is_due = last == 0 || now_millis.abs_diff(last) >= self.interval_millis;
        // Of several at the same time, one.
        is_due
            && logged
                .compare_exchange(last, now_millis, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_in_an_interval() {
        let limit = LogLimit::<2>::new(10);
        let allowed = [(0, 100), (0, 109), (1, 109), (0, 110), (0, 111), (0, 99)]
            .map(|(kind, now)| limit.allows(kind, now));
        assert_eq!(allowed, [true, false, true, true, false, true]);
        assert!(!limit.allows(2, 100), "no such kind");
    }
}
