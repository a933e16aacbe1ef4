//! Counters that operators look at and reset in a running server.

use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use crate::cli::{POLICY, Served, run, text};
use crate::harness::{Harness, http_call};

/// Asks `/counters` for a user of the domain `shop`.
async fn counter(harness: &Harness, method: http::Method, user: &str) -> serde_json::Value {
    let path = format!("/counters?domain=shop&descriptor=user%3D{user}");
    let (status, body) = http_call(&harness.admin, method, &path, "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_reset_gives_one_user_the_whole_limit_again() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    for user in ["x", "y"] {
        for _ in 0..2 {
            assert_eq!(client.code("shop", &[("user", user)]).await, Code::Ok);
        }
        let denied = client.code("shop", &[("user", user)]).await;
        assert_eq!(denied, Code::OverLimit);
    }
    harness.advance(Duration::from_secs(15));
    let shown = counter(&harness, http::Method::GET, "x").await;
    assert_eq!(shown["key"], "{shop|user=x}:window:60s");
    assert_eq!(
        (&shown["limit"], &shown["now"]["counted"]),
        (&2.into(), &2.into())
    );
    assert_eq!(shown["now"]["reset_ms"], 45_000);
    let reset = counter(&harness, http::Method::DELETE, "x").await;
    assert_eq!(reset["before"], shown["now"]);
    assert_eq!(reset["now"]["counted"], 0);
    for code in [Code::Ok, Code::Ok, Code::OverLimit] {
        assert_eq!(client.code("shop", &[("user", "x")]).await, code);
    }
    let other = client.code("shop", &[("user", "y")]).await;
    assert_eq!(other, Code::OverLimit);
    assert!(harness.admin("/").await.1.contains("/counters"));
}

#[tokio::test]
async fn the_command_resets_and_says_what_was_counted() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    client.code("shop", &[("user", "x")]).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let token = token.to_str().unwrap().to_owned();
    let (admin, http) = (harness.admin.clone(), harness.http.clone());
    let commands = tokio::task::spawn_blocking(move || {
        let reset = |descriptor| run(&["reset", "--admin", &admin, "shop", descriptor]);
        let (code, out, err) = reset("user=x");
        assert_eq!(code, 0, "{err}");
        for part in [
            "shop  user=x\n",
            "rule     user\n",
            "limit    2 per 60 s (fixed_window)\n",
            "counter  {shop|user=x}:window:60s\n",
            "before   1 counted, 1 left, reset in 60 s (by memory)\n",
            "now      0 counted, 2 left, reset in 60 s (by memory)\n",
        ] {
            assert!(out.contains(part), "lacks {part}:\n{out}");
        }
        let arguments = [
            "reset",
            "--admin",
            &admin,
            "--json",
            "--token-file",
            &token,
            "shop",
            "user=x",
        ];
        let (code, out, err) = run(&arguments);
        assert_eq!(code, 0, "{err}");
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["before"]["counted"], 0);
        for (descriptor, why) in [("user=root", "exempts"), ("other=x", "nothing matches")] {
            let (code, out, err) = reset(descriptor);
            assert_eq!((code, out.as_str()), (1, ""), "{err}");
            assert!(err.contains("404") && err.contains(why), "{err}");
        }
        for (arguments, code, why) in [
            (&["--admin", &http, "shop", "user=x"][..], 1, "listen.admin"),
            (
                &["--admin", "127.0.0.1:1", "shop", "user=x"],
                1,
                "is Tollgate running there?",
            ),
            (
                &[
                    "--admin",
                    &admin,
                    "--token-file",
                    "/nowhere",
                    "shop",
                    "user=x",
                ],
                1,
                "cannot read the token /nowhere",
            ),
            (&["--admin", &admin, "shop", "user"], 2, "is not key=value"),
            (&["shop", "user=x"], 2, "--admin"),
        ] {
            let (ended, _, err) = run(&[&["reset"], arguments].concat());
            assert_eq!(ended, code, "{arguments:?}\n{err}");
            assert!(err.contains(why), "{arguments:?}\n{err}");
        }
    });
    commands.await.unwrap();
}

#[test]
fn whoever_may_enter_the_unix_socket_may_reset() {
    let folder = tempfile::tempdir().unwrap();
    // A window that does not end meanwhile.
    let policy = POLICY.replace("minute", "year");
    std::fs::write(folder.path().join("shop.yaml"), policy).unwrap();
    let admin = format!("unix:{}", text(&folder.path().join("admin.sock")));
    let (policies, free) = (text(folder.path()), "127.0.0.1:0");
    let listeners = ["--grpc", free, "--http", free, "--admin", &admin];
    let (served, _) = Served::start(&[&["--policies", policies], &listeners[..]].concat());
    let charge = ["query", "--addr", &served.grpc, "shop", "user=x"];
    assert_eq!(run(&charge).0, 0);
    let (code, out, err) = run(&["reset", "--admin", &admin, "shop", "user=x"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("before   1 counted"), "{out}");
}
