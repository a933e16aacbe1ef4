//! Holds a reload to pause points everywhere: no part of it may be one stretch of work that grows with
//! the number of rules. Counted, not timed.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use super::policies::{Found, LoadedPolicies};
use crate::clock::{Clock, Timestamp};
use crate::config::policies::diff;
use crate::config::settings::Settings;
use crate::event::Silence;
use crate::pace::counting::{Counts, counted};

const LIMIT: &str = "rate_limit: {requests_per_unit: 5, unit: hour}";

/// A reload of files of which one has changed, from reading to dropping the old rules.
fn reload(files: &[(String, String)]) -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    for (name, text) in files {
        write(name, text);
    }
    let mut settings = Settings::default();
    settings.policies.path = folder.path().to_owned();
    let old = load(&settings, None);
    let (name, text) = &files[0];
    write(name, &format!("{text}# changed\n"));
    let ((), counts) = counted(|| {
        let new = load(&settings, Some(&old));
        // As for the log of a server, which compares only if there is one.
        let was = old.written.compile().unwrap();
        let is = new.written.compile().unwrap();
        assert!(diff(&was.domains, &is.domains).is_empty());
        drop((old, new));
    });
    let (largest, at) = counts.largest;
    // A hundred microseconds or so without a look at the clock.
    assert!(largest <= 256, "{largest} units at once at {at:?}");
    counts
}

fn load(settings: &Settings, old: Option<&LoadedPolicies>) -> LoadedPolicies {
    let written = Found::read(settings, None)
        .with(settings.policy_defaults())
        .unwrap();
    let clock = Clock::manual(Timestamp::from_millis(0));
    let before = old.map(|old| Arc::new(old.written.clone()));
    LoadedPolicies::new(written, Path::new("."), before, &Silence, &clock).unwrap()
}

/// At least so many pause points in each of these files.
fn assert_points(counts: &Counts, least: &[(&str, u64)]) {
    for (file, least) in least {
        let passed = counts.by_file.get(file).copied().unwrap_or_default();
        assert!(
            passed >= *least,
            "{file}: {passed} of {least} in {:#?}",
            counts.by_file
        );
    }
}

/// A domain of so many rules.
fn flat(domain: &str, rules: usize) -> String {
    let mut text = format!("domain: {domain}\ndescriptors:\n");
    for rule in 0..rules {
        writeln!(text, "  - {{key: path, value: /p/{rule}, {LIMIT}}}").unwrap();
    }
    text
}

#[test]
fn one_large_file_is_reloaded_with_pause_points_for_each_rule() {
    let rules: u64 = 3_000;
    let counts = reload(&[("a.yaml".into(), flat("a", 3_000))]);
    assert_points(
        &counts,
        &[
            // A rule is 16 events, and as many maps, texts and descriptors to drop.
            ("config/policies/reader.rs", 16 * rules),
            ("config/policies/flat.rs", 5 * rules),
            ("config/policies/walk.rs", 5 * rules),
            ("config/policies/compile.rs", rules),
            ("config/policies/diff.rs", 10 * rules),
            ("policy/tree.rs", 2 * rules),
            ("policy/mod.rs", rules),
            // Nodes, raw maps, descriptors, indexed nodes with their entries (old and new), paths.
            ("pace/mod.rs", 25 * rules),
        ],
    );
}

#[test]
fn many_files_and_nested_rules_are_reloaded_with_pause_points() {
    let files: Vec<_> = (0..300)
        .map(|n| (format!("{n}.yaml"), flat(&format!("d{n}"), 3)))
        .collect();
    let counts = reload(&files);
    let rules = 900;
    assert_points(
        &counts,
        &[
            // Each file is stated, read and compared, and hashed.
            ("provider/walk.rs", 2 * 300),
            ("provider/files/mod.rs", 3 * 300),
            ("config/policies/compile.rs", 300 + rules),
            ("policy/tree.rs", 2 * rules),
        ],
    );
    let mut nested = String::from("domain: nested\ndescriptors:\n");
    for branch in 0..100 {
        for depth in 0..30 {
            let indent = " ".repeat(2 * depth);
            let key = if depth == 0 { branch } else { depth };
            writeln!(nested, "{indent}  - key: k{key}\n{indent}    {LIMIT}").unwrap();
            if depth < 29 {
                writeln!(nested, "{indent}    descriptors:").unwrap();
            }
        }
    }
    let rules = 3_000;
    let counts = reload(&[("nested.yaml".into(), nested)]);
    assert_points(
        &counts,
        &[
            ("config/policies/compile.rs", rules),
            ("config/policies/diff.rs", 10 * rules),
            ("policy/tree.rs", 2 * rules),
            ("pace/mod.rs", 20 * rules),
        ],
    );
}

#[test]
fn a_text_and_a_comment_of_a_megabyte_are_read_with_pause_points() {
    let long = "x".repeat(1 << 20);
    let text = format!(
        "{}  - {{key: path, value: \"{long}\", {LIMIT}}}\n# {long}\n",
        flat("long", 1)
    );
    let counts = reload(&[("long.yaml".into(), text)]);
    let characters = 2 << 20;
    assert_points(
        &counts,
        &[
            ("config/policies/input.rs", characters / 64),
            // Read twice and hashed twice, by pieces.
            ("provider/files/mod.rs", characters / (32 << 10)),
            ("config/policies/text.rs", characters / (64 << 10)),
        ],
    );
}
