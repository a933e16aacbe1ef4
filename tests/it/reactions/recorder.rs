//! Remembers what the store tells.

use std::time::Duration;

use parking_lot::Mutex;
use tollgate::event::{
    Answered, BreakerState, Decided, Events, FallbackReason, FellBack, Operation, Queried,
    Reconciled, Refused, Reloaded, Served, StoreCalled, StoreChanged,
};

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Told>);

#[derive(Clone, Debug, Default)]
struct Told {
    calls: Vec<Call>,
    states: Vec<BreakerState>,
    fell: Vec<FallbackReason>,
    reconciled: Vec<Reconciled>,
}

/// A call of any kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) result: &'static str,
    pub(super) duration: Duration,
    pub(super) queries: usize,
}

impl Recorder {
    /// The calls so far that decided: how each ended, and how many queries it had.
    pub(super) fn calls(&self) -> Vec<(&'static str, usize)> {
        let calls = self.every_call(Operation::Decide);
        calls
            .iter()
            .map(|call| (call.result, call.queries))
            .collect()
    }

    /// How many calls that decided ended so.
    pub(super) fn called(&self, result: &str) -> usize {
        let calls = self.calls();
        calls.iter().filter(|call| call.0 == result).count()
    }

    /// All calls of a kind so far.
    pub(super) fn every_call(&self, operation: Operation) -> Vec<Call> {
        let told = self.0.lock();
        let calls = told.calls.iter().filter(|call| call.operation == operation);
        calls.copied().collect()
    }

    /// How many calls of a kind ended so.
    pub(super) fn ended(&self, operation: Operation, result: &str) -> usize {
        let calls = self.every_call(operation);
        calls.iter().filter(|call| call.result == result).count()
    }

    /// The states of the server so far. The first is that of a link that was made.
    pub(super) fn states(&self) -> Vec<BreakerState> {
        self.0.lock().states.clone()
    }

    /// Why queries were answered without the store so far.
    pub(super) fn fell(&self) -> Vec<FallbackReason> {
        self.0.lock().fell.clone()
    }

    /// Hits that were charged afterwards, and that were not, in how many batches.
    pub(super) fn reconciled(&self) -> (u64, u64, usize) {
        let told = self.0.lock();
        let batches = &told.reconciled;
        (
            batches.iter().map(|batch| batch.charged).sum(),
            batches.iter().map(|batch| batch.dropped).sum(),
            batches.len(),
        )
    }
}

impl Events for Recorder {
    fn decided(&self, _: Decided<'_>) {}
    fn queried(&self, _: Queried) {}
    fn answered(&self, _: Answered) {}
    fn served(&self, _: Served) {}
    fn refused(&self, _: Refused) {}
    fn reloaded(&self, _: Reloaded) {}

    fn store_called(&self, call: StoreCalled<'_>) {
        self.0.lock().calls.push(Call {
            operation: call.operation,
            result: call.result,
            duration: call.duration,
            queries: call.queries,
        });
    }

    fn store_changed(&self, change: StoreChanged<'_>) {
        self.0.lock().states.push(change.state);
    }

    fn fell_back(&self, fell: FellBack) {
        self.0.lock().fell.push(fell.reason);
    }

    fn reconciled(&self, reconciled: Reconciled) {
        self.0.lock().reconciled.push(reconciled);
    }
}
