//! The body of an answer on the gRPC listener: ours, or tonic's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::clients::{ClientConnection, Held};
use super::serving::Serving;

/// One message and the trailers that say OK; nothing; or whatever tonic answers.
#[derive(Debug)]
pub(super) enum GrpcBody {
    Message(Bytes, Serving),
    Trailers(Serving),
    Empty,
    Tonic {
        body: tonic::body::Body,
        /// Given back once the last of it has been read.
        _held: Held<Arc<ClientConnection>>,
    },
}

impl Body for GrpcBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Self::Tonic { body, .. } = &mut *self {
            return Pin::new(body).poll_frame(context);
        }
        let (frame, next) = match std::mem::replace(&mut *self, Self::Empty) {
            Self::Message(message, serving) => (Frame::data(message), Self::Trailers(serving)),
            Self::Trailers(serving) => {
                serving.answered();
                (Frame::trailers(ok()), Self::Empty)
            }
            Self::Empty | Self::Tonic { .. } => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(..) | Self::Trailers(_) => false,
            Self::Empty => true,
            Self::Tonic { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Message(..) => SizeHint::default(),
            Self::Trailers(_) | Self::Empty => SizeHint::with_exact(0),
            Self::Tonic { body, .. } => body.size_hint(),
        }
    }
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
