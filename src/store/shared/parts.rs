//! A query that several servers, or slots of a Cluster, decide together: what each is asked, and
//! what their verdicts come to.
//!
//! A part must not deny by what only the whole query knows: quota checks deny only all together,
//! so they are asked as if they were in shadow mode, and folded here.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::algorithm::lands;
use crate::model::{Check, Decision, Role, Source, Verdict, Verdicts, denies};

/// The checks of a query that are decided in one step of one place.
#[derive(Clone, Debug)]
pub(super) struct Part<P> {
    /// Where.
    pub(super) place: P,
    /// As they are asked there.
    pub(super) checks: Arc<[Check]>,
    /// Where each stands in the query.
    positions: SmallVec<[usize; 4]>,
}

/// Splits a query by place, in ascending order of the places.
pub(super) fn split<P: Copy + Ord>(
    checks: &[Check],
    place_of: impl Fn(&Check) -> P,
) -> Vec<Part<P>> {
    let mut placed: SmallVec<[(P, usize); 4]> = checks
        .iter()
        .enumerate()
        .map(|(position, check)| (place_of(check), position))
        .collect();
    placed.sort_unstable();
    placed
        .chunk_by(|(a, _), (b, _)| a == b)
        .filter_map(|same| {
            let (place, _) = *same.first()?;
            let positions: SmallVec<[usize; 4]> =
                same.iter().map(|&(_, position)| position).collect();
            let asked = positions
                .iter()
                .filter_map(|&position| checks.get(position));
            let checks = asked.map(as_part).collect();
            Some(Part {
                place,
                checks,
                positions,
            })
        })
        .collect()
}

/// A check as a part is asked it.
fn as_part(check: &Check) -> Check {
    let Role { shadow, quota } = check.role;
    Check {
        role: Role {
            shadow: shadow || quota,
            quota: false,
        },
        ..check.clone()
    }
}

impl<P> Part<P> {
    /// The checks that were charged only since they passed, and that leave no trace if the query
    /// is denied. `decision` is what was decided of the part.
    pub(super) fn to_give_back(&self, decision: &Decision) -> SmallVec<[usize; 4]> {
        let (passed, denied) = (false, true);
        let is_charged = |(check, verdict): (&Check, &Verdict)| {
            !decision.denied
                && !verdict.over
                // Nobody counted it.
                && verdict.source != Source::Fallback
                && lands(&check.quota, check.hits, passed, !denied)
                && !lands(&check.quota, check.hits, passed, denied)
        };
        self.checks
            .iter()
            .zip(&decision.verdicts)
            .enumerate()
            .filter(|&(_, charged)| is_charged(charged))
            .map(|(index, _)| index)
            .collect()
    }

    /// Some of its checks.
    pub(super) fn pick(&self, indices: &[usize]) -> Arc<[Check]> {
        let picked = indices.iter().filter_map(|&index| self.checks.get(index));
        picked.cloned().collect()
    }
}

/// The verdicts of a query as they come in.
#[derive(Clone, Debug)]
pub(super) struct Tally<'c> {
    checks: &'c [Check],
    verdicts: Vec<Option<Verdict>>,
}

impl<'c> Tally<'c> {
    pub(super) fn new(checks: &'c [Check]) -> Self {
        Self {
            checks,
            verdicts: vec![None; checks.len()],
        }
    }

    /// Takes in the verdicts of a part.
    pub(super) fn fill<P>(&mut self, part: &Part<P>, verdicts: &[Verdict]) {
        for (&position, verdict) in part.positions.iter().zip(verdicts) {
            self.set(position, *verdict);
        }
    }

    /// Takes in the verdicts of some checks of a part.
    pub(super) fn fill_some<P>(&mut self, part: &Part<P>, indices: &[usize], verdicts: &[Verdict]) {
        for (&index, verdict) in indices.iter().zip(verdicts) {
            if let Some(&position) = part.positions.get(index) {
                self.set(position, *verdict);
            }
        }
    }

    /// Whether any check of a part is over.
    pub(super) fn has_over<P>(&self, part: &Part<P>) -> bool {
        let verdicts = part
            .positions
            .iter()
            .filter_map(|&position| self.verdicts.get(position));
        verdicts.flatten().any(|verdict| verdict.over)
    }

    /// Whether what is known so far denies the query. What is not known passes.
    pub(super) fn denies(&self) -> bool {
        let known = self.checks.iter().zip(&self.verdicts);
        denies(
            known.map(|(check, verdict)| (check.role, verdict.is_some_and(|verdict| verdict.over))),
        )
    }

    /// The decision. Every check has a verdict by now.
    pub(super) fn finish(self, denied: bool) -> Decision {
        let verdicts: Verdicts = self.verdicts.into_iter().flatten().collect();
        Decision { verdicts, denied }
    }

    fn set(&mut self, position: usize, verdict: Verdict) {
        if let Some(place) = self.verdicts.get_mut(position) {
            *place = Some(verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::tests::check;
    use crate::clock::Timestamp;
    use crate::model::{DeniedHits, Hits, Quota, Unit, Window};

    fn minute(denied_hits: DeniedHits, hits: Hits, role: Role) -> Check {
        let window = Window::try_new(Unit::Minute, 1).unwrap();
        Check {
            role,
            ..check(Quota::fixed(5, window, denied_hits), hits)
        }
    }

    fn plain(hits: u64) -> Check {
        minute(DeniedHits::Free, Hits::Charge(hits), Role::default())
    }

    const QUOTA: Role = Role {
        shadow: false,
        quota: true,
    };

    fn verdict(over: bool, source: Source) -> Verdict {
        Verdict {
            over,
            remaining: 0,
            counted: 0,
            reset_millis: 0,
            never: false,
            source,
            at: Timestamp::default(),
        }
    }

    fn decision(denied: bool, overs: &[bool]) -> Decision {
        let verdicts = overs.iter().map(|&over| verdict(over, Source::Store));
        Decision {
            verdicts: verdicts.collect(),
            denied,
        }
    }

    /// Parts by the number of hits.
    fn by_hits(checks: &[Check]) -> Vec<Part<u64>> {
        split(checks, |check| match check.hits {
            Hits::Charge(hits) | Hits::Refund(hits) => hits,
            Hits::Peek => 0,
        })
    }

    #[test]
    fn a_query_is_split_by_place_in_their_order_and_put_together_in_its_own() {
        let checks = [plain(7), plain(3), plain(7)];
        let parts = by_hits(&checks);
        let places: Vec<(u64, usize)> = parts.iter().map(|p| (p.place, p.checks.len())).collect();
        assert_eq!(places, [(3, 1), (7, 2)]);
        let mut tally = Tally::new(&checks);
        tally.fill(&parts[1], &decision(true, &[false, true]).verdicts);
        assert!(tally.denies(), "whatever the rest says");
        assert!(tally.has_over(&parts[1]) && !tally.has_over(&parts[0]));
        tally.fill(&parts[0], &decision(false, &[false]).verdicts);
        let whole = tally.finish(true);
        let overs: Vec<bool> = whole.verdicts.iter().map(|verdict| verdict.over).collect();
        assert_eq!(overs, [false, false, true]);
    }

    #[test]
    fn quota_checks_deny_only_all_together_wherever_they_lie() {
        let quota = |hits| minute(DeniedHits::Free, Hits::Charge(hits), QUOTA);
        let checks = [quota(1), quota(2)];
        let parts = by_hits(&checks);
        for part in &parts {
            let role = part.checks[0].role;
            assert!(role.shadow && !role.quota, "a part alone must not deny");
        }
        let mut tally = Tally::new(&checks);
        tally.fill(&parts[0], &decision(false, &[true]).verdicts);
        assert!(!tally.denies());
        tally.fill(&parts[1], &decision(false, &[true]).verdicts);
        assert!(tally.denies());
    }

    #[test]
    fn only_what_was_charged_since_it_passed_is_given_back() {
        let debt = minute(DeniedHits::Debt, Hits::Charge(1), Role::default());
        let charged = minute(DeniedHits::Charged, Hits::Charge(1), Role::default());
        let refund = minute(DeniedHits::Free, Hits::Refund(1), Role::default());
        let checks = [plain(1), debt, charged, refund, plain(1)];
        let parts = split(&checks, |_| 0);
        let passed = decision(false, &[false, false, false, false, true]);
        assert_eq!(parts[0].to_give_back(&passed)[..], [0]);
        let denied = decision(true, &[false, false, false, false, true]);
        assert!(parts[0].to_give_back(&denied).is_empty(), "nothing landed");
        let uncounted = Decision {
            verdicts: vec![verdict(false, Source::Fallback); 5].into(),
            denied: false,
        };
        assert!(parts[0].to_give_back(&uncounted).is_empty());
    }
}
