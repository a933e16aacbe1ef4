//! Tells stalls of the machine from those of what runs on it.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

/// A thread that wants to run each millisecond and writes down when it could not.
#[derive(Debug)]
pub(super) struct Ticker {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Stalls>,
}

/// When the ticker ran late, so that nothing else may have run in time either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stalls {
    /// Ticks that came more than [`LATE`] late.
    pub(super) count: u32,
    pub(super) longest: Duration,
}

impl Ticker {
    pub(super) fn start() -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut stalls = Stalls::default();
            loop {
                let asleep = Instant::now();
                if stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Disconnected) {
                    return stalls;
                }
                stalls.tick(asleep.elapsed());
            }
        });
        Self { stop, thread }
    }

    pub(super) fn stop(self) -> Stalls {
        drop(self.stop);
        self.thread.join().expect("the ticker does not panic")
    }
}

impl Stalls {
    fn tick(&mut self, slept: Duration) {
        let late = slept.saturating_sub(TICK);
        if late > LATE {
            self.count += 1;
            self.longest = self.longest.max(late);
        }
    }
}

const TICK: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(5);

#[test]
fn only_late_ticks_are_stalls() {
    let mut stalls = Stalls::default();
    for slept in [1, 2, 6, 7, 31, 1] {
        stalls.tick(Duration::from_millis(slept));
    }
    let longest = Duration::from_millis(30);
    assert_eq!(stalls, Stalls { count: 2, longest });
}
