//! Names of counters: readable, and impossible to confuse.
//!
//! A key reads `{shop|plan=gold,user_id=alice}:window:60s`: domain, descriptor, algorithm, window.
//! The limit's number is not part of it, so that raising a limit keeps the counts. Every part is
//! escaped, so two different descriptors never share a name. The braces are what a Redis Cluster
//! hashes by. A key longer than [`Key::MAX_LEN`] is cut and ends in a 128-bit BLAKE3 hash of the
//! whole: a client cannot make up a second text with the same name.

use std::fmt;

use smallvec::SmallVec;

use super::Quota;

/// A counter's name: printable ASCII.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(SmallVec<[u8; 96]>);

impl Key {
    /// Longest descriptor text before the rest is replaced by a hash; the algorithm and window
    /// follow it.
    pub const MAX_LEN: usize = 200;

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
    text: SmallVec<[u8; 96]>,
    /// Takes over once the text is longer than a key may be.
    hasher: Option<Box<blake3::Hasher>>,
    entries: usize,
}

impl KeyBuilder {
    /// A key in `domain`.
    #[must_use]
    pub fn new(domain: &[u8]) -> Self {
        let mut builder = Self {
            text: SmallVec::new(),
            hasher: None,
            entries: 0,
        };
        builder.raw(b"{");
        builder.escaped(domain, false);
        builder
    }

    /// Adds an entry. `shared` marks a part that stands for every text it matches: its stars stay
    /// stars, which no literal text can write.
    pub fn entry(&mut self, key: (&[u8], bool), value: (&[u8], bool)) {
        self.raw(if self.entries == 0 { b"|" } else { b"," });
        self.entries = self.entries.saturating_add(1);
        self.escaped(key.0, key.1);
        self.raw(b"=");
        self.escaped(value.0, value.1);
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

    fn suffixed(mut self, kind: &str, quota: &Quota) -> Key {
        if let Some(hasher) = self.hasher.take() {
            let hash = hasher.finalize().to_hex();
            self.text
                .truncate(Key::MAX_LEN.saturating_sub(HASH_DIGITS).saturating_sub(1));
            self.text.push(b'#');
            self.text
                .extend_from_slice(hash.as_bytes().get(..HASH_DIGITS).unwrap_or_default());
        }
        self.text.extend_from_slice(b"}:");
        self.text.extend_from_slice(kind.as_bytes());
        self.text
            .extend_from_slice(quota.algorithm().key_suffix().as_bytes());
        self.text.push(b':');
        push_decimal(&mut self.text, quota.window().millis() / 1000);
        self.text.push(b's');
        Key(self.text)
    }

    fn escaped(&mut self, text: &[u8], pattern: bool) {
        let mut rest = text;
        while let Some(special) = rest.iter().position(|&b| !is_plain(b, pattern)) {
            let (plain, tail) = rest.split_at(special);
            self.raw(plain);
            if let Some((&byte, after)) = tail.split_first() {
                self.raw(&[
                    b'%',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
                rest = after;
            }
        }
        self.raw(rest);
    }

    /// Appends what needs no escape: to the text while it fits, and to the hash from then on.
    fn raw(&mut self, part: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(part);
            return;
        }
        if self.text.len().saturating_add(part.len()) <= Key::MAX_LEN {
            self.text.extend_from_slice(part);
            return;
        }
        let mut hasher = Box::new(blake3::Hasher::new());
        hasher.update(&self.text);
        hasher.update(part);
        let room = Key::MAX_LEN.saturating_sub(self.text.len());
        self.text
            .extend_from_slice(part.get(..room).unwrap_or(part));
        self.hasher = Some(hasher);
    }
}

/// What may stand in a key as it is: printable ASCII but for the characters that structure it.
const fn is_plain(byte: u8, pattern: bool) -> bool {
    match byte {
        b'%' | b'|' | b'=' | b',' | b'{' | b'}' | b'#' => false,
        b'*' => pattern,
        0x21..=0x7e => true,
        _ => false,
    }
}

fn push_decimal(text: &mut SmallVec<[u8; 96]>, mut number: u64) {
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

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Hex digits of 128 bits.
const HASH_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeniedHits, Unit, Window};

    fn quota() -> Quota {
        Quota::fixed(
            1,
            Window::try_new(Unit::Minute, 1).unwrap(),
            DeniedHits::Free,
        )
    }

    fn key(domain: &[u8], entries: &[(&[u8], &[u8])]) -> Key {
        let mut builder = KeyBuilder::new(domain);
        for (k, v) in entries {
            builder.entry((k, false), (v, false));
        }
        builder.finish(&quota())
    }

    #[test]
    fn reads_like_the_descriptor() {
        let key = key(b"shop", &[(b"plan", b"gold"), (b"user_id", b"alice")]);
        assert_eq!(key.to_string(), "{shop|plan=gold,user_id=alice}:window:60s");
    }

    #[test]
    fn structure_and_odd_bytes_are_escaped() {
        let key = key(b"a|b", &[(b"k=", b"v,{}#% \xff*")]);
        assert_eq!(
            key.to_string(),
            "{a%7Cb|k%3D=v%2C%7B%7D%23%25%20%FF%2A}:window:60s"
        );
    }

    #[test]
    fn a_shared_pattern_differs_from_its_literal_text() {
        let mut shared = KeyBuilder::new(b"d");
        shared.entry((b"path", false), (b"/a*", true));
        assert_eq!(
            shared.finish(&quota()).to_string(),
            "{d|path=/a*}:window:60s"
        );
        assert_eq!(
            key(b"d", &[(b"path", b"/a*")]).to_string(),
            "{d|path=/a%2A}:window:60s"
        );
    }

    #[test]
    fn an_override_never_shares_a_rules_counter() {
        let rule = KeyBuilder::new(b"d").finish(&quota());
        let with_request = KeyBuilder::new(b"d").finish_override(&quota());
        assert_ne!(rule, with_request);
        assert_eq!(with_request.to_string(), "{d}:override:window:60s");
    }

    #[test]
    fn long_texts_end_in_a_hash_of_the_whole() {
        let long = vec![b'x'; 50_000];
        let mut other = long.clone();
        other[49_999] = b'y';
        let (a, b) = (key(b"d", &[(b"h", &long)]), key(b"d", &[(b"h", &other)]));
        assert_ne!(a, b);
        assert_eq!(a, key(b"d", &[(b"h", &long)]));
        assert_eq!(a.as_bytes().len(), Key::MAX_LEN + "}:window:60s".len());
        assert!(a.to_string().starts_with("{d|h=xxx"));
    }

    #[test]
    fn a_hash_depends_on_where_the_parts_end() {
        let x = vec![b'x'; 300];
        let a = key(b"d", &[(&x, b"1"), (b"k", b"2")]);
        let b = key(b"d", &[(&x, b"1,k=2")]);
        assert_ne!(a, b);
    }
}
