//! A Redis that pauses again and again: how much is decided without it?
//!
//! A pause that is longer than `deadline.store` costs the decisions of its own time, and few more. One
//! that is shorter costs none.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::bed::fleet;
use super::run::passes;
use super::{Length, alone, report};
use crate::envoy::bed::Tollgate;
use crate::harness::{Client, descriptor, http_call, request};
use crate::topology::{Flavour, Single, Topology};

#[tokio::test]
async fn a_pause_of_redis_costs_about_its_own_length() {
    let _alone = alone().await;
    let length = Length::chosen();
    let redis = Single::start(Flavour::Redis7).await;
    let fleet = fleet(1, Some(&redis.url()), "", POLICY).await;
    let tollgate = &fleet[0];
    let load = Load::start(tollgate).await;
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for &(stall, percent) in length.stalls {
        let stall = Duration::from_millis(stall);
        let pause = stall * (100 - percent) / percent;
        // What is decided without it on this machine anyway.
        let control = watched(tollgate, async || {
            passes(stall + 4 * pause.min(SHORTEST_RUN)).await;
        })
        .await;
        let stalled = watched(tollgate, async || {
            let begun = Instant::now();
            let mut stalls = 0;
            while stalls < FEWEST || begun.elapsed() < SHORTEST_RUN {
                passes(pause).await;
                redis.server.freeze();
                passes(stall).await;
                redis.server.thaw();
                stalls += 1;
            }
            passes(pause.min(SHORTEST_RUN)).await;
        })
        .await;
        let most = control.without + f64::from(percent) * 3.0;
        rows.push(format!(
            "| {} | {percent} | {} | {:.2} | {:.2} |",
            stall.as_millis(),
            stalled.decisions,
            stalled.without,
            control.without
        ));
        if stalled.without > most {
            wrong.push(format!(
                "{stall:?} of {:?}: {:.1} % decided without Redis",
                stall + pause,
                stalled.without
            ));
        }
    }
    load.stop().await;
    report::table(HEADER, &rows);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What was decided in some time.
#[derive(Clone, Copy, Debug)]
struct Watched {
    decisions: u64,
    /// Percent of them.
    without: f64,
}

async fn watched(tollgate: &Tollgate, run: impl AsyncFnOnce()) -> Watched {
    let before = by_source(tollgate).await;
    run().await;
    let after = by_source(tollgate).await;
    let since = |source: &str| {
        let at = |counts: &BTreeMap<String, u64>| counts.get(source).copied().unwrap_or(0);
        at(&after) - at(&before)
    };
    let all: u64 = after.keys().map(|source| since(source)).sum();
    let without = all - since("store");
    let number = |count: u64| f64::from(u32::try_from(count).expect("a count"));
    Watched {
        decisions: all,
        without: number(without) / number(all.max(1)) * 100.0,
    }
}

/// How many decisions each source has made.
async fn by_source(tollgate: &Tollgate) -> BTreeMap<String, u64> {
    let (status, metrics) = http_call(
        &tollgate.http.to_string(),
        http::Method::GET,
        "/metrics",
        "",
    )
    .await;
    assert_eq!(status, 200, "{metrics}");
    let mut counts = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("tollgate_decisions_total{") else {
            continue;
        };
        let (labels, count) = rest.rsplit_once("} ").expect("labels and a count");
        let (_, source) = labels.split_once("source=\"").expect("a source");
        let (source, _) = source.split_once('"').expect("the end of it");
        *counts.entry(source.to_owned()).or_default() += count.parse::<u64>().expect("a count");
    }
    counts
}

/// Callers that ask at fixed times, whether or not the call before was answered.
struct Load(JoinSet<()>);

impl Load {
    async fn start(tollgate: &Tollgate) -> Self {
        let client = Client::connect(&tollgate.grpc.to_string()).await;
        let mut callers = JoinSet::new();
        callers.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / CALLS_A_SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0_u32.. {
                ticks.tick().await;
                let mut client = Client(client.0.clone());
                let user = (number % 50).to_string();
                drop(tokio::spawn(async move {
                    // Refusals are counted by Tollgate.
                    let _answer = client
                        .try_ask(request("it", &[descriptor(&[("user_id", &user)])]))
                        .await;
                }));
            }
        });
        Self(callers)
    }

    async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

const POLICY: &str = "domain: it\ndescriptors:\n  - key: user_id\n    \
    rate_limit: { requests_per_unit: 1000000, unit: second }\n";

const CALLS_A_SECOND: u32 = 250;

/// How long a run takes at least, and how many stalls it has.
const SHORTEST_RUN: Duration = Duration::from_secs(4);
const FEWEST: u32 = 3;

const HEADER: &str =
    "| pause of Redis, ms | % of the time | decisions | % without Redis | % without a pause |";
