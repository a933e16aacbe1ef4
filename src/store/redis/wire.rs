//! A call of the script as bytes, and its answer as decisions.
//!
//! `decide.lua` describes both formats. Integers are big-endian, so what is packed can be read in
//! a dump. A call names each key once, however many of its checks share it.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::algorithm::{capacity, lands, passes_at};
use crate::clock::Timestamp;
use crate::model::{
    Algorithm, Check, Decision, Hits, Quota, Role, SATURATED, Source, Verdict, Verdicts,
};

/// Queries that go to the server together.
#[derive(Clone, Debug)]
pub struct Call {
    prefix: Vec<u8>,
    keys: Vec<Vec<u8>>,
    /// Positions in `keys` by the key's hash.
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
            prefix: [prefix.as_bytes(), b":"].concat(),
            keys: Vec::new(),
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
        let count = u16::try_from(checks.len()).map_err(|_too_many| Full)?;
        let total = self.checks.checked_add(count).ok_or(Full)?;
        self.queries = self.queries.checked_add(1).ok_or(Full)?;
        self.checks = total;
        if let Some(place) = self.body.get_mut(COUNT) {
            place.copy_from_slice(&self.queries.to_be_bytes());
        }
        self.put(enforce.into(), 1);
        self.put(count.into(), 2);
        for check in checks {
            self.put_check(check);
        }
        Ok(())
    }

    /// The names of the counters, each once: `KEYS`.
    #[must_use]
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
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

    fn put_check(&mut self, check: &Check) {
        let (quota, hits) = (&check.quota, check.hits);
        let key = self.position(check.key.as_bytes());
        self.put(key.into(), 2);
        self.put(kind(quota.algorithm()), 1);
        self.put(act(quota, hits), 1);
        self.put(role(check.role), 1);
        let cost = match hits {
            Hits::Charge(hits) | Hits::Refund(hits) => hits.min(SATURATED),
            Hits::Peek => 0,
        };
        self.put(cost, 5);
        let most = passes_at(quota, hits).map_or(NEVER, |most| most.min(ANY_COUNT));
        self.put(most, 6);
        self.put(quota.window().millis(), 5);
        self.put(quota.limit().into(), 4);
        self.put(quota.burst().into(), 4);
    }

    /// The position of a key, counted from 1 as Lua does.
    fn position(&mut self, name: &[u8]) -> u16 {
        let prefix = self.prefix.len();
        let keys = &self.keys;
        let known = |&at: &u16| keys.get(usize::from(at)).and_then(|key| key.get(prefix..));
        let hash = self.hasher.hash_one(name);
        let at = match self.index.find(hash, |at| known(at) == Some(name)) {
            Some(&at) => at,
            None => {
                // No more keys than checks, which are counted.
                let at = u16::try_from(keys.len()).unwrap_or(u16::MAX);
                let hasher = &self.hasher;
                self.index.insert_unique(hash, at, |at| {
                    hasher.hash_one(known(at).unwrap_or_default())
                });
                self.keys.push([&self.prefix, name].concat());
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

/// When the hits change the counter.
fn act(quota: &Quota, hits: Hits) -> u64 {
    let (passed, denied) = (false, true);
    if matches!(hits, Hits::Refund(_)) {
        3
    } else if lands(quota, hits, !passed, denied) {
        2
    } else if lands(quota, hits, passed, !denied) {
        1
    } else {
        0
    }
}

fn role(role: Role) -> u64 {
    u64::from(role.shadow) + 2 * u64::from(role.quota)
}

/// Where the number of queries stands in a call.
const COUNT: std::ops::Range<usize> = 10..12;

/// The signed -1.
const NEVER: u64 = u64::MAX;

/// Above what any counter ever says: a bucket's size and as much debt.
const ANY_COUNT: u64 = 4 * SATURATED;

const OVER: u64 = 1;
const HOPELESS: u64 = 2;
const UNREADABLE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeniedHits, KeyBuilder, OnStoreFailure, Unit, Window};

    fn check(user: &str, hits: Hits) -> Check {
        let window = Window::try_new(Unit::Minute, 1).unwrap();
        let quota = Quota::fixed(5, window, DeniedHits::Free);
        let mut key = KeyBuilder::new(b"d");
        key.entry((b"user", false), (user.as_bytes(), false));
        Check {
            key: key.finish(&quota),
            quota,
            hits,
            role: Role::default(),
            on_store_failure: OnStoreFailure::Local,
        }
    }

    #[test]
    fn a_call_names_each_key_once() {
        let mut call = Call::new("tollgate", None, 0);
        let [ann, bob] = ["ann", "bob"].map(|user| check(user, Hits::Peek));
        call.push(&[ann.clone(), bob.clone(), ann], true).unwrap();
        call.push(&[bob], false).unwrap();
        assert_eq!(
            call.keys(),
            [
                b"tollgate:{d|user=ann}:window:60s".to_vec(),
                b"tollgate:{d|user=bob}:window:60s".to_vec()
            ]
        );
        assert_eq!(call.checks(), 4);
    }

    #[test]
    fn a_call_reads_as_the_script_says() {
        let mut call = Call::new("p", Some(Timestamp::from_millis(0x0102_0304)), 50);
        let quota_check = Check {
            role: Role {
                shadow: false,
                quota: true,
            },
            ..check("ann", Hits::Charge(3))
        };
        call.push(&[quota_check], true).unwrap();
        let expected: [&[u8]; 7] = [
            &[0, 0, 1, 2, 3, 4, 0, 0, 0, 50, 0, 1],
            &[1, 0, 1],
            &[0, 1, 1, 1, 2],
            &[0, 0, 0, 0, 3],
            &[0, 0, 0, 0, 0, 2],
            &[0, 0, 0, 0xea, 0x60],
            &[0, 0, 0, 5, 0, 0, 0, 5],
        ];
        assert_eq!(call.argument(), expected.concat());
    }

    #[test]
    fn hits_that_never_pass_are_told_apart_from_those_that_do() {
        let mut call = Call::new("p", None, 0);
        call.push(&[check("ann", Hits::Charge(6))], true).unwrap();
        assert_eq!(call.argument().get(25..31), Some(&[0xff; 6][..]));
    }

    #[test]
    fn a_full_call_takes_nothing_more() {
        let mut call = Call::new("p", None, 0);
        let many = vec![check("ann", Hits::Peek); 65_535];
        assert_eq!(call.push(&many, true), Ok(()));
        let before = call.clone();
        assert_eq!(call.push(&many[..1], true), Err(Full));
        assert_eq!(call.argument(), before.argument());
        assert_eq!(call.checks(), 65_535);
    }

    #[test]
    fn a_reply_becomes_a_decision_for_each_query() {
        let (ann, bob) = (
            [check("ann", Hits::Charge(1))],
            [check("bob", Hits::Charge(9))],
        );
        let reply: [&[u8]; 5] = [
            &[0, 0, 0, 0, 3, 0xe8],
            &[0],
            &[0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0xea, 0x60],
            &[1],
            &[3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 7],
        ];
        let [first, second] = decode(&reply.concat(), [&ann[..], &bob[..]])
            .unwrap()
            .try_into()
            .unwrap();
        assert!(!first.denied);
        assert_eq!(
            first.verdicts[..],
            [Verdict {
                over: false,
                remaining: 3,
                counted: 2,
                reset_millis: 60_000,
                never: false,
                source: Source::Store,
                at: Timestamp::from_millis(1000),
            }]
        );
        assert!(second.denied);
        assert_eq!(
            second.verdicts[..],
            [Verdict {
                over: true,
                remaining: 0,
                counted: 4,
                reset_millis: 7,
                never: true,
                source: Source::Store,
                at: Timestamp::from_millis(1000),
            }]
        );
    }

    #[test]
    fn a_reply_that_does_not_fit_is_refused() {
        let ann = [check("ann", Hits::Peek)];
        let fits = [0; 20];
        assert!(decode(&fits, [&ann[..]]).is_ok());
        for short in 0..20 {
            assert_eq!(
                decode(&fits[..short], [&ann[..]]).unwrap_err(),
                ReplyError::Short
            );
        }
        assert_eq!(
            decode(&[0; 23], [&ann[..]]).unwrap_err(),
            ReplyError::Long(3)
        );
    }
}
