//! Time, read once per request at the edge and passed down as an argument.
//!
//! Everything below the edge takes a [`Timestamp`]; nothing but this file asks the operating
//! system what time it is, so any decision can be repeated in a test by naming its instant.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;

/// A point in time: whole milliseconds since the Unix epoch (UTC).
///
/// Milliseconds, because Redis' `TIME`, the windows and the Lua scripts (doubles, exact below
/// 2^53) all share them without loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// Adds milliseconds; stays at the end of time instead of wrapping.
impl Add<u64> for Timestamp {
    type Output = Self;

    fn add(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Where the wall clock's time comes from: the machine, or a test's hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `start` until [`Clock::set`] moves it. Clones share the time.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicU64::new(start.as_millis()))))
    }

    /// The time now. A machine clock before 1970 reads as 1970.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(manual) => Timestamp(manual.load(Ordering::Relaxed)),
            None => Timestamp(system_millis()),
        }
    }

    /// The same in nanoseconds since 1970, for spans, which are shorter than a millisecond.
    #[must_use]
    pub fn unix_nanos(&self) -> u64 {
        match &self.0 {
            Some(manual) => manual.load(Ordering::Relaxed).saturating_mul(1_000_000),
            None => nanos(since_1970()),
        }
    }

    /// The same at a moment of the monotonic clock.
    ///
    /// Moments keep their order and their distances, so that a call's span contains those of the calls
    /// that it waited for. Readings of the wall clock would not keep them: a thread may have to wait for a
    /// core between the end of a call and the reading. A manual clock stands still.
    #[must_use]
    pub fn unix_nanos_at(&self, moment: Instant) -> u64 {
        match &self.0 {
            Some(_) => self.unix_nanos(),
            None => Anchor::current().unix_nanos(moment),
        }
    }

    /// Moves a manual clock; a system clock cannot be moved and stays as it is.
    pub fn set(&self, to: Timestamp) {
        if let Some(manual) = &self.0 {
            manual.store(to.as_millis(), Ordering::Relaxed);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn system_millis() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// A moment on both clocks of the machine.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    moment: Instant,
    unix_nanos: u64,
}

/// What moments are converted by.
static ANCHOR: ArcSwapOption<Anchor> = ArcSwapOption::const_empty();

impl Anchor {
    /// The one in use, until the wall clock has been set or has drifted away from it.
    fn current() -> Self {
        let in_use = ANCHOR.load().as_deref().copied();
        let holds = |now: &Self| in_use.filter(|anchor| now.drift_from(anchor) < MOST_DRIFT);
        let now = Self::read();
        if let Some(anchor) = holds(&now) {
            return anchor;
        }
        let exact = (1..READINGS).fold(now, |best, _| best.more_exact(Self::read()));
        if let Some(anchor) = holds(&exact) {
            return anchor;
        }
        ANCHOR.store(Some(Arc::new(exact)));
        exact
    }

    /// Reads both clocks, one after the other.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    fn read() -> Self {
        Self {
            unix_nanos: nanos(since_1970()),
            moment: Instant::now(),
        }
    }

    /// The one of two readings for which less time passed between the clocks: it has the later wall
    /// clock at the same moment.
    fn more_exact(self, other: Self) -> Self {
        match self.unix_nanos(other.moment) < other.unix_nanos {
            true => other,
            false => self,
        }
    }

    fn drift_from(&self, other: &Self) -> Duration {
        Duration::from_nanos(other.unix_nanos(self.moment).abs_diff(self.unix_nanos))
    }

    fn unix_nanos(&self, moment: Instant) -> u64 {
        match moment.checked_duration_since(self.moment) {
            Some(after) => self.unix_nanos.saturating_add(nanos(after)),
            None => {
                let before = self.moment.saturating_duration_since(moment);
                self.unix_nanos.saturating_sub(nanos(before))
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Clocks that are this far apart have drifted, or one has been set.
const MOST_DRIFT: Duration = Duration::from_millis(50);

/// The thread may lose its core during one of them, hardly during each.
const READINGS: usize = 8;

/// Measures how long something took, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// When it was started.
    #[must_use]
    pub fn started(self) -> Instant {
        self.0
    }

    /// Time since [`Stopwatch::start`].
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_their_order_and_distance_on_the_wall_clock() {
        let (anchor, moment) = (Anchor::current(), Stopwatch::start().started());
        let at = anchor.unix_nanos(moment);
        assert_eq!(
            anchor.unix_nanos(moment + Duration::from_micros(3)),
            at + 3_000
        );
        let before = moment - Duration::from_secs(10);
        assert_eq!(anchor.unix_nanos(before), at - 10_000_000_000);
        let clock = Clock::system();
        assert!(clock.unix_nanos().abs_diff(clock.unix_nanos_at(moment)) < 60_000_000_000);
    }

    #[test]
    fn of_two_readings_the_one_is_taken_that_was_not_interrupted() {
        let moment = Stopwatch::start().started();
        let exact = Anchor {
            moment,
            unix_nanos: 5_000,
        };
        // A second passed between the wall clock's reading and this one's.
        let interrupted = Anchor {
            moment: moment + Duration::from_secs(1),
            unix_nanos: 6_000,
        };
        for best in [exact.more_exact(interrupted), interrupted.more_exact(exact)] {
            assert_eq!(best.unix_nanos(moment), 5_000);
        }
        assert_eq!(
            interrupted.drift_from(&exact),
            Duration::from_nanos(999_999_000)
        );
    }

    #[test]
    fn a_manual_clock_stands_still() {
        let clock = Clock::manual(Timestamp::from_millis(7));
        let moment = Stopwatch::start().started();
        assert_eq!(
            clock.unix_nanos_at(moment + Duration::from_secs(1)),
            7_000_000
        );
    }
}
