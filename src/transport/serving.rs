//! How long a call takes, until its last byte is out or its caller has gone.

use std::sync::Arc;

use super::grpc::Calls;
use crate::clock::Stopwatch;
use crate::event::{CallEnd, Code, Served};

/// A call under way. When it is dropped, it is over: its answer has left, or its caller has.
#[derive(Debug)]
pub(super) struct Serving {
    calls: Arc<Calls>,
    watch: Stopwatch,
    ended: CallEnd,
}

impl Serving {
    /// A call has come in.
    pub(super) fn new(calls: Arc<Calls>) -> Self {
        Self {
            calls,
            watch: Stopwatch::start(),
            ended: CallEnd::Abandoned,
        }
    }

    /// What answers it.
    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
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
        events.served(Served {
            duration: self.watch.elapsed(),
            ended: self.ended,
        });
    }
}
