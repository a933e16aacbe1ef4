//! Remembers what a store tells.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::event::{
    Answered, BreakerState, Decided, Events, FellBack, Queried, Reconciled, Refused, Reloaded,
    Served, StoreCalled, StoreChanged,
};

/// What was told so far.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct Recorder {
    /// How calls ended, and how long they took.
    pub(in crate::store::redis) calls: Mutex<Vec<(&'static str, Duration)>>,
    /// Nodes, and what became of them.
    pub(in crate::store::redis) states: Mutex<Vec<(String, BreakerState)>>,
}

impl Recorder {
    pub(in crate::store::redis) fn new() -> (Arc<Self>, Clock) {
        (Arc::default(), Clock::system())
    }
}

impl Events for Recorder {
    fn decided(&self, _: Decided<'_>) {}
    fn queried(&self, _: Queried) {}
    fn answered(&self, _: Answered) {}
    fn served(&self, _: Served) {}
    fn refused(&self, _: Refused) {}
    fn reloaded(&self, _: Reloaded) {}
    fn fell_back(&self, _: FellBack) {}
    fn reconciled(&self, _: Reconciled) {}

    fn store_called(&self, call: StoreCalled<'_>) {
        let told = (call.result, call.duration);
        self.calls.lock().push(told);
    }

    fn store_changed(&self, change: StoreChanged<'_>) {
        let told = (change.node.to_owned(), change.state);
        self.states.lock().push(told);
    }
}
