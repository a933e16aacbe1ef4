//! Which of several answers to "who has the keys?" is believed: a pure state machine.
//!
//! Sentinels and the nodes of a Cluster say how many failovers they have heard of: an epoch. The
//! highest one is believed, whoever says so first, if the server that it names agrees. A lower epoch
//! than the one known comes from a node that has missed a failover, and is not believed, unless a
//! majority of all that were asked has said the same for [`REBUILT`]: then they have been set up anew, or
//! the higher one was bogus.

use std::time::{Duration, Instant};

/// What is believed.
#[derive(Debug)]
pub(super) struct Election<T> {
    epoch: u64,
    /// What a majority says with a lower epoch, and since when.
    behind: Option<(T, Instant)>,
}

impl<T: PartialEq + Clone> Election<T> {
    pub(super) const fn new() -> Self {
        Self {
            epoch: 0,
            behind: None,
        }
    }

    /// What may be believed of these answers, each with its epoch, the best first. So many were asked.
    pub(super) fn candidates(
        &mut self,
        answers: &[(u64, T)],
        asked: usize,
        now: Instant,
    ) -> Vec<(u64, T)> {
        let votes = |one: &(u64, T)| answers.iter().filter(|other| other.1 == one.1).count();
        let mut ranked: Vec<&(u64, T)> = answers.iter().collect();
        // Stable: of equals the first.
        ranked.sort_by_key(|answer| std::cmp::Reverse((answer.0, votes(answer))));
        ranked.dedup_by(|later, first| later.1 == first.1);
        let current: Vec<(u64, T)> = ranked
            .iter()
            .filter(|answer| answer.0 >= self.epoch)
            .map(|answer| (*answer).clone())
            .collect();
        let has_majority = |answer: &&&(u64, T)| votes(answer).saturating_mul(2) > asked;
        let lower = ranked
            .iter()
            .find(has_majority)
            .filter(|answer| answer.0 < self.epoch);
        let Some(lower) = lower else {
            self.behind = None;
            return current;
        };
        let since = match &self.behind {
            Some((said, since)) if *said == lower.1 => *since,
            _ => {
                self.behind = Some((lower.1.clone(), now));
                now
            }
        };
        match now.saturating_duration_since(since) >= REBUILT {
            true => vec![(*lower).clone()],
            false => current,
        }
    }

    /// A candidate of this epoch is believed.
    pub(super) fn elected(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.behind = None;
    }
}

/// For how long a majority has to say the same with a lower epoch.
const REBUILT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> (Election<&'static str>, Instant) {
        (Election::new(), Instant::now())
    }

    #[test]
    fn the_highest_epoch_comes_first_and_then_what_most_say() {
        let (mut election, now) = start();
        let answers = [(7, "old"), (8, "new"), (7, "other"), (7, "other")];
        assert_eq!(
            election.candidates(&answers, 4, now),
            [(8, "new"), (7, "other"), (7, "old")]
        );
        assert!(election.candidates(&[], 4, now).is_empty());
    }

    #[test]
    fn a_node_that_has_missed_a_failover_is_never_believed() {
        let (mut election, now) = start();
        election.elected(8);
        for second in 0..60 {
            let now = now + Duration::from_secs(second);
            // Only one of three is reached, and it is stale; then two, which do not agree.
            assert!(election.candidates(&[(7, "old")], 3, now).is_empty());
            let two = [(7, "old"), (8, "new")];
            assert_eq!(election.candidates(&two, 3, now), [(8, "new")]);
        }
    }

    #[test]
    fn a_majority_is_believed_in_the_end_and_a_bogus_epoch_is_not_for_ever() {
        let (mut election, now) = start();
        election.elected(1_000_000);
        let rebuilt = [(1, "new"), (1, "new"), (1_000_000, "bogus")];
        let at = |second| now + Duration::from_secs(second);
        assert_eq!(election.candidates(&rebuilt, 3, at(0))[0].1, "bogus");
        assert_eq!(election.candidates(&rebuilt, 3, at(9))[0].1, "bogus");
        assert_eq!(election.candidates(&rebuilt, 3, at(10)), [(1, "new")]);
        election.elected(1);
        assert_eq!(election.candidates(&rebuilt[..2], 3, at(11)), [(1, "new")]);
        // A majority that changes its mind begins anew.
        election.elected(9);
        let say = |what| [(2, what), (2, what)];
        assert!(election.candidates(&say("a"), 3, at(20)).is_empty());
        assert!(election.candidates(&say("b"), 3, at(29)).is_empty());
        assert!(election.candidates(&say("b"), 3, at(38)).is_empty());
        assert_eq!(election.candidates(&say("b"), 3, at(39)), [(2, "b")]);
    }
}
