//! What was counted in the last so many seconds.

use std::collections::VecDeque;
use std::time::Duration;

use super::Counts;

/// A rolling window over counts that only grow. It remembers what the sum was at [`MARKS`] moments
/// at the most, so its far end is right to a sixtieth of its length and it takes the same memory
/// whatever that is.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The last sample as it came.
    last: Counts,
    /// All that was ever seen to be counted, also where counting began anew.
    total: Counts,
    /// What the total was, oldest first.
    marks: VecDeque<(Duration, Counts)>,
}

impl Window {
    /// Takes a sample; `now` never goes back. Counting began not long before the first one, so all
    /// that it holds is new.
    pub(super) fn push(&mut self, now: Duration, counts: &Counts, length: Duration) {
        if self.marks.is_empty() {
            self.marks.push_back((now, Counts::default()));
        }
        self.total = self.total.plus(&counts.since(&self.last));
        self.last = counts.clone();
        let step = length / MARKS;
        let last_mark = self.marks.back().map(|(at, _)| *at);
        if last_mark.is_none_or(|at| now.saturating_sub(at) >= step) {
            self.marks.push_back((now, self.total.clone()));
        }
        // The oldest that is kept is the last one that is a whole window old.
        let old = |mark: Option<&(Duration, Counts)>| {
            mark.is_some_and(|(at, _)| now.saturating_sub(*at) >= length)
        };
        while old(self.marks.get(1)) {
            self.marks.pop_front();
        }
        // A window that has become longer leaves its marks closer together than they need be.
        while self.marks.len()
            > usize::try_from(MARKS)
                .unwrap_or(usize::MAX)
                .saturating_add(2)
        {
            self.marks.pop_front();
        }
    }

    /// What was counted in it.
    pub(super) fn counted(&self) -> Counts {
        match self.marks.front() {
            Some((_, then)) => self.total.since(then),
            None => Counts::default(),
        }
    }
}

/// Into how many steps a window is divided.
const MARKS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(60);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn answered(answered: u64) -> Counts {
        Counts {
            answered,
            ..Counts::default()
        }
    }

    #[test]
    fn what_was_counted_before_is_forgotten_after_its_length() {
        let mut window = Window::default();
        assert_eq!(window.counted().answered, 0, "nothing was told yet");
        window.push(secs(0), &answered(70), LENGTH);
        assert_eq!(window.counted().answered, 70, "since the start");
        for second in 1..=300 {
            window.push(secs(second), &answered(70 + 10 * second), LENGTH);
            let before = if second <= 60 { 70 } else { 0 };
            let expected = before + 10 * second.min(60);
            assert_eq!(window.counted().answered, expected, "{second}");
        }
        for second in 301..=360 {
            window.push(secs(second), &answered(3_070), LENGTH);
        }
        assert_eq!(window.counted().answered, 0);
    }

    #[test]
    fn counting_that_began_anew_goes_on() {
        let mut window = Window::default();
        for (second, count) in [(0, 50), (1, 60), (2, 3), (3, 5)] {
            window.push(secs(second), &answered(count), LENGTH);
        }
        assert_eq!(window.counted().answered, 60 + 3 + 2);
    }

    #[test]
    fn its_memory_does_not_depend_on_its_length() {
        for length in [1, 60, 3_600, 86_400] {
            let mut window = Window::default();
            for second in 0..4_000 {
                window.push(secs(second), &answered(second), secs(length));
            }
            assert!(window.marks.len() <= 62, "{length}: {}", window.marks.len());
            let counted = window.counted().answered;
            let expected = length.min(3_999);
            let slack = length / 60 + 1;
            assert!(
                (expected..=expected + slack).contains(&counted),
                "{length}: {counted}"
            );
            window.push(secs(4_000), &answered(4_000), secs(10));
            assert!(window.counted().answered <= 10 + slack, "it may be changed");
        }
    }

    #[test]
    fn a_pause_leaves_what_came_after_it() {
        let mut window = Window::default();
        window.push(secs(0), &answered(0), LENGTH);
        window.push(secs(1), &answered(500), LENGTH);
        window.push(secs(4_000), &answered(600), LENGTH);
        assert_eq!(window.counted().answered, 100);
        window.push(secs(4_060), &answered(600), LENGTH);
        assert_eq!(window.counted().answered, 0);
    }
}
