//! The gateway's configuration: one route for each thing that is tested.
//!
//! It differs from `examples/envoy/envoy.yaml` (which `readme.rs` runs as it is) in what makes a
//! test sharp: a failed call to Tollgate answers 500 where the test asks for it, and the timeout is
//! long enough for a slow machine unless the test is about timeouts.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

/// What differs between tests.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Who is asked, in turn.
    pub(crate) tollgates: Vec<SocketAddr>,
    /// How long Envoy waits for a decision, if it is told.
    pub(crate) timeout: Option<&'static str>,
    /// A request without a decision is answered 500 instead of being let through.
    pub(crate) fail_closed: bool,
    /// Ask each Tollgate for its health ten times a second and leave out who is not serving.
    pub(crate) health_checks: bool,
    /// Record every request, and push its spans there as OTLP.
    pub(crate) traces: Option<SocketAddr>,
}

/// The domain of all routes but `/elsewhere`.
pub(crate) const DOMAIN: &str = "it";

impl Gateway {
    /// For tests that expect every call to be decided.
    pub(crate) fn strict(tollgates: Vec<SocketAddr>) -> Self {
        Self {
            tollgates,
            timeout: Some("10s"),
            fail_closed: true,
            health_checks: false,
            traces: None,
        }
    }

    /// Envoy's own defaults: 20 ms, then the request passes.
    pub(crate) fn default_of_envoy(tollgates: Vec<SocketAddr>) -> Self {
        Self {
            tollgates,
            timeout: None,
            fail_closed: false,
            health_checks: false,
            traces: None,
        }
    }

    /// The whole bootstrap, with sockets in `dir`.
    pub(crate) fn render(&self, dir: &Path) -> Value {
        let tollgates = self.tollgates.iter().map(tcp).collect();
        let mut tollgate = over_http2(cluster("tollgate", tollgates));
        if self.health_checks {
            tollgate["health_checks"] = json!([{
                "timeout": "1s", "interval": "0.1s", "no_traffic_interval": "0.1s",
                "unhealthy_threshold": 1, "healthy_threshold": 1, "grpc_health_check": {},
            }]);
        }
        let lua = json!({
            "name": "envoy.filters.http.lua",
            "typed_config": { "@type": ty("filters.http.lua.v3.Lua"),
                "default_source_code": { "inline_string": LIMIT_FROM_HEADER } },
        });
        let mut gateway = manager("gateway", routes(), vec![lua, self.filter()]);
        let mut clusters = Vec::new();
        if let Some(receiver) = &self.traces {
            gateway["typed_config"]["tracing"] = tracing();
            clusters.push(over_http2(cluster("otlp", vec![tcp(receiver)])));
        }
        clusters.push(tollgate);
        bootstrap(dir, clusters, &gateway)
    }

    fn filter(&self) -> Value {
        let mut filter = filter("tollgate");
        filter["typed_config"]["timeout"] = json!(self.timeout);
        filter["typed_config"]["failure_mode_deny"] = json!(self.fail_closed);
        filter
    }
}

/// A rate limit filter that asks a cluster, waits for long, and fails closed.
pub(crate) fn filter(cluster: &str) -> Value {
    json!({
        "name": RATELIMIT,
        "typed_config": {
            "@type": ty("filters.http.ratelimit.v3.RateLimit"),
            "domain": DOMAIN,
            "timeout": "10s",
            "failure_mode_deny": true,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "enable_retry_after_header": true,
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": { "envoy_grpc": { "cluster_name": cluster } },
            },
        },
    })
}

/// A bootstrap whose gateway has these filters and routes.
pub(crate) fn gateway(
    dir: &Path,
    clusters: Vec<Value>,
    filters: Vec<Value>,
    routes: Value,
) -> Value {
    bootstrap(dir, clusters, &manager("gateway", routes, filters))
}

/// The whole bootstrap around a gateway and its clusters. The upstream is a listener of the same Envoy
/// on a socket in `dir`.
fn bootstrap(dir: &Path, mut clusters: Vec<Value>, gateway: &Value) -> Value {
    let upstream = json!({ "pipe": { "path": dir.join("upstream.sock") } });
    clusters.push(cluster("upstream", vec![upstream.clone()]));
    let answer = json!({ "match": { "prefix": "/" },
        "direct_response": { "status": 200, "body": { "inline_string": BODY } } });
    json!({
        "admin": { "address": tcp(&SocketAddr::from(([127, 0, 0, 1], 0))) },
        // Spans leave as they end, not by fives.
        "layered_runtime": { "layers": [{ "name": "static", "static_layer":
            { "tracing": { "opentelemetry": { "min_flush_spans": 1 } } } }] },
        "static_resources": {
            "clusters": clusters,
            "listeners": [
                listener("gateway", &tcp(&SocketAddr::from(([127, 0, 0, 1], 0))), gateway),
                listener("upstream", &upstream, &manager("upstream", json!([answer]), vec![])),
            ],
        },
    })
}

/// What the upstream answers; its length is what `/bytes` charges.
pub(crate) const BODY: &str = "twenty bytes of body";

/// Stands in for a filter that knows the caller: `x-limit: 7` becomes an override of 7 a day.
const LIMIT_FROM_HEADER: &str = r#"
function envoy_on_request(request)
  local limit = request:headers():get("x-limit")
  if limit then
    request:streamInfo():dynamicMetadata():set("it", "limit",
      { requests_per_unit = tonumber(limit), unit = "DAY" })
  end
end"#;

const RATELIMIT: &str = "envoy.filters.http.ratelimit";

fn routes() -> Value {
    let user =
        json!({ "request_headers": { "header_name": "x-user-id", "descriptor_key": "user_id" } });
    let fixed = |value: &str| json!({ "generic_key": { "descriptor_value": value } });
    let cost = json!([fixed("cost"), user]);
    let bytes = json!([fixed("bytes"), user]);
    let metadata = json!({ "key": "it", "path": [{ "key": "limit" }] });
    json!([
        route("/user", json!([{ "actions": [user] }])),
        route(
            "/address",
            json!([{ "actions": [{ "remote_address": {} }] }])
        ),
        route(
            "/nested",
            json!([{ "actions": [fixed("nested"), user] }, { "actions": [fixed("nested")] }])
        ),
        route(
            "/five-minutes",
            json!([{ "actions": [fixed("five-minutes")] }])
        ),
        route("/denied", json!([{ "actions": [fixed("denied"), user] }])),
        route(
            "/cost",
            json!([{ "actions": cost, "hits_addend": { "format": "%REQ(x-cost)%" } }])
        ),
        route(
            "/left",
            json!([{ "actions": cost, "hits_addend": { "number": 0 } }])
        ),
        route(
            "/refund",
            json!([{ "actions": cost,
            "hits_addend": { "format": "%REQ(x-cost)%", "is_negative_hits": true } }])
        ),
        route(
            "/static-limit",
            json!([{ "actions": [user],
            "limit": { "rate_limit": { "requests_per_unit": 2, "unit": "DAY" } } }])
        ),
        route(
            "/metadata-limit",
            json!([{ "actions": [user],
            "limit": { "dynamic_metadata": { "metadata_key": metadata } } }])
        ),
        route(
            "/bytes-left",
            json!([{ "actions": bytes, "hits_addend": { "number": 0 } }])
        ),
        route(
            "/bytes",
            json!([
                { "actions": bytes, "hits_addend": { "number": 0 } },
                { "actions": bytes, "hits_addend": { "format": "%BYTES_SENT%" }, "apply_on_stream_done": true },
            ])
        ),
        elsewhere(route("/elsewhere", json!([{ "actions": [user] }]))),
    ])
}

/// A route with descriptors of its own, written where Envoy honours every field of them.
pub(crate) fn route(path: &str, rate_limits: Value) -> Value {
    let per_route = json!({
        "@type": ty("filters.http.ratelimit.v3.RateLimitPerRoute"), "rate_limits": rate_limits });
    json!({
        "match": { "path": path },
        "route": { "cluster": "upstream" },
        "typed_per_filter_config": { RATELIMIT: per_route },
    })
}

/// The route asks in a domain that no policy has.
fn elsewhere(mut route: Value) -> Value {
    route["typed_per_filter_config"][RATELIMIT]["domain"] = json!("nobody");
    route
}

fn manager(name: &str, routes: Value, mut filters: Vec<Value>) -> Value {
    filters.push(json!({ "name": "envoy.filters.http.router",
        "typed_config": { "@type": ty("filters.http.router.v3.Router") } }));
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": ty("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name,
            "use_remote_address": true,
            "max_request_headers_kb": 96,
            "http_filters": filters,
            "route_config": { "virtual_hosts": [{ "name": name, "domains": ["*"], "routes": routes }] },
        },
    })
}

fn listener(name: &str, address: &Value, manager: &Value) -> Value {
    json!({ "name": name, "address": address, "filter_chains": [{ "filters": [manager] }] })
}

pub(crate) fn cluster(name: &str, addresses: Vec<Value>) -> Value {
    let endpoints: Vec<_> = addresses
        .into_iter()
        .map(|a| json!({ "endpoint": { "address": a } }))
        .collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

pub(crate) fn over_http2(mut cluster: Value) -> Value {
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": ty("upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} },
        }
    });
    cluster
}

/// Every request is recorded, and its spans go to the cluster `otlp`.
fn tracing() -> Value {
    json!({
        "random_sampling": { "value": 100.0 },
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": { "envoy_grpc": { "cluster_name": "otlp" }, "timeout": "1s" },
                "service_name": "gateway",
            },
        },
    })
}

pub(crate) fn tcp(address: &SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn ty(extension: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{extension}")
}
