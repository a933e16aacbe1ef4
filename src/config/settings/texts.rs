//! Texts that settings hold: those that may be left out, and those that not every text can be.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::values::Parsed;

/// What is read from a text.
pub(super) trait Written: Sized {
    /// What is expected, in a sentence.
    const EXPECTING: &'static str;

    /// Reads it, or says what is wrong with it.
    fn read(text: &str) -> Result<Self, String>;
}

impl Written for String {
    const EXPECTING: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Written for PathBuf {
    const EXPECTING: &'static str = "a path";

    fn read(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
}

/// Reads what may be left out. Null and an empty text leave it out; a variable can say no other.
pub(super) fn unless_empty<'de, D: Deserializer<'de>, T: Written>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_option(UnlessEmpty(PhantomData))
}

/// Reads a value that may be left out, as [`unless_empty`] does a text.
pub(super) fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_option(Optional(PhantomData))
}

struct Optional<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Optional<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    /// A variable without a value.
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "" => Ok(None),
            text => T::deserialize(serde::de::value::StrDeserializer::new(text)).map(Some),
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        T::deserialize(deserializer).map(Some)
    }
}

struct UnlessEmpty<T>(PhantomData<T>);

impl<'de, T: Written> Visitor<'de> for UnlessEmpty<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(Parsed {
            expecting: T::EXPECTING,
            parse: |text: &str| match text {
                "" => Ok(None),
                text => T::read(text).map(Some),
            },
        })
    }
}

/// What the names of all keys in Redis begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// The most bytes, so that every key stays under 250 ([`crate::model::Key::MAX_LEN`]).
    pub const MAX_LEN: usize = 20;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self("tollgate".to_owned())
    }
}

impl FromStr for KeyPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Braces would take the place of the tag that a Cluster hashes by.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is no key prefix: 1 to {} letters, digits and _ . : -",
                Self::MAX_LEN
            ))
        }
    }
}

impl<'de> Deserialize<'de> for KeyPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed {
            expecting: "text",
            parse: |text: &str| text.parse(),
        })
    }
}

/// The name that a server's certificate must have: a host's name or address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ServerName(String);

impl ServerName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Written for ServerName {
    const EXPECTING: &'static str = "a host's name or address";

    fn read(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        let name = text.len() <= 253 && text.split('.').all(label);
        if name || text.parse::<std::net::IpAddr>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is neither a host's name nor an address, which stand without port and scheme"
            ))
        }
    }
}
