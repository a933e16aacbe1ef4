//! What to ask: the same descriptors each time, but for the numbers of keys in them.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use rand::RngExt;
use rand::distr::Distribution;
use rand_distr::Zipf;

use crate::model::DescriptorText;
use crate::transport::wire;

/// How to make a request.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    request: wire::RateLimitRequest,
    /// Whether a value has a place for a key's number.
    has_keys: bool,
    keys: u32,
    draw: Draw,
    /// The only request there is, if there is only one.
    fixed: Bytes,
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    /// How many there are.
    pub(super) count: NonZero<u32>,
    pub(super) order: KeyOrder,
    /// The exponent of Zipf's law; none: each as often as the others.
    pub(super) zipf: Option<f64>,
}

/// The order in which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum KeyOrder {
    /// Drawn by chance
    Random,
    /// One after the other, from the first again after the last
    Sequential,
}

/// How the next key's number is found.
#[derive(Clone, Debug)]
enum Draw {
    Evenly,
    Zipf(Zipf<f64>),
    /// What comes next, for all threads together.
    InTurn(Arc<AtomicU64>),
}

impl Draw {
    fn new(keys: Keys) -> Result<Self, String> {
        match (keys.order, keys.zipf) {
            (KeyOrder::Sequential, Some(_)) => Err(
                "--zipf draws keys by chance, --key-order sequential does not: leave one out"
                    .to_owned(),
            ),
            (KeyOrder::Random, Some(_)) if keys.count.get() == 1 => {
                Err("--zipf draws among several keys: say how many with --keys".to_owned())
            }
            (KeyOrder::Random, Some(exponent)) => Zipf::new(f64::from(keys.count.get()), exponent)
                .map(Self::Zipf)
                .map_err(|error| format!("--zipf: {error}")),
            (KeyOrder::Random, None) => Ok(Self::Evenly),
            (KeyOrder::Sequential, None) => Ok(Self::InTurn(Arc::default())),
        }
    }
}

impl Plan {
    pub(super) fn new(
        domain: &str,
        descriptors: &[DescriptorText],
        keys: Keys,
        hits: Option<u64>,
    ) -> Result<Self, String> {
        let entry = |(key, value): &(String, String)| wire::Entry {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        let descriptor = |text: &DescriptorText| wire::RateLimitDescriptor {
            entries: text.entries().iter().map(entry).collect(),
            limit: None,
            hits_addend: hits,
            is_negative_hits: false,
        };
        let request = wire::RateLimitRequest {
            domain: Bytes::copy_from_slice(domain.as_bytes()),
            descriptors: descriptors.iter().map(descriptor).collect(),
            hits_addend: 0,
        };
        let entries = descriptors.iter().flat_map(DescriptorText::entries);
        let has_keys = entries.clone().any(|(_, value)| value.contains('%'));
        if keys.count.get() > 1 && !has_keys {
            let first = entries.map(|(key, _)| key.as_str()).next();
            let first = first.unwrap_or("key");
            return Err(format!(
                "--keys {} needs a % in a value, which the key's number replaces: {first}=%",
                keys.count
            ));
        }
        let mut plan = Self {
            request,
            has_keys,
            keys: keys.count.get(),
            draw: Draw::new(keys)?,
            fixed: Bytes::new(),
        };
        plan.fixed = plan.for_key(0);
        Ok(plan)
    }

    /// A request, framed as gRPC wants it.
    pub(super) fn request(&self) -> Bytes {
        match self.has_keys && self.keys > 1 {
            true => self.for_key(self.draw()),
            false => self.fixed.clone(),
        }
    }

    fn draw(&self) -> u32 {
        match &self.draw {
            Draw::Evenly => rand::rng().random_range(0..self.keys),
            Draw::InTurn(next) => {
                let turn = next.fetch_add(1, Ordering::Relaxed) % u64::from(self.keys);
                // Below a u32.
                u32::try_from(turn).unwrap_or_default()
            }
            // From 1 to the number of keys.
            Draw::Zipf(zipf) => {
                let drawn = zipf.sample(&mut rand::rng());
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a whole number from 1 to a u32"
                )]
                let drawn = drawn as u32;
                drawn.saturating_sub(1)
            }
        }
    }

    fn for_key(&self, key: u32) -> Bytes {
        let mut request = self.request.clone();
        if self.has_keys {
            let number = key.to_string();
            let descriptors = request.descriptors.iter_mut();
            for entry in descriptors.flat_map(|descriptor| &mut descriptor.entries) {
                let value = String::from_utf8_lossy(&entry.value).replace('%', &number);
                entry.value = value.into();
            }
        }
        let length = request.encoded_len();
        let mut framed = BytesMut::with_capacity(length.saturating_add(PREFIX));
        framed.put_u8(0);
        framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        framed.extend_from_slice(&request.encode_to_vec());
        framed.freeze()
    }
}

/// Reads the exponent of Zipf's law.
pub(super) fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(exponent) if exponent.is_finite() && exponent > 0.0 => Ok(exponent),
        _ => Err(format!("{text:?} is no number above 0, such as 1.1")),
    }
}

/// gRPC's flag and length before a message.
const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan(descriptor: &str, keys: u32, zipf: Option<f64>) -> Result<Plan, String> {
        ordered(descriptor, keys, zipf, KeyOrder::Random)
    }

    fn ordered(
        descriptor: &str,
        count: u32,
        zipf: Option<f64>,
        order: KeyOrder,
    ) -> Result<Plan, String> {
        let descriptors = [DescriptorText::parse(descriptor).unwrap()];
        let count = NonZero::new(count).unwrap();
        let keys = Keys { count, order, zipf };
        Plan::new("shop", &descriptors, keys, None)
    }

    fn value(framed: &Bytes) -> String {
        assert_eq!(framed[0], 0);
        let length = u32::from_be_bytes(framed[1..5].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), framed.len() - 5);
        let request = wire::RateLimitRequest::decode(framed.slice(5..)).unwrap();
        assert_eq!(&*request.domain, b"shop");
        String::from_utf8(request.descriptors[0].entries[0].value.to_vec()).unwrap()
    }

    #[test]
    fn a_percent_sign_becomes_the_number_of_a_key() {
        let even = plan("user=u-%", 4, None).unwrap();
        let mut seen = BTreeMap::new();
        for _ in 0..4_000 {
            *seen.entry(value(&even.request())).or_insert(0) += 1;
        }
        let names: Vec<&str> = seen.keys().map(String::as_str).collect();
        assert_eq!(names, ["u-0", "u-1", "u-2", "u-3"]);
        assert!(seen.values().all(|many| *many > 500), "{seen:?}");
        assert_eq!(value(&plan("user=%", 1, None).unwrap().request()), "0");
        assert_eq!(value(&plan("user=ann", 1, None).unwrap().request()), "ann");
    }

    #[test]
    fn by_zipf_the_first_keys_come_most_often() {
        let skewed = plan("user=%", 1_000, Some(1.1)).unwrap();
        let drawn: Vec<u32> = (0..10_000).map(|_| skewed.draw()).collect();
        let of = |key| drawn.iter().filter(|drawn| **drawn == key).count();
        assert!(of(0) > of(9) && of(9) > of(500), "{} {}", of(0), of(9));
        assert!(drawn.iter().all(|key| *key < 1_000));
    }

    #[test]
    fn in_turn_every_key_comes_once_for_all_threads_before_one_comes_again() {
        let first = ordered("user=%", 10, None, KeyOrder::Sequential).unwrap();
        let second = first.clone();
        let values: Vec<String> = (0..10)
            .flat_map(|_| [value(&first.request()), value(&second.request())])
            .collect();
        let twice: Vec<String> = (0..20).map(|turn| (turn % 10).to_string()).collect();
        assert_eq!(values, twice);
        assert!(ordered("user=%", 10, Some(1.1), KeyOrder::Sequential).is_err());
    }

    #[test]
    fn keys_without_a_place_are_a_mistake() {
        let error = plan("user=ann", 10, None).unwrap_err();
        assert!(error.contains("user=%"), "{error}");
        assert!(plan("user=%", 1, Some(1.0)).is_err());
        assert!(exponent("0").is_err() && exponent("x").is_err());
        assert!(exponent("inf").is_err() && exponent("0.9").is_ok());
    }
}
