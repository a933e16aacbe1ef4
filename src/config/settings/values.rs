//! The kinds of values that settings hold. None can hold what its setting forbids.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Number<MIN, MAX> {
    /// The number itself, or the nearest that is allowed.
    #[must_use]
    pub const fn clamped(number: u32) -> Self {
        if number < MIN {
            Self(MIN)
        } else if number > MAX {
            Self(MAX)
        } else {
            Self(number)
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as a size.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Number<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Range { min: MIN, max: MAX })
            .map(Self)
    }
}

struct Range {
    min: u32,
    max: u32,
}

impl Visitor<'_> for Range {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.min, self.max)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
        u32::try_from(number)
            .ok()
            .filter(|n| (self.min..=self.max).contains(n))
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u32, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// The share itself, or the nearest that is allowed; 0 for what is no number.
    #[must_use]
    pub fn clamped(share: f64) -> Self {
        match share.is_nan() {
            true => Self(0.0),
            false => Self(share.clamp(0.0, 1.0)),
        }
    }

    /// The share.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RatioVisitor)
    }
}

struct RatioVisitor;

impl Visitor<'_> for RatioVisitor {
    type Value = Ratio;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share from 0 to 1, such as 0.25")
    }

    fn visit_f64<E: Error>(self, share: f64) -> Result<Ratio, E> {
        match (0.0..=1.0).contains(&share) {
            true => Ok(Ratio(share)),
            false => Err(E::invalid_value(Unexpected::Float(share), &self)),
        }
    }

    fn visit_u64<E: Error>(self, share: u64) -> Result<Ratio, E> {
        match share {
            0 => Ok(Ratio(0.0)),
            1 => Ok(Ratio(1.0)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(share), &self)),
        }
    }

    fn visit_i64<E: Error>(self, share: i64) -> Result<Ratio, E> {
        Err(E::invalid_value(Unexpected::Signed(share), &self))
    }
}

/// A length of time of at least `MIN_MILLIS` milliseconds and at most 365 days, written as `250ms`,
/// `5m` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<const MIN_MILLIS: u64>(Duration);

impl<const MIN_MILLIS: u64> Span<MIN_MILLIS> {
    /// So many seconds, or the nearest length that is allowed.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// So many milliseconds, or the nearest length that is allowed.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        let millis = if millis < MIN_MILLIS {
            MIN_MILLIS
        } else {
            millis
        };
        let millis = if millis > MAX_MILLIS {
            MAX_MILLIS
        } else {
            millis
        };
        Self(Duration::from_millis(millis))
    }

    /// The length.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        // serde_yaml hands over as text what YAML calls a number, too.
        if text.parse::<f64>().is_ok() {
            return Err(format!(
                "{text} has no unit, write {text}s for seconds or {text}ms for milliseconds"
            ));
        }
        if text.trim().starts_with('-') {
            return Err(format!(
                "{text:?} is below zero, write a length of time such as 30s or 5m"
            ));
        }
        let length = humantime::parse_duration(text.trim())
            .map_err(|error| format!("{text:?} is no length of time such as 30s or 5m: {error}"))?;
        let (min, max) = (
            Duration::from_millis(MIN_MILLIS),
            Duration::from_millis(MAX_MILLIS),
        );
        if length < min || length > max {
            let min = humantime::format_duration(min);
            return Err(format!("{text:?} is not from {min} to 365days"));
        }
        Ok(Self(length))
    }
}

impl<const MIN_MILLIS: u64> fmt::Display for Span<MIN_MILLIS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl<const MIN_MILLIS: u64> Serialize for Span<MIN_MILLIS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const MIN_MILLIS: u64> Deserialize<'de> for Span<MIN_MILLIS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed {
            expecting: "a length of time with its unit, as in 30s or 5m",
            parse: Self::parse,
        })
    }
}

const MAX_MILLIS: u64 = 365 * 24 * 60 * 60 * 1000;

/// A number from 1 to `MAX`, or one that is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoOr<const MAX: u32> {
    /// It is found out.
    #[default]
    Auto,
    /// This one.
    Count(Number<1, MAX>),
}

/// How many threads answer: as many as the machine, or the container's quota, has cores; or so many.
pub type Threads = AutoOr<1024>;

/// How many replicas share limits: as many as the shared store knows of; or so many.
pub type Replicas = AutoOr<10_000>;

impl<const MAX: u32> AutoOr<MAX> {
    const RANGE: Range = Range { min: 1, max: MAX };
}

impl<const MAX: u32> Serialize for AutoOr<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => count.serialize(serializer),
        }
    }
}

impl<'de, const MAX: u32> Deserialize<'de> for AutoOr<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AutoOrVisitor::<MAX>)
    }
}

struct AutoOrVisitor<const MAX: u32>;

impl<const MAX: u32> Visitor<'_> for AutoOrVisitor<MAX> {
    type Value = AutoOr<MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("auto or ")?;
        AutoOr::<MAX>::RANGE.expecting(f)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<AutoOr<MAX>, E> {
        match AutoOr::<MAX>::RANGE.visit_u64::<E>(number) {
            Ok(count) => Ok(AutoOr::Count(Number::clamped(count))),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<AutoOr<MAX>, E> {
        Err(E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AutoOr<MAX>, E> {
        match text {
            "auto" => Ok(AutoOr::Auto),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

/// Where counters are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In this process.
    #[default]
    Memory,
    /// In a Redis that all replicas share.
    Redis,
}

/// Which response headers tell the client about the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderStyle {
    /// None.
    #[default]
    None,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`, as envoyproxy/ratelimit.
    Reference,
    /// `RateLimit` and `RateLimit-Policy`, as the IETF draft.
    Ietf,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads a text by `parse`, inside the visit of the value, since serde_yaml knows the place of an
/// error only there.
pub(super) struct Parsed<F> {
    pub(super) expecting: &'static str,
    pub(super) parse: F,
}

impl<F, T> Visitor<'_> for Parsed<F>
where
    F: FnOnce(&str) -> Result<T, String>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// The enums of the model by their names in policies.
pub(super) mod named {
    use serde::{Deserializer, Serializer};

    use super::Parsed;
    use crate::model::{Algorithm, DeniedHits, OnStoreFailure};

    pub(in crate::config) trait Named: Copy + 'static {
        const ALL: &'static [Self];
        fn name(self) -> &'static str;
    }

    impl Named for Algorithm {
        const ALL: &'static [Self] = &Self::ALL;
        fn name(self) -> &'static str {
            self.name()
        }
    }

    impl Named for DeniedHits {
        const ALL: &'static [Self] = &Self::ALL;
        fn name(self) -> &'static str {
            self.name()
        }
    }

    impl Named for OnStoreFailure {
        const ALL: &'static [Self] = &Self::ALL;
        fn name(self) -> &'static str {
            self.name()
        }
    }

    pub(in crate::config) fn serialize<S: Serializer, T: Named>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.name())
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>, T: Named>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        deserializer.deserialize_str(Parsed {
            expecting: "a name",
            parse: |text: &str| {
                let found = T::ALL.iter().copied().find(|one| one.name() == text);
                found.ok_or_else(|| {
                    let names = T::ALL.iter().map(|one| format!("`{}`", one.name()));
                    let names: Vec<String> = names.collect();
                    let names = names.join(", ");
                    format!("unknown variant `{text}`, expected one of {names}")
                })
            },
        })
    }
}
