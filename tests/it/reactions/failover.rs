//! Replicas that share `failover_urls`, on two real servers. Each replica has a user of its own, so that one can be cut off from a
//! server that the others reach.

use std::time::Duration;

use tollgate::model::Source;

use super::rig::{PATIENCE, Rig, Set};
use crate::process::until_async;
use crate::topology::relay::Relay;
use crate::topology::{Flavour, Pair, Server, Topology};

/// Some replicas and two servers.
struct Fleet {
    pair: Pair,
    replicas: Vec<Rig>,
}

impl Fleet {
    async fn start(replicas: usize) -> Self {
        let pair = Pair::start(Flavour::Redis7).await;
        let servers = [pair.first.server.addr(), pair.second.server.addr()];
        for server in [&pair.first.server, &pair.second.server] {
            for replica in 0..replicas {
                let user = format!("r{replica}");
                let line = ["ACL", "SETUSER", &user, "on", ">secret", "~*", "+@all"];
                assert_eq!(server.cli(&line).await.text(), "OK");
            }
        }
        let mut rigs = Vec::new();
        for replica in 0..replicas {
            let urls = servers.map(|server| format!("redis://r{replica}:secret@{server}"));
            rigs.push(Rig::start(&urls.join(","), hurried()).await);
        }
        let fleet = Self {
            pair,
            replicas: rigs,
        };
        for rig in &fleet.replicas {
            rig.until_back("ann").await;
        }
        fleet
    }

    fn first(&self) -> &Server {
        &self.pair.first.server
    }

    fn second(&self) -> &Server {
        &self.pair.second.server
    }

    /// Asks each replica. Returns where each decided.
    async fn ask(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        for rig in &self.replicas {
            sources.push(rig.ask_within("ann", PATIENCE).await);
        }
        sources
    }

    async fn until(&self, what: &str, expected: &[Source]) {
        until_async(what, async || (self.ask().await == expected).then_some(())).await;
    }

    /// Waits until all replicas count on one server, and the other one does not change.
    async fn until_one_server_is_used(&self) {
        let states = async || [state(self.first()).await, state(self.second()).await];
        until_async("all to use one server", async || {
            let [first, second] = states().await;
            let is_store = self.ask().await == [STORE; 3];
            let [first_after, second_after] = states().await;
            let changed = [first != first_after, second != second_after];
            (is_store && changed[0] != changed[1]).then_some(())
        })
        .await;
    }
}

/// With intervals that are short beside those of a lease.
fn hurried() -> Set {
    Set {
        deadline: Duration::from_millis(200),
        ..Set::default()
    }
}

/// Cuts a replica off from a server, or lets it in again.
async fn cut(server: &Server, replica: usize) {
    let user = format!("r{replica}");
    server.cli(&["ACL", "SETUSER", &user, "off"]).await;
    server.cli(&["CLIENT", "KILL", "USER", &user]).await;
}

async fn mend(server: &Server, replica: usize) {
    let user = format!("r{replica}");
    server.cli(&["ACL", "SETUSER", &user, "on"]).await;
}

/// How many counters a server has.
async fn counters(server: &Server) -> usize {
    server.cli(&["KEYS", "*ann*"]).await.items().len()
}

/// A server's clock, in milliseconds.
async fn time(server: &Server) -> u64 {
    let time = server.cli(&["TIME"]).await;
    let [seconds, micros] = [0, 1].map(|at: usize| time.items()[at].text().parse::<u64>().unwrap());
    seconds * 1_000 + micros / 1_000
}

const STORE: Source = Source::Store;
const LOCAL: Source = Source::Local;

#[tokio::test]
async fn a_replica_that_alone_loses_the_server_in_use_enforces_its_share() {
    let fleet = Fleet::start(3).await;
    cut(fleet.first(), 2).await;
    fleet
        .until("the third to lose the first server", &[STORE, STORE, LOCAL])
        .await;
    // Twice as long as a lease lasts that is not renewed.
    let start = time(fleet.second()).await;
    while time(fleet.second()).await < start + 6_000 {
        assert_eq!(fleet.ask().await, [STORE, STORE, LOCAL]);
    }
    assert_eq!(counters(fleet.second()).await, 0);
    let status = fleet.replicas[2].lane.shared().status();
    let unresolved = status[0].unresolved.as_deref().unwrap_or_default();
    assert!(
        unresolved.contains("does not answer this replica"),
        "{unresolved}"
    );
    mend(fleet.first(), 2).await;
    fleet.until("the third to be back", &[STORE; 3]).await;
}

#[tokio::test]
async fn all_replicas_go_to_the_next_server_together_and_return() {
    let fleet = Fleet::start(3).await;
    fleet.first().freeze();
    fleet
        .until("the second server to be used", &[STORE; 3])
        .await;
    fleet.first().thaw();
    until_async("the first server alone to be used again", async || {
        let before = (state(fleet.first()).await, state(fleet.second()).await);
        let is_store = fleet.ask().await == [STORE; 3];
        let after = (state(fleet.first()).await, state(fleet.second()).await);
        (is_store && after.0 != before.0 && after.1 == before.1).then_some(())
    })
    .await;
}

/// What a server has of the counter.
async fn state(server: &Server) -> String {
    server.cli(&["GET", &counter(server).await]).await.text()
}

async fn counter(server: &Server) -> String {
    server.cli(&["KEYS", "*ann*"]).await.items()[0].text()
}

#[tokio::test]
async fn of_replicas_that_are_split_the_larger_side_goes_on_alone() {
    let fleet = Fleet::start(3).await;
    cut(fleet.first(), 1).await;
    cut(fleet.first(), 2).await;
    cut(fleet.second(), 0).await;
    fleet
        .until("the larger side to go on", &[LOCAL, STORE, STORE])
        .await;
    for _ in 0..20 {
        assert_eq!(fleet.ask().await, [LOCAL, STORE, STORE]);
    }
    for (server, replica) in [(fleet.first(), 1), (fleet.first(), 2), (fleet.second(), 0)] {
        mend(server, replica).await;
    }
    fleet.until_one_server_is_used().await;
}

#[tokio::test]
async fn a_server_that_refuses_to_write_is_left() {
    for (setting, broken, well) in [("min-replicas-to-write", "1", "0"), ("maxmemory", "1", "0")] {
        let fleet = Fleet::start(2).await;
        fleet.first().cli(&["CONFIG", "SET", setting, broken]).await;
        until_async("the second server to be used", async || {
            (fleet.ask().await == [STORE; 2] && counters(fleet.second()).await == 1).then_some(())
        })
        .await;
        fleet.first().cli(&["CONFIG", "SET", setting, well]).await;
    }
}

#[tokio::test]
async fn a_slow_server_is_left() {
    let pair = Pair::start(Flavour::Redis7).await;
    let relay = Relay::start(pair.first.server.addr()).await;
    let url = format!(
        "redis://{},redis://{}",
        relay.addr,
        pair.second.server.addr()
    );
    let set = Set {
        deadline: Duration::from_millis(20),
        ..Set::default()
    };
    let rig = Rig::start(&url, set).await;
    rig.until_back("ann").await;
    relay.delay(Duration::from_millis(60));
    let limit = Duration::from_millis(20);
    until_async("the second server to be used", async || {
        let source = rig.ask_within("ann", limit).await;
        (source == STORE && counters(&pair.second.server).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replicas_that_leave_are_not_missed() {
    let fleet = Fleet::start(4).await;
    for rig in &fleet.replicas[1..] {
        rig.lane.shared().leave().await;
    }
    let members = ["HVALS", "tollgate:main:members"];
    for server in [fleet.first(), fleet.second()] {
        let members = server.cli(&members).await;
        let left = members.items().iter();
        let left = left.filter(|member| member.text().ends_with(" left"));
        assert_eq!((members.items().len(), left.count()), (4, 3));
    }
    // With the others it would be one of four, once the second server counts as not reached.
    fleet.second().kill();
    let start = time(fleet.first()).await;
    while time(fleet.first()).await < start + 4_000 {
        assert_eq!(fleet.replicas[0].ask("ann").await, STORE);
    }
}

#[tokio::test]
async fn an_observer_writes_nothing() {
    let pair = Pair::start(Flavour::Redis7).await;
    let set = Set {
        is_observer: true,
        ..hurried()
    };
    let rig = Rig::start(&pair.url(), set).await;
    let status = rig.lane.shared().status();
    assert_eq!(status[0].links.len(), 1, "{status:?}");
    for server in pair.stores() {
        assert_eq!(server.cli(&["DBSIZE"]).await.text(), "0");
    }
}
