//! Finds the servers that have the keys, and finds them again when they change.
//!
//! One task for each store. It looks now and then, and often while a link has trouble: a Sentinel
//! knows the new primary, a Cluster's other nodes know the new owner of the slots, and of a list of
//! servers the replicas agree on one ([`leases`]). What it finds is the [`Route`]; each core's links
//! follow it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::election::Election;
use super::line::ask_fits;
use super::route::Route;
use super::scouts::{LATE, Scouts};
use super::sentinel::watched;
use super::store::Site;
use super::{
    Connection, Failure, FailureClass, Place, RedisStore, Topology, diagnosis, leases, now, slots,
};

/// Looks for ever.
pub(super) async fn resolve(store: Arc<RedisStore>) {
    match &store.config().sites[..] {
        [] => {}
        [site] => match &site.address.topology {
            Topology::Single(place) => store.publish(Route::One(place.clone())),
            Topology::Cluster(seeds) => cluster(&store, site, seeds).await,
            Topology::Sentinel {
                service, sentinels, ..
            } => {
                by_sentinel(&store, service, sentinels).await;
            }
        },
        sites => leases::follow(&store, sites).await,
    }
}

async fn by_sentinel(store: &RedisStore, service: &str, seeds: &[Place]) {
    let (config, within) = (store.config(), store.config().connect_timeout);
    let mut sentinels = seeds.to_vec();
    let mut rounds = Rounds::new(store, config.probe_interval);
    let (mut election, mut voters) = (Election::new(), Voters::new(seeds));
    let (scouts, primaries) = (Scouts::new(within), Scouts::new(within));
    // The last one that said itself that it is a primary.
    let mut primary: Option<Place> = None;
    loop {
        let access = &config.sentinel_access;
        let known = watched(&scouts, &sentinels, (service, access), within).await;
        voters.heard(known.answers.iter().map(|(place, _)| place));
        let answers = known.answers.iter();
        let named: Vec<_> = answers
            .map(|(_, known)| (known.epoch, known.primary.clone()))
            .collect();
        let candidates = election.candidates(&named, voters.count(), now());
        let agreeing = agreeing(store, &primaries, primary.as_ref(), &candidates).await;
        // Those of the settings first, for ever; the others as they are now.
        let others = known.answers.iter().flat_map(|(_, known)| &known.others);
        let others: Vec<Place> = others.cloned().collect();
        match agreeing {
            Some((epoch, place)) => {
                election.elected(epoch, &named);
                primary = Some(place.clone());
                store.publish(Route::One(place));
            }
            None => {
                // At first even what does not agree: the link to it says why.
                let is_first = matches!(*store.route().borrow(), Route::Unknown);
                match (is_first, candidates.into_iter().next()) {
                    (true, Some((_, place))) => {
                        store.publish(Route::One(place));
                        rounds.in_trouble();
                    }
                    _ if named.is_empty() => rounds.failed(known.into_failure()),
                    _ => rounds.failed(Some(outdated("sentinels"))),
                }
            }
        }
        if !named.is_empty() {
            sentinels.truncate(seeds.len());
            for other in others {
                if !sentinels.contains(&other) && sentinels.len() < MOST_SENTINELS {
                    sentinels.push(other);
                }
            }
        }
        rounds.next().await;
    }
}

/// The first candidate that says itself that it is a primary. The one that has said so before needs not be
/// asked again: publishing it changes nothing.
async fn agreeing(
    store: &RedisStore,
    primaries: &Scouts,
    primary: Option<&Place>,
    candidates: &[(u64, Place)],
) -> Option<(u64, Place)> {
    for (epoch, place) in candidates {
        if primary == Some(place) {
            return Some((*epoch, place.clone()));
        }
        let asked = look(store, primaries, std::slice::from_ref(place));
        // One that is slower is connected to meanwhile, and answers the next time.
        let found = timeout(LATE, asked)
            .await
            .ok()
            .and_then(|mut found| found.pop());
        if found.is_some_and(|found| found.is_ok()) {
            return Some((*epoch, place.clone()));
        }
    }
    None
}

async fn cluster(store: &RedisStore, site: &Site, seeds: &[Place]) {
    let (config, within) = (store.config(), store.config().connect_timeout);
    let mut nodes = seeds.to_vec();
    let mut rounds = Rounds::new(store, config.probe_interval.saturating_mul(CALM_CLUSTER));
    let (mut election, mut voters) = (Election::new(), Voters::new(seeds));
    let scouts = Scouts::new(within);
    loop {
        let mut known = slots::views(&scouts, &nodes, &site.access, within).await;
        voters.heard(known.answers.iter().map(|(place, _)| place));
        let views = slots::best_views(&mut known);
        let candidates = election.candidates(&views, voters.count(), now());
        // Nodes of a map that is not believed yet are asked as well, or it never could be.
        let named = views.iter().flat_map(|(_, map)| map.places());
        let named: Vec<Place> = named.cloned().collect();
        match candidates.into_iter().next() {
            Some((epoch, map)) => {
                election.elected(epoch, &views);
                store.publish(Route::Slots(Arc::new(map)));
            }
            None if views.is_empty() => rounds.failed(known.into_failure()),
            None => rounds.failed(Some(outdated("nodes of the cluster"))),
        }
        if !named.is_empty() {
            nodes.truncate(seeds.len());
            for place in named {
                if !nodes.contains(&place) {
                    nodes.push(place);
                }
            }
        }
        rounds.next().await;
    }
}

/// Who may vote on what is believed: the servers of the settings, and what answered lately.
struct Voters<'a> {
    seeds: &'a [Place],
    heard: HashMap<Place, Instant>,
}

impl<'a> Voters<'a> {
    fn new(seeds: &'a [Place]) -> Self {
        Self {
            seeds,
            heard: HashMap::new(),
        }
    }

    /// These have answered.
    fn heard<'p>(&mut self, places: impl Iterator<Item = &'p Place>) {
        let now = Instant::now();
        self.heard
            .retain(|_, heard| now.saturating_duration_since(*heard) < GONE);
        for place in places.filter(|place| !self.seeds.contains(place)) {
            self.heard.insert(place.clone(), now);
        }
    }

    fn count(&self) -> usize {
        self.seeds.len().saturating_add(self.heard.len())
    }
}

fn outdated(what: &str) -> Failure {
    let detail = format!(
        "only {what} answer that have missed a failover, or name a server that is no primary: check the \
         network to the others; if all were rebuilt, they are believed within 70 s"
    );
    Failure::new(FailureClass::MisConfigured, detail)
}

/// Whether servers can be used, in the order of their places.
async fn look(store: &RedisStore, scouts: &Scouts, places: &[Place]) -> Vec<Result<(), Failure>> {
    let (within, is_cluster) = (store.config().connect_timeout, store.is_cluster());
    let ask = move |place: Place, connection: Arc<Connection>| async move {
        ask_fits(&place, &connection, is_cluster, within).await
    };
    let access = |place: &Place| store.access(place).cloned().unwrap_or_default();
    // Where links have trouble a new connection may have it too, and one of before not.
    let keep = |place: &Place| store.health().is_closed(place);
    let said = scouts.ask(places, (access, keep), within, ask).await;
    let result = |place: &Place| {
        if said.answers.iter().any(|(there, ())| there == place) {
            return Ok(());
        }
        let failed = said.failures.iter().find(|(there, _)| there == place);
        Err(match failed {
            Some((_, failure)) => failure.clone(),
            None => diagnosis::lost(place, "it did not answer in time"),
        })
    };
    places.iter().map(result).collect()
}

/// When to look.
pub(super) struct Rounds<'a> {
    store: &'a RedisStore,
    calm: Duration,
    /// Until then, often.
    troubled: Instant,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(store: &'a RedisStore, calm: Duration) -> Self {
        Self {
            store,
            calm,
            troubled: Instant::now(),
        }
    }

    /// A look has failed; why, if that is known.
    pub(super) fn failed(&mut self, failure: Option<Failure>) {
        if let Some(failure) = failure {
            self.store.note_unresolved(&failure);
        }
        self.in_trouble();
    }

    fn in_trouble(&mut self) {
        self.troubled = Instant::now() + TROUBLE;
    }

    /// Waits for less than a look takes.
    pub(super) async fn soon(&self) {
        sleep(SOON).await;
    }

    pub(super) async fn next(&mut self) {
        let looked = Instant::now();
        let again = match looked < self.troubled {
            true => looked + OFTEN,
            false => looked + self.calm,
        };
        tokio::select! {
            () = sleep_until(again) => {}
            () = self.store.health().trouble.notified() => {
                self.in_trouble();
                // Many links have trouble at once.
                sleep_until(looked + OFTEN).await;
            }
        }
    }
}

/// How long after the last trouble to look often.
const TROUBLE: Duration = Duration::from_secs(5);

/// Between the first looks.
const SOON: Duration = Duration::from_millis(10);

/// How often that is.
const OFTEN: Duration = Duration::from_millis(150);

/// A Cluster says itself when a key is elsewhere, so it is asked seldom.
const CALM_CLUSTER: u32 = 10;

/// A server that has not answered for so long has no vote.
const GONE: Duration = Duration::from_secs(60);

/// Sentinels that are asked. More do not make a service safer; a broken one may name any number.
const MOST_SENTINELS: usize = 32;
