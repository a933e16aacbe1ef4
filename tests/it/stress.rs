//! `scripts/stress-tests` finds a test that fails now and then, and keeps what it printed.
//!
//! Here it runs a program that prints what a test binary would.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Fails `queue::drains` in every second run.
const BINARY: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
case "$*" in
  *--list*nothing*) exit ;;
  *--list*) printf 'queue::drains: test\nqueue::fills: test\nfaults::kill: test\n'; exit ;;
esac
echo "$*" >> calls
case "$*" in *--exact*) echo 'test faults::kill ... ok'; exit ;; esac
echo run >> runs
[ $(($(wc -l < runs) % 2)) = 1 ] && exit
cat << OUTPUT
test queue::fills ... ok
test queue::drains ... FAILED

failures:

---- queue::drains stdout ----
thread 'queue::drains' panicked: 3 of 4 left


failures:
    queue::drains

test result: FAILED. 1 passed; 1 failed
OUTPUT
exit 101
"#;

struct Stress {
    folder: TempDir,
    binary: PathBuf,
}

impl Stress {
    fn new(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let binary = folder.path().join("it-0123456789abcdef");
        fs::write(&binary, text).unwrap();
        fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
        Self { folder, binary }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/stress-tests");
        let mut command = Command::new(script);
        command.arg("--binary").arg(&self.binary);
        command.arg("--folder").arg(self.folder.path().join("kept"));
        command.args(arguments).output().unwrap()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join(path)).unwrap()
    }
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn a_test_that_fails_now_and_then_is_found_and_its_output_kept() {
    let stress = Stress::new(BINARY);
    let output = stress.run(&["4", "--busy", "1"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("3 tests, 4 times beside 1 busy"), "{told}");
    assert!(told.contains("2 of 4  it queue::drains\n"), "{told}");
    assert!(!told.contains("fills"), "{told}");
    let kept = stress.read("kept/it/queue.drains/run-2.txt");
    assert!(kept.contains("3 of 4 left"), "{kept}");
    // The parts of `make test`.
    let calls = stress.read("calls");
    let parts = "--skip attacks:: --skip faults::\n--test-threads=1 --exact faults::kill\n";
    assert_eq!(calls, parts.repeat(4));
}

#[test]
fn tests_that_pass_every_time_are_no_failure() {
    let stress = Stress::new(BINARY);
    let output = stress.run(&["1", "drains", "--busy", "0"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let calls = stress.read("calls");
    assert!(
        calls.starts_with("drains --skip attacks:: --skip faults::\n"),
        "{calls}"
    );
}

#[test]
fn a_name_that_no_test_has_is_a_mistake() {
    let stress = Stress::new(BINARY);
    let output = stress.run(&["1", "nothing"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn a_binary_that_ends_without_a_result_has_failed() {
    let dies = BINARY.replace("echo run >> runs", "echo half a line; kill -9 $$");
    let stress = Stress::new(&dies);
    let output = stress.run(&["1", "--busy", "0"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let kept = stress.read("kept/it/(the whole process)/run-1.txt");
    assert!(kept.contains("half a line"), "{kept}");
    assert!(kept.contains("it ended with -9"), "{kept}");
}

#[test]
fn busy_processes_end_with_the_script_that_started_them() {
    // The test binary kills the script, which can then end nothing itself.
    let kills = BINARY.replace("echo run >> runs", "kill -9 $PPID");
    let stress = Stress::new(&kills);
    let output = stress.run(&["1", "--busy", "1"]);
    assert_eq!(output.status.code(), None, "killed: {}", said(&output));
    // A busy process holds the script's output, so `output` has seen the end of both.
}
