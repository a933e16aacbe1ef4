//! Which keys are limited most, by rule: a [`sketch`] for each, of this minute and the last.
//!
//! To note a key is to lock what only this core's threads lock, unless somebody reads, and to look
//! through 32 hashes; nothing is allocated once a rule's places are taken. Bounded: [`MAX_RULES`]
//! rules of each core have a sketch of their own, the others share one; the longest keys for all of
//! them would take 17 MB for each core, some kilobytes are usual. What has not been noted for two
//! minutes gives its place to a new rule when places are short.
//!
//! Nothing of it is ever a metric: keys come from requests.

mod sketch;

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;

use self::sketch::{Merged, Sketch};
use super::decisions::OVERFLOW;
use super::{Telemetry, shard};
use crate::clock::Timestamp;

/// Which keys to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopAsked<'a> {
    /// Those of this domain only.
    pub domain: Option<&'a str>,
    /// Those of the rule of this path only.
    pub rule: Option<&'a str>,
    /// So many.
    pub limit: usize,
}

/// Keys that exceeded their limits lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKeys {
    /// Over so many seconds, one to two minutes.
    pub seconds: u64,
    /// The keys, that which did so most often first.
    pub keys: Vec<TopKey>,
    /// The rules that had more keys than there is room for, in the same time, by name. Of the domain and
    /// the rule that were asked for.
    pub overflowing: Vec<RuleName>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleName {
    /// Its domain.
    pub domain: Arc<str>,
    /// Its path.
    pub rule: Arc<str>,
}

/// A key that exceeded its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The rule's domain.
    pub domain: Arc<str>,
    /// The rule's path.
    pub rule: Arc<str>,
    /// The counter's name.
    pub key: String,
    /// How often its limit was exceeded, at most.
    pub times: u64,
    /// And at least.
    pub at_least: u64,
}

impl Telemetry {
    /// The keys whose limits were exceeded most often in the last one to two minutes. A key that
    /// makes up more than a 32nd of its rule's is there for sure.
    #[must_use]
    pub fn top(&self, asked: TopAsked<'_>) -> TopKeys {
        let now = self.clock.now();
        let wanted = |asked: Option<&str>, is: &str| asked.is_none_or(|asked| asked == is);
        let is_wanted =
            |domain: &str, rule: &str| wanted(asked.domain, domain) && wanted(asked.rule, rule);
        let mut keys = Vec::new();
        for row in self.top.rows(now) {
            let Some((domain, rule)) = self.state.decisions.name(row) else {
                continue;
            };
            if !is_wanted(&domain, &rule) {
                continue;
            }
            let merged = self.top.merged(row, now).keys();
            keys.extend(merged.map(|(key, times, at_least)| TopKey {
                domain: Arc::clone(&domain),
                rule: Arc::clone(&rule),
                key: String::from_utf8_lossy(&key).into_owned(),
                times,
                at_least,
            }));
            sort(&mut keys);
            keys.truncate(asked.limit);
        }
        let overflowing = self.overflowing.rows(now);
        let mut overflowing: Vec<RuleName> = overflowing
            .filter_map(|row| self.rule_of(row))
            .filter(|name| is_wanted(&name.domain, &name.rule))
            .collect();
        overflowing.sort_unstable();
        TopKeys {
            overflowing,
            seconds: 60_u64.saturating_add(now.as_millis() % GENERATION / 1_000),
            keys,
        }
    }
}

/// The most often first, and those that are as often always in the same order.
fn sort(keys: &mut [TopKey]) {
    keys.sort_unstable_by(|a, b| {
        let most = b.times.cmp(&a.times).then(b.at_least.cmp(&a.at_least));
        most.then_with(|| (&a.domain, &a.key).cmp(&(&b.domain, &b.key)))
    });
}

/// All sketches.
pub(super) struct Top {
    shards: Box<[Padded]>,
    hasher: foldhash::fast::RandomState,
}

/// Cache lines of its own.
#[repr(align(64))]
struct Padded(Mutex<Shard>);

/// What the threads of one core write to.
#[derive(Default)]
struct Shard {
    rules: HashMap<u32, Rule, foldhash::fast::RandomState>,
    /// Of all rules that find no place.
    rest: Rule,
    /// When old rules were dropped last.
    swept: u64,
}

/// A rule's keys: of this generation, and of the one before.
#[derive(Default)]
struct Rule {
    generation: u64,
    current: Sketch,
    before: Sketch,
}

impl Top {
    pub(super) fn new(shards: usize) -> Self {
        let shard = || Padded(Mutex::default());
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// A key of the rule of this row has exceeded its limit.
    pub(super) fn note(&self, row: u32, key: &[u8], now: Timestamp) {
        let Some(Padded(shard)) = self.shards.get(shard::of_this_thread(self.shards.len())) else {
            return;
        };
        let hash = self.hasher.hash_one(key);
        let generation = generation(now);
        let mut shard = shard.lock();
        let rule = shard.rule(row, generation);
        rule.turn(generation);
        rule.current.note(hash, key);
    }

    /// The rows that have keys now.
    fn rows(&self, now: Timestamp) -> BTreeSet<u32> {
        let mut rows = BTreeSet::new();
        for Padded(shard) in &self.shards {
            let shard = shard.lock();
            let is_new = |rule: &Rule| rule.is_of(generation(now));
            let fresh = shard.rules.iter().filter(|(_, rule)| is_new(rule));
            rows.extend(fresh.map(|(row, _)| *row));
            rows.extend(is_new(&shard.rest).then_some(OVERFLOW));
        }
        rows
    }

    /// The keys of a row. Locks for a rule at a time, so that nobody who notes waits for long.
    fn merged(&self, row: u32, now: Timestamp) -> Merged {
        let generation = generation(now);
        let mut merged = Merged::default();
        for Padded(shard) in &self.shards {
            let mut shard = shard.lock();
            let Shard { rules, rest, .. } = &mut *shard;
            let rest = (row == OVERFLOW).then_some(rest);
            for rule in rules.get_mut(&row).into_iter().chain(rest) {
                rule.turn(generation);
                merged.add(&rule.current);
                merged.add(&rule.before);
            }
        }
        merged
    }
}

impl Shard {
    fn rule(&mut self, row: u32, generation: u64) -> &mut Rule {
        if self.rules.len() >= MAX_RULES && !self.rules.contains_key(&row) {
            // Once a minute at most.
            if self.swept != generation {
                self.swept = generation;
                self.rules.retain(|_, rule| rule.is_of(generation));
            }
            if self.rules.len() >= MAX_RULES {
                return &mut self.rest;
            }
        }
        self.rules.entry(row).or_default()
    }
}

impl Rule {
    /// Whether anything of it is new enough.
    fn is_of(&self, generation: u64) -> bool {
        let fresh = self.generation.saturating_add(1) >= generation;
        fresh && !(self.current.is_empty() && self.before.is_empty())
    }

    /// Makes it ready for what comes now. A clock that steps back a little changes nothing; one that
    /// steps far starts afresh.
    fn turn(&mut self, generation: u64) {
        if generation == self.generation || generation.saturating_add(1) == self.generation {
            return;
        }
        if generation == self.generation.saturating_add(1) {
            std::mem::swap(&mut self.current, &mut self.before);
        } else {
            self.before.clear();
        }
        self.current.clear();
        self.generation = generation;
    }
}

fn generation(now: Timestamp) -> u64 {
    now.as_millis() / GENERATION
}

/// How long a generation takes, in milliseconds.
const GENERATION: u64 = 60_000;

/// Rules of a core with a sketch of their own.
const MAX_RULES: usize = 1_000;

#[cfg(test)]
mod tests;
