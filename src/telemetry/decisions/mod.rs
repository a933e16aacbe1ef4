//! Counts of decisions: an index into cells of the thread's own shard, and nothing else.
//!
//! Every (domain, rule) has a row of cells in every shard, one for each way a decision can end: how,
//! and who said so ([`Slot`]). The usual ones share a cache line; those for trouble (the store away,
//! the table full) are made when they are first needed. `meter` numbers the rows and makes their
//! cells before the rule takes effect, so counting is one relaxed addition to a cache line that no
//! other core writes to: no lock, no allocation, no text. Whoever collects sums over the shards.
//!
//! Everything is capped, and nothing is lost by it: a rule beyond [`MAX_ROWS`], or a series (rule
//! and slot) beyond [`MAX_SERIES`], is summed under the rule `(other)`; a label beyond its caps is
//! counted under its rule's own path. A series that was exported once stays exported, so no counter
//! ever goes backwards.

mod slot;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::cells::Cells;
use crate::event::{Decided, DecidedBy};
pub(super) use slot::Slot;

/// All counts of decisions.
pub(super) struct Decisions {
    /// Who decides as a rule: what it says has cells in the usual line.
    usual_by: DecidedBy,
    usual: Cells<{ slot::USUAL }>,
    rare: Cells<{ slot::RARE }>,
    names: Mutex<Names>,
    /// By meter: the rows of its labels.
    labels: Box<[OnceLock<ArcSwap<Labels>>]>,
    labels_full: AtomicBool,
    /// Decisions whose label has no row, since there are too many.
    labels_folded: Cells<1>,
}

/// One count, as it is exported.
pub(super) struct Series<'a> {
    pub(super) domain: &'a Arc<str>,
    pub(super) rule: &'a Arc<str>,
    pub(super) slot: Slot,
    pub(super) count: u64,
}

impl Decisions {
    /// Nothing counted, in so many shards (a power of two). `usual_by` is who decides as a rule.
    pub(super) fn new(shards: usize, usual_by: DecidedBy) -> Self {
        let decisions = Self {
            usual_by,
            usual: Cells::new(shards, MAX_ROWS),
            rare: Cells::new(shards, MAX_ROWS),
            names: Mutex::new(Names::default()),
            labels: (0..MAX_ROWS).map(|_| OnceLock::new()).collect(),
            labels_full: AtomicBool::new(false),
            labels_folded: Cells::new(shards, 1),
        };
        // Takes the row OVERFLOW, being the first.
        decisions.meter(OTHER, OTHER);
        decisions
    }

    /// The row of `rule` in `domain`, which is made if it is new.
    pub(super) fn meter(&self, domain: &str, rule: &str) -> u32 {
        self.row(&mut self.names.lock(), domain, rule)
            .unwrap_or(OVERFLOW)
    }

    /// Counts one decision.
    pub(super) fn count(&self, event: Decided<'_>) {
        let row = match event.label.map(|label| self.label_row(event.meter, label)) {
            Some(Ok(row)) => row,
            Some(Err(NoRow::Full)) if event.meter != OVERFLOW => {
                self.labels_folded.add_making(0, 0, 1);
                event.meter
            }
            None | Some(Err(NoRow::Busy | NoRow::Full)) => event.meter,
        };
        self.add(row, Slot::new(event.outcome, event.by), 1);
        if event.near_limit > 0 {
            self.add(row, Slot::NearLimit, event.near_limit);
        }
    }

    fn add(&self, row: u32, slot: Slot, count: u64) {
        match slot.usual(self.usual_by) {
            Some(cell) => {
                if !self.usual.add(row, cell, count) {
                    self.usual.add(OVERFLOW, cell, count);
                }
            }
            None => {
                let row = if self.usual.has(row) { row } else { OVERFLOW };
                self.rare.add_making(row, slot.rare(), count);
            }
        }
    }

    /// Hands over every series that has counted something, those of `(other)` last.
    pub(super) fn visit(&self, mut each: impl FnMut(Series<'_>)) {
        let mut names = self.names.lock();
        let rest = self.sum(&mut names, &mut each);
        if let Some(Name { domain, rule, .. }) = names.rows.first() {
            for (slot, count) in rest.into_iter().filter(|(_, count)| *count > 0) {
                each(Series {
                    domain,
                    rule,
                    slot,
                    count,
                });
            }
        }
    }

    /// Hands over how many decisions of each domain were whose, no cap on series heeded.
    pub(super) fn visit_sources(&self, mut each: impl FnMut(&Arc<str>, DecidedBy, u64)) {
        let names = self.names.lock();
        for (row, name) in (0..).zip(&names.rows) {
            for slot in Slot::all() {
                if let Slot::Decided(_, by) = slot
                    && let count @ 1.. = self.total(row, slot)
                {
                    each(&name.domain, by, count);
                }
            }
        }
    }

    /// What a row is called: domain and rule.
    pub(super) fn name(&self, row: u32) -> Option<(Arc<str>, Arc<str>)> {
        let names = self.names.lock();
        let name = names.rows.get(usize::try_from(row).ok()?)?;
        Some((Arc::clone(&name.domain), Arc::clone(&name.rule)))
    }

    /// Decisions that a cap has put elsewhere than under their own name.
    pub(super) fn overflowed(&self) -> u64 {
        let rest = self.sum(&mut self.names.lock(), &mut |_| ());
        rest.into_iter()
            .filter(|(slot, _)| *slot != Slot::NearLimit)
            .map(|(_, count)| count)
            .chain([self.labels_folded.total(0, 0)])
            .fold(0, u64::saturating_add)
    }

    /// Hands over the series that have a name, and returns the sums of those that have none.
    fn sum(&self, names: &mut Names, each: &mut impl FnMut(Series<'_>)) -> Vec<(Slot, u64)> {
        let slots = Slot::all();
        let of_overflow = |slot| (slot, self.total(OVERFLOW, slot));
        let mut rest: Vec<(Slot, u64)> = slots.map(of_overflow).collect();
        let mut series = names.series;
        for (row, name) in (0..).zip(&mut names.rows).skip(1) {
            for (slot, folded) in &mut rest {
                let count = self.total(row, *slot);
                let bit = slot.bit();
                if count > 0 && name.exported & bit == 0 && series < MAX_SERIES {
                    name.exported |= bit;
                    series = series.saturating_add(1);
                }
                if name.exported & bit != 0 {
                    each(Series {
                        domain: &name.domain,
                        rule: &name.rule,
                        slot: *slot,
                        count,
                    });
                } else {
                    *folded = folded.saturating_add(count);
                }
            }
        }
        names.series = series;
        rest
    }

    fn total(&self, row: u32, slot: Slot) -> u64 {
        match slot.usual(self.usual_by) {
            Some(cell) => self.usual.total(row, cell),
            None => self.rare.total(row, slot.rare()),
        }
    }

    /// The row of a label of a rule, if it has one or gets one now.
    fn label_row(&self, meter: u32, label: &str) -> Result<u32, NoRow> {
        let label = clipped(label);
        let slot = usize::try_from(meter).map(|meter| self.labels.get(meter));
        let labels = slot.ok().flatten().and_then(OnceLock::get);
        let labels = labels.ok_or(NoRow::Full)?;
        let known = labels.load();
        if let Some(row) = known.get(label) {
            return Ok(*row);
        }
        if known.len() >= MAX_LABELS_PER_RULE || self.labels_full.load(Ordering::Relaxed) {
            return Err(NoRow::Full);
        }
        drop(known);
        // While somebody collects, the new label waits for the next decision.
        let mut names = self.names.try_lock().ok_or(NoRow::Busy)?;
        let row = self.new_label(&mut names, meter, labels, label);
        row.ok_or(NoRow::Full)
    }

    fn new_label(
        &self,
        names: &mut Names,
        meter: u32,
        labels: &ArcSwap<Labels>,
        label: &str,
    ) -> Option<u32> {
        let known = labels.load();
        if let Some(row) = known.get(label) {
            return Some(*row);
        }
        if names.labels >= MAX_LABELS || known.len() >= MAX_LABELS_PER_RULE {
            return None;
        }
        let domain = Arc::clone(&names.rows.get(usize::try_from(meter).ok()?)?.domain);
        let row = self.row(names, &domain, label)?;
        names.labels = names.labels.saturating_add(1);
        self.labels_full
            .store(names.labels >= MAX_LABELS, Ordering::Relaxed);
        let mut grown = Labels::clone(&known);
        grown.insert(Arc::from(label), row);
        labels.store(Arc::new(grown));
        Some(row)
    }

    /// The row of a name, with cells in every shard; none if it is new and there are too many.
    fn row(&self, names: &mut Names, domain: &str, rule: &str) -> Option<u32> {
        let known = names.by_name.get(domain).and_then(|rules| rules.get(rule));
        if let Some(row) = known {
            return Some(*row);
        }
        let slot = self.labels.get(names.rows.len())?;
        let row = u32::try_from(names.rows.len()).ok()?;
        self.usual.make(row);
        slot.get_or_init(ArcSwap::default);
        let (domain, rule): (Arc<str>, Arc<str>) = (Arc::from(domain), Arc::from(rule));
        let rules = names.by_name.entry(Arc::clone(&domain)).or_default();
        rules.insert(Arc::clone(&rule), row);
        names.rows.push(Name {
            domain,
            rule,
            exported: 0,
        });
        Some(row)
    }
}

/// Why a decision is counted under its rule's own path, though it has a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRow {
    /// Somebody else looks through the names or adds one; the next decision may have one.
    Busy,
    /// There are as many as there may be.
    Full,
}

/// What the rows are called. Locked to make a row and to collect; to count, it is only tried, for
/// the first decision with a label.
#[derive(Default)]
struct Names {
    rows: Vec<Name>,
    by_name: HashMap<Arc<str>, HashMap<Arc<str>, u32>>,
    /// Entries of all label maps.
    labels: usize,
    /// Bits set in all `exported`.
    series: usize,
}

struct Name {
    domain: Arc<str>,
    rule: Arc<str>,
    /// A bit for each slot that is a series of its own.
    exported: u64,
}

/// Label to row. Replaced as a whole when one is added, so that readers need no lock.
type Labels = HashMap<Arc<str>, u32>;

fn clipped(label: &str) -> &str {
    label
        .get(..label.floor_char_boundary(MAX_LABEL_LEN))
        .unwrap_or(label)
}

/// Most series (rule and slot) that are exported by name.
pub(super) const MAX_SERIES: usize = 10_000;

/// Most rows, rules and labels together.
pub(super) const MAX_ROWS: usize = 10_000;

/// Most labels that all rules together may have: they never crowd out a rule.
pub(super) const MAX_LABELS: usize = 5_000;

/// Most labels of one rule.
pub(super) const MAX_LABELS_PER_RULE: usize = 1_000;

/// Longest label, in bytes; the rest is cut.
pub(super) const MAX_LABEL_LEN: usize = 200;

/// The rule and domain of what has no row of its own.
pub(super) const OTHER: &str = "(other)";

/// The row of everything that has none.
pub(super) const OVERFLOW: u32 = 0;

#[cfg(test)]
mod tests;
