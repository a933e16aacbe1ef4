//! Holds the source to the rules of the house, so that nobody has to in review.
//!
//! What is checked: imports go downward only (`RANKS`), crates stay in their place (`PLACES`), the
//! middle is plain Rust without async (`MIDDLE`), files stay small and say what they are for, no
//! test is switched off, and every dependency has its reason in `docs/dependencies.md`. Source is
//! read as Rust tokens, so comments and strings cannot confuse it and macros cannot hide from it.
//! What the compiler and clippy can check is left to them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::TokenStream;
use tokens::{Token, flatten, paths, starts_a_path, starts_of_imports};

#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/tokens.rs"]
mod tokens;

/// Modules of the library, the highest first. A module may import those of lower ranks only.
const RANKS: [&[&str]; 8] = [
    &["cli"],
    &["app"],
    &["config", "provider"],
    &["transport", "admin", "telemetry"],
    &["pipeline", "limiter"],
    &["store", "alert"],
    &["policy", "algorithm"],
    &["model", "event", "clock", "pace"],
];

/// Imports within one rank: from, to, and why that is no circle.
const SIDEWAYS: [(&str, &str, &str); 5] = [
    (
        "event",
        "model",
        "an event tells of hits and spans in the model's words; the model knows no events",
    ),
    (
        "model",
        "clock",
        "a decision says when it was made; the clock knows nothing of it",
    ),
    (
        "model",
        "pace",
        "a search through many words is background work at times; the pacer knows no words",
    ),
    (
        "pace",
        "clock",
        "slices are timed by a stopwatch; the clock knows nothing of them",
    ),
    (
        "pipeline",
        "limiter",
        "match, decide, fold, tell: the pipeline calls the limiter, never back",
    ),
];

/// Crates that only some places may name: a change of library then touches only those.
const PLACES: [(&[&str], &[&str]); 9] = [
    (
        &[
            "envoy_types",
            "prost",
            "prost_reflect",
            "prost_types",
            "tonic",
            "tonic_health",
            "tonic_prost",
            "tonic_reflection",
        ],
        &[
            "src/transport",
            "src/provider/xds",
            "src/cli",
            "src/telemetry/otlp",
        ],
    ),
    (
        &["hyper", "hyper_util", "tower"],
        &["src/transport", "src/provider/xds", "src/admin", "src/cli"],
    ),
    (&["axum"], &["src/transport", "src/admin"]),
    (&["fred"], &["src/store/redis"]),
    (
        &[
            "opentelemetry",
            "opentelemetry_prometheus",
            "opentelemetry_proto",
            "opentelemetry_sdk",
            "prometheus",
            "tracing_subscriber",
        ],
        &["src/telemetry"],
    ),
    (
        &["saphyr_parser", "serde_path_to_error", "serde_yaml"],
        &["src/config"],
    ),
    (&["notify"], &["src/provider"]),
    (
        &["clap", "clap_complete", "crossterm"],
        &["src/cli", "src/main"],
    ),
    (&["mimalloc"], &["src/main"]),
];

/// What decides. It is plain Rust: it does not wait, and knows no runtime.
const MIDDLE: [&str; 11] = [
    "src/alert",
    "src/model",
    "src/event",
    "src/clock",
    "src/pace",
    "src/policy",
    "src/algorithm",
    "src/limiter",
    "src/pipeline",
    "src/store/local",
    "src/store/memory",
];

/// What a file of the middle does not say.
const ASYNC: [&str; 5] = ["async", "await", "futures", "futures_util", "tokio"];

const MAX_LINES: usize = 600;
const MAX_LINES_WITHOUT_DOC: usize = 100;
/// Folders of tests do not count.
const MAX_FOLDERS: usize = 2;

#[test]
fn the_source_follows_the_rules_of_the_house() {
    let mut found = Vec::new();
    let mut files = BTreeSet::new();
    for folder in ["src", "tests", "benches"] {
        for path in rust_files(&root().join(folder)).unwrap() {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.extend(problems(&name, &fs::read_to_string(&path).unwrap()));
            files.insert(name);
        }
    }
    assert!(files.contains("src/lib.rs") && files.contains("tests/architecture.rs"));
    let list: Vec<String> = found.iter().map(Problem::to_string).collect();
    assert!(
        list.is_empty(),
        "the house is not in order:\n{}",
        list.join("\n")
    );
}

#[test]
fn every_dependency_has_its_reason_and_no_reason_is_stale() {
    let text = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let listed = reasons(&text).unwrap();
    let used = dependencies().unwrap();
    let missing: Vec<_> = used.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&used).collect();
    assert!(
        missing.is_empty(),
        "docs/dependencies.md: no line for {missing:?}"
    );
    assert!(
        stale.is_empty(),
        "docs/dependencies.md: no dependency any more: {stale:?}"
    );
}

/// A place that breaks a rule.
struct Problem {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Everything that is wrong with a file, by its path from the root.
fn problems(file: &str, text: &str) -> Vec<Problem> {
    let mut found: Vec<(usize, String)> = size(file, text);
    match text.parse::<TokenStream>() {
        Err(error) => found.push((error.span().start().line, format!("is not Rust: {error}"))),
        Ok(stream) => {
            let mut tokens = Vec::new();
            flatten(stream, 0, &mut tokens);
            found.extend(imports(file, &tokens));
            found.extend(crates(file, &tokens));
            found.extend(waiting(file, &tokens));
            found.extend(switched_off(&tokens));
        }
    }
    found.sort();
    found.dedup();
    let problem = |(line, rule)| Problem {
        file: file.to_owned(),
        line,
        rule,
    };
    found.into_iter().map(problem).collect()
}

/// Small files that say what they are for, in few folders.
fn size(file: &str, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        found.push((
            lines,
            format!("has {lines} lines, more than {MAX_LINES}: split it"),
        ));
    }
    // What `tests.rs` is for is said by its name.
    let needs_doc = file.ends_with("/mod.rs")
        || (lines > MAX_LINES_WITHOUT_DOC && !file.ends_with("/tests.rs"));
    if needs_doc && !text.starts_with("//!") {
        found.push((
            1,
            "starts without a module doc (`//!`): say what it is for".to_owned(),
        ));
    }
    let folders = file.split('/').rev().skip(1);
    if folders.filter(|f| !["src", "tests"].contains(f)).count() > MAX_FOLDERS {
        found.push((1, format!("lies deeper than {MAX_FOLDERS} folders")));
    }
    found
}

/// Imports go down.
fn imports(file: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    let modules = module_path(file);
    let Some(from) = modules.first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if rank(from).is_none() {
        found.push((
            1,
            format!("module `{from}` has no rank: give it one in RANKS"),
        ));
    }
    for path in paths(tokens) {
        let Some(to) = path.module_of_the_crate(modules.len()) else {
            continue;
        };
        if let Some(rule) = forbidden(from, to) {
            found.push((path.line, rule));
        }
    }
    found
}

/// Why `from` may not import `to`, if so.
fn forbidden(from: &str, to: &str) -> Option<String> {
    let allowed = SIDEWAYS.iter().any(|(f, t, _)| (*f, *t) == (from, to));
    match (rank(from), rank(to)) {
        _ if from == to || allowed => None,
        (_, None) => Some(format!(
            "`{from}` imports `crate::{to}`, which is no module with a rank: name the module"
        )),
        (Some(from_rank), Some(to_rank)) if from_rank > to_rank => Some(format!(
            "`{from}` imports `{to}`, which stands above it: imports go down only"
        )),
        (Some(from_rank), Some(to_rank)) if from_rank == to_rank => Some(format!(
            "`{from}` imports `{to}`, which stands beside it: imports go down only"
        )),
        _ => None,
    }
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|names| names.contains(&module))
}

/// Crates are named in their place only.
fn crates(file: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let imported = starts_of_imports(tokens);
    for (names, places) in PLACES {
        if !file.starts_with("src/") || places.iter().any(|place| is_in(file, place)) {
            continue;
        }
        for (i, token) in tokens.iter().enumerate() {
            let names_a_crate = || imported.contains(&i) || starts_a_path(tokens, i);
            if names.contains(&token.text.as_str()) && names_a_crate() {
                let rule = format!("names `{}`, which only {places:?} may", token.text);
                found.push((token.line, rule));
            }
        }
    }
    found
}

/// The middle does not wait.
fn waiting(file: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    if !MIDDLE.iter().any(|place| is_in(file, place)) {
        return Vec::new();
    }
    let bad = tokens
        .iter()
        .filter(|token| ASYNC.contains(&token.text.as_str()));
    let rule = |text: &str| format!("says `{text}`: what decides is plain Rust without async");
    bad.map(|token| (token.line, rule(&token.text))).collect()
}

/// Tests run.
fn switched_off(tokens: &[Token]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut attribute = 0_usize;
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "[" if attribute > 0 || (i > 0 && tokens[i - 1].text == "#") => attribute += 1,
            "]" => attribute = attribute.saturating_sub(1),
            "ignore" if attribute > 0 => {
                found.push((
                    token.line,
                    "switches a test off: repair it or remove it".to_owned(),
                ));
            }
            _ => {}
        }
    }
    found
}

/// The modules that a file of the library is in; none for the map and the binary.
fn module_path(file: &str) -> Vec<&str> {
    let Some(path) = file
        .strip_prefix("src/")
        .and_then(|f| f.strip_suffix(".rs"))
    else {
        return Vec::new();
    };
    match path {
        "lib" | "main" => Vec::new(),
        _ => path.split('/').filter(|name| *name != "mod").collect(),
    }
}

fn is_in(file: &str, place: &str) -> bool {
    file.strip_prefix(place)
        .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Direct dependencies, those of tests included.
fn dependencies() -> io::Result<BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let listed = metadata["packages"][0]["dependencies"].as_array();
    let names = listed.into_iter().flatten().map(|one| one["name"].as_str());
    Ok(names.flatten().map(str::to_owned).collect())
}

/// The dependencies of a list of `- `name`: reason` lines.
fn reasons(text: &str) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let Some(item) = line.strip_prefix("- `") else {
            continue;
        };
        let (name, reason) = item
            .split_once("`: ")
            .ok_or_else(|| format!("is not `name`: reason: {line}"))?;
        if reason.split_whitespace().count() < 3 {
            return Err(format!("gives no reason: {line}"));
        }
        if !names.insert(name.to_owned()) {
            return Err(format!("stands twice: {line}"));
        }
    }
    Ok(names)
}
