//! Threads, connections and calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::plan::Plan;
use super::tally::Tally;
use super::wire::{Connection, Reply};

/// A load.
#[derive(Debug)]
pub(super) struct Load {
    /// Whom to ask: `host:port` or `unix:/path`.
    pub(super) addr: String,
    pub(super) plan: Plan,
    /// Calls a second; none: as many as are answered.
    pub(super) rate: Option<u32>,
    pub(super) connections: usize,
    /// Calls under way on each connection.
    pub(super) in_flight: usize,
    pub(super) threads: usize,
    pub(super) duration: Duration,
    /// The calls after which it is over in any case; none: only time counts.
    pub(super) calls: Option<u64>,
    /// After this a call has come to nothing.
    pub(super) timeout: Duration,
}

/// What the calls of a thread share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    timeout: Duration,
    tally: Mutex<Tally>,
    ended: Arc<AtomicBool>,
    /// Calls that may still be made, by all threads together; none: any number.
    left: Option<Arc<AtomicU64>>,
}

/// The threads at work, and how the last one says that it has ended.
#[derive(Debug)]
struct Running {
    threads: AtomicUsize,
    ended: Notify,
}

impl Running {
    fn one_ended(&self) {
        self.threads.fetch_sub(1, Ordering::Relaxed);
        self.ended.notify_one();
    }
}

impl Load {
    /// Asks until the time is over or Ctrl-C, and tells each second what came of it since it was
    /// told last. How long it took, and what came of it in all.
    pub(super) fn run(
        &self,
        mut each_second: impl FnMut(&Tally),
    ) -> Result<(Duration, Tally), String> {
        let ended = Arc::new(AtomicBool::new(false));
        let left = self.calls.map(|calls| Arc::new(AtomicU64::new(calls)));
        let threads: Vec<Arc<Shared>> = (0..self.threads)
            .map(|_| self.shared(&ended, left.as_ref()))
            .collect::<Result<_, String>>()?;
        let running = Running {
            threads: AtomicUsize::new(self.threads),
            ended: Notify::new(),
        };
        let mut total = Tally::new()?;
        let mut collect = || {
            let mut last = Tally::new()?;
            for thread in &threads {
                last.add(&thread.tally.lock().take());
            }
            total.add(&last);
            Ok::<Tally, String>(last)
        };
        let started = Instant::now();
        let (sent, waited) = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..)
                .zip(&threads)
                .map(|(index, shared)| {
                    let running = &running;
                    scope.spawn(move || {
                        let done = super::super::block_on(self.work(index, shared));
                        running.one_ended();
                        done.map_err(|error| format!("a thread cannot ask: {error}"))
                    })
                })
                .collect();
            let mut tell = || collect().map(|last| each_second(&last));
            let waited = super::super::block_on(self.wait(&running, &mut tell));
            let took = started.elapsed();
            ended.store(true, Ordering::Relaxed);
            let done: Result<Vec<()>, String> = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(PANICKED.to_owned())))
                .collect();
            (done.map(|_| took), waited)
        });
        let took = sent?;
        waited.map_err(|error| error.to_string())??;
        collect()?;
        Ok((took, total))
    }

    fn shared(
        &self,
        ended: &Arc<AtomicBool>,
        left: Option<&Arc<AtomicU64>>,
    ) -> Result<Arc<Shared>, String> {
        Ok(Arc::new(Shared {
            plan: self.plan.clone(),
            timeout: self.timeout,
            tally: Mutex::new(Tally::new()?),
            ended: Arc::clone(ended),
            left: left.map(Arc::clone),
        }))
    }

    /// Waits for the end, and collects each second.
    async fn wait(
        &self,
        running: &Running,
        tell: &mut impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        // None: longer than clocks go.
        let end = Instant::now().checked_add(self.duration);
        let is_over = || end.is_some_and(|end| Instant::now() >= end);
        let mut next = Instant::now() + SECOND;
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        while !is_over() && running.threads.load(Ordering::Relaxed) > 0 {
            tokio::select! {
                () = sleep_until(end.map_or(next, |end| next.min(end))) => {}
                () = running.ended.notified() => {}
                _ = &mut stop => return Ok(()),
            }
            if Instant::now() >= next {
                next += SECOND;
                tell()?;
            }
        }
        Ok(())
    }

    /// What a thread does: its part of the connections, and of the rate.
    async fn work(&self, index: usize, shared: &Arc<Shared>) {
        let connections: Vec<Arc<Connection>> = (0..self.connections)
            .filter(|connection| connection % self.threads == index)
            .map(|_| Arc::new(Connection::new(&self.addr)))
            .collect();
        let mut calls = JoinSet::new();
        match self.rate {
            None => {
                for connection in &connections {
                    for _ in 0..self.in_flight {
                        let (shared, connection) = (Arc::clone(shared), Arc::clone(connection));
                        calls.spawn(async move { shared.ask_on(&connection).await });
                    }
                }
            }
            Some(rate) => {
                let rate = f64::from(rate) / f64::from(u32::try_from(self.threads).unwrap_or(1));
                let most = connections.len().saturating_mul(self.in_flight);
                shared.pace(rate, most, &connections, &mut calls).await;
            }
        }
        while calls.join_next().await.is_some() {}
    }
}

impl Shared {
    /// Asks one call after the other, until the end.
    async fn ask_on(&self, connection: &Connection) {
        while self.may_call() {
            if !self.ask(connection, Instant::now()).await {
                // What refuses at once is not asked a million times a second.
                sleep(AFTER_AN_ERROR).await;
            }
        }
    }

    /// Asks so many calls a second, whether or not they are answered.
    async fn pace(
        self: &Arc<Self>,
        rate: f64,
        most: usize,
        connections: &[Arc<Connection>],
        calls: &mut JoinSet<()>,
    ) {
        let under_way = Arc::new(AtomicUsize::new(0));
        let mut connections = connections.iter().cycle();
        let mut due = beats(rate, &self.ended);
        while let Some(due) = due.recv().await {
            let Some(connection) = connections.next().map(Arc::clone) else {
                return;
            };
            if under_way.load(Ordering::Relaxed) >= most {
                let mut tally = self.tally.lock();
                tally.unsent = tally.unsent.saturating_add(1);
                continue;
            }
            if !self.may_call() {
                return;
            }
            under_way.fetch_add(1, Ordering::Relaxed);
            let (shared, under_way) = (Arc::clone(self), Arc::clone(&under_way));
            calls.spawn(async move {
                shared.ask(&connection, due).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
            });
            while calls.try_join_next().is_some() {}
        }
    }

    /// Whether there is time for a call, and one left to be made; if so, that one is taken.
    fn may_call(&self) -> bool {
        if self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let Some(left) = &self.left else {
            return true;
        };
        let one_less = |left: u64| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    /// Asks one call that was due then; whether it was answered.
    async fn ask(&self, connection: &Connection, due: Instant) -> bool {
        let asked = connection.ask(self.plan.request(), self.timeout);
        let reply = timeout(self.timeout, asked).await;
        let took = due.elapsed();
        let mut tally = self.tally.lock();
        match reply {
            Ok(Ok(reply)) => {
                tally.answered(took, reply == Reply::OverLimit);
                true
            }
            Ok(Err(why)) => {
                tally.failed(&why);
                false
            }
            Err(_elapsed) => {
                tally.failed("no answer in time");
                false
            }
        }
    }
}

/// The instants at which calls are due, so many a second, until the end. They come from a thread
/// of their own: the runtime's timer has a resolution of a millisecond.
#[expect(clippy::disallowed_methods, reason = "it is no thread of a runtime")]
fn beats(rate: f64, ended: &Arc<AtomicBool>) -> mpsc::UnboundedReceiver<Instant> {
    let (beat, beats) = mpsc::unbounded_channel();
    let ended = Arc::clone(ended);
    let start = Instant::now();
    std::thread::spawn(move || {
        for number in 0.. {
            let Some(next) = start.checked_add(time_of(number, rate)) else {
                return;
            };
            let wait = next.saturating_duration_since(Instant::now());
            if wait > LEAST_SLEEP {
                std::thread::sleep(wait);
            }
            if ended.load(Ordering::Relaxed) || beat.send(next).is_err() {
                return;
            }
        }
    });
    beats
}

/// When the call of this number is due, from the start. A day has more calls than a u32 counts to.
#[expect(clippy::cast_precision_loss, reason = "exact for a century of calls")]
fn time_of(number: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX)
}

const SECOND: Duration = Duration::from_secs(1);

/// To sleep for less takes longer than to go on.
const LEAST_SLEEP: Duration = Duration::from_micros(50);

const AFTER_AN_ERROR: Duration = Duration::from_millis(10);

const PANICKED: &str = "a thread has panicked; this is a bug in tollgate, please report it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_load_keeps_its_rate() {
        let calls = 100_000 * 86_400;
        assert_eq!(time_of(calls, 100_000.0), Duration::from_secs(86_400));
        let next = time_of(calls + 1, 100_000.0);
        assert_eq!((next - time_of(calls, 100_000.0)).as_micros(), 10);
        assert_eq!(time_of(u64::MAX, f64::MIN_POSITIVE), Duration::MAX);
    }

    #[tokio::test]
    async fn beats_come_at_their_rate_and_end() {
        let ended = Arc::new(AtomicBool::new(false));
        let mut beats = beats(1_000.0, &ended);
        let first = beats.recv().await.unwrap();
        for number in 1..50 {
            let next = beats.recv().await.unwrap();
            assert_eq!((next - first).as_micros().div_ceil(1_000), number);
        }
        ended.store(true, Ordering::Relaxed);
        while beats.recv().await.is_some() {}
    }
}
