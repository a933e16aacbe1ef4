//! How many files the process may have open, and who may have how many of them.
//!
//! Each connection takes one. Those of people and their machines are bounded so that Envoy's always find
//! some left.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::settings::Settings;
use crate::transport::http::LARGEST_BODY;
use crate::transport::http_server::{Patience, Room};

/// Raises the limit on open files as far as the process may, as other servers do: shells and container
/// runtimes set it low for the sake of programs that cannot count further. Returns what holds then.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let highest = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, highest) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::debug!(%error, "the limit on open files stays as it is");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// What the listeners `http` and `admin` take in at once where so many files may be open.
pub(super) fn rooms(settings: &Settings, open_files: u64) -> [Room; 2] {
    let files = usize::try_from(open_files).unwrap_or(usize::MAX);
    let message = settings.limits.message_bytes.as_usize();
    let http = Room {
        connections: (files / 4).clamp(FEWEST, 512),
        body_bytes: 8 * LARGEST_BODY,
        largest_body: message.min(LARGEST_BODY),
        patience: Patience::default(),
    };
    let admin = Room {
        connections: (files / 16).clamp(FEWEST, 64),
        body_bytes: LARGEST_BODY,
        largest_body: LARGEST_BODY / 16,
        patience: Patience::default(),
    };
    [http, admin]
}

/// Connections that a listener takes in any case.
const FEWEST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_files_are_left_to_envoy() {
        let settings = Settings::default();
        for (files, http, admin) in [
            (64, 16, 4),
            (1_024, 256, 64),
            (65_536, 512, 64),
            (u64::MAX, 512, 64),
        ] {
            let rooms = rooms(&settings, files).map(|room| room.connections);
            assert_eq!(rooms, [http, admin], "{files}");
        }
    }

    #[test]
    fn the_limit_on_open_files_is_raised_to_what_is_allowed() {
        let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(raise(), allowed);
        let now = getrlimit(Resource::Nofile).current;
        assert_eq!(now.unwrap_or(u64::MAX), allowed);
    }
}
