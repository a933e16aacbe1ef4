//! Spans on their way from what decides to the thread that pushes.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{Notify, mpsc};

use super::config::SpanQueue;
use crate::event::{CallTrace, Operation, StoreCalled, StoreName};
use crate::model::TraceRef;
use crate::telemetry::dropped::{Dropped, Kind};

/// A span that is over. It becomes a message on the thread that pushes.
#[derive(Debug)]
pub(in crate::telemetry) enum Finished {
    /// A call of the rate limit service.
    Call {
        call: CallTrace,
        /// When it ended, in nanoseconds since 1970.
        at: u64,
    },
    /// A call to a shared store.
    Store(StoreSpan),
}

/// A call to a shared store that carried queries of recorded calls.
#[derive(Debug)]
pub(in crate::telemetry) struct StoreSpan {
    pub(super) traced: SmallVec<[TraceRef; 4]>,
    pub(super) store: StoreName,
    pub(super) node: Box<str>,
    pub(super) result: &'static str,
    pub(super) operation: Operation,
    pub(super) queries: usize,
    pub(super) checks: usize,
    pub(super) duration: Duration,
    /// When it ended, in nanoseconds since 1970.
    pub(super) at: u64,
}

impl StoreSpan {
    /// Of a call that ended `at`.
    pub(in crate::telemetry) fn new(call: StoreCalled<'_>, at: u64) -> Self {
        Self {
            traced: call.traced.spans.into(),
            store: call.store,
            node: call.traced.node.into(),
            result: call.result,
            operation: call.operation,
            queries: call.queries,
            checks: call.checks,
            duration: call.duration,
            at,
        }
    }
}

/// Where spans are put.
#[derive(Debug)]
pub(super) struct Spans {
    finished: mpsc::Sender<Finished>,
    /// Told when there is a batch.
    full: Arc<Notify>,
    batch: usize,
    dropped: Arc<Dropped>,
}

/// Where they are taken.
#[derive(Debug)]
pub(super) struct Batches {
    finished: mpsc::Receiver<Finished>,
    full: Arc<Notify>,
    config: SpanQueue,
}

/// A queue for so many spans.
pub(super) fn queue(config: SpanQueue, dropped: &Arc<Dropped>) -> (Spans, Batches) {
    let (sender, receiver) = mpsc::channel(config.size.max(1));
    let full = Arc::new(Notify::new());
    let spans = Spans {
        finished: sender,
        full: Arc::clone(&full),
        batch: config.batch,
        dropped: Arc::clone(dropped),
    };
    let batches = Batches {
        finished: receiver,
        full,
        config,
    };
    (spans, batches)
}

impl Spans {
    /// Puts one in. Where there is no room, it is not even made.
    pub(super) fn put(&self, finish: impl FnOnce() -> Finished) {
        let Ok(room) = self.finished.try_reserve() else {
            self.dropped.add(Kind::Spans, 1);
            return;
        };
        room.send(finish());
        let waiting = self.finished.max_capacity() - self.finished.capacity();
        // More than once does no harm, and another thread may have seen the exact number.
        if waiting >= self.batch {
            self.full.notify_one();
        }
    }
}

impl Batches {
    /// Waits until a batch is due. Whoever puts a span in wakes nobody, unless that fills a batch.
    pub(super) async fn due(&self) {
        if self.finished.len() < self.config.batch {
            let _early = tokio::time::timeout(self.config.delay, self.full.notified()).await;
        }
    }

    /// The next batch; empty if nothing waits.
    pub(super) fn take(&mut self) -> Vec<Finished> {
        let taken = std::iter::from_fn(|| self.finished.try_recv().ok());
        taken.take(self.config.batch.max(1)).collect()
    }
}
