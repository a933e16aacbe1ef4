//! Which rules have more keys than there is room for, of this minute and the last.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Rules by their rows in `decisions`.
pub(super) struct Overflowing {
    /// By row: the minute in which a counter that keys share decided last, counted from 1; 0 if none has.
    minutes: Box<[AtomicU64]>,
    /// Rows that have begun to, and were not [taken](Self::take_new) yet.
    new: Mutex<Vec<u32>>,
}

impl Overflowing {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            minutes: (0..rows).map(|_| AtomicU64::new(0)).collect(),
            new: Mutex::default(),
        }
    }

    /// A counter that keys of this row's rule share has decided.
    pub(super) fn note(&self, row: u32, now: Timestamp) {
        let at = usize::try_from(row).ok();
        let Some(last) = at.and_then(|at| self.minutes.get(at)) else {
            return;
        };
        let minute = minute(now);
        if last.load(Ordering::Relaxed) < minute
            && last.fetch_max(minute, Ordering::Relaxed).saturating_add(1) < minute
        {
            self.new.lock().push(row);
        }
    }

    /// The rows for which that was so in this minute or the last.
    pub(super) fn rows(&self, now: Timestamp) -> impl Iterator<Item = u32> {
        let oldest = minute(now).saturating_sub(1);
        let minutes = (0..).zip(&self.minutes);
        minutes
            .filter(move |(_, last)| {
                let last = last.load(Ordering::Relaxed);
                last > 0 && last >= oldest
            })
            .map(|(row, _)| row)
    }

    /// Those for which it began since this was asked last, each once.
    pub(super) fn take_new(&self) -> Vec<u32> {
        let mut rows = std::mem::take(&mut *self.new.lock());
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

fn minute(now: Timestamp) -> u64 {
    (now.as_millis() / 60_000).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_new_when_it_begins_and_shown_until_the_minute_after_it_ended() {
        let rules = Overflowing::new(3);
        let at = |minutes: u64| Timestamp::from_millis(minutes * 60_000);
        let shown = |now| rules.rows(now).collect::<Vec<_>>();
        assert_eq!((shown(at(0)), rules.take_new()), (vec![], vec![]));
        for minute in [10, 10, 11] {
            rules.note(2, at(minute));
            rules.note(7, at(minute));
        }
        assert_eq!(rules.take_new(), [2]);
        assert_eq!((shown(at(12)), shown(at(13))), (vec![2], vec![]));
        // It never ended.
        rules.note(2, at(12));
        assert!(rules.take_new().is_empty());
        rules.note(2, at(14));
        rules.note(1, at(14));
        assert_eq!(rules.take_new(), [1, 2]);
        // A clock that steps back says nothing new.
        rules.note(2, at(3));
        rules.note(2, at(14));
        assert!(rules.take_new().is_empty());
    }
}
