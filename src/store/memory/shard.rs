//! A part of the keys under one lock: the table, and the overflow behind it.
//!
//! Says where a check is counted ([`Spot`]), judges it on its own, charges it, and reports. Keeps
//! two promises: what a key may have been charged, here or there, is never lost before it has
//! stopped counting; and only what has expired or was never charged is dropped.
//!
//! It knows nothing of the other checks of a query; `transaction` and `MemoryStore::decide` do.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Seen;
use super::fingerprint::Fingerprint;
use super::logs::LogBudget;
use super::overflow::{Overflow, Shared};
use super::sketch::Sketch;
use super::state::State;
use super::stats::{Gauges, count};
use super::table::{Removed, Table};
use super::verdict::{Judgement, Moment};
use crate::algorithm::{Counter, apply, comes_back, is_over, lands};
use crate::clock::Timestamp;
use crate::model::{Algorithm, Check, Hits, Quota, RuleId, SATURATED, Verdict};

/// Where a check is counted. Good until the query ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// An entry of its own.
    Entry(usize),
    /// Nothing is counted for this key, and this check adds nothing.
    Fresh,
    /// Nowhere before this time: the table is full, and so is the overflow.
    Refused(Timestamp),
    /// A share of its rule's sketch.
    Shared(Shared),
}

impl Spot {
    /// Whether it names a state that two checks may share.
    pub(super) const fn is_stored(self) -> bool {
        matches!(self, Self::Entry(_) | Self::Shared(_))
    }
}

/// What there is for a key.
enum Found {
    /// No counter of its own yet, but room for one, and a sketch that may hold hits of this key from
    /// when there was none.
    Along(Shared, State),
    /// A counter in use.
    Stored(Spot),
    /// No counter, but room in the table.
    Room,
    /// Neither a counter nor room; a sketch that holds nothing of it, if its rule has one, or else memory
    /// for one.
    Free(Option<Shared>),
    /// None of these before this time.
    Taken(Timestamp),
}

#[derive(Debug)]
pub(super) struct Shard {
    table: Table,
    overflow: Overflow,
    /// The most keys that the table may hold.
    cap: usize,
    /// Up to so many keys there is room for any rule.
    roomy: usize,
    /// Keys of each rule, while the table is nearly full.
    rules: Option<HashMap<RuleId, usize>>,
    swept: Timestamp,
    /// The latest time at which a state was dropped.
    forgot: Timestamp,
    logs: Arc<LogBudget>,
    gauges: Arc<Gauges>,
}

impl Shard {
    pub(super) fn new(cap: usize, logs: Arc<LogBudget>, gauges: Arc<Gauges>) -> Self {
        Self {
            table: Table::new(),
            overflow: Overflow::new(cap),
            cap,
            roomy: cap / 4 * 3,
            rules: None,
            swept: Timestamp::default(),
            forgot: Timestamp::default(),
            logs,
            gauges,
        }
    }

    /// The time at which to decide when the clock reads `now`.
    ///
    /// A thread that read the clock just before another one dropped what had expired would find a
    /// key new that has used up its window, so time does not go back behind the last drop. A clock
    /// that was set back by more than a few seconds is believed.
    pub(super) fn not_before(&self, now: Timestamp) -> Timestamp {
        let behind = self.forgot.as_millis().saturating_sub(now.as_millis());
        if behind <= STALE_CLOCK_MILLIS {
            self.forgot.max(now)
        } else {
            now
        }
    }

    /// Tries to have room for `keys` more keys by dropping what has expired. Positions change.
    pub(super) fn make_room(&mut self, keys: usize, now: Timestamp) {
        if self.table.len() + keys <= self.roomy {
            self.rules = None;
            return;
        }
        let since = now.as_millis().saturating_sub(self.swept.as_millis());
        if self.table.len() + keys > self.cap
            && self.table.earliest() <= now
            && since >= SWEEP_PAUSE_MILLIS
        {
            self.sweep(now);
        }
        self.count_rules();
    }

    /// Counts the keys of each rule, if the table is so full that it matters ([`Self::has_room`]).
    fn count_rules(&mut self) {
        if self.rules.is_none() && !self.has_room_for_all() {
            let mut rules = HashMap::new();
            for rule in self.table.rules() {
                *rules.entry(rule).or_default() += 1;
            }
            self.rules = Some(rules);
        }
    }

    /// Whether a rule that has all keys may have one more.
    const fn has_room_for_all(&self) -> bool {
        let len = self.table.len();
        len < self.cap && len < ROOM_FACTOR.saturating_mul(self.cap - len)
    }

    /// Whether a rule may have one more key: while it has fewer than [`ROOM_FACTOR`] times what is free. So
    /// a rule alone gets 7/8 of the table, and the first key of another always has room.
    fn has_room(&self, rule: RuleId) -> bool {
        let len = self.table.len();
        let Some(rules) = &self.rules else {
            return len < self.cap;
        };
        let own = rules.get(&rule).copied().unwrap_or(0);
        own < ROOM_FACTOR.saturating_mul(self.cap.saturating_sub(len))
    }

    /// Where this check is counted. Makes a counter for it if it may change one.
    pub(super) fn place(&mut self, print: Fingerprint, check: &Check, now: Timestamp) -> Spot {
        match self.find(print, (check.rule, &check.quota), now) {
            Found::Stored(spot) => spot,
            Found::Taken(until) => Spot::Refused(until),
            Found::Along(shared, state) => match self.take_along(shared, &state, check, now) {
                Some(state) => self.insert(print, check.rule, state),
                None => Spot::Shared(shared),
            },
            Found::Free(Some(shared)) if !may_change(check, 0) => Spot::Shared(shared),
            Found::Room | Found::Free(_) if !may_change(check, 0) => Spot::Fresh,
            Found::Room => self.insert(print, check.rule, State::fresh(&check.quota, now)),
            Found::Free(_) => {
                let whose = (check.rule, &check.quota);
                let (shared, dropped) = self.overflow.claim(print, whose, now);
                if dropped {
                    self.forgot = self.forgot.max(now);
                }
                self.publish();
                Spot::Shared(shared)
            }
        }
    }

    /// What a query of this check alone would be answered. Changes nothing.
    pub(super) fn inspect(&self, print: Fingerprint, check: &Check, moment: Moment) -> Verdict {
        let (quota, hits, now) = (&check.quota, check.hits, moment.now);
        let (spot, mut state) = match self.find(print, (check.rule, &check.quota), now) {
            Found::Taken(until) => return moment.refuse(check, until),
            Found::Along(shared, state) => match self.take_along(shared, &state, check, now) {
                // A new entry of its own.
                Some(own) => (Spot::Fresh, own),
                None => (Spot::Shared(shared), state),
            },
            Found::Free(shared) if shared.is_some() || may_change(check, 0) => {
                let shared = shared.unwrap_or_else(|| self.overflow.next(print));
                let state = self.overflow.state(shared, quota, now);
                let state = state.unwrap_or_else(|| Sketch::empty(quota, now));
                (Spot::Shared(shared), state)
            }
            Found::Room | Found::Free(_) => (Spot::Fresh, State::fresh(quota, now)),
            Found::Stored(spot) => match self.state(spot, quota, now) {
                Some(state) => (spot, state.into_owned()),
                None => (Spot::Fresh, State::fresh(quota, now)),
            },
        };
        let over = is_over(quota, hits, state.used(quota, now));
        if lands(quota, hits, over, over) && !is_ignored(spot, hits) {
            state.widen();
            apply(&mut state, quota, hits, now);
        }
        let judgement = Judgement {
            over,
            denied: over,
            beside: 0,
        };
        let verdict = moment.tell(check, spot, &state, judgement);
        moment.extend_wait(verdict, check, &state, || {
            self.shared_counter_wait(print, check, judgement, moment)
        })
    }

    /// Whether the check is over the limit on its own.
    pub(super) fn is_over(&self, spot: Spot, check: &Check, now: Timestamp) -> bool {
        match spot {
            Spot::Refused(_) => !matches!(check.hits, Hits::Refund(_)),
            Spot::Entry(_) | Spot::Fresh | Spot::Shared(_) => {
                is_over(&check.quota, check.hits, self.used(spot, check, now))
            }
        }
    }

    /// Charges what lands, and reports.
    pub(super) fn settle(
        &mut self,
        spot: Spot,
        check: &Check,
        judgement: Judgement,
        moment: Moment,
    ) -> Verdict {
        let Judgement { over, denied, .. } = judgement;
        if lands(&check.quota, check.hits, over, denied) {
            self.land(spot, check, moment.now);
        } else if let Spot::Entry(at) = spot {
            self.table.outlast(at, &check.quota, moment.now);
        }
        self.note(spot, over);
        if let Spot::Refused(until) = spot {
            return moment.refuse(check, until);
        }
        if let Spot::Entry(at) = spot
            && let Some(state) = self.table.state(at)
        {
            let verdict = moment.tell(check, spot, state, judgement);
            // As a rule there are no sketches.
            if self.overflow.is_empty() {
                return verdict;
            }
            return moment.extend_wait(verdict, check, state, || {
                let print = self.table.fingerprint(at);
                print.map_or(0, |print| {
                    self.shared_counter_wait(print, check, judgement, moment)
                })
            });
        }
        let state = self.state(spot, &check.quota, moment.now);
        let state = state.unwrap_or_else(|| Cow::Owned(State::fresh(&check.quota, moment.now)));
        moment.tell(check, spot, &state, judgement)
    }

    /// Makes an entry of its own say that so many hits are counted; see
    /// [`MemoryStore::set`](super::MemoryStore::set).
    pub(super) fn set(
        &mut self,
        print: Fingerprint,
        seen: &Seen<'_>,
        may_lower: impl FnOnce() -> bool,
    ) {
        let (quota, used, now) = (seen.quota, seen.used, seen.at);
        let at = match self.find(print, (seen.rule, quota), now) {
            Found::Stored(Spot::Entry(at)) => at,
            Found::Room if used > 0 => {
                match self.insert(print, seen.rule, State::fresh(quota, now)) {
                    Spot::Entry(at) => at,
                    Spot::Fresh | Spot::Refused(_) | Spot::Shared(_) => return,
                }
            }
            Found::Along(..)
            | Found::Free(_)
            | Found::Room
            | Found::Stored(_)
            | Found::Taken(_) => {
                return;
            }
        };
        let Some(state) = self.table.state(at) else {
            return;
        };
        if quota.algorithm() == Algorithm::FixedWindow
            && state.resets_at(quota, now) > now + quota.window().millis()
        {
            return;
        }
        let have = state.used(quota, now);
        if used > have {
            self.change(at, quota, Hits::Charge(used - have), now);
        } else if used < have && may_lower() {
            match quota.algorithm() {
                Algorithm::FixedWindow | Algorithm::TokenBucket => {
                    self.change(at, quota, Hits::Refund(have - used), now);
                }
                // Which of the hits are gone is not known, so those that are left count from now.
                Algorithm::SlidingLog | Algorithm::SlidingWindow => {
                    self.change(at, quota, Hits::Refund(have), now);
                    self.change(at, quota, Hits::Charge(used), now);
                }
            }
        }
    }

    /// Gives back what a check that passed was charged at `at`.
    pub(super) fn give_back(
        &mut self,
        print: Fingerprint,
        check: &Check,
        at: Timestamp,
        now: Timestamp,
    ) {
        let (quota, now) = (&check.quota, self.not_before(now));
        let hits = comes_back(quota, check.hits, false);
        if hits == 0 {
            return;
        }
        let Some(entry) = self.table.find(print) else {
            if self.shared(print, (check.rule, quota), now).is_some() {
                count(&self.gauges.overflow_refunds_ignored);
            }
            return;
        };
        let used = |state: &State| state.used(quota, now) > 0;
        if !self.table.state(entry).is_some_and(used) {
            return;
        }
        self.table.update(entry, |state| {
            state.give_back(quota, hits, at, now);
            state.falls_to(quota, 0, now)
        });
        let spot = Spot::Entry(entry);
        if self.is_void(spot, now) {
            self.forget(print, spot, now);
        }
    }

    /// Whether a key's counter says no more than none would: nothing ever landed on it, or
    /// everything has been given back.
    pub(super) fn is_void(&self, spot: Spot, now: Timestamp) -> bool {
        match spot {
            Spot::Entry(at) => self.table.is_void(at, now),
            Spot::Shared(shared) => self.overflow.is_unused(shared),
            Spot::Fresh | Spot::Refused(_) => false,
        }
    }

    /// What is counted there, as this quota counts.
    pub(super) fn state(
        &self,
        spot: Spot,
        quota: &Quota,
        now: Timestamp,
    ) -> Option<Cow<'_, State>> {
        match spot {
            Spot::Entry(at) => self.table.state(at).map(Cow::Borrowed),
            Spot::Shared(shared) => self.overflow.state(shared, quota, now).map(Cow::Owned),
            Spot::Fresh | Spot::Refused(_) => None,
        }
    }

    /// Forgets a key for which nothing is counted any more, or ends a sketch that nothing was charged
    /// to. Positions change.
    pub(super) fn forget(&mut self, print: Fingerprint, spot: Spot, now: Timestamp) {
        match spot {
            Spot::Entry(at) => {
                if let Some(rules) = &mut self.rules
                    && let Some(rule) = self.table.rule(at)
                    && let Some(keys) = rules.get_mut(&rule)
                {
                    *keys = keys.saturating_sub(1);
                }
                let removed = self.table.remove(print);
                self.forgot = self.forgot.max(now);
                self.logs.give_back(removed.log_members);
                self.publish();
            }
            Spot::Shared(shared) => {
                self.overflow.release(shared);
                self.publish();
            }
            Spot::Fresh | Spot::Refused(_) => {}
        }
    }

    /// Forgets a key that is counted, unless hits of it may be in a shared counter. Tells whether
    /// none are. Positions change.
    pub(super) fn reset(&mut self, print: Fingerprint, check: &Check, now: Timestamp) -> bool {
        // Also beside an entry of its own: once that is gone, the key would take these along.
        if self
            .shared(print, (check.rule, &check.quota), now)
            .is_some()
        {
            return false;
        }
        match self.find(print, (check.rule, &check.quota), now) {
            Found::Stored(spot) => {
                self.forget(print, spot, now);
                true
            }
            Found::Room | Found::Free(_) => true,
            Found::Along(..) | Found::Taken(_) => false,
        }
    }

    /// Drops everything that has expired.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Removed {
        let removed = self.table.sweep(now);
        if removed.entries > 0 {
            // The next query counts them again if the table is that full.
            self.rules = None;
        }
        if self.overflow.sweep(now) || removed.entries > 0 {
            self.forgot = self.forgot.max(now);
        }
        self.swept = now;
        self.logs.give_back(removed.log_members);
        let expired = u64::try_from(removed.entries).unwrap_or(u64::MAX);
        self.gauges.expired.fetch_add(expired, Ordering::Relaxed);
        self.publish();
        removed
    }

    /// Keys with a counter of their own.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn find(&self, print: Fingerprint, (rule, quota): (RuleId, &Quota), now: Timestamp) -> Found {
        if let Some(at) = self.table.find(print) {
            return Found::Stored(Spot::Entry(at));
        }
        let room = self.has_room(rule);
        if let Some((shared, state)) = self.shared(print, (rule, quota), now) {
            return match room {
                true => Found::Along(shared, state),
                false => Found::Stored(Spot::Shared(shared)),
            };
        }
        if room {
            return Found::Room;
        }
        match self.overflow.find(print, (rule, quota), now) {
            Some(shared) => Found::Free(Some(shared)),
            None => match self.overflow.has_room(now) {
                Ok(()) => Found::Free(None),
                Err(until) => Found::Taken(until),
            },
        }
    }

    /// What may have been charged to this key in its rule's sketch and still counts, and where.
    fn shared(
        &self,
        print: Fingerprint,
        (rule, quota): (RuleId, &Quota),
        now: Timestamp,
    ) -> Option<(Shared, State)> {
        let shared = self.overflow.find(print, (rule, quota), now)?;
        let state = self.overflow.state(shared, quota, now)?;
        (state.used(quota, now) > 0).then_some((shared, state))
    }

    /// What a key takes from its rule's sketch into an entry of its own; none if the check changes
    /// nothing, for then it can as well be judged there.
    fn take_along(
        &self,
        shared: Shared,
        state: &State,
        check: &Check,
        now: Timestamp,
    ) -> Option<State> {
        let quota = &check.quota;
        let latest = self.overflow.latest(shared);
        may_change(check, state.used(quota, now)).then(|| state.taken_along(quota, latest, now))
    }

    fn insert(&mut self, print: Fingerprint, rule: RuleId, state: State) -> Spot {
        self.logs.take(state.log_members());
        let at = self.table.insert(print, rule, state);
        if let Some(rules) = &mut self.rules {
            *rules.entry(rule).or_default() += 1;
        }
        self.publish();
        Spot::Entry(at)
    }

    /// Charges or gives back what the check says.
    fn land(&mut self, spot: Spot, check: &Check, now: Timestamp) {
        let quota = &check.quota;
        match (spot, check.hits) {
            // Nothing to give back.
            (Spot::Shared(_), Hits::Refund(_)) if self.used(spot, check, now) == 0 => {}
            (Spot::Shared(_) | Spot::Refused(_), Hits::Refund(_)) => {
                count(&self.gauges.overflow_refunds_ignored);
            }
            (Spot::Shared(shared), Hits::Charge(hits)) => {
                if self
                    .overflow
                    .charge(shared, quota, hits.min(SATURATED), now)
                {
                    self.forgot = self.forgot.max(now);
                }
            }
            // Nothing to give back.
            (Spot::Entry(_), Hits::Refund(_)) if self.used(spot, check, now) == 0 => {}
            (Spot::Entry(at), hits) => self.change(at, quota, hits, now),
            (Spot::Shared(_), Hits::Peek) | (Spot::Fresh | Spot::Refused(_), _) => {}
        }
    }

    /// Charges an entry, or gives back to it.
    fn change(&mut self, at: usize, quota: &Quota, hits: Hits, now: Timestamp) {
        let resized = self.table.update(at, |state| {
            if let (State::Log(log), Hits::Charge(_)) = (&mut *state, hits) {
                self.logs.make_room(log, quota, now);
            }
            apply(state, quota, hits, now);
            state.falls_to(quota, 0, now)
        });
        if resized {
            self.publish();
        }
    }

    /// Returns the milliseconds until the shared counter of this key admits the check; 0 if there is none.
    fn shared_counter_wait(
        &self,
        print: Fingerprint,
        check: &Check,
        judgement: Judgement,
        moment: Moment,
    ) -> u64 {
        match self.shared(print, (check.rule, &check.quota), moment.now) {
            Some((shared, state)) => {
                let verdict = moment.tell(check, Spot::Shared(shared), &state, judgement);
                verdict.reset_millis
            }
            None => 0,
        }
    }

    /// Counts a verdict that the table had no room for.
    fn note(&self, spot: Spot, over: bool) {
        if matches!(spot, Spot::Shared(_) | Spot::Refused(_)) {
            count(&self.gauges.overflow_decisions);
        }
        if over && matches!(spot, Spot::Refused(_)) {
            count(&self.gauges.overflow_refused);
        }
    }

    fn used(&self, spot: Spot, check: &Check, now: Timestamp) -> u64 {
        if let Spot::Entry(at) = spot {
            let state = self.table.state(at);
            return state.map_or(0, |state| state.used(&check.quota, now));
        }
        self.state(spot, &check.quota, now)
            .map_or(0, |state| state.used(&check.quota, now))
    }

    fn publish(&self) {
        let bytes = self.table.bytes() + self.overflow.bytes();
        self.gauges.live.store(self.table.len(), Ordering::Relaxed);
        self.gauges.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Whether the check would leave something behind where so many hits are counted.
fn may_change(check: &Check, used: u64) -> bool {
    let over = is_over(&check.quota, check.hits, used);
    matches!(check.hits, Hits::Charge(_)) && lands(&check.quota, check.hits, over, false)
}

/// A shared counter gives nothing back: the hits may be another key's.
pub(super) const fn is_ignored(spot: Spot, hits: Hits) -> bool {
    matches!((spot, hits), (Spot::Shared(_), Hits::Refund(_)))
}

/// A rule may have so many times as many keys as there is room for; see the thresholds of
/// shared-memory switches (`transport::clients`).
const ROOM_FACTOR: usize = 7;

/// A full shard looks for expired keys at most this often.
const SWEEP_PAUSE_MILLIS: u64 = 100;

/// How far a thread's reading of the clock may lie behind another's.
const STALE_CLOCK_MILLIS: u64 = 10_000;
