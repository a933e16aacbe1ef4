//! A call of the script as bytes, and its answer as decisions.
//!
//! `decide.lua` describes both formats. Integers are big-endian, so what is packed can be read in
//! a dump. A call names each key once, however many of its checks share it.

use std::hash::BuildHasher;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::algorithm::{capacity, comes_back, lands, never_refills, passes_at};
use crate::clock::Timestamp;
use crate::model::{
    Algorithm, Check, Decision, Hits, Quota, Role, SATURATED, Source, Verdict, Verdicts,
};

/// Queries that go to the server together.
#[derive(Clone, Debug)]
pub struct Call {
    names: Names,
    /// Positions in `names` by the key's hash.
    index: HashTable<u16>,
    hasher: RandomState,
    body: Vec<u8>,
    queries: u16,
    checks: u16,
}

/// A call has no room for a query's checks; send it, and begin another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a call to the store takes at most {} queries and checks", u16::MAX)]
pub struct Full;

/// The script's answer is not what was asked for: not our script, or a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// It goes on behind the last query.
    #[error("the store's reply is {0} bytes longer than its queries ask for")]
    Long(usize),
    /// It ends before the last query.
    #[error("the store's reply ends early")]
    Short,
}

impl Call {
    /// A call without queries. Each key's name begins with `prefix` and a colon.
    ///
    /// `now` is the time by which to decide; none, the server's clock, which all replicas share.
    /// Keys outlive their state by `jitter` thousandths of its time, so that windows that end
    /// together do not make the server busy with expiring them together.
    #[must_use]
    pub fn new(prefix: &str, now: Option<Timestamp>, jitter: u32) -> Self {
        let mut call = Self {
            names: Names {
                prefix: [prefix.as_bytes(), b":"].concat(),
                text: Vec::new(),
                ends: Vec::new(),
            },
            index: HashTable::new(),
            hasher: RandomState::default(),
            body: Vec::new(),
            queries: 0,
            checks: 0,
        };
        call.put(now.map_or(0, Timestamp::as_millis), 6);
        call.put(jitter.into(), 4);
        call.put(0, 2);
        call
    }

    /// Adds a query; see [`MemoryStore::decide`](crate::store::MemoryStore::decide).
    ///
    /// # Errors
    /// If there are too many; nothing is added then.
    pub fn push(&mut self, checks: &[Check], enforce: bool) -> Result<(), Full> {
        self.begin(checks, enforce.into())?;
        for check in checks {
            self.put_check(check, act(&check.quota, check.hits), most(check));
        }
        Ok(())
    }

    /// Adds a query that gives back what these checks were charged at `at`, on the server's clock
    /// as their verdicts said, since a check that was decided elsewhere denies the request; see
    /// [`Counter::give_back`](crate::algorithm::Counter::give_back).
    ///
    /// For checks that passed; what stays whoever denies (`debt`, `charged`, refunds) stays. The
    /// decision has a verdict for each check, with what is left behind.
    ///
    /// # Errors
    /// If there are too many; nothing is added then.
    pub fn give_back(&mut self, checks: &[Check], at: Timestamp) -> Result<(), Full> {
        self.begin(checks, AFTERWARDS)?;
        for check in checks {
            let act = match comes_back(&check.quota, check.hits, false) {
                0 => NOTHING,
                _ => GIVE_BACK,
            };
            self.put_check(check, act, at.as_millis());
        }
        Ok(())
    }

    /// Adds a query that is judged as [`Call::push`] has it, and charges nothing.
    ///
    /// # Errors
    /// If there are too many; nothing is added then.
    pub fn attempt(&mut self, checks: &[Check]) -> Result<(), Full> {
        self.begin(checks, true.into())?;
        for check in checks {
            self.put_check(check, NOTHING, most(check));
        }
        Ok(())
    }

    /// Adds a query of what was decided without the server at `at`, on the server's clock as far as
    /// that is known: charges that were let pass land now, whatever is counted and also above the
    /// limit, and refunds too. A fixed window that is no longer the current one is left alone.
    ///
    /// The decision has a verdict for each check, never over, with what is left behind.
    ///
    /// # Errors
    /// If there are too many; nothing is added then.
    pub fn land(&mut self, checks: &[Check], at: Timestamp) -> Result<(), Full> {
        self.begin(checks, AFTERWARDS)?;
        for check in checks {
            let act = match check.hits {
                // Its state would never fade.
                Hits::Charge(_) if never_refills(&check.quota) => NOTHING,
                Hits::Charge(_) => LATE,
                Hits::Peek => NOTHING,
                Hits::Refund(_) => REFUND,
            };
            self.put_check(check, act, at.as_millis());
        }
        Ok(())
    }

    /// Makes room for so many checks more, a query each.
    pub fn reserve(&mut self, checks: usize) {
        let Self {
            index,
            hasher,
            names,
            body,
            ..
        } = self;
        names.reserve(checks);
        index.reserve(checks, |&at| hasher.hash_one(names.get(at)));
        body.reserve(checks.saturating_mul(QUERY_SIZE + CHECK_SIZE));
    }

    /// The names of the counters, each once: `KEYS`. They share an allocation.
    #[must_use]
    pub fn keys(&self) -> Vec<Bytes> {
        let text = Bytes::copy_from_slice(&self.names.text);
        let begins = std::iter::once(&0).chain(&self.names.ends);
        let places = begins.zip(&self.names.ends);
        places
            .map(|(&begin, &end)| text.slice(begin..end))
            .collect()
    }

    /// Everything else: `ARGV[1]`.
    #[must_use]
    pub fn argument(&self) -> &[u8] {
        &self.body
    }

    /// How many checks it holds.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.checks.into()
    }

    /// The head of a query; its checks are put next.
    fn begin(&mut self, checks: &[Check], enforce: u64) -> Result<(), Full> {
        let count = u16::try_from(checks.len()).map_err(|_too_many| Full)?;
        let total = self.checks.checked_add(count).ok_or(Full)?;
        self.queries = self.queries.checked_add(1).ok_or(Full)?;
        self.checks = total;
        if let Some(place) = self.body.get_mut(COUNT) {
            place.copy_from_slice(&self.queries.to_be_bytes());
        }
        self.put(enforce, 1);
        self.put(count.into(), 2);
        Ok(())
    }

    fn put_check(&mut self, check: &Check, act: u64, most: u64) {
        let quota = &check.quota;
        let key = self.position(check.key.as_bytes());
        self.put(key.into(), 2);
        self.put(kind(quota.algorithm()), 1);
        self.put(act, 1);
        self.put(role(check.role), 1);
        let cost = match check.hits {
            Hits::Charge(hits) | Hits::Refund(hits) => hits.min(SATURATED),
            Hits::Peek => 0,
        };
        self.put(cost, 5);
        self.put(most, 6);
        self.put(quota.window().millis(), 5);
        self.put(quota.limit().into(), 4);
        self.put(quota.burst().into(), 4);
    }

    /// The position of a key, counted from 1 as Lua does.
    fn position(&mut self, name: &[u8]) -> u16 {
        let Self {
            index,
            hasher,
            names,
            ..
        } = self;
        let hash = hasher.hash_one(name);
        let at = match index.find(hash, |&at| names.get(at) == name) {
            Some(&at) => at,
            None => {
                let at = names.push(name);
                index.insert_unique(hash, at, |&at| hasher.hash_one(names.get(at)));
                at
            }
        };
        at.saturating_add(1)
    }

    /// Appends the low `bytes` of a number.
    fn put(&mut self, number: u64, bytes: usize) {
        let all = number.to_be_bytes();
        let low = all.get(all.len().saturating_sub(bytes)..);
        self.body.extend_from_slice(low.unwrap_or_default());
    }
}

/// The names of keys, one after the other.
#[derive(Clone, Debug)]
struct Names {
    /// What each begins with.
    prefix: Vec<u8>,
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Names {
    fn reserve(&mut self, names: usize) {
        let usual = self.prefix.len().saturating_add(USUAL_SIZE);
        self.text.reserve(names.saturating_mul(usual));
        self.ends.reserve(names);
    }

    /// Adds one; its position.
    fn push(&mut self, name: &[u8]) -> u16 {
        // No more keys than checks, which are counted.
        let at = u16::try_from(self.ends.len()).unwrap_or(u16::MAX);
        self.text.extend_from_slice(&self.prefix);
        self.text.extend_from_slice(name);
        self.ends.push(self.text.len());
        at
    }

    /// One without its prefix; empty if there is none.
    fn get(&self, at: u16) -> &[u8] {
        let at = usize::from(at);
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let begin = begin
            .map_or(0, |&end| end)
            .saturating_add(self.prefix.len());
        let end = self.ends.get(at).copied().unwrap_or_default();
        self.text.get(begin..end).unwrap_or_default()
    }
}

/// What the script's reply says of the queries of its call, in their order.
///
/// # Errors
/// If it does not fit them.
pub fn decode<'a>(
    reply: &[u8],
    queries: impl IntoIterator<Item = &'a [Check]>,
) -> Result<Vec<Decision>, ReplyError> {
    let mut rest = Reader(reply);
    let now = Timestamp::from_millis(rest.number(6)?);
    let decisions = queries
        .into_iter()
        .map(|checks| {
            let denied = rest.number(1)? != 0;
            let verdicts: Result<Verdicts, ReplyError> = checks
                .iter()
                .map(|check| rest.verdict(check, now))
                .collect();
            Ok(Decision {
                verdicts: verdicts?,
                denied,
            })
        })
        .collect::<Result<Vec<_>, ReplyError>>()?;
    match rest.0.len() {
        0 => Ok(decisions),
        more => Err(ReplyError::Long(more)),
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn verdict(&mut self, check: &Check, at: Timestamp) -> Result<Verdict, ReplyError> {
        let flags = self.number(1)?;
        let counted = self.number(5)?;
        let reset_millis = self.number(7)?;
        let (over, unreadable) = (flags & OVER != 0, flags & UNREADABLE != 0);
        let left = match over || unreadable {
            true => 0,
            false => capacity(&check.quota).saturating_sub(counted),
        };
        Ok(Verdict {
            over,
            remaining: u32::try_from(left).unwrap_or(u32::MAX),
            counted,
            reset_millis,
            never: flags & HOPELESS != 0,
            source: match unreadable {
                true => Source::Unreadable,
                false => Source::Store,
            },
            at,
        })
    }

    fn number(&mut self, bytes: usize) -> Result<u64, ReplyError> {
        let (head, rest) = self.0.split_at_checked(bytes).ok_or(ReplyError::Short)?;
        self.0 = rest;
        Ok(head
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

const fn kind(algorithm: Algorithm) -> u64 {
    match algorithm {
        Algorithm::FixedWindow => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingLog => 3,
        Algorithm::TokenBucket => 4,
    }
}

/// The highest count at which the hits pass.
fn most(check: &Check) -> u64 {
    passes_at(&check.quota, check.hits).map_or(NEVER, |most| most.min(ANY_COUNT))
}

/// When the hits change the counter.
fn act(quota: &Quota, hits: Hits) -> u64 {
    let (passed, denied) = (false, true);
    if matches!(hits, Hits::Refund(_)) {
        REFUND
    } else if lands(quota, hits, !passed, denied) {
        ALWAYS
    } else if lands(quota, hits, passed, !denied) {
        IF_PASSED
    } else {
        NOTHING
    }
}

fn role(role: Role) -> u64 {
    u64::from(role.shadow) + 2 * u64::from(role.quota)
}

/// Bytes of what begins a query, and of a check.
const QUERY_SIZE: usize = 3;
const CHECK_SIZE: usize = 29;

/// Most names are no longer, without what they begin with.
const USUAL_SIZE: usize = 48;

/// Where the number of queries stands in a call.
const COUNT: std::ops::Range<usize> = 10..12;

/// In place of `enforce`: the query is of acts that have a time.
const AFTERWARDS: u64 = 2;

const NOTHING: u64 = 0;
const IF_PASSED: u64 = 1;
const ALWAYS: u64 = 2;
const REFUND: u64 = 3;
const GIVE_BACK: u64 = 4;
const LATE: u64 = 5;

/// The signed -1.
const NEVER: u64 = u64::MAX;

/// Above what any counter ever says: a bucket's size and as much debt.
const ANY_COUNT: u64 = 4 * SATURATED;

const OVER: u64 = 1;
const HOPELESS: u64 = 2;
const UNREADABLE: u64 = 4;
