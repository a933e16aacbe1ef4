//! Raises the limit on open files, and divides it among the listeners.
//!
//! Each connection takes one. The HTTP listeners get a fraction, so that descriptors are left for the gRPC
//! connections of Envoy.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

use crate::config::settings::Settings;
use crate::transport::http::MAX_BODY;
use crate::transport::http_server::{HttpLimits, HttpTimeouts};

/// Raises the soft limit on open files to the hard limit, as Go programs do. It is low for the sake of
/// programs that use `select`.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "cannot raise the limit on open files; keeping it");
    }
}

/// Returns the soft limit on open files.
pub(super) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns the limits of the listeners `http` and `admin` for this limit on open files.
pub(super) fn http_limits(settings: &Settings, open_files: u64) -> [HttpLimits; 2] {
    let files = usize::try_from(open_files).unwrap_or(usize::MAX);
    let message = settings.limits.message_bytes.as_usize();
    let http = HttpLimits {
        connections: (files / 4).clamp(MIN_CONNECTIONS, 512),
        body_bytes: 8 * MAX_BODY,
        max_body: message.min(MAX_BODY),
        timeouts: HttpTimeouts::default(),
    };
    let admin = HttpLimits {
        connections: (files / 16).clamp(MIN_CONNECTIONS, 64),
        body_bytes: MAX_BODY,
        max_body: MAX_BODY / 16,
        timeouts: HttpTimeouts::default(),
    };
    [http, admin]
}

/// Returns how many connections the listener `grpc` may have open.
pub(super) fn grpc_connections(settings: &Settings, open_files: u64) -> usize {
    let files = usize::try_from(open_files).unwrap_or(usize::MAX);
    let most = settings.limits.connections.as_usize();
    // An eighth more may be open for a moment.
    most.min((files / 9).saturating_mul(5).max(MIN_CONNECTIONS))
}

/// The least that a listener gets.
const MIN_CONNECTIONS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_files_are_left_for_grpc() {
        let settings = Settings::default();
        for (files, grpc, http, admin) in [
            (64, 35, 16, 4),
            (1_024, 565, 256, 64),
            (65_536, 4_096, 512, 64),
            (u64::MAX, 4_096, 512, 64),
        ] {
            let limits = http_limits(&settings, files).map(|limits| limits.connections);
            assert_eq!(limits, [http, admin], "{files}");
            assert_eq!(grpc_connections(&settings, files), grpc, "{files}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_limit() {
        let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        raise_limit();
        assert_eq!(limit(), allowed);
    }
}
