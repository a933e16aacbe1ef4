//! `examples/envoy`, as its README says: the commands run, and what they print is compared.
//!
//! Ports and the timeout are the only differences: the example's are fixed and may be taken, and
//! 20 ms are short for a test machine.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tollgate::clock::Clock;

use super::bed::{Envoy, ROOT, TOLLGATE, Tollgate};
use crate::process::until;

#[tokio::test]
async fn the_readme_of_the_example_is_true() {
    let readme = read("examples/envoy/README.md");
    let serve = start_command(&readme, " -- serve ")
        .split_once(" -- ")
        .expect("arguments")
        .1;
    let mut command = Command::new(TOLLGATE);
    command.current_dir(ROOT).args(serve.split_whitespace());
    let tollgate = Tollgate::run(command, any_port(), TempDir::new().expect("a folder")).await;

    let file = start_command(&readme, "get-envoy) -c ")
        .split_once("-c ")
        .expect("a file")
        .1;
    let dir = TempDir::new().expect("a folder");
    let config = moved(&read(file), tollgate.grpc, dir.path());
    let envoy = Envoy::run(2, &config, dir).await;

    // The README's limits are per minute; none may end while its commands run.
    until("a minute that lasts", || {
        let into_the_minute = Clock::system().now().as_millis() % 60_000;
        (into_the_minute < 52_000).then_some(())
    })
    .await;
    let steps = steps(&readme);
    assert!(
        steps.len() > 20,
        "the README's commands are found: {}",
        steps.len()
    );
    for (command, expected) in steps {
        let real = command
            .replace("localhost:10000", &envoy.gateway.to_string())
            .replacen("tollgate ", &format!("{TOLLGATE} "), 1);
        let done = Command::new("sh")
            .arg("-c")
            .arg(&real)
            .current_dir(ROOT)
            .output();
        let done = done.expect("a shell");
        let said = String::from_utf8_lossy(&done.stdout);
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.success(),
            "{command}\n{}: {said}{errors}",
            done.status
        );
        assert_eq!(
            without_noise(&said),
            without_noise(&expected),
            "\n{command}\n{said}"
        );
    }
}

/// Commands after `$ ` in the `console` blocks, each with the lines up to the next.
fn steps(readme: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            steps.push((command.to_owned(), String::new()));
        } else if let Some((_, expected)) = steps.last_mut().filter(|_| inside) {
            expected.push_str(line);
            expected.push('\n');
        }
    }
    steps
}

/// The lines that matter, with what depends on the time of day replaced.
fn without_noise(output: &str) -> Vec<String> {
    const NOISE: [&str; 5] = [
        "date: ",
        "server: ",
        "content-length: ",
        "content-type: ",
        "x-envoy-upstream-service-time: ",
    ];
    let lines = output.lines().map(str::trim).filter(|l| !l.is_empty());
    lines
        .filter(|l| !NOISE.iter().any(|n| l.starts_with(n)))
        .map(timeless)
        .collect()
}

/// A time to wait becomes `N` if it may be one in a window of a minute.
fn timeless(line: &str) -> String {
    match line.split_once(": ") {
        Some((name @ ("x-ratelimit-reset" | "retry-after"), seconds)) => {
            let seconds: u64 = seconds.parse().expect("seconds");
            assert!((1..=60).contains(&seconds), "{line}");
            format!("{name}: N")
        }
        _ => line.to_owned(),
    }
}

/// The example's configuration on free ports, asking the Tollgate of this test.
fn moved(config: &str, tollgate: SocketAddr, dir: &Path) -> String {
    let port = |p: u16| format!("socket_address: {{ address: 127.0.0.1, port_value: {p} }}");
    let upstream = format!("pipe: {{ path: {} }}", dir.join("upstream.sock").display());
    let mut config = config.to_owned();
    for (old, new) in [
        (port(10000), port(0)),
        (port(9901), port(0)),
        (port(8081), port(tollgate.port())),
        (port(10001), upstream),
        ("timeout: 0.02s".to_owned(), "timeout: 10s".to_owned()),
    ] {
        assert!(config.contains(&old), "the example has {old}");
        config = config.replace(&old, &new);
    }
    config
}

fn start_command<'a>(readme: &'a str, has: &str) -> &'a str {
    readme
        .lines()
        .find(|line| line.contains(has))
        .expect("the README says how to start it")
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).expect("a file of the repository")
}
