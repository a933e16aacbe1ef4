//! Reports as an operator sees them: `tests/golden/NAME.yaml`, or all of `tests/golden/NAME/`, and
//! what is said about them in `tests/golden/NAME.txt`. With `UPDATE_GOLDEN=1` the texts are
//! rewritten; read the difference before you commit it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{PolicyDefaults, Source, load};

#[test]
fn reports_are_the_golden_ones() {
    let mut differing = Vec::new();
    for (name, paths) in groups() {
        let files: Vec<(String, Vec<u8>)> = paths
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                (name.to_owned(), std::fs::read(path).unwrap())
            })
            .collect();
        let sources: Vec<Source<'_>> = files
            .iter()
            .map(|(name, text)| Source { name, text })
            .collect();
        let report = match load(&sources, &PolicyDefaults::default()) {
            Ok(compiled) => compiled.warnings,
            Err(report) => report,
        };
        let (errors, warnings) = (report.errors(), report.warnings());
        let text = format!("{report}\n\n{errors} errors, {warnings} warnings\n");
        let golden = folder().join(format!("{name}.txt"));
        if update() {
            std::fs::write(&golden, &text).unwrap();
        } else if std::fs::read_to_string(&golden).ok().as_deref() != Some(&text) {
            differing.push(format!("--- {name}.txt should be:\n{text}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The files of each golden report, in the order of their names.
fn groups() -> BTreeMap<String, Vec<PathBuf>> {
    let mut groups = BTreeMap::new();
    for path in entries(&folder()) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            groups.insert(name, entries(&path));
        } else if path.extension().is_some_and(|e| e == "yaml") {
            groups.insert(name, vec![path]);
        }
    }
    assert!(!groups.is_empty());
    groups
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// As `make golden` says it; any other value leaves them alone.
#[expect(
    clippy::disallowed_methods,
    reason = "a switch for whoever runs the tests"
)]
fn update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}
