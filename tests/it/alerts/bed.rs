//! A Tollgate whose alerts are watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tollgate::clock::Clock;
use tonic::Code;

use crate::harness::{Client, Harness, descriptor, request};

const POLICY: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { requests_per_unit: 1000000, unit: hour }
  - key: strict
    rate_limit: { requests_per_unit: 1000000, unit: hour, on_store_failure: error }
";

/// What is not a default in all of these tests.
pub(super) const QUICK: &str = "window: 5s, for: 1s, keep_firing_for: 1s";

/// A running Tollgate.
pub(super) struct Bed {
    pub(super) harness: Harness,
}

impl Bed {
    /// One that counts in its memory, with these `alerts`.
    pub(super) async fn in_memory(alerts: &str) -> Self {
        Self::start("", alerts).await
    }

    /// The same with room for so many keys.
    pub(super) async fn with_max_keys(keys: u32, alerts: &str) -> Self {
        Self::start(&format!("store: {{memory: {{max_keys: {keys}}}}}"), alerts).await
    }

    /// One that counts in the Redis at `url`, with more settings and these `alerts`.
    pub(super) async fn with_redis(url: &str, settings: &str, alerts: &str) -> Self {
        let settings = format!("store: {{kind: redis, redis: {{url: \"{url}\"}}}}\n{settings}");
        Self::start(&settings, alerts).await
    }

    async fn start(settings: &str, alerts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop.yaml"), POLICY).unwrap();
        let settings = format!("threads: 1\nalerts: {{{alerts}}}\n{settings}");
        let harness = Harness::serve(folder, &settings, Clock::system()).await;
        Self {
            harness: harness.unwrap(),
        }
    }

    /// What `/alerts` says.
    pub(super) async fn alerts(&self) -> Value {
        let (status, body) = self.harness.admin("/alerts").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// How an alert stands.
    pub(super) async fn standing(&self, alert: &str) -> Value {
        let alerts = self.alerts().await;
        let all = alerts["alerts"].as_array().unwrap();
        let found = all.iter().find(|one| one["alert"] == alert);
        found.unwrap_or_else(|| panic!("no {alert}")).clone()
    }

    pub(super) async fn fires(&self, alert: &str) -> bool {
        let state = &self.standing(alert).await["state"];
        let active = self.alerts().await["active"].clone();
        let named = active.as_array().unwrap().contains(&alert.into());
        // Two looks may see two states.
        state == "firing" && named
    }

    /// Waits until an alert fires; its value then.
    pub(super) async fn until_fires(&self, alert: &str) -> f64 {
        let what = format!("{alert} to fire");
        until(&what, async || self.fires(alert).await).await;
        let last = self.last_change(alert).await;
        assert_eq!(last["state"], "firing", "{last}");
        last["value"].as_f64().unwrap()
    }

    /// Waits until an alert that fired does not any more.
    pub(super) async fn until_resolved(&self, alert: &str) {
        let what = format!("{alert} to be resolved");
        until(&what, async || !self.fires(alert).await).await;
        until(&what, async || {
            self.last_change(alert).await["state"] == "resolved"
        })
        .await;
    }

    /// What happened last to an alert, as the history has it.
    pub(super) async fn last_change(&self, alert: &str) -> Value {
        let alerts = self.alerts().await;
        let history = alerts["history"].as_array().unwrap();
        let found = history.iter().find(|one| one["alert"] == alert);
        found.cloned().unwrap_or_default()
    }

    /// How often an alert began to fire, as the metrics have it.
    pub(super) async fn times_fired(&self, alert: &str) -> u64 {
        let name = "tollgate_alert_transitions_total";
        let series = format!("{name}{{alert=\"{alert}\",state=\"firing\"}}");
        self.count(&series).await
    }

    /// The value of a counter's series, which must be there.
    pub(super) async fn count(&self, series: &str) -> u64 {
        self.text_of(series).await.unwrap().parse().unwrap()
    }

    /// The value of a series.
    pub(super) async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.text_of(series).await?;
        Some(text.parse().unwrap())
    }

    async fn text_of(&self, series: &str) -> Option<String> {
        let (status, text) = self.harness.get("/metrics").await;
        assert_eq!(status, 200);
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .map(str::to_owned)
    }

    /// Has several callers ask for `key` all the time.
    pub(super) async fn load(&self, key: &'static str) -> Load {
        Load::start(self.harness.client().await, key)
    }

    /// Asks for what cannot be understood, so often.
    pub(super) async fn ask_nonsense(&self, times: usize) {
        let mut client = self.harness.client().await;
        for _ in 0..times {
            let refused = client.try_ask(request("", &[])).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }
}

/// Callers, until they are dropped.
pub(super) struct Load {
    callers: Vec<JoinHandle<()>>,
    stopped: Arc<AtomicBool>,
}

impl Load {
    fn start(client: Client, key: &'static str) -> Self {
        let stopped = Arc::<AtomicBool>::default();
        let callers = (0..CALLERS).map(|_| {
            let (mut client, stopped) = (client.clone(), Arc::clone(&stopped));
            tokio::spawn(async move {
                // Some hundred a second of all of them: enough to be judged by.
                let mut beat = interval(Duration::from_millis(20));
                while !stopped.load(Ordering::Relaxed) {
                    beat.tick().await;
                    let asked = request("shop", &[descriptor(&[(key, "ann")])]);
                    // Refused calls are what some tests are about.
                    drop(client.try_ask(asked).await);
                }
            })
        });
        Self {
            callers: callers.collect(),
            stopped,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for caller in &self.callers {
            caller.abort();
        }
    }
}

const CALLERS: usize = 8;

/// Waits until `condition` holds: alerts take their time.
pub(super) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        let mut beat = interval(Duration::from_millis(20));
        while !condition().await {
            beat.tick().await;
        }
    };
    timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
