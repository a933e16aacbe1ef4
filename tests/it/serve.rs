//! `tollgate serve` as a process: signals, the log, what it prints.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cli::{POLICY, Served, run, text, tollgate};
use crate::harness::{http_call, until};

/// A folder with settings, a folder of policies in it, and how to serve them on free ports.
struct Shop {
    folder: tempfile::TempDir,
    settings: PathBuf,
    policies: PathBuf,
}

impl Shop {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let shop = Self {
            settings: path("tollgate.yaml"),
            policies: path("policies"),
            folder,
        };
        std::fs::create_dir(&shop.policies).unwrap();
        std::fs::write(shop.policies.join("shop.yaml"), POLICY).unwrap();
        std::fs::write(&shop.settings, settings).unwrap();
        shop
    }

    fn arguments(&self) -> Vec<&str> {
        let mut arguments = vec!["--config", text(&self.settings)];
        arguments.extend(["--policies", text(&self.policies)]);
        for listener in ["--grpc", "--http", "--admin"] {
            arguments.extend([listener, "127.0.0.1:0"]);
        }
        arguments
    }
}

#[test]
fn a_redis_that_is_refused_is_wrong_usage_and_its_password_is_not_repeated() {
    for (urls, why) in [
        ("redis://:hunter2@h:0", "the port is not a number"),
        ("redis://:hunter2@h,rdis://:hunter2@h", "rdis://"),
        ("redis://:hun/ter2@h", "in a password / is written %2F"),
        ("redis://h,", "starts with its scheme"),
        ("", "starts with its scheme"),
    ] {
        let (code, out, err) = run(&["serve", "--redis", urls]);
        assert_eq!(code, 2, "{urls}: {out}{err}");
        assert!(err.contains("--redis <URL[,URL...]>"), "{err}");
        assert!(err.contains(why) && !err.contains("ter2"), "{err}");
    }
    // What one URL alone cannot tell is refused with the other settings.
    let cluster = "redis-cluster://:hunter2@h,redis://i";
    let (code, out, err) = run(&["serve", "--redis", cluster]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("store.redis.failover_urls: redis-cluster://:***@h fails over"));
}

#[test]
fn help_and_completions_know_the_redis() {
    let (_, help, _) = run(&["serve", "--help"]);
    for part in ["--redis <URL[,URL...]>", "--redis redis://127.0.0.1:6379/0"] {
        assert!(help.contains(part), "{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (_, completions, _) = run(&["completions", shell]);
        assert!(completions.contains("redis"), "{shell}");
    }
}

#[tokio::test]
async fn a_hangup_changes_the_log_level_and_says_what_needs_a_restart() {
    let shop = Shop::new("");
    let (served, _) = Served::start(&shop.arguments());
    let settings = "telemetry: { log: { level: error } }\nthreads: 3\n";
    std::fs::write(&shop.settings, settings).unwrap();
    served.signal("-HUP");
    served.logged("telemetry.log.level: info -> error").await;
    let restart = served.logged("need a restart").await;
    assert!(restart.contains("threads: "), "{restart}");
    // Nothing is heard at this level but what is broken. The acknowledgement at the old level is
    // the last line of a reload, so whatever comes now was written at the new one.
    std::fs::write(
        &shop.settings,
        "telemetry: { log: { level: error } }\ndefaults: { enforce_percent: 7 }\n",
    )
    .unwrap();
    served.signal("-HUP");
    until("it is in force", async || {
        let (_, dump) = http_call(&served.admin, http::Method::GET, "/config_dump", "").await;
        dump.contains("\"enforce_percent\": 7,")
    })
    .await;
    std::fs::write(&shop.settings, "telemetry: { log: { level: debug } }\n").unwrap();
    served.signal("-HUP");
    served.logged("telemetry.log.level: error -> debug").await;
    let heard = served.log.lock().join("\n");
    assert!(
        !heard.contains("defaults.enforce_percent: 100 -> 7"),
        "{heard}"
    );
    assert!(
        heard.contains("defaults.enforce_percent: 7 -> 100"),
        "{heard}"
    );
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let shop = Shop::new("shutdown: { drain_delay: 1h, grace: 1h }\n");
    let (mut served, _) = Served::start(&shop.arguments());
    served.signal("-TERM");
    until("it drains", async || {
        http_call(&served.http, http::Method::GET, "/readyz", "")
            .await
            .0
            == 503
    })
    .await;
    served.signal("-TERM");
    assert_eq!(served.ended().await, Some(1));
}

#[tokio::test]
async fn a_reload_that_hangs_keeps_no_signal_from_being_heard() {
    let shop = Shop::new("shutdown: { drain_delay: 0s, grace: 1s }\n");
    let (mut served, _) = Served::start(&shop.arguments());
    std::fs::remove_file(&shop.settings).unwrap();
    let made = Command::new("mkfifo").arg(&shop.settings).status().unwrap();
    assert!(made.success());
    served.signal("-HUP");
    // A pipe can be opened for writing without waiting only once somebody reads it.
    let mut pipe = None;
    until("the settings are read", async || {
        let mut options = std::fs::OpenOptions::new();
        pipe = options
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(&shop.settings)
            .ok();
        pipe.is_some()
    })
    .await;
    assert_eq!(
        run(&["query", "--addr", &served.grpc, "shop", "user=x"]).0,
        0
    );
    served.signal("-TERM");
    assert_eq!(served.ended().await, Some(0));
    drop(pipe);
    drop(shop.folder);
}

/// As Linux has it.
const O_NONBLOCK: i32 = 0o4000;

/// A process that is killed when dropped, and the lines that it writes.
struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Its output is what `pipe` takes of it.
    fn start(mut command: Command, pipe: impl FnOnce(&mut Child) -> Box<dyn Read + Send>) -> Self {
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(pipe(&mut child));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                read.lock().push(line);
            }
        });
        Self { child, lines }
    }

    async fn line(&self, index: usize) -> String {
        let mut line = None;
        until(&format!("line {index} is written"), async || {
            line = self.lines.lock().get(index).cloned();
            line.is_some()
        })
        .await;
        line.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn a_free_port_is_printed_at_every_log_level() {
    for level in ["error", "info"] {
        let shop = Shop::new("");
        let mut command = tollgate(&["serve"]);
        command
            .args(shop.arguments())
            .env("TOLLGATE_TELEMETRY__LOG__LEVEL", level)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let served = Running::start(command, |child| Box::new(child.stdout.take().unwrap()));
        let admin = served.line(2).await;
        assert!(admin.starts_with("listen.admin: 127.0.0.1:"), "{admin}");
        let line = served.line(0).await;
        let grpc = line.strip_prefix("listen.grpc: ").unwrap();
        assert_eq!(run(&["query", "--addr", grpc, "shop", "user=x"]).0, 0);
        let line = served.line(1).await;
        let http = line.strip_prefix("listen.http: ").unwrap();
        assert_eq!(run(&["healthcheck", "--addr", http]).0, 0);
    }
}

#[test]
fn a_start_that_fails_is_told_as_the_log_is() {
    let shop = Shop::new("telemetry: { log: { format: json } }\n");
    std::fs::remove_dir_all(&shop.policies).unwrap();
    let mut arguments = vec!["serve"];
    arguments.extend(shop.arguments());
    let (code, _, err) = run(&arguments);
    assert_eq!(code, 1);
    let line: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(line["level"], "ERROR");
    let message = line["message"].as_str().unwrap();
    for part in [
        "cannot start",
        text(&shop.policies),
        "does not exist",
        "--policies",
    ] {
        assert!(message.contains(part), "{message}");
    }
    std::fs::write(&shop.settings, "").unwrap();
    let (code, _, err) = run(&arguments);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("tollgate: ") && err.contains("--policies PATH"),
        "{err}"
    );
}

#[tokio::test]
async fn a_json_log_is_json_line_by_line() {
    let shop = Shop::new("telemetry: { log: { format: json } }\n");
    let mut command = tollgate(&["serve"]);
    command.args(shop.arguments()).stderr(Stdio::piped());
    let served = Running::start(command, |child| Box::new(child.stderr.take().unwrap()));
    let json = async |index| -> serde_json::Value {
        serde_json::from_str(&served.line(index).await).unwrap()
    };
    let ready = json(0).await;
    assert_eq!(ready["message"], "ready");
    assert_eq!(ready["level"], "INFO");
    assert!(ready["grpc"].as_str().unwrap().starts_with("127.0.0.1:"));
    // A report of several lines is one line here.
    std::fs::write(
        shop.policies.join("shop.yaml"),
        "domain: shop\nkee: a\ndescriptors: 5\n",
    )
    .unwrap();
    let refused = json(1).await;
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("shop.yaml:2:") && message.contains("shop.yaml:3:"),
        "{message}"
    );
}
