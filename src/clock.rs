//! Time, read once per request at the edge and passed down as an argument.
//!
//! Everything below the edge takes a [`Timestamp`]; nothing but this file asks the operating
//! system what time it is, so any decision can be repeated in a test by naming its instant.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
            None => u64::try_from(since_1970().as_nanos()).unwrap_or(u64::MAX),
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

    /// Time since [`Stopwatch::start`].
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
