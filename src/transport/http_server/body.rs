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
pub(super) async fn read(
    mut incoming: Incoming,
    place: &Place,
) -> Result<(Bytes, Held<'_>), BodyError> {
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
