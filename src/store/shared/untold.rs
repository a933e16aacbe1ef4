//! What the fleet has still to be told of this replica: a plain state machine.
//!
//! Counts only grow, so what is to be told is what has come since it was told last: while the store
//! is away nothing is lost and nothing grows. Whoever tells says what came of it
//! ([`Untold::told`]); what may have arrived is never told twice.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{AlertChanged, DomainTotals, Totals};

/// What is to be told, and what was.
#[derive(Debug, Default)]
pub(super) struct Untold {
    domains: HashMap<Arc<str>, Known>,
    /// Domains that were told of, and that the list of domains has still to be told.
    unlisted: BTreeSet<Arc<str>>,
    alerts: VecDeque<(Arc<str>, AlertChanged)>,
    /// Rounds so far in which there was more to tell than a round may.
    crowded: u64,
}

#[derive(Debug, Default)]
struct Known {
    told: Totals,
    last: Totals,
    /// When it was last seen to have grown.
    grown: Option<Instant>,
    /// In which of the crowded rounds it had its turn last.
    turn: u64,
}

impl Untold {
    /// Takes note of what was counted by now.
    pub(super) fn learn(&mut self, all: Vec<DomainTotals>, now: Instant) {
        for DomainTotals { domain, totals } in all {
            let known = self.domains.entry(domain).or_default();
            if known.last != totals {
                known.last = totals;
                known.grown = Some(now);
            }
        }
    }

    /// What is to be told in a round. If that is too much for one, those have their turn
    /// that have waited for it longest: however many there are, none waits for ever.
    pub(super) fn due(&mut self) -> Vec<(Arc<str>, Totals)> {
        let grown = self.domains.iter().filter_map(|(domain, known)| {
            let more = known.last.since(&known.told);
            (!more.is_zero()).then(|| (known.turn, Arc::clone(domain), more))
        });
        let mut due: Vec<_> = grown.collect();
        due.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        if due.len() > MOST_DOMAINS {
            due.truncate(MOST_DOMAINS);
            self.crowded = self.crowded.saturating_add(1);
            for (_, domain, _) in &due {
                if let Some(known) = self.domains.get_mut(domain) {
                    known.turn = self.crowded;
                }
            }
        }
        due.into_iter()
            .map(|(_, domain, more)| (domain, more))
            .collect()
    }

    /// This much of a domain was told, or may have been.
    pub(super) fn told(&mut self, domain: &Arc<str>, more: &Totals) {
        let known = self.domains.entry(Arc::clone(domain)).or_default();
        known.told = known.told.plus(more);
        self.unlisted.insert(Arc::clone(domain));
    }

    /// Domains for the list of domains.
    pub(super) fn unlisted(&self) -> Vec<Arc<str>> {
        self.unlisted.iter().take(MOST_DOMAINS).cloned().collect()
    }

    /// These are on the list.
    pub(super) fn listed(&mut self, domains: &[Arc<str>]) {
        for domain in domains {
            self.unlisted.remove(domain);
        }
    }

    /// An alert of this replica concerns the domains that it has served in the last minute, or, if
    /// there are none, those it is `configured` for.
    pub(super) fn alert(
        &mut self,
        change: AlertChanged,
        configured: impl FnOnce() -> Vec<Arc<str>>,
        now: Instant,
    ) {
        let is_served = |known: &Known| {
            let grown = known.grown;
            grown.is_some_and(|at| now.saturating_duration_since(at) <= SERVED)
        };
        let served = self.domains.iter().filter(|(_, known)| is_served(known));
        let mut domains: Vec<Arc<str>> = served.map(|(domain, _)| Arc::clone(domain)).collect();
        if domains.is_empty() {
            domains = configured();
        }
        domains.sort_unstable();
        domains.truncate(MOST_ALERTED);
        for domain in domains {
            if self.alerts.len() >= MOST_ALERTS {
                self.alerts.pop_front();
            }
            self.alerts.push_back((domain, change));
        }
    }

    /// Takes the alerts to be told, oldest first.
    pub(super) fn take_alerts(&mut self) -> VecDeque<(Arc<str>, AlertChanged)> {
        std::mem::take(&mut self.alerts)
    }

    /// Gives back those that could not be told, in the same order. Nothing came meanwhile.
    pub(super) fn put_back(&mut self, alerts: VecDeque<(Arc<str>, AlertChanged)>) {
        self.alerts = alerts;
    }
}

/// Domains that are told of in a round.
const MOST_DOMAINS: usize = 1_000;

/// Domains in whose history an alert is written.
const MOST_ALERTED: usize = 64;

/// Entries of histories that wait for the store; then the oldest go.
const MOST_ALERTS: usize = 4_096;

/// How long ago a domain may have been asked for to be one that is served.
const SERVED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AlertState, Total};
    use crate::store::redis::now;

    fn totals(domain: &str, requests: u64) -> DomainTotals {
        let mut totals = Totals::default();
        totals.add(Total::Requests, requests);
        DomainTotals {
            domain: domain.into(),
            totals,
        }
    }

    fn requests(due: &[(Arc<str>, Totals)]) -> Vec<(&str, u64)> {
        due.iter()
            .map(|(domain, more)| (&**domain, more.get(Total::Requests)))
            .collect()
    }

    fn change(value: f64) -> AlertChanged {
        AlertChanged {
            alert: "store_down",
            state: AlertState::Firing,
            severity: "critical",
            value,
            threshold: 10.0,
            at_ms: 1,
        }
    }

    fn domains(untold: &mut Untold) -> Vec<String> {
        let alerts = untold.take_alerts().into_iter();
        alerts.map(|(domain, _)| domain.to_string()).collect()
    }

    #[test]
    fn what_was_not_told_waits_and_what_was_is_not_told_again() {
        let (mut untold, now) = (Untold::default(), now());
        let learn = |untold: &mut Untold, a, b| {
            untold.learn(vec![totals("a", a), totals("b", b)], now);
            untold.due()
        };
        let due = learn(&mut untold, 3, 0);
        assert_eq!(requests(&due), [("a", 3)]);
        // The store was away.
        let due = learn(&mut untold, 5, 1);
        assert_eq!(requests(&due), [("a", 5), ("b", 1)]);
        untold.told(&due[0].0, &due[0].1);
        let due = learn(&mut untold, 6, 1);
        assert_eq!(requests(&due), [("a", 1), ("b", 1)]);
        for (domain, more) in &due {
            untold.told(domain, more);
        }
        assert!(learn(&mut untold, 6, 1).is_empty());
        let unlisted = untold.unlisted();
        assert_eq!(unlisted.len(), 2);
        untold.listed(&unlisted[..1]);
        assert_eq!(untold.unlisted(), ["b".into()]);
    }

    #[test]
    fn a_round_is_bounded_and_each_domain_has_its_turn_though_all_grow() {
        let (mut untold, now) = (Untold::default(), now());
        let mut told = BTreeSet::new();
        for round in 1..=3 {
            let all = (0..2_003).map(|number| totals(&number.to_string(), round));
            untold.learn(all.collect(), now);
            let due = untold.due();
            assert_eq!(due.len(), 1_000);
            for (domain, more) in &due {
                untold.told(domain, more);
                told.insert(Arc::clone(domain));
            }
        }
        assert_eq!(told.len(), 2_003);
        assert_eq!(untold.unlisted().len(), 1_000);
    }

    #[test]
    fn what_cannot_be_told_keeps_nobody_from_a_turn() {
        let (mut untold, now) = (Untold::default(), now());
        let all = (0..2_000).map(|number| totals(&number.to_string(), 1));
        untold.learn(all.collect(), now);
        let [first, second] = [untold.due(), untold.due()];
        let both = first.iter().chain(&second).map(|(domain, _)| domain);
        assert_eq!(both.collect::<BTreeSet<_>>().len(), 2_000);
    }

    #[test]
    fn an_alert_concerns_the_domains_that_are_served() {
        let (mut untold, start) = (Untold::default(), now());
        let configured = || vec!["z".into(), "y".into()];
        untold.alert(change(1.0), configured, start);
        assert_eq!(domains(&mut untold), ["y", "z"], "none is served yet");
        untold.learn(vec![totals("b", 1), totals("a", 1)], start);
        let later = start + Duration::from_secs(61);
        untold.learn(vec![totals("b", 1), totals("a", 2)], later);
        untold.alert(change(1.0), configured, start);
        assert_eq!(domains(&mut untold), ["a", "b"]);
        untold.alert(change(1.0), configured, later);
        assert_eq!(
            domains(&mut untold),
            ["a"],
            "the other was not asked for since"
        );
        untold.alert(change(1.0), configured, later + Duration::from_secs(61));
        assert_eq!(domains(&mut untold), ["y", "z"]);
    }

    #[test]
    fn alerts_that_wait_are_bounded_and_the_newest_stay() {
        let (mut untold, now) = (Untold::default(), now());
        let many = || {
            (0..100)
                .map(|number| format!("{number:03}").into())
                .collect()
        };
        for round in 0..100 {
            untold.alert(change(f64::from(round)), many, now);
        }
        let waiting = untold.take_alerts();
        assert_eq!(waiting.len(), 4_096);
        assert_eq!(
            waiting
                .back()
                .map(|(domain, change)| (&**domain, change.value)),
            Some(("063", 99.0))
        );
        untold.put_back(waiting);
        assert_eq!(untold.take_alerts().len(), 4_096);
    }
}
