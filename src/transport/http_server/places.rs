//! Who is connected, and who has to go when somebody else comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::Peer;

/// How much a listener takes in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections.
    pub connections: usize,
    /// Bytes of all bodies that have been read and not answered.
    pub body_bytes: usize,
    /// Bytes of one body.
    pub largest_body: usize,
    /// How long clients are waited for.
    pub patience: Patience,
}

/// How long clients are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a header, and for the next request: Prometheus and kubelets come back on a new connection.
    pub header: Duration,
    /// For a body.
    pub body: Duration,
    /// For an answer to be read.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(30),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(60),
        }
    }
}

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Places {
    room: Room,
    open: Mutex<Vec<Arc<Seat>>>,
    body_bytes: AtomicUsize,
}

/// What the others may know of a connection.
#[derive(Debug)]
struct Seat {
    peer: Peer,
    evicted: Notify,
    state: Mutex<State>,
    body_bytes: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A handler is at work: it is not the peer that is waited for.
    Answering,
    /// Waits for a request, or for the rest of one, since then.
    Asking(Instant),
    /// Its answer has to be read until then.
    Reading(Instant),
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    seat: Arc<Seat>,
}

/// Bytes of a body in memory; given back when dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    place: &'a Place,
    bytes: usize,
}

impl Places {
    pub(super) fn new(room: Room) -> Self {
        Self {
            room,
            open: Mutex::default(),
            body_bytes: AtomicUsize::new(0),
        }
    }

    /// A place for a connection. Where all are taken, one is freed: of the peer address that has the most
    /// of them, the one that has waited longest. None if all of them are being answered.
    pub(super) fn take(self: &Arc<Self>, peer: Peer, now: Instant) -> Option<Place> {
        let seat = Arc::new(Seat {
            peer,
            evicted: Notify::new(),
            state: Mutex::new(State::Asking(now)),
            body_bytes: AtomicUsize::new(0),
        });
        let mut open = self.open.lock();
        if open.len() >= self.room.connections {
            let victim = victim(&open)?;
            open.swap_remove(victim).evicted.notify_one();
        }
        open.push(Arc::clone(&seat));
        drop(open);
        Some(Place {
            places: Arc::clone(self),
            seat,
        })
    }

    /// Frees the bytes of whoever holds most of them, unless that is `asking` itself. Says whether
    /// somebody else has to give way.
    fn evict_largest(&self, asking: &Arc<Seat>) -> bool {
        let mut open = self.open.lock();
        let size = |seat: &Arc<Seat>| seat.body_bytes.load(Ordering::Relaxed);
        let is_asking = |seat: &Arc<Seat>| !matches!(*seat.state.lock(), State::Answering);
        let largest = open
            .iter()
            .enumerate()
            .filter(|(_, seat)| is_asking(seat))
            .max_by_key(|(_, seat)| size(seat))
            .map(|(at, _)| at);
        let Some(at) = largest.filter(|&at| !Arc::ptr_eq(&open[at], asking)) else {
            return false;
        };
        open.swap_remove(at).evicted.notify_one();
        true
    }
}

/// Which connection goes first.
fn victim(open: &[Arc<Seat>]) -> Option<usize> {
    let of_peer = |peer: Peer| {
        let same = |seat: &&Arc<Seat>| seat.peer.ip() == peer.ip();
        open.iter().filter(same).count()
    };
    let waits = open.iter().enumerate().filter_map(|(at, seat)| {
        let since = match *seat.state.lock() {
            State::Answering => return None,
            State::Asking(since) | State::Reading(since) => since,
        };
        Some((at, seat.peer, since))
    });
    waits
        .min_by_key(|(_, peer, since)| (std::cmp::Reverse(of_peer(*peer)), *since))
        .map(|(at, ..)| at)
}

impl Place {
    pub(super) fn peer(&self) -> Peer {
        self.seat.peer
    }

    /// Waits until somebody else needs the place.
    pub(super) async fn evicted(&self) {
        self.seat.evicted.notified().await;
    }

    /// A request has begun.
    pub(super) fn asking(&self, now: Instant) {
        *self.seat.state.lock() = State::Asking(now);
    }

    /// A whole request has come.
    pub(super) fn answering(&self) {
        *self.seat.state.lock() = State::Answering;
    }

    /// The answer is there, to be read until then.
    pub(super) fn answered(&self, until: Instant) {
        *self.seat.state.lock() = State::Reading(until);
    }

    /// When to ask whether it [is late](Self::is_late).
    pub(super) fn due(&self) -> Instant {
        match *self.seat.state.lock() {
            State::Reading(until) => until,
            // Looked at again at least as often as an answer may become late.
            State::Answering | State::Asking(_) => Instant::now() + self.room().patience.answer,
        }
    }

    /// Whether an answer should have been read by now.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        matches!(*self.seat.state.lock(), State::Reading(until) if until <= now)
    }

    pub(super) fn room(&self) -> Room {
        self.places.room
    }

    /// Nothing of a body yet.
    pub(super) fn hold(&self) -> Held<'_> {
        Held {
            place: self,
            bytes: 0,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock();
        if let Some(at) = open.iter().position(|seat| Arc::ptr_eq(seat, &self.seat)) {
            open.swap_remove(at);
        }
    }
}

impl Held<'_> {
    /// Holds so many bytes more, if there is room, or somebody who holds more than this makes some.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        let places = &self.place.places;
        self.bytes = self.bytes.saturating_add(bytes);
        let seat = &self.place.seat;
        seat.body_bytes.store(self.bytes, Ordering::Relaxed);
        let before = places.body_bytes.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= places.room.body_bytes || places.evict_largest(seat)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let places = &self.place.places;
        places.body_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.place.seat.body_bytes.store(0, Ordering::Relaxed);
    }
}
