//! One core's link to one server: it connects, sends what waits, and connects again.
//!
//! A task of its own ([`Link::run`]) supervises one connection at a time. Nothing is sent twice:
//! what was sent over a connection that is lost has failed, whatever the server has done with it.
//! Each failure's reaction stands in [`FailureClass::reaction`]. While there is no connection, or
//! the breaker is open, [`Link::submit`] refuses at once.
//!
//! Whether a server that is slow counts as one that answers is for probes to say: they have the
//! store's deadline, as queries have. A connection over which nothing has come for as long as probes are
//! apart may be dead though the server is not, and is replaced.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use tracing::debug;

use super::health::LinkId;
use super::line::{Ended, Line};
use super::probes::{Probes, Trouble};
use super::queue::{Missed, Outcome, Queue, Waiting, Work};
use super::{Connection, Failure, FailureClass, Place, Reaction, RedisStore, now};
use crate::event::BreakerState;
use crate::store::{Breaker, Unasked};

/// A link.
#[derive(Debug)]
pub(super) struct Link {
    id: LinkId,
    store: Arc<RedisStore>,
    state: Mutex<State>,
    /// Told when something waits.
    wake: Notify,
    /// Told when the first connection stands, or could not be made.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    breaker: Breaker,
    line: Option<Arc<Line>>,
    settled: bool,
    /// It has been given up; whatever still comes of it is nobody's concern.
    ended: bool,
    /// Calls that were in more of a hurry than the settings ask for have failed: the server may
    /// be slow, or they were. A probe finds out.
    doubted: bool,
    /// When the first of the calls was sent that nothing has come since.
    silent_since: Option<Instant>,
    /// How often in a row scripts had to be loaded again, and no call was answered in between.
    reloads: u32,
    /// When they were loaded last.
    loaded: Option<Instant>,
    /// A query has been answered since [`Link::next_round`] was called last.
    answered: bool,
    /// Connections that have been given up, over which answers to calls of before may still come.
    fallen: VecDeque<Weak<Connection>>,
}

impl State {
    /// What others are told of it.
    fn shown(&self) -> BreakerState {
        match self.line {
            Some(_) => self.breaker.last().0,
            None => BreakerState::Open,
        }
    }

    /// Something has come over the connection.
    const fn heard(&mut self) {
        self.silent_since = None;
    }

    /// Nothing has come for a call that was sent then.
    fn kept_silent(&mut self, sent: Instant) {
        self.silent_since.get_or_insert(sent);
    }

    fn is_silent_for(&self, time: Duration, now: Instant) -> bool {
        let silent = self.silent_since;
        silent.is_some_and(|since| now.saturating_duration_since(since) >= time)
    }

    /// Gives back what waits while nothing is sent, so that nobody waits in vain.
    fn shed(&mut self) {
        if self.breaker.last().0 == BreakerState::Open {
            refuse(self.queue.drain(), Unasked::BreakerOpen);
        }
    }
}

impl Link {
    pub(super) fn new(store: &Arc<RedisStore>, lane: usize, place: Place) -> Self {
        let config = store.config();
        let queue = Queue::new(config.batch_size, Arc::clone(store.queue()));
        Self {
            id: LinkId { lane, place },
            store: Arc::clone(store),
            state: Mutex::new(State {
                queue,
                breaker: Breaker::new(config.breaker, now()),
                line: None,
                settled: false,
                ended: false,
                doubted: false,
                silent_since: None,
                reloads: 0,
                loaded: None,
                answered: false,
                fallen: VecDeque::new(),
            }),
            wake: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// Has `work` sent with what else waits.
    ///
    /// # Errors
    /// If it cannot be: nothing was sent then.
    pub(super) fn submit(
        &self,
        work: Work,
        asking: bool,
        now: Instant,
    ) -> Result<oneshot::Receiver<Outcome>, Unasked> {
        let (reply, receiver) = oneshot::channel();
        let waiting = Waiting {
            work,
            alone: asking,
            asking,
            reply,
        };
        let mut state = self.state.lock();
        if state.line.is_none() {
            return Err(Unasked::Gone);
        }
        let before = state.breaker.last().0;
        let admits = state.breaker.state(now);
        let pushed = match admits {
            BreakerState::Open => return Err(Unasked::BreakerOpen),
            BreakerState::Closed => {
                let pushed = state.queue.push(waiting, usize::MAX);
                pushed.map_err(|_full| Unasked::QueueFull)
            }
            // No more than one call's worth waits for how the trial ends.
            BreakerState::HalfOpen => {
                let most = self.store.config().batch_size;
                let pushed = state.queue.push(waiting, most);
                pushed.map_err(|_enough| Unasked::BreakerOpen)
            }
        };
        drop(state);
        pushed?;
        if before != admits {
            self.publish(None, None);
        }
        self.wake.notify_one();
        Ok(receiver)
    }

    /// Has something else done than a query, over the same connection. Whether the server answers
    /// says as much of it as a query would.
    pub(super) async fn run_errand<T>(
        &self,
        errand: impl AsyncFnOnce(&Line) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let line = self.state.lock().line.clone();
        let Some(line) = line else {
            let why = format!("there is no connection to {} now", self.id.place);
            return Err(Failure::new(FailureClass::Refused, why));
        };
        let sent = now();
        let done = errand(&line).await;
        let is_late = done
            .as_ref()
            .is_err_and(|failure| failure.class == FailureClass::Timeout);
        if !is_late {
            self.state.lock().heard();
        }
        if let Err(failure) = &done
            && is_late
        {
            {
                let mut state = self.state.lock();
                state.kept_silent(sent);
                state.breaker.failed(sent, now());
                state.shed();
            }
            self.publish(None, Some(failure));
            self.wake.notify_one();
        }
        done
    }

    /// Waits until it has been tried once to connect.
    pub(super) async fn settled(&self) {
        loop {
            let told = self.settled.notified();
            if self.state.lock().settled {
                return;
            }
            told.await;
        }
    }

    /// Keeps it up. Ends only by being dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let _status = End(&self);
        let longest = self.store.config().probe_interval;
        let mut pause = FIRST_PAUSE.min(longest);
        loop {
            match Line::open(&self.store, &self.id.place).await {
                Ok(line) => {
                    let line = Arc::new(line);
                    self.stand(&line);
                    let failure = self.serve(&line).await;
                    self.fall(&failure, false);
                    let age = line.age();
                    self.let_go(line);
                    if age > longest {
                        // It was good for a while: what took its place may be there already.
                        pause = FIRST_PAUSE.min(longest);
                        continue;
                    }
                }
                Err(failure) => self.fall(&failure, true),
            }
            sleep(jittered(pause)).await;
            pause = pause.saturating_mul(2).min(longest);
        }
    }

    /// A connection stands.
    fn stand(&self, line: &Arc<Line>) {
        {
            let mut state = self.state.lock();
            state.line = Some(Arc::clone(line));
            state.silent_since = None;
            state.settled = true;
        }
        self.publish(Some(line.server()), None);
        self.settled.notify_waiters();
    }

    /// The connection is lost, or could not be made.
    fn fall(&self, failure: &Failure, refused: bool) {
        let waiting = {
            let mut state = self.state.lock();
            state.line = None;
            state.settled = true;
            match refused {
                true => state.breaker.trip(now()),
                false => state.breaker.failed(now(), now()),
            }
            state.queue.clear()
        };
        refuse(waiting, Unasked::Gone);
        self.publish(None, Some(failure));
        self.settled.notify_waiters();
    }

    /// Drops the line of a connection that is of no use any more. It stays open while answers to
    /// calls that were given up may come over it, but only a few such connections do.
    fn let_go(&self, line: Arc<Line>) {
        let connection = line.connection();
        drop(line);
        let one_too_many = {
            let mut state = self.state.lock();
            let fallen = &mut state.fallen;
            fallen.retain(|connection| connection.strong_count() > 0);
            if connection.strong_count() > 0 {
                fallen.push_back(connection);
            }
            match fallen.len() > MOST_FALLEN {
                true => fallen.pop_front().and_then(|oldest| oldest.upgrade()),
                false => None,
            }
        };
        if let Some(connection) = one_too_many {
            connection.abort();
        }
    }

    /// Sends rounds until the connection is of no use any more.
    async fn serve(&self, line: &Line) -> Failure {
        let mut rounds = FuturesUnordered::new();
        // One at a time, beside the rounds.
        let mut probing = FuturesUnordered::new();
        let mut probes = Probes::new(self.store.config().probe_interval);
        let mut closed = std::pin::pin!(line.closed());
        loop {
            let at = now();
            let (wait, trouble) = self.next_round(at);
            let probe = probes.wait(trouble, at).filter(|_| probing.is_empty());
            if wait == Some(Duration::ZERO) {
                let round = self.state.lock().queue.take(at);
                if !round.is_empty() {
                    rounds.push(line.send(round));
                }
                continue;
            }
            if probe == Some(Duration::ZERO) {
                probing.push(async move { (at, line.probe().await) });
                continue;
            }
            tokio::select! {
                biased;
                Some(ended) = rounds.next() => {
                    self.state.lock().queue.round_ended();
                    if let Err(failure) = self.take_in(line, ended).await {
                        return failure;
                    }
                }
                failure = &mut closed => return failure,
                () = self.wake.notified() => {}
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                Some((sent, probed)) = probing.next() => {
                    let probed: Result<(), Failure> = probed;
                    probes.ended(probed.is_ok(), now());
                    if let Err(failure) = self.learn(line, sent, probed).await {
                        return failure;
                    }
                }
                () = sleep(probe.unwrap_or_default()), if probe.is_some() => {}
            }
        }
    }

    /// How long the next round waits, and how the link is.
    fn next_round(&self, now: Instant) -> (Option<Duration>, Trouble) {
        let mut state = self.state.lock();
        let admits = state.breaker.state(now);
        let most = match admits {
            BreakerState::Closed => MOST_ROUNDS,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 0,
        };
        let wait = state.queue.wait(most, now);
        let trouble = Trouble {
            wants_probes: admits != BreakerState::Closed || state.doubted,
            is_open: admits == BreakerState::Open,
            answered: std::mem::take(&mut state.answered),
        };
        (wait, trouble)
    }

    /// What a round's calls came to.
    async fn take_in(&self, line: &Line, ended: Vec<Ended>) -> Result<(), Failure> {
        let (mut reload, mut fatal, mut last) = (false, None, None);
        let changed = {
            let mut state = self.state.lock();
            let before = state.breaker.last().0;
            for call in ended {
                let Err(failure) = call.result else {
                    state.breaker.succeeded(now());
                    state.heard();
                    state.reloads = 0;
                    state.answered = true;
                    continue;
                };
                match failure.class {
                    FailureClass::Timeout => state.kept_silent(call.sent),
                    _ => state.heard(),
                }
                // One that was sent before the scripts were loaded last says nothing of them.
                let lost_scripts = failure.class.reaction() == Reaction::LoadScripts
                    && state.loaded.is_none_or(|loaded| call.sent > loaded);
                let loses_scripts = lost_scripts && state.reloads >= MOST_RELOADS;
                for waiting in call.again {
                    match loses_scripts {
                        true => waiting.fail(failure.class),
                        false => state.queue.push_back(waiting),
                    }
                }
                match failure.class.reaction() {
                    Reaction::LoadScripts => {
                        reload |= lost_scripts;
                        if loses_scripts {
                            state.breaker.failed(call.sent, now());
                            last = Some(failure);
                        }
                    }
                    Reaction::Reroute if failure.redirect.is_some() => {
                        self.store.health().trouble.notify_one();
                    }
                    Reaction::SplitAndRetry => {}
                    Reaction::Wait if call.hurried && failure.class == FailureClass::Timeout => {
                        state.doubted = true;
                    }
                    Reaction::Reroute | Reaction::Wait => {
                        state.breaker.failed(call.sent, now());
                        last = Some(failure);
                    }
                    Reaction::Reconnect => fatal = Some(failure),
                }
            }
            if reload {
                state.reloads = state.reloads.saturating_add(1);
            }
            state.shed();
            state.breaker.last().0 != before
        };
        if changed {
            self.publish(None, last.as_ref());
        }
        if let Some(failure) = fatal {
            return Err(failure);
        }
        match reload {
            true => self.load_scripts(line).await,
            false => Ok(()),
        }
    }

    /// Loads the scripts again: the server has lost them.
    async fn load_scripts(&self, line: &Line) -> Result<(), Failure> {
        line.load().await?;
        self.state.lock().loaded = Some(now());
        Ok(())
    }

    /// What a probe tells, which asks off the path of any request whether the server answers in
    /// time.
    async fn learn(
        &self,
        line: &Line,
        sent: Instant,
        probed: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let is_silent = {
            let mut state = self.state.lock();
            state.doubted = false;
            match &probed {
                Err(failure) if failure.class == FailureClass::Timeout => state.kept_silent(sent),
                Ok(()) | Err(_) => state.heard(),
            }
            match (&probed, state.breaker.state(now())) {
                (Ok(()), BreakerState::Open) => state.breaker.probed(now()),
                // No query came meanwhile that could have been the trial.
                (Ok(()), BreakerState::HalfOpen) => state.breaker.succeeded(now()),
                (Ok(()), BreakerState::Closed) => {}
                (Err(_), _) => state.breaker.failed(sent, now()),
            }
            state.shed();
            state.is_silent_for(self.store.config().probe_interval, now())
        };
        self.publish(None, probed.as_ref().err());
        match probed {
            Err(failure) if failure.class.reaction() == Reaction::LoadScripts => {
                self.load_scripts(line).await
            }
            Err(failure) if is_silent || failure.class.reaction() == Reaction::Reconnect => {
                Err(failure)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Tells how it fares, unless it has ended: then others tell of that server, or nobody does.
    fn publish(&self, server: Option<&str>, failure: Option<&Failure>) {
        let failure = failure.map(ToString::to_string);
        let (shown, told) = {
            let state = self.state.lock();
            if state.ended {
                return;
            }
            let (health, shown) = (self.store.health(), state.shown());
            (
                shown,
                health.note(&self.id, shown, server, failure.as_deref()),
            )
        };
        debug!(
            store = self.store.config().name.name(),
            node = %self.id.place,
            worker = self.id.lane,
            breaker = shown.name(),
            failure,
            "redis connection checked"
        );
        self.store.health().tell(told);
    }
}

/// Takes a link that ends off the board, and lets nobody wait for it.
struct End<'a>(&'a Link);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let link = self.0;
        let (waiting, told) = {
            let mut state = link.state.lock();
            state.ended = true;
            state.line = None;
            let told = link.store.health().forget(&link.id);
            (state.queue.clear(), told)
        };
        refuse(waiting, Unasked::Gone);
        link.store.health().tell(told);
    }
}

/// Tells those who wait that their work was not sent.
fn refuse(waiting: impl IntoIterator<Item = Waiting>, why: Unasked) {
    for waiting in waiting {
        let _gone = waiting.reply.send(Err(Missed::Unsent(why)));
    }
}

/// The first pause before connecting again, after a connection that was not good for long; each
/// further one is twice as long, up to the probes' interval.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Replicas that lost a server together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Connections of a link that have been given up and are still open.
const MOST_FALLEN: usize = 4;

/// A server that has lost its scripts so often in a row will lose them again.
const MOST_RELOADS: u32 = 3;

/// Rounds under way over one connection. More would only wait in the server.
const MOST_ROUNDS: usize = 8;
