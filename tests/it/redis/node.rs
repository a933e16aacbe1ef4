//! A server as a test needs it: any settings, a port and a unix socket.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tempfile::TempDir;
use tollgate::store::redis::{
    Access, Call, Connection, Failure, Place, Reached, Reply, Secret, connect,
};

use super::{Algorithm, Hits, check, hourly};
use crate::process::Process;
use crate::topology::{Flavour, binary};

pub(super) use crate::topology::free_port;

/// A running server.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) process: Process,
    folder: TempDir,
    port: u16,
}

impl Node {
    /// Starts a server with more settings: `--name value..`.
    pub(super) async fn start(flavour: Flavour, settings: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flavour, settings).await
    }

    /// The same, in a folder that may hold its data.
    pub(super) async fn start_in(folder: TempDir, flavour: Flavour, settings: &[&str]) -> Self {
        let mut node = Self::launch(folder, flavour, settings);
        node.ready().await;
        node
    }

    /// The same, without waiting until it is ready.
    pub(super) fn launch(folder: TempDir, flavour: Flavour, settings: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new(binary(flavour));
        command.current_dir(folder.path());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.args(["--unixsocket", "redis.sock"]).args(settings);
        Self {
            process: Process::spawn("redis-server", &command),
            folder,
            port,
        }
    }

    /// Waits until it serves.
    pub(super) async fn ready(&mut self) {
        self.process
            .line("that it is ready", |line| {
                line.contains("eady to accept connections").then_some(())
            })
            .await;
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub(super) fn place(&self) -> Place {
        Place::tcp("127.0.0.1", self.port)
    }

    /// Where it listens, too.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it; its data stays.
    pub(super) fn end(mut self) -> TempDir {
        self.process.kill();
        self.folder
    }

    /// Reaches it as the default user.
    pub(super) async fn reach(&self) -> (Connection, Reached) {
        self.enter(&Access::default()).await.unwrap()
    }

    /// Tries to get in.
    pub(super) async fn enter(&self, access: &Access) -> Result<(Connection, Reached), Failure> {
        connect(&self.place(), access, PATIENCE).await
    }

    /// Has a command carried out on a connection of its own.
    pub(super) async fn command(&self, line: &[&str]) -> Reply {
        run(&self.reach().await.0, line).await.unwrap()
    }
}

/// Whether a connection is still open, as far as is known.
pub(super) fn is_open(connection: &Connection) -> bool {
    connection.closed().now_or_never().is_none()
}

/// Has a command carried out.
pub(super) async fn run(connection: &Connection, line: &[&str]) -> Result<Reply, Failure> {
    let (name, arguments) = line.split_first().unwrap();
    // A test has few of them.
    let name: &'static str = String::from(*name).leak();
    let arguments = arguments
        .iter()
        .map(|text| Bytes::copy_from_slice(text.as_bytes()));
    connection
        .command(name, arguments.collect(), PATIENCE)
        .await
}

/// A call that charges counters of these users by each algorithm.
pub(super) fn charge(users: &[&str]) -> Call {
    let mut call = Call::new("tollgate", None, 0);
    for user in users {
        let each =
            Algorithm::ALL.map(|algorithm| check(user, hourly(algorithm, 5), Hits::Charge(1)));
        call.push(&each, true).unwrap();
    }
    call
}

/// A user and a password.
pub(super) fn access(username: Option<&str>, password: &str) -> Access {
    Access {
        username: username.map(str::to_owned),
        password: Some(Secret::new(password)),
        ..Access::default()
    }
}

/// Runs each of these, a function of a [`Flavour`], on each server.
macro_rules! on_each_flavour {
    ($($name:ident,)*) => {
        on_each_flavour!(redis_7: Redis7: $($name,)*);
        on_each_flavour!(redis_6: Redis62: $($name,)*);
        on_each_flavour!(valkey: Valkey: $($name,)*);
    };
    ($server:ident: $flavour:ident: $($name:ident,)*) => {
        mod $server {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(crate::topology::Flavour::$flavour).await;
                }
            )*
        }
    };
}
pub(super) use on_each_flavour;

/// Time for what should work, and for what should fail by itself.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
