//! Ports for servers that cannot take port 0, since others must be told theirs before they start.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that nobody listens on, nor on the one 10,000 above it, where a Cluster node's bus is.
///
/// Both lie below the ports that Linux gives to outgoing connections (from 32,768), so a server
/// that was killed finds its port free when it comes back. Within one run of the tests no port is
/// given twice before all were; another run begins elsewhere. What is left of the race, a server
/// notices when it cannot listen, and asks for another port.
pub(crate) fn free() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..COUNT)));
    let mut offsets = (0..COUNT).map(|_| NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
    offsets
        .find_map(|offset| {
            let port = FIRST + offset;
            (is_free(port) && is_free(port + BUS)).then_some(port)
        })
        .expect("a port that nobody listens on")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// From a node's port to its bus, as Redis has it.
const BUS: u16 = 10_000;
const FIRST: u16 = 12_000;
/// Divides 65,536, so that a counter that wraps goes on evenly.
const COUNT: u16 = 8_192;
