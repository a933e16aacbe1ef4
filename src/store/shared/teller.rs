//! Tells the fleet what this replica counts and which alerts it has: every few seconds, in a task of
//! its own, so that no decision waits for it and nothing else waits for a slow server.
//!
//! Each key is written in one call of its own, wherever its slot is. What surely was not written is
//! told in the next round; what may have been is not told again, so nothing is ever counted twice. A
//! server that has trouble is not called at all: what is for it waits.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

use super::Lane;
use super::untold::Untold;
use crate::event::{AlertChanged, DomainTotals, Total, Totals};
use crate::store::redis::{Failure, FailureClass, FleetCall, Links, Place, Reaction, now};

/// Where what is told to the fleet comes from.
#[derive(Clone)]
pub struct FleetSource {
    /// What this process has counted for each domain, ever. May take milliseconds, so it is called
    /// where that is in nobody's way.
    pub totals: Arc<dyn Fn() -> Vec<DomainTotals> + Send + Sync>,
    /// The domains that have policies.
    pub domains: Arc<dyn Fn() -> Vec<Arc<str>> + Send + Sync>,
}

impl fmt::Debug for FleetSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetSource").finish_non_exhaustive()
    }
}

/// The task that tells. Dropped, it ends at once.
#[derive(Debug)]
pub(super) struct Teller {
    alerts: mpsc::Sender<AlertChanged>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Teller {
    /// How often it tells.
    pub(super) const ROUND: Duration = Duration::from_secs(5);

    /// Begins, over a lane of this runtime.
    pub(super) fn start(lane: &Lane, source: FleetSource) -> Self {
        let (alerts, changes) = mpsc::channel(MOST_CHANGES);
        let (stop, stopped) = oneshot::channel();
        let telling = Telling {
            lane: lane.clone(),
            source,
            untold: Untold::default(),
            refused: false,
            complained: false,
        };
        Self {
            alerts,
            stop: Some(stop),
            task: tokio::spawn(telling.run(changes, stopped)),
        }
    }

    /// Where alerts of this replica are told.
    pub(super) fn alerts(&self) -> mpsc::Sender<AlertChanged> {
        self.alerts.clone()
    }

    /// Tells what is still to be told, and ends.
    pub(super) async fn finish(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ended = stop.send(());
        }
        let _aborted = (&mut self.task).await;
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Telling {
    lane: Lane,
    source: FleetSource,
    untold: Untold,
    /// Something went wrong in this round that only these calls meet.
    refused: bool,
    /// And was said.
    complained: bool,
}

/// What became of what was to be told.
type Told<T> = (T, Result<(), Failure>);

impl Telling {
    async fn run(
        mut self,
        mut changes: mpsc::Receiver<AlertChanged>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        // Replicas that start together do not tell together.
        let first = Instant::now() + Teller::ROUND.mul_f64(fastrand::f64());
        let mut rounds = interval_at(first, Teller::ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What is begun here is not given up half done.
            tokio::select! {
                _ = &mut stopped => break,
                _ = rounds.tick() => self.round().await,
                Some(change) = changes.recv() => {
                    self.note(change).await;
                    self.tell_alerts().await;
                }
            }
        }
        while let Ok(change) = changes.try_recv() {
            self.note(change).await;
        }
        self.round().await;
    }

    async fn round(&mut self) {
        self.refused = false;
        self.learn().await;
        self.tell_totals().await;
        self.tell_alerts().await;
        self.list().await;
        self.complained &= self.refused;
    }

    /// Takes note of what is counted by now.
    async fn learn(&mut self) {
        let totals = Arc::clone(&self.source.totals);
        match spawn_blocking(move || totals()).await {
            Ok(all) => self.untold.learn(all, now()),
            Err(error) => debug!(%error, "fleet totals cannot be collected; retrying"),
        }
    }

    async fn note(&mut self, change: AlertChanged) {
        self.learn().await;
        let domains = Arc::clone(&self.source.domains);
        self.untold.alert(change, || domains(), now());
    }

    async fn tell_totals(&mut self) {
        let due = self.untold.due();
        let links = self.lane.main();
        let prefix = &links.store().config().key_prefix;
        let calls = due.into_iter().map(|(domain, more)| {
            let counts = Total::ALL.map(|total| (total.name(), more.get(total)));
            let call = FleetCall::add(prefix, &domain, counts);
            (call, (domain, more))
        });
        for ((domain, more), told) in tell_all(links, calls.collect()).await {
            if !self.waits(told) {
                self.untold.told(&domain, &more);
            }
        }
    }

    async fn tell_alerts(&mut self) {
        let waiting = self.untold.take_alerts();
        if waiting.is_empty() {
            return;
        }
        let links = self.lane.main();
        let prefix = &links.store().config().key_prefix;
        let replica = &self.lane.shared().replica;
        let calls = waiting.into_iter().map(|(domain, change)| {
            let call = FleetCall::note(prefix, &domain, &fields(&change, replica));
            (call, (domain, change))
        });
        let told = tell_all(links, calls.collect()).await;
        let mut left = Vec::new();
        for (entry, told) in told {
            match self.waits(told) {
                true => left.push(entry),
                // It has a key now; nothing more of it was counted.
                false => self.untold.told(&entry.0, &Totals::default()),
            }
        }
        // Those of one server came in order, all of them may not.
        left.sort_by_key(|(_, change)| change.at_ms);
        self.untold.put_back(left.into());
    }

    async fn list(&mut self) {
        let links = self.lane.main();
        let domains = self.untold.unlisted();
        if domains.is_empty() {
            return;
        }
        let prefix = &links.store().config().key_prefix;
        let call = FleetCall::seen(prefix, domains.iter().map(|domain| &**domain));
        for (domains, told) in tell_all(links, vec![(call, domains)]).await {
            // To list twice does no harm, and what may have been listed may not have been.
            match told {
                Ok(()) => self.untold.listed(&domains),
                Err(failure) => {
                    self.waits(Err(failure));
                }
            }
        }
    }

    /// Whether it was surely not done and is to be tried again.
    fn waits(&mut self, told: Result<(), Failure>) -> bool {
        let Err(failure) = told else {
            return false;
        };
        let class = failure.class;
        // Whoever loses the store says so; this is about what only these calls meet.
        if class.reaction() == Reaction::Wait && class != FailureClass::Timeout {
            self.refused = true;
            if !self.complained {
                self.complained = true;
                warn!(%failure, "fleet totals and alerts cannot be written to redis; retrying");
            }
        }
        debug!(%failure, "fleet report failed");
        class.unexecuted()
    }
}

/// Makes the calls, a few at a time to each server, all servers at once; what came of each, those for
/// one server in order. A server that does not answer is not asked for the rest.
async fn tell_all<T>(links: &Links, calls: Vec<(FleetCall, T)>) -> Vec<Told<T>> {
    let mut by_place: HashMap<Option<Place>, Vec<(FleetCall, T)>> = HashMap::new();
    for call in calls {
        let place = links.calm_place(call.0.key());
        by_place.entry(place).or_default().push(call);
    }
    let all = by_place.into_iter().map(async |(place, calls)| {
        let mut told = Vec::with_capacity(calls.len());
        let mut calls = calls.into_iter();
        let mut trouble = place.is_none().then(away);
        while trouble.is_none() {
            let some: Vec<_> = calls.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let done = join_all(some.iter().map(|(call, _)| links.tell(call))).await;
            let stops = |failure: &&Failure| failure.class != FailureClass::Other;
            trouble = done
                .iter()
                .find_map(|done| done.as_ref().err().filter(stops).cloned());
            told.extend(some.into_iter().map(|(_, what)| what).zip(done));
        }
        told.extend(calls.map(|(_, what)| (what, Err(away()))));
        told
    });
    join_all(all).await.into_iter().flatten().collect()
}

/// Nothing was sent.
fn away() -> Failure {
    Failure::new(
        FailureClass::Refused,
        "the server has trouble, so it was not called",
    )
}

fn fields(change: &AlertChanged, replica: &str) -> [(&'static str, String); 7] {
    [
        ("alert", change.alert.to_owned()),
        ("state", change.state.name().to_owned()),
        ("severity", change.severity.to_owned()),
        ("value", change.value.to_string()),
        ("threshold", change.threshold.to_string()),
        ("replica", replica.to_owned()),
        ("at", change.at_ms.to_string()),
    ]
}

/// Calls under way to one server.
const AT_ONCE: usize = 8;

/// Alerts that may wait to be noted; a replica has a handful.
const MOST_CHANGES: usize = 64;
