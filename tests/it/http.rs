//! What the `http` and `admin` listeners answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, descriptor, request, within};

const POLICY: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { name: per-user, requests_per_unit: 1, unit: minute, unit_multiplier: 5 }
  - key: plan
    value: gold
    rate_limit: { unlimited: true }
";

#[tokio::test]
async fn json_answers_like_grpc() {
    let harness = Harness::with_policy(POLICY).await;
    let call = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"user","value":"x"}]}]}"#;
    let (status, body) = harness.json(call).await;
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let reset = &body["statuses"][0]["durationUntilReset"];
    assert_eq!(
        body,
        serde_json::json!({
            "overallCode": "OK",
            "statuses": [{
                "code": "OK",
                "currentLimit": {
                    "name": "per-user", "requestsPerUnit": 1, "unit": "MINUTE", "unitMultiplier": 5,
                },
                "durationUntilReset": reset,
            }],
        })
    );
    assert!(reset.as_str().unwrap().ends_with('s'));
    let snake_case = r#"{"domain":"shop","hits_addend":2,
        "descriptors":[{"entries":[{"key":"user","value":"y"}],"hits_addend":"2"}]}"#;
    let (status, body) = harness.json(snake_case).await;
    assert_eq!(status, 429, "{body}");
    assert!(body.contains("OVER_LIMIT"), "{body}");
}

#[tokio::test]
async fn hits_that_never_pass_are_told_the_whole_window() {
    let limit = |key, numbers| {
        format!("  - key: {key}\n    rate_limit: {{ unit: hour, requests_per_unit: {numbers} }}\n")
    };
    let policy = [
        "domain: shop\ndescriptors:\n".to_owned(),
        limit("bucket", "100, algorithm: token_bucket, burst: 5"),
        limit("sliding", "5, algorithm: sliding_window"),
        limit("log", "5, algorithm: sliding_log"),
        limit("fixed", "5"),
    ]
    .concat();
    for style in ["none", "reference", "ietf"] {
        let settings = format!("response: {{ headers: {style} }}\n");
        let started = Harness::start(&[("policy.yaml", &policy)], &settings).await;
        let harness = started.unwrap();
        let mut client = harness.client().await;
        for key in ["bucket", "sliding", "log", "fixed"] {
            let mut call = request("shop", &[descriptor(&[(key, "x")])]);
            call.hits_addend = 6;
            let answer = client.ask(call).await;
            let reset = answer.statuses[0].duration_until_reset;
            assert_eq!(reset.map(|reset| reset.seconds), Some(3600), "{key}");
            let told = answer.response_headers_to_add.iter().find_map(|header| {
                match (header.key.as_str(), header.value.rsplit_once("t=")) {
                    ("RateLimit-Reset", _) => Some(header.value.as_str()),
                    ("RateLimit", Some((_, seconds))) => Some(seconds),
                    _ => None,
                }
            });
            assert_eq!(told, (style != "none").then_some("3600"), "{key}");
            let entry = format!(r#"{{"entries":[{{"key":"{key}","value":"x"}}]}}"#);
            let call = format!(r#"{{"domain":"shop","hitsAddend":6,"descriptors":[{entry}]}}"#);
            let (status, body) = harness.json(&call).await;
            assert_eq!(status, 429);
            assert!(body.contains(r#""durationUntilReset":"3600s""#), "{body}");
            let path = format!("/explain?domain=shop&descriptor={key}=x&hits=6");
            let (_, body) = harness.admin(&path).await;
            let told: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(told["now"]["reset_ms"], 3_600_000, "{key}");
            assert_eq!(told["now"]["never"], true, "{key}");
        }
    }
}

#[tokio::test]
async fn json_that_makes_no_sense_is_a_bad_request() {
    let harness = Harness::with_policy(POLICY).await;
    for (call, text) in [
        ("", "EOF"),
        ("[]", "not a RateLimitRequest"),
        (r#"{"domain":"shop","colour":"red"}"#, "colour"),
        (
            r#"{"domain":"shop","descriptors":[]}"#,
            "descriptor list must not be empty",
        ),
        (r#"{"domain":"shop"} {}"#, "after the RateLimitRequest"),
        (
            r#"{"domain":"shop","descriptors":[{"limit":{"unit":"FORTNIGHT"}}]}"#,
            "FORTNIGHT",
        ),
    ] {
        let (status, body) = harness.json(call).await;
        assert_eq!(status, 400, "{body}");
        assert!(body.contains(text), "{body}");
    }
}

#[tokio::test]
async fn json_of_any_length_is_answered_or_refused() {
    let harness = Harness::with_policy(POLICY).await;
    let long = "x".repeat(50_000);
    let call = format!(
        r#"{{"domain":"shop","descriptors":[{{"entries":[{{"key":"user","value":"{long}"}}]}}]}}"#
    );
    assert_eq!(harness.json(&call).await.0, 200);
    assert_eq!(harness.json(&call).await.0, 429);
    let (status, _) = harness.json(&format!("[{}]", "{},".repeat(500_000))).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn health_is_told_in_three_ways() {
    let harness = Harness::with_policy(POLICY).await;
    assert_eq!(harness.get("/healthcheck").await, (200, "OK".into()));
    assert_eq!(harness.get("/livez").await.0, 200);
    let (status, body) = harness.get("/readyz").await;
    assert_eq!(status, 200);
    assert!(body.contains("2 rules in 1 domains"), "{body}");
    assert_eq!(harness.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn metrics_count_decisions_by_rule_and_outcome() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    for _ in 0..3 {
        client.code("shop", &[("user", "x")]).await;
    }
    client.code("shop", &[("plan", "gold")]).await;
    client.code("shop", &[("plan", "tin")]).await;
    client.code("nowhere", &[("plan", "tin")]).await;
    let (status, text) = harness.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"tollgate_decisions_total{domain="shop",outcome="allowed",rule="user",source="memory"} 1"#,
        r#"tollgate_decisions_total{domain="shop",outcome="denied",rule="user",source="memory"} 2"#,
        r#"tollgate_decisions_total{domain="shop",outcome="allowed",rule="plan=gold",source="unlimited"} 1"#,
        r#"tollgate_decisions_total{domain="shop",outcome="allowed",rule="(unmatched)",source="unmatched"} 1"#,
        r#"tollgate_decisions_total{domain="(unknown)",outcome="allowed",rule="(unmatched)",source="unmatched"} 1"#,
        "tollgate_store_keys 1",
        "tollgate_requests_in_flight 0",
    ] {
        assert!(text.contains(line), "lacks {line}:\n{text}");
    }
    assert!(text.contains("tollgate_build_info{"), "{text}");
    assert!(
        text.contains("tollgate_decision_duration_seconds_count"),
        "{text}"
    );
}

#[tokio::test]
async fn metrics_can_be_off() {
    let harness = Harness::start(&[("p.yaml", POLICY)], "telemetry: { prometheus: false }")
        .await
        .unwrap();
    assert_eq!(harness.get("/metrics").await.0, 404);
}

const BUCKET: &str = "
domain: bucket
descriptors:
  - key: a*
    share_threshold: true
    shadow_mode: true
    metadata: { team: [x, 1] }
    rate_limit: { requests_per_unit: 4, unit: day, algorithm: token_bucket, burst: 7,
      on_store_failure: deny }
    descriptors:
      - key: free
        value: x
        value_to_metric: true
";

async fn dump(harness: &Harness) -> serde_json::Value {
    let (status, text) = harness.admin("/config_dump").await;
    assert_eq!(status, 200);
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn the_configuration_in_force_is_dumped() {
    let settings = "domains: { shop: { shadow_mode: true, enforce_percent: 30 } }";
    let harness = Harness::start(&[("policy.yaml", POLICY)], settings)
        .await
        .unwrap();
    let dump = dump(&harness).await;
    assert_eq!(dump["settings"]["limits"]["in_flight"], 10_000);
    assert_eq!(dump["policies"]["rules"], 2);
    let shop = &dump["domains"][0];
    assert_eq!(shop["shadow_mode"], true);
    let user = &shop["descriptors"][0];
    assert_eq!(user["rate_limit"]["unit_multiplier"], 5);
    assert_eq!(user["rate_limit"]["enforce_percent"], 30);
    assert!(
        user["rate_limit"]["burst"].is_null(),
        "a window has no bucket"
    );
    assert!(
        user["origin"].as_str().unwrap().contains("policy.yaml:4:"),
        "{user}"
    );
    assert_eq!(shop["descriptors"][1]["rate_limit"]["unlimited"], true);
    assert!(harness.admin("/").await.1.contains("/config_dump"));
}

#[tokio::test]
async fn no_password_is_dumped() {
    let settings = "store: { redis: { url: 'redis://user:hunter2@h:1', failover_urls: \
                    ['rediss://:hunter2@i'], per_second_url: 'redis://:hunter2@j' } }";
    let harness = Harness::start(&[("policy.yaml", POLICY)], settings)
        .await
        .unwrap();
    let dump = dump(&harness).await;
    let redis = &dump["settings"]["store"]["redis"];
    assert_eq!(redis["url"], "redis://user:***@h:1");
    assert_eq!(redis["failover_urls"][0], "rediss://:***@i");
    assert_eq!(redis["per_second_url"], "redis://:***@j");
    assert!(!dump.to_string().contains("hunter2"), "{dump}");
}

#[tokio::test]
async fn every_part_of_a_policy_is_dumped() {
    let harness = Harness::with_policy(BUCKET).await;
    let dump = dump(&harness).await;
    assert_eq!(
        dump["domains"][0],
        serde_json::json!({
            "domain": "bucket",
            "shadow_mode": false,
            "override_denied_hits": "free",
            "override_on_store_failure": "local",
            "descriptors": [{
                "key": "a*",
                "value": null,
                "rule": "a*",
                "origin": dump["domains"][0]["descriptors"][0]["origin"],
                "rate_limit": {
                    "name": null,
                    "requests_per_unit": 4,
                    "unit": "day",
                    "unit_multiplier": 1,
                    "algorithm": "token_bucket",
                    "burst": 7,
                    "denied_hits": "free",
                    "on_store_failure": "deny",
                    "enforce_percent": 100,
                    "replaces": [],
                },
                "shadow_mode": true,
                "quota_mode": false,
                "share_threshold": true,
                "detailed_metric": false,
                "value_to_metric": false,
                "metadata": { "team": ["x", 1.0] },
                "descriptors": [{
                    "key": "free",
                    "value": "x",
                    "rule": null,
                    "origin": null,
                    "rate_limit": null,
                    "shadow_mode": false,
                    "quota_mode": false,
                    "share_threshold": false,
                    "detailed_metric": false,
                    "value_to_metric": true,
                }],
            }],
        })
    );
}

#[tokio::test]
async fn rules_are_listed_as_the_reference_lists_them() {
    let harness = Harness::with_policy(POLICY).await;
    let (status, text) = harness.admin("/rlconfig").await;
    assert_eq!(status, 200);
    assert_eq!(
        text,
        "shop.user: unit=MINUTE requests_per_unit=1 unit_multiplier=5, shadow_mode: false, \
         quota_mode: false\n\
         shop.plan_gold: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false\n"
    );
    let settings = "defaults: { shadow_mode: true }";
    let shadowed = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let (_, text) = shadowed.admin("/rlconfig").await;
    assert_eq!(text.matches("shadow_mode: true").count(), 2, "{text}");
}

#[tokio::test]
async fn explain_knows_what_is_counted_and_charges_nothing() {
    let harness = Harness::with_policy(POLICY).await;
    let explain = async || {
        let (status, text) = harness
            .admin("/explain?domain=shop&descriptor=user%3Dx")
            .await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    for _ in 0..2 {
        let told = explain().await;
        assert_eq!(told["key"], "{shop|user=x}:window:300s");
        assert_eq!(told["now"]["over"], false);
        assert_eq!(told["now"]["counted"], 0);
    }
    let mut client = harness.client().await;
    client
        .ask(request("shop", &[descriptor(&[("user", "x")])]))
        .await;
    let told = explain().await;
    assert_eq!(
        (&told["now"]["over"], &told["now"]["counted"]),
        (&true.into(), &1.into())
    );
    assert_eq!(
        harness
            .admin("/explain?domain=shop&descriptor=user")
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn many_incomplete_requests_do_not_lock_other_requests_out() {
    let harness = Harness::with_policy(POLICY).await;
    for address in [&harness.http, &harness.admin] {
        let mut held = Vec::new();
        // More than either limit.
        for _ in 0..600 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /healthcheck HTT").await.unwrap();
            held.push(stream);
        }
        let (status, _) = harness.get("/healthcheck").await;
        assert_eq!(status, 200);
        let (status, _) = harness.admin("/config_dump").await;
        assert_eq!(status, 200);
        // The oldest has been evicted.
        let mut rest = Vec::new();
        let _reset = within(held[0].read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }
    let mut client = harness.client().await;
    client
        .ask(request("shop", &[descriptor(&[("user", "a")])]))
        .await;
}

#[tokio::test]
async fn json_with_more_objects_than_a_request_has_is_refused_before_it_is_parsed() {
    let harness = Harness::with_policy(POLICY).await;
    let objects = vec!["{}"; 300_000].join(",");
    let (status, body) = harness
        .json(&format!(r#"{{"descriptors":[{objects}]}}"#))
        .await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("300001 objects"), "{body}");
}

/// Sends a request to the admin listener as it is; the response's first line.
async fn raw_admin(harness: &Harness, request: &str) -> String {
    let mut stream = TcpStream::connect(&harness.admin).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    within(stream.read_to_string(&mut response)).await.unwrap();
    response.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn requests_that_a_web_page_could_send_are_refused_and_counted() {
    let harness = Harness::start(
        &[("p.yaml", POLICY)],
        "admin: { allowed_hosts: [tollgate-admin] }\n",
    )
    .await
    .unwrap();
    for (request, host, headers, wanted) in [
        ("GET /config_dump", "evil.example", "", "403"),
        ("GET /top", "evil.example:6070", "", "403"),
        ("GET http://evil.example/top", "localhost", "", "403"),
        ("GET /top", "localhost", "", "200"),
        ("GET /top", "127.0.0.1:6070", "", "200"),
        ("GET /top", "tollgate-admin:6070", "", "200"),
        ("POST /log?level=info", "localhost", "", "403"),
        (
            "POST /log?level=info",
            "localhost",
            "origin: null\r\n",
            "403",
        ),
        // A test has no log that it could change.
        (
            "POST /log?level=info",
            "localhost",
            "x-requested-with: curl\r\n",
            "409",
        ),
    ] {
        let text = format!(
            "{request} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
        );
        let line = raw_admin(&harness, &text).await;
        assert!(
            line.starts_with(&format!("HTTP/1.1 {wanted}")),
            "{text}{line}"
        );
    }
    let (_, metrics) = harness.get("/metrics").await;
    for line in [
        "tollgate_admin_refusals_total{reason=\"host\"} 3",
        "tollgate_admin_refusals_total{reason=\"cross_site\"} 1",
        "tollgate_admin_refusals_total{reason=\"browser\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}
