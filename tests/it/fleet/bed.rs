//! Replicas in processes of their own, and what they have written.

use std::collections::BTreeMap;

use tempfile::TempDir;

use crate::cli::{Served, text};
use crate::harness::{Client, descriptor, request};
use crate::topology::{Cluster, Reply, Server, Single, Topology};

/// Some replicas with one policy and one store.
pub(super) struct Fleet {
    pub(super) replicas: Vec<Served>,
    _folder: TempDir,
}

const POLICY: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { requests_per_unit: 2, unit: day, on_store_failure: allow }
  - key: user
    value: root
    rate_limit: { unlimited: true }
  - key: strict
    rate_limit: { requests_per_unit: 1000000, unit: day, on_store_failure: error }
";

impl Fleet {
    /// Starts so many, which share the store of this URL.
    pub(super) fn start(url: &str, count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        std::fs::write(policies.join("shop.yaml"), POLICY).unwrap();
        let web = POLICY.replace("shop", "web");
        std::fs::write(policies.join("web.yaml"), web).unwrap();
        let settings = folder.path().join("tollgate.yaml");
        let written = format!(
            "store: {{kind: redis, redis: {{url: \"{url}\"}}}}\n\
             deadline: {{store: 2s}}\n\
             circuit_breaker: {{probe_interval: 50ms}}\n\
             shutdown: {{drain_delay: 0s, grace: 5s}}\n"
        );
        std::fs::write(&settings, written).unwrap();
        let mut arguments = vec!["--config", text(&settings), "--policies", text(&policies)];
        for listener in ["--grpc", "--http", "--admin"] {
            arguments.extend([listener, "127.0.0.1:0"]);
        }
        let replicas = (0..count).map(|_| Served::start(&arguments).0);
        Self {
            replicas: replicas.collect(),
            _folder: folder,
        }
    }

    /// Asks a replica so often.
    pub(super) async fn ask(&self, replica: usize, domain: &str, user: &str, times: usize) {
        let mut client = Client::connect(&self.replicas[replica].grpc).await;
        for _ in 0..times {
            client.code(domain, &[("user", user)]).await;
        }
    }

    /// Asks for what is an error while the store is away; whether it was.
    pub(super) async fn ask_strictly(&self, replica: usize) -> bool {
        let mut client = Client::connect(&self.replicas[replica].grpc).await;
        let asked = request("shop", &[descriptor(&[("strict", "ann")])]);
        client.try_ask(asked).await.is_err()
    }

    /// Stops one as an orchestrator does.
    pub(super) async fn stop(&mut self, replica: usize) {
        self.replicas[replica].signal("-TERM");
        assert_eq!(self.replicas[replica].ended().await, Some(0));
    }
}

/// Where a store's keys are.
pub(super) enum Place {
    Cluster(Cluster),
    Single(Single),
}

impl Place {
    pub(super) fn topology(&self) -> &dyn Topology {
        match self {
            Self::Cluster(cluster) => cluster,
            Self::Single(single) => single,
        }
    }

    /// The server, where it is one alone.
    pub(super) fn server_alone(&self) -> &Server {
        match self {
            Self::Single(single) => &single.server,
            Self::Cluster(_) => panic!("one of several"),
        }
    }

    async fn server(&self, key: &str) -> &Server {
        match self {
            Self::Single(single) => &single.server,
            Self::Cluster(cluster) => {
                let slot = cluster.slot(key).await;
                cluster.owner(slot).await.expect("an owner of each slot")
            }
        }
    }

    /// A domain's totals, as they are in Redis.
    pub(super) async fn totals(&self, domain: &str) -> BTreeMap<String, u64> {
        let key = format!("tollgate:{domain}:metrics");
        let Ok(reply) = self.server(&key).await.try_cli(&["HGETALL", &key]).await else {
            return BTreeMap::new();
        };
        let pairs = reply.items().chunks_exact(2);
        pairs
            .map(|pair| (pair[0].text(), pair[1].text().parse().unwrap()))
            .collect()
    }

    pub(super) async fn total(&self, domain: &str, name: &str) -> u64 {
        let totals = self.totals(domain).await;
        totals.get(name).copied().unwrap_or(0)
    }

    /// The domains that are listed.
    pub(super) async fn domains(&self) -> Vec<String> {
        let key = "tollgate:domains";
        let listed = self
            .server(key)
            .await
            .cli(&["ZRANGE", key, "0", "-1"])
            .await;
        let mut listed: Vec<String> = listed.items().iter().map(|one| one.text()).collect();
        listed.sort();
        listed
    }

    /// A domain's alerts, oldest first, as lists of names and values.
    pub(super) async fn alerts(&self, domain: &str) -> Vec<Reply> {
        let key = format!("tollgate:{domain}:alerts");
        let told = self
            .server(&key)
            .await
            .cli(&["XRANGE", &key, "-", "+"])
            .await;
        told.items()
            .iter()
            .map(|entry| entry.items()[1].clone())
            .collect()
    }
}
