//! Says when a server is left alone: a circuit breaker, as a pure state machine.
//!
//! One for each link to a server. While it is **closed** calls go out. After `threshold` failed
//! calls in a row it is **open**: nobody waits for the server, and probes, which are no client's
//! calls, look after it. A probe that succeeds makes it **half-open**, and so does the time, at the
//! latest after `timeout`: calls may go out again, one at a time, and the first says whether it
//! closes or opens anew.
//!
//! A call that carries many queries counts once. Time is an argument. It knows nothing of servers.

use std::time::{Duration, Instant};

use crate::event::BreakerState;

/// When to open, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failed calls in a row that open it; at least one.
    pub threshold: u32,
    /// How long it stays open at the longest if no probe succeeds.
    pub timeout: Duration,
}

/// A breaker.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: BreakerState,
    /// Failed calls in a row.
    failures: u32,
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

    /// A call failed.
    pub fn failed(&mut self, now: Instant) {
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

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(CONFIG, now), now)
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let (mut breaker, now) = start();
        breaker.failed(now);
        breaker.failed(now);
        breaker.succeeded(now);
        breaker.failed(now);
        breaker.failed(now);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        breaker.failed(now);
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    #[test]
    fn a_probe_lets_one_call_decide() {
        let (mut breaker, now) = start();
        breaker.trip(now);
        breaker.probed(now);
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        breaker.failed(now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        breaker.probed(now);
        breaker.succeeded(now);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        breaker.failed(now);
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
        breaker.failed(then);
        assert_eq!(breaker.last(), (BreakerState::Open, then));
    }
}
