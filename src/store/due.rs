//! How long to wait for a store that is not in this process.

use std::time::{Duration, Instant};

/// What waits are made of (the settings `deadline`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineConfig {
    /// The longest wait for the store.
    pub store: Duration,
    /// What the answer needs on its way back to a caller that has set a deadline of its own.
    pub margin: Duration,
}

impl DeadlineConfig {
    /// When waiting for the store is over, for a caller that asked at `asked` and waits so long
    /// itself, if it has said so.
    ///
    /// The answer is in time then: deciding without the store takes microseconds. A caller with
    /// less time than two margins gets half of it for the store: otherwise it would never be asked.
    #[must_use]
    pub fn due(&self, asked: Instant, caller_waits: Option<Duration>) -> Instant {
        let wait = match caller_waits {
            None => self.store,
            Some(all) => self.store.min(all.saturating_sub(self.margin).max(all / 2)),
        };
        asked.checked_add(wait).unwrap_or(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: DeadlineConfig = DeadlineConfig {
        store: Duration::from_millis(12),
        margin: Duration::from_millis(3),
    };

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn wait(caller_waits: Option<u64>) -> Duration {
        let now = Instant::now();
        CONFIG.due(now, caller_waits.map(Duration::from_millis)) - now
    }

    #[test]
    fn the_shorter_wait_counts() {
        assert_eq!(wait(None), Duration::from_millis(12));
        assert_eq!(wait(Some(20)), Duration::from_millis(12));
        assert_eq!(wait(Some(10)), Duration::from_millis(7));
        assert_eq!(wait(Some(u64::MAX)), Duration::from_millis(12));
    }

    #[test]
    fn a_caller_in_a_hurry_is_still_asked_for() {
        assert_eq!(wait(Some(4)), Duration::from_millis(2));
        assert_eq!(wait(Some(0)), Duration::ZERO);
    }
}
