//! Which of several answers to "who has the keys?" is believed: a pure state machine.
//!
//! Sentinels and the nodes of a Cluster say how many failovers they have heard of: an epoch. The
//! highest one is believed, whichever says so first, if the server that it names agrees. A lower epoch
//! than the one known comes from a node that has missed a failover, and is not believed, unless a
//! majority of the voters has said the same for [`REBUILT`]: then they have been rebuilt, or the
//! higher one was bogus. What was outvoted is ignored from then on, until a majority says that.

use std::time::{Duration, Instant};

/// What is believed.
#[derive(Debug)]
pub(super) struct Election<T> {
    epoch: u64,
    /// What a majority says with a lower epoch, and since when.
    behind: Option<(T, Instant)>,
    /// Answers of higher epochs that a majority has outvoted.
    outvoted: Vec<(u64, T)>,
}

impl<T: PartialEq + Clone> Election<T> {
    pub(super) const fn new() -> Self {
        Self {
            epoch: 0,
            behind: None,
            outvoted: Vec::new(),
        }
    }

    /// What may be believed of these answers, each with its epoch, the best first. There are so many
    /// voters, whether they have answered or not. Nothing follows on what a majority says.
    pub(super) fn candidates(
        &mut self,
        answers: &[(u64, T)],
        voters: usize,
        now: Instant,
    ) -> Vec<(u64, T)> {
        let mut counted: Vec<((u64, T), usize)> = Vec::new();
        for (epoch, what) in answers {
            match counted.iter_mut().find(|((_, other), _)| other == what) {
                Some(((highest, _), votes)) => {
                    *highest = (*highest).max(*epoch);
                    *votes = votes.saturating_add(1);
                }
                None => counted.push(((*epoch, what.clone()), 1)),
            }
        }
        let is_majority = |votes: usize| votes.saturating_mul(2) > voters;
        for (answer, votes) in &counted {
            if is_majority(*votes) {
                self.outvoted.retain(|outvoted| outvoted.1 != answer.1);
            }
        }
        counted.retain(|(answer, _)| !self.outvoted.contains(answer));
        // Stable: of equals the first.
        counted.sort_by_key(|((epoch, _), votes)| std::cmp::Reverse((*epoch, *votes)));
        let lower = counted
            .iter()
            .find(|((epoch, _), votes)| is_majority(*votes) && *epoch < self.epoch);
        let mut candidates = Vec::new();
        if let Some((answer, _)) = lower
            && self.is_lasting(&answer.1, now)
        {
            candidates.push(answer.clone());
        }
        for (answer, votes) in counted {
            if answer.0 < self.epoch {
                break;
            }
            candidates.push(answer);
            if is_majority(votes) {
                self.behind = None;
                break;
            }
        }
        candidates
    }

    /// Whether a majority has said this for long. A look in which there was no majority interrupts
    /// nothing.
    fn is_lasting(&mut self, what: &T, now: Instant) -> bool {
        match &self.behind {
            Some((said, since)) if said == what => now.saturating_duration_since(*since) >= REBUILT,
            _ => {
                self.behind = Some((what.clone(), now));
                false
            }
        }
    }

    /// A candidate is believed; these were the answers.
    pub(super) fn elected(&mut self, epoch: u64, answers: &[(u64, T)]) {
        if epoch < self.epoch {
            let higher = answers.iter().filter(|answer| answer.0 > epoch);
            self.outvoted = higher.cloned().collect();
        }
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
    fn the_highest_epoch_comes_first_and_nothing_after_what_most_say() {
        let (mut election, now) = start();
        let answers = [(7, "old"), (8, "new"), (7, "other"), (7, "other")];
        assert_eq!(
            election.candidates(&answers, 4, now),
            [(8, "new"), (7, "other"), (7, "old")]
        );
        // A majority names one that cannot be reached from here: no other will do.
        let split = [(8, "there"), (8, "there"), (7, "here")];
        assert_eq!(election.candidates(&split, 3, now), [(8, "there")]);
        assert!(election.candidates(&[], 4, now).is_empty());
    }

    #[test]
    fn a_node_that_has_missed_a_failover_is_never_believed() {
        let (mut election, now) = start();
        election.elected(8, &[]);
        for second in 0..60 {
            let now = now + Duration::from_secs(second);
            // Only one of three is reached, and it is stale; then two, which do not agree.
            assert!(election.candidates(&[(7, "old")], 3, now).is_empty());
            let two = [(7, "old"), (8, "new")];
            assert_eq!(election.candidates(&two, 3, now), [(8, "new")]);
        }
    }

    #[test]
    fn a_majority_is_believed_in_the_end_and_what_it_outvotes_does_not_come_back() {
        let (mut election, now) = start();
        election.elected(1_000_000, &[]);
        let rebuilt = [(1, "new"), (1, "new"), (1_000_000, "bogus")];
        let at = |second| now + Duration::from_secs(second);
        assert_eq!(
            election.candidates(&rebuilt, 3, at(0)),
            [(1_000_000, "bogus")]
        );
        // A look that finds no majority changes nothing.
        assert!(election.candidates(&rebuilt[..1], 3, at(5)).is_empty());
        assert_eq!(election.candidates(&rebuilt, 3, at(9))[0].1, "bogus");
        assert_eq!(election.candidates(&rebuilt, 3, at(10))[0], (1, "new"));
        election.elected(1, &rebuilt);
        for second in 11..40 {
            assert_eq!(election.candidates(&rebuilt, 3, at(second)), [(1, "new")]);
            assert!(election.candidates(&rebuilt[2..], 3, at(second)).is_empty());
        }
        // Unless most say so in turn.
        let turned = [(1, "new"), (1_000_000, "bogus"), (1_000_000, "bogus")];
        assert_eq!(
            election.candidates(&turned, 3, at(40)),
            [(1_000_000, "bogus")]
        );
    }

    #[test]
    fn a_majority_that_changes_its_mind_begins_anew() {
        let (mut election, now) = start();
        let at = |second| now + Duration::from_secs(second);
        election.elected(9, &[]);
        let say = |what| [(2, what), (2, what)];
        assert!(election.candidates(&say("a"), 3, at(20)).is_empty());
        assert!(election.candidates(&say("b"), 3, at(29)).is_empty());
        assert!(election.candidates(&say("b"), 3, at(38)).is_empty());
        assert_eq!(election.candidates(&say("b"), 3, at(39)), [(2, "b")]);
    }
}
