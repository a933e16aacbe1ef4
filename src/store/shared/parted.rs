//! Decides a query whose keys lie on several servers, or in several slots of a Cluster.
//!
//! 1. All parts are asked at once, each charges what passes there.
//! 2. If the whole is denied, what was charged is given back before the caller hears of it: one
//!    more round trip, in which others may see the charge and be denied by it.
//! 3. Such a denial may be due to another query with the same fate. So when all is given back it
//!    asks the parts that denied once more, without charging; where they would pass now, it tries
//!    again, part by part in ascending order. Of two queries in each other's way one gets through:
//!    the one that was the last to have given back finds nothing in its way but, in order, the
//!    other. Not if some of it landed although it is denied (refunds, `denied_hits`): that would
//!    land once more.
//!
//! What a denied query is told of a key that it names more than once may be the count before all
//! that it had charged there was given back.
//!
//! A part whose server cannot be asked in time is decided without it, as its rules say, and the
//! query is all or nothing all the same. An answer that comes later is heard for a second, and gives back what a
//! denied query has charged. What a server did with a call that it never answered is not known: it may stay charged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout_at};

use super::lane::{Asked, Inner, Site};
use super::parts::{Part, Tally, split};
use super::{Unasked, Unavailable};
use crate::algorithm::lands;
use crate::clock::Timestamp;
use crate::model::{Check, Decision, OnStoreFailure};
use crate::store::redis::{LateReply, Place, Task, now};

/// A query in parts, and how far it has got.
struct Parted<'q> {
    lane: &'q Arc<Inner>,
    due: Instant,
    asked: &'q Asked,
    tally: Tally<'q>,
    /// What a server has decided, and what it charged is not given back yet.
    decided: Vec<Decided<'q>>,
    unasked: Vec<Undecided<'q>>,
}

/// A part that was not decided in time.
struct Undecided<'q> {
    part: &'q Part<Site>,
    why: Unasked,
    /// The server that had the keys when it was asked.
    by: Option<Place>,
    /// The decision, if its answer is late.
    late: oneshot::Receiver<Decision>,
}

/// What a server decided of a part.
struct Decided<'q> {
    part: &'q Part<Site>,
    decision: Decision,
    /// Who had the keys when it was asked.
    by: Option<Place>,
}

/// Decides a query whose checks do not lie together.
pub(super) async fn decide(
    lane: Arc<Inner>,
    asked: Asked,
    due: Instant,
) -> Result<Decision, Unavailable> {
    let checks = &asked.checks;
    let parts = split(checks, |check| lane.site(check));
    let mut parted = Parted::new(&lane, &asked, due);
    parted.ask(&parts).await;
    if let Err(unavailable) = parted.decide_rest() {
        parted.give_back().await;
        return Err(unavailable);
    }
    if !parted.is_denied() {
        return Ok(parted.pass());
    }
    // What lands whether or not the query is denied must not land twice.
    let lands_anyhow = |check: &Check| lands(&check.quota, check.hits, false, true);
    let repeatable = parted.unasked.is_empty() && !checks.iter().any(lands_anyhow);
    let charged = parted
        .decided
        .iter()
        .any(|decided| !decided.part.to_give_back(&decided.decision).is_empty());
    let in_the_way = repeatable && charged;
    let denied = parted.tally.clone();
    parted.give_back().await;
    if in_the_way && would_pass(&lane, &parts, denied, due).await && now() < due {
        let mut again = Parted::new(&lane, &asked, due);
        if again.ask_in_order(&parts).await {
            return Ok(again.pass());
        }
        again.give_back().await;
    }
    Ok(parted.tally.finish(true))
}

impl<'q> Parted<'q> {
    fn new(lane: &'q Arc<Inner>, asked: &'q Asked, due: Instant) -> Self {
        Self {
            lane,
            due,
            asked,
            tally: Tally::new(&asked.checks),
            decided: Vec::new(),
            unasked: Vec::new(),
        }
    }

    /// Asks all parts at once.
    async fn ask(&mut self, parts: &'q [Part<Site>]) {
        let asked = join_all(parts.iter().map(|part| self.ask_one(part)));
        for answer in asked.await {
            match answer {
                Ok(decided) => self.take_in(decided),
                Err(undecided) => self.unasked.push(undecided),
            }
        }
    }

    /// Asks part by part, until one denies or cannot be asked. Whether all pass.
    async fn ask_in_order(&mut self, parts: &'q [Part<Site>]) -> bool {
        for part in parts {
            match self.ask_one(part).await {
                Ok(decided) => self.take_in(decided),
                Err(undecided) => {
                    self.unasked.push(undecided);
                    return false;
                }
            }
            if self.is_denied() {
                return false;
            }
        }
        true
    }

    async fn ask_one(&self, part: &'q Part<Site>) -> Result<Decided<'q>, Undecided<'q>> {
        let by = self.lane.server(part.place);
        let task = self.asked.task();
        let (reply, late) = LateReply::channel();
        let asked = self.lane.ask_part(part, task, self.due, reply);
        match asked.await {
            Ok(decision) => Ok(Decided { part, decision, by }),
            Err(why) => Err(Undecided {
                part,
                why,
                by,
                late,
            }),
        }
    }

    fn take_in(&mut self, decided: Decided<'q>) {
        self.tally.fill(decided.part, &decided.decision.verdicts);
        self.decided.push(decided);
    }

    /// Decides the parts that could not be asked without their servers; what is counted here is
    /// charged only if nothing else denies.
    fn decide_rest(&mut self) -> Result<(), Unavailable> {
        let shared = &self.lane.shared;
        let fails = |check: &Check| check.on_store_failure == OnStoreFailure::Error;
        let failing = self
            .unasked
            .iter()
            .find(|undecided| undecided.part.checks.iter().any(fails));
        if let Some(Undecided { why, .. }) = failing {
            // No part of it is decided, so this is all that is told of it.
            for Undecided { part, why, .. } in &self.unasked {
                shared.tell_fell(*why, part.checks.len());
            }
            return Err(Unavailable(*why));
        }
        let mut here = Vec::new();
        for Undecided { part, why, .. } in &self.unasked {
            let decision = shared.without(&part.checks, self.asked.enforce, *why)?;
            self.tally.fill(part, &decision.verdicts);
            here.push((*part, decision));
        }
        if self.is_denied() {
            for (part, decision) in here {
                shared.give_back(part, &decision, &mut self.tally);
            }
        }
        Ok(())
    }

    fn is_denied(&self) -> bool {
        self.asked.enforce && self.tally.denies()
    }

    /// The query passes: what was charged stays.
    fn pass(self) -> Decision {
        for Decided { part, decision, .. } in &self.decided {
            let local = &self.lane.shared.local;
            local.observe(&part.checks, &decision.verdicts);
        }
        self.tally.finish(false)
    }

    /// Has everything given back that was charged, and waits for that no longer than the caller
    /// does; it is done all the same.
    async fn give_back(&mut self) {
        for Undecided { part, by, late, .. } in self.unasked.drain(..) {
            let (lane, part) = (Arc::clone(self.lane), part.clone());
            drop(tokio::spawn(async move {
                // An error means that there is no answer.
                if let Ok(decision) = late.await
                    && let Some((checks, at)) = charged(&part, &decision)
                    && lane.has_charges_of(part.place, by.as_ref())
                {
                    // The query has been answered.
                    let _given = give_back(lane, (part.place, by), checks, at).await;
                }
            }));
        }
        let mut given = Vec::new();
        for Decided { part, decision, by } in self.decided.drain(..) {
            // Another server may never have heard of the charge.
            if !self.lane.has_charges_of(part.place, by.as_ref()) {
                continue;
            }
            if let Some((checks, at)) = charged(part, &decision) {
                let charged = part.to_give_back(&decision);
                let giving = give_back(Arc::clone(self.lane), (part.place, by), checks, at);
                // In a task of its own: it goes on after the caller has its answer.
                let giving = tokio::spawn(giving);
                given.push(async move { (part, charged, giving.await) });
            }
        }
        let all = timeout_at(self.due.into(), join_all(given)).await;
        for (part, charged, answer) in all.unwrap_or_else(|_elapsed| Vec::new()) {
            if let Ok(Ok(decision)) = answer {
                self.tally.fill_some(part, &charged, &decision.verdicts);
            }
        }
    }
}

/// The checks of a part whose hits are to be given back, and when they were charged; none if there are none.
fn charged(part: &Part<Site>, decision: &Decision) -> Option<(Arc<[Check]>, Timestamp)> {
    let charged = part.to_give_back(decision);
    let first = decision.verdicts.get(*charged.first()?)?;
    Some((part.pick(&charged), first.at))
}

/// Has hits taken back that were charged at `at` by the server of a site. What surely was not done is
/// tried again: the connection may just be lost, and the next one good.
async fn give_back(
    lane: Arc<Inner>,
    (site, by): (Site, Option<Place>),
    checks: Arc<[Check]>,
    at: Timestamp,
) -> Result<Decision, Unasked> {
    let (until, mut pause) = (now() + GIVE_BACK, FIRST_PAUSE);
    loop {
        let task = Task::GiveBack(at);
        let asked = lane.ask(site, Arc::clone(&checks), task, until).await;
        let failed = asked.as_ref().err();
        if !failed.is_some_and(|why| why.unexecuted()) || now() + pause >= until {
            return asked;
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        // Another server may never have heard of the charge.
        if !lane.has_charges_of(site, by.as_ref()) {
            return asked;
        }
    }
}

/// Whether the query would pass now where it was denied.
async fn would_pass(
    lane: &Inner,
    parts: &[Part<Site>],
    mut denied: Tally<'_>,
    due: Instant,
) -> bool {
    let over: Vec<_> = parts.iter().filter(|part| denied.has_over(part)).collect();
    let asked = over
        .iter()
        .map(|part| lane.ask(part.place, Arc::clone(&part.checks), Task::Try, due));
    for (part, answer) in over.iter().zip(join_all(asked).await) {
        match answer {
            Ok(decision) => denied.fill(part, &decision.verdicts),
            Err(_) => return false,
        }
    }
    !denied.denies()
}

/// The first pause before hits are tried to be given back again; each further one is twice as long, up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

/// How long giving back may take. Nobody waits so long, but nothing may stay charged.
const GIVE_BACK: Duration = Duration::from_secs(1);
