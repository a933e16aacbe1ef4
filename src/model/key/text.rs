//! Escaped text of bounded length, the stuff that names are made of.

use smallvec::SmallVec;

/// Most names fit without an allocation.
pub(super) type Bytes = SmallVec<[u8; 96]>;

/// A text that grows part by part. What does not fit is kept as a hash of the whole, so two texts
/// that differ anywhere stay two texts.
#[derive(Debug)]
pub(super) struct Text {
    bytes: Bytes,
    /// Takes over once the text is longer than it may be.
    hasher: Option<Box<blake3::Hasher>>,
    max: usize,
    alphabet: Alphabet,
}

impl Text {
    /// Nothing yet, and never more than `max` bytes, which is more than [`HASH_LEN`].
    pub(super) fn new(max: usize, alphabet: Alphabet) -> Self {
        Self {
            bytes: SmallVec::new(),
            hasher: None,
            max,
            alphabet,
        }
    }

    /// Appends what needs no escape: to the text while it fits, and to the hash from then on.
    pub(super) fn raw(&mut self, part: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(part);
            return;
        }
        if self.bytes.len().saturating_add(part.len()) <= self.max {
            self.bytes.extend_from_slice(part);
            return;
        }
        let mut hasher = Box::new(blake3::Hasher::new());
        hasher.update(&self.bytes);
        hasher.update(part);
        let room = self.max.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(part.get(..room).unwrap_or(part));
        self.hasher = Some(hasher);
    }

    /// Appends a sign that needs no escape.
    pub(super) fn sign(&mut self, sign: u8) {
        match self.hasher {
            None if self.bytes.len() < self.max => self.bytes.push(sign),
            _ => self.raw(&[sign]),
        }
    }

    /// Appends `part`, escaping what may not stand for itself. In a `pattern` stars stand for
    /// themselves.
    pub(super) fn escaped(&mut self, part: &[u8], pattern: bool) {
        let plain = self.alphabet as u8 | if pattern { STAR } else { 0 };
        let mut rest = part;
        while let Some(special) = rest
            .iter()
            .position(|&b| CLASSES[usize::from(b)] & plain == 0)
        {
            let (before, tail) = rest.split_at(special);
            self.raw(before);
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

    /// The whole text if it fitted, or else its beginning and the hash of the whole; then `end`, as
    /// it is.
    pub(super) fn finish(mut self, end: impl FnOnce(&mut Bytes)) -> Bytes {
        if let Some(hasher) = self.hasher.take() {
            self.cut(&hasher);
        }
        end(&mut self.bytes);
        self.bytes
    }

    #[cold]
    fn cut(&mut self, hasher: &blake3::Hasher) {
        let hash = hasher.finalize().to_hex();
        self.bytes.truncate(self.max.saturating_sub(HASH_LEN));
        self.bytes.push(b'#');
        let digits = hash.as_bytes().get(..HASH_LEN.saturating_sub(1));
        self.bytes.extend_from_slice(digits.unwrap_or_default());
    }
}

/// What may stand for itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alphabet {
    /// Printable ASCII but for `%`, `|`, `=`, `,`, `{`, `}`, `#` and the star.
    Colons = 1,
    /// The same without the colon.
    NoColons = 2,
}

/// The bit of the one byte that stands for itself in patterns only.
const STAR: u8 = 4;

/// For each byte the alphabets that it belongs to, as bits.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0x21;
    while byte <= 0x7e {
        classes[byte as usize] = match byte {
            b'%' | b'|' | b'=' | b',' | b'{' | b'}' | b'#' => 0,
            b'*' => STAR,
            b':' => Alphabet::Colons as u8,
            _ => Alphabet::Colons as u8 | Alphabet::NoColons as u8,
        };
        byte += 1;
    }
    classes
};

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// A `#` and the hex digits of 128 bits.
const HASH_LEN: usize = 33;
