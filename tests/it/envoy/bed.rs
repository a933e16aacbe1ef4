//! Starts what a test needs: a Tollgate with policies, an Envoy in front of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock, Weak};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::client::{Client, Reply};
use super::config::Gateway;
use crate::process::{Process, until, until_async};

/// `tollgate serve` as an operator starts it.
#[derive(Debug)]
pub(crate) struct Tollgate {
    pub(crate) process: Process,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    _dir: TempDir,
}

/// An Envoy that listens on ports of its own.
#[derive(Debug)]
pub(crate) struct Envoy {
    _process: Process,
    pub(crate) gateway: SocketAddr,
    admin: SocketAddr,
    _dir: TempDir,
}

/// One Envoy in front of one Tollgate.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) tollgate: Tollgate,
    pub(crate) envoy: Envoy,
}

/// The repository.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The binary under test.
pub(crate) const TOLLGATE: &str = env!("CARGO_BIN_EXE_tollgate");

/// What is started: the binary that was built with the tests, or another one (`make attack`).
#[expect(
    clippy::disallowed_methods,
    reason = "how `make attack` tells the tests"
)]
fn under_test() -> String {
    std::env::var("TOLLGATE_BINARY").unwrap_or_else(|_| TOLLGATE.to_owned())
}

/// The policies of `limits.rs`, `hostile.rs` and `streams.rs`.
const POLICY: &str = include_str!("policy.yaml");

/// The pair that tests share; it ends with the last of them.
pub(crate) async fn shared() -> Arc<Bed> {
    static SHARED: Mutex<Weak<Bed>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(bed) = shared.upgrade() {
        return bed;
    }
    let bed = Arc::new(Bed::start("", POLICY, 2, Gateway::strict).await);
    *shared = Arc::downgrade(&bed);
    bed
}

impl Bed {
    /// Starts both.
    pub(crate) async fn start(
        settings: &str,
        policy: &str,
        workers: u8,
        gateway: impl FnOnce(Vec<SocketAddr>) -> Gateway,
    ) -> Self {
        let tollgate = Tollgate::start(settings, policy, None).await;
        let envoy = Envoy::start(workers, &gateway(vec![tollgate.grpc])).await;
        Self { tollgate, envoy }
    }

    /// One request to the gateway on a connection of its own.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &[u8])]) -> Reply {
        self.envoy.get(path, headers).await
    }

    /// The same for a user, which is what most routes limit by.
    pub(crate) async fn get_as(&self, user: &str, path: &str) -> Reply {
        self.get(path, &[("x-user-id", user.as_bytes())]).await
    }
}

impl Tollgate {
    /// Starts it with one policy file; on `grpc` if that is given, else on a free port.
    pub(crate) async fn start(settings: &str, policy: &str, grpc: Option<SocketAddr>) -> Self {
        let grpc = grpc.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        Self::start_with(settings, policy, grpc, &[]).await
    }

    /// The same with more flags for `serve`.
    pub(crate) async fn start_with(
        settings: &str,
        policy: &str,
        grpc: SocketAddr,
        flags: &[&str],
    ) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let (config, policies) = (
            dir.path().join("tollgate.yaml"),
            dir.path().join("policies"),
        );
        std::fs::write(&config, settings).expect("a writable folder");
        std::fs::create_dir(&policies).expect("a writable folder");
        std::fs::write(policies.join("policy.yaml"), policy).expect("a writable folder");
        let mut command = Command::new(under_test());
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .arg("--policies")
            .arg(policies)
            .args(flags);
        Self::run(command, grpc, dir).await
    }

    /// Starts it with its gRPC on a unix socket.
    pub(crate) async fn start_on_socket(policy: &str, socket: &Path) -> Process {
        let dir = socket.parent().expect("a folder");
        std::fs::write(dir.join("policy.yaml"), policy).expect("a writable folder");
        let mut command = Command::new(TOLLGATE);
        command.arg("serve").arg("--policies");
        command.arg(dir.join("policy.yaml"));
        command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--grpc"]);
        command.arg(format!("unix:{}", socket.display()));
        let mut process = Process::spawn("tollgate", &command);
        process
            .line("that it is ready", |line| {
                line.contains("ready").then_some(())
            })
            .await;
        process
    }

    /// Runs `serve` on loopback ports and waits until it has said which.
    pub(crate) async fn run(mut command: Command, grpc: SocketAddr, dir: TempDir) -> Self {
        command.args(["--grpc", &grpc.to_string()]);
        command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut process = Process::spawn("tollgate", &command);
        let grpc = process
            .line("where it listens", |line| address_after(line, "grpc"))
            .await;
        let http = process
            .line("where its HTTP is", |line| address_after(line, "http"))
            .await;
        let admin = process
            .line("where its admin is", |line| address_after(line, "admin"))
            .await;
        Self {
            process,
            grpc,
            http,
            admin,
            _dir: dir,
        }
    }
}

impl Envoy {
    pub(crate) async fn start(workers: u8, gateway: &Gateway) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let config = serde_json::to_string_pretty(&gateway.render(dir.path())).expect("JSON");
        Self::run(workers, &config, dir).await
    }

    /// Runs Envoy with a configuration whose gateway and admin have port 0.
    pub(crate) async fn run(workers: u8, config: &str, dir: TempDir) -> Self {
        let (file, said) = (dir.path().join("envoy.yaml"), dir.path().join("admin"));
        std::fs::write(&file, config).expect("a writable folder");
        let mut command = Command::new(binary());
        command
            .arg("-c")
            .arg(file)
            .arg("--admin-address-path")
            .arg(&said);
        command.args([
            "--concurrency",
            &workers.to_string(),
            "--log-level",
            "warning",
        ]);
        // Several run at once, and none is ever restarted.
        command.arg("--disable-hot-restart");
        let mut process = Process::spawn("envoy", &command);
        let admin: SocketAddr = until("Envoy to write its admin address", || {
            assert!(process.ended().is_none(), "Envoy ended early");
            std::fs::read_to_string(&said).ok()?.parse().ok()
        })
        .await;
        until_async("Envoy to be ready", async || {
            (ask(admin, "/ready").await.status == 200).then_some(())
        })
        .await;
        let gateway = gateway_of(&ask(admin, "/listeners?format=json").await.body);
        Self {
            _process: process,
            gateway,
            admin,
            _dir: dir,
        }
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &[u8])]) -> Reply {
        Client::connect(self.gateway).await.get(path, headers).await
    }

    /// One of Envoy's counters, 0 if it has not counted yet.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let path = format!("/stats?filter=^{}$", name.replace('.', r"\."));
        let text = ask(self.admin, &path).await.body;
        let Some((_, value)) = text.trim().split_once(": ") else {
            return 0;
        };
        value.parse().expect("a counter")
    }
}

/// Where the gateway really listens.
fn gateway_of(listeners: &str) -> SocketAddr {
    let listeners: Value = serde_json::from_str(listeners).expect("JSON");
    let all = listeners["listener_statuses"].as_array().expect("a list");
    let address = &all
        .iter()
        .find(|l| l["name"] == "gateway")
        .expect("a gateway")["local_address"];
    let port = address["socket_address"]["port_value"]
        .as_u64()
        .expect("a port");
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port")))
}

async fn ask(admin: SocketAddr, path: &str) -> Reply {
    Client::connect(admin).await.get(path, &[]).await
}

/// The first loopback address in a line after a word.
fn address_after(line: &str, word: &str) -> Option<SocketAddr> {
    let rest = line.split_once(word)?.1;
    let rest = rest.get(rest.find("127.0.0.1:")?..)?;
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)))
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Envoy's binary, fetched the first time.
fn binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| {
        let script = Path::new(ROOT).join("scripts/get-envoy");
        let done = Command::new(&script)
            .output()
            .map_err(|e| format!("{}: {e}", script.display()))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&done.stdout).trim()))
    });
    match found {
        Ok(path) => path,
        Err(why) => panic!(
            "these tests need a real Envoy, and there is none: {why}\n\
             Run scripts/get-envoy to get it, or set TOLLGATE_ENVOY to one of your own."
        ),
    }
}
