//! Says when a server is left alone: a circuit breaker, as a pure state machine.
//!
//! One for each link to a server. While it is **closed** calls go out. After `threshold` failures
//! in a row it is **open**: nobody waits for the server, and probes, which are no client's
//! calls, look after it. A probe that succeeds makes it **half-open**, and so does the time, at the
//! latest after `timeout`: calls may go out again, one at a time, and the first says whether it
//! closes or opens anew.
//!
//! A call that carries many queries counts once, and so do calls that were under way together: those
//! that were sent before a failure was known met the same trouble. Otherwise one short pause of a
//! server, with `threshold` calls under way, would open it. Time is an argument. It knows nothing of servers.

use std::time::{Duration, Instant};

use crate::event::BreakerState;

/// When to open, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it, calls under way together being one; at least one.
    pub threshold: u32,
    /// How long it stays open at the longest if no probe succeeds.
    pub timeout: Duration,
}

/// A breaker.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: BreakerState,
    /// Failures in a row.
    failures: u32,
    /// When the last one was known.
    known: Option<Instant>,
    since: Instant,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn new(config: BreakerConfig, now: Instant) -> Self {
        Self {
            config,
            state: BreakerState::Closed,
            failures: 0,
            known: None,
            since: now,
        }
    }

    /// What it lets through now.
    pub fn state(&mut self, now: Instant) -> BreakerState {
        if self.state == BreakerState::Open
            && now.saturating_duration_since(self.since) >= self.config.timeout
        {
            self.change(BreakerState::HalfOpen, now);
        }
        self.state
    }

    /// What it let through when it was last asked, and since when.
    #[must_use]
    pub const fn last(&self) -> (BreakerState, Instant) {
        (self.state, self.since)
    }

    /// A call was answered.
    pub fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        // An answer that was under way when it opened says nothing of what was sent since.
        if self.state == BreakerState::HalfOpen {
            self.change(BreakerState::Closed, now);
        }
    }

    /// A call that was sent at `sent` failed.
    pub fn failed(&mut self, sent: Instant, now: Instant) {
        if self.known.is_some_and(|known| sent <= known) {
            return;
        }
        self.known = Some(now);
        self.failures = self.failures.saturating_add(1);
        match self.state {
            BreakerState::Closed if self.failures < self.config.threshold => {}
            BreakerState::Closed | BreakerState::HalfOpen => self.trip(now),
            BreakerState::Open => {}
        }
    }

    /// A probe succeeded.
    pub fn probed(&mut self, now: Instant) {
        if self.state == BreakerState::Open {
            self.change(BreakerState::HalfOpen, now);
        }
    }

    /// The server cannot be reached: no need to try `threshold` times.
    pub fn trip(&mut self, now: Instant) {
        self.known = Some(now);
        if self.state != BreakerState::Open {
            self.change(BreakerState::Open, now);
        }
    }

    fn change(&mut self, state: BreakerState, now: Instant) {
        self.state = state;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig {
        threshold: 3,
        timeout: Duration::from_secs(60),
    };

    const MILLI: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(CONFIG, now), now)
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let (mut breaker, now) = start();
        let mut time = now;
        let mut fail = |breaker: &mut Breaker| {
            let sent = time + MILLI;
            time = sent + MILLI;
            breaker.failed(sent, time);
        };
        fail(&mut breaker);
        fail(&mut breaker);
        breaker.succeeded(now);
        fail(&mut breaker);
        fail(&mut breaker);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        fail(&mut breaker);
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    #[test]
    fn calls_that_were_under_way_together_are_one_failure() {
        let (mut breaker, now) = start();
        for after in 0..20 {
            breaker.failed(now, now + MILLI * (10 + after));
        }
        assert_eq!(breaker.state(now + MILLI * 30), BreakerState::Closed);
        // Sent before the first one was known, and after.
        breaker.failed(now + MILLI * 10, now + MILLI * 31);
        breaker.failed(now + MILLI * 11, now + MILLI * 32);
        breaker.failed(now + MILLI * 31, now + MILLI * 40);
        assert_eq!(breaker.state(now + MILLI * 40), BreakerState::Closed);
        breaker.failed(now + MILLI * 33, now + MILLI * 41);
        assert_eq!(breaker.state(now + MILLI * 41), BreakerState::Open);
        // What was sent before it opened does not open it again.
        breaker.probed(now + MILLI * 50);
        breaker.failed(now + MILLI * 39, now + MILLI * 51);
        assert_eq!(breaker.state(now + MILLI * 51), BreakerState::HalfOpen);
        breaker.failed(now + MILLI * 52, now + MILLI * 60);
        assert_eq!(breaker.state(now + MILLI * 60), BreakerState::Open);
    }

    #[test]
    fn a_probe_lets_one_call_decide() {
        let (mut breaker, now) = start();
        breaker.trip(now);
        breaker.probed(now);
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        breaker.failed(now + MILLI, now + 2 * MILLI);
        assert_eq!(breaker.state(now), BreakerState::Open);
        breaker.probed(now);
        breaker.succeeded(now);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        breaker.failed(now + 3 * MILLI, now + 4 * MILLI);
        assert_eq!(breaker.state(now), BreakerState::Closed, "counts anew");
    }

    #[test]
    fn an_answer_that_was_under_way_does_not_close_it() {
        let (mut breaker, now) = start();
        breaker.trip(now);
        breaker.succeeded(now);
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    #[test]
    fn time_makes_it_half_open_at_the_latest() {
        let (mut breaker, now) = start();
        breaker.trip(now);
        let before = now + CONFIG.timeout - Duration::from_millis(1);
        assert_eq!(breaker.state(before), BreakerState::Open);
        breaker.trip(before);
        assert_eq!(breaker.last(), (BreakerState::Open, now), "not put off");
        let then = now + CONFIG.timeout;
        assert_eq!(breaker.state(then), BreakerState::HalfOpen);
        breaker.failed(then, then + MILLI);
        assert_eq!(breaker.last(), (BreakerState::Open, then + MILLI));
    }
}
