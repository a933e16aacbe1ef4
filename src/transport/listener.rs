//! Sockets to listen on: TCP or unix.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::model::Peer;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; the host may be a name, and port 0 takes a free one.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound socket. A unix socket's file goes with it.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener, SocketFile),
}

/// A listener that is registered with no runtime.
#[derive(Debug)]
pub(super) enum DetachedListener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl DetachedListener {
    /// Registers the listener with the current runtime.
    pub(super) fn attach(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener, file) => Listener::Unix(UnixListener::from_std(listener)?, file),
        })
    }
}

/// A connection that a client opened.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream, Peer),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(.address, .source))]
pub struct BindError {
    address: Address,
    source: io::Error,
}

impl Listener {
    /// Starts to listen on `address`.
    ///
    /// # Errors
    /// If the address is taken, is not ours, or may not be used.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp(address) => bind_tcp(address).await.map(Self::Tcp),
            Address::Unix(path) => bind_unix(path).await,
        };
        bound.map_err(|source| BindError {
            address: address.clone(),
            source,
        })
    }

    /// Deregisters the listener from its runtime.
    ///
    /// # Errors
    /// If the runtime's I/O driver fails.
    pub(super) fn detach(self) -> io::Result<DetachedListener> {
        Ok(match self {
            Self::Tcp(listener) => DetachedListener::Tcp(listener.into_std()?),
            Self::Unix(listener, file) => DetachedListener::Unix(listener.into_std()?, file),
        })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> Address {
        match self {
            Self::Tcp(listener) => Address::Tcp(
                listener
                    .local_addr()
                    .as_ref()
                    .map_or_else(ToString::to_string, SocketAddr::to_string),
            ),
            Self::Unix(_, file) => Address::Unix(file.0.clone()),
        }
    }

    /// Lets every user of the machine connect to a unix socket who may enter its folder: an Envoy
    /// runs as another user. By itself a socket takes its rights from the umask. Does nothing to TCP,
    /// which has no such rights.
    ///
    /// # Errors
    /// If the rights cannot be changed.
    pub fn open_to_all(&self) -> Result<(), BindError> {
        let Self::Unix(_, SocketFile(path)) = self else {
            return Ok(());
        };
        let everyone = Permissions::from_mode(0o666);
        std::fs::set_permissions(path, everyone).map_err(|source| BindError {
            address: self.address(),
            source,
        })
    }

    /// Waits for the next connection. Small writes leave at once: Envoy waits for each of them.
    ///
    /// # Errors
    /// If the operating system has no more room for connections; a later call may succeed.
    pub async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    // The connection is broken already, as the first read will show.
                    debug!(peer = %address, %error, "cannot set TCP_NODELAY");
                }
                Ok(Connection::Tcp(stream, Peer::Tcp(address)))
            }
            Self::Unix(listener, _) => Ok(Connection::Unix(listener.accept().await?.0)),
        }
    }
}

impl Connection {
    /// Who opened it.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, peer) => *peer,
            Self::Unix(_) => Peer::Unix,
        }
    }
}

/// Accepts connections, and retries when that fails.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: Listener,
    /// The listener's name in log lines.
    name: &'static str,
    warned_at: Option<Instant>,
}

impl Acceptor {
    pub(super) const fn new(listener: Listener, name: &'static str) -> Self {
        Self {
            listener,
            name,
            warned_at: None,
        }
    }

    /// Returns the next connection. Logs a failure at most once a minute and retries. Cancel-safe.
    pub(super) async fn next(&mut self) -> Connection {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        loop {
            let error = match self.listener.accept().await {
                Ok(connection) => return connection,
                Err(error) => error,
            };
            // Concerns that one connection; the next one may be waiting already.
            if matches!(
                error.kind(),
                ConnectionAborted | ConnectionRefused | ConnectionReset
            ) {
                continue;
            }
            let now = Instant::now();
            if self.warned_at.is_none_or(|at| now - at >= WARN_INTERVAL) {
                self.warned_at = Some(now);
                warn!(
                    %error,
                    listener = self.name,
                    "cannot accept connections; retrying (is the limit on open files too low?)"
                );
            }
            sleep(BACKOFF).await;
        }
    }
}

/// Delay before accepting again after a failure.
const BACKOFF: Duration = Duration::from_millis(100);

/// The shortest time between two warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Connections that the kernel queues until they are accepted, at most `net.core.somaxconn`. All Envoys of a
/// fleet reconnect at once after a restart.
const BACKLOG: u32 = 4096;

/// Binds the first address that the name resolves to and that can be bound.
async fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    let mut failed = None;
    for address in lookup_host(address).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let bound = socket.and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        });
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// Takes over the socket file of a server that is gone, and refuses one that is in use.
async fn bind_unix(path: &Path) -> io::Result<Listener> {
    if is_socket(path)
        && let Err(error) = UnixStream::connect(path).await
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}

/// The file of a unix socket, removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _gone = std::fs::remove_file(&self.0);
    }
}

fn hint(address: &Address, error: &io::Error) -> &'static str {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, NotADirectory, NotFound, PermissionDenied};
    match (address, error.kind()) {
        (Address::Tcp(_), AddrInUse) => {
            " (is another server running there? port 0 takes a free one)"
        }
        (Address::Tcp(_), AddrNotAvailable) => " (the address is not one of this machine's)",
        (Address::Tcp(_), PermissionDenied) => " (ports below 1024 need a privilege)",
        (Address::Unix(path), AddrInUse) if is_socket(path) => " (another server listens there)",
        (Address::Unix(_), AddrInUse) => " (something is there that is not a socket; remove it)",
        (Address::Unix(_), NotADirectory | NotFound) => {
            " (the folder of the socket does not exist)"
        }
        (Address::Unix(_), PermissionDenied) => {
            " (the user that runs tollgate has no right to write to the folder of the socket)"
        }
        _ => "",
    }
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(address: &Address) -> String {
        Listener::bind(address).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_told_for_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let unix = |name: &str| Address::Unix(folder.path().join(name));
        let socket = Listener::bind(&unix("socket")).await.unwrap();
        let told = refused(&unix("socket")).await;
        assert!(told.ends_with("(another server listens there)"), "{told}");
        std::fs::write(folder.path().join("file"), "").unwrap();
        let told = refused(&unix("file")).await;
        assert!(told.ends_with("not a socket; remove it)"), "{told}");
        for name in ["no/socket", "file/socket"] {
            let told = refused(&unix(name)).await;
            assert!(
                told.ends_with("folder of the socket does not exist)"),
                "{told}"
            );
        }
        drop(socket);
        let tcp = Listener::bind(&Address::Tcp("127.0.0.1:0".into()))
            .await
            .unwrap();
        let told = refused(&tcp.address()).await;
        assert!(told.ends_with("port 0 takes a free one)"), "{told}");
    }

    #[tokio::test]
    async fn a_socket_can_be_opened_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = Listener::bind(&Address::Unix(path.clone())).await.unwrap();
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        assert_ne!(mode(), 0o666);
        socket.open_to_all().unwrap();
        assert_eq!(mode(), 0o666);
        let tcp = Listener::bind(&Address::Tcp("127.0.0.1:0".into()))
            .await
            .unwrap();
        assert!(tcp.open_to_all().is_ok());
    }
}
