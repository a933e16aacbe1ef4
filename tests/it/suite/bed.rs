//! Every store, ready to be asked as the service asks it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Clock;
use tollgate::event::{Silence, StoreName};
use tollgate::model::Algorithm;
use tollgate::store::redis::{
    Access, RedisConfig, RedisStore, Site, TlsFiles, Topology as Servers,
};
use tollgate::store::{
    BreakerConfig, DeadlineConfig, FleetConfig, LocalConfig, LocalStore, SharedConfig, SharedStore,
    Store,
};

use super::checks::memory;
use super::client::Client;
use crate::topology::{
    self, Cluster, Flavour, Options, Pair, Sentinel, Server, Single, Topology, every_key_expires,
};

/// A store that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    Redis7,
    Redis62,
    Valkey,
    /// Its second database.
    UnixSocket,
    /// A client's certificate, and a user who may do what Tollgate needs and nothing else.
    TlsAndUser,
    /// Servers and Sentinels have passwords, different ones.
    Sentinel,
    Cluster,
    /// The first of two servers.
    FailoverList,
    /// One for limits per second and one for the others.
    TwoStores,
}

/// A store's servers, if it has any.
pub(super) struct Bed {
    pub(super) kind: Kind,
    pub(super) topology: Option<Box<dyn Topology>>,
    sites: Vec<Site>,
    per_second: Vec<Site>,
    sentinel_access: Access,
}

impl Bed {
    /// Starts it.
    pub(super) async fn start(kind: Kind) -> Self {
        let single = async |flavour| Self::new(kind, Single::start(flavour).await);
        match kind {
            Kind::Memory => Self {
                kind,
                topology: None,
                sites: Vec::new(),
                per_second: Vec::new(),
                sentinel_access: Access::default(),
            },
            Kind::Redis7 => single(Flavour::Redis7).await,
            Kind::Redis62 => single(Flavour::Redis62).await,
            Kind::Valkey => single(Flavour::Valkey).await,
            Kind::UnixSocket => {
                let server = Single::start(Flavour::Redis7).await;
                let url = format!("{}?db=1", server.unix_url());
                Self::at(kind, &[url], server)
            }
            Kind::TlsAndUser => {
                let options = Options {
                    tls: true,
                    access: topology::Access::User,
                    ..Options::default()
                };
                let server = Single::with(options).await;
                let files = server.certificates.clone().expect("certificates");
                let (certificate, key) = files.client();
                let tls = TlsFiles {
                    ca_file: Some(files.authority()),
                    cert_file: Some(certificate),
                    key_file: Some(key),
                    server_name: None,
                };
                let mut bed = Self::new(kind, server);
                bed.sites[0].access.tls = Some(tls);
                bed
            }
            Kind::Sentinel => Self::new(kind, Sentinel::with_passwords(Flavour::Redis7).await),
            Kind::Cluster => Self::new(kind, Cluster::start(Flavour::Redis7).await),
            Kind::FailoverList => Self::failover_list(Pair::start(Flavour::Redis7).await),
            Kind::TwoStores => {
                let pair = Pair::start(Flavour::Redis7).await;
                let per_second = vec![site(&pair.second.url())];
                let first = pair.first.url();
                Self {
                    per_second,
                    ..Self::at(kind, &[first], pair)
                }
            }
        }
    }

    /// The first of two servers, and the second while that one is down.
    pub(super) fn failover_list(pair: Pair) -> Self {
        let urls = [pair.first.url(), pair.second.url()];
        Self::at(Kind::FailoverList, &urls, pair)
    }

    /// What the servers' URL leads to.
    pub(super) fn new(kind: Kind, servers: impl Topology + 'static) -> Self {
        let url = servers.url();
        Self::at(kind, &[url], servers)
    }

    /// What these URLs lead to, in order.
    pub(super) fn at(kind: Kind, urls: &[String], servers: impl Topology + 'static) -> Self {
        let sites: Vec<Site> = urls.iter().map(|url| site(url)).collect();
        let mut sentinel_access = Access::default();
        if let Servers::Sentinel {
            username, password, ..
        } = &sites[0].address.topology
        {
            sentinel_access.username.clone_from(username);
            sentinel_access.password.clone_from(password);
        }
        Self {
            kind,
            topology: Some(Box::new(servers)),
            sites,
            per_second: Vec::new(),
            sentinel_access,
        }
    }

    /// It is asked for by another URL from now on.
    pub(super) fn is_at(&mut self, url: &str) {
        self.sites = vec![site(url)];
    }

    /// Somebody who asks, by so many lanes; keys begin with `tollgate:<name>`.
    pub(super) async fn client(&self, name: &str, lanes: usize) -> Client {
        let client = self.unsettled_client(name, lanes);
        for lane in &client.lanes {
            lane.settled(PATIENCE).await;
        }
        client.decides_by_store();
        client
    }

    /// The same, whether the store can be asked or not.
    pub(super) fn unsettled_client(&self, name: &str, lanes: usize) -> Client {
        let prefix = format!("tollgate:{name}");
        let store = if self.topology.is_none() {
            Store::Memory(Arc::new(memory()))
        } else {
            Store::Shared(Arc::new(self.shared(&prefix)))
        };
        let lanes = (0..lanes).filter_map(|lane| store.open_lane(lane));
        Client {
            lanes: lanes.collect(),
            store,
            prefix,
        }
    }

    /// How much of what was given back may stay away. A bucket keeps back what may have spilled
    /// since it was charged, here a very small part of a token.
    pub(super) fn kept_back(&self, algorithm: Algorithm) -> u64 {
        let gives_back = matches!(self.kind, Kind::Cluster | Kind::TwoStores);
        u64::from(gives_back && algorithm == Algorithm::TokenBucket)
    }

    /// What tests of the servers themselves ask.
    pub(super) fn topology(&self) -> &dyn Topology {
        self.topology.as_deref().expect("servers")
    }

    /// No key lives for ever, and no user was refused a command or a key.
    pub(super) async fn is_left_clean(&self) {
        let Some(topology) = self.topology.as_deref() else {
            return;
        };
        every_key_expires(topology).await;
        for server in topology.stores().into_iter().filter(|server| server.runs()) {
            let refused = server.cli(&["ACL", "LOG"]).await;
            let what: Vec<_> = refused
                .items()
                .iter()
                .map(|one| one.after("object"))
                .collect();
            assert!(what.is_empty(), "{what:?}");
        }
    }

    /// Every key's name below a prefix, on all servers together; a replica's are its primary's.
    pub(super) async fn keys(&self, prefix: &str) -> BTreeSet<Vec<u8>> {
        let mut names = BTreeSet::new();
        for server in self.topology().stores() {
            let mut connection = server.connect().await.unwrap();
            if self.kind == Kind::UnixSocket {
                connection.call(&["SELECT", "1"]).await.unwrap();
            }
            let pattern = format!("{prefix}:*");
            let found = connection.call(&["KEYS", &pattern]).await.unwrap();
            let names_here = found.items().iter().map(|name| name.bytes().to_vec());
            // What replicas agree on, see `failover.lua`.
            let is_counter = |name: &Vec<u8>| {
                !name.ends_with(b":main:members") && !name.ends_with(b":main:lease")
            };
            names.extend(names_here.filter(is_counter));
        }
        names
    }

    /// How often scripts were called, on all servers together.
    pub(super) async fn script_calls(&self) -> u64 {
        let mut calls = 0;
        for server in self.topology().stores() {
            calls += script_calls(server).await;
        }
        calls
    }

    fn shared(&self, prefix: &str) -> SharedStore {
        let start = |name, sites: &[Site]| {
            let config = RedisConfig {
                name,
                sites: sites.to_vec(),
                replica: Some(format!("{:016x}", fastrand::u64(..))),
                sentinel_access: self.sentinel_access.clone(),
                key_prefix: prefix.to_owned(),
                connect_timeout: Duration::from_secs(5),
                deadline: Duration::from_secs(2),
                breaker: BreakerConfig {
                    threshold: 5,
                    timeout: Duration::from_secs(60),
                },
                probe_interval: PROBE_INTERVAL,
                queue_size: 1_000,
                batch_size: 128,
            };
            RedisStore::start(config, Clock::system(), Arc::new(Silence))
        };
        let per_second =
            (!self.per_second.is_empty()).then(|| start(StoreName::PerSecond, &self.per_second));
        let config = SharedConfig {
            deadline: DeadlineConfig {
                store: PATIENCE,
                margin: Duration::ZERO,
            },
            fleet: FleetConfig::Auto,
        };
        SharedStore::new(
            start(StoreName::Main, &self.sites),
            per_second,
            LocalStore::new(LocalConfig::default()),
            config,
            Arc::new(Silence),
        )
    }
}

/// How often a server's scripts were called.
pub(super) async fn script_calls(server: &Server) -> u64 {
    let line = ["INFO", "commandstats"];
    let stats = server.info(&line, "cmdstat_evalsha").await;
    let number = stats.as_deref().and_then(|stats| {
        let (number, _) = stats.strip_prefix("calls=")?.split_once(',')?;
        number.parse().ok()
    });
    number.unwrap_or(0)
}

fn site(url: &str) -> Site {
    let address: tollgate::store::redis::Address = url.parse().unwrap();
    let access = Access {
        username: address.username.clone(),
        password: address.password.clone(),
        password_file: None,
        tls: None,
        database: address.database,
    };
    Site { address, access }
}

/// More than any stall of a test machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How often a server that is down is tried.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(200);
