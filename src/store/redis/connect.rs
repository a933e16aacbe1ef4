//! Connects to one server, once.
//!
//! Names are resolved and files read anew each time, since managed servers fail over by DNS and
//! passwords rotate. Nothing is tried twice here, and a server's role is told, not judged.

use std::path::PathBuf;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{Config, ConnectionConfig, Server, ServerConfig, TcpConfig, TlsConfig};

use super::greeting::{self, Reached};
use super::{Connection, Failure, FailureClass, Place, Reply, Secret, bracketed, diagnosis, tls};

/// How to get in. Shows without the password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The ACL user; none, the server's `default`.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// A file that holds the password, instead; it may change between two connections.
    pub password_file: Option<PathBuf>,
    /// Speak TLS; none, do not.
    pub tls: Option<TlsFiles>,
    /// Number of the database; 0 in a cluster.
    pub database: u16,
}

/// Whom to trust, and as whom to appear. Files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities whose certificates are trusted; none, the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, followed by those that lead to its authority; with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate has to hold; none, the host.
    pub server_name: Option<String>,
}

/// Connects, shows the password, and asks who is there.
///
/// All of it is over `within` that time.
///
/// # Errors
/// If the server cannot be reached in time, does not let us in, is too old, or does not let us run
/// `INFO`.
pub async fn connect(
    place: &Place,
    access: &Access,
    within: Duration,
) -> Result<(Connection, Reached), Failure> {
    let all = async {
        // On the heap: it is large, and done once.
        let connection = Box::pin(dial(place, access, within)).await?;
        let reply = connection.command("INFO", Vec::new(), within).await?;
        let reached = greeting::read(place, &reply)?;
        Ok((connection, reached))
    };
    in_time(place, access, within, all).await
}

/// Connects and shows the password, without asking who is there. Takes longer than `within` if the
/// server is slow.
pub(super) async fn dial(
    place: &Place,
    access: &Access,
    within: Duration,
) -> Result<Connection, Failure> {
    let Prepared {
        username,
        password,
        tls,
    } = prepared(place, access).await?;
    let hide = |failure| hidden(failure, password.as_ref());
    let config = Config {
        username,
        password: password.as_ref().map(|secret| secret.reveal().to_owned()),
        server: server(place, access.tls.as_ref()),
        tls,
        ..Config::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: within,
        internal_command_timeout: within,
        max_command_attempts: 1,
        tcp: TcpConfig {
            nodelay: Some(true),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    };
    let client = Client::new(config, None, Some(connection), None);
    // Before it starts, so that it cannot be missed.
    let mut up = client.reconnect_rx();
    let mut driver = AbortOnDrop(Some(client.connect()));
    let ended = async {
        match driver.0.as_mut() {
            Some(driver) => driver.await,
            None => Ok(Ok(())),
        }
    };
    tokio::select! {
        biased;
        result = ended => {
            let failure = match result {
                Ok(Err(error)) => diagnosis::failed(place, &error),
                Ok(Ok(())) | Err(_) => diagnosis::lost(place, "the connection was closed"),
            };
            return Err(hide(with_scheme(failure, access)));
        }
        _connected = up.recv() => {}
    }
    let Some(driver) = driver.0.take() else {
        return Err(diagnosis::lost(place, "the connection was closed"));
    };
    let connection = Connection::new(client, place.clone(), within, driver);
    if access.database != 0 {
        let number = access.database.to_string().into();
        let _ok: Reply = connection
            .command("SELECT", vec![number], within)
            .await
            .map_err(hide)?;
    }
    Ok(connection)
}

/// Ends an attempt to connect when its time is over. Nothing is sent in it that changes a count, so
/// that it may be dropped.
pub(super) async fn in_time<T>(
    place: &Place,
    access: &Access,
    within: Duration,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(within, attempt).await {
        Ok(result) => result,
        Err(_elapsed) => {
            let detail = format!(
                "{place} did not let us in within {within:?}: check the address, routes and firewall, \
                 and that the server is not held up"
            );
            Err(with_scheme(
                Failure::new(FailureClass::Timeout, detail),
                access,
            ))
        }
    }
}

/// A failure to get in that tells little, with what it often comes from.
fn with_scheme(failure: Failure, access: &Access) -> Failure {
    let hint = match (failure.class, &access.tls) {
        (FailureClass::Timeout | FailureClass::Reset, Some(_)) => {
            "if it does not speak TLS, the scheme is redis://"
        }
        (FailureClass::Timeout | FailureClass::Reset, None) => {
            "if it expects TLS, the scheme is rediss://"
        }
        _ => return failure,
    };
    Failure {
        detail: format!("{}; {hint}", failure.detail),
        ..failure
    }
}

/// A task that must not outlive its owner, unless it is taken out.
struct AbortOnDrop(Option<fred::types::ConnectHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// What is read from files.
struct Prepared {
    username: Option<String>,
    password: Option<Secret>,
    tls: Option<TlsConfig>,
}

/// Reads the files, not on a thread that answers requests: the system's authorities alone take
/// milliseconds.
async fn prepared(place: &Place, access: &Access) -> Result<Prepared, Failure> {
    let (at, access) = (place.clone(), access.clone());
    let read = tokio::task::spawn_blocking(move || {
        let (username, password) = credentials(&access)?;
        let tls = tls_config(&at, access.tls.as_ref())?;
        Ok(Prepared {
            username,
            password,
            tls,
        })
    });
    match read.await {
        Ok(result) => result,
        Err(error) => Err(diagnosis::lost(place, &error.to_string())),
    }
}

/// The user and the password. A user who has none shows an empty one.
fn credentials(access: &Access) -> Result<(Option<String>, Option<Secret>), Failure> {
    let password = match (&access.password, &access.password_file) {
        (_, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                let detail = format!("cannot read the password from {path}: {error}");
                Failure::new(FailureClass::Auth, detail)
            })?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Some(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
        }
        (Some(password), None) => Some(password.clone()),
        (None, None) => access.username.as_ref().map(|_| Secret::new("")),
    };
    Ok((access.username.clone(), password))
}

fn server(place: &Place, tls: Option<&TlsFiles>) -> ServerConfig {
    match place {
        Place::Tcp { host, port } => {
            let mut server = Server::new(bracketed(host), *port);
            let name = tls.and_then(|tls| tls.server_name.as_ref());
            server.tls_server_name = Some(name.unwrap_or(host).as_str().into());
            ServerConfig::Centralized { server }
        }
        Place::Unix(path) => ServerConfig::new_unix_socket(path),
    }
}

fn tls_config(place: &Place, files: Option<&TlsFiles>) -> Result<Option<TlsConfig>, Failure> {
    match (place, files) {
        (_, None) => Ok(None),
        (Place::Tcp { .. }, Some(files)) => Ok(Some(tls::client(files)?.into())),
        (Place::Unix(_), Some(_)) => {
            let detail =
                format!("{place} is a unix socket, which has no TLS: remove the tls settings");
            Err(Failure::new(FailureClass::Tls, detail))
        }
    }
}

/// A failure without the password, whoever repeats it, be it only its beginning: servers cut what
/// they repeat.
fn hidden(failure: Failure, password: Option<&Secret>) -> Failure {
    let Some(password) = password.map(Secret::reveal).filter(|text| !text.is_empty()) else {
        return failure;
    };
    let mut detail = failure.detail.replace(password, super::secret::HIDDEN);
    let beginnings = (SHORTEST_CUT..password.len()).rev();
    let longest = beginnings
        .filter_map(|end| password.get(..end))
        .find(|beginning| detail.contains(beginning));
    if let Some(beginning) = longest {
        detail = detail.replace(beginning, super::secret::HIDDEN);
    }
    Failure { detail, ..failure }
}

/// Bytes of a password's beginning that are hidden by themselves. Fewer say little, and may be any
/// word.
const SHORTEST_CUT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hidden_even_if_only_its_beginning_is_repeated() {
        let password = Secret::new("correct horse battery staple");
        let shown = |text: &str| {
            let failure = Failure::new(FailureClass::Auth, text);
            hidden(failure, Some(&password)).detail
        };
        assert_eq!(shown("no 'correct horse battery staple'!"), "no '***'!");
        assert_eq!(shown("no 'correct horse batt"), "no '***");
        assert_eq!(shown("correct it"), "correct it");
        let failure = Failure::new(FailureClass::Auth, "as it was");
        assert_eq!(hidden(failure, None).detail, "as it was");
    }
}
