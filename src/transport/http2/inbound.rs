//! What a client sends, frame by frame: header blocks are checked before the HTTP/2 library sees them.
//!
//! Everything but header blocks is handed on as it comes. A block that is not complete is held until its last frame has come, since
//! the length at the start of its first frame depends on what is removed.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{
    CONTINUATION, END_HEADERS, END_STREAM, FrameHead, HEADERS, MAX_PAYLOAD, PADDED, PRIORITY,
    PUSH_PROMISE,
};
use super::header_block::{Check, HeaderTable, Malformed};

/// The state of a connection's reading side, after the preface.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    table: HeaderTable,
    /// Bytes of the current frame's payload that are still to come and are handed on as they are.
    payload_left: usize,
    /// The start of a frame or header block that is not complete.
    held: BytesMut,
    /// Checked bytes that have not been handed on.
    ready: BytesMut,
    /// The client broke the protocol: the HTTP/2 library finds out by itself, and answers that.
    is_unchecked: bool,
}

impl Inbound {
    /// Starts with bytes that are handed on before all others.
    pub(super) fn starting_with(ready: &[u8]) -> Self {
        Self {
            ready: ready.into(),
            ..Self::default()
        }
    }

    /// Takes bytes that were just read. Returns how many from the start are to be handed on as they are;
    /// the others were kept, and come later by way of [`Inbound::take_ready`], which must have been
    /// emptied before.
    ///
    /// # Errors
    /// If the client broke the protocol while indices have to be translated, so that the HTTP/2
    /// library could misread what follows.
    pub(super) fn accept(&mut self, read: &[u8]) -> io::Result<usize> {
        if self.is_unchecked {
            return Ok(read.len());
        }
        let passed = match self.held.is_empty() {
            true => self.pass(read),
            false => 0,
        };
        if let Some(rest) = read.get(passed..)
            && !rest.is_empty()
        {
            self.held.extend_from_slice(rest);
            self.release();
        }
        if self.is_unchecked && self.table.is_translated() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "header blocks that break HPACK or are too long",
            ));
        }
        Ok(passed)
    }

    /// The client has sent its last byte: what is held is handed on.
    pub(super) fn finish(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.ready.unsplit(held);
    }

    /// At most so many bytes that are to be handed on before anything is read; empty if there are none.
    pub(super) fn take_ready(&mut self, most: usize) -> Bytes {
        let taken = self.ready.split_to(most.min(self.ready.len())).freeze();
        if self.ready.is_empty() {
            // Long blocks are rare: their memory is not kept.
            self.ready = BytesMut::new();
        }
        taken
    }

    /// Whether [`Inbound::take_ready`] has something to give.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many bytes from the start of `bytes` can be handed on as they are: whole frames, whose header blocks are
    /// accepted, and the parts of payloads.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = self.payload_left.min(bytes.len());
        self.payload_left -= at;
        while let Some(head) = bytes.get(at..).and_then(FrameHead::parse) {
            if matches!(head.kind, HEADERS | CONTINUATION | PUSH_PROMISE) {
                if head.kind != HEADERS || head.flags & END_HEADERS == 0 {
                    break;
                }
                let end = at.saturating_add(head.frame_length());
                let Some(payload) = bytes.get(at.saturating_add(FrameHead::SIZE)..end) else {
                    break;
                };
                match self.check(head, payload) {
                    Ok(Check::Accepted) => at = end,
                    Ok(Check::NeedsRewrite) => break,
                    Err(Malformed) => {
                        self.is_unchecked = true;
                        return bytes.len();
                    }
                }
            } else {
                at = at.saturating_add(FrameHead::SIZE);
                let there = head.length.min(bytes.len().saturating_sub(at));
                self.payload_left = head.length - there;
                at = at.saturating_add(there);
            }
        }
        at
    }

    fn check(&mut self, head: FrameHead, payload: &[u8]) -> Result<Check, Malformed> {
        self.table.check(fragment(head, payload).ok_or(Malformed)?)
    }

    /// Makes ready what is held and complete.
    fn release(&mut self) {
        loop {
            let held = std::mem::take(&mut self.held);
            let passed = self.pass(&held);
            self.held = held;
            let passed = self.held.split_to(passed);
            self.ready.unsplit(passed);
            if self.is_unchecked || self.held.is_empty() {
                break;
            }
            match self.release_block() {
                Ok(true) => {}
                Ok(false) => break,
                Err(Malformed) => {
                    self.is_unchecked = true;
                    break;
                }
            }
        }
        if self.is_unchecked || self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.ready.unsplit(held);
        }
    }

    /// Makes ready the header block that `held` starts with, rewritten if it has to be. Whether it was
    /// complete.
    fn release_block(&mut self) -> Result<bool, Malformed> {
        let Some(block) = HeaderBlock::find(&self.held)? else {
            return Ok(false);
        };
        let frames = self.held.split_to(block.frames_length);
        match self.table.check(&block.content)? {
            Check::Accepted => self.ready.unsplit(frames),
            Check::NeedsRewrite => {
                let mut content = BytesMut::with_capacity(block.content.len());
                self.table.rewrite(&block.content, &mut content)?;
                block.head.write(&content, &mut self.ready);
            }
        }
        Ok(true)
    }
}

/// A header block, put together from its frames.
struct HeaderBlock {
    head: FrameHead,
    content: Bytes,
    frames_length: usize,
}

impl HeaderBlock {
    /// The block that `bytes` start with; none if it is not complete.
    fn find(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some(head) = FrameHead::parse(bytes) else {
            return Ok(None);
        };
        if head.kind != HEADERS {
            return Err(Malformed);
        }
        let (mut next, mut rest, mut content) = (head, bytes, BytesMut::new());
        for _ in 0..MAX_FRAMES {
            if next.length > MAX_PAYLOAD {
                return Err(Malformed);
            }
            let Some((frame, after)) = rest.split_at_checked(next.frame_length()) else {
                return Ok(None);
            };
            let payload = frame.get(FrameHead::SIZE..).unwrap_or_default();
            content.put_slice(fragment(next, payload).ok_or(Malformed)?);
            if next.flags & END_HEADERS != 0 {
                return Ok(Some(Self {
                    head,
                    content: content.freeze(),
                    frames_length: bytes.len().saturating_sub(after.len()),
                }));
            }
            rest = after;
            match FrameHead::parse(rest) {
                None => return Ok(None),
                Some(found) if found.kind != CONTINUATION || found.stream != head.stream => {
                    return Err(Malformed);
                }
                Some(found) => next = found,
            }
        }
        Err(Malformed)
    }
}

impl FrameHead {
    /// Writes a header block in frames of its own, without padding and priority, which mean nothing to
    /// the HTTP/2 library.
    fn write(self, block: &[u8], out: &mut BytesMut) {
        let mut kind = HEADERS;
        let mut flags = self.flags & END_STREAM;
        let mut rest = block;
        loop {
            let (payload, after) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            if after.is_empty() {
                flags |= END_HEADERS;
            }
            let head = Self {
                length: payload.len(),
                kind,
                flags,
                stream: self.stream,
            };
            // A payload of this length always has a head.
            if let Some(head) = head.to_bytes() {
                out.put_slice(&head);
                out.put_slice(payload);
            }
            if after.is_empty() {
                return;
            }
            (kind, flags, rest) = (CONTINUATION, 0, after);
        }
    }
}

/// The part of a header block that a frame carries; none if its padding is longer than the frame.
fn fragment(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if head.length > MAX_PAYLOAD {
        return None;
    }
    if head.kind != HEADERS || head.flags & (PADDED | PRIORITY) == 0 {
        return Some(payload);
    }
    let mut rest = payload;
    let mut padding = 0;
    if head.flags & PADDED != 0 {
        let (length, after) = rest.split_first()?;
        (padding, rest) = (usize::from(*length), after);
    }
    if head.flags & PRIORITY != 0 {
        rest = rest.get(PRIORITY_LENGTH..)?;
    }
    rest.get(..rest.len().checked_sub(padding)?)
}

/// Bytes of a stream's priority in HEADERS.
const PRIORITY_LENGTH: usize = 5;

/// The most frames of one header block, and so 1 MiB of it are held. The HTTP/2 library ends a
/// connection that sends more, by its own bounds.
const MAX_FRAMES: usize = 64;

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
