//! Addresses of Redis servers. A password in one is for the server only: whatever shows an address
//! shows `***` instead.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::texts::Written;
use super::values::Parsed;
use crate::store::redis::{Address, AddressError, Place, Secret, Topology};

/// The address of a Redis, as it was written: `redis://user:password@host:6379/0` and its like.
/// However it is shown, its password is not.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    text: String,
    address: Address,
}

impl RedisUrl {
    /// What it says.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The address with its password, for the settings' own eyes.
    pub(super) fn reveal(&self) -> &str {
        &self.text
    }
}

/// Why a text is no [`RedisUrl`]. Holds nothing of a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RedisUrlError(String);

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let refused = |why: &dyn fmt::Display| RedisUrlError(format!("{REFUSED}{why}"));
        let address: Address = text
            .parse()
            .map_err(|error: AddressError| refused(&error))?;
        if passwords(&address).any(|password| password.reveal() == HIDDEN) {
            let why = format!("its password was hidden as {HIDDEN}: write the real one");
            return Err(refused(&why));
        }
        Ok(Self {
            text: text.to_owned(),
            address,
        })
    }
}

/// A Redis on this machine.
impl Default for RedisUrl {
    fn default() -> Self {
        Self {
            text: "redis://127.0.0.1:6379/0".to_owned(),
            address: Address {
                topology: Topology::Single(Place::tcp("127.0.0.1", 6379)),
                tls: false,
                username: None,
                password: None,
                database: 0,
            },
        }
    }
}

/// Without its password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_passwords(&self.text))
    }
}

/// Without its password.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// Without its password.
impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Written for RedisUrl {
    const EXPECTING: &'static str = "one address such as redis://127.0.0.1:6379/0";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: RedisUrlError| error.0)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed {
            expecting: Self::EXPECTING,
            parse: Self::read,
        })
    }
}

/// Several addresses, in order. Written as a list, or as one text with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RedisUrls(pub Vec<RedisUrl>);

impl<'de> Deserialize<'de> for RedisUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlsVisitor).map(Self)
    }
}

struct UrlsVisitor;

impl<'de> Visitor<'de> for UrlsVisitor {
    type Value = Vec<RedisUrl>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of addresses")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        text.split(',')
            .map(|one| RedisUrl::read(one.trim()).map_err(E::custom))
            .collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut urls = Vec::new();
        while let Some(url) = list.next_element()? {
            urls.push(url);
        }
        Ok(urls)
    }
}

fn passwords(address: &Address) -> impl Iterator<Item = &Secret> {
    let of_sentinels = match &address.topology {
        Topology::Sentinel { password, .. } => password.as_ref(),
        Topology::Single(_) | Topology::Cluster(_) => None,
    };
    address.password.iter().chain(of_sentinels)
}

/// `text` with `***` for the passwords of every address in it. Rather hides too much: what stands
/// between the colon after a user's name and the last `@`, however it looks.
pub(super) fn without_passwords(text: &str) -> String {
    let mut shown = text.to_owned();
    let user = text.find("://").map(|at| at.saturating_add(3));
    if let Some(start) = user
        && let Some(rest) = text.get(start..)
        && let Some(end) = rest.rfind('@')
        && let Some(colon) = rest.find(':').filter(|colon| *colon < end)
    {
        let password = start.saturating_add(colon).saturating_add(1)..start.saturating_add(end);
        shown.replace_range(password, HIDDEN);
    }
    hide_parameters(&shown)
}

/// Sentinel's password may stand among an address's parameters.
fn hide_parameters(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(PARAMETER) {
        let (before, value) = rest.split_at(at.saturating_add(PARAMETER.len()));
        let end = value.find(['&', '`', '"', ' ', ',']);
        shown.push_str(before);
        shown.push_str(HIDDEN);
        rest = end.and_then(|end| value.get(end..)).unwrap_or_default();
    }
    shown.push_str(rest);
    shown
}

const PARAMETER: &str = "password=";

/// What every [`RedisUrlError`] begins with, so that its examples need not be hidden.
pub(super) const REFUSED: &str = "not the address of a Redis: ";

/// What is shown for a password.
pub(super) const HIDDEN: &str = "***";
