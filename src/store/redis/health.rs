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

    /// Takes note of a link's state; what is to be [told](Self::tell) of it.
    pub(super) fn note(
        &self,
        id: &LinkId,
        state: BreakerState,
        server: Option<&str>,
        failure: Option<&str>,
    ) -> Option<News> {
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
                    None => return None,
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
        let news = board.news(now);
        drop(board);
        if state != BreakerState::Closed {
            self.trouble.notify_one();
        }
        news
    }

    /// Forgets a link that has been given up; what is to be [told](Self::tell) of it.
    pub(super) fn forget(&self, id: &LinkId) -> Option<News> {
        let mut board = self.board.lock();
        board.links.retain(|(known, _)| known != id);
        board.news(self.clock.now())
    }

    /// Logs a change of the whole. Under no lock: who reads the log may be slow.
    pub(super) fn tell(&self, news: Option<News>) {
        let store = self.store.name();
        match news {
            None => {}
            Some(News::Came { node, server }) => {
                info!(store, node, server, "decisions come from the store");
            }
            Some(News::CameBack { after }) => {
                info!(
                    store,
                    "decisions come from the store again, after {after} ms"
                );
            }
            Some(News::Went { node, failure }) => warn!(
                store,
                node,
                failure,
                "the store cannot be asked: rules follow on_store_failure; trying on"
            ),
        }
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
        let since = match worst {
            // Since the last of them came back.
            BreakerState::Closed => since.max(),
            BreakerState::HalfOpen | BreakerState::Open => since.min(),
        };
        (worst, since.unwrap_or_default())
    }

    /// Whether every core's link to this server is closed.
    pub(super) fn is_closed(&self, place: &Place) -> bool {
        let board = self.board.lock();
        let mut links = board.links.iter().filter(|(id, _)| id.place == *place);
        links.all(|(_, link)| link.state == BreakerState::Closed)
    }
}

/// A change of the store as a whole.
#[derive(Debug)]
pub(super) enum News {
    /// It can be asked, for the first time.
    Came {
        node: String,
        server: Option<String>,
    },
    /// It can be asked again, after so many milliseconds.
    CameBack { after: u64 },
    /// It cannot be asked.
    Went {
        node: String,
        failure: Option<String>,
    },
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

    /// What is new of the whole since it was told last.
    fn news(&mut self, now: Timestamp) -> Option<News> {
        let worst = self.worst();
        // It is told how a trial ends; until then what was told holds.
        if self.links.is_empty()
            || worst == BreakerState::HalfOpen
            || self.told.is_some_and(|(told, _)| told == worst)
        {
            return None;
        }
        let before = self.told.replace((worst, now));
        let (_, link) = self.links.iter().find(|(_, link)| link.state == worst)?;
        let node = link.place.clone();
        Some(match (worst, before) {
            (BreakerState::Closed, None) => News::Came {
                node,
                server: link.server.clone(),
            },
            (BreakerState::Closed, Some((_, since))) => News::CameBack {
                after: now.as_millis().saturating_sub(since.as_millis()),
            },
            (BreakerState::Open | BreakerState::HalfOpen, _) => News::Went {
                node,
                failure: link.failure.clone(),
            },
        })
    }
}
