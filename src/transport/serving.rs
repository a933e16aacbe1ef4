//! How long a call takes, until its last byte is out or its caller has gone.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::clients::Held;
use super::grpc::ServedConnection;
use super::status::Status;
use super::trace;
use crate::clock::Stopwatch;
use crate::event::{CallEnd, CallTrace, Code, DeniedUnread, Served};

/// A call under way. When it is dropped, it is over: its answer has left, or its caller has.
#[derive(Debug)]
pub(super) struct Serving {
    connection: Arc<ServedConnection>,
    /// Bytes of memory that the connection holds for it.
    held: usize,
    watch: Stopwatch,
    ended: CallEnd,
    /// What is recorded of it, if that is wanted.
    trace: Option<Box<CallTrace>>,
}

impl Serving {
    /// A call has come in.
    pub(super) fn new(connection: Arc<ServedConnection>, headers: &HeaderMap) -> Self {
        let watch = Stopwatch::start();
        let sampler = connection.calls.service.sampler;
        Self {
            trace: sampler.and_then(|sampler| trace::begin(sampler, headers)),
            connection,
            held: 0,
            watch,
            ended: CallEnd::Abandoned,
        }
    }

    /// Holds memory for the call, once, until it is over. Returns `false` if its connection holds too much.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let holds = self.connection.client.hold(bytes);
        if holds {
            self.held = bytes;
        }
        holds
    }

    /// What answers it, and what is recorded of that.
    pub(super) fn parts(&mut self) -> (&ServedConnection, Option<&mut CallTrace>) {
        (&self.connection, self.trace.as_deref_mut())
    }

    /// Says why it is refused.
    pub(super) fn note_refused(&self, status: &Status) {
        self.connection.calls.service.note_refused(status);
    }

    /// Says why it is answered `OVER_LIMIT` unread.
    pub(super) fn note_denied_unread(&self, reason: DeniedUnread, status: &Status) {
        self.connection
            .calls
            .service
            .note_denied_unread(reason, status);
    }

    /// Lets `message` carry what is held for the call, and its own length, until it has been sent: HTTP/2 keeps it
    /// as long as the client's window is closed.
    pub(super) fn attach(&mut self, message: Bytes) -> Bytes {
        let mut held = Held::nothing(Arc::clone(&self.connection.client));
        held.take_over(std::mem::take(&mut self.held));
        // If that is too much, it is the last for which this client gets memory.
        let bytes = message.len().saturating_add(RESPONSE_BYTES);
        let _holds = held.resize(held.bytes().saturating_add(bytes));
        Bytes::from_owner(Attached {
            message,
            _held: held,
        })
    }

    /// The same for a denial of a call for which nothing could be held. `None` if the client leaves too many
    /// unread.
    pub(super) fn attach_denial(&self, message: Bytes) -> Option<Bytes> {
        let held = self.connection.client.hold_denial()?;
        Some(Bytes::from_owner(Attached {
            message,
            _held: held,
        }))
    }

    /// The last of the answer is handed to the connection.
    pub(super) fn answered(mut self) {
        self.ended = CallEnd::Answered;
    }

    /// The refusal is handed to the connection.
    pub(super) fn refused(mut self, code: Code) {
        self.ended = CallEnd::Refused(code);
    }
}

/// What HTTP/2 keeps of a response that waits for the client's window, besides the message: its frames and
/// trailers.
const RESPONSE_BYTES: usize = 3 * 1024;

/// A message, and what is given back once it has been sent.
struct Attached<H> {
    message: Bytes,
    _held: H,
}

impl<H> AsRef<[u8]> for Attached<H> {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.connection.client.release(self.held);
        let events = self.connection.calls.service.pipeline.events();
        let (duration, ended) = (self.watch.elapsed(), self.ended);
        events.served(Served { duration, ended });
        if let Some(trace) = self.trace.take() {
            events.traced(CallTrace {
                duration,
                started: Some(self.watch.started()),
                ended,
                ..*trace
            });
        }
    }
}
