//! Which core a new connection goes to.
//!
//! Not the one with the fewest: connections differ in what they ask, and a fleet's Envoys leave in any order.
//! What a core was busy in the last second says more, and what it has been given since stands for what
//! that will ask.

use std::time::Duration;

use tokio::time::Instant;

/// How busy each core was, and what it has been given since.
#[derive(Debug)]
pub(super) struct Balance {
    cores: Vec<Load>,
    looked: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// Busy time since its start, at the last look.
    busy: Duration,
    /// Thousandths of the time between the last two looks.
    share: u64,
    /// Connections since the last look.
    given: u64,
}

impl Balance {
    pub(super) fn new(cores: usize, now: Instant) -> Self {
        Self {
            cores: vec![Load::default(); cores],
            looked: now,
        }
    }

    /// Looks at how long each core has been busy since its start; to be called every [`PERIOD`].
    pub(super) fn look(&mut self, now: Instant, busy: impl Iterator<Item = Duration>) {
        let passed = (now - self.looked).as_micros().max(1);
        self.looked = now;
        for (core, busy) in self.cores.iter_mut().zip(busy) {
            let spent = busy.saturating_sub(core.busy).as_micros();
            let share = spent.saturating_mul(1_000) / passed;
            *core = Load {
                busy,
                share: u64::try_from(share).unwrap_or(u64::MAX),
                given: 0,
            };
        }
    }

    /// The core for the next connection.
    pub(super) fn choose(&mut self) -> usize {
        let load = |core: &Load| {
            let given = core.given.saturating_mul(OF_A_CONNECTION);
            core.share.saturating_add(given)
        };
        let least = self.cores.iter_mut().enumerate();
        least
            .min_by_key(|(_, core)| load(core))
            .map_or(0, |(at, core)| {
                core.given = core.given.saturating_add(1);
                at
            })
    }
}

/// How often to look.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// What a new connection is taken for, in thousandths of a core: so much that a few at once are spread also
/// where one core is a little busier, and so little that a busy core gets none of them.
const OF_A_CONNECTION: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(seconds: &[f64]) -> Balance {
        let now = Instant::now();
        let mut balance = Balance::new(seconds.len(), now);
        let busy = seconds.iter().map(|busy| Duration::from_secs_f64(*busy));
        balance.look(now + PERIOD, busy);
        balance
    }

    fn chosen(balance: &mut Balance, times: usize) -> Vec<usize> {
        (0..times).map(|_| balance.choose()).collect()
    }

    #[test]
    fn cores_that_are_as_busy_take_turns() {
        assert_eq!(chosen(&mut looked(&[0.5, 0.5, 0.5]), 6), [0, 1, 2, 0, 1, 2]);
        let unseen = &mut Balance::new(2, Instant::now());
        assert_eq!(chosen(unseen, 4), [0, 1, 0, 1]);
    }

    #[test]
    fn a_busier_core_gets_fewer() {
        assert_eq!(chosen(&mut looked(&[0.9, 0.1]), 6), [1, 1, 1, 1, 1, 1]);
        let nearly = chosen(&mut looked(&[0.12, 0.1]), 16);
        assert_eq!(nearly.iter().filter(|core| **core == 0).count(), 8);
    }

    #[test]
    fn only_the_time_since_the_last_look_counts() {
        let mut balance = looked(&[0.9, 0.1]);
        let now = balance.looked + PERIOD;
        let busy = [0.9, 0.9].map(Duration::from_secs_f64);
        balance.look(now, busy.into_iter());
        assert_eq!(chosen(&mut balance, 2), [0, 0]);
    }
}
