//! `scripts/in-build-context` builds from what the Dockerfile copies, and from nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const MANIFEST: &str = "
[package]
name = \"shop\"
version = \"0.1.0\"
edition = \"2024\"

[[bench]]
name = \"sales\"
harness = false
";

const LOCK: &str = "version = 4\n\n[[package]]\nname = \"shop\"\nversion = \"0.1.0\"\n";

/// A repository with one crate.
struct Repository(TempDir);

impl Repository {
    fn new(copied: &[&str]) -> Self {
        let repository = Self(TempDir::new().unwrap());
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        fs::create_dir(repository.path("scripts")).unwrap();
        for name in ["in-build-context", "dockerfile.py"] {
            fs::copy(scripts.join(name), repository.path("scripts").join(name)).unwrap();
        }
        repository.write("Cargo.toml", MANIFEST);
        repository.write("Cargo.lock", LOCK);
        for name in ["src/main.rs", "benches/sales.rs"] {
            repository.write(name, "fn main() {}\n");
        }
        let build = r#"RUN ["cargo", "build", "--offline", "--locked"]"#;
        let copies = copied.iter().map(|name| format!("COPY {name} ./{name}\n"));
        let dockerfile = format!(
            "FROM rust AS build\n{}{build}\n",
            copies.collect::<String>()
        );
        repository.write("Dockerfile", &dockerfile);
        let let_through = copied.iter().map(|name| format!("!{name}\n"));
        let ignore = format!("*\n{}", let_through.collect::<String>());
        repository.write(".dockerignore", &ignore);
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.path("scripts/in-build-context"));
        command.args(arguments).env_remove("CARGO_TARGET_DIR");
        command.output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

const ALL: [&str; 4] = ["Cargo.toml", "Cargo.lock", "benches", "src"];

#[test]
fn a_file_that_the_manifest_names_and_nothing_copies_fails_the_build() {
    let repository = Repository::new(&["Cargo.toml", "Cargo.lock", "src"]);
    let output = repository.run(&[]);
    let told = said(&output);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("sales"), "{told}");
}

#[test]
fn the_binary_is_where_cargo_puts_it_and_built_again_only_when_something_changes() {
    let repository = Repository::new(&ALL);
    let (mut built, binary) = (Vec::new(), repository.path("target/debug/shop"));
    for change in [false, false, true] {
        if change {
            repository.write("src/main.rs", "fn main() { assert!(true) }\n");
        }
        let output = repository.run(&[]);
        let told = said(&output);
        assert!(output.status.success() && binary.exists(), "{told}");
        built.push(told.contains("Compiling shop"));
    }
    assert_eq!(built, [true, false, true]);
}

#[test]
fn what_is_copied_no_more_is_there_no_more() {
    let repository = Repository::new(&ALL);
    let files = || {
        let output = repository.run(&["find", "src", "benches", "-type", "f"]);
        said(&output)
    };
    repository.write("src/old.rs", "");
    assert!(files().contains("src/old.rs"));
    fs::remove_file(repository.path("src/old.rs")).unwrap();
    assert!(!files().contains("src/old.rs"));
    assert!(files().contains("benches/sales.rs"));
}
