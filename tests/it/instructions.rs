//! `scripts/count-instructions` lets no rise of a count pass, and writes a fall down.
//!
//! What callgrind counts is for CI; here the script judges counts from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const RUSTC: &str = "rustc 1.95.0 for x86_64-unknown-linux-gnu";

/// A file of figures, and one of counts.
struct Files {
    folder: TempDir,
    figures: PathBuf,
}

/// How the script ended, what it said, and the figures that it left behind.
struct Judged {
    passed: bool,
    said: String,
    figures: String,
}

impl Files {
    fn new(figures: &[(&str, u32)]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("figures.tsv");
        fs::write(&path, text(RUSTC, figures)).unwrap();
        Self {
            folder,
            figures: path,
        }
    }

    fn judge(&self, compiler: &str, counts: &[(&str, u32)], ci: bool, args: &[&str]) -> Judged {
        let measured = self.folder.path().join("measured.tsv");
        fs::write(&measured, text(compiler, counts)).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/count-instructions");
        let mut command = Command::new(script);
        command.arg("--figures").arg(&self.figures);
        command.arg("--measured").arg(&measured).args(args);
        command.env("CI", if ci { "true" } else { "" });
        let output = command.output().unwrap();
        let figures = fs::read_to_string(&self.figures).unwrap();
        let lines = figures.lines().filter(|line| !line.starts_with('#'));
        Judged {
            passed: output.status.success(),
            said: String::from_utf8(output.stdout).unwrap()
                + &String::from_utf8(output.stderr).unwrap(),
            figures: lines.collect::<Vec<_>>().join(" ").replace('\t', "="),
        }
    }
}

fn text(compiler: &str, counts: &[(&str, u32)]) -> String {
    let mut text = format!("# compiler: {compiler}\n");
    for (name, count) in counts {
        text += &format!("{name}\t{count}\n");
    }
    text
}

#[test]
fn a_rise_of_over_a_twentieth_fails_and_leaves_the_figures() {
    let files = Files::new(&[("key", 1000), ("query", 2000)]);
    for ci in [false, true] {
        let judged = files.judge(RUSTC, &[("key", 1050), ("query", 2000)], ci, &[]);
        assert!(judged.passed, "{}", judged.said);
        let judged = files.judge(RUSTC, &[("key", 1051), ("query", 2000)], ci, &[]);
        assert!(!judged.passed, "{}", judged.said);
        let told = "more than 5 % more instructions: key.";
        assert!(judged.said.contains(told), "{}", judged.said);
        assert_eq!(judged.figures, "key=1000 query=2000");
    }
}

#[test]
fn a_rise_that_is_wanted_is_written_down() {
    let files = Files::new(&[("key", 1000), ("query", 2000)]);
    let judged = files.judge(
        RUSTC,
        &[("key", 1300), ("query", 2010)],
        false,
        &["--update"],
    );
    assert!(judged.passed, "{}", judged.said);
    assert_eq!(judged.figures, "key=1300 query=2010");
}

#[test]
fn a_fall_is_written_down_but_not_in_ci() {
    let files = Files::new(&[("key", 1000), ("query", 2000)]);
    let counts = [("key", 980), ("query", 1995)];
    let judged = files.judge(RUSTC, &counts, true, &[]);
    assert!(judged.passed, "{}", judged.said);
    assert!(
        judged.said.contains("fewer instructions: key."),
        "{}",
        judged.said
    );
    assert_eq!(judged.figures, "key=1000 query=2000");
    let judged = files.judge(RUSTC, &counts, false, &[]);
    assert!(judged.passed, "{}", judged.said);
    assert_eq!(judged.figures, "key=980 query=2000");
}

#[test]
fn ci_wants_a_figure_for_each_case_and_no_others() {
    let files = Files::new(&[("key", 1000), ("query", 2000)]);
    let counts = [("key", 1000), ("message", 3000)];
    let judged = files.judge(RUSTC, &counts, true, &[]);
    assert!(!judged.passed, "{}", judged.said);
    assert!(judged.said.contains("message, query"), "{}", judged.said);
    let judged = files.judge(RUSTC, &counts, false, &[]);
    assert!(judged.passed, "{}", judged.said);
    assert_eq!(judged.figures, "key=1000 message=3000");
}

#[test]
fn a_match_may_not_depend_on_the_number_of_rules() {
    let few_and_many = |many| [("match-10-rules", 1000), ("match-100000-rules", many)];
    let files = Files::new(&few_and_many(1501));
    let judged = files.judge(RUSTC, &few_and_many(1501), true, &[]);
    assert!(!judged.passed, "{}", judged.said);
    let judged = files.judge(RUSTC, &few_and_many(1500), true, &[]);
    assert!(judged.passed, "{}", judged.said);
}

#[test]
fn another_compiler_is_held_to_the_figures_but_does_not_lower_them() {
    let files = Files::new(&[("key", 1000)]);
    let newer = RUSTC.replace("1.95.0", "1.96.0");
    let judged = files.judge(&newer, &[("key", 900)], false, &[]);
    assert!(judged.passed, "{}", judged.said);
    assert_eq!(judged.figures, "key=1000");
    let judged = files.judge(&newer, &[("key", 1100)], true, &[]);
    assert!(!judged.passed, "{}", judged.said);
    let told = "Measure the commit before yours with this compiler";
    assert!(judged.said.contains(told), "{}", judged.said);
}

#[test]
fn another_kind_of_machine_is_not_compared() {
    let files = Files::new(&[("key", 1000)]);
    let arm = RUSTC.replace("x86_64", "aarch64");
    let judged = files.judge(&arm, &[("key", 1500)], true, &[]);
    assert!(judged.passed, "{}", judged.said);
    assert!(judged.said.contains("not compared"), "{}", judged.said);
}
