//! Between a connection's socket and the HTTP/2 library.
//!
//! h2 refuses every request whose `:authority` the `http` crate cannot parse, before any service is
//! called. But Envoy sends the name of its cluster there, and Istio's
//! (`outbound|8081||ratelimit.default.svc.cluster.local`) and Contour's
//! (`extension/projectcontour/ratelimit`) are no authorities; nor is what gRPC's C core sends over
//! a unix socket (`tmp%2Fx.sock`). Each such request would pass its limits, and nothing would say
//! so. Tollgate has no use for the authority. So [`CheckedStream`] replaces one that h2 would
//! refuse in the header blocks that it reads, and hands on everything else as it is.
//! `docs/decisions/0016` has the reasons and what it costs.
//!
//! It also sees what h2 refuses, and why: other protocols by their first bytes ([`accept`]), and
//! h2's errors by the frames that report them to the client.

mod frame;
mod header_block;
mod huffman;
mod inbound;
mod outbound;
mod preface;
mod protocol_errors;
mod stream;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::clients::{ClientConnection, Held};
use super::read_queue::{ReadQueue, Turn};
use crate::event::ProtocolError;
pub(super) use preface::PrefaceError;
pub(super) use protocol_errors::ProtocolErrors;
pub(super) use stream::CheckedStream;

/// Bytes of the largest header list that is accepted. Room for what tracing and `initial_metadata`
/// copy from clients' headers.
pub(super) const MAX_HEADER_LIST: u32 = 1 << 20;

/// Waits for a connection's preface. From then on `report` gets each error by which the HTTP/2
/// library ends a stream or the connection, header blocks that are not complete count as held
/// by `client`, and the connection takes turns with the others in `reads`.
///
/// # Errors If the connection speaks another protocol or ends; the former is reported too, and
/// answered if it is HTTP/1.
pub(super) async fn accept<S, R>(
    mut stream: S,
    client: &Arc<ClientConnection>,
    reads: &Arc<ReadQueue>,
    report: R,
) -> Result<CheckedStream<S, R>, PrefaceError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: Fn(ProtocolError),
{
    let Err(error) = preface::read(&mut stream).await else {
        return Ok(CheckedStream::new(
            stream,
            Held::nothing(Arc::clone(client)),
            Turn::new(Arc::clone(reads), client),
            report,
        ));
    };
    if let PrefaceError::Refused(reason) = error {
        report(reason);
        if reason == ProtocolError::Http1 {
            preface::answer_http1(&mut stream).await;
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests;
