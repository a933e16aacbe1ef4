//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The other end of a connection, as the operating system tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over a unix socket; the rights of its file decide who that can be.
    Unix,
}

impl Peer {
    /// Whether it is on this machine, by loopback or a unix socket. A proxy on this machine is too,
    /// whoever it speaks for.
    #[must_use]
    pub const fn is_local(self) -> bool {
        match self {
            // A socket that listens on `::` tells 127.0.0.1 as ::ffff:127.0.0.1.
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }

    /// Returns the IP address, an IPv4-mapped one as IPv4; `None` over a unix socket.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }

    /// Returns the address that identifies a client: its IPv4 address, or its IPv6 network of 64 bits,
    /// within which a host can choose any address. `None` over a unix socket.
    #[must_use]
    pub const fn client(self) -> Option<IpAddr> {
        match self.ip() {
            Some(IpAddr::V6(address)) => {
                let network = address.to_bits() >> 64 << 64;
                Some(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            other => other,
        }
    }
}

/// For logs.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("a unix socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_unix_sockets_are_local() {
        let tcp = |address: &str| Peer::Tcp(address.parse().unwrap());
        for local in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(tcp(local).is_local(), "{local}");
        }
        for remote in [
            "10.0.0.1:1",
            "0.0.0.0:1",
            "[::]:1",
            "[2001:db8::1]:1",
            "[::ffff:10.0.0.1]:1",
        ] {
            assert!(!tcp(remote).is_local(), "{remote}");
        }
        assert!(Peer::Unix.is_local());
    }
}
