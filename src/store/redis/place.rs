//! Where one server listens.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// Where one server listens. Shows as `host:port`, `[::1]:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A TCP port.
    Tcp {
        /// A name or an address; an IPv6 address stands without brackets.
        host: String,
        /// Never 0.
        port: u16,
    },
    /// A unix socket on this machine.
    Unix(PathBuf),
}

impl Place {
    /// A TCP port.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }

    /// The name or address; none for a unix socket.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{}:{port}", bracketed(host)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A host as it is written before a port.
pub(super) fn bracketed(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{host}]"),
        Err(_not_v6) => host.to_owned(),
    }
}
