//! A call that is larger than what the sockets between Tollgate and a server hold, so that what comes
//! after it waits to be written while the server is frozen.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Makes the names of keys long, so that few checks fill a socket.
pub(super) const KEY_PREFIX: &str = {
    const LETTERS: [u8; 4_096] = [b'p'; 4_096];
    match str::from_utf8(&LETTERS) {
        Ok(prefix) => prefix,
        Err(_) => panic!("it is ASCII"),
    }
};

/// How many checks, whose keys begin with [`KEY_PREFIX`], take twice as much as the sockets hold.
///
/// How much that is differs between machines (`net.ipv4.tcp_wmem`, `net.ipv4.tcp_rmem`), so it is
/// measured: what a new connection takes that nobody reads.
pub(super) fn checks_to_fill_sockets() -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_reader, _) = listener.accept().unwrap();
    // A full socket still moves what it holds to the other one.
    writer.set_write_timeout(Some(SETTLED)).unwrap();
    let mut held = 0;
    while held < MOST {
        match writer.write(&[0; 65_536]) {
            Ok(written) => held += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(held < MOST, "a call cannot be so large");
    2 * held / KEY_PREFIX.len()
}

/// Longer than what is in a socket takes to the other one.
const SETTLED: Duration = Duration::from_millis(100);

/// Half of what the keys of a call take at most.
const MOST: usize = 65_535 * KEY_PREFIX.len() / 2;
