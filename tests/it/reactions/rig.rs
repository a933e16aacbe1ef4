//! A store in Redis and one core's way to it, without a service around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tollgate::clock::Clock;
use tollgate::event::{BreakerState, FallbackReason, StoreName};
use tollgate::model::{Algorithm, Check, Decision, Hits, OnStoreFailure, Source, Unit, Verdict};
use tollgate::store::redis::{Access, RedisConfig, RedisSample, RedisStore, Site};
use tollgate::store::{
    Asked, BreakerConfig, DeadlineConfig, FleetConfig, Lane, LocalConfig, LocalStore, SharedConfig,
    SharedStore, Unavailable,
};

use super::recorder::Recorder;
use crate::process::until_async;
use crate::redis::check;
use crate::window::long;

/// A lane to a store, and all that it tells.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) lane: Lane,
    pub(super) events: Arc<Recorder>,
    /// Hits of [`Rig::ask`] that the store said it has charged.
    charged: AtomicU64,
}

/// What a test may set.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    /// What probes wait.
    pub(crate) deadline: Duration,
    pub(crate) threshold: u32,
    pub(crate) timeout: Duration,
    pub(crate) probe: Duration,
    pub(crate) queue: usize,
    pub(crate) batch: usize,
    pub(crate) password_file: Option<PathBuf>,
    /// Limits per second have a store of their own, at the same place.
    pub(crate) per_second: bool,
    /// Where that is, if it is somewhere else.
    pub(crate) per_second_url: Option<String>,
    /// It takes no part in the agreement on one of several servers.
    pub(crate) is_observer: bool,
    /// What the names of keys begin with. The slot of a key does not depend on it.
    pub(crate) key_prefix: &'static str,
}

impl Default for Set {
    fn default() -> Self {
        Self {
            deadline: PATIENCE,
            threshold: 3,
            timeout: NEVER,
            probe: Duration::from_millis(50),
            queue: 10_000,
            batch: 128,
            password_file: None,
            per_second: false,
            per_second_url: None,
            is_observer: false,
            key_prefix: "tollgate",
        }
    }
}

impl Rig {
    /// One to `url`, that has been tried.
    pub(crate) async fn start(url: &str, set: Set) -> Self {
        let rig = Self::open(url, set);
        rig.lane.settled(PATIENCE).await;
        rig
    }

    /// One to `url`.
    pub(super) fn open(url: &str, set: Set) -> Self {
        let events = Arc::<Recorder>::default();
        let site = |url: &str| {
            let address: tollgate::store::redis::Address = url.parse().unwrap();
            Site {
                access: Access {
                    username: address.username.clone(),
                    password: address.password.clone(),
                    password_file: set.password_file.clone(),
                    ..Access::default()
                },
                address,
            }
        };
        let config = RedisConfig {
            name: StoreName::Main,
            sites: url.split(',').map(site).collect(),
            replica: (!set.is_observer).then(|| format!("{:016x}", fastrand::u64(..))),
            sentinel_access: Access::default(),
            key_prefix: set.key_prefix.into(),
            connect_timeout: Duration::from_secs(1),
            deadline: set.deadline,
            breaker: BreakerConfig {
                threshold: set.threshold,
                timeout: set.timeout,
            },
            probe_interval: set.probe,
            queue_size: set.queue,
            batch_size: set.batch,
        };
        let start = |config| RedisStore::start(config, Clock::system(), Arc::clone(&events) as _);
        let per_second = set.per_second.then(|| {
            let url = set.per_second_url.as_deref().unwrap_or(url);
            start(RedisConfig {
                name: StoreName::PerSecond,
                sites: url.split(',').map(site).collect(),
                ..config.clone()
            })
        });
        let shared = SharedStore::new(
            start(config),
            per_second,
            LocalStore::new(LocalConfig::default()),
            SharedConfig {
                deadline: DeadlineConfig {
                    store: set.deadline,
                    margin: Duration::ZERO,
                },
                fleet: FleetConfig::Auto,
            },
            Arc::clone(&events) as _,
        );
        Self {
            lane: Lane::open(&Arc::new(shared), 0),
            events,
            charged: AtomicU64::new(0),
        }
    }

    /// Charges a hit to a user, who waits for long; who decided.
    pub(super) async fn ask(&self, user: &str) -> Source {
        self.ask_within(user, PATIENCE).await
    }

    /// Charges a hit to a user, who waits for so long; who decided.
    pub(super) async fn ask_within(&self, user: &str, patience: Duration) -> Source {
        let source = self.decide(&[hit(user)], patience).await.unwrap().verdicts[0].source;
        if source == Source::Store {
            self.charged.fetch_add(1, Ordering::Relaxed);
        }
        source
    }

    /// Decides a query.
    pub(super) async fn decide(
        &self,
        checks: &[Check],
        patience: Duration,
    ) -> Result<Decision, Unavailable> {
        let asked = Asked {
            checks: checks.into(),
            enforce: true,
            domain: 0,
            trace: None,
        };
        self.lane.decide(asked, now() + patience).await
    }

    /// What the store counts for a user.
    pub(super) async fn counted(&self, user: &str) -> u64 {
        let peek = Check {
            hits: Hits::Peek,
            ..hit(user)
        };
        until_async("the store to tell a count", async || {
            let Verdict {
                source, counted, ..
            } = self.lane.inspect(&peek, PATIENCE).await;
            (source == Source::Store).then_some(counted)
        })
        .await
    }

    /// Hits of [`Rig::ask`] that the store said it has charged.
    pub(super) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Asks until the store decides.
    pub(super) async fn until_back(&self, user: &str) {
        until_async("the store to decide again", async || {
            (self.ask(user).await == Source::Store).then_some(())
        })
        .await;
    }

    /// Asks until the breaker is open.
    pub(super) async fn until_open(&self, user: &str, patience: Duration) {
        until_async("the breaker to open", async || {
            self.ask_within(user, patience).await;
            self.events
                .states()
                .contains(&BreakerState::Open)
                .then_some(())
        })
        .await;
    }

    /// Whether a query was ever answered without the store for this reason.
    pub(super) fn fell(&self, reason: FallbackReason) -> bool {
        self.events.fell().contains(&reason)
    }

    /// How the main store fares in numbers.
    pub(super) fn last(&self) -> RedisSample {
        self.lane.shared().last()[0].unwrap()
    }

    /// What went wrong last with the first link, as operators are told.
    pub(crate) fn trouble(&self) -> Option<String> {
        let status = self.lane.shared().status();
        status.first()?.links.first()?.failure.clone()
    }
}

/// A hit of a user, of whom 1,000 pass.
pub(super) fn hit(user: &str) -> Check {
    check(
        user,
        long(Algorithm::FixedWindow, 1_000, Unit::Day),
        Hits::Charge(1),
    )
}

/// The same by a rule that wants something else while the store is away.
pub(super) fn hit_or(user: &str, on_store_failure: OnStoreFailure) -> Check {
    Check {
        on_store_failure,
        ..hit(user)
    }
}

/// Lets every other task of this thread do what it can do now.
pub(super) async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Longer than anything that works takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Does not come in a test.
pub(super) const NEVER: Duration = Duration::from_secs(3_600);
