//! A connection's byte stream with the checks of this module on both sides.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::preface::PREFACE;
use crate::event::ProtocolError;

/// A byte stream on which the HTTP/2 library sees no `:authority` that it would refuse, and from
/// which its own errors are reported to `R`.
#[derive(Debug)]
pub(in super::super) struct CheckedStream<S, R> {
    stream: S,
    inbound: Inbound,
    outbound: Outbound,
    report: R,
}

impl<S, R: Fn(ProtocolError)> CheckedStream<S, R> {
    /// Checks `stream`, whose preface has been read.
    pub(super) fn new(stream: S, report: R) -> Self {
        Self {
            stream,
            inbound: Inbound::starting_with(PREFACE),
            outbound: Outbound::default(),
            report,
        }
    }
}

impl<S: AsyncRead + Unpin, R: Unpin> AsyncRead for CheckedStream<S, R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream, inbound, ..
        } = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if inbound.is_ready() {
                buffer.put_slice(&inbound.take_ready(buffer.remaining()));
                return Poll::Ready(Ok(()));
            }
            if inbound.has_ended() {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut *stream).poll_read(context, buffer))?;
            let read = buffer.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                inbound.finish();
                if inbound.is_ready() {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            let passed = inbound.accept(read);
            buffer.set_filled(before.saturating_add(passed));
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
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
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
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
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, slices))?;
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
