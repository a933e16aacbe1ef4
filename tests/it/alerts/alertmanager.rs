//! A real Alertmanager with the configuration that is shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::bed::{Bed, until};
use super::causes::{MOST_ROUNDS, freeze_and_thaw, until_store};
use super::mail::{Mail, Relay};
use super::proxy::Proxy;
use super::receiver::Receiver;
use crate::harness::http_call;
use crate::process::Process;
use crate::topology::{Flavour, Single, free_port};

/// Alertmanager, and all who are told by it.
struct Desk {
    _process: Process,
    address: String,
    /// Both Slack and PagerDuty.
    receiver: Receiver,
    relay: Relay,
    _folder: tempfile::TempDir,
}

impl Desk {
    async fn start() -> Self {
        let (receiver, relay) = (Receiver::start().await, Relay::start().await);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("slack_url", &format!("{}{SLACK}", receiver.url()));
        write("pagerduty_key", "0123456789abcdef0123456789abcdef");
        write(
            "alertmanager.yml",
            &configuration(&receiver, &relay, folder.path()),
        );
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(PROGRAM);
        command
            .arg(format!(
                "--config.file={}",
                folder.path().join("alertmanager.yml").display()
            ))
            .arg(format!(
                "--storage.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            // It is alone.
            .arg("--cluster.listen-address=");
        let process = Process::spawn("alertmanager", &command);
        let desk = Self {
            _process: process,
            address,
            receiver,
            relay,
            _folder: folder,
        };
        until("Alertmanager is ready", async || {
            let connects = tokio::net::TcpStream::connect(&desk.address).await.is_ok();
            connects && get(&desk.address, "/-/ready").await.0 == 200
        })
        .await;
        desk
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What Slack was told of an alert: the titles of messages.
    fn slack(&self, alertname: &str) -> Vec<String> {
        let posts = self.receiver.posts(SLACK);
        let title = |post: &Value| post["attachments"][0]["title"].as_str().map(str::to_owned);
        let titles = posts.iter().filter_map(title);
        titles.filter(|title| title.contains(alertname)).collect()
    }

    /// What PagerDuty was told of an alert.
    fn pagerduty(&self, alertname: &str) -> Vec<String> {
        let posts = self.receiver.posts(PAGERDUTY);
        let of_it = posts.iter().filter(|post| {
            // What ends is known again by its key only.
            post.to_string().contains(alertname)
        });
        let keys: Vec<&Value> = of_it.map(|post| &post["dedup_key"]).collect();
        let known = posts
            .iter()
            .filter(|post| keys.contains(&&post["dedup_key"]));
        known
            .map(|post| post["event_action"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn get(address: &str, path: &str) -> (u16, String) {
    http_call(address, http::Method::GET, path, "").await
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/alertmanager/alertmanager.yml")
}

/// The one that is shipped, with other addresses and less patience.
fn configuration(receiver: &Receiver, relay: &Relay, folder: &Path) -> String {
    let mut text = fs::read_to_string(shipped()).unwrap();
    for (theirs, ours) in [
        ("/etc/alertmanager", folder.display().to_string()),
        ("localhost:25", relay.address().to_string()),
        (
            "https://events.pagerduty.com/v2/enqueue",
            format!("{}{PAGERDUTY}", receiver.url()),
        ),
    ] {
        assert!(text.contains(theirs), "{theirs}");
        text = text.replace(theirs, &ours);
    }
    let line = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        match (name.trim(), value) {
            ("group_wait", _) | ("group_interval", "1m") => format!("{name}: 1s\n"),
            // A day.
            ("group_interval" | "repeat_interval", "24h") => {
                format!("{name}: {}s\n", DAY.as_secs())
            }
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn the_shipped_configuration_is_accepted() {
    let checked = Command::new("amtool")
        .arg("check-config")
        .arg(shipped())
        .output();
    let checked = checked.expect("amtool; to get it: apt-get install prometheus-alertmanager");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}");
}

/// A Redis that is slow and freezes again and again: a warning and what wakes somebody.
#[tokio::test]
async fn slack_pagerduty_and_mail_hear_of_a_bad_redis_what_they_should_and_once() {
    let desk = Desk::start().await;
    let single = Single::start(Flavour::Redis7).await;
    let proxy = Proxy::start(single.server.addr()).await;
    let settings = "deadline: {store: 300ms, margin: 1ms}\n\
        circuit_breaker: {threshold: 1, probe_interval: 20ms}\n";
    let alerts = format!(
        "window: 15s, for: 1s, keep_firing_for: 1s, batch_failures: off, alertmanager_url: '{}'",
        desk.url()
    );
    let bed = Bed::with_redis(&proxy.url(), settings, &alerts).await;
    let _load = bed.load("user").await;
    until_store(&bed, "closed").await;
    proxy.slow_down(Duration::from_millis(150));
    bed.until_fires("redis_latency").await;
    until("Slack hears of the latency", async || {
        desk.slack(LATENCY).len() == 1
    })
    .await;
    for _ in 0..MOST_ROUNDS {
        if bed.fires("circuit_trips").await {
            break;
        }
        freeze_and_thaw(&bed, &single.server).await;
    }
    bed.until_fires("circuit_trips").await;
    until("PagerDuty hears of the trips", async || {
        desk.pagerduty(TRIPS).len() == 1
    })
    .await;
    assert!(bed.fires("redis_latency").await, "all the time");
    proxy.slow_down(Duration::ZERO);
    bed.until_resolved("redis_latency").await;
    bed.until_resolved("circuit_trips").await;
    until("everybody hears of the end", async || {
        let mails = desk.relay.mails();
        let last = mails.last().and_then(|mail| mail.header("Subject"));
        desk.slack(LATENCY).len() > 1
            && desk.slack(TRIPS).len() > 1
            && desk.pagerduty(TRIPS).len() > 1
            && last.is_some_and(|subject| subject.starts_with("Tollgate: 0 firing, "))
    })
    .await;

    for (alertname, severity) in [(LATENCY, "warning"), (TRIPS, "critical")] {
        let told = |what: &str| format!("{what}: {alertname} ({severity})");
        assert_eq!(desk.slack(alertname), [told("FIRING"), told("RESOLVED")]);
    }
    assert_eq!(desk.pagerduty(TRIPS), ["trigger", "resolve"]);
    assert_eq!(
        desk.pagerduty(LATENCY),
        Vec::<String>::new(),
        "wakes nobody"
    );
    let slack = desk.receiver.posts(SLACK);
    let text = slack[0]["attachments"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("threshold 100ms") && text.contains("SLOWLOG"),
        "{text}"
    );
    tell_of_the_day(&desk.relay.mails());
}

/// Each alert's beginning and end, in one mail a day at the most.
fn tell_of_the_day(mails: &[Mail]) {
    for mail in mails {
        assert_eq!(mail.to, ["operators@localhost"]);
    }
    for part in [
        format!("FIRING    {LATENCY} on "),
        format!("RESOLVED  {LATENCY} on "),
        format!("RESOLVED  {TRIPS} on "),
    ] {
        let told = mails.iter().any(|mail| mail.text.contains(&part));
        assert!(told, "{part}: {mails:#?}");
    }
    for pair in mails.windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(apart > DAY.mul_f64(0.9), "two mails of one day: {apart:?}");
    }
}

const PROGRAM: &str = "prometheus-alertmanager";
const SLACK: &str = "/slack";
const PAGERDUTY: &str = "/v2/enqueue";
const LATENCY: &str = "TollgateRedisLatency";
const TRIPS: &str = "TollgateCircuitTrips";

/// How long a day lasts here.
const DAY: Duration = Duration::from_secs(8);
