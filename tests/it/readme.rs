//! The README says what is so: its tables come from the code, its commands run.

use std::path::{Path, PathBuf};

use tollgate::clock::Clock;
use tollgate::config::policies::policy_table;
use tollgate::config::settings::settings_table;

use crate::cli::Served;
use crate::cli::run;
use crate::harness::until;

fn readme() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// Puts `table` between the marks of `name`.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).unwrap();
    let (_, after) = rest.split_once(&close).unwrap();
    format!("{before}{open}{}\n{close}{after}", table.trim_end())
}

/// Rewrite with `make golden`.
#[test]
fn tables_are_those_of_the_code() {
    let (path, text) = readme();
    let fresh = with_table(&text, "policy fields", &policy_table());
    let fresh = with_table(&fresh, "settings", &settings_table());
    if crate::update_golden() {
        std::fs::write(&path, &fresh).unwrap();
    } else {
        assert!(
            fresh == text,
            "README.md's tables are out of date; run `make golden`"
        );
    }
}

/// The lines of shell blocks that call the program.
fn commands(text: &str) -> Vec<Vec<String>> {
    let blocks = text
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(str::lines)
        .map(|line| {
            line.split(" #")
                .next()
                .unwrap_or(line)
                .trim()
                .trim_end_matches('&')
        })
        .filter_map(|line| line.strip_prefix("tollgate "))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[tokio::test]
async fn the_first_ten_minutes_go_as_told() {
    let (_, text) = readme();
    let commands = commands(&text);
    let mut served = None;
    let mut ran = Vec::new();
    for command in &commands {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        match arguments.as_slice() {
            ["serve", rest @ ..] => {
                let mut free = rest.to_vec();
                for listener in ["--grpc", "--http", "--admin"] {
                    free.extend([listener, "127.0.0.1:0"]);
                }
                served = Some(Served::start(&free));
                continue;
            }
            ["query", ..] => {
                // The limit is per minute; none may end while it is counted and explained.
                until("a minute that lasts", async || {
                    Clock::system().now().as_millis() % 60_000 < 45_000
                })
                .await;
                let (served, _) = served.as_ref().unwrap();
                arguments.extend(["--addr", &served.grpc]);
                let (code, out, err) = run(&arguments);
                assert_eq!(code, 3, "{command:?}\n{out}{err}");
                assert!(
                    out.lines().last().unwrap().starts_with("OVER_LIMIT"),
                    "{out}"
                );
            }
            ["explain", "--admin", _, rest @ ..] => {
                let (served, _) = served.as_ref().unwrap();
                let mut arguments = vec!["explain", "--admin", &served.admin];
                arguments.extend(rest);
                let (code, out, err) = run(&arguments);
                assert_eq!(code, 0, "{command:?}\n{out}{err}");
                assert!(out.contains("counted  5"), "{out}");
            }
            ["reset", "--admin", _, rest @ ..] => {
                let (served, _) = served.as_ref().unwrap();
                let mut arguments = vec!["reset", "--admin", &served.admin];
                arguments.extend(rest);
                let (code, out, err) = run(&arguments);
                assert_eq!(code, 0, "{command:?}\n{out}{err}");
                assert!(out.contains("before   5 counted, 0 left"), "{out}");
                assert!(out.contains("now      0 counted, 5 left"), "{out}");
            }
            _ => {
                let (code, out, err) = run(&arguments);
                assert_eq!(code, 0, "{command:?}\n{out}{err}");
            }
        }
        ran.push(command.first().unwrap().as_str());
    }
    assert_eq!(ran, ["check", "check", "query", "explain", "reset"]);
}

#[test]
fn every_metric_is_named() {
    let (_, text) = readme();
    for instrument in tollgate::telemetry::instruments::ALL {
        let name = instrument.name.replace('.', "_");
        assert!(
            text.contains(&format!("`{name}")),
            "README.md does not name {name}"
        );
    }
}
