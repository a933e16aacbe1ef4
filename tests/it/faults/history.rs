//! Whether what was admitted is what a rule allows: pure functions over times of the store.
//!
//! Each rule is held to its bound ([`Rule::admits_too_much`]) and to its word
//! ([`Rule::denies_too_soon`]): a denial proves that the limit had been reached. The second needs no
//! guess about how fast the callers were, so a stall of the machine cannot break it.

use tollgate::model::Algorithm;

/// The rule for one key. Each hit counts for 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) algorithm: Algorithm,
    pub(super) limit: u64,
    /// Of `token_bucket`.
    pub(super) burst: u64,
    /// Milliseconds.
    pub(super) window: u64,
}

/// When hits of one key were decided, in milliseconds of the store, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) admitted: Vec<u64>,
    /// Those of which this key's verdict was over.
    pub(super) denied: Vec<u64>,
}

impl History {
    pub(super) fn sort(&mut self) {
        self.admitted.sort_unstable();
        self.denied.sort_unstable();
    }

    /// Admitted hits from one time to another, both included.
    fn between(&self, from: u64, to: u64) -> u64 {
        let before = |time: u64| self.admitted.partition_point(|&at| at < time);
        count(before(to + 1) - before(from))
    }
}

impl Rule {
    /// The first place at which the history breaks the algorithm's bound.
    pub(super) fn admits_too_much(&self, history: &History) -> Option<String> {
        let Self { limit, window, .. } = *self;
        let admitted = &history.admitted;
        match self.algorithm {
            Algorithm::FixedWindow => windows(admitted, window)
                .find(|(_, hits)| *hits > limit)
                .map(|(id, hits)| format!("{hits} of {limit} in the window from {}", id * window)),
            // A charge counts while no more than a window has passed.
            Algorithm::SlidingWindow | Algorithm::SlidingLog => {
                let later = admitted.iter().skip(size(limit));
                let mut pairs = admitted.iter().zip(later);
                pairs
                    .find(|(first, last)| *last - *first <= window)
                    .map(|(first, last)| format!("more than {limit} from {first} to {last}"))
            }
            Algorithm::TokenBucket => self.overdrawn(admitted),
        }
    }

    /// The first denial at which the rule would still have admitted a hit. `lost` hits may have
    /// been charged although nobody was told.
    pub(super) fn denies_too_soon(&self, history: &History, lost: u64) -> Option<String> {
        let Self { limit, window, .. } = *self;
        if self.algorithm == Algorithm::TokenBucket {
            return self.hoards(history, lost);
        }
        let from = |at: u64| match self.algorithm {
            Algorithm::FixedWindow => at - at % window,
            // The cell of the denial, and the ten before it.
            Algorithm::SlidingWindow => (at - at % (window / 10)).saturating_sub(window),
            Algorithm::SlidingLog | Algorithm::TokenBucket => at.saturating_sub(window),
        };
        let mut counts = history
            .denied
            .iter()
            .map(|&at| (at, history.between(from(at), at)));
        counts
            .find(|(_, hits)| hits + lost < limit)
            .map(|(at, hits)| format!("denied at {at} after {hits} of {limit}, {lost} lost"))
    }

    /// In any `d` milliseconds `burst + floor(d * limit / window) + 1`.
    ///
    /// Hit `i` and a later hit `j` break that if `j - i > burst + floor(...)`, that is, if
    /// `j * window - t(j) * limit` is more than `i * window - t(i) * limit + burst * window`.
    fn overdrawn(&self, admitted: &[u64]) -> Option<String> {
        let [limit, burst, window] = [self.limit, self.burst, self.window].map(i128::from);
        let mut least = (i128::MAX, 0);
        for (number, &at) in (0_i128..).zip(admitted) {
            let level = number * window - i128::from(at) * limit;
            least = least.min((level, at));
            if level > least.0 + burst * window {
                let hits = (level - least.0 + i128::from(at - least.1) * limit) / window + 1;
                return Some(format!("{hits} hits from {} to {at}", least.1));
            }
        }
        None
    }

    /// Between two denials as much was admitted as came in, as far as the bucket holds it.
    fn hoards(&self, history: &History, lost: u64) -> Option<String> {
        history.denied.windows(2).find_map(|pair| {
            let &[from, to] = pair else { return None };
            let refilled = ((to - from) * self.limit / self.window).min(self.burst);
            let hits = history.between(from, to) + lost + 1;
            (hits < refilled)
                .then(|| format!("{hits} of {refilled} from {from} to {to}, when it was empty"))
        })
    }
}

/// Hits in each aligned window that has some, in order.
pub(super) fn windows(times: &[u64], window: u64) -> impl Iterator<Item = (u64, u64)> {
    times
        .chunk_by(move |a, b| a / window == b / window)
        .filter_map(move |chunk| Some((chunk.first()? / window, count(chunk.len()))))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("a count")
}

fn size(count: u64) -> usize {
    usize::try_from(count).expect("a count")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(algorithm: Algorithm) -> Rule {
        Rule {
            algorithm,
            limit: 10,
            burst: 20,
            window: 1_000,
        }
    }

    /// So many hits at each time.
    fn history(admitted: &[(u64, usize)], denied: &[u64]) -> History {
        let hits = admitted.iter().flat_map(|&(at, hits)| vec![at; hits]);
        History {
            admitted: hits.collect(),
            denied: denied.to_vec(),
        }
    }

    /// Fails unless this is right, and one hit more at the end is not.
    fn is_the_most(algorithm: Algorithm, admitted: &[(u64, usize)]) {
        let mut history = history(admitted, &[]);
        let rule = rule(algorithm);
        assert_eq!(rule.admits_too_much(&history), None, "{admitted:?}");
        history.admitted.extend(history.admitted.last().copied());
        assert!(rule.admits_too_much(&history).is_some(), "{admitted:?}");
    }

    #[test]
    fn a_fixed_window_holds_its_limit() {
        is_the_most(Algorithm::FixedWindow, &[(5_000, 4), (5_999, 6)]);
        // Twice the limit around an edge is right.
        is_the_most(Algorithm::FixedWindow, &[(5_999, 10), (6_000, 10)]);
    }

    #[test]
    fn a_sliding_rule_holds_its_limit_in_every_interval() {
        for algorithm in [Algorithm::SlidingLog, Algorithm::SlidingWindow] {
            is_the_most(algorithm, &[(5_400, 4), (6_400, 6)]);
            is_the_most(algorithm, &[(5_400, 10), (6_401, 10), (7_402, 10)]);
            let around_an_edge = history(&[(5_999, 10), (6_999, 1)], &[]);
            assert!(rule(algorithm).admits_too_much(&around_an_edge).is_some());
        }
    }

    #[test]
    fn a_bucket_holds_its_burst_and_what_comes_in() {
        is_the_most(Algorithm::TokenBucket, &[(5_000, 21)]);
        is_the_most(Algorithm::TokenBucket, &[(5_000, 15), (5_500, 11)]);
        // From the second hit on it is too much, from the first it is not.
        is_the_most(Algorithm::TokenBucket, &[(0, 1), (9_000, 20), (9_099, 1)]);
        is_the_most(Algorithm::TokenBucket, &[(0, 1), (9_000, 20), (9_100, 2)]);
    }

    #[test]
    fn what_is_said_about_a_bucket_is_what_it_admitted() {
        let too_much = history(&[(100, 3), (9_000, 12), (9_200, 12)], &[]);
        let said = rule(Algorithm::TokenBucket).admits_too_much(&too_much);
        assert_eq!(said.as_deref(), Some("24 hits from 9000 to 9200"));
    }

    /// Fails unless a denial at `at` is right after this, and not after one hit less.
    fn is_the_least(algorithm: Algorithm, admitted: &[(u64, usize)], denied: &[u64], lost: u64) {
        let mut history = history(admitted, denied);
        let rule = rule(algorithm);
        assert_eq!(rule.denies_too_soon(&history, lost), None, "{admitted:?}");
        history.admitted.pop();
        assert!(
            rule.denies_too_soon(&history, lost).is_some(),
            "{admitted:?}"
        );
    }

    #[test]
    fn a_denial_needs_a_limit_that_was_reached() {
        is_the_least(
            Algorithm::FixedWindow,
            &[(4_999, 5), (5_000, 4), (5_800, 6)],
            &[5_800],
            0,
        );
        is_the_least(
            Algorithm::FixedWindow,
            &[(5_000, 4), (5_800, 3)],
            &[5_900],
            3,
        );
        is_the_least(
            Algorithm::SlidingLog,
            &[(4_899, 5), (4_900, 4), (5_800, 6)],
            &[5_900],
            0,
        );
        // Eleven cells of a tenth of a second, from 4,800 on.
        is_the_least(
            Algorithm::SlidingWindow,
            &[(4_799, 5), (4_800, 4), (5_800, 6)],
            &[5_899],
            0,
        );
    }

    #[test]
    fn a_bucket_that_was_empty_gives_what_comes_in() {
        let bucket = Algorithm::TokenBucket;
        // In half a second come 5, of which one may come in with the last denial.
        is_the_least(bucket, &[(5_000, 20), (5_400, 4)], &[5_001, 5_501], 0);
        is_the_least(bucket, &[(5_000, 20), (5_400, 2)], &[5_001, 5_501], 2);
        // It holds no more than 20.
        is_the_least(bucket, &[(5_000, 20), (90_000, 19)], &[5_001, 90_000], 0);
    }

    #[test]
    fn windows_are_counted_in_order() {
        let times = [999, 1_000, 1_001, 3_999];
        let counted: Vec<_> = windows(&times, 1_000).collect();
        assert_eq!(counted, [(0, 1), (1, 2), (3, 1)]);
    }
}
