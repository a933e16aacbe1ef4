//! Asks the servers of `failover_urls` for their leases, and publishes the one that may be used.
//!
//! What follows from the answers is up to [`Failover`]; `failover.lua` runs on the servers.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::failover::{
    Choice, Failover, LEASE, Lease, REMEMBERED, Reason, Report, USELESS_AFTER, Wish,
};
use super::line::ask_fits;
use super::resolve::Rounds;
use super::route::Route;
use super::scouts::{Answers, LATE, Scouts};
use super::store::Site;
use super::{
    Connection, Failure, FailureClass, Place, RedisStore, Reply, Topology, diagnosis, now,
};

/// Keeps to the server in use, for ever.
pub(super) async fn follow(store: &RedisStore, sites: &[Site]) {
    let config = store.config();
    let places: Vec<Place> = sites.iter().filter_map(single).cloned().collect();
    let well_for = config.probe_interval.saturating_mul(WELL_FOR);
    let mut failover = Failover::new(places.iter().map(Place::to_string), well_for);
    let scouts = Scouts::new(config.connect_timeout);
    let mut rounds = Rounds::new(store, config.probe_interval.min(LOOK));
    let mut useless: Option<std::time::Instant> = None;
    let mut looks = 0_u32;
    loop {
        looks = looks.saturating_add(1);
        let asked = now();
        let used = failover.active().and_then(|active| places.get(active));
        let is_useless = used.is_some_and(|used| !store.health().is_closed(used));
        useless = is_useless.then(|| useless.unwrap_or(asked));
        let is_useless = useless.is_some_and(|since| asked.duration_since(since) >= USELESS_AFTER);
        let wishes = match config.replica {
            Some(_) => failover.wishes(is_useless, asked),
            None => vec![Wish::Watch; places.len()],
        };
        let wishes = wishes.into_iter().zip(failover.heard(asked)).collect();
        let Some(heard) = look(store, &scouts, &places, wishes).await else {
            return;
        };
        let answers = places.iter().map(|place| {
            let answer = heard.answers.iter().find(|(there, _)| there == place);
            answer.map(|(_, (report, took))| (report.clone(), *took <= config.deadline))
        });
        failover.hear(answers.collect(), asked);
        match choice(store, &failover) {
            Choice::Use(index) => {
                if let Some(place) = places.get(index) {
                    store.publish(Route::One(place.clone()));
                }
            }
            Choice::Nothing(Reason::Undecided) if looks < FIRST_LOOKS => {
                rounds.soon().await;
                continue;
            }
            Choice::Nothing(reason) => {
                store.withdraw();
                rounds.failed(explained(&reason).or_else(|| heard.into_failure()));
            }
        }
        rounds.next().await;
    }
}

/// Marks this replica as left in all servers, so that the others remain a majority.
pub(super) async fn leave(store: &RedisStore, sites: &[Site]) {
    let mut has_left = store.has_left().lock().await;
    *has_left = true;
    let scouts = Scouts::new(store.config().connect_timeout);
    let places: Vec<Place> = sites.iter().filter_map(single).cloned().collect();
    ask(store, &scouts, &places, |_| ("leave", None, None)).await;
}

fn choice(store: &RedisStore, failover: &Failover) -> Choice {
    if store.config().replica.is_some() {
        return failover.choice(now());
    }
    match failover.observed() {
        Some(index) => Choice::Use(index),
        None => Choice::Nothing(Reason::NoneReached),
    }
}

/// Asks each server once; nothing once this replica has left.
async fn look(
    store: &RedisStore,
    scouts: &Scouts,
    places: &[Place],
    wishes: Vec<(Wish, Option<u64>)>,
) -> Option<Answers<(Report, Duration)>> {
    let has_left = store.has_left().lock().await;
    if *has_left {
        return None;
    }
    let wishes: HashMap<&Place, (Wish, Option<u64>)> = places.iter().zip(wishes).collect();
    let wish = |place: &Place| {
        let (wish, heard) = wishes.get(place).unwrap_or(&(Wish::Watch, None));
        let (name, lease) = match wish {
            Wish::Watch => ("watch", None),
            Wish::Update(lease) => ("update", Some(lease)),
            Wish::Renew(lease) => ("renew", Some(lease)),
            Wish::Claim(lease) => ("claim", Some(lease)),
            Wish::Move(lease) => ("move", Some(lease)),
        };
        (name, lease, *heard)
    };
    Some(ask(store, scouts, places, wish).await)
}

/// Arguments of the script for one server: the operation, its lease, and the latest epoch that this replica has heard of.
type Asked<'a> = (&'static str, Option<&'a Lease>, Option<u64>);

async fn ask<'a>(
    store: &RedisStore,
    scouts: &Scouts,
    places: &[Place],
    wish: impl Fn(&Place) -> Asked<'a>,
) -> Answers<(Report, Duration)> {
    let calls: HashMap<Place, Vec<Bytes>> = places
        .iter()
        .map(|place| (place.clone(), call(store, wish(place))))
        .collect();
    let (calls, within) = (Arc::new(calls), store.config().connect_timeout);
    let ask = move |place: Place, connection: Arc<Connection>| {
        let call = calls.get(&place).cloned().unwrap_or_default();
        async move {
            ask_fits(&place, &connection, false, within).await?;
            let sent = Instant::now();
            let reply = run(&connection, call, within).await?;
            let report = report(&reply)
                .ok_or_else(|| diagnosis::garbage(&place, "the script returns no lease"))?;
            Ok((report, sent.elapsed()))
        }
    };
    let access = |place: &Place| store.access(place).cloned().unwrap_or_default();
    // Where links have trouble a new connection may have it too, and one of before not.
    let keep = |place: &Place| store.health().is_closed(place);
    scouts.ask(places, (access, keep), LATE, ask).await
}

/// Runs the script, which the server may not know yet.
async fn run(
    connection: &Connection,
    call: Vec<Bytes>,
    within: Duration,
) -> Result<Reply, Failure> {
    static SHA: OnceLock<Bytes> = OnceLock::new();
    let eval = async |sha: &Bytes| {
        let arguments = std::iter::once(sha.clone()).chain(call.iter().cloned());
        connection
            .command("EVALSHA", arguments.collect(), within)
            .await
    };
    if let Some(sha) = SHA.get() {
        let reply = eval(sha).await;
        if !reply
            .as_ref()
            .is_err_and(|failure| failure.class == FailureClass::NoScript)
        {
            return reply;
        }
    }
    let sha = connection.load(FAILOVER).await?;
    eval(SHA.get_or_init(|| sha)).await
}

/// What the script takes, after its hash.
fn call(store: &RedisStore, (wish, lease, heard): Asked<'_>) -> Vec<Bytes> {
    let config = store.config();
    let key = |kind: &str| format!("{}:{}:{kind}", config.key_prefix, config.name.name());
    let millis = |duration: Duration| duration.as_millis().to_string();
    let (epoch, server) = lease.map_or((0, ""), |lease| (lease.epoch, lease.server.as_str()));
    [
        "2".to_owned(),
        key("members"),
        key("lease"),
        wish.to_owned(),
        config.replica.clone().unwrap_or_default(),
        heard.map_or_else(|| "deaf".to_owned(), |epoch| epoch.to_string()),
        epoch.to_string(),
        server.to_owned(),
        millis(LEASE),
        millis(REMEMBERED),
    ]
    .map(Bytes::from)
    .into()
}

fn report(reply: &Reply) -> Option<Report> {
    let number = |at: usize| reply.list().get(at)?.number()?.try_into().ok();
    let lease = match reply.list() {
        [] | [Reply::Nil, ..] => None,
        [lease, ..] => {
            let lease = lease.text()?;
            let (epoch, server) = lease.split_once(' ')?;
            Some(Lease {
                epoch: epoch.parse().ok()?,
                server: server.to_owned(),
            })
        }
    };
    Some(Report {
        lease,
        known: number(1).unwrap_or(0),
        here: number(2).unwrap_or(0),
        absent_for: Duration::from_millis(number(3).unwrap_or(0)),
        left: number(4).unwrap_or(0),
    })
}

/// Why a replica may use no server, and what to do. None if the failure of each server says it.
fn explained(reason: &Reason) -> Option<Failure> {
    let failure = |class, detail| Some(Failure::new(class, detail));
    match reason {
        Reason::NoneReached => None,
        Reason::Undecided => failure(
            FailureClass::ClusterDown,
            "no server is in use: a replica takes one once it finds most of the others there, or reaches all servers; \
             check the network to the servers that do not answer"
                .to_owned(),
        ),
        Reason::NotReached(server) => failure(
            FailureClass::Timeout,
            format!(
                "{server} does not answer this replica, and the others may still use it: another server is used 3 s after \
                 the last one has lost it; check the network between this replica and {server}"
            ),
        ),
        Reason::NotConfigured(server) => failure(
            FailureClass::MisConfigured,
            format!(
                "the other replicas use {server}, which is neither url nor one of failover_urls here: give \
                 all replicas the same list, with the same names"
            ),
        ),
        Reason::Minority(server) => failure(
            FailureClass::ClusterDown,
            format!(
                "of the replicas that were at {server} within a minute most are gone, and may use another server: \
                 check the network of the others; if they have been stopped, this ends within a minute"
            ),
        ),
    }
}

fn single(site: &Site) -> Option<&Place> {
    match &site.address.topology {
        Topology::Single(place) => Some(place),
        // The settings take none of these in a list.
        Topology::Cluster(_) | Topology::Sentinel { .. } => None,
    }
}

/// What `SCRIPT LOAD` is given.
const FAILOVER: &str = include_str!("failover.lua");

/// Looks that follow each other at once: the first ones find that there is no lease, and take it.
const FIRST_LOOKS: u32 = 3;

/// The longest time between two looks. Less than half of the time within which a lease is renewed.
const LOOK: Duration = Duration::from_millis(450);

/// Intervals of probes in which a better server must have been well before it is used again.
const WELL_FOR: u32 = 3;
