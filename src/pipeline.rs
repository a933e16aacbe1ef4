//! One request, from question to answer: match, decide, fold, tell.
//!
//! This is the file to read first. Whatever speaks to clients (gRPC, `/json`) turns its request
//! into a [`Query`], takes a [`Snapshot`], and turns the [`Answer`] into its own form. In between:
//!
//! 1. **match** the descriptors against the policies in force ([`Plan::new`]),
//! 2. **decide** all checks of the query in one step of the store, all or nothing,
//! 3. **fold** the verdicts into statuses ([`Plan::fold`]),
//! 4. **tell** whoever counts.
//!
//! All of that is plain, synchronous Rust ([`Snapshot::answer`]). Where the counts are in Redis,
//! whoever speaks to the client waits between steps 1 and 3 ([`Snapshot::begin`],
//! [`Asking::finish`]).
//!
//! The clock is read once, here; Redis reads its own.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use smallvec::SmallVec;

use crate::clock::Clock;
use crate::event::{Decided, DecidedBy, DecisionSample, Events, Outcome, Queried, QueryResult};
use crate::limiter::{
    Answer, Plan, Refusal, Ruling, Status, UnknownDomains, log_decision, written,
};
use crate::model::{Check, Decision, Query};
use crate::policy::{Domain, Matched, Miss, Policies};
use crate::store::{MemoryStore, Store};

/// All that is needed to answer queries; shared by every connection.
#[derive(Debug)]
pub struct Pipeline {
    policies: ArcSwap<Policies>,
    store: Store,
    events: Arc<dyn Events>,
    clock: Clock,
    caps: Caps,
    sample: DecisionSample,
    unknown_domains: UnknownDomains,
}

/// The largest queries that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Descriptors in a query.
    pub descriptors: usize,
    /// Entries in a descriptor.
    pub entries: usize,
}

impl Caps {
    /// Refuses a query that is not answered, whatever the policies are.
    ///
    /// # Errors
    /// If it names no domain, has no descriptors, or is too large.
    pub fn check(self, query: &Query<'_>) -> Result<(), Refusal> {
        let count = query.descriptors.len();
        if query.domain.is_empty() {
            return Err(Refusal::EmptyDomain);
        }
        if count == 0 {
            return Err(Refusal::NoDescriptors);
        }
        if count > self.descriptors {
            return Err(Refusal::TooManyDescriptors {
                count,
                limit: self.descriptors,
            });
        }
        for (index, descriptor) in query.descriptors.iter().enumerate() {
            let count = descriptor.entries.len();
            if count > self.entries {
                return Err(Refusal::TooManyEntries {
                    descriptor: index,
                    count,
                    limit: self.entries,
                });
            }
        }
        Ok(())
    }
}

impl Pipeline {
    /// Answers by `policies` until [`Pipeline::set_policies`] says otherwise.
    #[must_use]
    pub fn new(
        policies: Policies,
        store: Store,
        events: Arc<dyn Events>,
        clock: Clock,
        caps: Caps,
    ) -> Self {
        Self {
            policies: ArcSwap::from_pointee(policies),
            store,
            events,
            clock,
            caps,
            sample: DecisionSample::default(),
            unknown_domains: UnknownDomains::default(),
        }
    }

    /// Answers by `policies` from now on; counters stay. Returns the old ones, by which queries
    /// under way still finish: whoever drops them last frees every rule, so better not a query.
    #[must_use = "dropping the old policies may take long"]
    pub fn set_policies(&self, policies: Policies) -> Arc<Policies> {
        self.policies.swap(Arc::new(policies))
    }

    /// The policies in force now, to answer one query by.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            pipeline: self,
            policies: self.policies.load(),
        }
    }

    /// The same for a query that will wait: it does not hold one of the few places for snapshots
    /// that are taken and dropped at once.
    #[must_use]
    pub fn lasting_snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            pipeline: self,
            policies: Guard::from_inner(self.policies.load_full()),
        }
    }

    /// The largest queries that are answered.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// Who is told what happens.
    #[must_use]
    pub fn events(&self) -> &dyn Events {
        &*self.events
    }

    /// Whose decisions are written down.
    #[must_use]
    pub fn sample(&self) -> &DecisionSample {
        &self.sample
    }

    /// Domains of requests that no policy has.
    #[must_use]
    pub fn unknown_domains(&self) -> &UnknownDomains {
        &self.unknown_domains
    }

    /// The counters.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The clock that decisions are made by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// How far an answer is without the store.
#[derive(Debug)]
pub enum Begun<'s> {
    /// It needs none.
    Answered(Answer<'s>),
    /// The store has to decide.
    Asking(Asking<'s>),
}

/// A query that the store has to decide.
#[derive(Debug)]
pub struct Asking<'s> {
    snapshot: &'s Snapshot<'s>,
    domain: &'s Domain,
    plan: Plan<'s>,
}

impl<'s> Asking<'s> {
    /// What to ask it.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        self.plan.checks()
    }

    /// Whether anything is denied at all.
    #[must_use]
    pub fn enforce(&self) -> bool {
        !self.domain.shadow_mode()
    }

    /// The answer by what the store decided of `query`.
    #[must_use]
    pub fn finish(mut self, query: &Query<'_>, decision: &Decision) -> Answer<'s> {
        let answer = self.plan.fold(decision);
        let checks = self.plan.checks();
        self.snapshot.tell(self.domain, query, &answer, checks);
        answer
    }

    /// Takes note that the store could not be asked, and that a rule wants that to be an error.
    pub fn fail(self, query: &Query<'_>) {
        self.snapshot
            .tell_query(self.domain.meter(), QueryResult::Error);
        self.snapshot.write_down(query, None);
    }

    /// Where queries of its domain are counted.
    #[must_use]
    pub fn domain(&self) -> u32 {
        self.domain.meter()
    }
}

/// The pipeline with the policies of one moment: an answer refers to their rules.
#[derive(Debug)]
pub struct Snapshot<'a> {
    pipeline: &'a Pipeline,
    policies: Guard<Arc<Policies>>,
}

impl Snapshot<'_> {
    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Answers `query` by the counts of this process, charging what it costs.
    ///
    /// # Errors
    /// If the query cannot be understood; nothing was charged then.
    pub fn answer(&self, query: &Query<'_>, store: &MemoryStore) -> Result<Answer<'_>, Refusal> {
        let asking = match self.begin(query)? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Asking(asking) => asking,
        };
        let now = self.pipeline.clock.now();
        let decision = store.decide(asking.checks(), asking.enforce(), now);
        Ok(asking.finish(query, &decision))
    }

    /// The part of an answer that comes before the store, for whoever has to wait for one.
    ///
    /// # Errors
    /// If the query cannot be understood.
    pub fn begin(&self, query: &Query<'_>) -> Result<Begun<'_>, Refusal> {
        self.pipeline.caps.check(query)?;
        let Some(domain) = self.policies.domain(query.domain) else {
            return Ok(Begun::Answered(self.unknown_domain(query)));
        };
        let plan = Plan::new(domain, query, |percent| fastrand::u8(..100) >= percent)?;
        Ok(Begun::Asking(Asking {
            snapshot: self,
            domain,
            plan,
        }))
    }

    /// Nobody limits the domain: everything passes.
    fn unknown_domain(&self, query: &Query<'_>) -> Answer<'_> {
        self.pipeline.unknown_domains.note(query.domain);
        self.pipeline.events.unknown_domain();
        let meter = self.policies.unknown_domain_meter();
        let statuses: SmallVec<[Status<'_>; 2]> = query
            .descriptors
            .iter()
            .map(|_| Status::unmatched(Miss::UnknownDomain))
            .inspect(|_| {
                self.pipeline.events.decided(Decided {
                    meter,
                    label: None,
                    outcome: Outcome::Allowed,
                    by: DecidedBy::Unmatched,
                    near_limit: 0,
                    exceeded: None,
                });
            })
            .collect();
        self.tell_query(self.policies.unknown_domain(), QueryResult::Ok);
        let answer = Answer {
            domain: None,
            statuses,
            denied: false,
        };
        self.write_down(query, Some(&answer));
        answer
    }

    fn tell(&self, domain: &Domain, query: &Query<'_>, answer: &Answer<'_>, checks: &[Check]) {
        let enforced = !domain.shadow_mode();
        let mut checks = checks.iter();
        for (descriptor, status) in query.descriptors.iter().zip(&answer.statuses) {
            let (meter, label) = match &status.matched {
                Matched::Nothing(_) => (domain.unmatched_meter(), None),
                Matched::Override(_) => (domain.override_meter(), None),
                Matched::Limited(rule, _, path) => (rule.meter, Domain::label(descriptor, path)),
                Matched::Replaced(rule) | Matched::Unlimited(rule) => (rule.meter, None),
            };
            // Those with a ruling are those with a check, in the same order.
            let ruling = status.ruling.as_ref();
            let check = ruling.and_then(|_| checks.next());
            let exceeded = check.filter(|_| ruling.is_some_and(|ruling| ruling.verdict.over));
            self.pipeline.events.decided(Decided {
                meter,
                label: label.as_deref(),
                outcome: status.outcome(enforced),
                by: status.decided_by(),
                near_limit: ruling.map_or(0, Ruling::near_limit),
                exceeded: exceeded.map(|check| check.key.as_bytes()),
            });
        }
        let result = match answer.denied {
            true => QueryResult::OverLimit,
            false => QueryResult::Ok,
        };
        self.tell_query(domain.meter(), result);
        self.write_down(query, Some(answer));
    }

    /// Has the query written down, if that is wanted of its domain, and logged at `debug`; without an
    /// answer, that it could not be decided. While neither is wanted it costs two loads.
    fn write_down(&self, query: &Query<'_>, answer: Option<&Answer<'_>>) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            log_decision(query, answer);
        }
        if self.pipeline.sample.takes(query.domain) {
            let now = self.pipeline.clock.now().as_millis();
            written(query, answer, now, |event| {
                self.pipeline.events.written(event);
            });
        }
    }

    fn tell_query(&self, domain: u32, result: QueryResult) {
        self.pipeline.events.queried(Queried { domain, result });
    }
}
