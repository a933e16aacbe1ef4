//! Each rule can be broken, and says so.

use super::*;

/// Problems of a file with this text, as lines.
fn found(file: &str, text: &str) -> Vec<String> {
    problems(file, text)
        .iter()
        .map(Problem::to_string)
        .collect()
}

/// Fails unless there is one problem, in that line, that says so.
fn broken(file: &str, text: &str, line: usize, rule: &str) {
    let found = found(file, text);
    let start = format!("{file}:{line}: ");
    let as_expected = found.len() == 1 && found[0].starts_with(&start) && found[0].contains(rule);
    assert!(as_expected, "expected {start}..{rule}.., found {found:#?}");
}

fn kept(file: &str, text: &str) {
    let found = found(file, text);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_import_from_above_is_found_wherever_it_hides() {
    let above = "`store` imports `limiter`, which stands above it";
    for text in [
        "use crate::limiter::Limiter;",
        "use crate::limiter;",
        "use crate::{clock::Clock, limiter::{self, Limiter}};",
        "use crate::{model, limiter};",
        "use crate::{model::{Key, Query as Q}, limiter as l, clock};",
        "pub use crate::limiter::Limiter as L;",
        "fn f() -> crate::limiter::Limiter { g() }",
        "fn f() { vec![crate::limiter::new()]; }",
        "macro_rules! m { () => { $crate::limiter::new() } }",
        "#[cfg(test)] mod tests { use crate::limiter::Limiter; }",
        "use super::limiter::Limiter;",
        "use super::{limiter, model};",
        "use self::super::limiter::Limiter;",
        "mod inner { use super::super::limiter::Limiter; }",
        "impl crate::limiter::Seam for X {}",
        "type X = Vec<crate::limiter::Limiter>;",
    ] {
        broken("src/store/mod.rs", &format!("//! Doc.\n{text}"), 2, above);
    }
    let deep = "use super::super::limiter::Limiter;";
    broken("src/store/memory.rs", deep, 1, above);
    kept(
        "src/store/memory/table.rs",
        "use super::super::limiter::Limiter;",
    );
}

#[test]
fn the_line_is_that_of_the_name_in_braces() {
    let text = "use crate::{\n    model::Key,\n    app::App,\n};";
    broken("src/admin.rs", text, 3, "`admin` imports `app`");
}

#[test]
fn an_import_from_beside_is_found_and_those_allowed_are_not() {
    broken(
        "src/policy.rs",
        "use crate::algorithm::X;",
        1,
        "stands beside it",
    );
    broken(
        "src/limiter.rs",
        "use crate::pipeline::X;",
        1,
        "stands beside it",
    );
    broken(
        "src/clock.rs",
        "use crate::model::X;",
        1,
        "stands beside it",
    );
    kept("src/pipeline.rs", "use crate::limiter::X;");
    kept("src/model/check.rs", "use crate::clock::X;");
}

#[test]
fn imports_that_go_down_or_stay_at_home_are_kept() {
    let text = "use crate::{store::Store, model::{Key, Query}};\nuse super::sibling::X;\n\
        use self::child::Y;\nfn f(self) { super::g(crate::limiter::h()) }\n\
        mod tests { use super::*; use super::super::sibling; }\npub(crate) struct Z;";
    kept("src/limiter/fold.rs", text);
    kept("src/lib.rs", "pub mod x; use crate::cli::y;");
    kept("src/main.rs", "use tollgate::cli; use crate::nothing;");
    kept(
        "src/store/mod.rs",
        "//! Uses crate::app.\n/// [`crate::app`]\nconst A: &str = \"crate::app\";",
    );
}

#[test]
fn what_has_no_rank_is_found() {
    broken("src/magic.rs", "", 1, "module `magic` has no rank");
    broken("src/store.rs", "use crate::*;", 1, "no module with a rank");
    broken(
        "src/store.rs",
        "use crate::VERSION;",
        1,
        "no module with a rank",
    );
}

#[test]
fn the_crate_under_another_name_is_found() {
    let rule = "no module with a rank";
    for text in [
        "use crate as me;",
        "use crate::{self as me};",
        "use {crate as me};",
        "extern crate self as me;",
        "use super as me;",
        "use self::super as me;",
        "mod inner { use super::super as me; }",
    ] {
        broken("src/store.rs", text, 1, rule);
    }
    kept(
        "src/store/memory.rs",
        "use super as store; use self as memory;",
    );
}

#[test]
fn a_crate_out_of_its_place_is_found() {
    for (file, text, name) in [
        ("src/limiter.rs", "use tonic::Status;", "tonic"),
        ("src/app.rs", "use prost::Message;", "prost"),
        (
            "src/policy.rs",
            "fn f() -> envoy_types::X {}",
            "envoy_types",
        ),
        ("src/provider/files.rs", "use tonic;", "tonic"),
        ("src/store/memory.rs", "use fred::Client;", "fred"),
        (
            "src/admin.rs",
            "use {prometheus::Registry, http::X};",
            "prometheus",
        ),
        (
            "src/app.rs",
            "use opentelemetry_sdk as sdk;",
            "opentelemetry_sdk",
        ),
        (
            "src/provider/mod.rs",
            "//! Doc.\nuse serde_yaml::from_str;",
            "serde_yaml",
        ),
        (
            "src/cli/check.rs",
            "saphyr_parser::parse();",
            "saphyr_parser",
        ),
        ("src/lib.rs", "extern crate mimalloc;", "mimalloc"),
        ("src/app.rs", "#[derive(clap::Parser)] struct X;", "clap"),
        ("src/app.rs", "use {tonic as y};", "tonic"),
        ("src/app.rs", "use ::{serde_yaml as y};", "serde_yaml"),
        ("src/app.rs", "use {std::fmt, {{tonic}}};", "tonic"),
        ("src/app.rs", "use {model::{A, B}, ::tonic::C};", "tonic"),
        ("src/app.rs", "use ::tonic as y;", "tonic"),
        ("src/app.rs", "extern crate tonic as y;", "tonic"),
        ("src/app.rs", "fn f(x: ::tonic::Status) {}", "tonic"),
        ("src/app.rs", "fn f() -> ::tonic::Status { g() }", "tonic"),
        ("src/app.rs", "const A: tonic::Code = B;", "tonic"),
        ("src/app.rs", "fn f() { return ::tonic::g(); }", "tonic"),
    ] {
        let line = text.lines().count();
        broken(file, text, line, &format!("names `{name}`, which only"));
    }
}

#[test]
fn a_crate_in_its_place_or_a_word_that_is_none_is_kept() {
    kept(
        "src/transport/server.rs",
        "use tonic::Status; use hyper::Request;",
    );
    kept("src/provider/xds.rs", "use tonic::Status;");
    kept("src/store/redis/endpoint.rs", "use fred::Client;");
    kept("src/main.rs", "use mimalloc::MiMalloc; use clap::Parser;");
    kept(
        "src/app.rs",
        "let prometheus = telemetry.prometheus; x.hyper::<u8>(); use a::{tonic, b::tonic as c}; \
         a::tonic::f(); <A as B>::tonic::f();",
    );
    kept("tests/it/main.rs", "use tonic::Status;");
}

#[test]
fn waiting_in_the_middle_is_found() {
    let rule = "what decides is plain Rust";
    broken("src/limiter.rs", "pub async fn f() {}", 1, rule);
    broken(
        "src/store/memory/table.rs",
        "use tokio::sync::Mutex;",
        1,
        rule,
    );
    broken("src/event.rs", "fn f() { let x = async {}; }", 1, rule);
    broken("src/policy/tree.rs", "#[tokio::test] fn f() {}", 1, rule);
    kept("src/store/layer.rs", "pub async fn f() { g().await }");
    kept("src/pipeline.rs", "// async\nconst A: &str = \"tokio\";");
}

#[test]
fn a_large_file_is_found() {
    let lines = |n: usize| format!("//! Doc.\n{}", "const A: u8 = 0;\n".repeat(n - 1));
    kept("src/store.rs", &lines(MAX_LINES));
    broken(
        "src/store.rs",
        &lines(MAX_LINES + 1),
        MAX_LINES + 1,
        "split it",
    );
}

#[test]
fn a_missing_module_doc_is_found() {
    let lines = |n: usize| "const A: u8 = 0;\n".repeat(n);
    kept("src/store.rs", &lines(MAX_LINES_WITHOUT_DOC));
    kept("src/store/tests.rs", &lines(MAX_LINES_WITHOUT_DOC + 1));
    let rule = "without a module doc";
    broken("src/store.rs", &lines(MAX_LINES_WITHOUT_DOC + 1), 1, rule);
    broken("src/store/mod.rs", "// A comment.\n", 1, rule);
}

#[test]
fn a_file_too_deep_is_found() {
    kept("src/store/redis/script.rs", "");
    kept("src/store/redis/tests/script.rs", "");
    broken("src/store/redis/script/load.rs", "", 1, "lies deeper");
}

#[test]
fn a_test_that_is_switched_off_is_found() {
    let rule = "switches a test off";
    broken("src/store.rs", "#[test]\n#[ignore]\nfn f() {}", 2, rule);
    broken(
        "tests/it/main.rs",
        "#[ignore = \"slow\"] fn f() {}",
        1,
        rule,
    );
    broken(
        "tests/it/main.rs",
        "#[cfg_attr(ci, ignore)] fn f() {}",
        1,
        rule,
    );
    kept("src/store.rs", "#[test] fn f() { let ignore = [ignore]; }");
}

#[test]
fn what_is_not_rust_is_found() {
    broken("src/store.rs", "fn f() {\n", 1, "is not Rust");
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let names = reasons("# Text\n\n- `a-b`: does this and that.\n- `c`: is the best at it.\n");
    let expected = ["a-b", "c"].map(str::to_owned);
    assert_eq!(names, Ok(BTreeSet::from(expected)));
    for text in ["- `a`", "- `a`: good", "- `a`: x y z\n- `a`: x y z"] {
        assert!(reasons(text).is_err(), "{text}");
    }
}

#[test]
fn the_dependencies_are_those_of_the_manifest() {
    let used = dependencies().unwrap();
    assert!(
        used.contains("tokio") && used.contains("tempfile"),
        "{used:?}"
    );
    assert!(!used.contains("tokio-macros"), "only direct ones: {used:?}");
}
