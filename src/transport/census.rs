//! Counts what a large message holds before memory is spent on it.
//!
//! Two bytes of a message make a descriptor, which takes a hundred times that once decoded. So a
//! message of megabytes is walked first, which costs nothing, and refused if it holds more than may
//! be answered. Small ones, which are all that Envoy sends, are bounded by their size.

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::limiter::Refusal;
use crate::pipeline::Caps;

/// Refuses an encoded `RateLimitRequest` with too many descriptors or entries. What cannot be
/// walked is left to the decoder, which says what is wrong with it.
pub(super) fn refuse(message: &[u8], caps: Caps) -> Result<(), Refusal> {
    if message.len() <= SMALL {
        return Ok(());
    }
    let mut descriptors = 0_usize;
    let mut entries_error = None;
    // A message that breaks off is no concern of the census.
    let _broken = each(message, DESCRIPTORS, |descriptor| {
        let mut entries = 0_usize;
        let _broken = each(descriptor, ENTRIES, |_| entries = entries.saturating_add(1));
        if entries > caps.entries && entries_error.is_none() {
            entries_error = Some(Refusal::TooManyEntries {
                descriptor: descriptors,
                count: entries,
                limit: caps.entries,
            });
        }
        descriptors = descriptors.saturating_add(1);
    });
    if descriptors > caps.descriptors {
        return Err(Refusal::TooManyDescriptors {
            count: descriptors,
            limit: caps.descriptors,
        });
    }
    entries_error.map_or(Ok(()), Err)
}

/// Shows every field number `tag` of `message` that holds bytes; none at the end if the message
/// breaks off.
fn each<'m>(mut message: &'m [u8], tag: u32, mut show: impl FnMut(&'m [u8])) -> Option<()> {
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message).ok()?;
        let skip = match wire_type {
            WireType::Varint => {
                decode_varint(&mut message).ok()?;
                continue;
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut message).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (content, rest) = message.split_at_checked(skip)?;
        if field == tag && wire_type == WireType::LengthDelimited {
            show(content);
        }
        message = rest;
    }
    Some(())
}

/// Messages up to so many bytes are decoded without a census: they take a megabyte at most.
const SMALL: usize = 16 * 1024;

/// `RateLimitRequest.descriptors`.
const DESCRIPTORS: u32 = 2;

/// `RateLimitDescriptor.entries`.
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
            Err(Refusal::TooManyDescriptors {
                count: 11,
                limit: 10
            })
        );
        assert_eq!(
            refuse(&message(&[5, 6, 7]), CAPS),
            Err(Refusal::TooManyEntries {
                descriptor: 1,
                count: 6,
                limit: 5
            })
        );
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
