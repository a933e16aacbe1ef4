//! What a replica does beside answering: it lets the others know that it lives, charges in the store
//! what was let pass without it, and adds to the fleet's totals (`teller`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::parts::split;
use super::roster::Roster;
use super::teller::{FleetSource, Teller};
use super::{FleetConfig, Lane, SharedStore};
use crate::event::{AlertChanged, Reconciled};
use crate::model::{Check, Hits};
use crate::store::Fleet;
use crate::store::redis::{Heartbeat, Links, Task, now};

/// What a replica does beside answering. Dropped, it ends.
#[derive(Debug)]
pub struct Keeper {
    lane: Lane,
    task: AbortHandle,
    teller: Option<Teller>,
}

impl Keeper {
    /// Begins, over a lane of this runtime.
    #[must_use]
    pub fn start(lane: &Lane) -> Self {
        let own = lane.clone();
        let task = tokio::spawn(async move {
            tokio::join!(beat(&own), charge_later(&own));
        });
        Self {
            lane: lane.clone(),
            task: task.abort_handle(),
            teller: None,
        }
    }

    /// The same, and tells the fleet what this replica counts.
    #[must_use]
    pub fn telling(lane: &Lane, source: FleetSource) -> Self {
        let mut keeper = Self::start(lane);
        keeper.teller = Some(Teller::start(lane, source));
        keeper
    }

    /// Where to tell of this replica's alerts, for the history that is kept in the store; none if it
    /// tells nothing. What finds no room there is too much: drop it.
    #[must_use]
    pub fn alerts(&self) -> Option<mpsc::Sender<AlertChanged>> {
        self.teller.as_ref().map(Teller::alerts)
    }

    /// Ends, charges what is still to be charged and tells what is still to be told if that can be
    /// done at once, and tells the others that this replica is leaving, so that they take its share.
    pub async fn leave(mut self) {
        self.task.abort();
        let last = async {
            while self.lane.shared().local.has_ledger() && !charge_some(&self.lane).await {}
            send_beats(&self.lane, true).await;
        };
        let teller = self.teller.take();
        let told = async {
            if let Some(teller) = teller {
                teller.finish().await;
            }
        };
        let (last, told) = (Box::pin(last), Box::pin(told));
        let left = Box::pin(self.lane.shared().leave());
        let all = futures_util::future::join3(last, told, left);
        let _late = tokio::time::timeout(BEAT, all).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn beat(lane: &Lane) {
    let shared = lane.shared();
    let own = &*shared.replica;
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let FleetConfig::Fixed(replicas) = shared.config.fleet {
        shared.local.set_fleet(Fleet::new(replicas, [""; 0], own));
    }
    let mut roster = Roster::default();
    let mut silent = 0_u32;
    loop {
        beats.tick().await;
        let Some(heard) = send_beats(lane, false).await else {
            silent = silent.saturating_add(1);
            if silent == WARN_AFTER && shared.config.fleet == FleetConfig::Auto && roster.is_empty()
            {
                warn!(
                    "no replica seen in redis yet; enforcing whole limits without redis; set \
                     fleet.replicas if there are several replicas"
                );
            }
            continue;
        };
        let ids = roster.hear(heard, now());
        let fleet = match shared.config.fleet {
            FleetConfig::Auto => Fleet::new(1, ids, own),
            FleetConfig::Fixed(replicas) => Fleet::new(replicas, ids, own),
        };
        let (before, replicas) = (shared.local.fleet().replicas(), fleet.replicas());
        if before != replicas {
            info!(replicas, before, "fleet size changed");
        }
        shared.local.set_fleet(fleet);
    }
}

/// Beats in every store; the live replicas as the main one knows them, if it can be asked.
async fn send_beats(lane: &Lane, leaves: bool) -> Option<Vec<String>> {
    let (heard, _) = tokio::join!(send_beat(lane, lane.main(), leaves), async {
        match lane.per_second() {
            Some(links) => send_beat(lane, links, leaves).await,
            None => None,
        }
    });
    heard
}

async fn send_beat(lane: &Lane, links: &Links, leaves: bool) -> Option<Vec<String>> {
    let (breaker, since) = links.state();
    let beat = Heartbeat {
        replica: &lane.shared().replica,
        breaker: breaker.name(),
        since: Some(since),
        leaves,
        lifetime: Heartbeat::LIFETIME,
    };
    match links.beat(&beat).await {
        Ok(ids) => Some(ids),
        Err(failure) => {
            debug!(%failure, "redis heartbeat failed");
            None
        }
    }
}

/// Charges what was let pass without the store, a batch at a time, when it is back.
async fn charge_later(lane: &Lane) {
    let (mut pause, mut told) = (IDLE, 0);
    loop {
        // All replicas find the store back at about the same time.
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        told = tell_lost(lane.shared(), told);
        let is_done = match lane.shared().local.has_ledger() {
            true => charge_some(lane).await,
            false => true,
        };
        pause = if is_done { IDLE } else { BUSY };
    }
}

/// Charges a batch. Whether there is nothing to be done now: no more to charge, or no store to
/// charge it in.
async fn charge_some(lane: &Lane) -> bool {
    let shared = lane.shared();
    let most = shared.main.config().batch_size;
    let checks = shared.local.take(most, |check| shared.now_of(check));
    let mut is_done = checks.len() < most;
    for part in split(&checks, |check| lane.0.site(check)) {
        let at = shared.now_for(&part.checks);
        // This lane has little to do and may not have found out yet.
        if !lane.0.is_closed(part.place) {
            shared.local.put_back(&part.checks, at);
            is_done = true;
            continue;
        }
        let due = now() + PATIENCE;
        let asked = Arc::clone(&part.checks);
        let landed = lane.0.ask(part.place, asked, Task::Land(at), due).await;
        let hits = part.checks.iter().map(hits).sum();
        let (charged, dropped) = match landed {
            Ok(_) => (hits, 0),
            Err(why) if why.unexecuted() => {
                shared.local.put_back(&part.checks, at);
                is_done = true;
                continue;
            }
            // It may have been charged, and must not be twice.
            Err(_) => (0, hits),
        };
        shared.events.reconciled(Reconciled { charged, dropped });
    }
    is_done
}

/// Tells of hits that the store will never hear of, but those told already; how many it is in all.
fn tell_lost(shared: &SharedStore, told: u64) -> u64 {
    let lost = shared.local.lost();
    if lost > told {
        shared.events.reconciled(Reconciled {
            charged: 0,
            dropped: lost.saturating_sub(told),
        });
    }
    lost
}

fn hits(check: &Check) -> u64 {
    match check.hits {
        Hits::Charge(hits) => hits,
        Hits::Peek | Hits::Refund(_) => 0,
    }
}

/// How often a replica says that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// Beats without an answer after which it is told that the fleet is not known.
const WARN_AFTER: u32 = 3;

/// Between two batches, give or take a half: what is charged later is in nobody's way.
const BUSY: Duration = Duration::from_millis(10);

/// Between two looks for something to charge, or for a store to charge it in.
const IDLE: Duration = Duration::from_millis(200);

/// How long charging a batch may take.
const PATIENCE: Duration = Duration::from_secs(1);
