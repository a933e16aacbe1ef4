//! Passwords reach the server and nobody else.

use crate::cli::{POLICY, Served, text};
use crate::harness::{http_call, until};
use crate::topology::{Flavour, Single, Topology};

/// Starts a Tollgate that logs everything; its log until it was asked for all that it shows, and
/// what it showed.
async fn shown(store: &str, state: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("tollgate.yaml");
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("shop.yaml"), POLICY).unwrap();
    let written = format!(
        "store: {{kind: redis, redis: {{{store}}}}}\n\
         circuit_breaker: {{probe_interval: 50ms}}\n\
         telemetry: {{log: {{level: trace}}}}\n"
    );
    std::fs::write(&settings, written).unwrap();
    let (served, log) = Served::start(&[
        "--config",
        text(&settings),
        "--policies",
        text(&policies),
        "--grpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let mut all = log.join("\n");
    let get = async |path| {
        http_call(&served.admin, http::Method::GET, path, "")
            .await
            .1
    };
    let wanted = format!("\"state\":\"{state}\"");
    until("the store is so", async || {
        get("/store").await.contains(&wanted)
    })
    .await;
    for path in [
        "/store",
        "/config_dump",
        "/counters?domain=shop&descriptor=user%3Dann",
    ] {
        all += &get(path).await;
    }
    let reset = "/counters?domain=shop&descriptor=user%3Dann";
    all += &http_call(&served.admin, http::Method::DELETE, reset, "")
        .await
        .1;
    all += &served.log.lock().join("\n");
    all
}

#[tokio::test]
async fn a_password_is_shown_nowhere_whether_it_is_right_or_wrong() {
    let single = Single::start(Flavour::Redis7).await;
    let server = &single.server;
    let addr = server.addr();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let mut admin = server.connect().await.unwrap();
    let line = ["CONFIG", "SET", "requirepass", "hunter2-right"];
    admin.call(&line).await.unwrap();
    for (password, state) in [("hunter2-right", "closed"), ("hunter2-wrong", "open")] {
        let all = shown(&format!("url: \"redis://:{password}@{addr}\""), state).await;
        assert!(all.contains("***"), "it says that there is one");
        is_clean(&all);
        std::fs::write(&file, format!("{password}\n")).unwrap();
        let by_file = format!(
            "url: \"{}\", password_file: \"{}\"",
            single.url(),
            text(&file)
        );
        is_clean(&shown(&by_file, state).await);
    }
}

fn is_clean(all: &str) {
    assert!(all.contains(" DEBUG "), "all is logged");
    let leak = all.lines().find(|line| line.contains("hunter2"));
    assert!(leak.is_none(), "{leak:?}");
}
