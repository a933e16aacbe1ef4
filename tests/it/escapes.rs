//! Control characters from arguments, files, policies and servers reach no terminal.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;

use crate::cli::{Served, text, tollgate};
use crate::harness::{Client, Harness, descriptor, request};

/// Begins an escape sequence in two ways, rings, returns to the line's start, and is cut off by a
/// terminal that does not know what it means.
const NASTY: &str = "x\u{1b}[31m\u{9b}2J\u{7}\r\u{7f}\u{202e}y";

/// The same in a double-quoted text of YAML.
const IN_YAML: &str = r"x\e[31m\u009b2J\a\r\u007f\u202ey";

/// Runs a command; what it prints has no control character but line breaks.
fn run(arguments: &[&str]) -> String {
    let Output { stdout, stderr, .. } = tollgate(arguments).output().unwrap();
    let mut printed = String::from_utf8(stdout).unwrap();
    printed.push_str(&String::from_utf8(stderr).unwrap());
    is_clean(&printed, arguments);
    printed
}

fn is_clean(printed: &str, context: &[&str]) {
    let is_unsafe = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
    let found = printed.chars().find(is_unsafe);
    assert_eq!(found, None, "{context:?} prints {printed:?}");
}

/// Every command with every argument replaced by one that holds control characters, alone.
#[test]
fn arguments_are_escaped_whatever_the_command_makes_of_them() {
    let policies = tempfile::tempdir().unwrap();
    std::fs::write(policies.path().join("p.yaml"), "domain: d\n").unwrap();
    let folder = text(policies.path());
    for command in COMMANDS {
        for place in 0..command.len() {
            let own = |argument: &&'static str| match *argument {
                "FOLDER" => folder,
                other => other,
            };
            let mut arguments: Vec<&str> = command.iter().map(own).collect();
            let replaced = match arguments[place].split_once('=') {
                Some((key, _)) => format!("{key}={NASTY}"),
                None => format!("{}{NASTY}", arguments[place]),
            };
            if place == 0 && command.len() > 1 {
                continue;
            }
            arguments[place] = &replaced;
            run(&arguments);
        }
    }
    let lines = run(&[
        "explain",
        "--policies",
        folder,
        "d",
        "k=v\u{1b}\nanswer   OK",
    ]);
    assert!(
        lines.contains("d  k=v\\u001b\\nanswer   OK  hits 1\n"),
        "{lines}"
    );
    let usage = run(&["explain", "--policies", folder, "d", NASTY]);
    assert!(usage.contains("\\u001b[31m"), "{usage}");
    assert!(run(&["no\u{1b}such"]).contains("no\\u001bsuch"));
}

#[test]
fn what_files_hold_is_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let policies = path(&format!("policies{NASTY}"));
    std::fs::create_dir(&policies).unwrap();
    let file = policies.join(format!("{NASTY}.yaml"));
    let good = format!(
        "domain: \"{IN_YAML}\"\ndescriptors:\n  - key: \"{IN_YAML}\"\n    value: \"{IN_YAML}\"\n    \
         rate_limit: {{ name: \"{IN_YAML}\", unit: minute, requests_per_unit: 1 }}\n"
    );
    let descriptor = format!("{NASTY}={NASTY}");
    std::fs::write(&file, &good).unwrap();
    let explain = ["explain", "--policies", text(&policies), NASTY, &descriptor];
    assert!(run(&explain).contains("counter  "));
    assert!(run(&[&explain[..], &["--json"]].concat()).starts_with('{'));
    run(&["explain", "--policies", text(&policies), "other", "k=v"]);
    run(&["check", text(&policies)]);
    let settings = path("tollgate.yaml");
    for wrong in [
        format!("domain: d\ndescriptors: [{{\"{IN_YAML}\": 1}}]\n"),
        format!("domain: d\ndescriptors: [{{key: a, rate_limit: {{unit: \"{IN_YAML}\"}}}}]\n"),
        format!("{good}  - key: \"{IN_YAML}\"\n    value: \"{IN_YAML}\"\n"),
        format!("domain: {NASTY}\n"),
        format!("domain: [\n{NASTY}"),
    ] {
        std::fs::write(&file, &wrong).unwrap();
        run(&["check", text(&policies)]);
        run(&["explain", "--policies", text(&policies), "d", "k=v"]);
        run(&["serve", "--policies", text(&policies)]);
        std::fs::write(&settings, &wrong).unwrap();
        run(&["check", "--config", text(&settings)]);
        run(&[
            "serve",
            "--config",
            text(&settings),
            "--policies",
            "/nowhere",
        ]);
    }
    for wrong in [
        format!("\"{IN_YAML}\": 1\n"),
        format!("listen: {{grpc: \"{IN_YAML}\"}}\n"),
        format!("policies: {{path: \"{IN_YAML}\"}}\n"),
        format!("domains: {{\"{IN_YAML}\": {{shadow_mode: true}}}}\n"),
        format!("telemetry: {{log: {{level: \"{IN_YAML}\"}}}}\n"),
    ] {
        std::fs::write(&settings, &wrong).unwrap();
        run(&["check", "--config", text(&settings)]);
        run(&["explain", "--config", text(&settings), "d", "k=v"]);
        run(&[
            "serve",
            "--config",
            text(&settings),
            "--policies",
            "/nowhere",
        ]);
    }
}

#[tokio::test]
async fn what_a_server_says_is_escaped() {
    let policy = format!(
        "domain: \"{IN_YAML}\"\ndescriptors:\n  - key: \"{IN_YAML}\"\n    \
         rate_limit: {{ name: \"{IN_YAML}\", unit: minute, requests_per_unit: 1 }}\n"
    );
    let harness = Harness::with_policy(&policy).await;
    let (grpc, admin) = (harness.grpc.clone(), harness.admin.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let descriptor = format!("{NASTY}={NASTY}");
        for _ in 0..2 {
            let printed = run(&["query", "--addr", &grpc, NASTY, &descriptor]);
            assert!(printed.contains("\\u001b[31m"), "{printed}");
        }
        for command in ["explain", "reset"] {
            let mut arguments = vec![command, "--admin", &admin, NASTY, &descriptor];
            let printed = run(&arguments);
            assert!(printed.contains("\\u001b[31m"), "{printed}");
            arguments.push("--json");
            run(&arguments);
            run(&[command, "--admin", &admin, "other", &descriptor]);
            run(&[command, "--admin", &admin, NASTY, "k=v"]);
        }
        run(&["top", "--once", "--admin", &admin]);
        run(&["top", "--json", "--admin", &admin]);
    });
    asked.await.unwrap();
    let (_, rules) = harness.admin("/rlconfig").await;
    is_clean(&rules, &["/rlconfig"]);
}

/// A server that answers every call with control characters.
#[test]
fn what_another_server_says_is_escaped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let _asked = stream.read(&mut [0; 4096]);
            let status = ["500 Bad", "200 OK", "404 Not Found"][number % 3];
            let length = NASTY.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{NASTY}");
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    for command in [
        &["explain", "--admin", &addr, "d", "k=v"][..],
        &["reset", "--admin", &addr, "d", "k=v"],
        &["healthcheck", "--addr", &addr],
        &["query", "--addr", &addr, "d", "k=v"],
        &["top", "--once", "--admin", &addr],
    ] {
        for _ in 0..3 {
            run(command);
        }
    }
}

#[tokio::test]
async fn what_a_client_sends_is_escaped_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), "domain: shop\n").unwrap();
    let file = format!("{NASTY}.yaml");
    let warned = "domain: other\ndescriptors:\n  - key: a\n    rate_limit: {unit: minute, \
                  requests_per_unit: 20000, algorithm: sliding_log}\n";
    std::fs::write(folder.path().join(file), warned).unwrap();
    let mut arguments = vec!["--policies", text(folder.path())];
    for listener in ["--grpc", "--http", "--admin"] {
        arguments.extend([listener, "127.0.0.1:0"]);
    }
    let (served, start) = Served::start(&arguments);
    is_clean(&start.join("\n"), &["serve"]);
    let mut client = Client::connect(&served.grpc).await;
    let long = format!("{NASTY}\n{}", "z".repeat(1_000));
    client
        .ask(request(&long, &[descriptor(&[("k", "v")])]))
        .await;
    client
        .ask(request("shpo", &[descriptor(&[("k", "v")])]))
        .await;
    let line = served.logged("[31m").await;
    assert!(
        line.contains("WARN") && line.contains("no policy has this domain"),
        "{line}"
    );
    assert!(line.contains("y\\nzzz") && line.len() < 600, "{line}");
    let line = served.logged("shpo").await;
    assert!(line.contains("did you mean `shop`?"), "{line}");
    let log = served.log.lock().join("\n");
    is_clean(&log, &["serve"]);
    assert_eq!(log.matches("no policy has this domain").count(), 2, "{log}");
}

/// Commands that end by themselves. `FOLDER` stands for a folder with policies.
const COMMANDS: [&[&str]; 16] = [
    &["check", "FOLDER"],
    &["check", "--config", "config/tollgate.yaml"],
    &["explain", "--policies", "FOLDER", "d", "k=v"],
    &["explain", "--config", "config/tollgate.yaml", "d", "k=v"],
    &[
        "explain",
        "--admin",
        "127.0.0.1:1",
        "d",
        "k=v",
        "--hits",
        "1",
    ],
    &["query", "--addr", "127.0.0.1:1", "d", "k=v", "--hits", "1"],
    &["query", "d", "k=v", "--repeat", "1", "--timeout", "1ms"],
    &["reset", "--admin", "127.0.0.1:1", "d", "k=v"],
    &[
        "reset",
        "--admin",
        "127.0.0.1:1",
        "--token-file",
        "FOLDER",
        "d",
        "k=v",
    ],
    &[
        "load",
        "--addr",
        "127.0.0.1:1",
        "--calls",
        "1",
        "--duration",
        "1ms",
        "d",
        "k=v",
    ],
    &[
        "top",
        "--once",
        "--redis",
        "redis://127.0.0.1:1",
        "--admin",
        "127.0.0.1:1",
    ],
    &["serve", "--config", "/nowhere", "--policies", "FOLDER"],
    &[
        "serve",
        "--redis",
        "redis://h",
        "--grpc",
        "127.0.0.1:1",
        "--policies",
        "/nowhere",
    ],
    &["healthcheck", "--addr", "127.0.0.1:1"],
    &["completions", "bash"],
    &["schema"],
];
