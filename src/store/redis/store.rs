//! A store in Redis as a whole: its configuration, where its keys are, how it fares.
//!
//! What sends queries are the [`Links`](super::Links) of each core. What they share is here, and
//! all of it is small: the route that the resolver finds, the health that they report, and how far
//! the servers' clock is from ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use super::gauge::{Gauge, QueueReading};
use super::health::{Health, LinkStatus};
use super::leases;
use super::resolve;
use super::route::Route;
use super::{Access, Address, Failure, Heartbeat, Place, Reached, Topology};
use crate::clock::{Clock, Timestamp};
use crate::event::{BreakerState, Events, StoreCalled, StoreName};
use crate::store::BreakerConfig;

/// How a store in Redis is reached and used.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Which store it is.
    pub name: StoreName,
    /// Where it is; with more than one, the one that the replicas agree on, the best first. At least one.
    pub sites: Vec<Site>,
    /// This replica's name among those that agree on one of several `sites`, the same after a restart. None looks which one
    /// they use, and is not counted.
    pub replica: Option<String>,
    /// How to be let in by Sentinels.
    pub sentinel_access: Access,
    /// What every key's name begins with.
    pub key_prefix: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a probe may take: what queries wait.
    pub deadline: Duration,
    /// When a server is left alone.
    pub breaker: BreakerConfig,
    /// How often a server that is left alone is looked after.
    pub probe_interval: Duration,
    /// Queries that may wait, on all cores and for all servers together.
    pub queue_size: usize,
    /// Checks in one call.
    pub batch_size: usize,
}

/// A place to store counts, and how to be let in.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where.
    pub address: Address,
    /// How to be let in.
    pub access: Access,
}

/// A store in Redis.
#[derive(Debug)]
pub struct RedisStore {
    config: RedisConfig,
    clock: Clock,
    events: Arc<dyn Events>,
    health: Health,
    route: watch::Sender<Route>,
    /// Milliseconds by which the servers' clock is ahead of ours, as last seen.
    ahead: AtomicI64,
    queue: Arc<Gauge>,
    /// Calls that were given up and are not over.
    unanswered: AtomicUsize,
    notes: Mutex<Notes>,
    /// Whether this replica has left those that agree on a server. Locked while they are asked.
    has_left: tokio::sync::Mutex<bool>,
}

/// What has been said, so that each core does not say it again.
#[derive(Debug, Default)]
struct Notes {
    reached: Vec<(Place, Reached)>,
    /// Why the servers cannot be found.
    unresolved: Option<String>,
}

/// How a store in Redis fares, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RedisSample {
    /// The state of its worst link.
    pub state: BreakerState,
    /// What waits to be sent.
    pub queue: QueueReading,
    /// Calls that nobody waits for any more, and that are not over: it may still answer them.
    pub unanswered: usize,
    /// For how long at least one core did not ask at least one of its nodes, ever.
    pub away: Duration,
    /// The same, since all of it was asked last; 0 while all of it is.
    pub away_now: Duration,
}

/// How a store in Redis fares.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisStatus {
    /// Which store it is.
    pub name: StoreName,
    /// The state of its worst link.
    pub state: BreakerState,
    /// Since when.
    pub since: Timestamp,
    /// The rest in numbers.
    pub sample: RedisSample,
    /// Every link of every core.
    pub links: Vec<LinkStatus>,
    /// Why its servers cannot be found, if they cannot.
    pub unresolved: Option<String>,
}

impl RedisStore {
    /// A store whose servers are looked for on this runtime from now on.
    #[must_use]
    pub fn start(config: RedisConfig, clock: Clock, events: Arc<dyn Events>) -> Arc<Self> {
        let store = Arc::new(Self {
            health: Health::new(config.name, clock.clone(), Arc::clone(&events)),
            queue: Arc::new(Gauge::new(config.queue_size)),
            config,
            clock,
            events,
            route: watch::Sender::new(Route::Unknown),
            ahead: AtomicI64::new(0),
            unanswered: AtomicUsize::new(0),
            notes: Mutex::default(),
            has_left: tokio::sync::Mutex::default(),
        });
        tokio::spawn(resolve::resolve(Arc::clone(&store)));
        store
    }

    /// How it fares.
    #[must_use]
    pub fn status(&self) -> RedisStatus {
        let (state, since) = self.health.state();
        RedisStatus {
            name: self.config.name,
            state,
            since,
            sample: self.last(),
            links: self.health.links(),
            unresolved: self.notes.lock().unresolved.clone(),
        }
    }

    /// Looks how full the queues were since this was called last. One caller each second, since a
    /// peak is seen once; everybody else asks for the [last](Self::last).
    pub fn sample(&self) -> RedisSample {
        self.queue.sample();
        self.last()
    }

    /// How it fares now; of how full the queues were, what was [sampled](Self::sample) last.
    #[must_use]
    pub fn last(&self) -> RedisSample {
        let (away, away_now) = self.health.away();
        RedisSample {
            state: self.health.state().0,
            queue: self.queue.read(),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            away,
            away_now,
        }
    }

    /// The servers' time, as far as is known.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let now = self.clock.now().as_millis();
        Timestamp::from_millis(now.saturating_add_signed(ahead))
    }

    /// The name of the key under which replicas say that they live.
    #[must_use]
    pub fn state_key(&self) -> String {
        Heartbeat::key(&self.config.key_prefix, self.config.name.name())
    }

    /// How it is reached and used.
    #[must_use]
    pub fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// The places of all queues of its links.
    pub(super) fn queue(&self) -> &Arc<Gauge> {
        &self.queue
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn route(&self) -> watch::Receiver<Route> {
        self.route.subscribe()
    }

    /// How to be let in there.
    pub(super) fn access(&self, place: &Place) -> Option<&Access> {
        let is_there = |site: &&Site| site.address.topology == Topology::Single(place.clone());
        let sites = &self.config.sites;
        let site = sites.iter().find(is_there).or_else(|| sites.first());
        site.map(|site| &site.access)
    }

    /// Whether its servers are those of a Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        let topology = self.config.sites.first().map(|site| &site.address.topology);
        matches!(topology, Some(Topology::Cluster(_)))
    }

    /// Leaves the replicas that agree on one of several servers, so that the others remain a majority. The server in use does
    /// not change any more for this replica.
    pub async fn leave(&self) {
        let sites = &self.config.sites;
        if sites.len() > 1 && self.config.replica.is_some() {
            leases::leave(self, sites).await;
        }
    }

    pub(super) fn has_left(&self) -> &tokio::sync::Mutex<bool> {
        &self.has_left
    }

    /// No server may be used from now on.
    pub(super) fn withdraw(&self) {
        self.route.send_if_modified(|route| {
            // At first the links have nothing to lose.
            let changed = !matches!(route, Route::Nowhere | Route::Unknown);
            if changed {
                *route = Route::Nowhere;
            }
            changed
        });
    }

    /// Keys are there from now on.
    pub(super) fn publish(&self, found: Route) {
        self.notes.lock().unresolved = None;
        let told = found.clone();
        let changed = self.route.send_if_modified(|route| {
            let changed = *route != found;
            if changed {
                *route = found;
            }
            changed
        });
        if changed {
            self.tell_found(&told);
        }
    }

    /// Logs what was found. A server alone was not looked for: its link says how it is.
    fn tell_found(&self, found: &Route) {
        if let [site] = &self.config.sites[..]
            && matches!(site.address.topology, Topology::Single(_))
        {
            return;
        }
        let places: Vec<String> = found.places().iter().map(ToString::to_string).collect();
        let (store, nodes) = (self.config.name.name(), places.join(", "));
        info!(store, nodes, "redis topology resolved");
    }

    /// The servers cannot be found.
    pub(super) fn note_unresolved(&self, failure: &Failure) {
        let failure = failure.to_string();
        let told = self.notes.lock().unresolved.replace(failure.clone());
        if told.as_ref() == Some(&failure) {
            return;
        }
        let store = self.config.name.name();
        let unknown = self.route.borrow().places().is_empty();
        match unknown {
            true => warn!(
                store,
                failure, "redis topology unresolved; rules follow on_store_failure; retrying"
            ),
            false => warn!(
                store,
                failure, "redis topology unresolved; using the servers found before; retrying"
            ),
        }
    }

    /// A server was reached; logged when it is new or another one than before.
    pub(super) fn note_reached(&self, place: &Place, reached: &Reached) {
        let mut notes = self.notes.lock();
        let known = notes.reached.iter_mut().find(|(known, _)| known == place);
        match known {
            Some((_, told)) if told == reached => return,
            Some((_, told)) => told.clone_from(reached),
            None => {
                if notes.reached.len() >= REMEMBERED {
                    notes.reached.remove(0);
                }
                notes.reached.push((place.clone(), reached.clone()));
            }
        }
        drop(notes);
        let store = self.config.name.name();
        info!(store, node = %place, server = %reached, "redis server connected");
        for warning in &reached.warnings {
            warn!(store, node = %place, "{warning}");
        }
    }

    /// A call has ended.
    pub(super) fn note_call(&self, call: StoreCalled<'_>) {
        self.events.store_called(call);
    }

    /// Whether one call more may be waited for that nobody else waits for; if so it counts as one.
    pub(super) fn try_watch(&self, most: usize) -> bool {
        let one_more = |count: usize| (count < most).then(|| count.saturating_add(1));
        self.unanswered
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }

    /// Such a call is over.
    pub(super) fn unwatch(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }

    /// What a server's clock reads now.
    pub(super) fn note_time(&self, theirs: Timestamp) {
        let ours = self.clock.now().as_millis();
        let ahead = i128::from(theirs.as_millis()) - i128::from(ours);
        let ahead = i64::try_from(ahead).unwrap_or_default();
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

/// Servers of which it is remembered that they were reached. Those of a managed Redis may change their
/// addresses for ever.
const REMEMBERED: usize = 64;
