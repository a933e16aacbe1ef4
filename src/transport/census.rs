//! Counts what a large message holds before memory is spent on it.
//!
//! Two bytes of a message make a descriptor, which takes a hundred times that once decoded. So a
//! message of megabytes is walked first, which costs little, and refused if it holds more than may
//! be answered. The fields are counted as well: a few bytes make one that is decoded for nothing.
//! Small messages, which are all that Envoy sends, are bounded by their size.

use std::cell::Cell;

use prost::encoding::{WireType, decode_key, decode_varint};

use super::status::Status;
use crate::limiter::Refusal;
use crate::pipeline::Caps;

/// Refuses an encoded `RateLimitRequest` with too many descriptors, entries or fields. What cannot be
/// walked is left to the decoder, which says what is wrong with it.
pub(super) fn refuse(message: &[u8], caps: Caps) -> Result<(), Status> {
    if message.len() <= SMALL {
        return Ok(());
    }
    let most = caps
        .descriptors
        .saturating_mul(caps.entries.saturating_add(2))
        .saturating_mul(FIELDS);
    let fields = Fields {
        count: Cell::new(0),
        most: most.max(LEAST_FIELDS),
    };
    let mut descriptors = 0_usize;
    let mut entries_error = None;
    // A message that breaks off is no concern of the census.
    let _broken = fields.each(message, |field, descriptor| {
        if field != DESCRIPTORS {
            return;
        }
        let mut entries = 0_usize;
        let _broken = fields.each(descriptor, |field, entry| {
            entries = entries.saturating_add(usize::from(field == ENTRIES));
            let _broken = fields.each(entry, |_, _| {});
        });
        if entries > caps.entries && entries_error.is_none() {
            entries_error = Some(Refusal::TooManyEntries {
                descriptor: descriptors,
                count: entries,
                limit: caps.entries,
            });
        }
        descriptors = descriptors.saturating_add(1);
    });
    if fields.count.get() > fields.most {
        return Err(Status::too_many_fields(fields.most));
    }
    if descriptors > caps.descriptors {
        return Err(Status::from(Refusal::TooManyDescriptors {
            count: descriptors,
            limit: caps.descriptors,
        }));
    }
    entries_error.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Refuses JSON with more objects than a request within the caps can have: an object takes a hundred times
/// its length once it is parsed. Does not check the syntax.
pub(super) fn refuse_json(text: &[u8], caps: Caps) -> Result<(), Status> {
    // The request, and for each descriptor its entries, itself and its `limit`.
    let of_each = caps.entries.saturating_add(2);
    let most = caps.descriptors.saturating_mul(of_each).saturating_add(1);
    let count = objects(text);
    if count > most {
        return Err(Status::too_many_objects(count, most));
    }
    Ok(())
}

/// Counts the opening braces outside of strings.
fn objects(text: &[u8]) -> usize {
    let (mut count, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' if !is_string => count = count.saturating_add(1),
            _ => {}
        }
    }
    count
}

/// Counts a message's fields, those of its descriptors, and those of their entries.
#[derive(Debug)]
struct Fields {
    count: Cell<usize>,
    most: usize,
}

impl Fields {
    /// Shows every field of `message` that holds bytes, with its number; none at the end if the
    /// message breaks off or there are too many fields.
    fn each<'m>(&self, mut message: &'m [u8], mut show: impl FnMut(u32, &'m [u8])) -> Option<()> {
        while !message.is_empty() {
            self.count.set(self.count.get().saturating_add(1));
            if self.count.get() > self.most {
                return None;
            }
            let (field, wire_type) = decode_key(&mut message).ok()?;
            let skip = match wire_type {
                WireType::Varint => {
                    decode_varint(&mut message).ok()?;
                    continue;
                }
                WireType::ThirtyTwoBit => 4,
                WireType::SixtyFourBit => 8,
                WireType::LengthDelimited => {
                    usize::try_from(decode_varint(&mut message).ok()?).ok()?
                }
                WireType::StartGroup | WireType::EndGroup => return None,
            };
            let (content, rest) = message.split_at_checked(skip)?;
            if wire_type == WireType::LengthDelimited {
                show(field, content);
            }
            message = rest;
        }
        Some(())
    }
}

/// How many times as many fields a message may have as one of this version: others may know more.
const FIELDS: usize = 4;

/// Fields that any message may have, even where few descriptors are allowed.
const LEAST_FIELDS: usize = 1000;

/// Messages up to so many bytes are decoded without a census: they take a megabyte at most.
const SMALL: usize = 16 * 1024;

/// `RateLimitRequest.descriptors`.
const DESCRIPTORS: u32 = 2;

/// `RateLimitDescriptor.entries`. (Its `limit` has two fields, counted in the same way.)
const ENTRIES: u32 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::transport::wire::{Entry, RateLimitDescriptor, RateLimitRequest};

    const CAPS: Caps = Caps {
        descriptors: 10,
        entries: 5,
    };

    #[test]
    fn json_with_more_objects_than_a_request_has_is_refused() {
        let caps = Caps {
            descriptors: 2,
            entries: 3,
        };
        let entries = r#"{"key":"a{\"{","value":"\\\\"},{},{}"#;
        let descriptor = format!(r#"{{"entries":[{entries}],"limit":{{}}}}"#);
        let full = format!(r#"{{"descriptors":[{descriptor},{descriptor}]}}"#);
        assert_eq!(objects(full.as_bytes()), 11);
        assert!(refuse_json(full.as_bytes(), caps).is_ok());
        let more = full.replace("[", "[{},");
        let status = refuse_json(more.as_bytes(), caps).unwrap_err();
        assert!(status.message.contains("at most 11"), "{}", status.message);
        assert!(refuse_json(b"{{{", caps).is_ok(), "left to the parser");
    }

    fn message(entries: &[usize]) -> Vec<u8> {
        let descriptor = |&count: &usize| RateLimitDescriptor {
            entries: vec![
                Entry {
                    key: "k".into(),
                    value: "v".into()
                };
                count
            ],
            hits_addend: Some(3),
            ..RateLimitDescriptor::default()
        };
        let request = RateLimitRequest {
            domain: vec![b'd'; SMALL].into(),
            descriptors: entries.iter().map(descriptor).collect(),
            hits_addend: 7,
        };
        request.encode_to_vec()
    }

    #[test]
    fn too_many_are_refused_and_no_others() {
        assert_eq!(refuse(&message(&[5; 10]), CAPS), Ok(()));
        assert_eq!(
            refuse(&message(&[1; 11]), CAPS),
            Err(Status::from(Refusal::TooManyDescriptors {
                count: 11,
                limit: 10
            }))
        );
        assert_eq!(
            refuse(&message(&[5, 6, 7]), CAPS),
            Err(Status::from(Refusal::TooManyEntries {
                descriptor: 1,
                count: 6,
                limit: 5
            }))
        );
    }

    #[test]
    fn a_message_of_many_short_fields_is_refused_at_the_limit() {
        let most = 10 * (5 + 2) * FIELDS;
        let most = most.max(LEAST_FIELDS);
        let repeated = [0x18, 1].repeat(1 << 21);
        let nested = |field: u8| {
            let inner = [0x0a, 0].repeat(SMALL);
            let mut message = vec![field];
            prost::encoding::encode_varint(inner.len() as u64, &mut message);
            message.extend(inner);
            message
        };
        let entry = nested(0x0a);
        let mut descriptor = vec![0x12];
        prost::encoding::encode_varint(entry.len() as u64, &mut descriptor);
        descriptor.extend(entry);
        for message in [repeated, nested(0x12), descriptor] {
            let refused = refuse(&message, CAPS);
            assert_eq!(refused, Err(Status::too_many_fields(most)));
        }
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_message_are_left_to_the_decoder(
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = message(&[1]);
            bytes.extend(tail);
            let _any = refuse(&bytes, CAPS);
        }
    }
}
