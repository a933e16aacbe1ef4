//! An Envoy in front of some Tollgates that share their counts.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Length;
use super::load::{EACH, Load};
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
    /// For how many users the load asks.
    users: u32,
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
        let limit = EACH / 2;
        let policy = format!(
            "domain: it\ndescriptors:\n  - key: user_id\n    \
             rate_limit: {{ requests_per_unit: {limit}, unit: second }}\n"
        );
        let tollgates = fleet(replicas, redis, "", &policy).await;
        let addresses = tollgates.iter().map(|tollgate| tollgate.grpc).collect();
        let envoy = Envoy::start(2, &Gateway::default_of_envoy(addresses)).await;
        let mut bed = Self {
            tollgates,
            envoy,
            shares: redis.is_some(),
            users: Length::chosen().users,
        };
        bed.warm_up().await;
        bed
    }

    /// As much load as was settled on when it was warmed up. Half of what is asked for each user is over
    /// the limit.
    pub(super) fn load(&self) -> Load {
        Load::start(self.envoy.gateway, self.users)
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

    /// Until Envoy has connected to all, and no call fails under twice the load that is to come: what
    /// a fault costs needs room too. Where calls go on failing the machine is slow, and in a short run
    /// half the load will do, and half of that. On a busy machine some always take longer than Envoy's
    /// 20 ms; there it is enough that most are decided.
    async fn warm_up(&mut self) {
        let length = Length::chosen();
        for _ in 0..=length.halvings {
            for _ in 0..QUIET_ROUNDS {
                if self.round(2 * self.users).await == Some(0) {
                    return;
                }
            }
            self.users = (self.users / 2).max(length.users >> length.halvings);
        }
        let mut shares = Vec::new();
        for _ in 0..BUSY_ROUNDS {
            let share = self.round(self.users).await;
            if share.is_some_and(|share| share <= MOST_FAILURES) {
                return;
            }
            shares.push(share);
        }
        panic!("calls to Tollgate never ceased to fail: {shares:?} of a thousand");
    }

    /// A moment of load: how many calls in a thousand failed, if any did not.
    async fn round(&self, users: u32) -> Option<u64> {
        let before = self.counts().await;
        let load = Load::start(self.envoy.gateway, users);
        passes(WARM_UP).await;
        load.stop();
        let counts = self.counts().await.since(before);
        (counts.ok > 0).then(|| (counts.error * 1_000).div_ceil(counts.total()))
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

const WARM_UP: Duration = Duration::from_millis(500);

/// Rounds of the warm-up with the same load in which no call may fail: enough for a machine that has
/// nothing else to do.
const QUIET_ROUNDS: u32 = 12;

/// Rounds with the least load in which some calls may fail.
const BUSY_ROUNDS: u32 = 60;

/// How many calls in a thousand may fail on a busy machine.
const MOST_FAILURES: u64 = 200;
