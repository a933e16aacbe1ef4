//! The nine bytes that every HTTP/2 frame starts with (RFC 9113, section 4.1).

/// A frame's length, type, flags and stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Bytes of payload that follow.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// The stream's number, big-endian, without the reserved bit.
    pub(super) stream: [u8; 4],
}

impl FrameHead {
    /// Bytes of a frame head.
    pub(super) const SIZE: usize = 9;

    /// Reads the head at the start of `bytes`; none if it is not complete.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes.first_chunk::<{ Self::SIZE }>()?;
        let length = u32::from_be_bytes([0, *l0, *l1, *l2]);
        Some(Self {
            length: usize::try_from(length).ok()?,
            kind: *kind,
            flags: *flags,
            stream: [s0 & 0x7f, *s1, *s2, *s3],
        })
    }

    /// As bytes; none if the length does not fit in three bytes.
    pub(super) fn to_bytes(self) -> Option<[u8; Self::SIZE]> {
        let length = u32::try_from(self.length).ok()?;
        let [0, l0, l1, l2] = length.to_be_bytes() else {
            return None;
        };
        let [s0, s1, s2, s3] = self.stream;
        Some([l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3])
    }

    /// Bytes of the whole frame.
    pub(super) const fn frame_length(self) -> usize {
        self.length.saturating_add(Self::SIZE)
    }
}

/// Types of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// Flags of HEADERS and CONTINUATION.
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// The longest payload that a peer may send while SETTINGS_MAX_FRAME_SIZE is at its default, as
/// it is here.
pub(super) const MAX_PAYLOAD: usize = 16_384;
