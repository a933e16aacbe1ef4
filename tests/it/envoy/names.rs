//! Clusters of any name, and what else arrives as `:authority`: limits hold and health checks pass.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bed::{Envoy, Tollgate};
use super::config::{self, tcp};
use crate::process::until_async;

/// Names that operators and control planes give to Tollgate's cluster. Envoy sends them as
/// `:authority`.
const CLUSTERS: [&str; 22] = [
    "ratelimit",
    "ratelimit.default.svc.cluster.local:8081",
    // Istio, Contour, Envoy Gateway, Gloo, Emissary.
    "outbound|8081||ratelimit.default.svc.cluster.local",
    "outbound|8081|v1|ratelimit.default.svc.cluster.local",
    "outbound_.8081_._.ratelimit.default.svc.cluster.local",
    "extension/projectcontour/ratelimit",
    "httproute/default/backend/rule/0",
    "kube-svc:default-ratelimit-8081_gloo-system",
    "cluster_ratelimit_8081_default::ratelimit",
    "rate limit",
    "[ratelimit]",
    "ratelimit[0]",
    "100%",
    "tmp%2Fx.sock",
    "back\\slash",
    "user@host@again",
    "{ratelimit}<1>",
    "\"ratelimit\"",
    "ratelimit#1?x=y",
    "^`~|",
    "ratelimit-größe",
    "限流",
];

/// Two hits a day for each name.
const POLICY: &str = "
domain: it
descriptors:
  - key: generic_key
    rate_limit: { requests_per_unit: 2, unit: day }
";

/// One Envoy with a rate limit filter for each way to reach a Tollgate.
struct Filters {
    clusters: Vec<Value>,
    filters: Vec<Value>,
    routes: Vec<Value>,
}

impl Filters {
    fn add(&mut self, grpc_service: &Value) {
        let name = format!("ratelimit-{}", self.filters.len());
        let path = format!("/{}", self.filters.len());
        let mut filter = config::filter("tollgate");
        filter["name"] = json!(name);
        // Its routes switch it on.
        filter["disabled"] = json!(true);
        filter["typed_config"]["rate_limit_service"]["grpc_service"] = grpc_service.clone();
        let action = json!([{ "actions": [{ "generic_key": { "descriptor_value": name } }] }]);
        let mut route = config::route(&path, action);
        let per_route = route["typed_per_filter_config"]
            .as_object_mut()
            .and_then(|filters| filters.values().next().cloned());
        route["typed_per_filter_config"] = json!({ name: per_route });
        self.filters.push(filter);
        self.routes.push(route);
    }

    fn cluster(&mut self, name: &str, tollgate: &SocketAddr) {
        let mut cluster = config::over_http2(config::cluster(name, vec![tcp(tollgate)]));
        // A host that fails its check is not used, so a limit that holds has passed it.
        cluster["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
        cluster["health_checks"] = json!([{
            "timeout": "5s", "interval": "1s", "no_traffic_interval": "1s",
            "unhealthy_threshold": 1, "healthy_threshold": 1, "grpc_health_check": {},
        }]);
        self.clusters.push(cluster);
        self.add(&json!({ "envoy_grpc": { "cluster_name": name } }));
    }

    /// gRPC's C core, which Envoy can use in place of its own client.
    fn c_core(&mut self, target: &str) {
        self.add(&json!({ "google_grpc": { "target_uri": target, "stat_prefix": "tollgate" } }));
    }

    async fn start(self) -> Envoy {
        let dir = TempDir::new().unwrap();
        let routes = json!(self.routes);
        let config = config::gateway(dir.path(), self.clusters, self.filters, routes);
        Envoy::run(1, &config.to_string(), dir).await
    }
}

async fn limits_hold(filters: Filters) {
    let count = filters.filters.len();
    let envoy = filters.start().await;
    for path in (0..count).map(|number| format!("/{number}")) {
        // Until its health check has passed and its connection is open, a filter fails closed. Such
        // a call may be charged all the same.
        let first = until_async(&format!("an answer on {path}"), async || {
            Some(envoy.get(&path, &[]).await.status).filter(|status| *status != 500)
        })
        .await;
        let mut statuses = vec![first];
        for _ in 0..3 {
            statuses.push(envoy.get(&path, &[]).await.status);
        }
        let passed = statuses.iter().filter(|status| **status == 200).count();
        assert!(statuses.ends_with(&[429, 429]), "on {path}: {statuses:?}");
        assert!(passed <= 2, "on {path}: {statuses:?}");
    }
}

fn none() -> Filters {
    Filters {
        clusters: Vec::new(),
        filters: Vec::new(),
        routes: Vec::new(),
    }
}

#[tokio::test]
async fn limits_hold_whatever_the_name_of_the_cluster() {
    let tollgate = Tollgate::start("", POLICY, None).await;
    let mut filters = none();
    for name in CLUSTERS {
        filters.cluster(name, &tollgate.grpc);
    }
    limits_hold(filters).await;
    assert!(!tollgate.process.said("broke the protocol"));
}

#[tokio::test]
async fn limits_hold_for_the_c_core_of_grpc() {
    let (first, second) = (
        Tollgate::start("", POLICY, None).await,
        Tollgate::start("", POLICY, None).await,
    );
    let (dir, socket) = socket();
    let _unix = Tollgate::start_on_socket(POLICY, &socket).await;
    let mut filters = none();
    filters.c_core(&format!("unix:{}", socket.display()));
    // It stays with the first address that answers, and sends the whole list as `:authority`.
    filters.c_core(&format!("ipv4:{},{}", first.grpc, second.grpc));
    limits_hold(filters).await;
    drop(dir);
}

/// A path for a socket, short enough for one.
fn socket() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let socket = Path::new(dir.path()).join("odd %name.sock");
    (dir, socket)
}

/// An Envoy cluster without `http2_protocol_options`.
#[tokio::test]
async fn http1_at_the_grpc_port_is_counted_and_logged() {
    let mut tollgate = Tollgate::start("", POLICY, None).await;
    let mut filters = none();
    filters.cluster("ratelimit", &tollgate.grpc);
    for cluster in &mut filters.clusters {
        let cluster = cluster.as_object_mut().unwrap();
        cluster.remove("typed_extension_protocol_options");
        cluster.remove("health_checks");
    }
    let envoy = filters.start().await;
    assert_eq!(envoy.get("/0", &[]).await.status, 500, "it fails closed");
    let warning = tollgate
        .process
        .line("a warning", |line| {
            line.contains("broke the protocol").then(|| line.to_owned())
        })
        .await;
    assert!(warning.contains("reason=\"http1\""), "{warning}");
    assert!(warning.contains("http2_protocol_options"), "{warning}");
    assert!(warning.contains("peer=127.0.0.1:"), "{warning}");
}
