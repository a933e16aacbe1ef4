//! Which slot of a cluster a key is in.

/// The slot of a key, as Redis Cluster defines it: CRC16 of what stands in its first pair of
/// braces, or of all of it if nothing does, in 14 bits.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    fred::util::redis_keyslot(key)
}

/// How many there are.
pub(super) const SLOTS: u16 = 16384;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_where_the_specification_says() {
        // CRC16 of "123456789" is 0x31C3: the check value of its definition.
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        for (key, like) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("a}b{c}", "c"),
            ("{open", "{open"),
        ] {
            let whole = key == like;
            let expected = crc16(like.as_bytes()) % SLOTS;
            assert_eq!(slot_of(key.as_bytes()), expected, "{key} whole: {whole}");
        }
    }

    /// Bit by bit, as the specification describes it.
    fn crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                let shifted = crc << 1;
                if crc & 0x8000 == 0 {
                    shifted
                } else {
                    shifted ^ 0x1021
                }
            })
        })
    }

    proptest! {
        #[test]
        fn any_key_has_a_slot_and_no_braces_count_whole(key in "[^{}]{0,40}") {
            prop_assert_eq!(slot_of(key.as_bytes()), crc16(key.as_bytes()) % SLOTS);
        }
    }
}
