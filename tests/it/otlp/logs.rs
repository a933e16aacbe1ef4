//! What is logged changes while the service runs.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::POLICY;
use crate::envoy::bed::Tollgate;
use crate::harness::{Client, http_call};
use crate::process::until;

async fn admin(tollgate: &Tollgate, method: http::Method, path: &str) -> (u16, String) {
    http_call(&tollgate.admin.to_string(), method, path, "").await
}

async fn get(tollgate: &Tollgate, path: &str) -> Value {
    let (status, body) = admin(tollgate, http::Method::GET, path).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn post(tollgate: &Tollgate, path: &str) -> (u16, String) {
    admin(tollgate, http::Method::POST, path).await
}

async fn client(tollgate: &Tollgate) -> Client {
    Client::connect(&tollgate.grpc.to_string()).await
}

#[tokio::test]
async fn the_level_is_changed_by_hand_until_settings_are_read_again() {
    let tollgate = Tollgate::start("", POLICY, None).await;
    assert_eq!(get(&tollgate, "/log").await["level"], "info");
    assert!(!tollgate.process.said("DEBUG"));
    let (status, body) = post(&tollgate, "/log?level=debug").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(get(&tollgate, "/log").await["level"], "debug");
    client(&tollgate)
        .await
        .code("shop", &[("plan", "gold")])
        .await;
    until("something to be said at debug", || {
        tollgate.process.said("DEBUG").then_some(())
    })
    .await;
    let (status, body) = post(&tollgate, "/log?level=loud").await;
    assert_eq!(status, 400);
    assert!(body.contains("unknown log level \"loud\""), "{body}");
    assert_eq!(post(&tollgate, "/log").await.0, 400);
    assert_eq!(admin(&tollgate, http::Method::DELETE, "/log").await.0, 405);
    assert_eq!(get(&tollgate, "/log").await["level"], "debug");
    tollgate.process.signal("HUP");
    crate::harness::until("the level of the settings", async || {
        get(&tollgate, "/log").await["level"] == "info"
    })
    .await;
}

#[tokio::test]
async fn a_web_page_may_change_nothing() {
    let tollgate = Tollgate::start("", POLICY, None).await;
    for path in ["/log?level=trace", "/decision-log?domain=shop&ratio=1"] {
        let mut stream = TcpStream::connect(tollgate.admin).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\norigin: http://a\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    assert_eq!(get(&tollgate, "/log").await["level"], "info");
    let report = get(&tollgate, "/decision-log").await;
    assert_eq!(report["domains"], serde_json::json!({}));
}

/// The lines of the decision log so far.
fn decisions(tollgate: &Tollgate) -> Vec<Value> {
    let lines = tollgate.process.lines();
    let lines = lines.iter().filter(|line| line.starts_with("{\"time\":"));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn wait_for(tollgate: &Tollgate, many: usize) -> Vec<Value> {
    until("lines of the decision log", || {
        let lines = decisions(tollgate);
        (lines.len() >= many).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn the_decisions_of_one_domain_are_written_down_while_somebody_asks_for_it() {
    let tollgate = Tollgate::start("", POLICY, None).await;
    let mut client = client(&tollgate).await;
    client.code("shop", &[("user_id", "before")]).await;
    let shares = |report: &Value| report["domains"].clone();
    assert_eq!(
        shares(&get(&tollgate, "/decision-log").await),
        serde_json::json!({})
    );
    for wrong in [
        "",
        "?domain=shop",
        "?domain=shop&ratio=2",
        "?domain=&ratio=1",
        "?domain=shop&ratio=nan",
        "?domain=shop&ratio=x",
    ] {
        let (status, body) = post(&tollgate, &format!("/decision-log{wrong}")).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
    let (status, body) = post(&tollgate, "/decision-log?domain=shop&ratio=1").await;
    assert_eq!(status, 200, "{body}");
    let report = get(&tollgate, "/decision-log").await;
    assert_eq!(shares(&report), serde_json::json!({ "shop": 1.0 }));
    for _ in 0..3 {
        client.code("shop", &[("user_id", "alice")]).await;
        client.code("elsewhere", &[("user_id", "alice")]).await;
    }
    let lines = wait_for(&tollgate, 3).await;
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (turn, line) in lines.iter().enumerate() {
        assert_eq!(line["domain"], "shop");
        let denied = turn == 2;
        assert_eq!(line["verdict"], if denied { "over_limit" } else { "ok" });
        let descriptor = &line["descriptors"][0];
        assert_eq!(descriptor["entries"][0]["value"], "alice");
        assert_eq!(descriptor["rule"], "user_id");
        let outcome = if denied { "denied" } else { "allowed" };
        assert_eq!(descriptor["outcome"], outcome);
        assert_eq!(descriptor["source"], "memory");
        assert_eq!(
            (&descriptor["limit"], &descriptor["hits"]),
            (&2.into(), &1.into())
        );
        assert_eq!(descriptor["counted"], (turn + 1).min(2));
    }
    post(&tollgate, "/decision-log?domain=shop&ratio=0").await;
    client.code("shop", &[("user_id", "after")]).await;
    post(&tollgate, "/decision-log?domain=shop&ratio=1").await;
    client.code("shop", &[("user_id", "at last")]).await;
    let lines = wait_for(&tollgate, 4).await;
    let last = &lines[3]["descriptors"][0]["entries"][0]["value"];
    assert_eq!((lines.len(), last), (4, &"at last".into()));
}

#[tokio::test]
async fn a_setting_turns_the_decision_log_on_and_a_reload_brings_it_back() {
    let settings = "domains: {shop: {decision_log: 1}}\n";
    let tollgate = Tollgate::start(settings, POLICY, None).await;
    let mut client = client(&tollgate).await;
    client.code("shop", &[("user_id", "alice")]).await;
    wait_for(&tollgate, 1).await;
    post(&tollgate, "/decision-log?domain=shop&ratio=0").await;
    tollgate.process.signal("HUP");
    crate::harness::until("the share of the settings", async || {
        get(&tollgate, "/decision-log").await["domains"]["shop"] == 1.0
    })
    .await;
}
