//! Whether an alert fires: a value that has to stay above its threshold to begin, and well below to
//! end.

use std::time::Duration;

/// How an alert stands. Times are those of whoever steps it, and do not go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Latch {
    /// All is well.
    #[default]
    Quiet,
    /// The value is above the threshold, but not for long enough.
    Pending { since: Duration },
    /// It fires; `calm` is since when the value has been well below, if it is.
    Firing { calm: Option<Duration> },
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Fired,
    Resolved,
}

impl Latch {
    /// Takes a value; none is like one that is well below.
    pub(super) fn step(
        &mut self,
        now: Duration,
        value: Option<f64>,
        threshold: f64,
        patience: Patience,
    ) -> Option<Turn> {
        let over = value.is_some_and(|value| value > threshold);
        let calm = value.is_none_or(|value| value <= threshold * CALM_SHARE);
        let lasts = |since: Duration, long: Duration| now.saturating_sub(since) >= long;
        match *self {
            Self::Quiet | Self::Pending { .. } if !over => {
                *self = Self::Quiet;
                None
            }
            Self::Quiet if patience.hold.is_zero() => self.fire(),
            Self::Quiet => {
                *self = Self::Pending { since: now };
                None
            }
            Self::Pending { since } if lasts(since, patience.hold) => self.fire(),
            Self::Pending { .. } => None,
            Self::Firing { .. } if !calm => {
                *self = Self::Firing { calm: None };
                None
            }
            Self::Firing { calm } => {
                let since = calm.unwrap_or(now);
                if lasts(since, patience.keep) {
                    *self = Self::Quiet;
                    return Some(Turn::Resolved);
                }
                *self = Self::Firing { calm: Some(since) };
                None
            }
        }
    }

    fn fire(&mut self) -> Option<Turn> {
        *self = Self::Firing { calm: None };
        Some(Turn::Fired)
    }
}

/// For how long a value must stay where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// Above the threshold until it fires.
    pub(super) hold: Duration,
    /// Well below until it is resolved.
    pub(super) keep: Duration,
}

/// Of the threshold: what is not above that is well below.
const CALM_SHARE: f64 = 0.9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience {
        hold: Duration::from_secs(5),
        keep: Duration::from_secs(30),
    };

    /// What changed at which second, of values of one second each.
    fn run(values: impl IntoIterator<Item = Option<f64>>) -> Vec<(u64, Turn)> {
        let mut latch = Latch::default();
        let mut turns = Vec::new();
        for (second, value) in (0..).zip(values) {
            let turn = latch.step(Duration::from_secs(second), value, 10.0, PATIENCE);
            turns.extend(turn.map(|turn| (second, turn)));
        }
        turns
    }

    fn lasting(value: f64, seconds: usize) -> Vec<Option<f64>> {
        vec![Some(value); seconds]
    }

    #[test]
    fn it_fires_after_a_while_and_is_resolved_after_a_while() {
        let values = [lasting(11.0, 20), lasting(0.0, 60)].concat();
        assert_eq!(run(values), [(5, Turn::Fired), (50, Turn::Resolved)]);
    }

    #[test]
    fn what_is_at_the_threshold_is_not_above_it() {
        assert_eq!(run(lasting(10.0, 100)), []);
    }

    #[test]
    fn what_does_not_last_does_not_fire() {
        let values = [lasting(11.0, 5), lasting(9.0, 1)].concat();
        assert_eq!(run(values.repeat(50)), []);
    }

    #[test]
    fn what_swings_around_the_threshold_fires_once() {
        let up = lasting(10.5, 10);
        for down in [9.5, 0.0] {
            let values = [up.clone(), lasting(down, 29)].concat();
            assert_eq!(run(values.repeat(20)), [(5, Turn::Fired)], "{down}");
        }
    }

    #[test]
    fn what_stays_just_below_goes_on_firing() {
        let values = [lasting(11.0, 10), lasting(9.5, 1_000)].concat();
        assert_eq!(run(values), [(5, Turn::Fired)]);
    }

    #[test]
    fn nothing_to_measure_is_calm() {
        let values = [lasting(11.0, 10), vec![None; 40]].concat();
        assert_eq!(run(values), [(5, Turn::Fired), (40, Turn::Resolved)]);
    }

    #[test]
    fn a_threshold_of_zero_fires_at_anything_and_can_be_resolved() {
        let mut latch = Latch::default();
        let patience = Patience {
            hold: Duration::ZERO,
            keep: Duration::ZERO,
        };
        let mut step = |value| latch.step(Duration::ZERO, Some(value), 0.0, patience);
        assert_eq!(step(0.0), None);
        assert_eq!(step(0.1), Some(Turn::Fired));
        assert_eq!(step(0.0), Some(Turn::Resolved));
    }

    proptest! {
        /// Whatever comes in: it fires no sooner than it holds, is resolved no sooner than it
        /// keeps, and the two take turns.
        #[test]
        fn turns_alternate_and_keep_their_distance(values in prop::collection::vec(prop::option::of(0.0..20.0_f64), 0..400)) {
            let turns = run(values);
            for (at, (second, turn)) in turns.iter().enumerate() {
                let fires = at % 2 == 0;
                prop_assert_eq!(*turn == Turn::Fired, fires);
                let before = if at == 0 { 0 } else { turns[at - 1].0 };
                let least = if fires { 5 } else { 30 };
                prop_assert!(second - before >= least);
            }
        }
    }
}
