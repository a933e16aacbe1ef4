//! When to look after a burst of changes: once it is over, or has gone on for too long.

use std::time::Duration;

use tokio::time::Instant;

/// Waits for quiet. A state machine: time is an argument, and whoever owns it sleeps.
#[derive(Debug)]
pub(super) struct Debounce {
    /// How long nothing must have happened.
    quiet: Duration,
    /// How long it may take at most.
    longest: Duration,
    /// First and last change that nobody has looked at.
    burst: Option<(Instant, Instant)>,
}

impl Debounce {
    pub(super) const fn new(quiet: Duration, longest: Duration) -> Self {
        Self {
            quiet,
            longest,
            burst: None,
        }
    }

    /// Something changed.
    pub(super) fn noise(&mut self, now: Instant) {
        let (first, last) = self.burst.unwrap_or((now, now));
        self.burst = Some((first, last.max(now)));
    }

    /// When to look; never, if nothing has changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.burst?;
        Some((last + self.quiet).min(first + self.longest))
    }

    /// Somebody looks now: what comes later is a new burst.
    pub(super) fn looked(&mut self) {
        self.burst = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(2);

    /// Noise at these milliseconds; the millisecond at which it is then time to look.
    fn due_after(noise: &[u64]) -> Option<u128> {
        let start = Instant::now();
        let mut debounce = Debounce::new(QUIET, LONGEST);
        for millis in noise {
            debounce.noise(start + Duration::from_millis(*millis));
        }
        Some(debounce.due()?.duration_since(start).as_millis())
    }

    #[test]
    fn without_noise_there_is_nothing_to_wait_for() {
        assert_eq!(due_after(&[]), None);
    }

    #[test]
    fn it_waits_until_it_has_been_quiet() {
        assert_eq!(due_after(&[0]), Some(250));
        assert_eq!(due_after(&[0, 100, 240]), Some(490));
    }

    #[test]
    fn noise_without_end_does_not_put_it_off_for_ever() {
        let noise: Vec<u64> = (0..100).map(|i| i * 100).collect();
        assert_eq!(due_after(&noise), Some(2_000));
    }

    #[test]
    fn noise_after_the_look_is_a_new_burst() {
        let start = Instant::now();
        let mut debounce = Debounce::new(QUIET, LONGEST);
        debounce.noise(start);
        debounce.looked();
        assert_eq!(debounce.due(), None);
        debounce.noise(start + LONGEST);
        assert_eq!(debounce.due(), Some(start + LONGEST + QUIET));
    }

    #[test]
    fn noise_that_comes_late_does_not_turn_time_back() {
        assert_eq!(due_after(&[100, 50]), Some(350));
    }
}
