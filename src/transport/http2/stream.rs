//! A connection's byte stream with the checks of this module on both sides.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::preface::PREFACE;
use crate::event::ProtocolError;
use crate::transport::clients::{ClientConnection, Held};
use crate::transport::read_queue::Turn;

/// A byte stream on which the HTTP/2 library sees no `:authority` that it would refuse, and from
/// which its own errors are reported to `R`.
///
/// The library decodes and keeps all that can be read before it lets the service have the first
/// request, and it writes without an end. So reading stops at the end of the connection's [`Turn`], and as long as the
/// client does not read what is written to it.
#[derive(Debug)]
pub(in super::super) struct CheckedStream<S, R> {
    stream: S,
    inbound: Inbound,
    outbound: Outbound,
    /// Memory of a header block that is not complete.
    held: Held<Arc<ClientConnection>>,
    turn: Turn,
    /// Whether the client does not read what is written to it.
    is_write_blocked: bool,
    /// Whether the task has to be woken once it does.
    is_read_deferred: bool,
    report: R,
}

impl<S, R> CheckedStream<S, R> {
    /// Checks `stream`, whose preface has been read. `held` is for header blocks that are not
    /// complete.
    pub(super) fn new(stream: S, held: Held<Arc<ClientConnection>>, turn: Turn, report: R) -> Self {
        Self {
            stream,
            inbound: Inbound::starting_with(PREFACE),
            outbound: Outbound::default(),
            held,
            turn,
            is_write_blocked: false,
            is_read_deferred: false,
            report,
        }
    }

    /// Pending if nothing is to be read now.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_write_blocked {
            self.is_read_deferred = true;
            return Poll::Pending;
        }
        self.turn.poll_next(context)
    }

    /// Records the outcome of a write.
    fn record_write<T>(&mut self, context: &Context<'_>, outcome: &Poll<T>) {
        self.is_write_blocked = outcome.is_pending();
        if !self.is_write_blocked && self.is_read_deferred {
            self.is_read_deferred = false;
            context.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncRead + Unpin, R: Unpin> AsyncRead for CheckedStream<S, R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_readable(context));
        let Self {
            stream,
            inbound,
            held,
            turn,
            ..
        } = this;
        loop {
            if inbound.is_ready() {
                buffer.put_slice(&inbound.take_ready(buffer.remaining()));
                return Poll::Ready(Ok(()));
            }
            if inbound.has_ended() {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            let read = Pin::new(&mut *stream).poll_read(context, buffer);
            if read.is_pending() {
                turn.renew();
            }
            ready!(read)?;
            let read = buffer.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                inbound.finish();
                if inbound.is_ready() {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            let passed = inbound.accept(read);
            turn.add(inbound.take_read_cost());
            let holds = inbound.held_bytes();
            if holds != held.bytes() && !held.resize(holds) {
                inbound.end();
            }
            buffer.set_filled(before.saturating_add(passed));
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(turn.poll_next(context));
        }
    }
}

impl<S: AsyncWrite + Unpin, R: Fn(ProtocolError) + Unpin> AsyncWrite for CheckedStream<S, R> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.record_write(context, &outcome);
        let written = ready!(outcome)?;
        let sent = bytes.get(..written).unwrap_or_default();
        this.outbound.record(sent, &this.report);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.record_write(context, &outcome);
        let written = ready!(outcome)?;
        let mut left = written;
        for slice in slices {
            let sent = slice.get(..left.min(slice.len())).unwrap_or_default();
            this.outbound.record(sent, &this.report);
            left -= sent.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
