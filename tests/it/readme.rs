//! The README says what is so: its tables come from the code, its commands run.

use std::path::{Path, PathBuf};

use tollgate::clock::Clock;
use tollgate::config::policies::policy_table;
use tollgate::config::settings::{Overrides, Settings, StoreKind, settings_table};
use tollgate::store::redis::{FailureClass, Reaction};

use crate::cli::Served;
use crate::cli::run;
use crate::harness::until;
use crate::topology::COMMANDS;

fn readme() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// Puts `table` between the marks of `name`.
pub(crate) fn with_table(text: &str, name: &str, table: &str) -> String {
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
    let fresh = with_table(&fresh, "failures", &failure_table());
    let fresh = with_table(&fresh, "acl", &acl());
    if crate::update_golden() {
        std::fs::write(&path, &fresh).unwrap();
    } else {
        assert!(
            fresh == text,
            "README.md's tables are out of date; run `make golden`"
        );
    }
}

/// What [`FailureClass`] tells programmers, for operators: the same rows, in their words.
fn failure_table() -> String {
    let source = include_str!("../../src/store/redis/failure.rs");
    let meanings = FailureClass::ALL.map(|class| {
        let row = format!("//! | `{}` | ", class.name());
        let row = source.lines().find_map(|line| line.strip_prefix(&row));
        row.and_then(|row| row.split(" | ").next()).unwrap()
    });
    let mut table = String::from(
        "| `result` | what it means | what Tollgate does | the request | charged in Redis? |\n\
         |---|---|---|---|---|\n",
    );
    for (class, meaning) in FailureClass::ALL.iter().zip(meanings) {
        let (does, request) = reaction(*class);
        let charged = match class.unexecuted() {
            true => "no",
            false => "perhaps",
        };
        let name = class.name();
        table.push_str(&format!(
            "| `{name}` | {meaning} | {does} | {request} | {charged} |\n"
        ));
    }
    table
}

/// What is done about the server, and what becomes of the request.
fn reaction(class: FailureClass) -> (&'static str, &'static str) {
    let without = "`on_store_failure`";
    match (class.reaction(), class) {
        (Reaction::LoadScripts, _) => ("loads the script", "sent again"),
        (Reaction::Reconnect, _) => ("connects anew, and looks for the primary", without),
        (Reaction::Reroute, FailureClass::ClusterDown) => {
            ("looks for the slots; counts for the breaker", without)
        }
        (Reaction::Reroute, _) => ("looks for the slots", "sent to the node that has the keys"),
        (Reaction::SplitAndRetry, _) => (
            "keeps the connection",
            "sent again by itself; if it was alone, `on_store_failure`",
        ),
        (Reaction::Wait, FailureClass::Timeout) => (
            "counts for the breaker; connects anew if a probe is late, too",
            without,
        ),
        (Reaction::Wait, _) => ("keeps the connection; counts for the breaker", without),
    }
}

/// The user whose rights the tests of real servers show to be enough.
fn acl() -> String {
    let rights: Vec<&str> = COMMANDS.split_whitespace().collect();
    let mut lines = vec!["ACL SETUSER tollgate on >PASSWORD".to_owned()];
    for right in rights {
        let last = lines.last_mut().unwrap();
        if last.len() + right.len() < 96 {
            last.push(' ');
            last.push_str(right);
        } else {
            lines.push(format!("    {right}"));
        }
    }
    // One command: redis-cli knows no lines that go on.
    format!("```text\n{}\n```", lines.join("\n"))
}

/// The blocks of a language, without the marks around them.
fn blocks<'t>(text: &'t str, language: &str) -> impl Iterator<Item = &'t str> {
    let open = format!("```{language}\n");
    let blocks: Vec<&str> = text
        .split(&open)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    blocks.into_iter()
}

#[test]
fn every_policy_and_every_setting_that_is_shown_is_accepted() {
    let (_, text) = readme();
    let (mut policies, mut settings) = (0, 0);
    for block in blocks(&text, "yaml") {
        if block.lines().any(|line| line.starts_with("domain:")) {
            let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
            std::fs::write(&file, block).unwrap();
            let (code, out, err) = run(&["check", file.path().to_str().unwrap()]);
            assert_eq!(code, 0, "{block}\n{out}{err}");
            assert!(
                out.ends_with(": no errors, 0 warnings\n"),
                "{block}\n{out}{err}"
            );
            policies += 1;
        } else {
            let file = Some(("README.md", block.as_bytes()));
            let loaded = Settings::load(file, std::iter::empty(), Overrides::default());
            let loaded = loaded.unwrap_or_else(|report| panic!("{block}\n{report}"));
            assert!(loaded.warnings.is_empty(), "{block}\n{}", loaded.warnings);
            assert_eq!(loaded.settings.store.kind, StoreKind::Redis, "{block}");
            settings += 1;
        }
    }
    assert!(policies >= 2 && settings >= 8, "{policies}, {settings}");
}

/// The lines of shell blocks that call the program.
fn commands(text: &str) -> Vec<Vec<String>> {
    blocks(text, "sh")
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
            ["load", ..] => {
                let (served, _) = served.as_ref().unwrap();
                arguments.extend(["--addr", &served.grpc]);
                let (code, out, err) = run(&arguments);
                assert_eq!(code, 0, "{command:?}\n{out}{err}");
                assert!(out.contains("p99.9"), "{out}");
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
    assert_eq!(ran, ["check", "check", "query", "explain", "reset", "load"]);
}
