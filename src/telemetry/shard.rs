//! One shard of every hot counter per core, so that no two cores write to the same cache line.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many shards to keep: one per core, rounded up to a power of two, at most [`MAX`].
pub(super) fn count() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .next_power_of_two()
        .min(MAX)
}

/// The calling thread's shard among `shards`, which is a power of two. Threads get theirs in turn,
/// when they first ask: as many workers as shards share nothing.
pub(super) fn of_this_thread(shards: usize) -> usize {
    TICKET.with(|ticket| {
        let number = ticket.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            ticket.set(Some(next));
            next
        });
        number & shards.saturating_sub(1)
    })
}

thread_local! {
    static TICKET: Cell<Option<usize>> = const { Cell::new(None) };
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Most shards: beyond it, cores share, and memory stays bounded on large machines.
const MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_shard_and_the_next_one_gets_another() {
        let (first, again) = (of_this_thread(MAX), of_this_thread(MAX));
        assert_eq!(first, again);
        let other = std::thread::spawn(|| (of_this_thread(MAX), of_this_thread(MAX)));
        let (other, other_again) = other.join().unwrap();
        assert_eq!(other, other_again);
        assert!(other < MAX);
    }

    #[test]
    fn there_is_a_shard_for_every_core_and_their_number_is_a_power_of_two() {
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!(count().is_power_of_two());
        assert!(count() >= cores.min(MAX) && count() <= MAX);
        assert_eq!(of_this_thread(1), 0);
    }
}
