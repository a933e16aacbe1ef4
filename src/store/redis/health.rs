//! How a store's links fare: what the admin dump shows, what the log says once and not once per
//! core, and what makes the resolver look again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{Place, now};
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

#[derive(Debug)]
struct Board {
    links: Vec<(LinkId, LinkStatus)>,
    /// What was logged last, and since when it holds.
    told: Option<(BreakerState, Timestamp)>,
    away: Away,
}

/// For how long the store was not asked, or not by all.
#[derive(Debug)]
struct Away {
    before: Duration,
    /// Since when it is away now.
    since: Option<Instant>,
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
            board: Mutex::new(Board {
                links: Vec::new(),
                told: None,
                away: Away {
                    before: Duration::ZERO,
                    since: Some(now()),
                },
            }),
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
        let before = board.node(&id.place);
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
        if status.state != state {
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
        self.tell_node(&board, &id.place, before);
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
        let before = board.node(&id.place);
        board.links.retain(|(known, _)| known != id);
        self.tell_node(&board, &id.place, before);
        board.news(self.clock.now())
    }

    /// Tells how a node is from now on, if that is not how it was: once, whichever and however many
    /// of the cores' links to it have noticed.
    fn tell_node(&self, board: &Board, place: &Place, before: Option<BreakerState>) {
        // One that nothing leads to any more is of no interest, nor is one that was never reached.
        let Some(state) = board.node(place) else {
            return;
        };
        if state != before.unwrap_or(BreakerState::Open) {
            self.events.store_changed(StoreChanged {
                store: self.store,
                node: &place.to_string(),
                state,
            });
        }
    }

    /// Logs a change of the whole. Under no lock: who reads the log may be slow.
    pub(super) fn tell(&self, news: Option<News>) {
        let store = self.store.name();
        match news {
            None => {}
            Some(News::Came { node, server }) => {
                info!(
                    store,
                    node, server, "redis reachable; deciding in the shared store"
                );
            }
            Some(News::CameBack { after }) => {
                info!(
                    store,
                    outage_ms = after,
                    "redis reachable again; deciding in the shared store"
                );
            }
            Some(News::Went { node, failure }) => warn!(
                store,
                node, failure, "redis unreachable; rules follow on_store_failure; retrying"
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

    /// For how long the store was not asked, by at least one core or for at least one node: so far,
    /// and since all of it was asked last.
    pub(super) fn away(&self) -> (Duration, Duration) {
        let (away, now) = (&self.board.lock().away, now());
        (away.until(now), away.this_time(now))
    }

    /// Whether every core's link to this server is closed.
    pub(super) fn is_closed(&self, place: &Place) -> bool {
        let board = self.board.lock();
        board
            .node(place)
            .is_none_or(|state| state == BreakerState::Closed)
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
        let states = self.links.iter().map(|(_, link)| link.state);
        worst_of(states).unwrap_or(BreakerState::Open)
    }

    /// The state of a node, which is that of the worst link to it.
    fn node(&self, place: &Place) -> Option<BreakerState> {
        let links = self.links.iter().filter(|(id, _)| id.place == *place);
        worst_of(links.map(|(_, link)| link.state))
    }

    /// What is new of the whole since it was told last.
    fn news(&mut self, now: Timestamp) -> Option<News> {
        let worst = self.worst();
        self.away.set(worst != BreakerState::Closed, super::now());
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

impl Away {
    /// From now on it is away, or is not.
    fn set(&mut self, is_away: bool, at: Instant) {
        match (is_away, self.since) {
            (true, None) => self.since = Some(at),
            (false, Some(_)) => {
                self.before = self.until(at);
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn until(&self, at: Instant) -> Duration {
        self.before.saturating_add(self.this_time(at))
    }

    fn this_time(&self, at: Instant) -> Duration {
        let since = self.since.map(|since| at.saturating_duration_since(since));
        since.unwrap_or_default()
    }
}

/// The worst of some states, if there is any.
fn worst_of(states: impl Iterator<Item = BreakerState>) -> Option<BreakerState> {
    states.max_by_key(|state| match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    })
}

#[cfg(test)]
mod tests {
    use BreakerState::{Closed, HalfOpen, Open};

    use super::super::tests::recorder::Recorder;
    use super::*;

    fn health() -> (Health, Arc<Recorder>) {
        let (recorder, clock) = Recorder::new();
        let events = Arc::clone(&recorder) as _;
        (Health::new(StoreName::Main, clock, events), recorder)
    }

    fn link(lane: usize, port: u16) -> LinkId {
        LinkId {
            lane,
            place: Place::tcp("::1", port),
        }
    }

    /// The states that were told of a node.
    fn told(recorder: &Recorder, port: u16) -> Vec<BreakerState> {
        let node = link(0, port).place.to_string();
        let states = recorder.states.lock();
        let of_it = states.iter().filter(|(of, _)| *of == node);
        of_it.map(|&(_, state)| state).collect()
    }

    #[test]
    fn a_node_is_told_of_once_however_many_cores_notice() {
        let (health, recorder) = health();
        let note = |lane, port, state| {
            health.note(&link(lane, port), state, None, None);
        };
        for lane in 0..3 {
            note(lane, 1, Closed);
            note(lane, 2, Closed);
        }
        for lane in 0..3 {
            note(lane, 1, Open);
        }
        assert_eq!(told(&recorder, 1), [Closed, Open]);
        // It is back when the last of them says so.
        for state in [HalfOpen, Closed] {
            note(0, 1, state);
            note(1, 1, state);
        }
        assert_eq!(told(&recorder, 1), [Closed, Open]);
        note(2, 1, HalfOpen);
        note(2, 1, Closed);
        assert_eq!(told(&recorder, 1), [Closed, Open, HalfOpen, Closed]);
        assert_eq!(told(&recorder, 2), [Closed], "another node");
    }

    #[test]
    fn a_node_that_was_never_reached_has_not_changed() {
        let (health, recorder) = health();
        health.note(&link(0, 1), Open, None, Some("nobody listens there"));
        assert!(told(&recorder, 1).is_empty());
        health.note(&link(0, 1), Closed, None, None);
        assert_eq!(told(&recorder, 1), [Closed]);
    }

    #[test]
    fn a_node_may_recover_by_the_end_of_its_worst_link() {
        let (health, recorder) = health();
        health.note(&link(0, 1), Closed, None, None);
        health.note(&link(1, 1), Open, None, None);
        health.forget(&link(1, 1));
        assert_eq!(told(&recorder, 1), [Closed, Open, Closed]);
        health.forget(&link(0, 1));
        assert_eq!(told(&recorder, 1), [Closed, Open, Closed], "nobody asks it");
    }

    #[test]
    fn it_is_away_while_any_node_is_not_asked() {
        let (health, _) = health();
        let is_away = || health.board.lock().away.since.is_some();
        assert!(is_away(), "nobody knows yet where it is");
        for (lane, port, state, away) in [
            (0, 1, Closed, false),
            (1, 1, Closed, false),
            (0, 2, Open, true),
            (0, 2, HalfOpen, true),
            (1, 1, Open, true),
            (0, 2, Closed, true),
            (1, 1, Closed, false),
        ] {
            health.note(&link(lane, port), state, None, None);
            assert_eq!(is_away(), away, "{lane} {port} {state:?}");
        }
        let away = health.away();
        assert_eq!(health.away(), away, "it stands still");
    }

    #[test]
    fn the_times_that_it_was_away_add_up() {
        let start = now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut away = Away {
            before: Duration::ZERO,
            since: Some(start),
        };
        for (seconds, is_away, so_far) in [
            (2, false, 2),
            (7, true, 2),
            (17, true, 12),
            (37, false, 32),
            (77, false, 32),
            (80, true, 32),
        ] {
            away.set(is_away, at(seconds));
            assert_eq!(away.until(at(seconds)).as_secs(), so_far, "at {seconds}");
        }
        assert_eq!(away.until(at(90)).as_secs(), 42, "it is not over yet");
    }
}
