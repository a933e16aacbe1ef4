//! A real Prometheus on a free port, with the configuration that is shipped, and its HTTP API.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use super::board::list;
use super::{rules, text};
use crate::envoy::client::Client;
use crate::process::{Process, until_async};

/// Ended by pid when dropped, with its data.
#[derive(Debug)]
pub(super) struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

/// A series as a query answers it: its labels and its samples, each a time in seconds and a value.
#[derive(Debug)]
pub(super) struct Series {
    labels: Value,
    samples: Vec<(f64, f64)>,
}

impl Prometheus {
    /// Scrapes `targets` each second, and evaluates the rules as often.
    pub(super) async fn start(targets: &[SocketAddr]) -> Self {
        let mut tries = 0;
        loop {
            if let Some(started) = Self::try_start(targets).await {
                return started;
            }
            tries += 1;
            assert!(tries < 5, "Prometheus finds no port to listen on");
        }
    }

    /// None if it has ended: somebody else took the port that was free a moment ago.
    async fn try_start(targets: &[SocketAddr]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration(targets)).expect("a writable folder");
        std::fs::write(folder.path().join("tollgate.rules.yml"), text(rules::FILE))
            .expect("a writable folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a port");
        drop(listener);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ));
        command.arg(format!("--web.listen-address={address}"));
        command.arg("--log.level=warn");
        let mut process = Process::spawn("prometheus", &command);
        let ready = until_async("Prometheus to be ready", async || {
            if process.ended().is_some() {
                return Some(false);
            }
            let mut client = Client::try_connect(address).await.ok()?;
            (client.get("/-/ready", &[]).await.status == 200).then_some(true)
        })
        .await;
        ready.then_some(Self {
            _process: process,
            address,
            _folder: folder,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What an expression is now. Fails the test if Prometheus does not accept it.
    pub(super) async fn query(&self, expr: &str) -> Vec<Series> {
        let answer = self.get("query", &[("query", expr)]).await;
        list(&answer["data"]["result"])
            .iter()
            .map(Series::read)
            .collect()
    }

    /// What it was each second from `start` (a Unix time) until now.
    pub(super) async fn range(&self, expr: &str, start: f64) -> Vec<Series> {
        let (start, end) = (start.to_string(), self.now().await.to_string());
        let asked = [
            ("query", expr),
            ("start", &start),
            ("end", &end),
            ("step", "1"),
        ];
        let answer = self.get("query_range", &asked).await;
        list(&answer["data"]["result"])
            .iter()
            .map(Series::read)
            .collect()
    }

    /// Its own time, which dates its samples.
    pub(super) async fn now(&self) -> f64 {
        let answer = self.get("query", &[("query", "time()")]).await;
        answer["data"]["result"][0].as_f64().expect("a time")
    }

    /// Waits until an expression is true of something.
    pub(super) async fn sees(&self, what: &str, expr: &str) {
        until_async(what, async || {
            (!self.query(expr).await.is_empty()).then_some(())
        })
        .await;
    }

    /// How the rules fare: each one's name, and `ok` or what was wrong when it was evaluated.
    pub(super) async fn rules(&self) -> Vec<(String, String)> {
        let answer = self.get("rules", &[]).await;
        let groups = list(&answer["data"]["groups"]).iter();
        let of = |rule: &Value, part: &str| rule[part].as_str().unwrap_or_default().to_owned();
        groups
            .flat_map(|group| list(&group["rules"]))
            .map(|rule| {
                (
                    of(rule, "name"),
                    of(rule, "health") + &of(rule, "lastError"),
                )
            })
            .collect()
    }

    async fn get(&self, what: &str, parameters: &[(&str, &str)]) -> Value {
        let mut path = format!("/api/v1/{what}?");
        for (name, value) in parameters {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            write!(path, "{name}={value}&").expect("a string takes everything");
        }
        let reply = Client::connect(self.address).await.get(&path, &[]).await;
        assert_eq!(reply.status, 200, "{parameters:?}: {}", reply.body);
        serde_json::from_str(&reply.body).expect("JSON")
    }
}

impl Series {
    fn read(json: &Value) -> Self {
        let sample = |sample: &Value| {
            let value = sample[1].as_str()?.parse().ok()?;
            Some((sample[0].as_f64()?, value))
        };
        let many = list(&json["values"]).iter();
        Self {
            labels: json["metric"].clone(),
            samples: many.chain([&json["value"]]).filter_map(sample).collect(),
        }
    }

    /// Whether it was ever a number.
    pub(super) fn has_data(&self) -> bool {
        self.samples.iter().any(|(_, value)| !value.is_nan())
    }

    pub(super) fn has_label(&self, label: &str) -> bool {
        self.labels[label].is_string()
    }
}

/// The shipped one, in a hurry, for these targets, and telling nobody.
fn configuration(targets: &[SocketAddr]) -> String {
    let mut text = text("config/prometheus/prometheus.yml");
    let targets: Vec<String> = targets.iter().map(|it| format!("\"{it}\"")).collect();
    for (old, new) in [
        ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
        (
            "evaluation_interval: 15s",
            "evaluation_interval: 1s".to_owned(),
        ),
        ("[\"127.0.0.1:8080\"]", format!("[{}]", targets.join(", "))),
        // Where nobody listens.
        ("[\"127.0.0.1:9093\"]", "[\"127.0.0.1:1\"]".to_owned()),
    ] {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text = text.replace(old, &new);
    }
    text
}
