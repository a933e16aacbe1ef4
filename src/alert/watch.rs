//! All alerts together.

use std::time::Duration;

use super::latch::{Latch, Patience, Turn};
use super::measure::{Measured, measure};
use super::window::Window;
use super::{Alert, Sample};
use crate::clock::Timestamp;
use crate::event::StoreName;

/// When to alarm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Above which value each alert fires, by [`Alert::index`] and in [`Alert::unit`]; none if it
    /// is off.
    pub thresholds: [Option<f64>; Alert::ALL.len()],
    /// Shares, percentiles and trips are of this long.
    pub window: Duration,
    /// A value has to be above for this long. Not those of which one look is enough: trips and
    /// unknown domains, which a window counts, and a store that is down, whose value is a time
    /// already.
    pub hold: Duration,
    /// A value has to be well below for this long until an alert is resolved.
    pub keep: Duration,
    /// Shares and percentiles of fewer calls in the window are not judged.
    pub min_calls: u64,
}

impl Config {
    /// Above which value an alert fires, if it does at all.
    #[must_use]
    pub fn threshold(&self, alert: Alert) -> Option<f64> {
        self.thresholds.get(alert.index()).copied().flatten()
    }

    fn patience(&self, alert: Alert) -> Patience {
        let hold = match alert {
            Alert::CircuitTrips | Alert::StoreDown | Alert::UnknownDomains | Alert::KeysFull => {
                Duration::ZERO
            }
            Alert::ErrorRate
            | Alert::QueueFull
            | Alert::ResponseTime
            | Alert::BatchFailures
            | Alert::RedisLatency => self.hold,
        };
        Patience {
            hold,
            keep: self.keep,
        }
    }
}

/// An alert began or ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// Which.
    pub alert: Alert,
    /// What it does from now on.
    pub state: State,
    /// The value that brought it about, in [`Alert::unit`]; 0 if there was too little to measure.
    pub value: f64,
    /// The threshold, as it was then.
    pub threshold: f64,
    /// Which store it is about, where that is known.
    pub store: Option<StoreName>,
    /// When.
    pub at: Timestamp,
}

/// What a [`Transition`] led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It fires.
    Firing,
    /// It has ended.
    Resolved,
}

impl State {
    /// Both, in the order of [`State::index`].
    pub const ALL: [Self; 2] = [Self::Firing, Self::Resolved];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }

    /// Its place in [`State::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Firing => 0,
            Self::Resolved => 1,
        }
    }
}

/// How an alert stands now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Which.
    pub alert: Alert,
    /// How it stands.
    pub phase: Phase,
    /// What was measured last; none if there was too little to measure.
    pub value: Option<f64>,
    /// Above which it fires; none if it is off.
    pub threshold: Option<f64>,
    /// When it fired, if it does.
    pub since: Option<Timestamp>,
}

/// How an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It fires.
    Firing,
    /// It is switched off.
    Off,
    /// All is well.
    Ok,
    /// Its value is above the threshold, but not for long enough yet.
    Pending,
}

impl Phase {
    /// The name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Off => "off",
            Self::Ok => "ok",
            Self::Pending => "pending",
        }
    }
}

/// Watches every alert.
#[derive(Debug)]
pub struct Watch {
    config: Config,
    window: Window,
    /// Where time stands; it does not go back.
    now: Duration,
    watched: [Watched; Alert::ALL.len()],
}

/// One alert.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    latch: Latch,
    measured: Option<Measured>,
    /// How it fired, if it does.
    fired: Option<Transition>,
}

impl Watch {
    /// Nothing seen, nothing firing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            window: Window::default(),
            now: Duration::ZERO,
            watched: Default::default(),
        }
    }

    /// By what it judges from the next sample on.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes a sample; what it brings about. `now` is a monotonic time since whenever; should it
    /// go back, it stands still until it has caught up.
    pub fn step(&mut self, now: Duration, sample: &Sample) -> Vec<Transition> {
        self.now = self.now.max(now);
        let config = self.config;
        self.window.push(self.now, &sample.counts, config.window);
        let counted = self.window.counted();
        let mut transitions = Vec::new();
        for alert in Alert::ALL {
            if let Some(watched) = self.watched.get_mut(alert.index()) {
                watched.measured = measure(alert, &counted, &sample.levels, config.min_calls);
                transitions.extend(watched.judge(alert, &config, self.now, sample.at));
            }
        }
        transitions
    }

    /// How every alert stands.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let each = Alert::ALL.iter().zip(&self.watched);
        each.map(|(alert, watched)| watched.reading(*alert, &self.config))
            .collect()
    }
}

impl Watched {
    fn judge(
        &mut self,
        alert: Alert,
        config: &Config,
        now: Duration,
        at: Timestamp,
    ) -> Option<Transition> {
        let Some(threshold) = config.threshold(alert) else {
            // Switched off: whoever was told that it fires must not wait for its end.
            self.latch = Latch::default();
            let fired = self.fired.take()?;
            return Some(Transition {
                state: State::Resolved,
                value: self.value(),
                at,
                ..fired
            });
        };
        let value = self.measured.map(|measured| measured.value);
        let turn = self
            .latch
            .step(now, value, threshold, config.patience(alert))?;
        let transition = Transition {
            alert,
            state: match turn {
                Turn::Fired => State::Firing,
                Turn::Resolved => State::Resolved,
            },
            value: self.value(),
            threshold,
            // What ends is what began.
            store: match turn {
                Turn::Fired => self.measured.and_then(|measured| measured.store),
                Turn::Resolved => self.fired.and_then(|fired| fired.store),
            },
            at,
        };
        self.fired = (turn == Turn::Fired).then_some(transition);
        Some(transition)
    }

    fn value(&self) -> f64 {
        self.measured.map_or(0.0, |measured| measured.value)
    }

    fn reading(&self, alert: Alert, config: &Config) -> Reading {
        let threshold = config.threshold(alert);
        let phase = match self.latch {
            _ if threshold.is_none() => Phase::Off,
            Latch::Quiet => Phase::Ok,
            Latch::Pending { .. } => Phase::Pending,
            Latch::Firing { .. } => Phase::Firing,
        };
        Reading {
            alert,
            phase,
            value: self.measured.map(|measured| measured.value),
            threshold,
            since: self.fired.map(|fired| fired.at),
        }
    }
}
