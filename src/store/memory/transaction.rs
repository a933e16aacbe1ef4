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
use super::shard::{Shard, Spot, is_ignored};
use super::state::State;
use super::verdict::{Judgement, Moment};
use crate::algorithm::{Counter, apply, comes_back, is_over, lands};
use crate::clock::Timestamp;
use crate::model::{Check, Decision, Hits, Role, Verdicts, denies};

/// One hash per check, in order.
pub(super) type Prints = SmallVec<[Fingerprint; 4]>;

pub(super) struct Transaction<'a> {
    store: &'a MemoryStore,
    /// In ascending order of the shards' numbers.
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
    moment: Moment,
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
            if let Some(&number) = same.first() {
                let mut shard = store.shards[number].lock();
                now = now.max(shard.not_before(asked));
                shard.make_room(same.len(), now);
                shards.push((number, shard));
            }
        }
        Self {
            store,
            shards,
            moment: Moment { asked, now },
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
        let denied = enforce && denies(roles.map(|(check, step)| (check.role, step.over)));
        let mut verdicts = Verdicts::new();
        for (index, (check, step)) in checks.iter().zip(&steps).enumerate() {
            let judgement = Judgement {
                over: step.over,
                denied,
                beside: match step.over && denied {
                    true => beside(checks, &steps, index),
                    false => 0,
                },
            };
            verdicts.push(match self.shards.get_mut(step.place.shard) {
                Some((_, shard)) => shard.settle(step.place.spot, check, judgement, self.moment),
                None => self.moment.refuse(check, self.moment.now),
            });
        }
        self.forget_void(prints, &steps);
        Decision { verdicts, denied }
    }

    fn place(&mut self, check: &Check, print: Fingerprint) -> Place {
        let number = self.store.shard_of(print);
        let found = self
            .shards
            .binary_search_by_key(&number, |(number, _)| *number);
        // Every key's shard was locked, so it is always found.
        let shard = found.unwrap_or_else(|near| near);
        let now = self.moment.now;
        let spot = match self.shards.get_mut(shard) {
            Some((_, locked)) => locked.place(print, check, now),
            None => Spot::Refused(now),
        };
        Place { shard, spot }
    }

    /// Judges each check on top of those before it, on copies where a counter is asked twice.
    fn judge(&self, checks: &[Check], steps: &mut [Step]) {
        let now = self.moment.now;
        let mut trials: SmallVec<[(Place, State); 1]> = SmallVec::new();
        let mut rest = steps;
        for check in checks {
            let Some((step, later)) = rest.split_first_mut() else {
                break;
            };
            rest = later;
            let place = step.place;
            let Some((_, shard)) = self.shards.get(place.shard) else {
                continue;
            };
            let mut trial = trials.iter().position(|(tried, _)| *tried == place);
            if trial.is_none()
                && place.spot.is_stored()
                && rest.iter().any(|later| later.place == place)
                && let Some(state) = shard.state(place.spot, &check.quota, now)
            {
                trial = Some(trials.len());
                trials.push((place, state.trial(&check.quota, now)));
            }
            let Some((_, state)) = trial.and_then(|at| trials.get_mut(at)) else {
                step.over = shard.is_over(place.spot, check, now);
                continue;
            };
            let (quota, hits) = (&check.quota, check.hits);
            step.over = is_over(quota, hits, state.used(quota, now));
            if lands(quota, hits, step.over, false) && !is_ignored(place.spot, hits) {
                apply(state, quota, hits, now);
            }
        }
    }

    /// Drops counters that nothing landed on since the query was denied, and those for which
    /// everything was given back.
    fn forget_void(&mut self, prints: &Prints, steps: &[Step]) {
        let mut void: SmallVec<[(Place, Fingerprint); 4]> = SmallVec::new();
        let now = self.moment.now;
        for (step, &print) in steps.iter().zip(prints) {
            if let Some((_, shard)) = self.shards.get(step.place.shard)
                && shard.is_void(step.place.spot, now)
            {
                void.push((step.place, print));
            }
        }
        // Positions change with the first one that goes.
        for (place, print) in void {
            if let Some((_, shard)) = self.shards.get_mut(place.shard) {
                shard.forget(print, place.spot, now);
            }
        }
    }
}

/// Hits of other checks on the counter of this one that are not charged because the query is denied,
/// and that the same query needs room for when it comes again: those before it that passed. If it is
/// a plain check, which has to pass for the query to pass, also other plain ones, be they over or
/// after it; after a peek nothing needs room. Hits that are charged anyway are counted already, and
/// hits that are never charged (`debt` on a bucket without refill) need no room.
fn beside(checks: &[Check], steps: &[Step], index: usize) -> u64 {
    let (Some(own), Some(step)) = (checks.get(index), steps.get(index)) else {
        return 0;
    };
    let place = step.place;
    if !place.spot.is_stored() {
        return 0;
    }
    let is_plain = |check: &Check| check.role == Role::default();
    let last = match own.hits {
        Hits::Charge(_) => checks.len(),
        Hits::Peek | Hits::Refund(_) => index,
    };
    let others = checks.iter().zip(steps).enumerate().take(last);
    others
        // A check that can never pass has no counter, but it is of the same key.
        .filter(|(at, (check, step))| *at != index && (step.place == place || check.key == own.key))
        .filter(|(at, (check, step))| {
            (is_plain(own) && is_plain(check)) || (*at < index && !step.over)
        })
        .map(|(_, (check, _))| comes_back(&check.quota, check.hits, false))
        .fold(0, u64::saturating_add)
}
