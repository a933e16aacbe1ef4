//! Counts of decisions: an index into cells of the thread's own shard, and nothing else.
//!
//! Every (domain, rule) has a row of eight cells, one per [`Outcome`], in every shard. `meter`
//! numbers the rows and makes their cells before the rule takes effect, so counting is one relaxed
//! addition to a cache line that no other core writes to: no lock, no allocation, no text.
//! Whoever collects sums over the shards.
//!
//! Everything is capped, and nothing is lost by it: a rule beyond [`MAX_ROWS`], or a series (rule
//! and outcome) beyond [`MAX_SERIES`], is summed under the rule `(other)`; a label beyond its caps
//! is counted under its rule's own path. A series that was exported once stays exported, so no
//! counter ever goes backwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::shard;
use crate::event::{Decided, Outcome};

/// All counts of decisions.
pub(super) struct Decisions {
    shards: Box<[Shard]>,
    names: Mutex<Names>,
    /// By meter: the rows of its labels.
    labels: Box<[OnceLock<ArcSwap<Labels>>]>,
    labels_full: AtomicBool,
}

/// One count, as it is exported.
pub(super) struct Series<'a> {
    pub(super) domain: &'a Arc<str>,
    pub(super) rule: &'a Arc<str>,
    pub(super) outcome: Outcome,
    pub(super) count: u64,
}

impl Decisions {
    /// Nothing counted, in so many shards (a power of two).
    pub(super) fn new(shards: usize) -> Self {
        let decisions = Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            names: Mutex::new(Names::default()),
            labels: (0..MAX_ROWS).map(|_| OnceLock::new()).collect(),
            labels_full: AtomicBool::new(false),
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
        let Some(shard) = self.shards.get(shard::of_this_thread(self.shards.len())) else {
            return;
        };
        let row = match event.label {
            None => Some(event.meter),
            Some(label) => self.label_row(event.meter, label),
        };
        if row.is_none() && event.meter != OVERFLOW {
            shard.labels_folded.fetch_add(1, Ordering::Relaxed);
        }
        let row = row.unwrap_or(event.meter);
        if let Some(cell) = shard.cell(row, event.outcome) {
            cell.fetch_add(1, Ordering::Relaxed);
        } else if let Some(cell) = shard.cell(OVERFLOW, event.outcome) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over every series that has counted something, those of `(other)` last.
    pub(super) fn visit(&self, mut each: impl FnMut(Series<'_>)) {
        let mut names = self.names.lock();
        let rest = self.sum(&mut names, &mut each);
        if let Some(Name { domain, rule, .. }) = names.rows.first() {
            for (outcome, count) in rest.into_iter().filter(|(_, count)| *count > 0) {
                each(Series {
                    domain,
                    rule,
                    outcome,
                    count,
                });
            }
        }
    }

    /// Decisions that a cap has put elsewhere than under their own name.
    pub(super) fn overflowed(&self) -> u64 {
        let rest = self.sum(&mut self.names.lock(), &mut |_| ());
        let folded = self.shards.iter().map(|s| &s.labels_folded);
        rest.into_iter()
            .map(|(_, count)| count)
            .chain(folded.map(|f| f.load(Ordering::Relaxed)))
            .fold(0, u64::saturating_add)
    }

    /// Hands over the series that have a name, and returns the sums of those that have none.
    fn sum(&self, names: &mut Names, each: &mut impl FnMut(Series<'_>)) -> [(Outcome, u64); 8] {
        let mut rest = Outcome::ALL.map(|outcome| (outcome, self.total(OVERFLOW, outcome)));
        let mut series = names.series;
        for (row, name) in (0..).zip(&mut names.rows).skip(1) {
            for (outcome, folded) in &mut rest {
                let count = self.total(row, *outcome);
                let bit = 1 << outcome.index();
                if count > 0 && name.exported & bit == 0 && series < MAX_SERIES {
                    name.exported |= bit;
                    series = series.saturating_add(1);
                }
                if name.exported & bit != 0 {
                    each(Series {
                        domain: &name.domain,
                        rule: &name.rule,
                        outcome: *outcome,
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

    fn total(&self, row: u32, outcome: Outcome) -> u64 {
        self.shards
            .iter()
            .filter_map(|shard| shard.cell(row, outcome))
            .map(|cell| cell.load(Ordering::Relaxed))
            .fold(0, u64::saturating_add)
    }

    /// The row of a label of a rule; none if it has none and cannot get one.
    fn label_row(&self, meter: u32, label: &str) -> Option<u32> {
        let label = clipped(label);
        let slot = self.labels.get(usize::try_from(meter).ok()?)?;
        let labels = slot.get()?;
        let known = labels.load();
        if let Some(row) = known.get(label) {
            return Some(*row);
        }
        if known.len() >= MAX_LABELS_PER_RULE || self.labels_full.load(Ordering::Relaxed) {
            return None;
        }
        drop(known);
        self.new_label(meter, labels, label)
    }

    fn new_label(&self, meter: u32, labels: &ArcSwap<Labels>, label: &str) -> Option<u32> {
        // While somebody collects, the new label waits for the next decision.
        let mut names = self.names.try_lock()?;
        let known = labels.load();
        if let Some(row) = known.get(label) {
            return Some(*row);
        }
        if names.labels >= MAX_LABELS || known.len() >= MAX_LABELS_PER_RULE {
            return None;
        }
        let domain = Arc::clone(&names.rows.get(usize::try_from(meter).ok()?)?.domain);
        let row = self.row(&mut names, &domain, label)?;
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
        for shard in &self.shards {
            shard.make(row);
        }
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
    /// A bit for each outcome that is a series of its own.
    exported: u8,
}

/// Label to row. Replaced as a whole when one is added, so that readers need no lock.
type Labels = HashMap<Arc<str>, u32>;

/// What the threads of one core write to.
struct Shard {
    /// Cells of [`CHUNK`] rows each, made together.
    chunks: Box<[OnceLock<Box<[Row]>>]>,
    labels_folded: AtomicU64,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            chunks: (0..MAX_ROWS.div_ceil(CHUNK))
                .map(|_| OnceLock::new())
                .collect(),
            labels_folded: AtomicU64::new(0),
        }
    }
}

impl Shard {
    fn cell(&self, row: u32, outcome: Outcome) -> Option<&AtomicU64> {
        let row = usize::try_from(row).ok()?;
        let chunk = self.chunks.get(row / CHUNK)?.get()?;
        chunk.get(row % CHUNK)?.0.get(outcome.index())
    }

    fn make(&self, row: u32) {
        let chunk = usize::try_from(row)
            .ok()
            .and_then(|row| self.chunks.get(row / CHUNK));
        if let Some(chunk) = chunk {
            chunk.get_or_init(|| (0..CHUNK).map(|_| Row::default()).collect());
        }
    }
}

/// A cache line of counts, by [`Outcome::index`].
#[derive(Default)]
#[repr(align(64))]
struct Row([AtomicU64; 8]);

fn clipped(label: &str) -> &str {
    label
        .get(..label.floor_char_boundary(MAX_LABEL_LEN))
        .unwrap_or(label)
}

/// Most series (rule and outcome) that are exported by name.
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
const OVERFLOW: u32 = 0;

/// Rows that are made together: a page of cells.
const CHUNK: usize = 64;

#[cfg(test)]
mod tests;
