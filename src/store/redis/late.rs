//! Answers that come after their deadline.
//!
//! A part of a denied query that was charged has to be given back, however late the answer is. So a call that
//! carries such a part is waited for longer, by [`HEARD_WITHIN`], in a task of its own. For its callers and the breaker it has failed at
//! its deadline. Unlike other calls it may be sent although its time is over, if the socket was so full that it had
//! to wait; what else it carries is then charged in Redis, and decided here, too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::queue::Waiting;
use super::{Failure, Place, decode, diagnosis};
use crate::model::{Check, Decision};

/// Where the late answer to a query goes.
#[derive(Clone, Debug)]
pub(crate) struct LateReply(Arc<Mutex<Option<oneshot::Sender<Decision>>>>);

impl LateReply {
    /// The receiver gets an answer that comes after its deadline, and an error if there is none.
    pub(crate) fn channel() -> (Self, oneshot::Receiver<Decision>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    pub(super) fn send(&self, decision: Decision) {
        if let Some(sender) = self.0.lock().take() {
            let _gone = sender.send(decision);
        }
    }
}

/// The queries of each of some calls, and where their late answers go.
pub(super) struct LateReplies(Vec<Vec<Query>>);

type Query = (Arc<[Check]>, Option<LateReply>);

impl LateReplies {
    /// None if no query of these calls needs a late answer.
    pub(super) fn of<'w>(calls: impl Iterator<Item = &'w [Waiting]> + Clone) -> Option<Self> {
        let mut all = calls.clone().flatten();
        if !all.any(|waiting| waiting.work.late.is_some()) {
            return None;
        }
        let query = |waiting: &Waiting| {
            let work = &waiting.work;
            (Arc::clone(&work.checks), work.late.clone())
        };
        Some(Self(
            calls
                .map(|batch| batch.iter().map(query).collect())
                .collect(),
        ))
    }

    /// Returns the results of the calls that `sent` makes, each failed if they take longer than `within`; then the late
    /// answers are passed on when they come.
    pub(super) async fn in_time(
        self,
        place: &Place,
        within: Duration,
        sent: impl Future<Output = Vec<Result<Bytes, Failure>>> + Send + 'static,
    ) -> Vec<Result<Bytes, Failure>> {
        let mut sent = tokio::spawn(sent);
        let calls = self.0.len();
        match timeout(within, &mut sent).await {
            Ok(Ok(results)) => return results,
            Ok(Err(_aborted)) => {
                let lost = diagnosis::lost(place, "the connection was closed");
                return vec![Err(lost); calls];
            }
            Err(_elapsed) => {}
        }
        drop(tokio::spawn(async move {
            // It has ended if this fails.
            if let Ok(results) = sent.await {
                self.pass_on(results);
            }
        }));
        vec![Err(diagnosis::timed_out(place)); calls]
    }

    fn pass_on(self, results: Vec<Result<Bytes, Failure>>) {
        for (queries, result) in self.0.into_iter().zip(results) {
            let checks = queries.iter().map(|(checks, _)| &**checks);
            let decided = result.ok().and_then(|reply| decode(&reply, checks).ok());
            for ((_, late), decision) in queries.iter().zip(decided.into_iter().flatten()) {
                if let Some(late) = late {
                    late.send(decision);
                }
            }
        }
    }
}

/// How long after its deadline a late answer is waited for.
pub(super) const HEARD_WITHIN: Duration = Duration::from_secs(1);
