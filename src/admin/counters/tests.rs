use std::num::NonZeroU32;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::super::top::TopReport;
use super::super::{AllowedHosts, Status, Token, dump};
use super::*;
use crate::clock::{Clock, Timestamp};
use crate::event::Silence;
use crate::model::{Peer, Query as Asking};
use crate::pipeline::{Caps, Pipeline};
use crate::policy::testing::{per_minute, policies};
use crate::policy::{Limit, Rule};
use crate::store::{MemoryConfig, MemoryStore, Store};

const NOON: Timestamp = Timestamp::from_millis(1_795_521_600_000);

fn state(max_keys: u32, token: Option<&str>) -> AdminState {
    let unlimited = Rule {
        limit: Limit::Unlimited,
        ..per_minute("plan=gold", 1)
    };
    let pipeline = Pipeline::new(
        policies("shop", vec![per_minute("user", 2), unlimited]),
        Store::Memory(Arc::new(MemoryStore::new(MemoryConfig {
            max_keys: NonZeroU32::new(max_keys).unwrap(),
        }))),
        Arc::new(Silence),
        Clock::manual(NOON),
        Caps {
            descriptors: 10,
            entries: 10,
        },
    );
    AdminState {
        log: None,
        allowed_hosts: AllowedHosts::default(),
        refusals: Arc::default(),
        pipeline: Arc::new(pipeline),
        lane: None,
        status: Arc::new(Status::default()),
        metrics: Arc::new(|| Ok(Vec::new())),
        top: Arc::new(|_| TopReport {
            seconds: 60,
            keys: Vec::new(),
            overflowing: Vec::new(),
        }),
        alerts: Arc::new(crate::alert::Overview::default),
        settings: Arc::new(|| serde_json::Value::Null),
        written: Arc::new(|| Ok(Vec::new())),
        token: token.map(|secret| Token::new(secret.as_bytes()).unwrap()),
    }
}

/// Charges one hit; whether it was denied.
fn charge(state: &AdminState, user: &str) -> bool {
    let text = DescriptorText::parse(&format!("user={user}")).unwrap();
    let query = Asking {
        domain: b"shop",
        descriptors: [text.descriptor()].into_iter().collect(),
        hits_addend: 1,
        trace: None,
    };
    let store = state.pipeline.store().memory();
    let snapshot = state.pipeline.snapshot();
    snapshot.answer(&query, store).unwrap().denied
}

fn peer(address: &str) -> Option<ConnectInfo<Peer>> {
    Some(ConnectInfo(Peer::Tcp(address.parse().unwrap())))
}

fn local() -> Option<ConnectInfo<Peer>> {
    peer("127.0.0.1:5000")
}

fn remote() -> Option<ConnectInfo<Peer>> {
    peer("192.0.2.1:5000")
}

struct Said {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Said {
    fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn call(
    state: &AdminState,
    method: Method,
    query: &str,
    peer: Option<ConnectInfo<Peer>>,
    headers: &[(&str, &str)],
) -> Said {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/counters{query}"));
    let (authorization, by_tool) = ("authorization", ("x-requested-with", "curl"));
    let has_own = headers.iter().any(|(name, _)| *name == authorization);
    // As a tool without a token asks.
    let by_tool = (!has_own).then_some(&by_tool);
    for (name, value) in headers.iter().chain(by_tool) {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let response = dump::routes(state.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Said {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn get_from(state: &AdminState, query: &str) -> Said {
    call(state, Method::GET, query, remote(), &[]).await
}

const ALICE: &str = "?domain=shop&descriptor=user%3Dalice";

#[tokio::test]
async fn a_counter_is_shown_and_not_charged() {
    let state = state(100, None);
    charge(&state, "alice");
    for _ in 0..2 {
        assert_eq!(
            get_from(&state, ALICE).await.json(),
            serde_json::json!({
                "domain": "shop",
                "descriptor": "user=alice",
                "rule": "user",
                "key": "{shop|user=alice}:window:60s",
                "limit": 2,
                "window_ms": 60_000,
                "algorithm": "fixed_window",
                "now": {
                    "counted": 1,
                    "remaining": 1,
                    "over": false,
                    "reset_ms": 60_000,
                    "source": "memory",
                },
            })
        );
    }
}

#[tokio::test]
async fn a_counter_that_is_reset_is_fresh_and_others_stay() {
    let state = state(100, None);
    for user in ["alice", "bob"] {
        assert!(!charge(&state, user));
        assert!(!charge(&state, user));
        assert!(charge(&state, user));
    }
    let told = call(&state, Method::DELETE, ALICE, local(), &[])
        .await
        .json();
    assert_eq!(told["before"]["counted"], 2);
    assert_eq!(told["before"]["over"], true);
    assert_eq!(told["now"]["counted"], 0);
    assert_eq!(told["now"]["remaining"], 2);
    assert!(!charge(&state, "alice"));
    assert!(charge(&state, "bob"));
    // What has no state yet can be reset too.
    let nobody = "?domain=shop&descriptor=user%3Dnobody";
    let told = call(&state, Method::DELETE, nobody, local(), &[])
        .await
        .json();
    assert_eq!(told["before"], told["now"]);
}

#[tokio::test]
async fn without_a_token_only_this_machine_resets() {
    let state = state(100, None);
    charge(&state, "alice");
    let before = get_from(&state, ALICE).await.body;
    let web = [("origin", "http://localhost:6070")];
    for (peer, headers, hint) in [
        (remote(), &[][..], "admin.token_file"),
        (None, &[], "admin.token_file"),
        (
            remote(),
            &[("authorization", "Bearer x")],
            "admin.token_file",
        ),
        (local(), &web, "web pages"),
    ] {
        let told = call(&state, Method::DELETE, ALICE, peer, headers).await;
        assert_eq!(told.status, 403, "{peer:?}");
        assert!(told.body.contains(hint), "{}", told.body);
        assert_eq!(get_from(&state, ALICE).await.body, before, "{peer:?}");
    }
    let unix = Some(ConnectInfo(Peer::Unix));
    let told = call(&state, Method::DELETE, ALICE, unix, &[]).await;
    assert_eq!(told.json()["now"]["counted"], 0);
}

#[tokio::test]
async fn with_a_token_only_those_who_bring_it_reset() {
    let state = state(100, Some("s3cret"));
    charge(&state, "alice");
    let before = get_from(&state, ALICE).await.body;
    for (headers, hint) in [
        (&[][..], "--token-file"),
        (&[("authorization", "Bearer guess")], "is not what"),
    ] {
        let told = call(&state, Method::DELETE, ALICE, local(), headers).await;
        assert_eq!(told.status, 401);
        assert_eq!(told.headers["www-authenticate"], "Bearer");
        assert!(told.body.contains(hint), "{}", told.body);
        assert_eq!(get_from(&state, ALICE).await.body, before);
    }
    let headers = [("authorization", "Bearer s3cret")];
    let told = call(&state, Method::DELETE, ALICE, remote(), &headers).await;
    assert_eq!(told.json()["before"]["counted"], 1);
}

#[tokio::test]
async fn what_has_no_counter_says_why() {
    let state = state(100, None);
    for (query, status, why) in [
        ("?domain=shpo&descriptor=a%3Db", 404, "did you mean `shop`?"),
        (
            "?domain=shop&descriptor=a%3Db",
            404,
            "nothing matches entry 1",
        ),
        (
            "?domain=shop&descriptor=plan%3Dgold",
            404,
            "plan=gold is unlimited",
        ),
        ("?domain=shop&descriptor=user", 400, "is not key=value"),
        ("?domain=shop", 400, "descriptor"),
        ("", 400, "domain"),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let told = call(&state, method, query, local(), &[]).await;
            assert_eq!(told.status, status, "{query}");
            assert!(told.body.contains(why), "{query}: {}", told.body);
        }
    }
}

#[tokio::test]
async fn nothing_but_get_and_delete_is_allowed() {
    let state = state(100, None);
    charge(&state, "alice");
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
        let told = call(&state, method.clone(), ALICE, local(), &[]).await;
        assert_eq!(told.status, 405, "{method}");
        assert_eq!(told.headers["allow"], "GET, DELETE", "{method}");
    }
    assert_eq!(get_from(&state, ALICE).await.json()["now"]["counted"], 1);
}

#[tokio::test]
async fn a_shared_counter_is_shown_but_not_reset() {
    let state = state(1, None);
    charge(&state, "first");
    charge(&state, "alice");
    let shown = get_from(&state, ALICE).await.json();
    assert_eq!(shown["now"]["source"], "overflow");
    let told = call(&state, Method::DELETE, ALICE, local(), &[]).await;
    assert_eq!(told.status, 409);
    assert!(told.body.contains("max_keys"), "{}", told.body);
    assert_eq!(get_from(&state, ALICE).await.json(), shown);
}
