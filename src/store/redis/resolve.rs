//! Finds the servers that have the keys, and finds them again when they change.
//!
//! One task for each store. It looks now and then, and often while a link has trouble: a Sentinel
//! knows the new primary, a Cluster's other nodes know the new owner of the slots, and of a list of
//! servers the first that can be used is taken. What it finds is the [`Route`]; each core's links
//! follow it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::line::fits;
use super::route::Route;
use super::store::Site;
use super::{
    Failure, FailureClass, Place, RedisStore, Topology, connect, primary_by_sentinel, slots,
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
        sites => first_usable(&store, sites).await,
    }
}

async fn by_sentinel(store: &RedisStore, service: &str, seeds: &[Place]) {
    let config = store.config();
    let mut sentinels = seeds.to_vec();
    let mut rounds = Rounds::new(store, config.probe_interval);
    let (mut epoch, mut heard) = (0, Instant::now());
    loop {
        let access = &config.sentinel_access;
        match primary_by_sentinel(&sentinels, service, access, config.connect_timeout).await {
            // One that has not heard of the last failover yet names the primary of before. If only
            // such answer for long, the sentinels have been set up anew.
            Ok(found) if found.epoch < epoch && heard.elapsed() < STALE => rounds.in_trouble(),
            Ok(found) => {
                (epoch, heard) = (found.epoch, Instant::now());
                store.publish(Route::One(found.primary));
                // Those of the settings first, for ever; the others as they are now.
                sentinels.truncate(seeds.len());
                let others = found.others.into_iter();
                sentinels.extend(others.filter(|other| !seeds.contains(other)));
            }
            Err(failure) => rounds.failed(&failure),
        }
        rounds.next().await;
    }
}

async fn cluster(store: &RedisStore, site: &Site, seeds: &[Place]) {
    let config = store.config();
    let mut nodes = seeds.to_vec();
    let mut rounds = Rounds::new(store, config.probe_interval.saturating_mul(CALM_CLUSTER));
    loop {
        match slots(&nodes, &site.access, config.connect_timeout).await {
            Ok(map) => {
                nodes.truncate(seeds.len());
                nodes.extend(map.places().filter(|place| !seeds.contains(place)).cloned());
                store.publish(Route::Slots(Arc::new(map)));
            }
            Err(failure) => rounds.failed(&failure),
        }
        rounds.next().await;
    }
}

/// Of servers that do not know of each other, the first that can be used. One is left when it
/// fails twice, or lets itself be waited for, and gone back to when it has been well for a while:
/// each switch may cost a limit.
async fn first_usable(store: &RedisStore, sites: &[Site]) {
    let places: Vec<&Place> = sites.iter().filter_map(single).collect();
    let (mut current, mut chosen) = (0, false);
    let mut failed = 0_u32;
    // Since when each has been well.
    let mut well: Vec<Option<Instant>> = vec![None; places.len()];
    let mut rounds = Rounds::new(store, store.config().probe_interval);
    let long = store.config().probe_interval.saturating_mul(WELL_AGAIN);
    loop {
        let looked = Instant::now();
        let found = join_all(places.iter().map(|place| is_usable(store, place))).await;
        for (well, found) in well.iter_mut().zip(&found) {
            *well = found.is_ok().then(|| well.unwrap_or(looked));
        }
        let usable = found.iter().position(Result::is_ok);
        match found.get(current) {
            Some(Ok(())) => failed = 0,
            Some(Err(failure)) => {
                failed = failed.saturating_add(match failure.class {
                    FailureClass::Timeout => FAILED,
                    _ => 1,
                });
                rounds.in_trouble();
                if usable.is_none() {
                    rounds.failed(failure);
                }
            }
            None => {}
        }
        let is_well = |well: &Option<Instant>| well.is_some_and(|since| since.elapsed() >= long);
        let better = well.iter().take(current).position(is_well);
        let next = match usable {
            Some(first) if !chosen || failed >= FAILED => Some(first),
            _ => better,
        };
        if let Some(next) = next {
            (current, chosen, failed) = (next, true, 0);
        }
        // Even if none can be used: the links say why, and try on.
        if let Some(&place) = places.get(current)
            && (usable.is_some() || !chosen)
        {
            store.publish(Route::One(place.clone()));
        }
        rounds.next().await;
    }
}

async fn is_usable(store: &RedisStore, place: &Place) -> Result<(), Failure> {
    let Some(access) = store.access(place) else {
        return Ok(());
    };
    let (_connection, reached) = connect(place, access, store.config().connect_timeout).await?;
    fits(place, &reached, store.is_cluster())
}

fn single(site: &Site) -> Option<&Place> {
    match &site.address.topology {
        Topology::Single(place) => Some(place),
        // The settings take none of these in a list.
        Topology::Cluster(_) | Topology::Sentinel { .. } => None,
    }
}

/// When to look.
struct Rounds<'a> {
    store: &'a RedisStore,
    calm: Duration,
    /// Until then, often.
    troubled: Instant,
}

impl<'a> Rounds<'a> {
    fn new(store: &'a RedisStore, calm: Duration) -> Self {
        Self {
            store,
            calm,
            troubled: Instant::now(),
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.store.note_unresolved(failure);
        self.in_trouble();
    }

    fn in_trouble(&mut self) {
        self.troubled = Instant::now() + TROUBLE;
    }

    async fn next(&mut self) {
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

/// How often that is.
const OFTEN: Duration = Duration::from_millis(150);

/// A Cluster says itself when a key is elsewhere, so it is asked seldom.
const CALM_CLUSTER: u32 = 10;

/// Failed looks in a row after which another server is taken.
const FAILED: u32 = 2;

/// After so many intervals of probes in which it was well, a better server is gone back to.
const WELL_AGAIN: u32 = 3;

/// For how long sentinels may not have heard of a failover.
const STALE: Duration = Duration::from_secs(10);
