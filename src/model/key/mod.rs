//! Names of counters: readable, and impossible to confuse.
//!
//! A key reads `{shop|plan=gold,user_id=alice}:window:60s`: domain, descriptor, algorithm, window.
//! The limit's number is not part of it, so that raising a limit keeps the counts. Every part is
//! escaped, so two different descriptors never share a name. The braces are what a Redis Cluster
//! hashes by: each counter goes where it falls.
//!
//! A counter that belongs to somebody (`colocate_by: user_id`) reads
//! `{user_id=alice}shop|plan=gold,user_id=alice:window:60s` instead, so that all of alice's counters
//! lie in one slot, those of other domains too. Its texts have no bare colon, so the first one is
//! where algorithm and window begin. A tag of more than [`Key::MAX_TAG_LEN`] bytes is cut and ends
//! in a hash of the whole.
//!
//! A name longer than [`Key::MAX_LEN`] is cut before algorithm and window and ends in a 128-bit
//! BLAKE3 hash of what came before: a client cannot make up a second text with the same name.

use std::fmt;

use super::{Entry, Quota};
use text::{Alphabet, Bytes, Text};

mod text;

#[cfg(test)]
mod tests;

/// A counter's name: printable ASCII.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The longest name. A store may put 49 bytes more around it and stay under 250, which is the
    /// longest that memcached takes.
    pub const MAX_LEN: usize = 200;

    /// The longest text between the braces of a key that is kept beside others of its tenant.
    pub const MAX_TAG_LEN: usize = 64;

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Keys are ASCII, so nothing is lost here.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Writes a key part by part.
#[derive(Debug)]
pub struct KeyBuilder {
    text: Text,
    /// Between the text and what follows it.
    end: &'static [u8],
    entries: usize,
}

impl KeyBuilder {
    /// A key in `domain`.
    #[must_use]
    pub fn new(domain: &[u8]) -> Self {
        let mut text = Text::new(MAX_TEXT_LEN, Alphabet::Colons);
        text.sign(b'{');
        text.escaped(domain, false);
        Self {
            text,
            end: b"}:",
            entries: 0,
        }
    }

    /// A key in `domain` that a Redis Cluster keeps in one slot with all others of `tenant`: one of
    /// the entries that follow.
    #[must_use]
    pub fn colocated(domain: &[u8], tenant: Entry<'_>) -> Self {
        let mut tag = Text::new(Key::MAX_TAG_LEN, Alphabet::NoColons);
        tag.escaped(tenant.key, false);
        tag.sign(b'=');
        tag.escaped(tenant.value, false);
        let mut text = Text::new(MAX_TEXT_LEN, Alphabet::NoColons);
        text.sign(b'{');
        text.raw(&tag.finish(|_| ()));
        text.sign(b'}');
        text.escaped(domain, false);
        Self {
            text,
            end: b":",
            entries: 0,
        }
    }

    /// Adds an entry. `shared` marks a part that stands for every text it matches: its stars stay
    /// stars, which no literal text can write.
    pub fn entry(&mut self, key: (&[u8], bool), value: (&[u8], bool)) {
        self.text.sign(if self.entries == 0 { b'|' } else { b',' });
        self.entries = self.entries.saturating_add(1);
        self.text.escaped(key.0, key.1);
        self.text.sign(b'=');
        self.text.escaped(value.0, value.1);
    }

    /// The key of a configured rule's counter.
    #[must_use]
    pub fn finish(self, quota: &Quota) -> Key {
        self.suffixed("", quota)
    }

    /// The key of a counter for a limit that came with the request: never a rule's.
    #[must_use]
    pub fn finish_override(self, quota: &Quota) -> Key {
        self.suffixed("override:", quota)
    }

    fn suffixed(self, kind: &str, quota: &Quota) -> Key {
        Key(self.text.finish(|name| {
            name.extend_from_slice(self.end);
            name.extend_from_slice(kind.as_bytes());
            name.extend_from_slice(quota.algorithm().key_suffix().as_bytes());
            name.push(b':');
            push_decimal(name, quota.window().millis() / 1000);
            name.push(b's');
        }))
    }
}

fn push_decimal(text: &mut Bytes, mut number: u64) {
    let start = text.len();
    loop {
        text.push(b"0123456789"[usize::try_from(number % 10).unwrap_or(0)]);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = text.get_mut(start..) {
        digits.reverse();
    }
}

/// The longest that follows a text; no window is longer.
const LONGEST_END: &str = "}:override:requests:34359738s";

/// The longest text before it.
const MAX_TEXT_LEN: usize = Key::MAX_LEN - LONGEST_END.len();
