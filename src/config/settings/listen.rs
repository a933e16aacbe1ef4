//! An address to listen on, as operators write it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::values::Parsed;

/// `host:port`, `[v6]:port` or `unix:/path`. A host's name is looked up when it is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// TCP; port 0 takes a free one.
    Tcp {
        /// An address or a name, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl ListenAddr {
    /// A TCP port of a host.
    #[must_use]
    pub fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp {
            host: host.to_owned(),
            port,
        }
    }
}

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(ListenAddrError::NoPath),
                _ => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(ListenAddrError::NoPort(text.to_owned()));
        };
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bracketed {
            Some(v6) if v6.parse::<Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(ListenAddrError::BadHost(host.to_owned())),
            None if host.is_empty() => return Err(ListenAddrError::NoHost(port.to_owned())),
            None if text.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() => {
                return Err(ListenAddrError::NoBrackets(text.to_owned()));
            }
            None if is_host(host) => host,
            None => return Err(ListenAddrError::BadHost(host.to_owned())),
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits => Ok(Self::tcp(host, port)),
            _ => Err(ListenAddrError::BadPort(port.to_owned())),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ListenAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed {
            expecting: "HOST:PORT or unix:/PATH",
            parse: |text: &str| text.parse().map_err(|e: ListenAddrError| e.to_string()),
        })
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddrError {
    /// What stands before the port is neither an address nor a name.
    #[error("{0:?} is neither an address nor a host name")]
    BadHost(String),
    /// What stands behind the last colon is no port.
    #[error("{0:?} is no port from 0 to 65535")]
    BadPort(String),
    /// An IPv6 address without brackets.
    #[error("{0:?} needs brackets around the IPv6 address, as in [::1]:8081")]
    NoBrackets(String),
    /// Only a port.
    #[error("the host is missing before \":{0}\"; 0.0.0.0 stands for every address")]
    NoHost(String),
    /// `unix:` alone.
    #[error("the path is missing after \"unix:\", as in unix:/run/tollgate.sock")]
    NoPath,
    /// No colon.
    #[error("{0:?} is no address: write HOST:PORT or unix:/PATH")]
    NoPort(String),
}

/// A name as DNS has it, or an IPv4 address; what looks like one must be one.
fn is_host(host: &str) -> bool {
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_shown_as_it_was_written() {
        for text in [
            "0.0.0.0:8081",
            "[::]:0",
            "[fe80::1]:65535",
            "localhost:8080",
            "tollgate.my_ns.svc:1",
            "unix:/run/tollgate.sock",
            "unix:relative.sock",
        ] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            (
                "8081",
                "\"8081\" is no address: write HOST:PORT or unix:/PATH",
            ),
            (
                ":8081",
                "the host is missing before \":8081\"; 0.0.0.0 stands for every address",
            ),
            (
                "::1:8081",
                "\"::1:8081\" needs brackets around the IPv6 address, as in [::1]:8081",
            ),
            (
                "::1",
                "\"::1\" needs brackets around the IPv6 address, as in [::1]:8081",
            ),
            ("[::g]:1", "\"[::g]\" is neither an address nor a host name"),
            (
                "1.2.3:80",
                "\"1.2.3\" is neither an address nor a host name",
            ),
            ("a b:80", "\"a b\" is neither an address nor a host name"),
            ("localhost:", "\"\" is no port from 0 to 65535"),
            ("localhost:+1", "\"+1\" is no port from 0 to 65535"),
            ("localhost:65536", "\"65536\" is no port from 0 to 65535"),
            (
                "unix:",
                "the path is missing after \"unix:\", as in unix:/run/tollgate.sock",
            ),
        ] {
            assert_eq!(text.parse::<ListenAddr>().unwrap_err().to_string(), why);
        }
    }
}
