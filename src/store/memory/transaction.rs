//! One query against the store, from locking its shards to forgetting what it left empty.
//!
//! 1. Lock the shards of all keys in ascending order, so that queries never wait for each other in
//!    a circle, and find or make each check's counter.
//! 2. Judge the checks in order, each on top of those before it that passed. Nothing is written.
//! 3. Fold the judgements: is the query denied?
//! 4. Charge what lands, check by check, and report what each one leaves behind.
//! 5. Drop counters for which nothing is counted. All locks are held until then.

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::MemoryStore;
use super::fingerprint::Fingerprint;
use super::shard::{Shard, Spot};
use super::state::State;
use crate::algorithm::{Counter, apply, is_over, lands, passes_at, report};
use crate::clock::Timestamp;
use crate::model::{Check, Decision, Hits, Source, Verdict, Verdicts, denies};

/// One hash per check, in order.
pub(super) type Prints = SmallVec<[Fingerprint; 4]>;

pub(super) struct Transaction<'a> {
    store: &'a MemoryStore,
    /// In ascending order of the shards' numbers.
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
    /// What the caller's clock reads.
    asked: Timestamp,
    /// The time by which to decide, never earlier.
    now: Timestamp,
}

/// Where a check is counted: in which of the locked shards, and where in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    shard: usize,
    spot: Spot,
}

#[derive(Clone, Copy)]
struct Step {
    place: Place,
    over: bool,
}

type Steps = SmallVec<[Step; 4]>;

impl<'a> Transaction<'a> {
    /// Locks what the keys need.
    pub(super) fn begin(store: &'a MemoryStore, prints: &[Fingerprint], asked: Timestamp) -> Self {
        let mut numbers: SmallVec<[usize; 4]> =
            prints.iter().map(|&print| store.shard_of(print)).collect();
        numbers.sort_unstable();
        let mut shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]> = SmallVec::new();
        let mut now = asked;
        for same in numbers.chunk_by(|a, b| a == b) {
            let Some((&number, cell)) = same
                .first()
                .and_then(|number| Some((number, store.shards.get(*number)?)))
            else {
                continue;
            };
            let mut shard = cell.lock();
            now = now.max(shard.not_before(asked));
            shard.make_room(same.len(), now);
            shards.push((number, shard));
        }
        Self {
            store,
            shards,
            asked,
            now,
        }
    }

    /// Decides and charges.
    pub(super) fn decide(mut self, checks: &[Check], prints: &Prints, enforce: bool) -> Decision {
        let mut steps: Steps = checks
            .iter()
            .zip(prints)
            .map(|(check, &print)| Step {
                place: self.place(check, print),
                over: false,
            })
            .collect();
        self.judge(checks, &mut steps);
        let roles = checks.iter().zip(&steps);
        let denied = denies(roles.map(|(check, step)| (check.role, step.over))) && enforce;
        let verdicts: Verdicts = checks
            .iter()
            .zip(&steps)
            .enumerate()
            .map(|(index, (check, &step))| {
                let beside = if denied && step.over {
                    beside(checks, &steps, index)
                } else {
                    0
                };
                self.settle(check, step, denied, beside)
            })
            .collect();
        self.forget_empty(checks, prints, &steps, &verdicts);
        Decision {
            verdicts,
            denied,
            now: self.now,
        }
    }

    /// What [`Transaction::decide`] would answer to this check alone. Charges nothing.
    pub(super) fn inspect(self, check: &Check, print: Fingerprint) -> Verdict {
        let Some((_, shard)) = self.shards.first() else {
            return self.refused(check, self.now);
        };
        let (spot, state) = shard.look(print, check, self.now);
        let (Some(mut state), false) = (state, matches!(spot, Spot::Refused(_))) else {
            let until = match spot {
                Spot::Refused(until) => until,
                Spot::Entry(_) | Spot::Fresh | Spot::Slot(_) => self.now,
            };
            return self.refused(check, until);
        };
        let (quota, hits) = (&check.quota, check.hits);
        let over = is_over(quota, hits, state.used(quota, self.now));
        if lands(quota, hits, over, over) && !is_ignored(spot, hits) {
            state.widen();
            apply(&mut state, quota, hits, self.now);
        }
        let place = Place { shard: 0, spot };
        self.told(check, Step { place, over }, &state, 0)
    }

    fn place(&mut self, check: &Check, print: Fingerprint) -> Place {
        let number = self.store.shard_of(print);
        let found = self
            .shards
            .binary_search_by_key(&number, |(number, _)| *number);
        // Every key's shard was locked, so it is always found.
        let shard = found.unwrap_or_else(|near| near);
        let spot = match self.shards.get_mut(shard) {
            Some((_, locked)) => locked.place(print, check, self.now),
            None => Spot::Refused(self.now),
        };
        Place { shard, spot }
    }

    fn state(&self, place: Place) -> Option<&State> {
        self.shards.get(place.shard)?.1.state(place.spot)
    }

    /// Judges each check on top of those before it, on copies where a counter is asked twice.
    fn judge(&self, checks: &[Check], steps: &mut [Step]) {
        let mut trials: SmallVec<[(Place, State); 1]> = SmallVec::new();
        let mut rest = steps;
        for check in checks {
            let Some((step, later)) = rest.split_first_mut() else {
                break;
            };
            let (place, quota, hits) = (step.place, &check.quota, check.hits);
            let mut trial = trials.iter().position(|(tried, _)| *tried == place);
            if trial.is_none()
                && place.spot.is_stored()
                && later.iter().any(|other| other.place == place)
                && let Some(state) = self.state(place)
            {
                trial = Some(trials.len());
                trials.push((place, state.trial(quota, self.now)));
            }
            let trial = trial
                .and_then(|at| trials.get_mut(at))
                .map(|(_, state)| state);
            let state = trial.as_deref().or_else(|| self.state(place));
            step.over = match (place.spot, state) {
                (Spot::Refused(_), _) => !matches!(hits, Hits::Refund(_)),
                (_, Some(state)) => is_over(quota, hits, state.used(quota, self.now)),
                (_, None) => is_over(quota, hits, 0),
            };
            if let Some(state) = trial
                && lands(quota, hits, step.over, false)
                && !is_ignored(place.spot, hits)
            {
                apply(state, quota, hits, self.now);
            }
            rest = later;
        }
    }

    /// Charges what lands, and reports.
    fn settle(&mut self, check: &Check, step: Step, denied: bool, beside: u64) -> Verdict {
        let Step { place, over } = step;
        let now = self.now;
        if let Some((_, shard)) = self.shards.get_mut(place.shard) {
            if lands(&check.quota, check.hits, over, denied) {
                shard.land(place.spot, check, now);
            }
            shard.note(place.spot, over);
        }
        match (place.spot, self.state(place)) {
            (Spot::Refused(until), _) => self.refused(check, until),
            (_, Some(state)) => self.told(check, step, state, beside),
            (_, None) => {
                let fresh = State::fresh(&check.quota, now);
                self.told(check, step, &fresh, beside)
            }
        }
    }

    /// The report on a state, with the wait as the caller's clock will see it.
    fn told(&self, check: &Check, step: Step, state: &State, beside: u64) -> Verdict {
        let verdict = report(state, check, step.over, beside, self.now);
        let source = match step.place.spot {
            Spot::Entry(_) | Spot::Fresh => Source::Memory,
            Spot::Refused(_) | Spot::Slot(_) => Source::Overflow,
        };
        let reset_millis = match verdict.reset_millis {
            0 => 0,
            millis => millis + self.clock_lag(),
        };
        Verdict {
            reset_millis,
            source,
            ..verdict
        }
    }

    /// The verdict where nothing could be counted, not even in a shared counter.
    fn refused(&self, check: &Check, until: Timestamp) -> Verdict {
        Verdict {
            over: !matches!(check.hits, Hits::Refund(_)),
            remaining: 0,
            counted: 0,
            reset_millis: until.as_millis().saturating_sub(self.asked.as_millis()),
            never: passes_at(&check.quota, check.hits).is_none(),
            source: Source::Overflow,
        }
    }

    /// How far the caller's clock lies behind the time by which is decided.
    fn clock_lag(&self) -> u64 {
        self.now.as_millis().saturating_sub(self.asked.as_millis())
    }

    /// Drops counters for which nothing is counted, be it that the query was denied, or that
    /// everything was given back.
    fn forget_empty(
        &mut self,
        checks: &[Check],
        prints: &Prints,
        steps: &[Step],
        verdicts: &[Verdict],
    ) {
        let mut empty: SmallVec<[(Place, Fingerprint); 4]> = SmallVec::new();
        for (((check, step), &print), verdict) in checks.iter().zip(steps).zip(prints).zip(verdicts)
        {
            // A later check on the same counter may have charged it.
            if verdict.counted == 0
                && let Some(state) = self.state(step.place)
                && state.used(&check.quota, self.now) == 0
            {
                empty.push((step.place, print));
            }
        }
        // Positions change with the first one that goes.
        for (place, print) in empty {
            if let Some((_, shard)) = self.shards.get_mut(place.shard) {
                shard.forget(print, place.spot, self.now);
            }
        }
    }
}

/// A shared counter gives nothing back: the hits may be another key's.
const fn is_ignored(spot: Spot, hits: Hits) -> bool {
    matches!((spot, hits), (Spot::Slot(_), Hits::Refund(_)))
}

/// Hits of checks before this one, on the same counter, that passed but are not charged since the
/// query is denied. The same query needs room for them too.
fn beside(checks: &[Check], steps: &[Step], index: usize) -> u64 {
    let Some(place) = steps.get(index).map(|step| step.place) else {
        return 0;
    };
    checks
        .iter()
        .zip(steps)
        .take(index)
        .filter(|(_, step)| step.place == place && step.place.spot.is_stored() && !step.over)
        .filter_map(|(check, _)| match check.hits {
            Hits::Charge(hits) if !lands(&check.quota, check.hits, false, true) => Some(hits),
            Hits::Charge(_) | Hits::Peek | Hits::Refund(_) => None,
        })
        .sum()
}
