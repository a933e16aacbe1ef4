//! Counts in Redis, shared by all replicas, and this replica's share of them while Redis is away.
//!
//! A [`Lane`] is one core's way to both: it asks the servers, waits no longer than it may, and
//! then decides as each rule's `on_store_failure` says. What all lanes share is the
//! [`SharedStore`]. One task of the process, the [`Keeper`], tells the other replicas that this one
//! lives, charges in Redis what was let pass without it, and adds what it counted to the fleet's totals.
//!
//! Promises
//! - A query whose keys share a server (or a Cluster's slot) is decided there in one step. If they
//!   do not, its parts are decided at once; if one denies, what the others charged is given back,
//!   and no trace is left ([`parted`]).
//! - No wait is longer than `due` says.
//!
//! It does not know how a server is spoken to; that is `store::redis`. How a share is counted is
//! `store::local`.

mod glance;
mod keeper;
mod lane;
mod parted;
mod parts;
mod roster;
mod teller;
mod untold;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use glance::{AlertReading, DomainReading, FleetReading, Glance, GlanceError, ReplicaReading};
pub use keeper::Keeper;
pub use lane::{Asked, Lane};
use parts::{Part, Tally, split};
pub use teller::FleetSource;

use crate::clock::Timestamp;
use crate::event::{Events, FallbackReason, FellBack};
use crate::model::{Check, Decision, Hits, OnStoreFailure, Unit, Verdict, Verdicts};
use crate::store::redis::{FailureClass, RedisSample, RedisStatus, RedisStore};
use crate::store::{DeadlineConfig, LocalStore, fallback};

/// A store that all replicas share.
#[derive(Debug)]
pub struct SharedStore {
    main: Arc<RedisStore>,
    per_second: Option<Arc<RedisStore>>,
    local: LocalStore,
    events: Arc<dyn Events>,
    config: SharedConfig,
    replica: String,
}

/// How the store is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedConfig {
    /// How long to wait for it.
    pub deadline: DeadlineConfig,
    /// How many share it.
    pub fleet: FleetConfig,
}

/// How many replicas share the limits while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetConfig {
    /// As many as were seen in the store last.
    Auto,
    /// So many.
    Fixed(u32),
}

/// Why the store did not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// It is left alone for a while.
    BreakerOpen,
    /// The call failed.
    Failed(FailureClass),
    /// There is no connection.
    Gone,
    /// It did not answer in time.
    Late,
    /// The connection was lost before an answer came.
    Lost,
    /// Too much waits for it.
    QueueFull,
}

/// A rule wants its calls to fail while the store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be asked ({}), and the rule says on_store_failure: error", .0.reason().name())]
pub struct Unavailable(pub Unasked);

impl Unasked {
    /// Whether it was surely not done.
    #[must_use]
    pub const fn unexecuted(self) -> bool {
        match self {
            Self::BreakerOpen | Self::Gone | Self::QueueFull => true,
            Self::Failed(class) => class.unexecuted(),
            Self::Late | Self::Lost => false,
        }
    }

    /// The reason as it is counted.
    #[must_use]
    pub const fn reason(self) -> FallbackReason {
        match self {
            Self::BreakerOpen => FallbackReason::BreakerOpen,
            Self::Failed(_) => FallbackReason::Failed,
            Self::Gone | Self::Lost => FallbackReason::Gone,
            Self::Late => FallbackReason::Deadline,
            Self::QueueFull => FallbackReason::QueueFull,
        }
    }
}

/// The same checks with refunds of nothing, if the store may have carried the refunds out: what it has
/// given back must not be given back here as well, neither to this replica's share nor by owing the store
/// less. None if nothing has to change.
fn keep_refunds(checks: &[Check], why: Unasked) -> Option<Vec<Check>> {
    let is_refund = |check: &Check| matches!(check.hits, Hits::Refund(_));
    if why.unexecuted() || !checks.iter().any(is_refund) {
        return None;
    }
    let kept = checks.iter().map(|check| Check {
        hits: match check.hits {
            Hits::Refund(_) => Hits::Refund(0),
            hits @ (Hits::Charge(_) | Hits::Peek) => hits,
        },
        ..check.clone()
    });
    Some(kept.collect())
}

impl SharedStore {
    /// Shares `main`, and `per_second` for limits whose unit is a second.
    #[must_use]
    pub fn new(
        main: Arc<RedisStore>,
        per_second: Option<Arc<RedisStore>>,
        local: LocalStore,
        config: SharedConfig,
        events: Arc<dyn Events>,
    ) -> Self {
        Self {
            main,
            per_second,
            local,
            events,
            config,
            replica: format!("{:016x}", fastrand::u64(..)),
        }
    }

    /// How the stores fare.
    #[must_use]
    pub fn status(&self) -> Vec<RedisStatus> {
        let stores = [Some(&self.main), self.per_second.as_ref()];
        stores
            .into_iter()
            .flatten()
            .map(|store| store.status())
            .collect()
    }

    /// How the stores fare in numbers, by [`StoreName::index`](crate::event::StoreName::index);
    /// how full their queues were since this was called last. For one caller, each second; see
    /// [`RedisStore::sample`].
    pub fn sample(&self) -> [Option<RedisSample>; 2] {
        self.each(RedisStore::sample)
    }

    /// The same now, without looking how full the queues were since: that is as it was sampled
    /// last.
    #[must_use]
    pub fn last(&self) -> [Option<RedisSample>; 2] {
        self.each(RedisStore::last)
    }

    fn each(&self, ask: impl Fn(&RedisStore) -> RedisSample) -> [Option<RedisSample>; 2] {
        [Some(ask(&self.main)), self.per_second.as_deref().map(ask)]
    }

    /// What decides while the store is away.
    #[must_use]
    pub fn local(&self) -> &LocalStore {
        &self.local
    }

    /// Leaves the replicas that agree on one of several servers: see [`RedisStore::leave`].
    pub async fn leave(&self) {
        self.main.leave().await;
    }

    /// This replica's name in the store.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// The main store's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.main.now()
    }

    /// A time that none of the stores' clocks has not reached: what has expired by it has expired.
    #[must_use]
    pub fn earliest_now(&self) -> Timestamp {
        let main = self.main.now();
        let per_second = self.per_second.as_ref();
        per_second.map_or(main, |store| store.now().min(main))
    }

    /// The time of the store that a check belongs to.
    fn now_of(&self, check: &Check) -> Timestamp {
        self.now_for(std::slice::from_ref(check))
    }

    /// The time by which to decide here what a store would have decided: that store's, or the main
    /// one's where there are checks of both.
    fn now_for(&self, checks: &[Check]) -> Timestamp {
        match &self.per_second {
            Some(store) if checks.iter().all(|check| self.is_per_second(check)) => store.now(),
            _ => self.main.now(),
        }
    }

    /// Until when to wait for the store; see [`DeadlineConfig::due`].
    #[must_use]
    pub fn due(&self, asked: Instant, caller_waits: Duration) -> Instant {
        self.config.deadline.due(asked, Some(caller_waits))
    }

    /// What a check would be answered without the store. Charges nothing.
    fn would_say(&self, check: &Check) -> Verdict {
        let now = self.now_of(check);
        match check.on_store_failure {
            OnStoreFailure::Local => self.local.inspect(check, now),
            OnStoreFailure::Allow | OnStoreFailure::Deny | OnStoreFailure::Error => {
                fallback(check, now)
            }
        }
    }

    /// Whether a check belongs to the store for limits per second.
    fn is_per_second(&self, check: &Check) -> bool {
        let window = check.quota.window();
        // 60 seconds and a minute are the same counter, so they have one store.
        self.per_second.is_some()
            && window.unit() == Unit::Second
            && !window.millis().is_multiple_of(Unit::Minute.millis())
    }

    /// Decides without the store, as the rules say.
    fn without(
        &self,
        checks: &[Check],
        enforce: bool,
        why: Unasked,
    ) -> Result<Decision, Unavailable> {
        self.tell_fell(why, checks.len());
        let kept = keep_refunds(checks, why);
        let checks = kept.as_deref().unwrap_or(checks);
        let is = |mode| move |check: &Check| check.on_store_failure == mode;
        if checks.iter().any(is(OnStoreFailure::Error)) {
            return Err(Unavailable(why));
        }
        let now = self.now_for(checks);
        if checks.iter().all(is(OnStoreFailure::Local)) {
            return Ok(self.local.decide(checks, enforce, now));
        }
        // Some are counted here, and some are not counted at all.
        let parts = split(checks, |check| {
            check.on_store_failure == OnStoreFailure::Local
        });
        let mut tally = Tally::new(checks);
        let mut counted = None;
        for part in &parts {
            if part.place {
                let decision = self.local.decide(&part.checks, enforce, now);
                tally.fill(part, &decision.verdicts);
                counted = Some((part, decision));
            } else {
                let verdicts: Vec<_> = part
                    .checks
                    .iter()
                    .map(|check| fallback(check, now))
                    .collect();
                tally.fill(part, &verdicts);
            }
        }
        let denied = enforce && tally.denies();
        if let (true, Some((part, decision))) = (denied, counted) {
            self.give_back(part, &decision, &mut tally);
        }
        Ok(tally.finish(denied))
    }

    /// Tells of checks that the store did not decide.
    fn tell_fell(&self, why: Unasked, checks: usize) {
        self.events.fell_back(FellBack {
            reason: why.reason(),
            checks,
        });
    }

    /// Takes back at once what a part was charged here, and tells what is left behind.
    fn give_back<P>(&self, part: &Part<P>, decision: &Decision, tally: &mut Tally<'_>) {
        let charged = part.to_give_back(decision);
        let Some(first) = charged
            .first()
            .and_then(|&first| decision.verdicts.get(first))
        else {
            return;
        };
        let checks = part.pick(&charged);
        self.local.give_back(&checks, first.at, first.at);
        let told: Verdicts = checks
            .iter()
            .map(|check| {
                let peek = Check {
                    hits: Hits::Peek,
                    ..check.clone()
                };
                Verdict {
                    over: false,
                    ..self.local.inspect(&peek, first.at)
                }
            })
            .collect();
        tally.fill_some(part, &charged, &told);
    }
}
