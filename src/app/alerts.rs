//! Alerts of the running service: looked at once a second, and told to whoever wants to know.
//!
//! One task on the main runtime reads counts and levels, steps the [`Watch`] and passes on what it
//! says: to the log, the metrics, the history that `/alerts` shows, and two channels. Neither can
//! hold it up. One is for those who want every transition (the history in the store); who falls behind by
//! more than [`MOST_UNHEARD`] misses the oldest. The other is for those who tell an Alertmanager
//! how things stand ([`Latest`]): it holds the last transition of each alert and nothing else, so
//! what is not taken in time is overwritten, and nothing grows.
//!
//! Settings are read anew each second, so a reload needs to tell nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::alertmanager::{ClientError, Poster, Teller};
use super::configure;
use crate::alert::{Alert, Counts, History, Levels, Overview, Sample, State, Transition, Watch};
use crate::clock::{Clock, Timestamp};
use crate::config::settings::Settings;
use crate::event::{AlertChanged, AlertState};
use crate::store::Store;
use crate::telemetry;
use crate::transport::listener::Address;

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Alerts {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What alerts are judged by.
pub(super) struct Sources {
    /// The settings in force.
    pub(super) settings: Arc<ArcSwap<Settings>>,
    /// What stamps transitions.
    pub(super) clock: Clock,
    /// What was counted so far.
    pub(super) counts: Box<dyn Fn() -> Counts + Send + Sync>,
    /// How things stand.
    pub(super) levels: Box<dyn Fn() -> Levels + Send + Sync>,
    /// Where transitions are counted.
    pub(super) telemetry: Arc<telemetry::Alerts>,
}

/// The last transition of each alert, by [`Alert::index`]; none before the first.
pub(super) type Latest = [Option<Transition>; Alert::ALL.len()];

struct Shared {
    sources: Sources,
    board: Mutex<Board>,
    told: broadcast::Sender<Transition>,
    latest: watch::Sender<Latest>,
}

#[derive(Debug)]
struct Board {
    /// When it was looked at last.
    at: Timestamp,
    watch: Watch,
    history: History,
}

impl Alerts {
    /// Watches from now on, on this runtime.
    pub(super) fn start(sources: Sources) -> Self {
        let config = configure::alerts(&sources.settings.load());
        let shared = Arc::new(Shared {
            sources,
            board: Mutex::new(Board {
                at: Timestamp::default(),
                watch: Watch::new(config),
                history: History::default(),
            }),
            told: broadcast::Sender::new(MOST_UNHEARD),
            latest: watch::Sender::new(Latest::default()),
        });
        let task = tokio::spawn(run(Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Has every transition from now on told in the store as well. What finds no room in `to` is not.
    pub(super) fn tell_fleet(&self, to: mpsc::Sender<AlertChanged>) {
        tokio::spawn(pass_on(self.listen(), to));
    }

    /// Every transition from now on.
    fn listen(&self) -> broadcast::Receiver<Transition> {
        self.shared.told.subscribe()
    }

    /// Has every Alertmanager of the settings told, as long as this watches. `http` is where this
    /// replica listens, which names it.
    ///
    /// # Errors
    /// If TLS is asked for and cannot be set up.
    pub(super) fn tell_alertmanagers(&self, http: &Address) -> Result<(), ClientError> {
        let Sources {
            settings,
            clock,
            telemetry,
            ..
        } = &self.shared.sources;
        let settings = settings.load();
        if let Some(urls) = &settings.alerts.alertmanager_url {
            let poster = Poster::new(clock, telemetry, http, urls)?;
            for url in urls.iter() {
                let teller = Teller::new(poster.clone(), url);
                tokio::spawn(teller.run(self.shared.latest.subscribe()));
            }
        }
        Ok(())
    }

    /// What operators are shown.
    pub(super) fn overview(&self) -> impl Fn() -> Overview + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let board = shared.board.lock();
            Overview {
                at: board.at,
                readings: board.watch.readings(),
                history: board.history.newest_first().copied().collect(),
            }
        }
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until nobody watches or nobody listens any more.
async fn pass_on(mut told: broadcast::Receiver<Transition>, to: mpsc::Sender<AlertChanged>) {
    loop {
        let transition = match told.recv().await {
            Ok(transition) => transition,
            // The oldest are gone; what is there now follows.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        if let Err(TrySendError::Closed(_)) = to.try_send(changed(&transition)) {
            return;
        }
    }
}

fn changed(transition: &Transition) -> AlertChanged {
    let alert = transition.alert;
    AlertChanged {
        alert: alert.name(),
        state: match transition.state {
            State::Firing => AlertState::Firing,
            State::Resolved => AlertState::Resolved,
        },
        severity: alert.severity().name(),
        value: transition.value,
        threshold: transition.threshold,
        at_ms: transition.at.as_millis(),
    }
}

async fn run(shared: Arc<Shared>) {
    let start = Instant::now();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        seconds.tick().await;
        // A mistake in what is read must not end the watch over everything else.
        let round = catch_unwind(AssertUnwindSafe(|| shared.look(start.elapsed())));
        if round.is_err() && !failed {
            failed = true;
            error!("alerts could not be looked at; this is a bug in Tollgate, please report it");
        }
    }
}

impl Shared {
    fn look(&self, now: Duration) {
        let sources = &self.sources;
        let config = configure::alerts(&sources.settings.load());
        let sample = Sample {
            at: sources.clock.now(),
            counts: (sources.counts)(),
            levels: (sources.levels)(),
        };
        let (transitions, readings) = {
            let mut board = self.board.lock();
            board.at = sample.at;
            board.watch.configure(config);
            let transitions = board.watch.step(now, &sample);
            for transition in &transitions {
                board.history.push(*transition);
            }
            (transitions, board.watch.readings())
        };
        sources.telemetry.measured(&readings);
        for transition in &transitions {
            sources.telemetry.changed(transition);
            log(transition);
            // Nobody may be listening.
            let _listeners = self.told.send(*transition);
        }
        self.latest.send_if_modified(|latest| {
            for transition in &transitions {
                if let Some(last) = latest.get_mut(transition.alert.index()) {
                    *last = Some(*transition);
                }
            }
            !transitions.is_empty()
        });
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("board", &self.board)
            .finish_non_exhaustive()
    }
}

fn log(transition: &Transition) {
    let Transition {
        alert,
        value,
        threshold,
        ..
    } = *transition;
    let (name, severity) = (alert.name(), alert.severity().name());
    let store = transition.store.map(|store| store.name());
    match transition.state {
        State::Firing => warn!(
            alert = name,
            severity,
            value,
            threshold,
            unit = alert.unit(),
            store,
            "{}",
            alert.summary()
        ),
        State::Resolved => info!(
            alert = name,
            severity,
            value,
            threshold,
            unit = alert.unit(),
            store,
            "the alert is over"
        ),
    }
}

/// How things stand with the store now. A store that lets a few calls through to find out whether it
/// is back is not back yet.
pub(super) fn levels(store: &Store) -> Levels {
    let mut levels = Levels::default();
    let Store::Shared(shared) = store else {
        return levels;
    };
    for (down, sample) in levels.down.iter_mut().zip(shared.last()) {
        if let Some(sample) = sample {
            *down = sample.away_now;
            levels.queue = levels.queue.max(sample.queue.utilization);
        }
    }
    levels
}

/// Transitions that a listener may not have taken yet.
const MOST_UNHEARD: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::timeout;

    use super::*;
    use crate::config::settings::Span;
    use crate::event::DecidedBy;

    /// A watch over a service all of whose calls are refused; what is done in the second look.
    fn watch_over(second: fn()) -> Alerts {
        let looks = AtomicU64::new(0);
        let counts = move || {
            let looked = looks.fetch_add(1, Ordering::Relaxed);
            if looked == 1 {
                second();
            }
            Counts {
                refused: 100 * looked,
                ..Counts::default()
            }
        };
        let mut settings = Settings::default();
        settings.alerts.hold = Span::from_secs(0);
        let telemetry = telemetry::Telemetry::new(Clock::system(), DecidedBy::Memory);
        Alerts::start(Sources {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            clock: Clock::manual(Timestamp::from_millis(7_000)),
            counts: Box::new(counts),
            levels: Box::new(Levels::default),
            telemetry: Arc::clone(telemetry.unwrap().alerts()),
        })
    }

    async fn hear(from: &mut broadcast::Receiver<Transition>) -> Option<Transition> {
        let heard = timeout(Duration::from_secs(20), from.recv()).await;
        heard.expect("nothing is told").ok()
    }

    #[tokio::test]
    async fn what_fires_is_told_to_whoever_listens_and_shown_to_the_rest() {
        let alerts = watch_over(|| {});
        let (mut heard, latest) = (alerts.listen(), alerts.shared.latest.subscribe());
        let _deaf = alerts.listen();
        let told = hear(&mut heard).await.unwrap();
        assert_eq!((told.alert, told.state), (Alert::ErrorRate, State::Firing));
        assert_eq!(told.at, Timestamp::from_millis(7_000));
        assert_eq!(latest.borrow()[Alert::ErrorRate.index()], Some(told));
        assert_eq!(alerts.overview()().history, [told]);
    }

    #[tokio::test]
    async fn the_fleet_is_told_and_need_not_listen() {
        let alerts = watch_over(|| {});
        let (full, mut taken) = mpsc::channel(1);
        let (gone, _) = mpsc::channel(1);
        alerts.tell_fleet(gone);
        alerts.tell_fleet(full);
        let told = timeout(Duration::from_secs(20), taken.recv()).await;
        let told = told.expect("nothing is told").unwrap();
        assert_eq!((told.alert, told.severity), ("error_rate", "critical"));
        assert_eq!(told.state, AlertState::Firing);
        assert!(told.value > told.threshold && told.at_ms == 7_000);
    }

    #[tokio::test]
    async fn a_mistake_in_what_is_read_does_not_end_the_watch() {
        let alerts = watch_over(|| panic!("a mistake"));
        let told = hear(&mut alerts.listen()).await.unwrap();
        assert_eq!((told.alert, told.state), (Alert::ErrorRate, State::Firing));
    }

    #[tokio::test]
    async fn nobody_watches_when_it_is_dropped() {
        let alerts = watch_over(|| {});
        let mut heard = alerts.listen();
        drop(alerts);
        assert_eq!(hear(&mut heard).await, None);
    }
}
