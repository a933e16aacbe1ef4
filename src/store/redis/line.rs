//! A connection with the scripts loaded: calls of the script, and what else is asked of a server.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::late::{HEARD_WITHIN, LateReplies};
use super::pending::{Carried, Pending};
use super::queue::{Missed, Task, Waiting};
use super::{
    Call, Connection, DECIDE, FLEET, Failure, FailureClass, FleetCall, Full, HEARTBEAT, Heartbeat,
    Mode, Place, Reached, Reaction, RedisStore, Reply, Role, connect, decode, diagnosis, greeting,
    now,
};
use crate::event::{Operation, StoreCalled, TracedQueries};
use crate::model::{Key, TraceRef};

/// A connection that serves. Dropped, it is closed when the last call that was given up over it has
/// ended; see [`Pending`].
#[derive(Debug)]
pub(super) struct Line {
    connection: Arc<Connection>,
    server: String,
    /// Where it is, for traces.
    node: Arc<str>,
    scripts: Mutex<Scripts>,
    store: Arc<RedisStore>,
    since: Instant,
}

/// The names by which the server knows the scripts.
#[derive(Clone, Debug)]
struct Scripts {
    decide: Bytes,
    fleet: Bytes,
    heartbeat: Bytes,
}

/// A call that is under way, and whom it is for.
struct Sent {
    pending: Pending,
    batch: Vec<Waiting>,
    /// How long it may take.
    within: Duration,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) result: Result<(), Failure>,
    /// When it was sent.
    pub(super) sent: Instant,
    /// What is to be sent again, since it surely was not done.
    pub(super) again: Vec<Waiting>,
    /// It had less time than the settings ask for, since its callers were in a hurry.
    pub(super) hurried: bool,
}

impl Line {
    /// Connects, makes sure that the server is one that counts, and loads the scripts.
    pub(super) async fn open(store: &Arc<RedisStore>, place: &Place) -> Result<Self, Failure> {
        let started = now();
        let opened = Self::reach(store, place).await;
        store.note_call(StoreCalled {
            store: store.config().name,
            operation: Operation::Connect,
            result: match &opened {
                Ok(_) => "ok",
                Err(failure) => failure.class.name(),
            },
            duration: now().saturating_duration_since(started),
            queries: 0,
            checks: 0,
            domains: &[],
            traced: TracedQueries::default(),
        });
        opened
    }

    async fn reach(store: &Arc<RedisStore>, place: &Place) -> Result<Self, Failure> {
        let config = store.config();
        let access = store.access(place).cloned().unwrap_or_default();
        let (connection, reached) = connect(place, &access, config.connect_timeout).await?;
        fits(place, &reached, store.is_cluster())?;
        store.note_reached(place, &reached);
        let scripts = Scripts::load(&connection).await?;
        Ok(Self {
            connection: Arc::new(connection),
            server: reached.server,
            node: place.to_string().into(),
            scripts: Mutex::new(scripts),
            store: Arc::clone(store),
            since: now(),
        })
    }

    /// What was reached.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// How long it has stood.
    pub(super) fn age(&self) -> Duration {
        now().saturating_duration_since(self.since)
    }

    /// Loads the scripts again: the server has lost them.
    pub(super) async fn load(&self) -> Result<(), Failure> {
        let scripts = Scripts::load(&self.connection).await?;
        *self.scripts.lock() = scripts;
        Ok(())
    }

    /// Comes to an end when the connection does.
    pub(super) async fn closed(&self) -> Failure {
        self.connection.closed().await
    }

    /// The connection, for those who may have to close it: it may outlive this.
    pub(super) fn connection(&self) -> Weak<Connection> {
        Arc::downgrade(&self.connection)
    }

    /// Asks nothing, as a query would be asked.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let config = self.store.config();
        let call = Call::new(&config.key_prefix, None, 0);
        let pending = Pending::start(&self.store, Operation::Probe, Carried::default());
        let name = pending.tag(&self.scripts.lock().decide);
        let reply = self.connection.eval(name, &call, config.deadline).await;
        let probed = reply.and_then(|reply| {
            decode(&reply, [])
                .map_err(|error| Failure::new(FailureClass::Protocol, error.to_string()))
        });
        self.told(pending, probed).map(|_decisions| ())
    }

    /// Sends the calls of a round, and hands out the answers. Several are written together.
    pub(super) async fn send(&self, round: Vec<Vec<Waiting>>) -> Vec<Ended> {
        let is_asking = |batch: &Vec<Waiting>| batch.iter().any(|waiting| waiting.asking);
        if round.len() < 2 || round.iter().any(is_asking) {
            return join_all(round.into_iter().map(|batch| self.call(batch))).await;
        }
        let now = now();
        let within = round.iter().map(|batch| patience(batch, now));
        let within = within.max().unwrap_or(LEAST_PATIENCE);
        let written = round.into_iter().map(|batch| self.write(batch));
        let (calls, batches): (Vec<Call>, Vec<Vec<Waiting>>) = written.unzip();
        let begun = calls.iter().zip(batches);
        let begun = begun.map(|(call, batch)| self.begin(call, batch, within));
        let (names, begun): (Vec<Bytes>, Vec<Sent>) = begun.unzip();
        let late = LateReplies::of(begun.iter().map(|call| &call.batch[..]));
        let sent = match late {
            None => {
                let calls = names.into_iter().zip(&calls).collect();
                self.connection.eval_all(calls, within).await
            }
            Some(late) => {
                let (connection, longer) = (Arc::clone(&self.connection), within + HEARD_WITHIN);
                let sent = async move {
                    let calls = names.into_iter().zip(&calls).collect();
                    connection.eval_all(calls, longer).await
                };
                late.in_time(self.connection.place(), within, sent).await
            }
        };
        let ended = begun.into_iter().zip(sent);
        ended.map(|(call, sent)| self.finish(call, sent)).collect()
    }

    /// A heartbeat; the live replicas' names.
    pub(super) async fn beat(&self, beat: &Heartbeat<'_>) -> Result<Vec<String>, Failure> {
        let key = self.store.state_key();
        let arguments = beat.arguments().map(Bytes::from);
        let reply = self.run(Operation::Heartbeat, &key, &arguments).await?;
        let names = reply.list().iter().filter_map(Reply::text);
        Ok(names.map(Cow::into_owned).collect())
    }

    /// Adds to what the fleet tells of itself.
    pub(super) async fn tell(&self, call: &FleetCall) -> Result<(), Failure> {
        let (key, arguments) = (call.key(), call.arguments());
        self.run(Operation::Fleet, key, arguments).await?;
        Ok(())
    }

    /// What a command answers. It has as much time as connecting had.
    pub(super) async fn command(
        &self,
        command: &'static str,
        arguments: Vec<Bytes>,
    ) -> Result<Reply, Failure> {
        let within = self.store.config().connect_timeout;
        self.connection.command(command, arguments, within).await
    }

    /// Runs an operation's script for a key. One that the server has lost was surely not run.
    async fn run(
        &self,
        operation: Operation,
        key: &str,
        arguments: &[Bytes],
    ) -> Result<Reply, Failure> {
        // On the heap: it is large, and done now and then.
        match Box::pin(self.try_run(operation, key, arguments)).await {
            Err(failure) if failure.class == FailureClass::NoScript => {
                Box::pin(self.load()).await?;
                Box::pin(self.try_run(operation, key, arguments)).await
            }
            other => other,
        }
    }

    async fn try_run(
        &self,
        operation: Operation,
        key: &str,
        arguments: &[Bytes],
    ) -> Result<Reply, Failure> {
        let pending = Pending::start(&self.store, operation, Carried::default());
        let name = pending.tag(self.scripts.lock().of(operation));
        let mut line: Vec<Bytes> = vec![name, "1".into(), key.to_owned().into()];
        line.extend(arguments.iter().cloned());
        let ran = self.command("EVALSHA", line).await;
        self.told(pending, ran)
    }

    /// Drops a counter; whether it was there.
    pub(super) async fn delete(&self, key: &Key, within: Duration) -> Result<bool, Failure> {
        let name = [
            self.store.config().key_prefix.as_bytes(),
            b":",
            key.as_bytes(),
        ]
        .concat();
        let reply = self
            .connection
            .command("UNLINK", vec![name.into()], within)
            .await?;
        Ok(reply.number().is_some_and(|dropped| dropped > 0))
    }

    async fn call(&self, batch: Vec<Waiting>) -> Ended {
        let within = patience(&batch, now());
        let (call, batch) = self.write(batch);
        let asking = batch.iter().any(|waiting| waiting.asking);
        let (name, begun) = self.begin(&call, batch, within);
        let connection = &self.connection;
        let sent = match (LateReplies::of(std::iter::once(&begun.batch[..])), asking) {
            (_, true) => connection.eval_asking(name, &call, within).await,
            (None, false) => connection.eval(name, &call, within).await,
            (Some(late), false) => {
                let (connection, longer) = (Arc::clone(connection), within + HEARD_WITHIN);
                let sent = async move { vec![connection.eval(name, &call, longer).await] };
                let place = self.connection.place();
                let mut results = late.in_time(place, within, sent).await;
                results
                    .pop()
                    .unwrap_or_else(|| Err(diagnosis::timed_out(place)))
            }
        };
        self.finish(begun, sent)
    }

    /// A call that is about to be sent, and the name of the script that goes with it.
    fn begin(&self, call: &Call, batch: Vec<Waiting>, within: Duration) -> (Bytes, Sent) {
        let carried = Carried {
            queries: batch.len(),
            checks: call.checks(),
            domains: domains(&batch),
            spans: spans(&batch),
            node: Arc::clone(&self.node),
        };
        let pending = Pending::start(&self.store, Operation::Decide, carried);
        let name = pending.tag(&self.scripts.lock().decide);
        let sent = Sent {
            pending,
            batch,
            within,
        };
        (name, sent)
    }

    /// Tells everybody what came of a call.
    fn finish(&self, call: Sent, sent: Result<Bytes, Failure>) -> Ended {
        let Sent {
            pending,
            batch,
            within,
        } = call;
        let (config, sent_at) = (self.store.config(), pending.started());
        let hurried = within < config.deadline.mul_f64(HURRY);
        let checks = batch.iter().map(|waiting| &*waiting.work.checks);
        let decided = sent.and_then(|reply| {
            decode(&reply, checks)
                .map_err(|error| Failure::new(FailureClass::Protocol, error.to_string()))
        });
        let (result, again) = match decided {
            Ok(decisions) => {
                let took = pending.end("ok");
                let at = decisions
                    .iter()
                    .find_map(|decided| decided.verdicts.first());
                // An answer that was long under way says little of the time now.
                if let (Some(verdict), true) = (at, took <= config.deadline) {
                    self.store.note_time(verdict.at);
                }
                for (waiting, decision) in batch.into_iter().zip(decisions) {
                    // Whoever has gone has been charged all the same.
                    if let (Err(Ok(decision)), Some(late)) =
                        (waiting.reply.send(Ok(decision)), waiting.work.late)
                    {
                        late.send(decision);
                    }
                }
                (Ok(()), Vec::new())
            }
            Err(failure) => {
                pending.fail(failure.class, &self.connection);
                let again = hand_back(batch, &failure);
                (Err(failure), again)
            }
        };
        Ended {
            result,
            sent: sent_at,
            again,
            hurried,
        }
    }

    /// The result of a call, which is told of.
    fn told<T>(&self, pending: Pending, result: Result<T, Failure>) -> Result<T, Failure> {
        match &result {
            Ok(_) => {
                pending.end("ok");
            }
            Err(failure) => pending.fail(failure.class, &self.connection),
        }
        result
    }

    /// The call that asks all of the batch. What has no room in it is told so.
    fn write(&self, batch: Vec<Waiting>) -> (Call, Vec<Waiting>) {
        let config = self.store.config();
        let jitter = fastrand::u32(..=JITTER);
        let mut call = Call::new(&config.key_prefix, None, jitter);
        call.reserve(batch.iter().map(|waiting| waiting.work.checks.len()).sum());
        let mut kept = Vec::with_capacity(batch.len());
        for waiting in batch {
            let checks = &waiting.work.checks;
            let written: Result<(), Full> = match waiting.work.task {
                Task::Decide { enforce, .. } => call.push(checks, enforce),
                Task::GiveBack(at) => call.give_back(checks, at),
                Task::Land(at) => call.land(checks, at),
                Task::Try => call.attempt(checks),
            };
            match written {
                Ok(()) => kept.push(waiting),
                Err(Full) => waiting.fail(FailureClass::Other),
            }
        }
        (call, kept)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Calls that were given up may be waited for over the connection, but nothing is written to
        // it any more.
        if self.connection.has_unwritten() {
            self.connection.abort();
        }
    }
}

impl Scripts {
    async fn load(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self {
            decide: connection.load(DECIDE).await?,
            fleet: connection.load(FLEET).await?,
            heartbeat: connection.load(HEARTBEAT).await?,
        })
    }

    /// The one that does this.
    fn of(&self, operation: Operation) -> &Bytes {
        match operation {
            Operation::Fleet => &self.fleet,
            Operation::Heartbeat => &self.heartbeat,
            Operation::Connect | Operation::Decide | Operation::Probe => &self.decide,
        }
    }
}

/// Asks a server whether it is one to count on.
pub(super) async fn ask_fits(
    place: &Place,
    connection: &Connection,
    in_cluster: bool,
    within: Duration,
) -> Result<(), Failure> {
    let reply = connection.command("INFO", Vec::new(), within).await?;
    fits(place, &greeting::read(place, &reply)?, in_cluster)
}

/// Whether a server is one to count on.
fn fits(place: &Place, reached: &Reached, in_cluster: bool) -> Result<(), Failure> {
    let wrong = |class, detail: String| Err(Failure::new(class, detail));
    match (reached.mode, &reached.role) {
        (Mode::Sentinel, _) | (_, Role::Sentinel) => wrong(
            FailureClass::MisConfigured,
            format!(
                "{place} is a Sentinel, which keeps no counts: write \
                 redis-sentinel://{place}?sentinelServiceName=NAME"
            ),
        ),
        (Mode::Cluster, _) if !in_cluster => wrong(
            FailureClass::MisConfigured,
            format!("{place} is a node of a Cluster: write redis-cluster://{place}"),
        ),
        (Mode::Standalone, _) if in_cluster => wrong(
            FailureClass::MisConfigured,
            format!("{place} is no node of a Cluster: write redis://{place}"),
        ),
        (_, Role::Replica { of }) => Err(Failure::replica(place, of)),
        (_, Role::Primary) if reached.loading => wrong(
            FailureClass::Loading,
            format!("{place} is still reading its data after a start"),
        ),
        (_, Role::Primary) => Ok(()),
    }
}

/// Tells everybody why, but those whose work is to be sent again.
fn hand_back(batch: Vec<Waiting>, failure: &Failure) -> Vec<Waiting> {
    let together = batch.len() > 1;
    let mut again = Vec::new();
    for mut waiting in batch {
        match (failure.class.reaction(), &failure.redirect) {
            (Reaction::LoadScripts, _) => again.push(waiting),
            (Reaction::SplitAndRetry, _) if together => {
                waiting.alone = true;
                again.push(waiting);
            }
            (Reaction::Reroute, Some(redirect)) => {
                let _gone = waiting.reply.send(Err(Missed::Moved(redirect.clone())));
            }
            _ => waiting.fail(failure.class),
        }
    }
    again
}

/// The domains of a call's queries, each once.
fn domains(batch: &[Waiting]) -> SmallVec<[u32; 8]> {
    let mut domains = SmallVec::new();
    for waiting in batch {
        if let Task::Decide { domain, .. } = waiting.work.task
            && !domains.contains(&domain)
        {
            domains.push(domain);
        }
    }
    domains
}

/// The spans of those of a call's queries whose calls are recorded.
fn spans(batch: &[Waiting]) -> SmallVec<[TraceRef; 2]> {
    let span = |waiting: &Waiting| match waiting.work.task {
        Task::Decide { trace, .. } => trace,
        Task::GiveBack(_) | Task::Land(_) | Task::Try => None,
    };
    batch.iter().filter_map(span).collect()
}

/// As long as the most patient caller waits; where there is none, as long as the work may take.
fn patience(batch: &[Waiting], now: Instant) -> Duration {
    let due = |caller: bool| {
        let of_kind = batch
            .iter()
            .filter(|waiting| waiting.work.task.has_caller() == caller);
        of_kind.map(|waiting| waiting.work.due).max()
    };
    let due = due(true).or_else(|| due(false)).unwrap_or(now);
    due.saturating_duration_since(now).max(LEAST_PATIENCE)
}

/// Keys outlive their state by up to so many thousandths of its time, so that windows that end
/// together do not make a server expire them together.
const JITTER: u32 = 50;

/// A call that has less than this part of the store's deadline says little of the server if it
/// comes to nothing.
const HURRY: f64 = 0.8;

/// fred's timers count whole milliseconds.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
