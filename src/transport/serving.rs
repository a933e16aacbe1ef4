//! How long a call takes, until its last byte is out or its caller has gone.

use std::sync::Arc;

use http::HeaderMap;

use super::grpc::Calls;
use super::status::Status;
use super::trace;
use crate::clock::Stopwatch;
use crate::event::{CallEnd, CallTrace, Code, Served};

/// A call under way. When it is dropped, it is over: its answer has left, or its caller has.
#[derive(Debug)]
pub(super) struct Serving {
    calls: Arc<Calls>,
    watch: Stopwatch,
    ended: CallEnd,
    /// What is recorded of it, if that is wanted.
    trace: Option<Box<CallTrace>>,
}

impl Serving {
    /// A call has come in.
    pub(super) fn new(calls: Arc<Calls>, headers: &HeaderMap) -> Self {
        let watch = Stopwatch::start();
        let sampler = calls.service.sampler;
        Self {
            trace: sampler.and_then(|sampler| trace::begin(sampler, headers)),
            calls,
            watch,
            ended: CallEnd::Abandoned,
        }
    }

    /// What answers it, and what is recorded of that.
    pub(super) fn parts(&mut self) -> (&Calls, Option<&mut CallTrace>) {
        (&self.calls, self.trace.as_deref_mut())
    }

    /// Says why it is refused.
    pub(super) fn note_refused(&self, status: &Status) {
        self.calls.service.note_refused(status);
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

impl Drop for Serving {
    fn drop(&mut self) {
        let events = self.calls.service.pipeline.events();
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
