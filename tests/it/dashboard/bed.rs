//! Two Tollgates on one Redis, several domains of policies, and a Prometheus that scrapes both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures_util::stream;
use http::uri::PathAndQuery;
use tempfile::TempDir;
use tokio::time::timeout;
use tollgate::transport::wire::SHOULD_RATE_LIMIT;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::load::Load;
use super::prometheus::Prometheus;
use crate::envoy::bed::{TOLLGATE, Tollgate};
use crate::topology::{Flavour, Single, Topology};

/// All that runs. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) redis: Single,
    pub(super) prometheus: Prometheus,
    replicas: [Replica; 2],
    /// Both have the same.
    policies: TempDir,
}

#[derive(Debug)]
struct Replica {
    tollgate: Tollgate,
    http: SocketAddr,
}

impl Bed {
    pub(super) async fn start() -> Self {
        let redis = Single::start(Flavour::Redis7).await;
        let policies = TempDir::new().expect("a temporary folder");
        for (name, text) in POLICIES {
            std::fs::write(policies.path().join(name), text).expect("a writable folder");
        }
        let url = redis.url();
        let start = || Replica::start(&url, policies.path());
        let replicas = [start().await, start().await];
        let prometheus = Prometheus::start(&[replicas[0].http, replicas[1].http]).await;
        Self {
            redis,
            prometheus,
            replicas,
            policies,
        }
    }

    /// Has both called, `rate` times a second each.
    pub(super) async fn load(&self, rate: u32) -> Load {
        let addresses = self.replicas.iter().map(|replica| replica.tollgate.grpc);
        Load::start(addresses.collect(), rate).await
    }

    /// Begins a call of each replica, and goes away before all of it is sent.
    pub(super) async fn go_away_in_the_middle(&self) {
        for replica in &self.replicas {
            let address = format!("http://{}", replica.tollgate.grpc);
            let channel = Endpoint::from_shared(address).expect("an address");
            let mut client = Grpc::new(channel.connect().await.expect("a connection"));
            client.ready().await.expect("a connection");
            let path = PathAndQuery::from_static(SHOULD_RATE_LIMIT);
            let codec = ProstCodec::<RateLimitRequest, RateLimitResponse>::default();
            let nothing_yet = tonic::Request::new(stream::pending());
            let call = client.client_streaming(nothing_yet, path, codec);
            let answered = timeout(A_MOMENT, call).await;
            assert!(answered.is_err(), "nothing was asked");
        }
    }

    /// Adds policies that make no sense to those that do.
    pub(super) fn break_policies(&self) {
        let text =
            "domain: broken\ndescriptors:\n  - key: x\n    rate_limit: { unit: fortnight }\n";
        std::fs::write(self.broken(), text).expect("a writable folder");
    }

    /// Takes them away.
    pub(super) fn mend_policies(&self) {
        std::fs::remove_file(self.broken()).expect("a writable folder");
    }

    fn broken(&self) -> PathBuf {
        self.policies.path().join("broken.yaml")
    }
}

impl Replica {
    async fn start(redis: &str, policies: &Path) -> Self {
        let mut command = Command::new(TOLLGATE);
        command
            .args(["serve", "--redis", redis, "--policies"])
            .arg(policies);
        let folder = TempDir::new().expect("a temporary folder");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut tollgate = Tollgate::run(command, any, folder).await;
        let http = tollgate
            .process
            .line("where /metrics is", http_address)
            .await;
        Self { tollgate, http }
    }
}

/// In the line that says that it is ready.
fn http_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http=")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Long enough for a call to reach a replica, which is seen in the end.
const A_MOMENT: Duration = Duration::from_millis(20);

/// What `load` asks for. `checkout` is what fails when Redis is away.
const POLICIES: [(&str, &str); 3] = [
    (
        "shop.yaml",
        "domain: shop
descriptors:
  - key: user_id
    rate_limit: { requests_per_unit: 5, unit: second }
  - key: remote_address
    rate_limit: { requests_per_unit: 40, unit: second, algorithm: sliding_window }
  - key: cart
    shadow_mode: true
    rate_limit: { requests_per_unit: 10, unit: second }
  - key: plan
    value: gold
    rate_limit: { unlimited: true }
",
    ),
    (
        "api.yaml",
        "domain: api
descriptors:
  - key: api_key
    rate_limit: { requests_per_unit: 20, unit: second, algorithm: token_bucket, burst: 20 }
  - key: tenant
    rate_limit: { requests_per_unit: 600, unit: minute, algorithm: sliding_log, on_store_failure: allow }
",
    ),
    (
        "checkout.yaml",
        "domain: checkout
descriptors:
  - key: card
    rate_limit: { requests_per_unit: 30, unit: second, on_store_failure: error }
",
    ),
];
