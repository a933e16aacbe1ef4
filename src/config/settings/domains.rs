//! `domains`: a map in which nothing stands twice.
//!
//! It is the map of the emergency switch: of two entries for one domain, one would be ignored
//! silently, and that could be the one that was added in a hurry.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::DomainSettings;

/// Reads the map. Null is an empty one, as for other groups.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, DomainSettings>, D::Error> {
    Ok(Option::<Domains>::deserialize(deserializer)?
        .unwrap_or_default()
        .0)
}

#[derive(Default)]
struct Domains(BTreeMap<String, DomainSettings>);

impl<'de> Deserialize<'de> for Domains {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries).map(Self)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = BTreeMap<String, DomainSettings>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut domains = BTreeMap::new();
        while let Some(name) = map.next_key_seed(NewName(&domains))? {
            // A domain whose lines are all commented out is null.
            let own: Option<DomainSettings> = map.next_value()?;
            domains.insert(name, own.unwrap_or_default());
        }
        Ok(domains)
    }
}

/// A name that is not there yet; refused while it is read, since serde_yaml knows the place of an
/// error only then.
struct NewName<'d>(&'d BTreeMap<String, DomainSettings>);

impl<'de> DeserializeSeed<'de> for NewName<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewName<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a domain's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        if self.0.contains_key(name) {
            return Err(E::custom(format!("duplicate field `{name}`")));
        }
        Ok(name.to_owned())
    }
}
