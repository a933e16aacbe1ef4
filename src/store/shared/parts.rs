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
