//! Looks at a fleet from outside: what its replicas have written of themselves.
//!
//! Reads and never writes, over the links that the service uses itself, so that whatever leads the
//! service to its store (Sentinels, a Cluster, TLS, a list of servers) leads here, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;

use crate::clock::Timestamp;
use crate::event::{Total, Totals};
use crate::store::redis::{
    Failure, Links, RedisStore, Reply, alerts_key, domains_key, metrics_key, now,
};

/// The way to what a fleet tells of itself.
#[derive(Debug)]
pub struct Glance {
    main: Links,
    per_second: Option<Links>,
}

/// A fleet, as it is told of at one moment.
#[derive(Clone, Debug)]
pub struct FleetReading {
    /// When it was read.
    pub at: Instant,
    /// Its domains, by name.
    pub domains: Vec<DomainReading>,
    /// Its replicas, by name and store.
    pub replicas: Vec<ReplicaReading>,
    /// Alerts that have begun or ended, the newest first.
    pub alerts: Vec<AlertReading>,
}

/// A domain that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainReading {
    /// Its name.
    pub domain: String,
    /// What all replicas have counted since its key was made; it is made anew after a day without
    /// requests.
    pub totals: Totals,
    /// When one told of it last, by the server's clock.
    pub seen: Timestamp,
}

/// A replica that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReading {
    /// Its name.
    pub replica: String,
    /// The store that this is about.
    pub store: &'static str,
    /// The state of its breaker there.
    pub breaker: String,
    /// Since when, by its own clock; none if it did not say.
    pub since: Option<Timestamp>,
    /// When it said so, by the server's clock.
    pub seen: Timestamp,
}

/// An alert of a replica began or ended. What a newer version writes is read as far as it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertReading {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Which alert.
    pub alert: String,
    /// `firing` or `resolved`.
    pub state: String,
    /// How urgent it is.
    pub severity: String,
    /// What was measured.
    pub value: String,
    /// What it may be.
    pub threshold: String,
    /// Whose it is.
    pub replica: String,
}

/// Why a fleet cannot be looked at.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GlanceError {
    /// The server did not answer.
    #[error("{0}")]
    Failed(String),
    /// There is nothing under this prefix.
    #[error(
        "no replica has written under {0}: there; is this the Redis of the service (its settings say \
         store.kind: redis), is its store.redis.key_prefix {0}, and has it run for some seconds?"
    )]
    Nobody(String),
}

impl Glance {
    /// Looks in `main`, and for breakers in `per_second`, too, over links of this runtime.
    #[must_use]
    pub fn open(main: &Arc<RedisStore>, per_second: Option<&Arc<RedisStore>>) -> Self {
        Self {
            main: Links::open(main, 0),
            per_second: per_second.map(|store| Links::open(store, 0)),
        }
    }

    /// Waits until the stores have answered, or have been found not to, at most `patience`.
    pub async fn settled(&self, patience: Duration) {
        let stores = [Some(&self.main), self.per_second.as_ref()];
        for links in stores.into_iter().flatten() {
            let _late = tokio::time::timeout(patience, links.settled()).await;
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// If a server does not answer, or nobody has written there.
    pub async fn read(&self) -> Result<FleetReading, GlanceError> {
        let (seen, main) = (self.seen().await?, replicas(&self.main).await?);
        let mut replicas = main;
        if let Some(links) = &self.per_second {
            replicas.extend(self::replicas(links).await?);
        }
        if seen.is_empty() && replicas.is_empty() {
            let prefix = self.main.store().config().key_prefix.clone();
            return Err(GlanceError::Nobody(prefix));
        }
        replicas.sort_by(|a, b| (&a.replica, a.store).cmp(&(&b.replica, b.store)));
        let read = stream::iter(&seen).map(|(domain, seen)| self.domain(domain, *seen));
        let read: Vec<_> = read.buffered(AT_ONCE).collect().await;
        let (mut domains, mut alerts) = (Vec::new(), BTreeSet::new());
        for read in read {
            let (domain, history) = read?;
            domains.push(domain);
            // The same one stands with each domain that it concerned.
            alerts.extend(history);
        }
        Ok(FleetReading {
            at: now(),
            domains,
            replicas,
            alerts: alerts.into_iter().rev().take(MOST_ALERTS).collect(),
        })
    }

    /// The domains that were told of last, and when.
    async fn seen(&self) -> Result<BTreeMap<String, Timestamp>, GlanceError> {
        let prefix = &self.main.store().config().key_prefix;
        let key = domains_key(prefix);
        let list = read(
            &self.main,
            "ZRANGE",
            &key,
            &[FIRST_DOMAIN, "-1", "WITHSCORES"],
        )
        .await?;
        let pairs = list.list().chunks_exact(2);
        let seen = pairs.filter_map(|pair| match pair {
            [domain, seen] => Some((domain.text()?.into_owned(), millis(seen)?)),
            _ => None,
        });
        Ok(seen.collect())
    }

    async fn domain(
        &self,
        domain: &str,
        seen: Timestamp,
    ) -> Result<(DomainReading, Vec<AlertReading>), GlanceError> {
        let (links, prefix) = (&self.main, &self.main.store().config().key_prefix);
        let counts = read(links, "HGETALL", &metrics_key(prefix, domain), &[]).await?;
        let mut totals = Totals::default();
        for total in Total::ALL {
            let count = counts.field(total.name()).and_then(Reply::number);
            totals.add(
                total,
                count.and_then(|count| count.try_into().ok()).unwrap_or(0),
            );
        }
        let newest = ["+", "-", "COUNT", MOST_ALERTS_OF_ONE];
        let history = read(links, "XREVRANGE", &alerts_key(prefix, domain), &newest).await?;
        let history = history.list().iter().map(AlertReading::new).collect();
        let domain = domain.to_owned();
        let domain = DomainReading {
            domain,
            totals,
            seen,
        };
        Ok((domain, history))
    }
}

impl AlertReading {
    fn new(entry: &Reply) -> Self {
        let field = |name: &str| {
            let fields = entry.list().get(1);
            let field = fields.and_then(|fields| fields.field(name));
            field.and_then(Reply::text).unwrap_or_default().into_owned()
        };
        Self {
            at_ms: field("at").parse().unwrap_or(0),
            alert: field("alert"),
            state: field("state"),
            severity: field("severity"),
            value: field("value"),
            threshold: field("threshold"),
            replica: field("replica"),
        }
    }
}

/// The replicas that say how they get on with a store.
async fn replicas(links: &Links) -> Result<Vec<ReplicaReading>, GlanceError> {
    let store = links.store();
    let list = read(links, "HGETALL", &store.state_key(), &[]).await?;
    let pairs = list.list().chunks_exact(2);
    let replicas = pairs.filter_map(|pair| {
        let [replica, state] = pair else {
            return None;
        };
        let state = state.text()?;
        let mut words = state.split(' ');
        let breaker = words.next()?.to_owned();
        let since: u64 = words.next()?.parse().ok()?;
        Some(ReplicaReading {
            replica: replica.text()?.into_owned(),
            store: store.config().name.name(),
            breaker,
            since: (since > 0).then(|| Timestamp::from_millis(since)),
            seen: Timestamp::from_millis(words.next()?.parse().ok()?),
        })
    });
    Ok(replicas.collect())
}

async fn read(
    links: &Links,
    command: &'static str,
    key: &str,
    more: &[&'static str],
) -> Result<Reply, GlanceError> {
    let answer = links.read(command, key, more).await;
    answer.map_err(|failure| GlanceError::Failed(why(links, &failure)))
}

/// What went wrong with the server says more than that there is no connection to it.
fn why(links: &Links, failure: &Failure) -> String {
    let status = links.store().status();
    let of_link = status.links.into_iter().find_map(|link| link.failure);
    let known = status.unresolved.or(of_link);
    known.unwrap_or_else(|| failure.to_string())
}

/// Scores are numbers with a point, perhaps.
fn millis(reply: &Reply) -> Option<Timestamp> {
    let text = reply.text()?;
    let whole = text.split('.').next()?;
    Some(Timestamp::from_millis(whole.parse().ok()?))
}

/// The last 1,000 domains.
const FIRST_DOMAIN: &str = "-1000";

/// Entries of one domain's history that are looked at.
const MOST_ALERTS_OF_ONE: &str = "50";

/// Entries that are told.
const MOST_ALERTS: usize = 50;

/// Keys that are read at a time.
const AT_ONCE: usize = 16;
