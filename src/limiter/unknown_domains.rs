//! The domains of requests that no policy has, kept until they are reported.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Collects names on the request path and says which are worth a log line.
///
/// Promises
/// - The first [`MOST_NAMES`] distinct names are reported once each, as soon as they are taken;
///   after that one name a minute, as long as requests for unknown domains come.
/// - Memory is bounded: so many names of at most [`MOST_BYTES`], whatever clients send.
/// - A request takes a lock only for a new name, and once each time the names are taken.
#[derive(Debug, Default)]
pub struct UnknownDomains {
    /// Hashes of names that are reported already or wait for it; 0 is a free place.
    known: [AtomicU64; MOST_NAMES],
    has_example: AtomicBool,
    pending: Mutex<Pending>,
    /// With a secret of the process, so that nobody can make a name pass for a known one.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Pending {
    new: Vec<Box<[u8]>>,
    /// Any name since they were taken last.
    example: Option<Box<[u8]>>,
    reported: Option<Timestamp>,
}

impl UnknownDomains {
    /// Notes that a request came for this domain.
    pub fn note(&self, name: &[u8]) {
        let is_new = self.claim(name);
        if !is_new && self.has_example.load(Ordering::Relaxed) {
            return;
        }
        let name: Box<[u8]> = name.get(..MOST_BYTES).unwrap_or(name).into();
        let mut pending = self.pending.lock();
        if is_new {
            pending.new.push(name.clone());
        }
        pending.example.get_or_insert(name);
        self.has_example.store(true, Ordering::Relaxed);
    }

    /// Takes the names that are to be reported at `now`.
    pub fn take(&self, now: Timestamp) -> Vec<Box<[u8]>> {
        if !self.has_example.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut pending = self.pending.lock();
        self.has_example.store(false, Ordering::Relaxed);
        let example = pending.example.take();
        let mut names = std::mem::take(&mut pending.new);
        // Also if the clock was set back.
        let is_due = pending
            .reported
            .is_none_or(|reported| now.as_millis().abs_diff(reported.as_millis()) >= PAUSE_MILLIS);
        if names.is_empty() && is_due {
            names.extend(example);
        }
        if !names.is_empty() {
            pending.reported = Some(now);
        }
        names
    }

    /// Whether the name is new and has taken a place.
    fn claim(&self, name: &[u8]) -> bool {
        let hash = self.hasher.hash_one(name).max(1);
        for place in &self.known {
            let taken = match place.load(Ordering::Relaxed) {
                0 => place.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed),
                other => Err(other),
            };
            match taken {
                Ok(_) => return true,
                Err(other) if other == hash => return false,
                Err(_) => {}
            }
        }
        false
    }
}

/// Names that are told apart.
const MOST_NAMES: usize = 10;

/// Bytes of a name that are kept.
const MOST_BYTES: usize = 256;

/// At least so long between two reports of names that are not new.
const PAUSE_MILLIS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(domains: &UnknownDomains, second: u64) -> Vec<String> {
        let names = domains.take(Timestamp::from_millis(second * 1_000));
        let text = |name: Box<[u8]>| String::from_utf8(name.into_vec()).unwrap();
        names.into_iter().map(text).collect()
    }

    #[test]
    fn a_new_name_is_reported_at_once_and_then_once_a_minute() {
        let domains = UnknownDomains::default();
        assert!(taken(&domains, 100).is_empty());
        for second in 100..=160 {
            for _ in 0..5 {
                domains.note(b"shpo");
            }
            let expected: &[&str] = if second % 60 == 40 { &["shpo"] } else { &[] };
            assert_eq!(taken(&domains, second), expected, "{second}");
        }
        assert!(taken(&domains, 300).is_empty(), "nothing came since");
        domains.note(b"other");
        assert_eq!(taken(&domains, 300), ["other"]);
        domains.note(b"shpo");
        assert!(taken(&domains, 301).is_empty());
        domains.note(b"shpo");
        assert_eq!(taken(&domains, 3), ["shpo"], "the clock was set back");
    }

    #[test]
    fn any_number_of_names_takes_the_same_memory_and_is_a_line_a_minute() {
        let domains = UnknownDomains::default();
        for number in 0..1_000 {
            domains.note(format!("{number:01000}").as_bytes());
        }
        let names = taken(&domains, 0);
        assert_eq!(names.len(), MOST_NAMES);
        assert!(names.iter().all(|name| name.len() == MOST_BYTES));
        for second in 1..=180 {
            domains.note(format!("{second}-again").as_bytes());
            let lines = usize::from(second % 60 == 0);
            assert_eq!(taken(&domains, second).len(), lines, "{second}");
        }
    }
}
