//! Calls that are answered before their message is read.

/// Why a call was answered `OVER_LIMIT` though its message was not read. To Envoy an error would mean that the
/// service is away, and it would let the request pass, which a client could bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeniedUnread {
    /// The message is larger than `limits.message_bytes`.
    MessageBytes,
    /// Unfinished calls of the connection or its address take up their part of `limits.request_bytes`.
    RequestBytes,
}

impl DeniedUnread {
    /// Every reason, in the order of [`DeniedUnread::index`].
    pub const ALL: [Self; 2] = [Self::MessageBytes, Self::RequestBytes];

    /// The label that metrics have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessageBytes => "message_bytes",
            Self::RequestBytes => "request_bytes",
        }
    }

    /// Its index in [`DeniedUnread::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::MessageBytes => 0,
            Self::RequestBytes => 1,
        }
    }
}
