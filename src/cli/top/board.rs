//! What `tollgate top` tells: two readings of a fleet, and what came between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::admin::top::{TopEntry, TopReport};
use crate::clock::Timestamp;
use crate::event::{Total, Totals};
use crate::store::{AlertReading, FleetReading, ReplicaReading};

/// Everything that is told, as it stands in JSON.
#[derive(Debug, Default, Serialize)]
pub(super) struct Board {
    /// When, in milliseconds since the epoch.
    pub(super) at_ms: u64,
    /// What the keys in Redis begin with; none where no Redis is looked at.
    pub(super) prefix: Option<String>,
    /// The rates are those of so many seconds; none after the first reading.
    pub(super) seconds: Option<f64>,
    /// All domains together.
    pub(super) all: Row,
    pub(super) domains: Vec<Row>,
    pub(super) replicas: Vec<Replica>,
    /// The newest first.
    pub(super) alerts: Vec<Alert>,
    /// Of the replicas whose admin listeners answered; none if none did.
    pub(super) top: Option<TopReport>,
    /// What could not be asked.
    pub(super) problems: Vec<String>,
}

/// A domain.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) domain: String,
    /// When a replica told of it last, in milliseconds since the epoch.
    pub(super) seen_ms: u64,
    pub(super) per_second: Option<Rates>,
    /// The part of the descriptors that no call to the shared store was made for, lately.
    pub(super) without_store: Option<f64>,
    /// Since its counts began.
    pub(super) totals: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) allowed: f64,
    pub(super) denied: f64,
    pub(super) errors: f64,
    pub(super) batches: f64,
    pub(super) batch_failures: f64,
}

/// A replica's way to a store.
#[derive(Debug, Serialize)]
pub(super) struct Replica {
    pub(super) replica: String,
    pub(super) store: &'static str,
    pub(super) breaker: String,
    pub(super) since_ms: Option<u64>,
    pub(super) seen_ms: u64,
}

/// An alert that began or ended.
#[derive(Debug, Serialize)]
pub(super) struct Alert {
    pub(super) at_ms: u64,
    pub(super) alert: String,
    pub(super) state: String,
    pub(super) severity: String,
    pub(super) value: String,
    pub(super) threshold: String,
    pub(super) replica: String,
}

/// The last readings, for the rates between them.
#[derive(Debug, Default)]
pub(super) struct History {
    readings: VecDeque<(Instant, BTreeMap<String, Totals>)>,
}

impl History {
    /// Tells of a reading, beside those before.
    pub(super) fn tell(&mut self, reading: FleetReading, prefix: &str, now: Timestamp) -> Board {
        let totals = reading.domains.iter();
        let totals: BTreeMap<String, Totals> = totals
            .map(|domain| (domain.domain.clone(), domain.totals))
            .collect();
        // Replicas tell every few seconds: over less, rates would jump.
        while let Some((second, _)) = self.readings.get(1)
            && reading.at.saturating_duration_since(*second) >= WINDOW
        {
            self.readings.pop_front();
        }
        let before = self.readings.front();
        let passed = before.map(|(at, _)| reading.at.saturating_duration_since(*at));
        let none = Totals::default();
        let more = |domain: &str, now: &Totals| {
            let before = before.and_then(|(_, domains)| domains.get(domain));
            let before = before.unwrap_or(&none);
            // Its key has expired, or the server has lost it: it begins anew.
            match now.get(Total::Requests) < before.get(Total::Requests) {
                true => *now,
                false => now.since(before),
            }
        };
        let (mut all, mut all_more, mut seen_ms) = (none, none, 0);
        let mut domains = Vec::with_capacity(reading.domains.len());
        for domain in reading.domains {
            let more = more(&domain.domain, &domain.totals);
            (all, all_more) = (all.plus(&domain.totals), all_more.plus(&more));
            let seen = domain.seen.as_millis();
            seen_ms = seen_ms.max(seen);
            domains.push(Row::new(domain.domain, seen, &domain.totals, &more, passed));
        }
        let board = Board {
            at_ms: now.as_millis(),
            prefix: Some(prefix.to_owned()),
            seconds: passed.map(|passed| passed.as_secs_f64()),
            all: Row::new(String::new(), seen_ms, &all, &all_more, passed),
            domains,
            replicas: reading.replicas.into_iter().map(Replica::from).collect(),
            alerts: reading.alerts.into_iter().map(Alert::from).collect(),
            top: None,
            problems: Vec::new(),
        };
        self.readings.push_back((reading.at, totals));
        board
    }
}

impl Row {
    fn new(
        domain: String,
        seen_ms: u64,
        totals: &Totals,
        more: &Totals,
        passed: Option<Duration>,
    ) -> Self {
        let per_second = passed.map(|passed| {
            let seconds = passed.as_secs_f64().max(0.001);
            let rate = |total| float(more.get(total)) / seconds;
            Rates {
                requests: rate(Total::Requests),
                allowed: rate(Total::Allowed),
                denied: rate(Total::Denied),
                errors: rate(Total::Errors),
                batches: rate(Total::Batches),
                batch_failures: rate(Total::BatchFailures),
            }
        });
        let (hits, misses) = (more.get(Total::CacheHits), more.get(Total::CacheMisses));
        let decided = hits.saturating_add(misses);
        Self {
            domain,
            seen_ms,
            per_second,
            without_store: (passed.is_some() && decided > 0).then(|| float(hits) / float(decided)),
            totals: Total::ALL
                .map(|total| (total.name(), totals.get(total)))
                .into(),
        }
    }
}

impl From<ReplicaReading> for Replica {
    fn from(read: ReplicaReading) -> Self {
        Self {
            replica: read.replica,
            store: read.store,
            breaker: read.breaker,
            since_ms: read.since.map(Timestamp::as_millis),
            seen_ms: read.seen.as_millis(),
        }
    }
}

impl From<AlertReading> for Alert {
    fn from(read: AlertReading) -> Self {
        Self {
            at_ms: read.at_ms,
            alert: read.alert,
            state: read.state,
            severity: read.severity,
            value: read.value,
            threshold: read.threshold,
            replica: read.replica,
        }
    }
}

/// The keys that are limited most by several replicas together, at most so many.
pub(super) fn together(reports: Vec<TopReport>, most: usize) -> TopReport {
    let mut keys: BTreeMap<(String, String, String), (u64, u64)> = BTreeMap::new();
    let (mut seconds, mut overflowing) = (0, BTreeSet::new());
    for report in reports {
        seconds = report.seconds.max(seconds);
        overflowing.extend(report.overflowing);
        for entry in report.keys {
            let known = keys.entry((entry.domain, entry.rule, entry.key));
            let (times, at_least) = known.or_default();
            *times = times.saturating_add(entry.times);
            *at_least = at_least.saturating_add(entry.at_least);
        }
    }
    let entry = |((domain, rule, key), (times, at_least))| TopEntry {
        domain,
        rule,
        key,
        times,
        at_least,
    };
    let mut keys: Vec<TopEntry> = keys.into_iter().map(entry).collect();
    // Stable: those that are as often stay in order.
    keys.sort_by_key(|entry| std::cmp::Reverse(entry.times));
    keys.truncate(most);
    TopReport {
        seconds,
        keys,
        overflowing: overflowing.into_iter().collect(),
    }
}

/// Exact to 53 bits, which is more than is shown.
fn float(number: u64) -> f64 {
    let half = |number: u64| f64::from(u32::try_from(number & 0xFFFF_FFFF).unwrap_or(u32::MAX));
    half(number >> 32) * 4_294_967_296.0 + half(number)
}

/// Rates are those of at least so long, once so much has passed: two rounds of every replica.
const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::top::TopRule;
    use crate::store::DomainReading;
    use crate::store::redis::now;

    fn reading(at: Instant, counts: &[(&str, u64, u64)]) -> FleetReading {
        let domain = |(domain, requests, hits): &(&str, u64, u64)| {
            let mut totals = Totals::default();
            totals.add(Total::Requests, *requests);
            totals.add(Total::CacheHits, *hits);
            totals.add(Total::CacheMisses, requests - hits);
            DomainReading {
                domain: (*domain).to_owned(),
                totals,
                seen: Timestamp::from_millis(5),
            }
        };
        FleetReading {
            at,
            domains: counts.iter().map(domain).collect(),
            replicas: Vec::new(),
            alerts: Vec::new(),
        }
    }

    fn rates(board: &Board) -> Vec<Option<f64>> {
        let rows = board.domains.iter().chain([&board.all]);
        rows.map(|row| row.per_second.map(|rates| rates.requests))
            .collect()
    }

    #[test]
    fn rates_are_what_came_between_two_readings() {
        let (mut history, start) = (History::default(), now());
        let noon = Timestamp::from_millis(0);
        let mut tell = |after: u64, counts: &[(&str, u64, u64)]| {
            let at = start + Duration::from_secs(after);
            history.tell(reading(at, counts), "tollgate", noon)
        };
        let first = tell(0, &[("a", 100, 0)]);
        assert_eq!((first.seconds, rates(&first)), (None, vec![None, None]));
        let second = tell(5, &[("a", 150, 10), ("b", 20, 0)]);
        assert_eq!(rates(&second), [Some(10.0), Some(4.0), Some(14.0)]);
        assert_eq!(second.domains[0].without_store, Some(0.2));
        assert_eq!(second.all.totals["requests"], 170);
        // Over ten seconds at least, when there are so many.
        let third = tell(10, &[("a", 150, 10), ("b", 20, 0)]);
        assert_eq!((third.seconds, rates(&third)[0]), (Some(10.0), Some(5.0)));
        let fourth = tell(15, &[("a", 160, 10), ("b", 20, 0)]);
        assert_eq!((fourth.seconds, rates(&fourth)[0]), (Some(10.0), Some(1.0)));
        assert_eq!(fourth.domains[1].without_store, None, "nothing was decided");
        // The server has lost it, and it counts anew.
        let lost = tell(20, &[("a", 30, 0), ("b", 20, 0)]);
        assert_eq!(rates(&lost)[0], Some(3.0));
    }

    #[test]
    fn what_several_replicas_limit_is_added_up() {
        let report = |keys: &[(&str, u64)]| TopReport {
            seconds: 60,
            keys: keys
                .iter()
                .map(|(key, times)| TopEntry {
                    domain: "shop".into(),
                    rule: "user".into(),
                    key: (*key).into(),
                    times: *times,
                    at_least: times - 1,
                })
                .collect(),
            overflowing: vec![TopRule {
                domain: "shop".into(),
                rule: "user".into(),
            }],
        };
        let both = vec![
            report(&[("ann", 5), ("bob", 4)]),
            report(&[("bob", 3), ("eve", 1)]),
        ];
        let top = together(both, 2);
        assert_eq!(top.overflowing.len(), 1);
        let keys = top.keys.iter();
        let keys: Vec<_> = keys
            .map(|entry| (&*entry.key, entry.times, entry.at_least))
            .collect();
        assert_eq!(keys, [("bob", 7, 5), ("ann", 5, 4)]);
    }
}
