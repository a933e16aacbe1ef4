//! The state of one counter, whatever its algorithm.
//!
//! Small states lie in the table itself, large ones in a box of their own, whose size the table
//! keeps account of. Also the two copies that the store makes of a state: for trying a charge, and
//! for taking a shared count along.

use super::shared_bucket::SharedBucket;
use crate::algorithm::{Counter, FixedWindow, SlidingLog, SlidingWindow, TokenBucket};
use crate::clock::Timestamp;
use crate::model::{Algorithm, Quota};

/// One of the algorithms' states. The large ones are boxed, so that a table of small ones is
/// flat.
#[derive(Clone, Debug)]
pub(super) enum State {
    Bucket(TokenBucket),
    Fixed(FixedWindow),
    Log(Box<SlidingLog>),
    SharedBucket(SharedBucket),
    Sliding(Box<SlidingWindow>),
}

impl State {
    /// What a key that was never charged has.
    pub(super) fn fresh(quota: &Quota, now: Timestamp) -> Self {
        match quota.algorithm() {
            Algorithm::FixedWindow => Self::Fixed(FixedWindow::default()),
            Algorithm::SlidingLog => Self::Log(Box::default()),
            Algorithm::SlidingWindow => Self::Sliding(Box::default()),
            Algorithm::TokenBucket => Self::Bucket(TokenBucket::full(quota, now)),
        }
    }

    /// What a key starts with for which a sketch says this: all of it, for which hits were whose is not
    /// known. It counts each of them for at least as long as it has to: none was charged after `latest`.
    pub(super) fn taken_along(&self, quota: &Quota, latest: Timestamp, now: Timestamp) -> Self {
        let used = self.used(quota, now);
        let mut own = Self::fresh(quota, now);
        match (&mut own, self) {
            (Self::Fixed(own), Self::Fixed(shared)) => *own = *shared,
            (Self::Sliding(own), Self::Sliding(shared)) => {
                **own = shared.as_of(quota, latest.max(now));
            }
            (Self::Log(own), _) => own.charge(quota, used, latest.max(now)),
            _ => own.charge(quota, used, now),
        }
        own
    }

    /// A copy to try charges on at `now`, and at no other time: a log becomes a single member.
    pub(super) fn trial(&self, quota: &Quota, now: Timestamp) -> Self {
        match self {
            Self::Log(log) => {
                let mut sum = SlidingLog::new();
                sum.charge(quota, log.used(quota, now), now);
                Self::Log(Box::new(sum))
            }
            Self::Bucket(_) | Self::Fixed(_) | Self::SharedBucket(_) | Self::Sliding(_) => {
                self.clone()
            }
        }
    }

    /// Lets a copy of a log grow by a charge.
    pub(super) fn widen(&mut self) {
        if let Self::Log(log) = self {
            log.set_room(log.members().saturating_add(1));
        }
    }

    /// Memory beside the state itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Bucket(_) | Self::Fixed(_) | Self::SharedBucket(_) => 0,
            Self::Log(_) => size_of::<SlidingLog>() + self.log_members() * SlidingLog::MEMBER_BYTES,
            Self::Sliding(_) => size_of::<SlidingWindow>(),
        }
    }

    /// Members that a log has memory for.
    pub(super) fn log_members(&self) -> usize {
        match self {
            Self::Log(log) => log.allocated(),
            Self::Bucket(_) | Self::Fixed(_) | Self::SharedBucket(_) | Self::Sliding(_) => 0,
        }
    }

    fn counter(&self) -> &dyn Counter {
        match self {
            Self::Bucket(bucket) => bucket,
            Self::Fixed(window) => window,
            Self::Log(log) => log.as_ref(),
            Self::SharedBucket(bucket) => bucket,
            Self::Sliding(window) => window.as_ref(),
        }
    }

    fn counter_mut(&mut self) -> &mut dyn Counter {
        match self {
            Self::Bucket(bucket) => bucket,
            Self::Fixed(window) => window,
            Self::Log(log) => log.as_mut(),
            Self::SharedBucket(bucket) => bucket,
            Self::Sliding(window) => window.as_mut(),
        }
    }
}

impl Counter for State {
    fn used(&self, quota: &Quota, now: Timestamp) -> u64 {
        self.counter().used(quota, now)
    }

    fn charge(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        self.counter_mut().charge(quota, hits, now);
    }

    fn refund(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        self.counter_mut().refund(quota, hits, now);
    }

    fn give_back(&mut self, quota: &Quota, hits: u64, at: Timestamp, now: Timestamp) {
        self.counter_mut().give_back(quota, hits, at, now);
    }

    fn falls_to(&self, quota: &Quota, target: u64, now: Timestamp) -> Timestamp {
        self.counter().falls_to(quota, target, now)
    }

    fn resets_at(&self, quota: &Quota, now: Timestamp) -> Timestamp {
        self.counter().resets_at(quota, now)
    }

    fn window_passes_at(&self, quota: &Quota, now: Timestamp) -> Timestamp {
        self.counter().window_passes_at(quota, now)
    }
}
