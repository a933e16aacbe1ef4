//! Where the servers' programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Debian's package `redis-server`; the only one here with TLS.
    #[default]
    Redis7,
    /// The oldest that is supported.
    Redis62,
    Valkey,
}

/// The program of a server; panics with how to get it if it is not there.
pub(crate) fn binary(flavour: Flavour) -> PathBuf {
    let which = match flavour {
        Flavour::Redis7 => {
            let name = "redis-server";
            let there = Command::new(name).arg("--version").output();
            assert!(
                there.is_ok_and(|done| done.status.success()),
                "these tests need a {name}; to get it: apt-get install {name}"
            );
            return PathBuf::from(name);
        }
        Flavour::Redis62 => "6.2",
        Flavour::Valkey => "valkey",
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/get-redis");
    let done = Command::new(&script).arg(which).output().unwrap();
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "these tests need Redis 6.2 and Valkey; {} {which}: {why}",
        script.display()
    );
    PathBuf::from(String::from_utf8_lossy(&done.stdout).trim())
}
