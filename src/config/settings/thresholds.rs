//! The kinds of values that only `alerts` holds.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{F64Deserializer, I64Deserializer, StrDeserializer, U64Deserializer};
use serde::de::{Error, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::texts::Written;
use super::values::{Number, Span};

/// A threshold, or the word `off`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OrOff<T> {
    /// Whatever it is the threshold of is not watched.
    Off,
    /// This much.
    At(T),
}

impl<T> OrOff<T> {
    /// The threshold, if there is one.
    #[must_use]
    pub fn get(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::At(threshold) => Some(threshold),
        }
    }
}

/// What may be a threshold.
pub(super) trait Threshold {
    /// What is expected, in a sentence.
    const EXPECTING: &'static str;

    /// Whether it is written as a text, and so says itself what is wrong with one.
    const IS_TEXT: bool = false;
}

impl Threshold for Percent {
    const EXPECTING: &'static str = "off or a percentage from 0 to 100";
}

impl<const MIN: u32, const MAX: u32> Threshold for Number<MIN, MAX> {
    const EXPECTING: &'static str = "off or a whole number that is not below zero";
}

impl<const MIN: u64> Threshold for Span<MIN> {
    const EXPECTING: &'static str = "off or a length of time with its unit, as in 500ms or 10s";
    const IS_TEXT: bool = true;
}

impl<T: Serialize> Serialize for OrOff<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str(OFF),
            Self::At(threshold) => threshold.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + Threshold> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrOffVisitor(PhantomData))
    }
}

struct OrOffVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Threshold> Visitor<'de> for OrOffVisitor<T> {
    type Value = OrOff<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    /// YAML 1.1 reads `off` as this; here it is the word.
    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        Err(E::invalid_type(Unexpected::Bool(flag), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == OFF {
            return Ok(OrOff::Off);
        }
        if !T::IS_TEXT {
            return Err(E::invalid_value(Unexpected::Str(text), &self));
        }
        let text: StrDeserializer<'_, E> = text.into_deserializer();
        T::deserialize(text).map(OrOff::At)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        let number: U64Deserializer<E> = number.into_deserializer();
        T::deserialize(number).map(OrOff::At)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        let number: I64Deserializer<E> = number.into_deserializer();
        T::deserialize(number).map(OrOff::At)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        let number: F64Deserializer<E> = number.into_deserializer();
        T::deserialize(number).map(OrOff::At)
    }
}

/// A percentage from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(f64);

impl Percent {
    /// The percentage itself, or the nearest that is allowed.
    #[must_use]
    pub const fn clamped(percent: f64) -> Self {
        Self(percent.clamp(0.0, 100.0))
    }

    /// The percentage.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PercentVisitor)
    }
}

struct PercentVisitor;

impl Visitor<'_> for PercentVisitor {
    type Value = Percent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Percent::EXPECTING)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Percent, E> {
        match (0.0..=100.0).contains(&number) {
            true => Ok(Percent(number)),
            false => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Percent, E> {
        match u8::try_from(number) {
            Ok(number @ 0..=100) => Ok(Percent(f64::from(number))),
            Ok(_) | Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Percent, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

/// Where every Alertmanager of a cluster is: each is told everything, and they agree among
/// themselves who tells people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertmanagerUrls(Vec<String>);

impl AlertmanagerUrls {
    /// Each, without a slash at its end; at least one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Serialize for AlertmanagerUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.join(","))
    }
}

impl Written for AlertmanagerUrls {
    const EXPECTING: &'static str =
        "one address such as http://127.0.0.1:9093, or several with commas between them";

    fn read(text: &str) -> Result<Self, String> {
        let each = text.split(',').map(|one| url(one.trim()));
        Ok(Self(each.collect::<Result<_, _>>()?))
    }
}

/// An address of HTTP, as it is used. What is refused is not repeated: there may be a password in it.
fn url(text: &str) -> Result<String, String> {
    let refused = |why: &str| Err(format!("not the address of an Alertmanager: {why}"));
    if text.contains('@') {
        return refused(
            "a user and a password in it are not supported; have a proxy add them, such as its sidecar",
        );
    }
    let Ok(uri) = text.parse::<http::Uri>() else {
        return refused("write it as http://HOST:9093");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return refused("it starts with http:// or https:// and names a host");
    }
    if uri.query().is_some() || uri.path().contains("/api/") {
        return refused("it ends before /api/v2/alerts, which is added");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

const OFF: &str = "off";
