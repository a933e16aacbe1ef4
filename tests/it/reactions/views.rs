//! Sentinels and nodes of a Cluster that do not agree on who has the keys.

use std::time::Duration;

use tokio::time::Instant;
use tollgate::model::Source;
use tollgate::store::redis::{Access, Place, slots};

use super::rig::{PATIENCE, Rig, Set, let_others_run};
use crate::topology::standin::{Standin, bulk, list};
use crate::topology::{Cluster, Flavour, Server, Single, Topology};

/// A Sentinel that names this server as the primary, since so many failovers.
async fn sentinel(primary: &Server, epoch: u64, delay: Duration) -> Standin {
    let (host, port) = ("127.0.0.1", primary.addr().port().to_string());
    Standin::start(delay, move |words| {
        let what = words.get(1).map(|what| what.to_uppercase());
        match (words[0].as_str(), what.as_deref()) {
            ("SENTINEL", Some("GET-MASTER-ADDR-BY-NAME")) => list(&[bulk(host), bulk(&port)]),
            ("SENTINEL", Some("MASTER")) => list(&[bulk("config-epoch"), bulk(&epoch.to_string())]),
            ("SENTINEL", _) => list(&[]),
            ("PING", _) => "+PONG\r\n".into(),
            _ => "+OK\r\n".into(),
        }
    })
    .await
}

#[tokio::test]
async fn a_sentinel_that_has_missed_a_failover_is_not_believed_though_it_is_the_first_to_answer() {
    let (before, now) = (
        Single::start(Flavour::Redis7).await,
        Single::start(Flavour::Redis7).await,
    );
    let slow = Duration::from_millis(3);
    let sentinels = [
        sentinel(&before.server, 4, Duration::ZERO).await,
        sentinel(&now.server, 5, slow).await,
        sentinel(&now.server, 5, slow).await,
    ];
    let [first, second, third] = sentinels.each_ref().map(|it| it.addr);
    let url = format!(
        "redis-sentinel://{first}/0?node={second}&node={third}&sentinelServiceName=mymaster"
    );
    let rig = Rig::start(&url, Set::default()).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    assert_eq!(before.server.cli(&["DBSIZE"]).await.text(), "0");
    assert_eq!(now.server.cli(&["DBSIZE"]).await.text(), "1");
}

#[tokio::test]
async fn a_sentinel_that_names_a_server_that_is_no_primary_is_not_believed() {
    let bed = crate::topology::Sentinel::start(Flavour::Redis7).await;
    let primary = bed.primary().await.expect("a primary");
    let sentinels = [
        sentinel(bed.other(primary), 1_000_000, Duration::ZERO).await,
        sentinel(primary, 1, Duration::ZERO).await,
    ];
    let [wrong, right] = sentinels.each_ref().map(|it| it.addr);
    let url = format!("redis-sentinel://{wrong}/0?node={right}&sentinelServiceName=mymaster");
    let rig = Rig::start(&url, Set::default()).await;
    rig.until_back("ann").await;
    assert_eq!(rig.counted("ann").await, rig.charged());
}

#[tokio::test]
async fn a_node_that_has_missed_a_failover_is_not_believed_about_slots() {
    let node = async |owner: u16, epoch: u64, state: &'static str, delay| {
        Standin::start(delay, move |words| {
            let what = words.get(1).map(|what| what.to_uppercase());
            match (words[0].as_str(), what.as_deref()) {
                ("CLUSTER", Some("SLOTS")) => list(&[list(&[
                    ":0\r\n".into(),
                    ":16383\r\n".into(),
                    list(&[bulk("127.0.0.1"), format!(":{owner}\r\n")]),
                ])]),
                ("CLUSTER", Some("INFO")) => bulk(&format!(
                    "cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n"
                )),
                ("PING", _) => "+PONG\r\n".into(),
                _ => "+OK\r\n".into(),
            }
        })
        .await
    };
    let slow = Duration::from_millis(3);
    let nodes = [
        node(1, 4, "ok", Duration::ZERO).await,
        node(2, 5, "ok", slow).await,
        // Cut off from the others.
        node(3, 9, "fail", Duration::ZERO).await,
    ];
    let places = nodes
        .each_ref()
        .map(|it| Place::tcp("127.0.0.1", it.addr.port()));
    let map = slots(&places, &Access::default(), PATIENCE).await.unwrap();
    assert_eq!(map.place(7), Some(&Place::tcp("127.0.0.1", 2)));
}

/// As long as a node is away, the others are asked again and again who has its slots.
#[tokio::test]
async fn nodes_that_are_well_are_not_connected_to_again_and_again() {
    let bed = Cluster::start(Flavour::Redis7).await;
    let set = Set {
        deadline: Duration::from_millis(50),
        // A node without a majority ends its connections, and is reconnected to at most so often.
        probe: Duration::from_secs(1),
        ..Set::default()
    };
    let rig = Rig::start(&bed.url(), set).await;
    rig.until_back("ann").await;
    let away = bed.owner(0).await.expect("an owner");
    let well = bed.owner(16_383).await.expect("an owner");
    assert_ne!(away.addr(), well.addr());
    away.freeze();
    let connections = async || {
        let stats = well.info(&["INFO", "stats"], "total_connections_received");
        stats.await.unwrap().parse::<u64>().unwrap()
    };
    // Users of all nodes, so that the one that is away is missed; the first looks connect.
    let ask_for = async |time| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            for user in 0..20 {
                rig.ask_within(&user.to_string(), Duration::from_millis(50))
                    .await;
            }
            let_others_run().await;
        }
    };
    ask_for(Duration::from_secs(1)).await;
    let before = connections().await;
    ask_for(Duration::from_secs(3)).await;
    // A connection for each look would be some twenty. Those of the link are some five at most, and this
    // test's own is one.
    let more = connections().await - before;
    assert!(more <= 8, "{more} new connections in 3 s");
    away.thaw();
}
