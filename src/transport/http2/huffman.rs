//! HPACK's Huffman code (RFC 7541, appendix B).
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols. So
//! the lengths alone define it. Decodes one bit at a time: only an `:authority` is decoded here,
//! which is once or twice a connection.

/// Decodes `encoded`; none if it is not valid: an unknown code, the end-of-string symbol, or
/// padding that is longer than seven bits or not all ones.
pub(super) fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.len().saturating_mul(8) / SHORTEST);
    let (mut code, mut length) = (0_u32, 0_usize);
    for byte in encoded {
        for shift in (0..8).rev() {
            code = (code << 1) | u32::from((byte >> shift) & 1);
            length += 1;
            if let Some(symbol) = symbol(code, length) {
                // The end-of-string symbol is not a byte, and may not appear.
                decoded.push(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            } else if length >= LONGEST {
                return None;
            }
        }
    }
    (length < 8 && code == (1 << length) - 1).then_some(decoded)
}

/// The symbol that this code of `length` bits stands for, if there is one.
fn symbol(code: u32, length: usize) -> Option<u16> {
    let row = ROWS.get(length)?;
    let offset = code.checked_sub(row.first_code)?;
    if offset >= row.count {
        return None;
    }
    let place = usize::try_from(row.first_place.checked_add(offset)?).ok()?;
    SYMBOLS.get(place).copied()
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    first_code: u32,
    count: u32,
    /// Where their symbols start in [`SYMBOLS`].
    first_place: u32,
}

/// By length in bits.
const ROWS: [Row; LONGEST + 1] = rows();

/// All symbols by the length of their code, then by value.
const SYMBOLS: [u16; LENGTHS.len()] = symbols();

const fn rows() -> [Row; LONGEST + 1] {
    let empty = Row {
        first_code: 0,
        count: 0,
        first_place: 0,
    };
    let mut rows = [empty; LONGEST + 1];
    let mut symbol = 0;
    while symbol < LENGTHS.len() {
        rows[LENGTHS[symbol] as usize].count += 1;
        symbol += 1;
    }
    let mut length = 1;
    while length <= LONGEST {
        let shorter = rows[length - 1];
        rows[length].first_code = (shorter.first_code + shorter.count) << 1;
        rows[length].first_place = shorter.first_place + shorter.count;
        length += 1;
    }
    rows
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "there are 257 symbols; `try_from` is not const"
)]
const fn symbols() -> [u16; LENGTHS.len()] {
    let mut symbols = [0; LENGTHS.len()];
    let (mut place, mut length) = (0, 0);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                symbols[place] = symbol as u16;
                place += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
}

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// How many bits the code of each byte has, and last that of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The code of `symbol`, in as many bits.
    fn code(symbol: u16) -> (u32, usize) {
        let length = usize::from(LENGTHS[usize::from(symbol)]);
        let row = ROWS[length];
        let place = SYMBOLS.iter().position(|other| *other == symbol).unwrap();
        let offset = u32::try_from(place).unwrap() - row.first_place;
        (row.first_code + offset, length)
    }

    /// Encodes as a client does.
    pub(in super::super) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let (code, length) = code(u16::from(*byte));
            bits.extend((0..length).rev().map(|bit| (code >> bit) & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        let byte = |bits: &[bool]| {
            bits.iter()
                .fold(0, |byte, bit| (byte << 1) | u8::from(*bit))
        };
        bits.chunks(8).map(byte).collect()
    }

    /// Appendix C.4 and C.6 of RFC 7541.
    #[test]
    fn the_examples_of_the_specification_decode() {
        for (encoded, text) in [
            (
                b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff".as_slice(),
                "www.example.com",
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\xae\xc3\x77\x1a\x4b", "private"),
            (b"", ""),
        ] {
            assert_eq!(decode(encoded).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn the_longest_codes_match_the_specification() {
        for (symbol, expected) in [(b'|', 0x7fc), (b'\\', 0x7fff0), (b'\n', 0x3fff_fffc)] {
            assert_eq!(code(symbol.into()).0, expected);
        }
        assert_eq!(code(256), (0x3fff_ffff, 30));
    }

    #[test]
    fn every_byte_survives_a_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
    }

    #[test]
    fn wrong_padding_and_the_end_of_string_symbol_are_refused() {
        // `0` has the code 00000.
        assert_eq!(decode(&[0b0000_0111]).as_deref(), Some(b"0".as_slice()));
        assert_eq!(decode(&[0b0000_0000]), None);
        assert_eq!(decode(&[0b0000_0111, 0xff]), None);
        assert_eq!(decode(&[0xff; 4]), None);
    }
}
