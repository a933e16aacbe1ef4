//! Three primaries that share the slots, and a replica of each.

use super::sentinel::is_linked;
use super::server::{Recipe, Server};
use super::{Flavour, Topology, on_port};
use crate::process::until_async;

/// Notices a dead primary after a second and promotes its replica about a second later.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The first three were started as primaries, the others as their replicas in that order.
    servers: Vec<Server>,
}

impl Cluster {
    /// Starts all six, and waits until every node serves and a failover would work.
    pub(crate) async fn start(flavour: Flavour) -> Self {
        let mut servers = Vec::new();
        for _ in 0..2 * PRIMARIES {
            let lines = [
                "cluster-enabled yes",
                "cluster-config-file nodes.conf",
                "cluster-node-timeout 1000",
            ];
            let recipe = Recipe {
                flavour,
                lines: lines.map(str::to_owned).into(),
                ..Recipe::default()
            };
            servers.push(Server::start(recipe).await);
        }
        let cluster = Self { servers };
        cluster.meet().await;
        cluster.share_slots().await;
        cluster.replicate().await;
        cluster.is_ready().await;
        cluster
    }

    /// The primary that serves a slot, if one does: a living server that a node names and that
    /// takes itself for a primary.
    pub(crate) async fn owner(&self, slot: u16) -> Option<&Server> {
        for server in &self.servers {
            let Ok(ranges) = server.try_cli(&["CLUSTER", "SLOTS"]).await else {
                continue;
            };
            for range in ranges.items() {
                let [first, last, primary, ..] = range.items() else {
                    continue;
                };
                let bounds = (first.text().parse(), last.text().parse());
                let (Ok(first), Ok(last)): (Result<u16, _>, Result<u16, _>) = bounds else {
                    continue;
                };
                if !(first..=last).contains(&slot) {
                    continue;
                }
                let port = primary.items().get(1)?.text();
                let owner = on_port(&self.servers, &port)?;
                let role = owner.info(&["INFO", "replication"], "role").await;
                if role.as_deref() == Some("master") {
                    return Some(owner);
                }
            }
        }
        None
    }

    /// The slot of a key, as the servers count it.
    pub(crate) async fn slot(&self, key: &str) -> u16 {
        let slot = self.servers[0].cli(&["CLUSTER", "KEYSLOT", key]).await;
        slot.text().parse().expect("a slot")
    }

    /// Whether every living node says that all slots are served.
    pub(crate) async fn is_whole(&self) -> bool {
        for server in self.servers.iter().filter(|server| server.runs()) {
            let state = server.info(&["CLUSTER", "INFO"], "cluster_state").await;
            if state.as_deref() != Some("ok") {
                return false;
            }
        }
        true
    }

    /// Everybody is told of everybody by the first.
    async fn meet(&self) {
        for (epoch, server) in (1..).zip(&self.servers) {
            // Different from the start, so that no two primaries have to settle it.
            let epoch: u16 = epoch;
            server
                .cli(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()])
                .await;
        }
        for server in &self.servers[1..] {
            let port = server.addr().port().to_string();
            self.servers[0]
                .cli(&["CLUSTER", "MEET", "127.0.0.1", &port])
                .await;
        }
        for server in &self.servers {
            until_async("the nodes to know each other", async || {
                let nodes = server.try_cli(&["CLUSTER", "NODES"]).await.ok()?.text();
                let known = nodes.lines().filter(|node| !node.contains("handshake"));
                (known.count() == self.servers.len()).then_some(())
            })
            .await;
        }
    }

    /// Redis 6.2 has no command for ranges.
    async fn share_slots(&self) {
        for (part, server) in self.servers.iter().take(PRIMARIES).enumerate() {
            let bound = |part: usize| part * SLOTS / PRIMARIES;
            let slots: Vec<String> = (bound(part)..bound(part + 1))
                .map(|slot| slot.to_string())
                .collect();
            let mut line = vec!["CLUSTER", "ADDSLOTS"];
            line.extend(slots.iter().map(String::as_str));
            server.cli(&line).await;
        }
    }

    async fn replicate(&self) {
        let (primaries, replicas) = self.servers.split_at(PRIMARIES);
        for (primary, replica) in primaries.iter().zip(replicas) {
            let id = primary.cli(&["CLUSTER", "MYID"]).await.text();
            replica.cli(&["CLUSTER", "REPLICATE", &id]).await;
        }
        for replica in replicas {
            is_linked(replica).await;
        }
    }

    /// All slots are served, and every node knows the replicas, who vote for nobody else.
    async fn is_ready(&self) {
        until_async("the cluster to be ready", async || {
            if !self.is_whole().await {
                return None;
            }
            for server in &self.servers {
                let nodes = server.try_cli(&["CLUSTER", "NODES"]).await.ok()?.text();
                let of_role = |role: &str| nodes.lines().filter(|node| node.contains(role)).count();
                if (of_role("master"), of_role("slave")) != (PRIMARIES, PRIMARIES) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

impl Topology for Cluster {
    fn url(&self) -> String {
        let mut nodes = self.servers.iter().map(|server| server.addr().to_string());
        let first = nodes.next().unwrap_or_default();
        let more: Vec<String> = nodes.map(|node| format!("node={node}")).collect();
        format!("redis-cluster://{first}?{}", more.join("&"))
    }

    fn stores(&self) -> Vec<&Server> {
        self.servers.iter().collect()
    }
}

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
