//! Who shares the limits, as heartbeats tell it over time: a pure state machine.
//!
//! A replica that assumes too few others lets too much pass, so the roster grows at once and shrinks
//! only when it has been shorter for a while. Right after Redis was away it is much too short: nobody
//! was heard of for longer than a heartbeat counts, and the first one to be back hears of itself alone.

use std::time::{Duration, Instant};

/// The replicas that share the limits.
#[derive(Debug, Default)]
pub(super) struct Roster {
    ids: Vec<String>,
    /// When anybody was heard of last.
    heard: Option<Instant>,
    /// Since when fewer are heard of than there were.
    shorter: Option<Instant>,
}

impl Roster {
    /// Whether nobody has been heard of yet.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Takes in who was heard of just now, and tells who shares the limits.
    pub(super) fn hear(&mut self, ids: Vec<String>, now: Instant) -> &[String] {
        let heard = self.heard.replace(now);
        let silence = heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        if silence > SILENCE {
            self.shorter = None;
        }
        let since = *self.shorter.get_or_insert(now);
        if ids.len() >= self.ids.len() || now.saturating_duration_since(since) >= HOLD {
            self.ids = ids;
            self.shorter = None;
        }
        &self.ids
    }
}

/// For how long a shorter roster is not believed: a heartbeat's lifetime.
const HOLD: Duration = Duration::from_secs(5);

/// After so long without a heartbeat others have had none either.
const SILENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|id| id.to_string()).collect()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn it_grows_at_once_and_shrinks_late() {
        let (mut roster, start) = (Roster::default(), Instant::now());
        let mut hear = |count, seconds| {
            let now = start + Duration::from_secs(seconds);
            roster.hear(ids(count), now).len()
        };
        assert_eq!(hear(1, 0), 1);
        assert_eq!(hear(3, 1), 3);
        for seconds in 2..7 {
            assert_eq!(hear(1, seconds), 3);
        }
        assert_eq!(hear(2, 7), 2, "what is heard now, not the least of it");
        assert_eq!(hear(3, 8), 3);
        assert_eq!(hear(2, 9), 3);
        // Redis was away: those who are not heard of may not be back yet.
        assert_eq!(hear(1, 60), 3);
        assert_eq!(hear(1, 62), 3);
        assert_eq!(hear(3, 63), 3);
    }
}
