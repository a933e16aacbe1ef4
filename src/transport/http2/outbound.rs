//! What the HTTP/2 library sends, frame by frame: by which error it ends streams and connections.
//!
//! The library refuses malformed requests itself, before any service is called, and reports that to
//! nobody but the client. The frame that does so passes here.

use super::frame::{FrameHead, GOAWAY, RST_STREAM};
use crate::event::ProtocolError;

/// The state of a connection's writing side.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Bytes of the current frame that are still to come and carry no error code.
    payload_left: usize,
    /// The start of a frame that came in pieces, or that carries an error code.
    partial: [u8; LONGEST],
    partial_length: usize,
}

impl Outbound {
    /// Takes bytes that were just written, and calls `report` for each error among them.
    pub(super) fn record(&mut self, written: &[u8], mut report: impl FnMut(ProtocolError)) {
        let mut rest = written;
        loop {
            let passed = self.payload_left.min(rest.len());
            self.payload_left -= passed;
            rest = rest.get(passed..).unwrap_or_default();
            let Some((first, after)) = rest.split_first() else {
                return;
            };
            if self.partial_length == 0
                && let Some(head) = FrameHead::parse(rest)
                && code_length(head) == 0
            {
                self.payload_left = head.frame_length();
            } else {
                rest = after;
                self.collect(*first, &mut report);
            }
        }
    }

    /// Takes one byte of a frame that came in pieces or carries an error code.
    fn collect(&mut self, byte: u8, report: &mut impl FnMut(ProtocolError)) {
        if let Some(place) = self.partial.get_mut(self.partial_length) {
            *place = byte;
            self.partial_length += 1;
        }
        let collected = self.partial.get(..self.partial_length).unwrap_or_default();
        let Some(head) = FrameHead::parse(collected) else {
            return;
        };
        let wanted = FrameHead::SIZE + code_length(head);
        if collected.len() < wanted {
            return;
        }
        if wanted > FrameHead::SIZE
            && let Some(code) = collected.last_chunk()
            && let Some(error) = reported(head.kind, u32::from_be_bytes(*code))
        {
            report(error);
        }
        self.payload_left = head.frame_length().saturating_sub(self.partial_length);
        self.partial_length = 0;
    }
}

/// How many bytes of the payload end with an error code; 0 if it has none.
fn code_length(head: FrameHead) -> usize {
    let length = match head.kind {
        RST_STREAM => 4,
        // The last stream's number precedes it.
        GOAWAY => 8,
        _ => return 0,
    };
    if head.length < length { 0 } else { length }
}

/// The error that a frame reports. `STREAM_CLOSED` of a stream is none: the call was answered
/// before the client had sent all of it.
const fn reported(kind: u8, code: u32) -> Option<ProtocolError> {
    match (kind, code) {
        (RST_STREAM, STREAM_CLOSED) => None,
        _ => ProtocolError::from_http2(code),
    }
}

const STREAM_CLOSED: u32 = 5;

/// A GOAWAY as far as its error code.
const LONGEST: usize = FrameHead::SIZE + 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let head = FrameHead {
            length: payload.len(),
            kind,
            flags: 0,
            stream: [0, 0, 0, 1],
        };
        [&head.to_bytes().unwrap(), payload].concat()
    }

    #[test]
    fn errors_are_found_however_the_bytes_are_cut() {
        let sent = [
            frame(4, &[0; 36]),
            frame(RST_STREAM, &[0, 0, 0, 1]),
            frame(0, &[7; 300]),
            // Answered before the request was read, and cancelled: no errors.
            frame(RST_STREAM, &[0; 4]),
            frame(RST_STREAM, &[0, 0, 0, 8]),
            frame(RST_STREAM, &[0, 0, 0, 5]),
            frame(GOAWAY, b"\0\0\0\x05\0\0\0\x0btoo many of something"),
            frame(GOAWAY, &[0; 8]),
            frame(RST_STREAM, &[0, 0, 0, 7]),
        ]
        .concat();
        for step in [1, 2, 3, 9, 13, 14, 1000] {
            let (mut outbound, mut errors) = (Outbound::default(), Vec::new());
            for piece in sent.chunks(step) {
                outbound.record(piece, |error| errors.push(error));
            }
            assert_eq!(
                errors,
                [
                    ProtocolError::Malformed,
                    ProtocolError::EnhanceYourCalm,
                    ProtocolError::RefusedStream
                ],
                "in pieces of {step}"
            );
        }
    }
}
