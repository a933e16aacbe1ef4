//! What a client sends, frame by frame: header blocks are checked before the HTTP/2 library sees
//! them.
//!
//! Everything but header blocks is handed on as it comes. A block that is not complete is held
//! until its last frame has come, since the length at the start of its first frame depends on what
//! is removed.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::MAX_HEADER_LIST;
use super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, HEADERS, MAX_PAYLOAD, PADDED, PRIORITY,
    PUSH_PROMISE,
};
use super::header_block::{Check, HeaderTable, Malformed, has_too_many_fields};

/// The state of a connection's reading side, after the preface.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    table: HeaderTable,
    /// Bytes of the current frame's payload that are still to come and are handed on as they are.
    payload_left: usize,
    /// The start of a frame or header block that is not complete.
    held: Vec<u8>,
    /// How much of a header block `held` starts with.
    scan: BlockScan,
    /// Checked bytes that have not been handed on.
    ready: BytesMut,
    /// What was read since [`Inbound::take_read_cost`], in bytes of header blocks: at least [`LEAST_BLOCK`] for each
    /// block.
    read_cost: usize,
    state: State,
}

/// What becomes of further bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// They are checked.
    #[default]
    Checked,
    /// The client broke the protocol: the HTTP/2 library gets everything, finds out by itself, and
    /// ends the connection.
    Unchecked,
    /// The same, but the library could misread what follows: it gets a frame that breaks the
    /// protocol, and nothing else.
    Ended,
}

impl Inbound {
    /// Starts with bytes that are handed on before all others.
    pub(super) fn starting_with(ready: &[u8]) -> Self {
        Self {
            ready: ready.into(),
            ..Self::default()
        }
    }

    /// Takes bytes that were just read. Returns how many from the start are to be handed on as they
    /// are; the others were kept, and come later by way of [`Inbound::take_ready`], which must have
    /// been emptied before.
    pub(super) fn accept(&mut self, read: &[u8]) -> usize {
        match self.state {
            State::Checked => {}
            State::Unchecked => return read.len(),
            State::Ended => return 0,
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
            // What is not complete has been copied, and looked at.
            self.add_cost(self.held.len().min(rest.len()));
        }
        passed
    }

    const fn count_block(&mut self, length: usize) {
        let counted = if length < LEAST_BLOCK {
            LEAST_BLOCK
        } else {
            length
        };
        self.add_cost(counted);
    }

    const fn add_cost(&mut self, bytes: usize) {
        self.read_cost = self.read_cost.saturating_add(bytes);
    }

    /// Takes the cost of what was read since the last time, in bytes of header blocks.
    pub(super) const fn take_read_cost(&mut self) -> usize {
        std::mem::replace(&mut self.read_cost, 0)
    }

    /// Memory that a header block takes that is not complete. One frame is free: any may be cut by the
    /// end of a read.
    pub(super) fn held_bytes(&self) -> usize {
        match self.held.len() {
            0..=MAX_FRAME => 0,
            _ => self.held.capacity(),
        }
    }

    /// Drops what is held, and has the HTTP/2 library end the connection.
    pub(super) fn end(&mut self) {
        self.held = Vec::new();
        self.state = State::Ended;
        self.ready.extend_from_slice(LONE_CONTINUATION);
    }

    /// The client has sent its last byte: what is held is handed on.
    pub(super) fn finish(&mut self) {
        self.ready
            .extend_from_slice(&std::mem::take(&mut self.held));
    }

    /// Takes bytes that are to be handed on before anything is read, `limit` at most; empty if
    /// there are none.
    pub(super) fn take_ready(&mut self, limit: usize) -> Bytes {
        let taken = self.ready.split_to(limit.min(self.ready.len())).freeze();
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

    /// Whether nothing that is read will be handed on.
    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// How many bytes from the start of `bytes` can be handed on as they are: whole frames, whose
    /// header blocks are accepted, and the parts of payloads.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = self.payload_left.min(bytes.len());
        self.payload_left -= at;
        while let Some(head) = bytes.get(at..).and_then(FrameHead::parse) {
            if matches!(head.kind, HEADERS | CONTINUATION | PUSH_PROMISE) {
                if head.kind != HEADERS || head.flags & END_HEADERS == 0 {
                    break;
                }
                let end = at.saturating_add(head.frame_length());
                if head.length > MAX_PAYLOAD {
                    break;
                }
                let payload = bytes.get(at.saturating_add(FrameHead::SIZE)..end);
                let block = payload.and_then(|payload| fragment(head, payload));
                let mut table = self.table;
                let block = block.filter(|block| !has_too_many_fields(block));
                match block.map(|block| table.check(block)) {
                    Some(Ok(Check::Accepted)) => {
                        self.count_block(head.length);
                        (self.table, at) = (table, end);
                    }
                    // Incomplete, to be rewritten, or malformed.
                    _ => break,
                }
            } else {
                self.add_cost(match head.kind {
                    DATA => head.length / DATA_PER_HEADER_BYTE,
                    _ => SMALL_FRAME,
                });
                at = at.saturating_add(FrameHead::SIZE);
                let there = head.length.min(bytes.len().saturating_sub(at));
                self.payload_left = head.length - there;
                at = at.saturating_add(there);
            }
        }
        at
    }

    /// Makes ready what is held and complete.
    fn release(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            let rest = held.get(at..).unwrap_or_default();
            let passed = self.pass(rest);
            let (checked, rest) = rest.split_at(passed);
            self.ready.extend_from_slice(checked);
            at = at.saturating_add(passed);
            if rest.is_empty() {
                break;
            }
            match self.release_block(rest) {
                Ok(Some(length)) => at = at.saturating_add(length),
                Ok(None) => break,
                Err(BlockError::Malformed) => {
                    self.give_up(rest);
                    at = held.len();
                    break;
                }
                Err(BlockError::TooManyFields) => {
                    self.end();
                    at = held.len();
                    break;
                }
            }
        }
        if at < held.len() {
            held.drain(..at);
            self.held = held;
        }
    }

    /// Makes ready the header block that `bytes` start with, rewritten if it has to be. Returns how
    /// long its frames are; none if it is not complete.
    fn release_block(&mut self, bytes: &[u8]) -> Result<Option<usize>, BlockError> {
        let Some(length) = self.scan.advance(bytes)? else {
            return Ok(None);
        };
        let frames = bytes.get(..length).unwrap_or_default();
        let (head, block) = join_fragments(frames).ok_or(BlockError::Malformed)?;
        if has_too_many_fields(&block) {
            return Err(BlockError::TooManyFields);
        }
        // The library has to see a malformed block as it is, so nothing changes before it is known
        // that this one is none.
        let mut table = self.table;
        match table.check(&block)? {
            Check::Accepted => self.ready.extend_from_slice(frames),
            Check::NeedsRewrite => {
                let mut content = BytesMut::with_capacity(block.len());
                table.rewrite(&block, &mut content)?;
                head.write(&content, &mut self.ready);
            }
        }
        self.count_block(length);
        self.table = table;
        self.scan = BlockScan::default();
        Ok(Some(length))
    }

    /// Leaves it to the HTTP/2 library to end the connection, for these bytes or for others that it
    /// cannot misread.
    fn give_up(&mut self, bytes: &[u8]) {
        if self.table.is_translated() {
            self.state = State::Ended;
            self.ready.extend_from_slice(LONE_CONTINUATION);
        } else {
            self.state = State::Unchecked;
            self.ready.extend_from_slice(bytes);
        }
    }
}

/// Why a header block is not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockError {
    /// It is not HPACK, or its frames are out of order. The library ends the connection.
    Malformed,
    /// The library would keep what takes a hundred times as much memory.
    TooManyFields,
}

impl From<Malformed> for BlockError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// How far the frames of a header block have been looked at.
#[derive(Debug, Default)]
struct BlockScan {
    /// Bytes of complete frames.
    length: usize,
    /// How many frames that are.
    frames: usize,
}

impl BlockScan {
    /// Goes on with `bytes`, which start with the block's first frame. Returns the length of all
    /// frames of the block; none if it is not complete.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let first = FrameHead::parse(bytes);
        loop {
            let rest = bytes.get(self.length..).unwrap_or_default();
            let (Some(first), Some(head)) = (first, FrameHead::parse(rest)) else {
                return Ok(None);
            };
            let expected = if self.frames == 0 {
                HEADERS
            } else {
                CONTINUATION
            };
            if head.kind != expected
                || head.stream != first.stream
                || head.length > MAX_PAYLOAD
                || self.frames >= MAX_FRAMES
            {
                return Err(Malformed);
            }
            if rest.len() < head.frame_length() {
                return Ok(None);
            }
            self.length = self.length.saturating_add(head.frame_length());
            self.frames += 1;
            if head.flags & END_HEADERS != 0 {
                return Ok(Some(self.length));
            }
        }
    }
}

/// The header block that these frames carry, and its first head; none if a padding is longer than
/// its frame.
fn join_fragments(frames: &[u8]) -> Option<(FrameHead, Cow<'_, [u8]>)> {
    let first = FrameHead::parse(frames)?;
    let mut block = Cow::Borrowed([].as_slice());
    let mut rest = frames;
    while let Some(head) = FrameHead::parse(rest) {
        let (frame, after) = rest.split_at_checked(head.frame_length())?;
        let part = fragment(head, frame.get(FrameHead::SIZE..)?)?;
        match block.is_empty() {
            true => block = Cow::Borrowed(part),
            false => block.to_mut().extend_from_slice(part),
        }
        rest = after;
    }
    Some((first, block))
}

impl FrameHead {
    /// Writes a header block in frames of its own, without padding and priority, which mean nothing
    /// to the HTTP/2 library.
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

/// Cost of any other frame, in bytes of header blocks.
const SMALL_FRAME: usize = 16;

/// Bytes of a message that take as long as a byte of a header block.
const DATA_PER_HEADER_BYTE: usize = 16;

/// The longest frame.
const MAX_FRAME: usize = FrameHead::SIZE + MAX_PAYLOAD;

/// A header block counts as at least so many bytes: a request takes memory and time however short it
/// is.
const LEAST_BLOCK: usize = 384;

/// The most frames of one header block: as many as h2 takes, which is HEADERS, a quarter more
/// CONTINUATION than a header list of the largest size needs, and a last one. It ends a connection
/// that sends more.
const MAX_FRAMES: usize = 2 + MAX_HEADER_LIST as usize / MAX_PAYLOAD * 5 / 4;

/// A frame that h2 ends a connection for, as it does for what was withheld from it: CONTINUATION
/// without HEADERS.
const LONE_CONTINUATION: &[u8] = b"\0\0\0\x09\x04\0\0\0\x01";

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
