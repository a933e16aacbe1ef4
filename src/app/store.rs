//! The store as the settings want it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::configure;
use super::hostname::hostname;
use crate::clock::Clock;
use crate::config::settings::{self, Replicas, Settings, StoreKind};
use crate::event::{Events, StoreName};
use crate::store::redis::{
    Access, Address, Place, RedisConfig, RedisStore, Site, TlsFiles, Topology,
};
use crate::store::{
    BreakerConfig, DeadlineConfig, FleetConfig, LocalConfig, LocalStore, MemoryStore, SharedConfig,
    SharedStore, Store,
};

/// Where counts are, for the log: without users and passwords.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) kind: &'static str,
    /// Of the shared store, if there is one; likewise below.
    pub(super) topology: Option<&'static str>,
    pub(super) servers: Option<String>,
    pub(super) per_second_servers: Option<String>,
    /// How it is known how many replicas share a limit while the store is away.
    pub(super) replicas: String,
}

/// What the settings say of the store.
pub(super) fn summary(settings: &Settings) -> Summary {
    let redis = &settings.store.redis;
    match settings.store.kind {
        StoreKind::Memory => Summary {
            kind: "memory",
            topology: None,
            servers: None,
            per_second_servers: None,
            replicas: "each counts alone".to_owned(),
        },
        StoreKind::Redis => {
            let others = redis.failover_urls.0.iter();
            let mut servers = vec![servers(redis.url.address())];
            servers.extend(others.map(|url| self::servers(url.address())));
            Summary {
                kind: "redis",
                topology: Some(match redis.url.address().topology {
                    Topology::Cluster(_) => "cluster",
                    Topology::Sentinel { .. } => "sentinel",
                    Topology::Single(_) if servers.len() > 1 => "failover list",
                    Topology::Single(_) => "single",
                }),
                servers: Some(servers.join(", ")),
                per_second_servers: redis
                    .per_second_url
                    .as_ref()
                    .map(|url| self::servers(url.address())),
                replicas: match settings.fleet.replicas {
                    Replicas::Auto => "auto".to_owned(),
                    Replicas::Count(count) => count.get().to_string(),
                },
            }
        }
    }
}

/// The servers that an address names, those of a Sentinel first for what they are asked.
fn servers(address: &Address) -> String {
    let list = |places: &[Place]| {
        let places: Vec<String> = places.iter().map(Place::to_string).collect();
        places.join(", ")
    };
    match &address.topology {
        Topology::Single(place) => place.to_string(),
        Topology::Cluster(places) => list(places),
        Topology::Sentinel {
            service, sentinels, ..
        } => format!("{service} at {}", list(sentinels)),
    }
}

/// Opens the store; where it is in Redis, the servers are looked for from now on.
pub(super) fn open(settings: &Settings, clock: &Clock, events: &Arc<dyn Events>) -> Store {
    let memory = configure::memory(settings);
    match settings.store.kind {
        StoreKind::Memory => Store::Memory(Arc::new(MemoryStore::new(memory))),
        StoreKind::Redis => {
            let replica = Some(replica(settings));
            let (main, per_second) = shared_stores(settings, replica, clock, events);
            Store::Shared(Arc::new(SharedStore::new(
                main,
                per_second,
                LocalStore::new(LocalConfig {
                    max_keys: memory.max_keys,
                    ..LocalConfig::default()
                }),
                shared(settings),
                Arc::clone(events),
            )))
        }
    }
}

/// The stores in Redis that the settings name, whether they are used or not: the main one, and that
/// for limits per second if it has one of its own. Their servers are looked for from now on. Without the name of a
/// replica they are only looked at.
pub(crate) fn shared_stores(
    settings: &Settings,
    replica: Option<String>,
    clock: &Clock,
    events: &Arc<dyn Events>,
) -> (Arc<RedisStore>, Option<Arc<RedisStore>>) {
    let start = |name, sites| {
        let config = RedisConfig {
            replica: replica.clone(),
            ..redis(settings, name, sites)
        };
        RedisStore::start(config, clock.clone(), Arc::clone(events))
    };
    let redis = &settings.store.redis;
    let urls = std::iter::once(&redis.url).chain(&redis.failover_urls.0);
    let main = urls.map(|url| site(redis, url.address())).collect();
    let per_second = redis.per_second_url.as_ref().map(|url| {
        let sites = vec![site(redis, url.address())];
        start(StoreName::PerSecond, sites)
    });
    (start(StoreName::Main, main), per_second)
}

/// How long to wait for the store before Envoy may ask.
pub(crate) fn patience(settings: &Settings) -> Duration {
    settings.store.redis.connect_timeout.get()
}

fn shared(settings: &Settings) -> SharedConfig {
    SharedConfig {
        deadline: DeadlineConfig {
            store: settings.deadline.store.get(),
            margin: settings.deadline.margin.get(),
        },
        fleet: match settings.fleet.replicas {
            Replicas::Auto => FleetConfig::Auto,
            Replicas::Count(count) => FleetConfig::Fixed(count.get()),
        },
    }
}

fn redis(settings: &Settings, name: StoreName, sites: Vec<Site>) -> RedisConfig {
    let redis = &settings.store.redis;
    let sentinel_access = sentinel_access(redis, sites.first());
    RedisConfig {
        name,
        sites,
        replica: None,
        sentinel_access,
        key_prefix: redis.key_prefix.as_str().to_owned(),
        connect_timeout: redis.connect_timeout.get(),
        deadline: settings.deadline.store.get(),
        breaker: BreakerConfig {
            threshold: settings.circuit_breaker.threshold.get(),
            timeout: settings.circuit_breaker.timeout.get(),
        },
        probe_interval: settings.circuit_breaker.probe_interval.get(),
        queue_size: settings.queue.max_size.as_usize(),
        batch_size: settings.queue.batch_size.as_usize(),
    }
}

/// This replica's name towards the others: the machine's (a pod's) and where it listens, so that it keeps its name when it
/// is started again. With a port that is chosen at the start it has another name each time.
fn replica(settings: &Settings) -> String {
    let listen = settings.listen.grpc.to_string();
    match listen.ends_with(":0") {
        true => format!("{:016x}", fastrand::u64(..)),
        false => format!("{}/{listen}", hostname()),
    }
}

/// A URL's user and password win over those of the settings.
fn site(redis: &settings::Redis, address: &Address) -> Site {
    let access = Access {
        username: address.username.clone().or_else(|| redis.username.clone()),
        password: address.password.clone(),
        password_file: unless(address.password.is_some(), &redis.password_file),
        tls: address.tls.then(|| tls(&redis.tls)),
        database: address.database,
    };
    Site {
        address: address.clone(),
        access,
    }
}

fn sentinel_access(redis: &settings::Redis, site: Option<&Site>) -> Access {
    let mut access = Access {
        username: redis.sentinel.username.clone(),
        password: None,
        password_file: redis.sentinel.password_file.clone(),
        tls: None,
        database: 0,
    };
    let Some(Site { address, .. }) = site else {
        return access;
    };
    access.tls = address.tls.then(|| tls(redis.sentinel_tls()));
    if let Topology::Sentinel {
        username, password, ..
    } = &address.topology
    {
        access.username = username.clone().or(access.username);
        access.password_file = unless(password.is_some(), &access.password_file);
        access.password = password.clone();
    }
    access
}

fn tls(files: &settings::RedisTls) -> TlsFiles {
    TlsFiles {
        ca_file: files.ca_file.clone(),
        cert_file: files.cert_file.clone(),
        key_file: files.key_file.clone(),
        server_name: files
            .server_name
            .as_ref()
            .map(|name| name.as_str().to_owned()),
    }
}

fn unless(given: bool, file: &Option<PathBuf>) -> Option<PathBuf> {
    match given {
        true => None,
        false => file.clone(),
    }
}
