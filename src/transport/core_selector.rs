//! Selects the core that serves a new connection.
//!
//! The number of connections says little: they differ in load, and the clients of a fleet disconnect in any
//! order. So the selector compares the busy time of the last second, and counts each connection that was
//! assigned since as a fixed load.

use std::time::Duration;

use tokio::time::Instant;

/// The load of each core, sampled every [`SAMPLE_INTERVAL`].
#[derive(Debug)]
pub(super) struct CoreSelector {
    cores: Vec<CoreLoad>,
    sampled_at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct CoreLoad {
    /// Busy time from the core's start to the last sample.
    busy: Duration,
    /// Thousandths of the time between the last two samples that the core was busy.
    permille: u64,
    /// Connections assigned since the last sample.
    assigned: u64,
}

impl CoreSelector {
    pub(super) fn new(cores: usize, now: Instant) -> Self {
        Self {
            cores: vec![CoreLoad::default(); cores],
            sampled_at: now,
        }
    }

    /// Samples the load: `busy` yields the busy time of each core since its start.
    pub(super) fn sample(&mut self, now: Instant, busy: impl Iterator<Item = Duration>) {
        let elapsed = (now - self.sampled_at).as_micros().max(1);
        self.sampled_at = now;
        for (core, busy) in self.cores.iter_mut().zip(busy) {
            let spent = busy.saturating_sub(core.busy).as_micros();
            let permille = spent.saturating_mul(1_000) / elapsed;
            *core = CoreLoad {
                busy,
                permille: u64::try_from(permille).unwrap_or(u64::MAX),
                assigned: 0,
            };
        }
    }

    /// Returns the index of the least loaded core, and assigns a connection to it.
    pub(super) fn select(&mut self) -> usize {
        let load = |core: &CoreLoad| {
            let assigned = core.assigned.saturating_mul(PERMILLE_PER_CONNECTION);
            core.permille.saturating_add(assigned)
        };
        let cores = self.cores.iter_mut().enumerate();
        cores
            .min_by_key(|(_, core)| load(core))
            .map_or(0, |(index, core)| {
                core.assigned = core.assigned.saturating_add(1);
                index
            })
    }
}

/// How often to call [`CoreSelector::sample`].
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The load that a new connection is assumed to cause. Large enough to spread a burst of connections over cores
/// whose load differs a little, small enough to keep a few of them off a busy core.
const PERMILLE_PER_CONNECTION: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(seconds: &[f64]) -> CoreSelector {
        let now = Instant::now();
        let mut selector = CoreSelector::new(seconds.len(), now);
        let busy = seconds.iter().map(|busy| Duration::from_secs_f64(*busy));
        selector.sample(now + SAMPLE_INTERVAL, busy);
        selector
    }

    fn selected(selector: &mut CoreSelector, times: usize) -> Vec<usize> {
        (0..times).map(|_| selector.select()).collect()
    }

    #[test]
    fn equally_busy_cores_take_turns() {
        let mut selector = sampled(&[0.5, 0.5, 0.5]);
        assert_eq!(selected(&mut selector, 6), [0, 1, 2, 0, 1, 2]);
        let mut unsampled = CoreSelector::new(2, Instant::now());
        assert_eq!(selected(&mut unsampled, 4), [0, 1, 0, 1]);
    }

    #[test]
    fn a_busier_core_gets_fewer_connections() {
        let mut selector = sampled(&[0.9, 0.1]);
        assert_eq!(selected(&mut selector, 6), [1, 1, 1, 1, 1, 1]);
        let nearly_equal = selected(&mut sampled(&[0.12, 0.1]), 16);
        assert_eq!(nearly_equal.iter().filter(|core| **core == 0).count(), 8);
    }

    #[test]
    fn only_the_time_since_the_last_sample_counts() {
        let mut selector = sampled(&[0.9, 0.1]);
        let now = selector.sampled_at + SAMPLE_INTERVAL;
        let busy = [0.9, 0.9].map(Duration::from_secs_f64);
        selector.sample(now, busy.into_iter());
        assert_eq!(selected(&mut selector, 2), [0, 0]);
    }
}
