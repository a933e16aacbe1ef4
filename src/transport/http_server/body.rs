//! A request's body, read before anybody works on it.

use std::time::Duration;

use axum::body::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::places::{Held, Place};

/// Why a body is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body was not complete after {0:?}")]
    Late(Duration),
    #[error("the body is too long: at most {0} bytes are read")]
    TooLong(usize),
    #[error("too many bodies are being read: {0} bytes in all")]
    NoRoom(usize),
    #[error("the body cannot be read: {0}")]
    Broken(hyper::Error),
}

/// Reads a body to its end, as long as there is room for it.
pub(super) async fn read<'p>(
    incoming: &mut Incoming,
    place: &'p Place,
) -> Result<(Bytes, Held<'p>), BodyError> {
    let room = place.room();
    let mut held = place.hold();
    let mut whole = BytesMut::new();
    if incoming.size_hint().lower() > u64::try_from(room.largest_body).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLong(room.largest_body));
    }
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
            continue;
        };
        if whole.len().saturating_add(data.len()) > room.largest_body {
            return Err(BodyError::TooLong(room.largest_body));
        }
        if !held.add(data.len()) {
            return Err(BodyError::NoRoom(room.body_bytes));
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), held))
}

/// Takes the rest of a body and throws it away, to a certain length: a client that still sends when the
/// connection is closed may never see the answer that says why.
pub(super) async fn discard(mut incoming: Incoming) {
    let mut left = MOST_DISCARDED;
    while let Some(Ok(frame)) = incoming.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

const MOST_DISCARDED: usize = 16 * 1024 * 1024;
