//! Totals add up.

use std::collections::BTreeMap;

use super::bed::{Fleet, Place};
use crate::process::until_async;
use crate::topology::{Access, Cluster, Flavour, Options, Reply, Single, every_key_expires};

/// Names and numbers, those that are not there being 0.
fn all(totals: &BTreeMap<String, u64>) -> [u64; 6] {
    let names = [
        "requests",
        "allowed",
        "denied",
        "errors",
        "cache_hits",
        "cache_misses",
    ];
    names.map(|name| totals.get(name).copied().unwrap_or(0))
}

#[tokio::test]
async fn two_replicas_add_up_to_what_was_asked() {
    for place in [
        Place::Single(Single::start(Flavour::Redis7).await),
        Place::Cluster(Cluster::start(Flavour::Redis7).await),
    ] {
        let mut fleet = Fleet::start(&place.topology().url(), 2);
        // Two pass in all, three are denied.
        fleet.ask(0, "shop", "ann", 3).await;
        fleet.ask(1, "shop", "ann", 2).await;
        fleet.ask(1, "shop", "root", 4).await;
        fleet.ask(0, "web", "bob", 1).await;
        fleet.ask(0, "nowhere", "bob", 2).await;
        until_async("all to be told", async || {
            let told = place.total("shop", "requests").await == 9
                && place.total("web", "requests").await == 1
                && place.total("(unknown)", "requests").await == 2;
            told.then_some(())
        })
        .await;
        let shop = place.totals("shop").await;
        assert_eq!(all(&shop), [9, 6, 3, 0, 4, 5], "{shop:?}");
        assert_eq!(
            shop["batches"], 5,
            "one call for each, since they came one by one"
        );
        assert_eq!(all(&place.totals("web").await), [1, 1, 0, 0, 0, 1]);
        until_async("the domains to be listed", async || {
            (place.domains().await == ["(unknown)", "shop", "web"]).then_some(())
        })
        .await;

        // What is not told yet is told when they leave.
        fleet.ask(0, "shop", "root", 7).await;
        fleet.stop(0).await;
        fleet.ask(1, "shop", "root", 1).await;
        fleet.stop(1).await;
        let shop = place.totals("shop").await;
        assert_eq!(all(&shop), [17, 14, 3, 0, 12, 5], "{shop:?}");
        every_key_expires(place.topology()).await;
    }
}

#[tokio::test]
async fn a_replica_that_is_killed_takes_no_more_along_than_it_had_not_told() {
    let place = Place::Single(Single::start(Flavour::Redis7).await);
    let mut fleet = Fleet::start(&place.topology().url(), 2);
    fleet.ask(0, "shop", "root", 10).await;
    fleet.ask(1, "shop", "root", 5).await;
    until_async("all to be told", async || {
        (place.total("shop", "requests").await == 15).then_some(())
    })
    .await;
    fleet.ask(0, "shop", "root", 3).await;
    fleet.replicas[0].signal("-KILL");
    assert_eq!(fleet.replicas[0].ended().await, None, "by a signal");
    fleet.ask(1, "shop", "root", 6).await;
    fleet.stop(1).await;
    let told = place.total("shop", "requests").await;
    assert!((21..=24).contains(&told), "{told}");
}

#[tokio::test]
async fn what_is_counted_while_redis_restarts_is_told_afterwards() {
    let place = Place::Single(Single::start(Flavour::Redis7).await);
    let mut fleet = Fleet::start(&place.topology().url(), 1);
    fleet.ask(0, "shop", "ann", 2).await;
    until_async("it to be told", async || {
        (place.total("shop", "requests").await == 2).then_some(())
    })
    .await;
    // What it knows outlives it.
    place.server_alone().cli(&["SAVE"]).await;
    place.server_alone().kill();
    let mut failed = 0;
    until_async("the store to be missed", async || {
        failed += u64::from(fleet.ask_strictly(0).await);
        (failed > 0).then_some(())
    })
    .await;
    fleet.ask(0, "shop", "bob", 3).await;
    place.server_alone().restart().await;
    until_async("the rest to be told", async || {
        (place.total("shop", "requests").await >= 5 + failed).then_some(())
    })
    .await;
    fleet.stop(0).await;
    let shop = place.totals("shop").await;
    let strict = shop["requests"] - 5;
    assert_eq!(
        (shop["allowed"] + failed, shop["errors"]),
        (5 + strict, failed)
    );
    // The three were let pass without a counter.
    assert_eq!(shop["cache_hits"], 3, "{shop:?}");
}

#[tokio::test]
async fn a_user_may_do_all_that_is_needed_and_is_refused_nothing() {
    let options = Options {
        access: Access::User,
        ..Options::default()
    };
    let place = Place::Single(Single::with(options).await);
    let url = place.topology().url();
    let mut fleet = Fleet::start(&url, 1);
    fleet.ask(0, "shop", "ann", 3).await;
    fleet.stop(0).await;
    assert_eq!(place.total("shop", "requests").await, 3);
    let (code, out, err) =
        super::top::run(&["--redis", &url, "--once", "--interval", "100ms"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("shop"), "{out}");
    let refused = place.server_alone().cli(&["ACL", "LOG"]).await;
    assert!(
        matches!(&refused, Reply::List(list) if list.is_empty()),
        "{refused:?}"
    );
}
