//! How a call fails: gRPC's codes, and the one place where errors become them.
//!
//! Envoy treats every error as "the rate limit service is away" and, unless told otherwise, lets
//! the request pass. So an error here never depends on what a client sent: a call that is too large to be
//! read is answered `OVER_LIMIT` ([`DeniedUnread`]).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;

use crate::event::{Code, DeniedUnread};
use crate::limiter::Refusal;

/// A gRPC status other than OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: Code,
    pub(super) message: String,
    /// If a call of the rate limit service is to be answered `OVER_LIMIT` instead: why.
    pub(super) denied_unread: Option<DeniedUnread>,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            denied_unread: None,
        }
    }

    fn denied_unread(reason: DeniedUnread, message: impl Into<String>) -> Self {
        Self {
            denied_unread: Some(reason),
            ..Self::new(Code::ResourceExhausted, message)
        }
    }

    pub(super) fn overloaded(in_flight: usize) -> Self {
        Self::new(
            Code::ResourceExhausted,
            format!("{in_flight} calls are under way, no more are taken (limits.in_flight)"),
        )
    }

    pub(super) fn client_holds_too_much() -> Self {
        Self::denied_unread(
            DeniedUnread::RequestBytes,
            "unfinished calls of this connection or address take too much memory (limits.request_bytes)",
        )
    }

    pub(super) fn too_large(bytes: usize, limit: usize) -> Self {
        Self::denied_unread(
            DeniedUnread::MessageBytes,
            format!("a message of {bytes} bytes, at most {limit} are read (limits.message_bytes)"),
        )
    }

    pub(super) fn too_many_objects(count: usize, limit: usize) -> Self {
        Self::new(
            Code::InvalidArgument,
            format!(
                "{count} objects, a request has at most {limit} (limits.descriptors, limits.entries)"
            ),
        )
    }

    pub(super) fn too_many_fields(limit: usize) -> Self {
        Self::new(
            Code::InvalidArgument,
            format!(
                "more than {limit} protobuf fields in one request: no client of this API sends so many"
            ),
        )
    }

    pub(super) fn too_slow(patience: Duration) -> Self {
        Self::new(
            Code::DeadlineExceeded,
            format!("the message was not complete after {patience:?}"),
        )
    }

    pub(super) fn undecodable(error: &prost::DecodeError) -> Self {
        Self::new(
            Code::InvalidArgument,
            format!("not a RateLimitRequest: {error}"),
        )
    }

    pub(super) fn code_header(&self) -> HeaderValue {
        HeaderValue::from(self.code.number())
    }

    /// The message, percent-encoded as gRPC wants it.
    pub(super) fn message_header(&self) -> HeaderValue {
        let mut text = BytesMut::with_capacity(self.message.len());
        for byte in self.message.bytes() {
            match byte {
                b' '..=b'$' | b'&'..=b'~' => text.put_u8(byte),
                _ => {
                    text.put_slice(&[
                        b'%',
                        HEX[usize::from(byte >> 4)],
                        HEX[usize::from(byte & 15)],
                    ]);
                }
            }
        }
        HeaderValue::from_maybe_shared(Bytes::from(text))
            .unwrap_or_else(|_| HeaderValue::from_static("error"))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::EmptyDomain
            | Refusal::NoDescriptors
            | Refusal::Override { .. }
            | Refusal::TooManyDescriptors { .. }
            | Refusal::TooManyEntries { .. } => Code::InvalidArgument,
            Refusal::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, refusal.to_string())
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
