//! The numbers of a rule: how much, in what time, counted how.

use std::fmt;

/// The longest window: 2^35 ms, a little over a year. Products of a window and a limit then stay
/// within what the Redis scripts can count exactly.
pub const MAX_WINDOW_MILLIS: u64 = 1 << 35;

/// The largest limit of a `sliding_log`, which keeps an item per charge.
pub const MAX_LOG_LIMIT: u32 = 100_000;

/// A unit of time as the policies and Envoy name it. A month is 30 days and a year 365, both
/// counted from the Unix epoch, as Envoy's own headers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// One second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl Unit {
    /// Every unit, shortest first.
    pub const ALL: [Self; 7] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Year,
    ];

    /// The unit's name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Length in milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        const SECOND: u64 = 1000;
        const DAY: u64 = 24 * 60 * 60 * SECOND;
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 60 * 60 * SECOND,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A whole number of units, never zero and never longer than [`MAX_WINDOW_MILLIS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    unit: Unit,
    multiplier: u32,
}

impl Window {
    /// A window of `multiplier` units.
    ///
    /// # Errors
    /// If the multiplier is 0 or the window longer than [`MAX_WINDOW_MILLIS`].
    pub const fn try_new(unit: Unit, multiplier: u32) -> Result<Self, QuotaError> {
        if multiplier == 0 {
            return Err(QuotaError::EmptyWindow);
        }
        // No overflow: a year is below 2^35 and the multiplier below 2^32.
        if unit.millis().saturating_mul(multiplier as u64) > MAX_WINDOW_MILLIS {
            return Err(QuotaError::WindowTooLong);
        }
        Ok(Self { unit, multiplier })
    }

    /// Length in milliseconds; a multiple of 1000.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.unit
            .millis()
            .saturating_mul(u64::from(self.multiplier))
    }

    /// The unit that the operator or caller named.
    #[must_use]
    pub const fn unit(self) -> Unit {
        self.unit
    }

    /// How many of the unit.
    #[must_use]
    pub const fn multiplier(self) -> u32 {
        self.multiplier
    }
}

/// For people: `minute`, or `5 minutes`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.multiplier {
            1 => write!(f, "{}", self.unit),
            n => write!(f, "{n} {}s", self.unit),
        }
    }
}

/// How hits are counted; see `src/algorithm/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// At most the limit in each window, windows aligned to the epoch.
    #[default]
    FixedWindow,
    /// At most the limit in any interval of one window; a weighted log of every charge.
    SlidingLog,
    /// At most the limit in any interval of one window; eleven cells, tokens return a little late.
    SlidingWindow,
    /// A bucket of `burst` tokens, refilled evenly with the limit per window.
    TokenBucket,
}

impl Algorithm {
    /// Every algorithm, the default first.
    pub const ALL: [Self; 4] = [
        Self::FixedWindow,
        Self::SlidingWindow,
        Self::SlidingLog,
        Self::TokenBucket,
    ];

    /// The name in policies and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FixedWindow => "fixed_window",
            Self::SlidingLog => "sliding_log",
            Self::SlidingWindow => "sliding_window",
            Self::TokenBucket => "token_bucket",
        }
    }

    /// The part of a counter's key that keeps algorithms apart.
    #[must_use]
    pub const fn key_suffix(self) -> &'static str {
        match self {
            Self::FixedWindow => "window",
            Self::SlidingLog => "requests",
            Self::SlidingWindow => "sliding",
            Self::TokenBucket => "bucket",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a denied request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeniedHits {
    /// It is counted all the same, as envoyproxy/ratelimit does. Fixed windows only.
    Charged,
    /// The charge always lands, and a request is over only if nothing was left before it: for
    /// budgets whose cost is known only once the answer has been sent.
    Debt,
    /// Nothing.
    #[default]
    Free,
}

impl DeniedHits {
    /// Every way, the default first.
    pub const ALL: [Self; 3] = [Self::Free, Self::Charged, Self::Debt];

    /// The name in policies and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::Debt => "debt",
            Self::Free => "free",
        }
    }
}

impl fmt::Display for DeniedHits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rule's numbers, checked: whoever holds one may count with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u32,
    burst: u32,
    window: Window,
    algorithm: Algorithm,
    denied_hits: DeniedHits,
}

impl Quota {
    /// `limit` hits per `window`, counted by `algorithm`.
    ///
    /// # Errors
    /// If the algorithm cannot keep the promise that the other numbers ask for.
    pub const fn try_new(
        limit: u32,
        window: Window,
        algorithm: Algorithm,
        denied_hits: DeniedHits,
    ) -> Result<Self, QuotaError> {
        match (algorithm, denied_hits) {
            (Algorithm::FixedWindow, _) | (_, DeniedHits::Debt | DeniedHits::Free) => {}
            (_, DeniedHits::Charged) => return Err(QuotaError::ChargedNeedsFixedWindow),
        }
        if matches!(algorithm, Algorithm::SlidingLog) && limit > MAX_LOG_LIMIT {
            return Err(QuotaError::LogTooLong);
        }
        Ok(Self {
            limit,
            burst: limit,
            window,
            algorithm,
            denied_hits,
        })
    }

    /// The same with a bucket of another size than the limit.
    ///
    /// # Errors
    /// If the algorithm has no bucket.
    pub const fn with_burst(self, burst: u32) -> Result<Self, QuotaError> {
        match self.algorithm {
            Algorithm::TokenBucket => Ok(Self { burst, ..self }),
            Algorithm::FixedWindow | Algorithm::SlidingLog | Algorithm::SlidingWindow => {
                Err(QuotaError::BurstNeedsBucket)
            }
        }
    }

    /// An ordinary fixed window; what a limit that came with the request gets.
    #[must_use]
    pub const fn fixed(limit: u32, window: Window, denied_hits: DeniedHits) -> Self {
        Self {
            limit,
            burst: limit,
            window,
            algorithm: Algorithm::FixedWindow,
            denied_hits,
        }
    }

    /// A part of the same: at most so many hits per window, and a bucket of at most this size.
    #[must_use]
    pub fn at_most(self, limit: u32, burst: u32) -> Self {
        let limit = self.limit.min(limit);
        let burst = match self.algorithm {
            Algorithm::TokenBucket => self.burst.min(burst),
            Algorithm::FixedWindow | Algorithm::SlidingLog | Algorithm::SlidingWindow => limit,
        };
        Self {
            limit,
            burst,
            ..self
        }
    }

    /// The same where every charge lands, whether it fits or not; every algorithm can do that.
    #[must_use]
    pub const fn with_debt(self) -> Self {
        Self {
            denied_hits: DeniedHits::Debt,
            ..self
        }
    }

    /// Hits per window (`requests_per_unit`).
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The bucket's size; the limit where the algorithm has no bucket.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What a denied request costs.
    #[must_use]
    pub const fn denied_hits(&self) -> DeniedHits {
        self.denied_hits
    }
}

/// For people: `100 per 5 minutes (sliding_window)`.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {} ({}", self.limit, self.window, self.algorithm)?;
        if self.burst != self.limit {
            write!(f, ", burst {}", self.burst)?;
        }
        if self.denied_hits != DeniedHits::Free {
            write!(f, ", denied hits {}", self.denied_hits)?;
        }
        f.write_str(")")
    }
}

/// Why numbers do not make a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// `burst` beside an algorithm without a bucket.
    #[error("burst is only for token_bucket")]
    BurstNeedsBucket,
    /// `charged` beside another algorithm than the fixed window.
    #[error("denied_hits: charged is only for fixed_window")]
    ChargedNeedsFixedWindow,
    /// A window of no length.
    #[error("a window of 0 units")]
    EmptyWindow,
    /// A log that would keep too many items.
    #[error("a sliding_log keeps an item per charge, so its limit is at most {MAX_LOG_LIMIT}")]
    LogTooLong,
    /// A window longer than [`MAX_WINDOW_MILLIS`].
    #[error("a window is at most {} days long", MAX_WINDOW_MILLIS / Unit::Day.millis())]
    WindowTooLong,
}
