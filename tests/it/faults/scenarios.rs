//! What happens to Redis.

use std::time::Duration;

use tokio::time::Instant;

use super::bed::Bed;
use super::report::{self, millis};
use super::run::{Mended, Pair as Runs, judge, measure, passes};
use super::{FULL, Length, alone};
use crate::process::until_async;
use crate::topology::{
    Cluster, Flavour, Pair, Sentinel, Server, Single, Topology, every_key_expires,
};

#[tokio::test]
async fn redis_freezes() {
    let start = async || Single::start(Flavour::Redis7).await;
    scenario("frozen", start, async |redis: &Single, length| {
        redis.server.freeze();
        passes(length.freeze).await;
        redis.server.thaw();
        serves(&redis.server).await
    })
    .await;
}

#[tokio::test]
async fn redis_is_killed_and_comes_back() {
    let start = async || Single::start(Flavour::Redis7).await;
    scenario("killed", start, async |redis: &Single, length| {
        redis.server.kill();
        passes(length.absence).await;
        redis.server.restart().await;
        serves(&redis.server).await
    })
    .await;
}

#[tokio::test]
async fn sentinels_promote_the_replica() {
    let start = async || Sentinel::start(Flavour::Redis7).await;
    scenario("Sentinel", start, async |redis: &Sentinel, _length| {
        let primary = redis.primary().await.expect("a primary");
        let (replica, killed) = (redis.other(primary), Instant::now());
        primary.kill();
        until_async("the replica to be promoted", async || {
            let role = replica.info(&["INFO", "replication"], "role").await;
            (role.as_deref() == Some("master")).then_some(())
        })
        .await;
        promoted(killed)
    })
    .await;
}

#[tokio::test]
async fn a_cluster_promotes_a_replica() {
    let start = async || Cluster::start(Flavour::Redis7).await;
    scenario("Cluster", start, async |redis: &Cluster, _length| {
        let (primary, killed) = (redis.owner(0).await.expect("an owner"), Instant::now());
        primary.kill();
        until_async("a replica to be promoted", async || {
            let owner = redis.owner(0).await?;
            (owner.addr() != primary.addr() && redis.is_whole().await).then_some(())
        })
        .await;
        promoted(killed)
    })
    .await;
}

/// The other one may serve once the lease of the first has expired, so what counts is the time from then.
#[tokio::test]
async fn the_first_of_two_is_killed_and_comes_back() {
    let start = async || Pair::start(Flavour::Redis7).await;
    scenario("failover_urls", start, async |redis: &Pair, length| {
        let (first, serves) = (&redis.first.server, Instant::now() + LEASE);
        first.kill();
        passes(length.absence).await;
        first.restart().await;
        let back = Instant::now();
        until_async("counts to be on the first again", async || {
            (!first.cli(&["KEYS", "*user_id*"]).await.items().is_empty()).then_some(())
        })
        .await;
        let note = format!("first used {} ms after it was back", millis(back.elapsed()));
        Mended { serves, note }
    })
    .await;
}

/// No Redis is needed to show that what this file measures would be noticed.
#[tokio::test]
async fn calls_that_get_no_answer_are_noticed() {
    let _alone = alone().await;
    let short = Length {
        load: Duration::from_millis(1_500),
        before: Duration::from_millis(300),
        ..super::SHORT
    };
    let bed = Bed::start(2, None).await;
    let control = measure(&bed, &short, async || None).await;
    let faulted = measure(&bed, &short, async || {
        bed.tollgates[0].process.signal("STOP");
        let stopped = Instant::now();
        passes(Duration::from_millis(600)).await;
        bed.tollgates[0].process.signal("CONT");
        assert!(stopped.elapsed() >= Duration::from_millis(600));
        None
    })
    .await;
    let pairs = [(control.clone(), faulted), (control.clone(), control)];
    report::pairs("a Tollgate frozen", &pairs[..1]);
    assert_eq!(judge(&pairs[1..], &short), Ok(()));
    let wrong = judge(&pairs[..1], &short).expect_err("half of the calls got no answer");
    assert!(wrong.contains("failure_mode_allowed is"), "{wrong}");
    let [ok, limited, _] = pairs[0].0.answers;
    assert!(ok > 0 && limited > 0, "{ok} passed, {limited} were denied");
    // Envoy gave up after its 20 ms, which it counts from when its event loop woke last.
    let slowest = pairs[0].1.quantile(980);
    assert!(slowest >= Duration::from_millis(15), "{slowest:?}");
}

/// Runs the fault beside a control as often as the length says, and judges. What counts are the
/// medians of three; a short run does with one pair where that shows nothing.
async fn scenario<T: Topology>(
    name: &str,
    start: impl AsyncFn() -> T,
    fault: impl AsyncFn(&T, &Length) -> Mended,
) {
    let _alone = alone().await;
    let length = Length::chosen();
    let mut pairs = Vec::new();
    let wanted = |pairs: &[Runs]| match judge(pairs, &length) {
        Ok(()) => length.pairs,
        Err(_) => FULL.pairs,
    };
    while pairs.is_empty() || pairs.len() < wanted(&pairs) {
        let redis = start().await;
        let bed = Bed::start(2, Some(&redis.url())).await;
        let control = measure(&bed, &length, async || None).await;
        let faulted = measure(&bed, &length, async || Some(fault(&redis, &length).await)).await;
        pairs.push((control, faulted));
        every_key_expires(&redis).await;
    }
    report::pairs(name, &pairs);
    if let Err(wrong) = judge(&pairs, &length) {
        panic!("{wrong}");
    }
}

async fn serves(server: &Server) -> Mended {
    until_async("Redis to answer", async || {
        server.answers().await.then_some(())
    })
    .await;
    Mended {
        serves: Instant::now(),
        note: String::new(),
    }
}

fn promoted(killed: Instant) -> Mended {
    Mended {
        serves: Instant::now(),
        note: format!("promoted {} ms after the kill", millis(killed.elapsed())),
    }
}

/// How long a lease lasts along `failover_urls`.
const LEASE: Duration = Duration::from_secs(3);
