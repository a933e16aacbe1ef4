//! What a replica does beside answering: it lets the others know that it lives, and charges in the
//! store what was let pass without it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use super::parts::split;
use super::{FleetConfig, Lane, SharedStore};
use crate::event::{BreakerState, Reconciled};
use crate::model::{Check, Hits};
use crate::store::Fleet;
use crate::store::redis::{Heartbeat, Task, now};

impl SharedStore {
    /// Does so for ever, over a lane of its own runtime.
    pub async fn keep(lane: Lane) {
        tokio::join!(beat(&lane), charge_later(&lane));
    }

    /// Tells the others that this replica is leaving, so that they take its share.
    pub async fn leave(lane: &Lane) {
        let _gone = tokio::time::timeout(BEAT, send_beat(lane, true)).await;
    }
}

async fn beat(lane: &Lane) {
    let shared = lane.shared();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let FleetConfig::Fixed(replicas) = shared.config.fleet {
        shared
            .local
            .set_fleet(Fleet::new(replicas, [""; 0], &shared.replica));
    }
    loop {
        beats.tick().await;
        let Some(ids) = send_beat(lane, false).await else {
            continue;
        };
        let replicas = match shared.config.fleet {
            FleetConfig::Auto => u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1),
            FleetConfig::Fixed(replicas) => replicas,
        };
        if shared.local.fleet().replicas() != replicas {
            info!(
                replicas,
                "replicas that share the limits while the store is away"
            );
        }
        shared
            .local
            .set_fleet(Fleet::new(replicas, ids, &shared.replica));
    }
}

/// The live replicas; none if the store cannot be asked.
async fn send_beat(lane: &Lane, leaves: bool) -> Option<Vec<String>> {
    let shared = lane.shared();
    let status = shared.main.status();
    let beat = Heartbeat {
        replica: &shared.replica,
        breaker: status.state.name(),
        since: Some(status.since),
        leaves,
        lifetime: Heartbeat::LIFETIME,
    };
    match lane.main().beat(&beat).await {
        Ok(ids) => Some(ids),
        Err(failure) => {
            debug!(%failure, "no heartbeat");
            None
        }
    }
}

/// Charges what was let pass without the store, a batch at a time, when it is back.
async fn charge_later(lane: &Lane) {
    let shared = lane.shared();
    let batch = shared.main.config().batch_size;
    loop {
        // All replicas find the store back at about the same time.
        sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        let is_back = || {
            shared
                .status()
                .iter()
                .all(|store| store.state == BreakerState::Closed)
        };
        if shared.local.stats().ledger_keys == 0 || !is_back() {
            continue;
        }
        let at = shared.now();
        let checks = shared.local.take(batch, at);
        for part in split(&checks, |check| lane.0.site(check)) {
            let due = now() + PATIENCE;
            let landed = lane
                .0
                .ask(part.place, Arc::clone(&part.checks), Task::Land(at), due)
                .await;
            let hits: u64 = part.checks.iter().map(hits).sum();
            let (charged, dropped) = match landed {
                Ok(_) => (hits, 0),
                Err(why) if why.unexecuted() => {
                    shared.local.put_back(&part.checks, at);
                    continue;
                }
                // It may have been charged, and must not be twice.
                Err(_) => (0, hits),
            };
            shared.events.reconciled(Reconciled { charged, dropped });
        }
    }
}

fn hits(check: &Check) -> u64 {
    match check.hits {
        Hits::Charge(hits) => hits,
        Hits::Peek | Hits::Refund(_) => 0,
    }
}

/// How often a replica says that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// Between two batches, give or take a half: what is charged later is in nobody's way.
const PAUSE: Duration = Duration::from_millis(10);

/// How long charging a batch may take.
const PATIENCE: Duration = Duration::from_secs(1);
