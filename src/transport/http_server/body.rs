//! Reads a request's body completely before its handler runs.

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::connections::{BodyReservation, TableEntry};

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body cannot be read: {0}")]
    Broken(hyper::Error),
    #[error("bodies of more than {0} bytes in all are being received; retry later")]
    Overloaded(usize),
    #[error("the body was not complete after {0:?}")]
    Timeout(Duration),
    #[error("the body is too long: at most {0} bytes are read")]
    TooLong(usize),
}

/// Reads a body to its end, within the limits of the listener. Does not limit the time.
pub(super) async fn read<'e>(
    incoming: &mut Incoming,
    entry: &'e TableEntry,
) -> Result<(Bytes, BodyReservation<'e>), BodyError> {
    let limits = entry.limits();
    let mut reservation = entry.reserve();
    let mut body = Vec::new();
    if incoming.size_hint().lower() > u64::try_from(limits.max_body).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLong(limits.max_body));
    }
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
            continue;
        };
        let length = body.len().saturating_add(data.len());
        if length > limits.max_body {
            return Err(BodyError::TooLong(limits.max_body));
        }
        if length > body.capacity() {
            let doubled = body.capacity().saturating_mul(2);
            let capacity = doubled.clamp(length, limits.max_body);
            if !reservation.grow(capacity.saturating_sub(body.capacity())) {
                return Err(BodyError::Overloaded(limits.body_bytes));
            }
            body.reserve_exact(capacity.saturating_sub(body.len()));
        }
        body.extend_from_slice(&data);
    }
    Ok((body.into(), reservation))
}

/// Reads and drops the rest of a refused body, up to [`MAX_DISCARDED`] bytes. A client that is still
/// sending when the connection closes may never see the response.
pub(super) async fn discard(mut incoming: Incoming) {
    let mut left = MAX_DISCARDED;
    while let Some(Ok(frame)) = incoming.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

const MAX_DISCARDED: usize = 16 * 1024 * 1024;
