//! What to ask: the same descriptors each time, but for the numbers of keys in them.

use std::num::NonZero;

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
    zipf: Option<Zipf<f64>>,
    /// The only request there is, if there is only one.
    fixed: Bytes,
}

impl Plan {
    pub(super) fn new(
        domain: &str,
        descriptors: &[DescriptorText],
        keys: NonZero<u32>,
        zipf: Option<f64>,
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
        if keys.get() > 1 && !has_keys {
            let first = entries.map(|(key, _)| key.as_str()).next();
            let first = first.unwrap_or("key");
            return Err(format!(
                "--keys {keys} needs a % in a value, which the key's number replaces: {first}=%"
            ));
        }
        if zipf.is_some() && keys.get() == 1 {
            return Err("--zipf draws among several keys: say how many with --keys".to_owned());
        }
        let zipf = zipf
            .map(|exponent| Zipf::new(f64::from(keys.get()), exponent))
            .transpose()
            .map_err(|error| format!("--zipf: {error}"))?;
        let mut plan = Self {
            request,
            has_keys,
            keys: keys.get(),
            zipf,
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
        let mut dice = rand::rng();
        match &self.zipf {
            None => dice.random_range(0..self.keys),
            // From 1 to the number of keys.
            Some(zipf) => {
                let drawn = zipf.sample(&mut dice);
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
        let descriptors = [DescriptorText::parse(descriptor).unwrap()];
        Plan::new(
            "shop",
            &descriptors,
            NonZero::new(keys).unwrap(),
            zipf,
            None,
        )
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
    fn keys_without_a_place_are_a_mistake() {
        let error = plan("user=ann", 10, None).unwrap_err();
        assert!(error.contains("user=%"), "{error}");
        assert!(plan("user=%", 1, Some(1.0)).is_err());
        assert!(exponent("0").is_err() && exponent("x").is_err());
        assert!(exponent("inf").is_err() && exponent("0.9").is_ok());
    }
}
