//! Long background work in short slices, so that a query waits for one slice at most.
//!
//! Reading and compiling 100,000 rules takes half a second of CPU. [`in_slices`] runs such work on
//! the calling thread and pauses it at the pause points that the work's loops have ([`step`],
//! [`PauseOnDrop`]): after each slice the thread sleeps as long. The work gets half a core at most, and
//! a third or so where all are busy; a thread that answers queries waits for a slice, not for the
//! work. `docs/decisions/0015-background-work.md` has the reasons and the figures.
//!
//! The pacer is a thread-local, so loops in `config`, `policy` and `provider` need no argument for it. On
//! threads without one (at start, for `SIGHUP`, in the command line tools) a pause point costs a nanosecond.

use std::cell::Cell;
use std::panic::Location;
use std::time::Duration;

use crate::clock::Stopwatch;

/// Runs `work` on this thread in slices. Blocks, and takes at least twice as long as the work alone.
pub fn in_slices<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    let running = Running::start(Pacer::new());
    let result = work();
    running.pacer().log(name);
    result
}

/// A pause point: the caller has done `units` of work since the last one. A unit is about half a
/// microsecond: a YAML event, an allocation or two with what fills them, 64 characters.
#[inline]
#[track_caller]
pub fn step(units: u32) {
    pass(units, Location::caller());
}

#[inline]
fn pass(units: u32, caller: &'static Location<'static>) {
    #[cfg(test)]
    counting::count(units, caller);
    // Gone while the thread ends: then there is no pacer either.
    let is_due = LEFT.try_with(|left| match left.get().checked_sub(units) {
        Some(rest @ 1..) => {
            left.set(rest);
            false
        }
        Some(0) | None => true,
    });
    if is_due == Ok(true) {
        check(caller);
    }
}

/// Visits each item of `items` with a pause point at it: for iterators over 100,000 things.
#[track_caller]
pub fn each<T>(items: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let caller = Location::caller();
    items.into_iter().inspect(move |_| pass(1, caller))
}

/// A field of what there are 100,000 of: dropping its owner is a pause point, so that dropping all of
/// them is no single stretch of work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PauseOnDrop;

impl Drop for PauseOnDrop {
    fn drop(&mut self) {
        step(1);
    }
}

thread_local! {
    /// Units until the clock is looked at.
    static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    static PACER: Cell<Option<Pacer>> = const { Cell::new(None) };
}

/// Looks at the clock, and pauses if the slice is over.
#[cold]
fn check(caller: &'static Location<'static>) {
    let Some(mut pacer) = PACER.get() else {
        LEFT.set(u32::MAX);
        return;
    };
    let now = pacer.watch.elapsed();
    pacer.note_stretch(now, caller);
    if let Some(pause) = pacer.slices.pause_at(now) {
        sleep(pause);
        pacer.slices.resume_at(pacer.watch.elapsed());
    }
    pacer.checked_at = pacer.watch.elapsed();
    PACER.set(Some(pacer));
    LEFT.set(UNITS_PER_CHECK);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the thread has been given to work that may block"
)]
fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}

/// A pacer in place; when dropped, the one that was there before is back.
struct Running {
    before: Option<Pacer>,
}

impl Running {
    fn start(pacer: Pacer) -> Self {
        LEFT.set(UNITS_PER_CHECK);
        Self {
            before: PACER.replace(Some(pacer)),
        }
    }

    fn pacer(&self) -> Pacer {
        PACER.get().unwrap_or_else(Pacer::new)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        PACER.set(self.before);
        LEFT.set(UNITS_PER_CHECK);
    }
}

/// The shell around [`Slices`]: knows the time, and keeps figures for the log.
#[derive(Clone, Copy, Debug)]
struct Pacer {
    watch: Stopwatch,
    slices: Slices,
    checked_at: Duration,
    longest_stretch: Duration,
    /// The pause point at the end of that stretch.
    longest_at: Option<&'static Location<'static>>,
}

impl Pacer {
    fn new() -> Self {
        Self {
            watch: Stopwatch::start(),
            slices: Slices::new(),
            checked_at: Duration::ZERO,
            longest_stretch: Duration::ZERO,
            longest_at: None,
        }
    }

    fn note_stretch(&mut self, now: Duration, caller: &'static Location<'static>) {
        let stretch = now.saturating_sub(self.checked_at);
        if stretch > self.longest_stretch {
            self.longest_stretch = stretch;
            self.longest_at = Some(caller);
        }
    }

    fn log(&self, work: &str) {
        tracing::debug!(
            work,
            elapsed = ?self.watch.elapsed(),
            slices = self.slices.count,
            running = ?self.slices.running,
            longest_stretch = ?self.longest_stretch,
            at = self.longest_at.map(tracing::field::display),
            "background work done"
        );
    }
}

/// When to pause, and for how long. Time is an argument, counted from the start of the work.
#[derive(Clone, Copy, Debug)]
struct Slices {
    began: Duration,
    paused_at: Duration,
    length: Duration,
    count: u32,
    running: Duration,
}

impl Slices {
    const fn new() -> Self {
        Self {
            began: Duration::ZERO,
            paused_at: Duration::ZERO,
            length: SHORTEST_SLICE,
            count: 1,
            running: Duration::ZERO,
        }
    }

    /// How long to pause now; not at all while the slice lasts.
    fn pause_at(&mut self, now: Duration) -> Option<Duration> {
        let ran = now.saturating_sub(self.began);
        if ran < self.length {
            return None;
        }
        self.running = self.running.saturating_add(ran);
        self.paused_at = now;
        Some(PAUSE)
    }

    /// Begins the next slice. Where all cores are busy, a thread that wakes up waits for one, sometimes for
    /// milliseconds: the longer the others have had the core meanwhile, the longer is the slice.
    fn resume_at(&mut self, now: Duration) {
        let paused = now.saturating_sub(self.paused_at);
        self.length = paused.clamp(SHORTEST_SLICE, LONGEST_SLICE);
        self.began = now;
        self.count = self.count.saturating_add(1);
    }
}

/// How long the thread sleeps after a slice.
const PAUSE: Duration = Duration::from_micros(250);

const SHORTEST_SLICE: Duration = Duration::from_micros(250);

/// What a query may have to wait for.
const LONGEST_SLICE: Duration = Duration::from_millis(1);

/// About 30 microseconds: short beside a slice, and long beside a look at the clock.
const UNITS_PER_CHECK: u32 = 64;

#[cfg(test)]
pub(crate) mod counting;

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    #[test]
    fn a_slice_lasts_its_time_and_a_pause_as_long() {
        let mut slices = Slices::new();
        assert_eq!(slices.pause_at(SHORTEST_SLICE - MICRO), None);
        assert_eq!(slices.pause_at(SHORTEST_SLICE), Some(PAUSE));
        assert_eq!(PAUSE, SHORTEST_SLICE);
    }

    /// The share of the time that the work gets when each pause lasts so much longer than it should.
    fn share(late: Duration) -> f64 {
        let mut slices = Slices::new();
        let (mut now, mut running) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..100 {
            let began = now;
            let pause = loop {
                now += 30 * MICRO;
                if let Some(pause) = slices.pause_at(now) {
                    break pause;
                }
            };
            assert!(
                now - began < LONGEST_SLICE + 30 * MICRO,
                "{:?}",
                now - began
            );
            running += now - began;
            now += pause + late;
            slices.resume_at(now);
        }
        running.as_secs_f64() / now.as_secs_f64()
    }

    #[test]
    fn work_gets_its_share_also_where_a_core_is_waited_for() {
        for late in [0, 250, 500, 700] {
            let share = share(late * MICRO);
            assert!((0.45..0.56).contains(&share), "{late} us late: {share}");
        }
        // Bounded slices: then the work gets less, and queries wait no longer.
        assert!(share(2_000 * MICRO) > 0.3);
        assert!(share(9_000 * MICRO) > 0.09);
    }

    #[test]
    fn a_thread_has_a_pacer_only_while_its_work_runs() {
        let paced = || PACER.get().is_some();
        assert!(!paced());
        assert!(in_slices("outer", || in_slices("inner", paced) && paced()));
        assert!(!paced());
        let panicked = catch_unwind(|| in_slices("panics", || panic!("on purpose")));
        assert!(panicked.is_err() && !paced());
    }

    #[test]
    fn the_clock_is_looked_at_after_so_many_units() {
        in_slices("counts", || {
            step(UNITS_PER_CHECK - 1);
            assert_eq!(LEFT.get(), 1);
            step(1);
            assert_eq!(LEFT.get(), UNITS_PER_CHECK);
            step(u32::MAX);
            assert_eq!(LEFT.get(), UNITS_PER_CHECK);
        });
        step(u32::MAX);
        assert_eq!(
            LEFT.get(),
            u32::MAX,
            "no pacer: no look at the clock for long"
        );
    }

    #[test]
    fn dropping_is_a_pause_point() {
        let many: Vec<PauseOnDrop> = vec![PauseOnDrop; 100];
        let ((), counts) = counting::counted(|| drop(many));
        assert_eq!(counts.by_file.values().sum::<u64>(), 100);
    }
}
