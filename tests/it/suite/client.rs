//! Who asks a store, as a core of the service does.

use std::sync::Arc;

use tokio::time::Instant;
use tollgate::clock::Clock;
use tollgate::event::BreakerState;
use tollgate::model::{Check, Decision, Hits, Source};
use tollgate::store::{Asked, Keeper, Lane, Store};

use super::bed::PATIENCE;

/// Asks a store.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) store: Store,
    pub(super) lanes: Vec<Lane>,
    pub(super) prefix: String,
}

impl Client {
    /// Decides a query by one of its lanes; only the store may do so.
    pub(super) async fn decide(&self, lane: usize, checks: &[Check], enforce: bool) -> Decision {
        let decision = self.decide_anyhow(lane, checks, enforce).await;
        for verdict in &decision.verdicts {
            assert_eq!(verdict.source, self.source(), "{checks:?}: {verdict:?}");
        }
        decision
    }

    /// The same, whoever decides.
    pub(super) async fn decide_anyhow(
        &self,
        lane: usize,
        checks: &[Check],
        enforce: bool,
    ) -> Decision {
        let checks: Arc<[Check]> = checks.into();
        match (&self.store, self.lanes.get(lane)) {
            (Store::Memory(memory), _) => {
                let memory = Arc::clone(memory);
                let now = Clock::system().now();
                // On a thread of its own, or nobody would be in anybody's way.
                tokio::task::spawn_blocking(move || memory.decide(&checks, enforce, now))
                    .await
                    .unwrap()
            }
            (Store::Shared(_), Some(lane)) => {
                let due = (Instant::now() + PATIENCE).into_std();
                let asked = Asked {
                    checks,
                    enforce,
                    domain: 0,
                    trace: None,
                };
                lane.decide(asked, due).await.unwrap()
            }
            (Store::Shared(_), None) => panic!("it has no such lane"),
        }
    }

    /// What is counted against a check's limit.
    pub(super) async fn counted(&self, check: &Check) -> u64 {
        let peek = Check {
            hits: Hits::Peek,
            ..check.clone()
        };
        let now = Clock::system().now();
        let told = self.store.inspect(self.lanes.first(), &peek, now).await;
        assert_eq!(told.source, self.source());
        told.counted
    }

    /// Drops a check's counter.
    pub(super) async fn forget(&self, check: &Check) {
        let now = Clock::system().now();
        let forgotten = self.store.forget(self.lanes.first(), check, now).await;
        forgotten.unwrap();
    }

    /// Says for as long as it is held that a replica lives, as the service does.
    pub(super) fn keep(&self) -> Option<Keeper> {
        self.lanes.first().map(Keeper::start)
    }

    /// Whether counts lie elsewhere.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.store, Store::Shared(_))
    }

    /// Whether all of its stores are asked now.
    pub(super) fn is_up(&self) -> bool {
        match &self.store {
            Store::Memory(_) => true,
            Store::Shared(shared) => shared
                .status()
                .iter()
                .all(|store| store.state == BreakerState::Closed),
        }
    }

    pub(super) fn decides_by_store(&self) {
        if let Store::Shared(shared) = &self.store {
            assert!(self.is_up(), "{:#?}", shared.status());
        }
    }

    fn source(&self) -> Source {
        match self.store {
            Store::Memory(_) => Source::Memory,
            Store::Shared(_) => Source::Store,
        }
    }
}
