//! How a store's links fare: what the admin dump shows, what the log says once and not once per
//! core, and what makes the resolver look again.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::Place;
use crate::clock::{Clock, Timestamp};
use crate::event::{BreakerState, Events, StoreChanged, StoreName};

/// What is known of a store's links.
#[derive(Debug)]
pub(crate) struct Health {
    store: StoreName,
    clock: Clock,
    events: Arc<dyn Events>,
    board: Mutex<Board>,
    /// Told when a link has trouble that a look at the topology may end.
    pub(super) trouble: Notify,
}

#[derive(Debug, Default)]
struct Board {
    links: Vec<(LinkId, LinkStatus)>,
    /// What was logged last, and since when it holds.
    told: Option<(BreakerState, Timestamp)>,
}

/// Which link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkId {
    pub(super) lane: usize,
    pub(super) place: Place,
}

/// How a link fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Where it leads.
    pub place: String,
    /// What its breaker lets through; open while there is no connection.
    pub state: BreakerState,
    /// Since when.
    pub since: Timestamp,
    /// What was reached there last.
    pub server: Option<String>,
    /// What went wrong last.
    pub failure: Option<String>,
}

impl Health {
    pub(super) fn new(store: StoreName, clock: Clock, events: Arc<dyn Events>) -> Self {
        Self {
            store,
            clock,
            events,
            board: Mutex::default(),
            trouble: Notify::new(),
        }
    }

    /// Takes note of a link's state.
    pub(super) fn note(
        &self,
        id: &LinkId,
        state: BreakerState,
        server: Option<&str>,
        failure: Option<&str>,
    ) {
        let now = self.clock.now();
        let mut board = self.board.lock();
        let at = board.links.iter().position(|(known, _)| known == id);
        let status = match at.and_then(|at| board.links.get_mut(at)) {
            Some((_, status)) => status,
            None => {
                let status = LinkStatus {
                    place: id.place.to_string(),
                    state: BreakerState::Open,
                    since: now,
                    server: None,
                    failure: None,
                };
                board.links.push((id.clone(), status));
                match board.links.last_mut() {
                    Some((_, status)) => status,
                    None => return,
                }
            }
        };
        let changed = status.state != state;
        if changed {
            status.state = state;
            status.since = now;
        }
        if let Some(server) = server {
            status.server = Some(server.to_owned());
        }
        status.failure = match (failure, state) {
            (Some(failure), _) => Some(failure.to_owned()),
            (None, BreakerState::Closed) => None,
            (None, BreakerState::HalfOpen | BreakerState::Open) => status.failure.take(),
        };
        if changed {
            self.events.store_changed(StoreChanged {
                store: self.store,
                node: &status.place,
                state,
            });
        }
        self.tell(&mut board, now);
        drop(board);
        if state != BreakerState::Closed {
            self.trouble.notify_one();
        }
    }

    /// Forgets a link that has been given up.
    pub(super) fn forget(&self, id: &LinkId) {
        let mut board = self.board.lock();
        board.links.retain(|(known, _)| known != id);
        self.tell(&mut board, self.clock.now());
    }

    /// Every link.
    pub(super) fn links(&self) -> Vec<LinkStatus> {
        let board = self.board.lock();
        board
            .links
            .iter()
            .map(|(_, status)| status.clone())
            .collect()
    }

    /// The state of the store as a whole, which is that of its worst link, and since when.
    pub(super) fn state(&self) -> (BreakerState, Timestamp) {
        let board = self.board.lock();
        let worst = board.worst();
        let links = board.links.iter().map(|(_, link)| link);
        let since = links
            .filter(|link| link.state == worst)
            .map(|link| link.since);
        (worst, since.min().unwrap_or_default())
    }

    /// Logs a change of the whole.
    fn tell(&self, board: &mut Board, now: Timestamp) {
        let worst = board.worst();
        if board.links.is_empty() || board.told.is_some_and(|(told, _)| told == worst) {
            return;
        }
        let before = board.told.replace((worst, now));
        let one = board.links.iter().find(|(_, link)| link.state == worst);
        let link = one.map(|(_, link)| link.clone());
        let place = link.as_ref().map_or("", |link| link.place.as_str());
        let failure = link.as_ref().and_then(|link| link.failure.as_deref());
        let store = self.store.name();
        match (worst, before) {
            (BreakerState::Closed, None) => {
                let server = link.as_ref().and_then(|link| link.server.as_deref());
                info!(store, node = place, server, "decisions come from the store");
            }
            (BreakerState::Closed, Some((_, since))) => {
                let millis = now.as_millis().saturating_sub(since.as_millis());
                info!(
                    store,
                    "decisions come from the store again, after {millis} ms"
                );
            }
            (BreakerState::Open, _) => warn!(
                store,
                node = place,
                failure,
                "the store cannot be asked: rules follow on_store_failure; trying on"
            ),
            // It is told how the trial ends; until then what was told holds.
            (BreakerState::HalfOpen, before) => board.told = before,
        }
    }
}

impl Board {
    fn worst(&self) -> BreakerState {
        let states = || self.links.iter().map(|(_, link)| link.state);
        [BreakerState::Open, BreakerState::HalfOpen]
            .into_iter()
            .find(|&worst| states().any(|state| state == worst))
            .unwrap_or(match self.links.is_empty() {
                true => BreakerState::Open,
                false => BreakerState::Closed,
            })
    }
}
