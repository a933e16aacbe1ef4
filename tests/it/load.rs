//! `tollgate load`, as people run it.

use std::process::Command;

use serde_json::Value;

use crate::cli::{POLICY, Served, run};
use crate::process::{Process, until};

/// A server for the policy of the other commands' tests.
fn served() -> (tempfile::TempDir, Served) {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("shop.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let free = "127.0.0.1:0";
    let policies = policy.to_str().unwrap();
    let (served, _) = Served::start(&[
        "--policies",
        policies,
        "--grpc",
        free,
        "--http",
        free,
        "--admin",
        free,
    ]);
    (folder, served)
}

#[test]
fn every_call_is_told_as_it_was_answered() {
    let (_folder, served) = served();
    let (code, out, errors) = run(&[
        "load",
        "--addr",
        &served.grpc,
        "--duration",
        "500ms",
        "--json",
        "shop",
        "user=load-%",
        "--keys",
        "3",
    ]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    let number = |name: &str| told[name].as_u64().unwrap();
    assert_eq!(number("ok") + number("over_limit"), number("answers"));
    assert!(number("answers") > 128, "{out}");
    // Two for each user and minute; a minute may end meanwhile.
    assert!([6, 12].contains(&number("ok")), "{out}");
    assert_eq!(told["errors"], serde_json::json!({}));
    let time = |name: &str| told["latency_seconds"]["quantiles"][name].as_f64().unwrap();
    assert!(time("p50") > 0.0 && time("p50") <= time("p99.9"), "{out}");
}

#[test]
fn a_rate_is_kept_and_told_to_people() {
    let (_folder, served) = served();
    let (code, out, progress) = run(&[
        "load",
        "--addr",
        &served.grpc,
        "--duration",
        "2s",
        "--rate",
        "200",
        "shop",
        "user=ann",
    ]);
    assert_eq!(code, 0, "{progress}");
    let answers = out.split(' ').next().unwrap();
    // All that fell due was made, late or not: 400, give or take the last few.
    let answers: i64 = answers.parse().unwrap();
    assert!((350..=450).contains(&answers), "{out}");
    for part in [
        "200 calls due each second",
        "OVER_LIMIT",
        "p99.9",
        "longest",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(progress.contains("answered/s"), "{progress}");
}

#[test]
fn keys_in_turn_are_each_asked_equally_often_and_the_last_call_ends_it() {
    let (_folder, served) = served();
    for rate in [&[][..], &["--rate", "1000"]] {
        // Two for each user and minute: any other order has some of them denied.
        let user = format!("user=turn-{}-%", rate.len());
        let mut words = vec![
            "load",
            "--addr",
            &served.grpc,
            "--duration",
            "10m",
            "--json",
        ];
        words.extend([
            "--threads",
            "2",
            "--key-order",
            "sequential",
            "--keys",
            "20",
        ]);
        words.extend(["--calls", "40", "shop", &user]);
        words.extend(rate);
        let (code, out, errors) = run(&words);
        assert_eq!((code, errors.as_str()), (0, ""));
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&told["answers"], &told["ok"]), (&40.into(), &40.into()));
        assert!(told["seconds"].as_f64().unwrap() < 60.0, "{out}");
    }
}

#[test]
fn nobody_there_is_told_and_is_a_failure() {
    let (code, out, _) = run(&[
        "load",
        "--addr",
        "127.0.0.1:1",
        "--duration",
        "100ms",
        "--connections",
        "1",
        "shop",
        "user=ann",
    ]);
    assert_eq!(code, 1);
    assert!(out.contains("cannot connect to 127.0.0.1:1"), "{out}");
}

#[test]
fn the_wrong_listener_is_told_from_the_right_one() {
    let (_folder, served) = served();
    let (code, out, _) = run(&[
        "load",
        "--addr",
        &served.http,
        "--duration",
        "100ms",
        "shop",
        "user=ann",
    ]);
    assert_eq!(code, 1);
    assert!(out.contains("error"), "{out}");
}

#[tokio::test]
async fn it_may_go_on_for_longer_than_clocks_go_and_ends_when_it_is_told_to() {
    let (_folder, served) = served();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["load", "--addr", &served.grpc]);
    command.args(["--duration", "500000000000y", "--connections", "1"]);
    command.args(["--in-flight", "1", "shop", "user=ann"]);
    let mut load = Process::spawn("tollgate load", &command);
    let first = |line: &str| line.trim_start().starts_with("1s ").then_some(());
    load.line("what came of the first second", first).await;
    load.signal("INT");
    let ended = until("it to end", || load.ended()).await;
    assert_eq!(ended.code(), Some(0), "{:?}", load.lines());
    until("a summary", || load.said("answers in").then_some(())).await;
}
