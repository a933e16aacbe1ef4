//! From the bytes of a policy file to its text.

use std::borrow::Cow;
use std::str::from_utf8;

use super::MAX_FILE_BYTES;
use crate::config::report::{Notes, Path, Pos};
use crate::pace;

/// The text of a file. None if it cannot have one, which is noted.
pub(super) fn read<'t>(bytes: &'t [u8], notes: &mut Notes<'_>) -> Option<Cow<'t, str>> {
    if bytes.len() > MAX_FILE_BYTES {
        let mib = MAX_FILE_BYTES / 1024 / 1024;
        let said = format!("the file is larger than {mib} MiB");
        notes.error(Pos::default(), &Path::Root, said);
        return None;
    }
    match decode(bytes, AT_ONCE) {
        Ok(text) => Some(text),
        Err(valid) => {
            let valid = bytes.get(..valid).unwrap_or_default();
            notes.error(end_of(valid), &Path::Root, "the file is not UTF-8");
            None
        }
    }
}

/// `bytes` as text, or how many of them are before the first that is not UTF-8.
///
/// More than `at_once` bytes (at least four) are decoded piece by piece, with a pause point after each:
/// to look through 64 MiB can take 30 milliseconds. The pieces are copied, since only a look at all
/// bytes in one go makes one text of them where they are.
fn decode(bytes: &[u8], at_once: usize) -> Result<Cow<'_, str>, usize> {
    if bytes.len() <= at_once {
        return match from_utf8(bytes) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(error.valid_up_to()),
        };
    }
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        pace::step(32);
        let piece = rest.get(..at_once).unwrap_or(rest);
        let valid = match from_utf8(piece) {
            Ok(valid) => valid,
            Err(error) => {
                let valid = piece.get(..error.valid_up_to()).unwrap_or_default();
                // The piece may end inside a character, which is then the first of the next.
                let is_cut = error.error_len().is_none() && piece.len() < rest.len();
                if !is_cut || valid.is_empty() {
                    return Err(text.len().saturating_add(valid.len()));
                }
                from_utf8(valid).unwrap_or_default()
            }
        };
        text.push_str(valid);
        rest = rest.get(valid.len()..).unwrap_or_default();
    }
    Ok(Cow::Owned(text))
}

/// The place right after `text`, which is UTF-8.
fn end_of(text: &[u8]) -> Pos {
    let (mut lines, mut characters) = (0_usize, 0_usize);
    for piece in text.chunks(AT_ONCE) {
        pace::step(256);
        let ends = piece.iter().filter(|byte| **byte == b'\n').count();
        let last = piece.rsplit(|byte| *byte == b'\n').next();
        let last = last.unwrap_or_default().iter();
        let begun = last.filter(|byte| (**byte & 0xC0) != 0x80).count();
        lines = lines.saturating_add(ends);
        characters = if ends == 0 {
            characters.saturating_add(begun)
        } else {
            begun
        };
    }
    let place = |count: usize| u32::try_from(count.saturating_add(1)).unwrap_or(u32::MAX);
    Pos {
        line: place(lines),
        column: place(characters),
    }
}

/// Bytes: some twenty microseconds.
const AT_ONCE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_the_same_text_as_the_whole(
            bytes in prop_oneof![
                "[a-z\nü€😀]{0,40}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..12),
                ("[aü€😀]{0,12}", any::<u8>()).prop_map(|(text, byte)| {
                    [text.as_bytes(), &[byte]].concat()
                }),
            ],
            at_once in 4_usize..9,
        ) {
            let whole = from_utf8(&bytes).map_err(|error| error.valid_up_to());
            let pieces = decode(&bytes, at_once);
            prop_assert_eq!(pieces.as_deref().map_err(|valid| *valid), whole);
        }
    }

    #[test]
    fn the_place_after_a_text_is_counted_in_lines_and_characters() {
        let at = |text: &str| {
            let Pos { line, column } = end_of(text.as_bytes());
            (line, column)
        };
        assert_eq!(at(""), (1, 1));
        assert_eq!(at("aü"), (1, 3));
        assert_eq!(at("a\n\nü€x"), (3, 4));
        assert_eq!(at("a\n"), (2, 1));
        // Longer than a piece, and a character on the border of two.
        let long = format!("{}ü\nx{}", "a".repeat(AT_ONCE - 1), "€".repeat(AT_ONCE));
        assert_eq!(at(&long), (2, u32::try_from(AT_ONCE).unwrap() + 2));
    }
}
