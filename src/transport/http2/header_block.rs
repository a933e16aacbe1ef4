//! Finds and replaces an `:authority` in HPACK header blocks (RFC 7541), without decoding the rest.
//!
//! HPACK is stateful: a literal may be added to a dynamic table that later blocks refer to by
//! index, the newest entry first. A refused authority is replaced by [`PLACEHOLDER`] in the same
//! kind of literal, so the HTTP/2 library's table has the same entries as the client's, and later
//! blocks can be handed on as they are. Evictions need no bookkeeping: an index counts from the
//! newest entry, and since no entry of the library's table is larger than the client's, it never
//! evicts one that the client can still refer to.
//!
//! An empty authority has no such placeholder: one byte more would make the entry larger. It is
//! withheld by leaving out its literal; from then on every index is lowered by the number of
//! withheld entries that are newer.
//!
//! What has to be known of the client's table are two bits an entry: whether its name is
//! `:authority`, and whether it was withheld.

use bytes::{BufMut, BytesMut};
use http::uri::Authority;

use super::huffman;

/// What is known of a client's dynamic table. Bit 0 is its newest entry; older ones than there can
/// be in a table of 4,096 bytes with 32 bytes of overhead an entry are forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderTable {
    /// Entries whose name is `:authority`.
    authority: u128,
    /// Entries that the HTTP/2 library does not have: empty authorities.
    withheld: u128,
}

/// Whether a header block can be handed on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// It can.
    Accepted,
    /// It has to be rewritten: it has an `:authority` that the HTTP/2 library refuses, or its
    /// indices have to be translated.
    NeedsRewrite,
}

/// The block is not HPACK. The HTTP/2 library ends such a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl HeaderTable {
    /// Whether the HTTP/2 library's table has fewer entries than the client's, so that all indices
    /// have to be translated.
    pub(super) const fn is_translated(self) -> bool {
        self.withheld != 0
    }

    /// Checks a block. The table is that after the block only if it is accepted: check a copy of
    /// it.
    ///
    /// # Errors
    /// If the block is not HPACK.
    pub(super) fn check(&mut self, block: &[u8]) -> Result<Check, Malformed> {
        if self.is_translated() {
            return Ok(Check::NeedsRewrite);
        }
        let mut at = 0;
        while let Some(first) = block.get(at) {
            match first {
                // By far most fields of a busy connection: an index in one byte, other than that of
                // an empty `:authority`.
                0x82..=0xfe => at += 1,
                // Then a short value that is not added, whose name has an index in the static
                // table, other than that of `:authority`: clients write `:path` so.
                0x02..=0x0e
                    if let Some(length) = block.get(at + 1).map(|length| length & 0x7f)
                        && length < 0x7f =>
                {
                    at += usize::from(length) + 2;
                    if at > block.len() {
                        return Err(Malformed);
                    }
                }
                _ => {
                    let mut rest = block.get(at..).unwrap_or_default();
                    let field = Field::parse(&mut rest)?;
                    if self.judge(field)? != Verdict::Accepted {
                        return Ok(Check::NeedsRewrite);
                    }
                    self.record(field, false);
                    at = block.len().saturating_sub(rest.len());
                }
            }
        }
        Ok(Check::Accepted)
    }

    /// Writes the block to `out` with what [`HeaderTable::check`] objects to replaced or left out.
    /// Never longer than the block.
    ///
    /// # Errors
    /// If the block is not HPACK; then `out` holds a part of it.
    pub(super) fn rewrite(&mut self, block: &[u8], out: &mut BytesMut) -> Result<(), Malformed> {
        let mut rest = block;
        while !rest.is_empty() {
            let before = rest;
            let field = Field::parse(&mut rest)?;
            let verdict = self.judge(field)?;
            match (verdict, field) {
                (Verdict::Accepted, _) => {
                    let length = before.len().saturating_sub(rest.len());
                    let raw = before.get(..length).unwrap_or_default();
                    self.write(field, raw, out);
                }
                (Verdict::Replaced, Field::Literal { form, .. }) => {
                    let (pattern, bits) = form.prefix();
                    write_index(pattern, bits, EMPTY_AUTHORITY, out);
                    out.put_slice(PLACEHOLDER);
                }
                (Verdict::Replaced | Verdict::LeftOut, _) => {}
            }
            self.record(field, verdict == Verdict::LeftOut);
        }
        Ok(())
    }

    /// What becomes of a field: whether the HTTP/2 library would refuse the request for it.
    fn judge(self, field: Field<'_>) -> Result<Verdict, Malformed> {
        Ok(match field {
            Field::Indexed(index) if index == EMPTY_AUTHORITY || bit(self.withheld, index) => {
                Verdict::LeftOut
            }
            Field::Literal { name, value, .. } if self.is_authority(name) => {
                if value.bytes.is_empty() {
                    Verdict::LeftOut
                } else if value.is_valid_authority()? {
                    Verdict::Accepted
                } else {
                    Verdict::Replaced
                }
            }
            _ => Verdict::Accepted,
        })
    }

    fn is_authority(self, name: Name<'_>) -> bool {
        match name {
            Name::Index(index) => index == EMPTY_AUTHORITY || bit(self.authority, index),
            Name::Text(text) => text.is_authority_name(),
        }
    }

    /// Keeps up with the client's table.
    fn record(&mut self, field: Field<'_>, withheld: bool) {
        if let Field::Literal {
            form: Form::Added,
            name,
            ..
        } = field
        {
            let authority = self.is_authority(name);
            self.authority = (self.authority << 1) | u128::from(authority);
            self.withheld = (self.withheld << 1) | u128::from(withheld);
        }
    }

    /// Writes a field by the indices of the library's table.
    fn write(self, field: Field<'_>, raw: &[u8], out: &mut BytesMut) {
        match field {
            Field::Indexed(index) => write_index(0x80, 7, self.translate(index), out),
            Field::Literal {
                form,
                name: Name::Index(index),
                value,
            } => {
                let (pattern, bits) = form.prefix();
                // The name of a withheld entry is `:authority`, which is in the static table too.
                let index = match bit(self.withheld, index) {
                    true => EMPTY_AUTHORITY,
                    false => self.translate(index),
                };
                write_index(pattern, bits, index, out);
                let value_start = raw.len().saturating_sub(value.encoded_length);
                out.put_slice(raw.get(value_start..).unwrap_or_default());
            }
            Field::Literal { .. } | Field::SizeUpdate => out.put_slice(raw),
        }
    }

    /// The index of the same entry in the library's table.
    fn translate(self, index: usize) -> usize {
        let newer = match dynamic(index) {
            None => 0,
            Some(place) => {
                let older = u128::MAX.checked_shl(place).unwrap_or(0);
                (self.withheld & !older).count_ones()
            }
        };
        index.saturating_sub(usize::try_from(newer).unwrap_or(0))
    }
}

/// Whether a block has more than [`MAX_FIELDS`] fields. A byte makes a field of a hundred bytes.
pub(super) fn has_too_many_fields(block: &[u8]) -> bool {
    // Each takes a byte or more.
    if block.len() <= MAX_FIELDS {
        return false;
    }
    let (mut rest, mut count) = (block, 0);
    while !rest.is_empty() && count <= MAX_FIELDS {
        // What is malformed is for others to find.
        let Ok(_field) = Field::parse(&mut rest) else {
            return false;
        };
        count += 1;
    }
    count > MAX_FIELDS
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    /// An authority that the HTTP/2 library refuses: [`PLACEHOLDER`] takes its place.
    Replaced,
    /// An empty authority.
    LeftOut,
}

/// One field of a block.
#[derive(Clone, Copy, Debug)]
enum Field<'b> {
    /// An entry of the static or dynamic table.
    Indexed(usize),
    /// A value, with its name or the index of its name.
    Literal {
        form: Form,
        name: Name<'b>,
        value: Text<'b>,
    },
    /// The client limits its table.
    SizeUpdate,
}

/// What becomes of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It is added to the dynamic table.
    Added,
    /// It is not.
    NotAdded,
    /// Nobody on the way may add it.
    NeverAdded,
}

impl Form {
    /// The bits that it starts with, and how many bits of that byte belong to the index.
    const fn prefix(self) -> (u8, u32) {
        match self {
            Self::Added => (0x40, 6),
            Self::NotAdded => (0x00, 4),
            Self::NeverAdded => (0x10, 4),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Name<'b> {
    Index(usize),
    Text(Text<'b>),
}

#[derive(Clone, Copy, Debug)]
struct Text<'b> {
    is_huffman: bool,
    bytes: &'b [u8],
    /// With the length that precedes it.
    encoded_length: usize,
}

impl<'b> Field<'b> {
    /// Takes the next field from a block that is not empty.
    fn parse(rest: &mut &'b [u8]) -> Result<Self, Malformed> {
        let first = rest.first().copied().ok_or(Malformed)?;
        let form = match first {
            0x80.. => return Ok(Self::Indexed(read_index(rest, 7)?)),
            0x40.. => Form::Added,
            0x20.. => {
                read_index(rest, 5)?;
                return Ok(Self::SizeUpdate);
            }
            0x10.. => Form::NeverAdded,
            _ => Form::NotAdded,
        };
        let name = match read_index(rest, form.prefix().1)? {
            0 => Name::Text(Text::parse(rest)?),
            index => Name::Index(index),
        };
        let value = Text::parse(rest)?;
        Ok(Self::Literal { form, name, value })
    }
}

impl<'b> Text<'b> {
    fn parse(rest: &mut &'b [u8]) -> Result<Self, Malformed> {
        let before = rest.len();
        let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = read_index(rest, 7)?;
        let (bytes, after) = rest.split_at_checked(length).ok_or(Malformed)?;
        *rest = after;
        Ok(Self {
            is_huffman,
            bytes,
            encoded_length: before.saturating_sub(after.len()),
        })
    }

    fn is_authority_name(self) -> bool {
        match self.is_huffman {
            true => self.bytes == HUFFMAN_AUTHORITY,
            false => self.bytes == AUTHORITY,
        }
    }

    /// Judged by the same function as in the HTTP/2 library, unless it is so long that it is not
    /// worth the time.
    fn is_valid_authority(self) -> Result<bool, Malformed> {
        if self.bytes.len() > LONGEST_AUTHORITY {
            return Ok(false);
        }
        if self.is_huffman {
            let decoded = huffman::decode(self.bytes).ok_or(Malformed)?;
            return Ok(Authority::try_from(decoded.as_slice()).is_ok());
        }
        Ok(Authority::try_from(self.bytes).is_ok())
    }
}

/// Reads an integer whose first byte gives its lowest `bits` to it (RFC 7541, section 5.1). At most
/// five bytes, as the HTTP/2 library reads.
fn read_index(rest: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let (first, mut after) = rest.split_first().ok_or(Malformed)?;
    let mask = 0xff_u8 >> 8_u32.saturating_sub(bits);
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        let mut shift = 0;
        loop {
            let (byte, next) = after.split_first().ok_or(Malformed)?;
            after = next;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Malformed);
            }
        }
    }
    *rest = after;
    Ok(value)
}

/// Writes what [`read_index`] reads, under the leading bits of `pattern`.
fn write_index(pattern: u8, bits: u32, value: usize, out: &mut BytesMut) {
    let mask = 0xff_u8 >> 8_u32.saturating_sub(bits);
    let Some(mut rest) = value.checked_sub(usize::from(mask)) else {
        out.put_u8(pattern | low_byte(value));
        return;
    };
    out.put_u8(pattern | mask);
    while rest >= 0x80 {
        out.put_u8(0x80 | low_byte(rest & 0x7f));
        rest >>= 7;
    }
    out.put_u8(low_byte(rest));
}

fn low_byte(value: usize) -> u8 {
    u8::try_from(value & 0xff).unwrap_or_default()
}

/// The place in the dynamic table of what has this index, 0 for the newest entry.
fn dynamic(index: usize) -> Option<u32> {
    let place = index.checked_sub(STATIC_ENTRIES + 1)?;
    Some(u32::try_from(place).unwrap_or(u32::MAX))
}

fn bit(bits: u128, index: usize) -> bool {
    dynamic(index)
        .and_then(|place| bits.checked_shr(place))
        .is_some_and(|bits| bits & 1 == 1)
}

/// Envoy sends some twenty fields, and a hundred at most unless told otherwise.
const MAX_FIELDS: usize = 1000;

/// The index of `:authority` with an empty value in the static table; also that of its name.
const EMPTY_AUTHORITY: usize = 1;

/// Bytes of the longest authority that is looked at. A host name has 255 at most.
const LONGEST_AUTHORITY: usize = 8192;

/// A valid authority as a literal, of one byte: no refused one that is not empty is shorter.
const PLACEHOLDER: &[u8] = b"\x01-";

const STATIC_ENTRIES: usize = 61;

const AUTHORITY: &[u8] = b":authority";

/// The same by [`huffman`].
const HUFFMAN_AUTHORITY: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";

#[cfg(test)]
#[path = "header_block_tests.rs"]
mod tests;
