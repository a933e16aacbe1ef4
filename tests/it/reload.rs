//! Policies and settings that change under a running Tollgate.

use std::os::unix::fs::symlink;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::google::protobuf::UInt64Value;
use tollgate::app::Control;
use tollgate::clock::Clock;

use crate::harness::{Harness, NOON, descriptor, request, until};

fn policy(limit: u32) -> String {
    format!(
        "domain: shop\ndescriptors:\n  - key: user\n    rate_limit: \
         {{ requests_per_unit: {limit}, unit: minute }}\n"
    )
}

/// The limit in force, asked without charging.
async fn limit(harness: &Harness) -> Option<u32> {
    let mut peek = descriptor(&[("user", "nobody")]);
    peek.hits_addend = Some(UInt64Value { value: 0 });
    let answer = harness.client().await.ask(request("shop", &[peek])).await;
    answer.statuses[0]
        .current_limit
        .as_ref()
        .map(|limit| limit.requests_per_unit)
}

async fn comes_to(harness: &Harness, want: Option<u32>) {
    until(&format!("limit {want:?}"), async || {
        limit(harness).await == want
    })
    .await;
}

#[tokio::test]
async fn an_edit_takes_effect_and_keeps_the_counts() {
    let harness = Harness::with_policy(&policy(2)).await;
    let mut client = harness.client().await;
    for code in [Code::Ok, Code::Ok, Code::OverLimit] {
        assert_eq!(client.code("shop", &[("user", "x")]).await, code);
    }
    harness.write("policy.yaml", &policy(3));
    comes_to(&harness, Some(3)).await;
    for code in [Code::Ok, Code::OverLimit] {
        assert_eq!(client.code("shop", &[("user", "x")]).await, code);
    }
}

#[tokio::test]
async fn files_added_renamed_over_and_removed_are_noticed() {
    let harness = Harness::with_policy("domain: other\n").await;
    assert_eq!(limit(&harness).await, None);
    harness.write("shop.yaml", &policy(5));
    comes_to(&harness, Some(5)).await;
    harness.write("shop.tmp", &policy(6));
    let path = |name| harness.folder.path().join(name);
    std::fs::rename(path("shop.tmp"), path("shop.yaml")).unwrap();
    comes_to(&harness, Some(6)).await;
    std::fs::remove_file(path("shop.yaml")).unwrap();
    comes_to(&harness, None).await;
}

#[tokio::test]
async fn a_kubernetes_volume_swap_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, limit| {
        let version = folder.path().join(name);
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("shop.yaml"), policy(limit)).unwrap();
    };
    version("..2026_1", 7);
    symlink("..2026_1", folder.path().join("..data")).unwrap();
    symlink("..data/shop.yaml", folder.path().join("shop.yaml")).unwrap();
    version("..2026_2", 8);
    let path = folder.path().to_owned();
    let harness = Harness::serve(folder, "", Clock::manual(NOON))
        .await
        .unwrap();
    assert_eq!(limit(&harness).await, Some(7));
    symlink("..2026_2", path.join("..data_tmp")).unwrap();
    std::fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    comes_to(&harness, Some(8)).await;
}

#[tokio::test]
async fn a_bad_policy_never_takes_effect_and_readyz_says_why() {
    let harness = Harness::with_policy(&policy(4)).await;
    harness.write("policy.yaml", "domain: shop\ndescriptors:\n  - key: user\n    rate_limit: { unit: minutes, requests_per_unit: 9 }\n");
    until("readyz tells", async || {
        let (status, body) = harness.get("/readyz").await;
        assert_eq!(status, 200);
        // Nothing of what the file holds.
        body.contains("policy.yaml:4:") && !body.contains("minutes")
    })
    .await;
    let why = dump(&harness).await["policies"]["refused"].to_string();
    assert!(why.contains("minutes"), "{why}");
    assert_eq!(limit(&harness).await, Some(4));
    let (_, metrics) = harness.get("/metrics").await;
    assert!(
        metrics.contains("\ntollgate_policy_refused 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"tollgate_policy_reloads_total{result="refused"} 1"#)
            && metrics.contains(r#"tollgate_policy_reloads_total{result="accepted"} 1"#),
        "{metrics}"
    );
    harness.write("policy.yaml", &policy(5));
    comes_to(&harness, Some(5)).await;
    assert!(!harness.get("/readyz").await.1.contains("refused"));
    let (_, metrics) = harness.get("/metrics").await;
    assert!(
        metrics.contains("\ntollgate_policy_refused 0\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_folder_that_is_gone_keeps_the_last_good_policy() {
    let harness = Harness::with_policy(&policy(4)).await;
    let away = harness.folder.path().with_extension("away");
    std::fs::rename(harness.folder.path(), &away).unwrap();
    until("readyz tells", async || {
        harness.get("/readyz").await.1.contains("refused")
    })
    .await;
    assert_eq!(limit(&harness).await, Some(4));
    std::fs::write(away.join("policy.yaml"), policy(6)).unwrap();
    std::fs::rename(&away, harness.folder.path()).unwrap();
    comes_to(&harness, Some(6)).await;
}

#[tokio::test]
async fn a_change_that_a_hangup_saw_and_the_watcher_did_not_can_be_taken_back() {
    let harness = Harness::with_policy(&policy(4)).await;
    // Well within the time that the watcher waits for quiet.
    harness.write("policy.yaml", &policy(5));
    harness.tell(Control::Reload).await;
    comes_to(&harness, Some(5)).await;
    harness.write("policy.yaml", &policy(4));
    comes_to(&harness, Some(4)).await;
    // Half a file that a hangup read is not what is refused for good.
    harness.write("policy.yaml", "domain: shop\ndescriptors:\n  - ke");
    harness.tell(Control::Reload).await;
    until("readyz tells", async || {
        harness.get("/readyz").await.1.contains("refused")
    })
    .await;
    harness.write("policy.yaml", &policy(4));
    until("readyz tells no more", async || {
        !harness.get("/readyz").await.1.contains("refused")
    })
    .await;
}

#[tokio::test]
async fn reloads_under_load_cost_no_call() {
    let harness = Harness::with_policy(&policy(1_000_000)).await;
    let mut callers = Vec::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for caller in 0..8 {
        let (mut client, stopped) = (harness.client().await, stopped.clone());
        callers.push(tokio::spawn(async move {
            let mut calls = 0_u32;
            while !*stopped.borrow() {
                let user = format!("user-{caller}");
                assert_eq!(client.code("shop", &[("user", &user)]).await, Code::Ok);
                calls += 1;
            }
            calls
        }));
    }
    for limit in 1_000_001..1_000_006 {
        harness.write("policy.yaml", &policy(limit));
        comes_to(&harness, Some(limit)).await;
    }
    stop.send(true).unwrap();
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}

/// Asks for so many hits that no limit here allows them.
async fn overall(harness: &Harness) -> Code {
    let mut much = descriptor(&[("user", "x")]);
    much.hits_addend = Some(UInt64Value { value: 100 });
    let answer = harness.client().await.ask(request("shop", &[much])).await;
    assert_eq!(answer.statuses[0].code(), Code::OverLimit);
    answer.overall_code()
}

async fn switched(harness: &Harness) {
    harness.tell(Control::Reload).await;
    until("the switch is thrown", async || {
        overall(harness).await == Code::Ok
    })
    .await;
}

async fn dump(harness: &Harness) -> serde_json::Value {
    serde_json::from_str(&harness.admin("/config_dump").await.1).unwrap()
}

const UNWATCHED: &str = "policies: { watch: false }\n";

const SWITCH: &str = "policies: { watch: false }\ndefaults: { shadow_mode: true }\n";

#[tokio::test]
async fn a_hangup_applies_defaults_and_domains_at_once() {
    let harness = Harness::start(&[("p.yaml", &policy(2))], UNWATCHED)
        .await
        .unwrap();
    assert_eq!(overall(&harness).await, Code::OverLimit);
    harness.write_settings(SWITCH);
    switched(&harness).await;
    // Settings that make no sense leave everything as it is, and keep no policy from taking effect.
    harness.write_settings("policies: { watch: false }\ndefaults: { shadow_mode: perhaps }\n");
    harness.write("p.yaml", &policy(3));
    harness.tell(Control::Reload).await;
    comes_to(&harness, Some(3)).await;
    assert_eq!(overall(&harness).await, Code::Ok);
    let (_, ready) = harness.get("/readyz").await;
    assert!(
        ready.contains("settings refused") && !ready.contains("perhaps"),
        "{ready}"
    );
    let why = dump(&harness).await["settings_refused"].to_string();
    assert!(why.contains("perhaps"), "{why}");
    assert_eq!(
        dump(&harness).await["settings"]["defaults"]["shadow_mode"],
        true
    );
    let (_, metrics) = harness.get("/metrics").await;
    assert!(
        metrics.contains("\ntollgate_settings_refused 1\n"),
        "{metrics}"
    );
    harness
        .write_settings("policies: { watch: false }\ndomains: { shop: { shadow_mode: true } }\n");
    harness.tell(Control::Reload).await;
    until("the settings are accepted", async || {
        !harness.get("/readyz").await.1.contains("refused")
    })
    .await;
    assert_eq!(overall(&harness).await, Code::Ok);
}

#[tokio::test]
async fn the_emergency_switch_works_while_the_policies_on_disk_are_broken() {
    let harness = Harness::start(
        &[("p.yaml", &policy(2)), ("q.yaml", "domain: other\n")],
        UNWATCHED,
    )
    .await
    .unwrap();
    harness.write("q.yaml", "domain: [");
    harness.write_settings(SWITCH);
    switched(&harness).await;
    // They are shown when all that depends on them has been changed.
    until("the settings are shown", async || {
        dump(&harness).await["settings"]["defaults"]["shadow_mode"] == true
    })
    .await;
    let told = dump(&harness).await;
    assert_eq!(told["domains"].as_array().unwrap().len(), 2);
    assert!(
        told["policies"]["refused"]
            .as_str()
            .unwrap()
            .contains("q.yaml")
    );
    let (_, metrics) = harness.get("/metrics").await;
    for gauge in ["tollgate_policy_refused 1", "tollgate_settings_refused 0"] {
        assert!(metrics.contains(&format!("\n{gauge}\n")), "{metrics}");
    }
    // And off again, with the folder gone.
    std::fs::remove_dir_all(harness.folder.path()).unwrap();
    harness.write_settings(UNWATCHED);
    harness.tell(Control::Reload).await;
    until("the switch is off", async || {
        overall(&harness).await == Code::OverLimit
    })
    .await;
    let why = dump(&harness).await["policies"]["refused"].to_string();
    assert!(why.contains("does not exist"), "{why}");
}

#[tokio::test]
async fn settings_that_the_policies_do_not_suit_change_nothing() {
    let charged = "domain: shop\ndescriptors:\n  - key: user\n    rate_limit: \
        { requests_per_unit: 2, unit: minute, denied_hits: charged }\n";
    let harness = Harness::start(&[("p.yaml", charged)], UNWATCHED)
        .await
        .unwrap();
    harness.write_settings(&format!(
        "{UNWATCHED}defaults: {{ shadow_mode: true, algorithm: sliding_log }}\n"
    ));
    harness.tell(Control::Reload).await;
    until("readyz tells", async || {
        harness.get("/readyz").await.1.contains("settings refused")
    })
    .await;
    let told = dump(&harness).await;
    let defaults = &told["settings"]["defaults"];
    assert_eq!(
        (&defaults["shadow_mode"], &defaults["algorithm"]),
        (&false.into(), &"fixed_window".into())
    );
    let why = told["settings_refused"].as_str().unwrap();
    assert!(
        why.contains("defaults.algorithm: fixed_window -> sliding_log")
            && why.contains("p.yaml:4:"),
        "{why}"
    );
    assert!(told["policies"]["refused"].is_null());
    assert_eq!(overall(&harness).await, Code::OverLimit);
    // Nor do they keep policies from taking effect that suit the settings in force.
    harness.write("p.yaml", &charged.replace(": 2", ": 7"));
    harness.tell(Control::Reload).await;
    comes_to(&harness, Some(7)).await;
    // Both changed so that they suit each other.
    harness.write("p.yaml", &policy(9));
    harness.tell(Control::Reload).await;
    until("all is accepted", async || {
        !harness.get("/readyz").await.1.contains("refused")
    })
    .await;
    assert_eq!(limit(&harness).await, Some(9));
    assert_eq!(overall(&harness).await, Code::Ok);
}

#[tokio::test]
async fn a_refusal_of_ten_thousand_problems_is_told_in_short() {
    let harness = Harness::with_policy(&policy(4)).await;
    let mut bad = "domain: shop\ndescriptors:\n".to_owned();
    for _ in 0..12_000 {
        bad.push_str("  - kee: user\n");
    }
    harness.write("policy.yaml", &bad);
    until("readyz tells", async || {
        harness.get("/readyz").await.1.contains("refused")
    })
    .await;
    let (_, ready) = harness.get("/readyz").await;
    assert!(ready.lines().count() < 5 && ready.len() < 500, "{ready}");
    let told = dump(&harness).await;
    let whole = told["policies"]["refused"].as_str().unwrap();
    assert!(whole.lines().count() > 9_000);
}

#[tokio::test]
async fn a_bad_policy_at_the_start_is_refused() {
    for policy in ["", "domain: x\ndescriptors: 5\n", "domain: [\n"] {
        assert!(Harness::start(&[("p.yaml", policy)], "").await.is_err());
    }
    let refused = Harness::start(&[("readme.txt", "no policy")], "")
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains(".yaml"), "{refused}");
}
