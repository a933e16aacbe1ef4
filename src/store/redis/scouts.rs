//! Connections over which servers are asked where the keys are, kept from one look to the next.
//!
//! While a server is away its store is looked at several times a second by every replica; with a new
//! connection each time, the servers that are well would get a storm of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::connect::{dial, in_time};
use super::{Access, Connection, Failure, FailureClass, Place};

/// Asks servers.
#[derive(Debug)]
pub(super) struct Scouts {
    within: Duration,
    open: HashMap<Place, Arc<Connection>>,
}

/// What servers said.
#[derive(Debug)]
pub(super) struct Answers<T> {
    pub(super) answers: Vec<(Place, T)>,
    pub(super) failures: Vec<(Place, Failure)>,
}

impl<T> Answers<T> {
    /// What kept servers from answering: of several failures the one that says most.
    pub(super) fn into_failure(self) -> Option<Failure> {
        let failures = self.failures.into_iter().map(|(_, failure)| failure);
        failures.max_by_key(telling)
    }
}

impl Scouts {
    /// Each server has as much time as `within` to be connected to and to answer.
    pub(super) fn new(within: Duration) -> Self {
        Self {
            within,
            open: HashMap::new(),
        }
    }

    /// Asks all places at once. Waits until all have answered or failed, but no longer than `late` after
    /// the first answer.
    pub(super) async fn ask<T, F>(
        &mut self,
        places: &[Place],
        access: impl Fn(&Place) -> Access,
        late: Duration,
        ask: impl Fn(Place, Arc<Connection>) -> F + Clone + Send + Sync + 'static,
    ) -> Answers<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.open.retain(|place, _| places.contains(place));
        let (mut asked, within) = (JoinSet::new(), self.within);
        for place in places {
            let (place, ask, access) = (place.clone(), ask.clone(), access(place));
            let known = self.open.get(&place).cloned();
            asked.spawn(async move {
                let all = async {
                    // The server may have closed one that was idle.
                    if let Some(connection) = known
                        && let Ok(answer) = ask(place.clone(), Arc::clone(&connection)).await
                    {
                        return Ok((connection, answer));
                    }
                    let connection = Arc::new(Box::pin(dial(&place, &access, within)).await?);
                    let answer = ask(place.clone(), Arc::clone(&connection)).await?;
                    Ok((connection, answer))
                };
                let answer = in_time(&place, &access, within, all).await;
                (place, answer)
            });
        }
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        let mut until: Option<Instant> = None;
        loop {
            let ended = tokio::select! {
                biased;
                ended = asked.join_next() => ended,
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => None,
            };
            match ended {
                Some(Ok((place, Ok((connection, answer))))) => {
                    until.get_or_insert_with(|| Instant::now() + late);
                    self.open.insert(place.clone(), connection);
                    answers.push((place, answer));
                }
                Some(Ok((place, Err(failure)))) => {
                    self.open.remove(&place);
                    failures.push((place, failure));
                }
                Some(Err(_runtime_ends)) => {}
                None => return Answers { answers, failures },
            }
        }
    }
}

/// How much a failure says: that nothing was there says the least, and what can be put right the most.
fn telling(failure: &Failure) -> u8 {
    match failure.class {
        FailureClass::Timeout => 0,
        FailureClass::Refused | FailureClass::Reset => 1,
        FailureClass::Loading | FailureClass::ClusterDown => 2,
        FailureClass::MisConfigured => 3,
        _ => 4,
    }
}

/// How long to wait for slower servers once one has answered. A stale one may be the fastest.
pub(super) const LATE: Duration = Duration::from_millis(200);
