//! The ways a decision can end, as cells of a row.

use crate::event::{DecidedBy, Outcome};

/// What a cell counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::telemetry) enum Slot {
    /// Decisions that ended so, as somebody said.
    Decided(Outcome, DecidedBy),
    /// Hits that left little of the limit.
    NearLimit,
}

impl Slot {
    /// How many there are at most.
    pub(in crate::telemetry) const COUNT: usize = RARE + 1;

    /// Where a decision is counted.
    pub(super) fn new(outcome: Outcome, by: DecidedBy) -> Self {
        match by {
            // Nobody counted anything, so nothing but passing can be told.
            DecidedBy::Replaced | DecidedBy::Unlimited | DecidedBy::Unmatched => {
                Self::Decided(Outcome::Allowed, by)
            }
            _ => Self::Decided(outcome, by),
        }
    }

    /// Every slot.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let decided = DecidedBy::ALL.into_iter().flat_map(|by| {
            let slots = Outcome::ALL.map(move |outcome| Self::Decided(outcome, by));
            slots.into_iter().filter(|slot| match slot {
                Self::Decided(outcome, by) => Self::new(*outcome, *by) == *slot,
                Self::NearLimit => false,
            })
        });
        std::iter::once(Self::NearLimit).chain(decided)
    }

    /// Its cell in the usual line, if it has one there.
    pub(super) fn usual(self, usual_by: DecidedBy) -> Option<usize> {
        match self {
            Self::NearLimit => Some(5),
            Self::Decided(_, DecidedBy::Unlimited) => Some(6),
            Self::Decided(_, DecidedBy::Unmatched) => Some(7),
            Self::Decided(outcome, by) if by == usual_by => Some(outcome.index()),
            Self::Decided(..) => None,
        }
    }

    /// Its cell in the other lines.
    pub(super) fn rare(self) -> usize {
        match self {
            Self::NearLimit => 0,
            Self::Decided(outcome, by) => by.index() * Outcome::ALL.len() + outcome.index(),
        }
    }

    /// A bit of its own.
    pub(super) fn bit(self) -> u64 {
        match self {
            Self::NearLimit => 1 << (u64::BITS - 1),
            Self::Decided(..) => 1 << self.rare(),
        }
    }
}

/// Cells of the usual line: five outcomes, hits near the limit, unlimited, unmatched.
pub(super) const USUAL: usize = 8;

/// Cells of the other lines.
pub(super) const RARE: usize = DecidedBy::ALL.len() * Outcome::ALL.len();

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_slots_share_a_cell_or_a_bit() {
        for usual_by in [DecidedBy::Memory, DecidedBy::Store] {
            let (mut cells, mut bits) = (BTreeSet::new(), BTreeSet::new());
            for slot in Slot::all() {
                let cell = match slot.usual(usual_by) {
                    Some(cell) => {
                        assert!(cell < USUAL, "{slot:?}");
                        (true, cell)
                    }
                    None => {
                        assert!(slot.rare() < RARE, "{slot:?}");
                        (false, slot.rare())
                    }
                };
                assert!(cells.insert(cell) && bits.insert(slot.bit()), "{slot:?}");
            }
            assert_eq!(cells.len(), 1 + 3 + 6 * 5);
        }
    }
}
