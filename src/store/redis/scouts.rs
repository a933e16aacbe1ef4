//! Connections over which servers are asked where the keys are, kept from one look to the next.
//!
//! While a server is away its store is looked at several times a second by every replica; with a new
//! connection each time, the servers that are well would get a storm of them. A server that is slow is
//! connected to beside the looks, so that a later one hears it; there is one attempt at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{dial, in_time};
use super::{Access, Connection, Failure, FailureClass, Place};

/// Asks servers.
#[derive(Debug)]
pub(super) struct Scouts {
    within: Duration,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    open: HashMap<Place, Arc<Connection>>,
    /// Servers that are being asked.
    busy: HashSet<Place>,
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
        failures.max_by_key(importance)
    }
}

impl Scouts {
    /// Each server has as much time as `within` to be connected to and to answer.
    pub(super) fn new(within: Duration) -> Self {
        Self {
            within,
            shared: Arc::default(),
        }
    }

    /// Asks all places at once. Waits until all have answered or failed, but no longer than `late` after
    /// the first answer. A connection of before is used if `keep` says so.
    pub(super) async fn ask<T, F>(
        &self,
        places: &[Place],
        (access, keep): (impl Fn(&Place) -> Access, impl Fn(&Place) -> bool),
        late: Duration,
        ask: impl Fn(Place, Arc<Connection>) -> F + Clone + Send + Sync + 'static,
    ) -> Answers<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (tell, mut ended) = mpsc::unbounded_channel();
        for place in places {
            let known = {
                let mut shared = self.shared.lock();
                if !shared.busy.insert(place.clone()) {
                    continue;
                }
                match keep(place) {
                    true => shared.open.get(place).cloned(),
                    false => None,
                }
            };
            let (place, access, ask) = (place.clone(), access(place), ask.clone());
            let (within, shared, tell) = (self.within, Arc::clone(&self.shared), tell.clone());
            drop(tokio::spawn(async move {
                let asked = async {
                    if let Some(answer) = try_known(&place, known, &ask, within).await {
                        return answer;
                    }
                    let connection = Arc::new(Box::pin(dial(&place, &access, within)).await?);
                    let open = Arc::clone(&connection);
                    shared.lock().open.insert(place.clone(), open);
                    ask(place.clone(), connection).await
                };
                let answer = in_time(&place, &access, within, asked).await;
                {
                    let mut shared = shared.lock();
                    shared.busy.remove(&place);
                    if answer.as_ref().is_err_and(is_lost) {
                        shared.open.remove(&place);
                    }
                }
                // The look may be over.
                let _heard = tell.send((place, answer));
            }));
        }
        drop(tell);
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        let mut until: Option<Instant> = None;
        loop {
            let next = tokio::select! {
                biased;
                next = ended.recv() => next,
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => None,
            };
            match next {
                Some((place, Ok(answer))) => {
                    until.get_or_insert_with(|| Instant::now() + late);
                    answers.push((place, answer));
                }
                Some((place, Err(failure))) => failures.push((place, failure)),
                None => {
                    let mut shared = self.shared.lock();
                    shared.open.retain(|place, _| places.contains(place));
                    return Answers { answers, failures };
                }
            }
        }
    }
}

/// Asks a server over the connection of before; none if there is none, or it is of no use any more.
async fn try_known<T, F>(
    place: &Place,
    known: Option<Arc<Connection>>,
    ask: &(impl Fn(Place, Arc<Connection>) -> F + Sync),
    within: Duration,
) -> Option<Result<T, Failure>>
where
    F: Future<Output = Result<T, Failure>>,
{
    // It may be dead though nothing says so: most of the time is for a new one.
    let answer = timeout(within / 4, ask(place.clone(), known?)).await.ok()?;
    Some(answer).filter(|answer| !answer.as_ref().is_err_and(is_lost))
}

/// Whether it is the connection that failed, and not the server that said something.
const fn is_lost(failure: &Failure) -> bool {
    matches!(
        failure.class,
        FailureClass::Timeout | FailureClass::Reset | FailureClass::Refused
    )
}

/// How much a failure says: that nothing was there says the least, and what can be put right the most.
fn importance(failure: &Failure) -> u8 {
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
