//! Counts in rows of `N` cells, once for each shard: to count is one relaxed addition to a cache
//! line that no other core writes to.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shard;

/// Rows of cells. Rows are made in chunks, when they are first needed.
pub(super) struct Cells<const N: usize> {
    shards: Box<[Shard<N>]>,
}

/// What the threads of one core write to: chunks of [`CHUNK`] rows, made together.
type Shard<const N: usize> = Box<[OnceLock<Box<[Row<N>]>>]>;

/// Cache lines of its own.
#[repr(align(64))]
struct Row<const N: usize>([AtomicU64; N]);

impl<const N: usize> Cells<N> {
    /// At most `rows` of them, in so many shards (a power of two).
    pub(super) fn new(shards: usize, rows: usize) -> Self {
        let shard = || (0..rows.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
        }
    }

    /// Makes a row, with its neighbours, on every shard: later nobody has to.
    pub(super) fn make(&self, row: u32) {
        for shard in &self.shards {
            if let Some(chunk) = place(row).and_then(|(chunk, _)| shard.get(chunk)) {
                chunk.get_or_init(new_chunk);
            }
        }
    }

    /// Whether a row has been made.
    pub(super) fn has(&self, row: u32) -> bool {
        let chunk = self.shard_and_place(row);
        chunk.is_some_and(|(chunk, _)| chunk.get().is_some())
    }

    /// Adds to a cell; whether its row has been made.
    pub(super) fn add(&self, row: u32, cell: usize, count: u64) -> bool {
        let cells = self.shard_and_place(row).and_then(|(chunk, within)| {
            let rows = chunk.get()?;
            rows.get(within)
        });
        let cell = cells.and_then(|Row(cells)| cells.get(cell));
        if let Some(cell) = cell {
            cell.fetch_add(count, Ordering::Relaxed);
        }
        cell.is_some()
    }

    /// Adds to a cell of a row that is made if need be.
    pub(super) fn add_making(&self, row: u32, cell: usize, count: u64) {
        if let Some((chunk, within)) = self.shard_and_place(row)
            && let Some(Row(cells)) = chunk.get_or_init(new_chunk).get(within)
            && let Some(cell) = cells.get(cell)
        {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The sum of a cell over all shards.
    pub(super) fn total(&self, row: u32, cell: usize) -> u64 {
        let Some((chunk, within)) = place(row) else {
            return 0;
        };
        self.shards
            .iter()
            .filter_map(|shard| shard.get(chunk)?.get()?.get(within)?.0.get(cell))
            .map(|cell| cell.load(Ordering::Relaxed))
            .fold(0, u64::saturating_add)
    }

    fn shard_and_place(&self, row: u32) -> Option<(&OnceLock<Box<[Row<N>]>>, usize)> {
        let shard = self.shards.get(shard::of_this_thread(self.shards.len()))?;
        let (chunk, within) = place(row)?;
        Some((shard.get(chunk)?, within))
    }
}

fn place(row: u32) -> Option<(usize, usize)> {
    let row = usize::try_from(row).ok()?;
    Some((row / CHUNK, row % CHUNK))
}

fn new_chunk<const N: usize>() -> Box<[Row<N>]> {
    let row = |_| Row(std::array::from_fn(|_| AtomicU64::new(0)));
    (0..CHUNK).map(row).collect()
}

/// Rows that are made together.
const CHUNK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_add_is_summed() {
        let cells = Cells::<3>::new(4, 100);
        cells.make(70);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        assert!(cells.add(70, 2, 2));
                        cells.add_making(5, 0, 1);
                    }
                });
            }
        });
        assert_eq!((cells.total(70, 2), cells.total(5, 0)), (16_000, 8_000));
        assert_eq!((cells.total(70, 1), cells.total(99, 0)), (0, 0));
    }

    #[test]
    fn a_row_that_was_not_made_or_cannot_be_counts_nothing() {
        let cells = Cells::<2>::new(2, 100);
        assert!(!cells.add(3, 0, 1));
        cells.make(3);
        assert!(cells.add(3, 0, 1));
        assert!(!cells.add(3, 2, 1));
        cells.make(1_000);
        assert!(!cells.add(1_000, 0, 1));
        cells.add_making(u32::MAX, 0, 1);
        assert_eq!(cells.total(u32::MAX, 0), 0);
    }
}
