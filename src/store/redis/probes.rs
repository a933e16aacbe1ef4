//! When a server in trouble is probed: at once, and then more and more seldom.
//!
//! Most pauses of a server are short (a fork, a slow command, a full network), and a breaker that is
//! asked again only after a fixed second makes each of them last that long. So the first probe follows
//! after [`FIRST`], and each one that fails doubles the pause, up to the interval of the settings: a
//! pause lasts at most about twice its own length.

use std::time::{Duration, Instant};

/// When to probe one server.
#[derive(Debug)]
pub(super) struct Probes {
    longest: Duration,
    pause: Duration,
    /// None while nothing is wrong.
    due: Option<Instant>,
}

impl Probes {
    /// At most `longest` apart.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            pause: FIRST.min(longest),
            due: None,
        }
    }

    /// How long until the next probe, by whether one is wanted at all.
    pub(super) fn wait(&mut self, wanted: bool, now: Instant) -> Option<Duration> {
        if !wanted {
            self.due = None;
            self.pause = FIRST.min(self.longest);
            return None;
        }
        let due = *self.due.get_or_insert(now + self.pause);
        Some(due.saturating_duration_since(now))
    }

    /// A probe has ended.
    pub(super) fn ended(&mut self, succeeded: bool, now: Instant) {
        self.pause = match succeeded {
            true => FIRST,
            false => self.pause.saturating_mul(2),
        }
        .min(self.longest);
        self.due = Some(now + self.pause);
    }
}

/// The pause before the first probe.
const FIRST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn probes_follow_at_once_and_then_more_and_more_seldom() {
        let start = Instant::now();
        let mut probes = Probes::new(Duration::from_millis(50));
        let millis = Duration::from_millis;
        assert_eq!(probes.wait(false, start), None);
        assert_eq!(probes.wait(true, start), Some(millis(10)));
        assert_eq!(probes.wait(true, start + millis(4)), Some(millis(6)));
        assert_eq!(probes.wait(true, start + millis(14)), Some(millis(0)));
        for pause in [20, 40, 50, 50] {
            probes.ended(false, start);
            assert_eq!(probes.wait(true, start), Some(millis(pause)));
        }
        // One that succeeds makes the next one, which closes the breaker, follow soon.
        probes.ended(true, start);
        assert_eq!(probes.wait(true, start), Some(millis(10)));
        probes.ended(false, start);
        assert_eq!(probes.wait(false, start), None);
        assert_eq!(probes.wait(true, start), Some(millis(10)), "anew");
        let mut quick = Probes::new(millis(3));
        assert_eq!(quick.wait(true, start), Some(millis(3)));
    }
}
