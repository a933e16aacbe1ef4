//! Agrees on which server of `failover_urls` is in use: a pure state machine, one for each replica.
//!
//! The servers know nothing of each other, and each replica may reach others of them. Two replicas that use two servers admit
//! two limits. So the server in use has a lease, an epoch and its name, in every server. A replica that has
//! reached the server in use renews the lease wherever it can ([`RENEWED_WITHIN`]). Another server is
//! used only once the lease has expired there ([`LEASE`]), which means that no replica that reaches it still
//! reaches the server in use; the replica that takes the lease increases the epoch. The highest epoch is the one in use.
//!
//! That alone does not help where no replica reaches both servers. So a server is used only while more than half of
//! the replicas are there that were seen there within [`REMEMBERED`], or while all other servers are reached and none
//! of them is in use. A replica that may not use a server enforces its share.
//!
//! Bound: one limit, and one more for each change of the server in use, or of the one that most replicas reach, that a window touches. A change takes
//! up to 4 s. If the replicas are split for longer than [`REMEMBERED`], each side forgets the other, and admits one
//! limit. So does a replica that has just started, at a server that has just lost its data.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a replica knows of the servers.
#[derive(Debug)]
pub(super) struct Failover {
    servers: Vec<Server>,
    lease: Option<Lease>,
    /// How many replicas servers have known, and when the last of them that was absent was there. A server that was restarted
    /// may have forgotten them.
    known: BTreeMap<u64, Instant>,
    /// When it looked first.
    first_look: Option<Instant>,
    /// The time for which a better server must have answered well before it is used again.
    well_for: Duration,
}

/// Which server is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) epoch: u64,
    /// Its name in the settings.
    pub(super) server: String,
}

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// What it holds; none if that has expired.
    pub(super) lease: Option<Lease>,
    /// How many replicas were there within [`REMEMBERED`].
    pub(super) known: u64,
    /// How many of them were there within [`LEASE`], got its answers, and have heard of no later lease than its own.
    pub(super) here: u64,
    /// How long ago the last of the others was there; 0 if there are none.
    pub(super) absent_for: Duration,
    /// How many others have left within [`REMEMBERED`]: they are not known any more.
    pub(super) left: u64,
}

/// What to ask of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To report.
    Watch,
    /// To report, and to replace an older lease by this one.
    Update(Lease),
    /// To renew this lease.
    Renew(Lease),
    /// To take this lease if there is none.
    Claim(Lease),
    /// To take this lease though there is another one.
    Move(Lease),
}

/// Which server a replica may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The one at this index.
    Use(usize),
    /// None, and why.
    Nothing(Reason),
}

/// Why a replica may use no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No server has answered.
    NoneReached,
    /// The lease has just expired, or is being taken.
    Undecided,
    /// The server in use, by name, does not answer this replica.
    NotReached(String),
    /// The server in use is none of this replica's settings.
    NotConfigured(String),
    /// At the server in use fewer than half of the replicas are left.
    Minority(String),
}

#[derive(Debug)]
struct Server {
    name: String,
    /// When what it answered last was asked.
    answered: Option<Instant>,
    /// The same for what it answered in time.
    in_time: Option<Instant>,
    /// Since when it has answered in time.
    well: Option<Instant>,
    report: Option<Report>,
    /// When it was taken in use last.
    used: Option<Instant>,
    /// How often it was left soon after it was taken in use.
    returns: u32,
}

impl Failover {
    /// Knows nothing. `servers` are their names, the best first. A better server is used again once it has been well for
    /// `well_for`; longer if it had to be left again soon.
    pub(super) fn new(servers: impl Iterator<Item = String>, well_for: Duration) -> Self {
        let server = |name| Server {
            name,
            answered: None,
            in_time: None,
            well: None,
            report: None,
            used: None,
            returns: 0,
        };
        Self {
            servers: servers.map(server).collect(),
            lease: None,
            known: BTreeMap::new(),
            first_look: None,
            well_for,
        }
    }

    /// The index of the server in use, if this replica knows it.
    pub(super) fn active(&self) -> Option<usize> {
        let lease = self.lease.as_ref()?;
        self.servers
            .iter()
            .position(|server| server.name == lease.server)
    }

    /// The epoch of the latest lease that this replica has heard of.
    fn epoch(&self) -> u64 {
        self.lease.as_ref().map_or(0, |lease| lease.epoch)
    }

    /// The same for each server. None if that has not answered this replica lately: it may be heard there, and still not
    /// hear of a later lease, so it must not count as one of those that are there.
    pub(super) fn heard(&self, now: Instant) -> Vec<Option<u64>> {
        let reached = |index| self.is_reached(index, RENEWED_WITHIN, now);
        let servers = 0..self.servers.len();
        servers
            .map(|index| reached(index).then(|| self.epoch()))
            .collect()
    }

    /// What to ask of each server. `is_useless` says that the server in use has left this replica's queries unanswered for
    /// [`USELESS_AFTER`].
    pub(super) fn wishes(&self, is_useless: bool, now: Instant) -> Vec<Wish> {
        let update = self.lease.clone().map_or(Wish::Watch, Wish::Update);
        let mut wishes = vec![update; self.servers.len()];
        let active = self.active();
        if active.is_some_and(|active| self.is_kept(active, is_useless, now))
            && let Some(lease) = &self.lease
        {
            wishes.fill(Wish::Renew(lease.clone()));
            if let Some(better) = active.and_then(|active| self.better(active, now)) {
                self.set(&mut wishes, better, Wish::Move);
            }
        } else if let Some(next) = self.claimable(is_useless, now) {
            self.set(&mut wishes, next, Wish::Claim);
        }
        wishes
    }

    /// Whether this replica renews the lease of the server in use: that has answered in time, or late, and no other server
    /// would do better.
    fn is_kept(&self, active: usize, is_useless: bool, now: Instant) -> bool {
        let in_time = self.servers.get(active).and_then(|server| server.in_time);
        let is_recent = |at| now.saturating_duration_since(at) < RENEWED_WITHIN;
        let is_well = !is_useless && in_time.is_some_and(is_recent);
        let mut others = self.servers.iter().enumerate();
        let other = others.any(|(index, server)| index != active && server.well.is_some());
        self.is_reached(active, RENEWED_WITHIN, now) && (is_well || !other)
    }

    fn set(&self, wishes: &mut [Wish], index: usize, wish: fn(Lease) -> Wish) {
        if let (Some(slot), Some(server)) = (wishes.get_mut(index), self.servers.get(index)) {
            *slot = wish(Lease {
                epoch: self.epoch().saturating_add(1),
                server: server.name.clone(),
            });
        }
    }

    /// Takes what each server has answered to what was asked at `asked`: none, or too late to use it, or in time.
    pub(super) fn hear(&mut self, answers: Vec<Option<(Report, bool)>>, asked: Instant) {
        let before = self.active();
        self.first_look.get_or_insert(asked);
        for (server, answer) in self.servers.iter_mut().zip(answers) {
            let Some((report, in_time)) = answer else {
                server.well = None;
                continue;
            };
            server.answered = Some(asked);
            if in_time {
                server.in_time = Some(asked);
            }
            server.well = in_time.then(|| server.well.unwrap_or(asked));
            if let Some(lease) = &report.lease
                && self.lease.as_ref().is_none_or(|known| lease.beats(known))
            {
                self.lease = Some(lease.clone());
            }
            if let Some(at) = asked.checked_sub(report.absent_for) {
                let latest = self.known.entry(report.known).or_insert(at);
                *latest = at.max(*latest);
            }
            server.report = Some(report);
        }
        self.known
            .retain(|_, at| asked.saturating_duration_since(*at) < REMEMBERED);
        let active = self.active();
        if before == active {
            return;
        }
        if let Some(left) = before.and_then(|before| self.servers.get_mut(before)) {
            let is_soon = left
                .used
                .is_some_and(|used| asked.saturating_duration_since(used) < SOON);
            // It has to answer well from now on.
            left.well = left.well.map(|_| asked);
            left.returns = match is_soon {
                true => left.returns.saturating_add(1),
                false => 0,
            };
        }
        if let Some(used) = active.and_then(|active| self.servers.get_mut(active)) {
            used.used = Some(asked);
        }
    }

    /// Which server this replica may use.
    pub(super) fn choice(&self, now: Instant) -> Choice {
        let Some(lease) = &self.lease else {
            let any = self.servers.iter().any(|server| server.answered.is_some());
            return Choice::Nothing(match any {
                true => Reason::Undecided,
                false => Reason::NoneReached,
            });
        };
        let Some(active) = self.active() else {
            return Choice::Nothing(Reason::NotConfigured(lease.server.clone()));
        };
        if !self.is_reached(active, USED_WITHIN, now) {
            return Choice::Nothing(Reason::NotReached(lease.server.clone()));
        }
        // Replicas that reach it may have heard of a later lease.
        let report = self.servers.get(active).and_then(|it| it.report.as_ref());
        if report.is_none_or(|report| report.lease.as_ref() != Some(lease)) {
            return Choice::Nothing(Reason::Undecided);
        }
        if self.has_majority(active, now) || self.is_alone(active, now) {
            return Choice::Use(active);
        }
        Choice::Nothing(Reason::Minority(lease.server.clone()))
    }

    /// Which server is in use as far as is known, or may be: for one that only looks.
    pub(super) fn observed(&self) -> Option<usize> {
        let answers = |server: &Server| server.well.is_some();
        self.active()
            .or_else(|| self.servers.iter().position(answers))
    }

    fn is_reached(&self, index: usize, within: Duration, now: Instant) -> bool {
        let answered = self.servers.get(index).and_then(|server| server.answered);
        answered.is_some_and(|answered| now.saturating_duration_since(answered) < within)
    }

    /// Whether more than half of the known replicas are at a server.
    fn has_majority(&self, index: usize, now: Instant) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < REMEMBERED;
        let known = self.known.iter().rev().find(|(_, at)| is_recent(at));
        let known = known.map_or(0, |(known, _)| *known);
        let report = self.servers.get(index).and_then(|it| it.report.as_ref());
        report.is_some_and(|report| {
            let known = known.saturating_sub(report.left).max(report.known);
            report.here.saturating_mul(2) > known
        })
    }

    /// Whether every other server is reached, and none of them is in use.
    fn is_alone(&self, active: usize, now: Instant) -> bool {
        let names = |server: &Server| {
            let held = server.report.as_ref().and_then(|it| it.lease.as_ref());
            held.is_none_or(|held| Some(held) == self.lease.as_ref())
        };
        self.servers.iter().enumerate().all(|(index, server)| {
            index == active || self.is_reached(index, RENEWED_WITHIN, now) && names(server)
        })
    }

    /// The first server that has been well for long enough, before the one in use, at which all the replicas are that are there.
    fn better(&self, active: usize, now: Instant) -> Option<usize> {
        let here = |server: &Server| server.report.as_ref().map(|report| report.here);
        let needed = self.servers.get(active).and_then(here)?;
        self.servers.iter().take(active).position(|server| {
            let well_for = self.well_for * 2_u32.pow(server.returns.min(MOST_DOUBLINGS));
            let is_well = server
                .well
                .is_some_and(|since| now.saturating_duration_since(since) >= well_for);
            is_well && here(server).is_some_and(|here| here >= needed)
        })
    }

    /// The first server that answers in time, holds no lease, and has most of its replicas; or any if all servers are reached,
    /// and none holds a lease.
    fn claimable(&self, is_useless: bool, now: Instant) -> Option<usize> {
        // One that was just started may not have heard of the lease from a server that is slower, or that was just
        // restarted.
        let has_heard = |server: &Server| server.report.is_some();
        let is_new = self
            .first_look
            .is_none_or(|first| now.saturating_duration_since(first) < RENEWED_WITHIN);
        if self.lease.is_none() && is_new && !self.servers.iter().all(has_heard) {
            return None;
        }
        let is_free = |server: &Server| {
            let report = server.report.as_ref();
            report.is_some_and(|report| report.lease.is_none())
        };
        let all_free =
            self.servers.iter().enumerate().all(|(index, server)| {
                self.is_reached(index, RENEWED_WITHIN, now) && is_free(server)
            });
        let active = self.active().filter(|_| is_useless);
        self.servers.iter().enumerate().position(|(index, server)| {
            Some(index) != active
                && server.well.is_some()
                && is_free(server)
                && (all_free || self.has_majority(index, now))
        })
    }
}

impl Lease {
    /// Whether it holds rather than `other`. Of one epoch, taken in two servers at once, the first name does.
    fn beats(&self, other: &Self) -> bool {
        self.epoch > other.epoch || self.epoch == other.epoch && self.server < other.server
    }
}

/// How long a lease lasts that is not renewed.
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// A replica renews the lease if the server in use has answered it within this time. One that has just started takes no lease before
/// this time is over, unless all servers have answered.
const RENEWED_WITHIN: Duration = Duration::from_secs(1);

/// A replica uses no server that has not answered it for this time. With the time between two looks it is less than
/// [`LEASE`], so that it ends before another server is used.
const USED_WITHIN: Duration = Duration::from_secs(2);

/// How long a server remembers a replica that has not said that it leaves.
pub(super) const REMEMBERED: Duration = Duration::from_secs(60);

/// How long a server may leave queries unanswered before this replica stops renewing its lease.
pub(super) const USELESS_AFTER: Duration = Duration::from_secs(1);

/// A server that has to be left within this time gets its next chance after twice the time.
const SOON: Duration = Duration::from_secs(300);

const MOST_DOUBLINGS: u32 = 6;

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
