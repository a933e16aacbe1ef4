//! Remembers what the store tells.

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
    calls: Vec<(&'static str, usize)>,
    states: Vec<BreakerState>,
    fell: Vec<FallbackReason>,
    reconciled: Vec<Reconciled>,
}

impl Recorder {
    /// The calls so far: how each ended, and how many queries it had.
    pub(super) fn calls(&self) -> Vec<(&'static str, usize)> {
        self.0.lock().calls.clone()
    }

    /// How many calls ended so.
    pub(super) fn called(&self, result: &str) -> usize {
        let told = self.0.lock();
        told.calls.iter().filter(|call| call.0 == result).count()
    }

    /// The states of the breaker so far. The first is that of a link that was made.
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
        if call.operation != Operation::Decide {
            return;
        }
        self.0.lock().calls.push((call.result, call.queries));
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
