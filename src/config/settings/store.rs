//! `store`: where counters are kept, and how a Redis that keeps them is reached.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use super::group;
use super::redis_url::{RedisUrl, RedisUrls};
use super::texts::{KeyPrefix, ServerName, unless_empty};
use super::values::{Number, Span, StoreKind};

/// `store`: where counters are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Which of the following.
    pub kind: StoreKind,
    /// In this process.
    #[serde(deserialize_with = "group")]
    pub memory: Memory,
    /// In a Redis that all replicas share.
    #[serde(deserialize_with = "group")]
    pub redis: Redis,
}

/// `store.memory`: counters in this process. With Redis it is for what is decided without it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Live counters; above that, new keys share counters of fixed size.
    pub max_keys: Number<1, { u32::MAX }>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            max_keys: Number::clamped(1_000_000),
        }
    }
}

/// `store.redis`: counters in Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// A single server, Sentinels or a Cluster.
    pub url: RedisUrl,
    /// Single servers for when the first is down, in order; the same list for all replicas.
    pub failover_urls: RedisUrls,
    /// What the names of all keys begin with.
    pub key_prefix: KeyPrefix,
    /// Where limits whose unit is the second are counted instead.
    #[serde(deserialize_with = "unless_empty")]
    pub per_second_url: Option<RedisUrl>,
    /// The entry whose value is the hash tag of its keys, so that a Cluster keeps them in one slot.
    #[serde(deserialize_with = "unless_empty")]
    pub colocate_by: Option<String>,
    /// The ACL user, for addresses without one.
    #[serde(deserialize_with = "unless_empty")]
    pub username: Option<String>,
    /// The file with the password, for addresses without one; read anew at each connect.
    #[serde(deserialize_with = "unless_empty")]
    pub password_file: Option<PathBuf>,
    /// For addresses that ask for TLS.
    #[serde(deserialize_with = "group")]
    pub tls: RedisTls,
    /// For addresses that name Sentinels.
    #[serde(deserialize_with = "group")]
    pub sentinel: Sentinel,
    /// How long the start waits for the store, and each connect for its server.
    pub connect_timeout: Span<1>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: RedisUrl::default(),
            failover_urls: RedisUrls::default(),
            key_prefix: KeyPrefix::default(),
            per_second_url: None,
            colocate_by: None,
            username: None,
            password_file: None,
            tls: RedisTls::default(),
            sentinel: Sentinel::default(),
            connect_timeout: Span::from_secs(1),
        }
    }
}

impl Redis {
    /// Every address, with the path of its setting.
    pub(super) fn urls(&self) -> Vec<(String, &RedisUrl)> {
        let mut urls = vec![(URL.to_owned(), &self.url)];
        let others = self.failover_urls.0.iter().enumerate();
        urls.extend(others.map(|(at, url)| (format!("{FAILOVER_URLS}[{at}]"), url)));
        urls.extend(
            self.per_second_url
                .iter()
                .map(|url| (PER_SECOND_URL.to_owned(), url)),
        );
        urls
    }

    /// TLS to the Sentinels: as to the servers, unless something is said for them alone.
    #[must_use]
    pub fn sentinel_tls(&self) -> &RedisTls {
        if self.sentinel.tls == RedisTls::default() {
            &self.tls
        } else {
            &self.sentinel.tls
        }
    }

    /// The settings in which only a password differs, which nothing that is shown tells.
    pub(super) fn other_passwords(&self, new: &Self) -> Vec<&'static str> {
        let differ = |a: &[&RedisUrl], b: &[&RedisUrl]| {
            let shown = |urls: &[&RedisUrl]| -> Vec<String> {
                urls.iter().map(ToString::to_string).collect()
            };
            a != b && shown(a) == shown(b)
        };
        let failover: (Vec<_>, Vec<_>) = (
            self.failover_urls.0.iter().collect(),
            new.failover_urls.0.iter().collect(),
        );
        let per_second: (Vec<_>, Vec<_>) = (
            self.per_second_url.iter().collect(),
            new.per_second_url.iter().collect(),
        );
        let mut paths = Vec::new();
        for (path, differs) in [
            (URL, differ(&[&self.url], &[&new.url])),
            (FAILOVER_URLS, differ(&failover.0, &failover.1)),
            (PER_SECOND_URL, differ(&per_second.0, &per_second.1)),
        ] {
            if differs {
                paths.push(path);
            }
        }
        paths
    }

    /// Puts the addresses as they were written into `store.redis` as it was serialized, which is
    /// without passwords.
    pub(super) fn reveal(&self, written: &mut Value) {
        let text = |url: &RedisUrl| Value::String(url.reveal().to_owned());
        if let Value::Mapping(map) = written {
            let urls = self.failover_urls.0.iter().map(text).collect();
            map.insert("url".into(), text(&self.url));
            map.insert("failover_urls".into(), Value::Sequence(urls));
            if let Some(url) = &self.per_second_url {
                map.insert("per_second_url".into(), text(url));
            }
        }
    }
}

/// `store.redis.tls`, `store.redis.sentinel.tls`: what a server must show, and what it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTls {
    /// The authorities to trust instead of the system's, as PEM.
    #[serde(deserialize_with = "unless_empty")]
    pub ca_file: Option<PathBuf>,
    /// The certificate to show, as PEM; never without `key_file`.
    #[serde(deserialize_with = "unless_empty")]
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    #[serde(deserialize_with = "unless_empty")]
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, instead of its address.
    #[serde(deserialize_with = "unless_empty")]
    pub server_name: Option<ServerName>,
}

/// `store.redis.sentinel`: how Sentinels are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sentinel {
    /// Their ACL user. Not that of the servers.
    #[serde(deserialize_with = "unless_empty")]
    pub username: Option<String>,
    /// The file with their password.
    #[serde(deserialize_with = "unless_empty")]
    pub password_file: Option<PathBuf>,
    /// Their TLS; without any of it that of the servers holds.
    #[serde(deserialize_with = "group")]
    pub tls: RedisTls,
}

/// Paths of the settings that hold addresses.
pub(super) const URL: &str = "store.redis.url";
pub(super) const FAILOVER_URLS: &str = "store.redis.failover_urls";
pub(super) const PER_SECOND_URL: &str = "store.redis.per_second_url";
