//! When a server in trouble is probed: soon, and then more and more seldom.
//!
//! Most pauses of a server are short (a fork, a slow command, a full network), and a breaker that is
//! asked again only after a fixed second makes each of them last that long. So the first probe follows
//! after [`FIRST`], and each one that fails doubles the pause, up to the interval of the settings: a
//! pause lasts at most about twice its own length.
//!
//! A probe asks for less than a query, so it may succeed where no query does: the server is full, say.
//! So only a query that is answered makes the next pause short again, and each time that the breaker
//! opens without one the pause doubles too.

use std::time::{Duration, Instant};

/// When to probe one server.
#[derive(Debug)]
pub(super) struct Probes {
    longest: Duration,
    pause: Duration,
    /// None while nothing is wrong.
    due: Option<Instant>,
    /// A query has been answered since the breaker opened last.
    answered: bool,
    was_open: bool,
}

impl Probes {
    /// At most `longest` apart.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            pause: FIRST.min(longest),
            due: None,
            answered: true,
            was_open: false,
        }
    }

    /// Takes note of how the link is, and says how long it is until the next probe.
    pub(super) fn wait(&mut self, link: Trouble, now: Instant) -> Option<Duration> {
        self.answered |= link.answered;
        if link.is_open && !self.was_open {
            match self.answered {
                true => self.pause = FIRST.min(self.longest),
                false => self.double(),
            }
            self.answered = false;
            self.due = None;
        }
        self.was_open = link.is_open;
        if !link.wants_probes {
            self.due = None;
            return None;
        }
        let due = *self.due.get_or_insert(now + self.pause);
        Some(due.saturating_duration_since(now))
    }

    /// A probe has ended.
    pub(super) fn ended(&mut self, succeeded: bool, now: Instant) {
        if !succeeded {
            self.double();
        }
        self.due = Some(now + self.pause);
    }

    fn double(&mut self) {
        self.pause = self.pause.saturating_mul(2).min(self.longest);
    }
}

/// How a link is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// Whether the server is to be probed.
    pub(super) wants_probes: bool,
    /// Whether the breaker is open.
    pub(super) is_open: bool,
    /// Whether a query has been answered since this was asked last.
    pub(super) answered: bool,
}

/// The pause before the first probe.
const FIRST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Trouble = Trouble {
        wants_probes: false,
        is_open: false,
        answered: false,
    };

    const ANSWERED: Trouble = Trouble {
        answered: true,
        ..CALM
    };

    const OPEN: Trouble = Trouble {
        wants_probes: true,
        is_open: true,
        answered: false,
    };

    const HALF_OPEN: Trouble = Trouble {
        is_open: false,
        ..OPEN
    };

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start(longest: u64) -> (Probes, Instant) {
        (Probes::new(millis(longest)), Instant::now())
    }

    #[test]
    fn probes_follow_soon_and_then_more_and_more_seldom() {
        let (mut probes, start) = start(50);
        assert_eq!(probes.wait(CALM, start), None);
        assert_eq!(probes.wait(OPEN, start), Some(millis(10)));
        assert_eq!(probes.wait(OPEN, start + millis(4)), Some(millis(6)));
        assert_eq!(probes.wait(OPEN, start + millis(14)), Some(millis(0)));
        for pause in [20, 40, 50, 50] {
            probes.ended(false, start);
            assert_eq!(probes.wait(OPEN, start), Some(millis(pause)));
        }
        assert_eq!(probes.wait(HALF_OPEN, start), Some(millis(50)));
        assert_eq!(probes.wait(ANSWERED, start), None);
        assert_eq!(probes.wait(OPEN, start), Some(millis(10)), "from the start");
    }

    #[test]
    fn probes_that_succeed_where_no_query_does_become_seldom_too() {
        let (mut probes, start) = start(1_000);
        assert_eq!(probes.wait(OPEN, start), Some(millis(10)));
        for pause in [20, 40, 80, 160] {
            probes.ended(true, start);
            assert!(probes.wait(HALF_OPEN, start).is_some());
            // Closed for lack of traffic, and open again with the first query, or open at once.
            assert_eq!(probes.wait(CALM, start), None);
            assert_eq!(probes.wait(OPEN, start), Some(millis(pause)));
        }
        let (mut quick, start) = self::start(3);
        assert_eq!(quick.wait(OPEN, start), Some(millis(3)));
    }
}
