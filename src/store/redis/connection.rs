//! One connection to one server.
//!
//! It is one client of the library without its ways to reconnect: nothing is ever sent twice, and a
//! connection that is lost stays lost. Each call has a time limit of its own, after which the client
//! forgets it; what was not sent by then never is. A call must not be wrapped in another time
//! limit, since one that is dropped by its caller is sent all the same.
//!
//! The arguments of a call are kept until it is over, however long after its time limit that is
//! (`pending` relies on it, and a test holds fred to it).

use std::fmt;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, WithOptions};
use fred::error::Error;
use fred::interfaces::{ClientLike, MetricsInterface};
use fred::types::config::Options;
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{Call, Failure, Place, Reply, diagnosis};

/// One connection to one server. When it is dropped it is closed, and what it still waits for
/// fails.
pub struct Connection {
    client: Client,
    place: Place,
    /// For what has no time limit of its own.
    patience: Duration,
    /// None while it is open.
    end: watch::Receiver<Option<Failure>>,
    task: AbortHandle,
}

impl Connection {
    /// Takes over a client that is connected, and the task that drives it.
    pub(super) fn new(
        client: Client,
        place: Place,
        patience: Duration,
        driver: ConnectHandle,
    ) -> Self {
        let task = driver.abort_handle();
        let (tell, end) = watch::channel(None);
        let at = place.clone();
        // Ends with the driver, at the latest when this connection is dropped.
        drop(tokio::spawn(async move {
            let failure = match driver.await {
                Ok(Err(error)) => diagnosis::failed(&at, &error),
                Ok(Ok(())) => diagnosis::lost(&at, "the connection was closed"),
                Err(_aborted) => diagnosis::lost(&at, "it was given up"),
            };
            tell.send_replace(Some(failure));
        }));
        Self {
            client,
            place,
            patience,
            end,
            task,
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether calls wait to be written: the socket has been full. What is just being written does
    /// not count.
    pub(super) fn has_unwritten(&self) -> bool {
        self.client.command_queue_len() > 0
    }

    /// Loads a script; its hash. It has as much time as connecting had.
    ///
    /// # Errors
    /// As the server says.
    pub async fn load(&self, script: &str) -> Result<Bytes, Failure> {
        let arguments = vec!["LOAD".into(), Bytes::copy_from_slice(script.as_bytes())];
        let reply = self.command("SCRIPT", arguments, self.patience).await?;
        match reply {
            Reply::Text(sha) => Ok(sha),
            Reply::Nil | Reply::Number(_) | Reply::List(_) => {
                Err(diagnosis::garbage(&self.place, "SCRIPT LOAD gives no hash"))
            }
        }
    }

    /// Has a call of a loaded script carried out; what the script returns.
    ///
    /// # Errors
    /// As the server says; [`NoScript`](super::FailureClass::NoScript) if it does not know the
    /// script. Whether the call was carried out all the same,
    /// [`unexecuted`](super::FailureClass::unexecuted) says.
    pub async fn eval(&self, sha: Bytes, call: &Call, within: Duration) -> Result<Bytes, Failure> {
        let sent = pin!(self.send("EVALSHA", arguments(sha, call), within));
        self.text(self.unless_closed(sent).await?)
    }

    /// [`eval`](Self::eval) for several calls, each with the hash before it, written together: a
    /// result for each, when all are there. Unlike there, they may be sent although their time is over, if the socket was so full
    /// that they had to wait.
    pub async fn eval_all(
        &self,
        calls: Vec<(Bytes, &Call)>,
        within: Duration,
    ) -> Vec<Result<Bytes, Failure>> {
        let count = calls.len();
        let sent = async {
            let pipeline = self.client.pipeline();
            let all = pipeline.with_options(&options(within));
            for (sha, call) in calls {
                // These only queue.
                let _queued: Value = all.custom(command("EVALSHA"), arguments(sha, call)).await?;
            }
            Ok(all.try_all::<Value>().await)
        };
        let fail = |failure: Failure| vec![Err(failure); count];
        let results = tokio::select! {
            biased;
            results = sent => results,
            failure = self.closed() => return fail(failure),
        };
        match results.map_err(|error| diagnosis::failed(&self.place, &error)) {
            Err(failure) => fail(failure),
            // What concerns all of them is told once.
            Ok(mut results) if results.len() != count => match results.pop() {
                Some(Err(error)) => fail(diagnosis::failed(&self.place, &error)),
                _ => fail(diagnosis::garbage(
                    &self.place,
                    "not an answer for each call",
                )),
            },
            Ok(results) => results
                .into_iter()
                .map(|result| {
                    let value = result.map_err(|error| diagnosis::failed(&self.place, &error))?;
                    self.text(value)
                })
                .collect(),
        }
    }

    /// [`eval`](Self::eval) on the node that takes a slot over, after an
    /// [`Ask`](super::FailureClass::Ask): with `ASKING` right before it, whoever else uses this
    /// connection. Unlike there, a call may be sent although its time is over, if the socket was so
    /// full that it had to wait.
    ///
    /// # Errors
    /// As `eval`.
    pub async fn eval_asking(
        &self,
        sha: Bytes,
        call: &Call,
        within: Duration,
    ) -> Result<Bytes, Failure> {
        let sent = pin!(async {
            let pipeline = self.client.pipeline();
            let both = pipeline.with_options(&options(within));
            let (ask, eval) = (command("ASKING"), command("EVALSHA"));
            // These two only queue.
            let _queued: Value = both.custom(ask, Vec::<Value>::new()).await?;
            let _queued: Value = both.custom(eval, arguments(sha, call)).await?;
            both.last().await
        });
        self.text(self.unless_closed(sent).await?)
    }

    /// Has any command carried out.
    ///
    /// # Errors
    /// As the server says.
    pub async fn command(
        &self,
        name: &'static str,
        arguments: Vec<Bytes>,
        within: Duration,
    ) -> Result<Reply, Failure> {
        let arguments = arguments.into_iter().map(Value::Bytes).collect();
        let sent = pin!(self.send(name, arguments, within));
        Ok(self.unless_closed(sent).await?.into())
    }

    /// Waits until the connection is lost, and says why.
    pub async fn closed(&self) -> Failure {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(failure)) => failure.clone(),
            // The task that tells ended without a word: the runtime is going down.
            Ok(None) | Err(_) => diagnosis::lost(&self.place, "the connection was closed"),
        }
    }

    /// Closes it now. What it still waits for fails at once, as
    /// [`Reset`](super::FailureClass::Reset).
    pub fn abort(&self) {
        self.task.abort();
    }

    async fn send(
        &self,
        name: &'static str,
        arguments: Vec<Value>,
        within: Duration,
    ) -> Result<Value, Error> {
        let client: WithOptions<Client> = self.client.with_options(&options(within));
        client.custom(command(name), arguments).await
    }

    /// A call's result, or why the connection was lost: what is sent on one that is lost would
    /// wait for its time limit. To drop it then is safe, for nobody will ever send it. (Pinned by
    /// the caller, since it is large and would be moved about otherwise.)
    async fn unless_closed(
        &self,
        sent: Pin<&mut impl Future<Output = Result<Value, Error>>>,
    ) -> Result<Value, Failure> {
        tokio::select! {
            biased;
            result = sent => result.map_err(|error| diagnosis::failed(&self.place, &error)),
            failure = self.closed() => Err(failure),
        }
    }

    fn text(&self, value: Value) -> Result<Bytes, Failure> {
        match Reply::from(value) {
            Reply::Text(text) => Ok(text),
            Reply::Nil | Reply::Number(_) | Reply::List(_) => Err(diagnosis::garbage(
                &self.place,
                "the script returns no string",
            )),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("place", &self.place)
            .field("end", &*self.end.borrow())
            .finish_non_exhaustive()
    }
}

fn command(name: &'static str) -> CustomCommand {
    // Which slot does not matter: the client knows one server only.
    CustomCommand::new_static(name, ClusterHash::Custom(0), false)
}

fn options(within: Duration) -> Options {
    Options {
        max_attempts: Some(1),
        // None at all to the library.
        timeout: Some(within.max(Duration::from_millis(1))),
        ..Options::default()
    }
}

fn arguments(sha: Bytes, call: &Call) -> Vec<Value> {
    let keys = call.keys();
    let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let mut arguments = Vec::with_capacity(keys.len().saturating_add(3));
    arguments.push(Value::Bytes(sha));
    arguments.push(Value::Integer(count));
    arguments.extend(keys.into_iter().map(Value::Bytes));
    arguments.push(Value::Bytes(Bytes::copy_from_slice(call.argument())));
    arguments
}
