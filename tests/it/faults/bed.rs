//! An Envoy in front of some Tollgates that share their counts.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::load::{Load, USERS};
use super::run::passes;
use super::states::Watch;
use crate::envoy::bed::{Envoy, Tollgate};
use crate::envoy::config::Gateway;
use crate::process::until;

/// What a scenario runs on.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) tollgates: Vec<Tollgate>,
    pub(super) envoy: Envoy,
    shares: bool,
}

/// Envoy's counters of its calls to Tollgate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ok: u64,
    pub(super) over_limit: u64,
    /// Calls that failed or took longer than 20 ms.
    pub(super) error: u64,
    /// Requests that were let through since the call failed.
    pub(super) allowed: u64,
}

impl Bed {
    /// Starts so many Tollgates and an Envoy, and warms them up.
    pub(super) async fn start(replicas: usize, redis: Option<&str>) -> Self {
        let limit = RATE / USERS / 2;
        let policy = format!(
            "domain: it\ndescriptors:\n  - key: user_id\n    \
             rate_limit: {{ requests_per_unit: {limit}, unit: second }}\n"
        );
        let tollgates = fleet(replicas, redis, "", &policy).await;
        let addresses = tollgates.iter().map(|tollgate| tollgate.grpc).collect();
        let envoy = Envoy::start(2, &Gateway::default_of_envoy(addresses)).await;
        let bed = Self {
            tollgates,
            envoy,
            shares: redis.is_some(),
        };
        bed.warm_up().await;
        bed
    }

    /// Load at the usual rate.
    pub(super) fn load(&self) -> Load {
        Load::start(self.envoy.gateway, RATE)
    }

    /// Watches where decisions come from, if they may come from Redis.
    pub(super) fn watch(&self) -> Watch {
        watch(if self.shares { &self.tollgates } else { &[] })
    }

    pub(super) async fn counts(&self) -> Counts {
        let stat = async |name| {
            let name = format!("cluster.upstream.ratelimit.{name}");
            self.envoy.stat(&name).await
        };
        Counts {
            ok: stat("ok").await,
            over_limit: stat("over_limit").await,
            error: stat("error").await,
            allowed: stat("failure_mode_allowed").await,
        }
    }

    /// Until Envoy has connected to all and calls no longer fail. On a busy machine some always take
    /// longer than Envoy's 20 ms; there it is enough that most are decided.
    async fn warm_up(&self) {
        for round in 0..100 {
            let before = self.counts().await;
            let load = self.load();
            passes(WARM_UP).await;
            load.stop();
            let after = self.counts().await;
            let (failed, passed) = (after.error - before.error, after.ok - before.ok);
            let tolerated = if round < QUIET_ROUNDS { 0 } else { passed / 2 };
            if passed > 0 && failed <= tolerated {
                return;
            }
        }
        panic!(
            "calls to Tollgate never ceased to fail: {:?}",
            self.counts().await
        );
    }
}

impl Counts {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            ok: self.ok - before.ok,
            over_limit: self.over_limit - before.over_limit,
            error: self.error - before.error,
            allowed: self.allowed - before.allowed,
        }
    }

    /// Requests that Tollgate was asked about.
    pub(super) fn total(self) -> u64 {
        self.ok + self.over_limit + self.error
    }
}

/// Starts so many Tollgates, and waits until all use Redis if they are to.
pub(super) async fn fleet(
    replicas: usize,
    redis: Option<&str>,
    settings: &str,
    policy: &str,
) -> Vec<Tollgate> {
    let flags: &[&str] = &redis.map_or(vec![], |url| vec!["--redis", url]);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut fleet = Vec::new();
    for _ in 0..replicas {
        fleet.push(Tollgate::start_with(settings, policy, any, flags).await);
    }
    if redis.is_some() {
        let (watch, begun) = (watch(&fleet), Instant::now());
        until("all Tollgates to use Redis", || {
            watch.shared_after(begun).then_some(())
        })
        .await;
    }
    fleet
}

pub(super) fn watch(fleet: &[Tollgate]) -> Watch {
    Watch::start(fleet.iter().map(|tollgate| tollgate.admin).collect())
}

/// Requests a second. Half of them are over the limit.
const RATE: u32 = 1_000;

const WARM_UP: Duration = Duration::from_millis(300);

/// Rounds of the warm-up in which no call may fail: enough for a machine that has nothing else to do.
const QUIET_ROUNDS: u32 = 20;
