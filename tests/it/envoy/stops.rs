//! Tollgate stops, stalls, restarts, recycles its connections: what does a client notice?

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bed::{Bed, Envoy, Tollgate};
use super::client::{Client, Reply};
use super::config::Gateway;
use crate::process::{until, until_async};
use crate::topology::free_port;

/// No limit that a test could reach.
const ROOMY: &str = "
domain: it
descriptors:
  - key: user_id
    rate_limit: { requests_per_unit: 1000000000, unit: day }
";

#[tokio::test]
async fn a_restart_needs_no_restart_of_envoy() {
    // A port that no other test is given between the two starts.
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let tollgate = Tollgate::start("", ROOMY, Some(at)).await;
    let envoy = Envoy::start(1, &Gateway::strict(vec![at])).await;
    let mut bed = Bed { tollgate, envoy };
    assert!(is_decided(&bed.get_as("a", "/user").await));

    bed.tollgate.process.kill();
    assert_eq!(
        bed.get_as("a", "/user").await.status,
        500,
        "nobody decides, and it fails closed"
    );

    let bed = Bed {
        tollgate: Tollgate::start("", ROOMY, Some(at)).await,
        ..bed
    };
    until_async("Envoy to be answered again", async || {
        is_decided(&bed.get_as("a", "/user").await).then_some(())
    })
    .await;
}

/// Envoy gives up on each of the calls after 20 ms and resets it; h2 counts resets of streams that
/// nobody has accepted yet and by default ends a connection that has more than 20.
#[tokio::test]
async fn a_stall_costs_no_connection() {
    let bed = Bed::start("", ROOMY, 1, Gateway::default_of_envoy).await;
    until_async("Envoy to be connected", async || {
        is_decided(&bed.get_as("a", "/user").await).then_some(())
    })
    .await;
    let before = connections(&bed.envoy).await;

    let load = Load::start(bed.envoy.gateway, 100).await;
    load.answers(500).await;
    bed.tollgate.process.signal("STOP");
    let stalled = Instant::now();
    until("0.3 s", || {
        (stalled.elapsed() >= Duration::from_millis(300)).then_some(())
    })
    .await;
    bed.tollgate.process.signal("CONT");
    load.decides_again().await;
    let totals = load.stop().await;

    assert!(
        totals.undecided >= 100,
        "the stall was not felt: {totals:?}"
    );
    assert_eq!(totals.failed, 0, "{totals:?}");
    assert_eq!(connections(&bed.envoy).await, before, "{totals:?}");
}

#[tokio::test]
async fn recycled_connections_cost_no_call() {
    let settings = "connection: { max_age: 1s, max_age_grace: 5s }";
    let bed = Bed::start(settings, ROOMY, 2, Gateway::strict).await;
    let load = Load::start(bed.envoy.gateway, 8).await;
    until_async(
        "Envoy's two workers to have replaced their connections twice",
        async || (bed.envoy.stat("cluster.tollgate.upstream_cx_total").await >= 6).then_some(()),
    )
    .await;
    let totals = load.stop().await;
    assert_eq!((totals.failed, totals.undecided), (0, 0), "{totals:?}");
}

/// As it is meant to be done: Envoy asks for the health of two replicas, one is told to stop.
#[tokio::test]
async fn a_replica_that_stops_costs_no_call() {
    // Long beside the 0.1 s after which Envoy asks for its health, also on a busy machine.
    let settings = "shutdown: { drain_delay: 4s, grace: 5s }";
    let mut leaves = Tollgate::start(settings, ROOMY, None).await;
    let stays = Tollgate::start(settings, ROOMY, None).await;
    let both = vec![leaves.grpc, stays.grpc];
    let envoy = Envoy::start(
        2,
        &Gateway {
            health_checks: true,
            ..Gateway::strict(both)
        },
    )
    .await;
    until_async("both to be healthy", async || {
        (envoy.stat("cluster.tollgate.membership_healthy").await == 2).then_some(())
    })
    .await;

    let load = Load::start(envoy.gateway, 20).await;
    load.answers(500).await;
    leaves.process.signal("TERM");
    let status = until("it to end", || leaves.process.ended()).await;
    load.answers(500).await;
    let totals = load.stop().await;

    assert!(status.success(), "{status}");
    assert_eq!((totals.failed, totals.undecided), (0, 0), "{totals:?}");
    assert_eq!(
        envoy
            .stat("cluster.tollgate.upstream_cx_connect_fail")
            .await,
        0
    );
}

/// Connections to Tollgate that Envoy has opened, and that have gone.
async fn connections(envoy: &Envoy) -> (u64, u64) {
    let stat = async |name| envoy.stat(&format!("cluster.tollgate.{name}")).await;
    (
        stat("upstream_cx_total").await,
        stat("upstream_cx_destroy").await,
    )
}

/// Whether Tollgate has decided; if it has not, the request passes without these headers or fails.
fn is_decided(reply: &Reply) -> bool {
    reply.status == 200 && reply.header("x-ratelimit-remaining").is_some()
}

/// Callers that send one request after the other.
#[derive(Debug)]
struct Load {
    callers: JoinSet<()>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    decided: AtomicU64,
    undecided: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug)]
#[expect(dead_code, reason = "`decided` is for the messages of failing tests")]
struct Totals {
    decided: u64,
    /// Let through without a decision.
    undecided: u64,
    /// Answered with anything but 200.
    failed: u64,
}

impl Load {
    async fn start(gateway: SocketAddr, callers: usize) -> Self {
        let seen = Arc::new(Seen::default());
        let mut all = JoinSet::new();
        for _ in 0..callers {
            let (mut client, seen) = (Client::connect(gateway).await, Arc::clone(&seen));
            all.spawn(async move {
                while !seen.stop.load(Ordering::Relaxed) {
                    let reply = client.get("/user", &[("x-user-id", b"load")]).await;
                    let counter = match reply.status {
                        200 if is_decided(&reply) => &seen.decided,
                        200 => &seen.undecided,
                        _ => &seen.failed,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { callers: all, seen }
    }

    /// Waits for so many more answers of any kind.
    async fn answers(&self, more: u64) {
        let count = || -> u64 {
            let seen = &self.seen;
            [&seen.decided, &seen.undecided, &seen.failed]
                .map(|n| n.load(Ordering::Relaxed))
                .iter()
                .sum()
        };
        let goal = count() + more;
        until("answers", || (count() >= goal).then_some(())).await;
    }

    /// Waits for more decisions.
    async fn decides_again(&self) {
        let goal = self.seen.decided.load(Ordering::Relaxed) + 500;
        until("decisions", || {
            (self.seen.decided.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    async fn stop(self) -> Totals {
        self.seen.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Totals {
            decided: read(&self.seen.decided),
            undecided: read(&self.seen.undecided),
            failed: read(&self.seen.failed),
        }
    }
}
