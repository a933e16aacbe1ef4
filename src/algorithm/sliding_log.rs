//! At most the limit in any interval of one window, exactly, by remembering every charge.
//!
//! Judges to the millisecond and hit. Takes memory for each charge, so its limit is bounded
//! (`MAX_LOG_LIMIT`), and whoever keeps many logs says how much room each one has.

use std::collections::VecDeque;

use super::Counter;
use crate::clock::Timestamp;
use crate::model::{MAX_LOG_LIMIT, Quota, SATURATED};

/// One member for each millisecond in which something was charged, in order of time.
///
/// A charge at `t` counts while `now - t <= window`. Members carry running totals, so a count is
/// the difference of two of them, found by bisection, and asking leaves a log of any length
/// alone.
///
/// A log has room for so many members ([`SlidingLog::set_room`]). A charge to a full one makes its
/// oldest member part of the next, so those hits count for longer than a window, never for less.
/// With room for as many members as the limit, which `free` never fills, that changes no
/// judgement under `debt` either: the members after the oldest are over the limit by themselves
/// for as long as any of it could matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlidingLog {
    members: VecDeque<Member>,
    /// The running total before the first member.
    gone: u64,
    /// When something was charged last.
    newest: u64,
    room: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    at: u64,
    /// Everything charged up to and with this member. Only differences mean anything, so it may
    /// wrap.
    total: u64,
}

impl SlidingLog {
    /// What a member takes in memory.
    pub const MEMBER_BYTES: usize = size_of::<Member>();

    /// The most members that any log has.
    pub const MAX_MEMBERS: usize = MAX_LOG_LIMIT as usize;

    /// An empty log with room for as many members as any limit asks for.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            members: VecDeque::new(),
            gone: 0,
            newest: 0,
            room: Self::MAX_MEMBERS,
        }
    }

    /// Members it holds now, counted or not yet dropped.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Members it has memory for.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.members.capacity()
    }

    /// Allocates for exactly `members`, or as few as it holds, and lets it hold no more.
    pub fn set_room(&mut self, members: usize) {
        let members = members.min(Self::MAX_MEMBERS);
        if members > self.members.capacity() {
            self.members
                .reserve_exact(members.saturating_sub(self.members.len()));
        } else {
            self.members.shrink_to(members);
        }
        self.room = members;
    }

    /// Drops what no longer counts.
    pub fn trim(&mut self, quota: &Quota, now: Timestamp) {
        let stale = self.stale(quota, now);
        self.gone = self.total_before(stale);
        self.members.drain(..stale);
    }

    /// How many members no longer count.
    fn stale(&self, quota: &Quota, now: Timestamp) -> usize {
        let now = now.as_millis().max(self.newest);
        let window = quota.window().millis();
        self.members
            .partition_point(|member| now.saturating_sub(member.at) > window)
    }

    fn total_before(&self, index: usize) -> u64 {
        index
            .checked_sub(1)
            .and_then(|previous| self.members.get(previous))
            .map_or(self.gone, |member| member.total)
    }

    fn saturate_oldest(&mut self) {
        if let Some(oldest) = self.members.front() {
            let own = oldest.total.wrapping_sub(self.gone).min(SATURATED);
            self.gone = oldest.total.wrapping_sub(own);
        }
    }

    fn total(&self) -> u64 {
        self.total_before(self.members.len())
    }
}

impl Default for SlidingLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter for SlidingLog {
    fn used(&self, quota: &Quota, now: Timestamp) -> u64 {
        let stale = self.stale(quota, now);
        let sum = self.total().wrapping_sub(self.total_before(stale));
        sum.min(SATURATED)
    }

    fn charge(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        self.newest = self.newest.max(now.as_millis());
        self.trim(quota, now);
        let at = self.newest;
        let last = self.members.len().saturating_sub(1);
        let before = self.total_before(last);
        match self.members.back_mut() {
            Some(last) if last.at == at => {
                // Each member saturates alone, so a huge charge hides none that outlasts it.
                let own = last.total.wrapping_sub(before).saturating_add(hits);
                last.total = before.wrapping_add(own.min(SATURATED));
            }
            _ => {
                let total = self.total().wrapping_add(hits.min(SATURATED));
                if self.members.len() >= self.room {
                    // Totals run on, so the next member now holds its hits as well.
                    self.members.pop_front();
                }
                self.members.push_back(Member { at, total });
                self.saturate_oldest();
            }
        }
    }

    fn refund(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        let mut left = hits.min(self.used(quota, now));
        while left > 0 {
            let before = self.total_before(self.members.len().saturating_sub(1));
            let Some(last) = self.members.back_mut() else {
                break;
            };
            let own = last.total.wrapping_sub(before);
            if own > left {
                last.total = last.total.wrapping_sub(left);
                break;
            }
            left = left.saturating_sub(own);
            self.members.pop_back();
        }
    }

    fn give_back(&mut self, quota: &Quota, hits: u64, at: Timestamp, now: Timestamp) {
        let stale = self.stale(quota, now);
        let found = self
            .members
            .binary_search_by_key(&at.as_millis(), |member| member.at);
        let Some(index) = found.ok().filter(|&index| index >= stale) else {
            return;
        };
        let before = self.total_before(index);
        let own = self
            .members
            .get(index)
            .map_or(0, |member| member.total.wrapping_sub(before));
        let back = hits.min(own);
        if own >= SATURATED || back == 0 {
            return;
        }
        for member in self.members.range_mut(index..) {
            member.total = member.total.wrapping_sub(back);
        }
        if back == own {
            self.members.remove(index);
        }
    }

    fn falls_to(&self, quota: &Quota, target: u64, now: Timestamp) -> Timestamp {
        if self.used(quota, now) <= target {
            return now;
        }
        let total = self.total();
        let last_out = self
            .members
            .partition_point(|member| total.wrapping_sub(member.total) > target);
        self.members.get(last_out).map_or(now, |member| {
            let last_counted = member.at.saturating_add(quota.window().millis());
            Timestamp::from_millis(last_counted.saturating_add(1))
        })
    }
}
