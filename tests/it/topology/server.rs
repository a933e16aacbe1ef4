//! One server process: a Redis, a Valkey or a Sentinel.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::binary::{Flavour, binary};
use super::ports;
use super::tls::Certificates;
use super::wire::{Connection, Login, Reply};
use crate::process::{Process, until_async};

/// A server with a folder of its own, on a TCP port and on a unix socket, by which tests see what
/// it does however its TCP side is set up. Ended by pid when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    recipe: Recipe,
    port: u16,
    /// Behind a lock, so that a fault can be made while others look at the server.
    process: Mutex<Process>,
    folder: TempDir,
}

/// What kind of server to start.
#[derive(Clone, Debug, Default)]
pub(super) struct Recipe {
    pub(super) flavour: Flavour,
    /// It watches others, and holds no data.
    pub(super) sentinel: bool,
    /// Its TCP port talks TLS and wants a client certificate.
    pub(super) tls: Option<Certificates>,
    /// How tests log in.
    pub(super) login: Option<Login>,
    /// More lines of its configuration.
    pub(super) lines: Vec<String>,
}

impl Server {
    /// Starts it, and waits until it answers.
    pub(super) async fn start(recipe: Recipe) -> Self {
        let mut folder = tempfile::tempdir().expect("a temporary folder");
        loop {
            let port = ports::free();
            let text = recipe.configuration(folder.path(), port);
            std::fs::write(folder.path().join(CONFIGURATION), text).expect("a writable folder");
            let process = Mutex::new(recipe.spawn(folder.path()));
            let server = Self {
                recipe: recipe.clone(),
                port,
                process,
                folder,
            };
            if server.is_up().await {
                return server;
            }
            // Somebody else took the port after it was seen free.
            folder = server.folder;
        }
    }

    /// Where it listens for Tollgate.
    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it listens for tests, and for whoever wants a unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Ends it as a crash does (`kill -9`), and waits until it is gone.
    pub(crate) fn kill(&self) {
        self.process.lock().kill();
    }

    /// Its process runs no more (SIGSTOP), but its connections stay: nothing answers, nothing is
    /// refused.
    pub(crate) fn freeze(&self) {
        self.process.lock().signal("STOP");
    }

    /// Ends a freeze.
    pub(crate) fn thaw(&self) {
        self.process.lock().signal("CONT");
    }

    /// Starts it again after [`Server::kill`], on the same port and with what it had written into
    /// its configuration, and waits until it answers.
    pub(crate) async fn restart(&self) {
        *self.process.lock() = self.recipe.spawn(self.folder.path());
        assert!(self.is_up().await, "{} is taken", self.addr());
    }

    /// Whether it has not ended. A frozen one has not.
    pub(crate) fn runs(&self) -> bool {
        self.process.lock().ended().is_none()
    }

    /// Whether it answers now.
    pub(crate) async fn answers(&self) -> bool {
        self.try_cli(&["PING"])
            .await
            .is_ok_and(|reply| reply.text() == "PONG")
    }

    /// A connection of the tests' own.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        Connection::open(&self.socket(), self.recipe.login.as_ref()).await
    }

    /// One command.
    pub(crate) async fn try_cli<A: AsRef<[u8]>>(&self, line: &[A]) -> io::Result<Reply> {
        self.connect().await?.call(line).await
    }

    /// One command that must work.
    pub(crate) async fn cli(&self, line: &[&str]) -> Reply {
        match self.try_cli(line).await {
            Ok(reply) => reply,
            Err(error) => panic!("{} answers {line:?}: {error}", self.addr()),
        }
    }

    /// A line of INFO or CLUSTER INFO; none if it does not answer or has no such line.
    pub(crate) async fn info(&self, line: &[&str], name: &str) -> Option<String> {
        let text = self.try_cli(line).await.ok()?.text();
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| *key == name);
        found.map(|(_, value)| value.to_owned())
    }

    /// Waits until it answers; false if its port is taken.
    async fn is_up(&self) -> bool {
        until_async("a server to answer", async || {
            let ended = self.process.lock().ended();
            if let Some(status) = ended {
                let taken = self.process.lock().said("Address already in use");
                assert!(taken, "{} ended early: {status}", self.addr());
                return Some(false);
            }
            self.answers().await.then_some(true)
        })
        .await
    }
}

impl Recipe {
    fn configuration(&self, folder: &Path, port: u16) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("memory");
        line("bind 127.0.0.1".into());
        line("protected-mode no".into());
        line(format!("dir {}", folder.display()));
        line(format!("unixsocket {}", folder.join(SOCKET).display()));
        match &self.tls {
            None => line(format!("port {port}")),
            Some(certificates) => {
                line("port 0".into());
                line(format!("tls-port {port}"));
                certificates.configure(&mut line);
            }
        }
        if !self.sentinel {
            // Nothing is kept, and a replica is served at once.
            for fixed in [
                "save \"\"",
                "appendonly no",
                "repl-diskless-sync yes",
                "repl-diskless-sync-delay 0",
            ] {
                line(fixed.into());
            }
        }
        self.lines.iter().cloned().for_each(line);
        text
    }

    fn spawn(&self, folder: &Path) -> Process {
        let mut command = Command::new(binary(self.flavour));
        command.arg(folder.join(CONFIGURATION));
        let name = if self.sentinel { "sentinel" } else { "redis" };
        if self.sentinel {
            command.arg("--sentinel");
        }
        Process::spawn(name, command.current_dir(folder))
    }
}

const CONFIGURATION: &str = "server.conf";
const SOCKET: &str = "redis.sock";
