//! What happened lately.

use std::collections::VecDeque;

use super::{Reading, Transition};
use crate::clock::Timestamp;

/// The last transitions, [`History::LENGTH`] at the most.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Transition>);

impl History {
    /// As many are kept.
    pub const LENGTH: usize = 100;

    /// One more; the oldest goes if there are too many.
    pub fn push(&mut self, transition: Transition) {
        if self.0.len() >= Self::LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(transition);
    }

    /// The newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Transition> {
        self.0.iter().rev()
    }
}

/// How all alerts stand, and what happened lately: what operators are shown.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// When they were looked at last; 1970 before the first time.
    pub at: Timestamp,
    /// Every alert, in the order of [`Alert::ALL`](super::Alert::ALL).
    pub readings: Vec<Reading>,
    /// Transitions, the newest first.
    pub history: Vec<Transition>,
}
