//! What alerts are judged by, counted: each event is an addition in memory of the thread's own
//! core, and a second one only if something took a millisecond.

use super::cells::Cells;
use crate::alert::{Counts, Tail};
use crate::event::{BreakerState, CallEnd, Operation, Served, StoreCalled, StoreChanged};

/// Two rows of plain counts, then the buckets of two tails, eight in a row.
pub(super) struct Tally(Cells<PER_ROW>);

impl Tally {
    pub(super) fn new(shards: usize) -> Self {
        let cells = Cells::new(shards, ROWS);
        // All rows are made together.
        cells.make(0);
        Self(cells)
    }

    pub(super) fn served(&self, event: Served) {
        self.count(match event.ended {
            CallEnd::Answered => ANSWERED,
            CallEnd::Refused(_) => REFUSED,
            CallEnd::Abandoned => ABANDONED,
        });
        if let Some(bucket) = Tail::bucket(event.duration) {
            self.count(CALL_TAIL.saturating_add(bucket));
        }
    }

    pub(super) fn unknown_domain(&self) {
        self.count(UNKNOWN_DOMAINS);
    }

    /// A counter that keys share has decided.
    pub(super) fn overflowed(&self) {
        self.count(OVERFLOWED);
    }

    pub(super) fn store_called(&self, event: StoreCalled<'_>) {
        self.count(STORE_CALLS);
        if event.operation == Operation::Decide {
            self.count(BATCHES);
            if event.result != "ok" {
                self.count(BATCH_FAILURES);
            }
        }
        if let Some(bucket) = Tail::bucket(event.duration) {
            self.count(STORE_TAIL.saturating_add(bucket));
        }
    }

    pub(super) fn store_changed(&self, event: StoreChanged<'_>) {
        if event.state == BreakerState::Open {
            self.count(TRIPS);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            answered: self.total(ANSWERED),
            refused: self.total(REFUSED),
            abandoned: self.total(ABANDONED),
            call_tail: self.tail(CALL_TAIL),
            batches: self.total(BATCHES),
            batch_failures: self.total(BATCH_FAILURES),
            store_calls: self.total(STORE_CALLS),
            store_tail: self.tail(STORE_TAIL),
            trips: self.total(TRIPS),
            unknown_domains: self.total(UNKNOWN_DOMAINS),
            overflowed: self.total(OVERFLOWED),
        }
    }

    fn tail(&self, from: usize) -> Tail {
        Tail::from_fn(|bucket| self.total(from.saturating_add(bucket)))
    }

    fn count(&self, place: usize) {
        let (row, cell) = row_and_cell(place);
        self.0.add(row, cell, 1);
    }

    fn total(&self, place: usize) -> u64 {
        let (row, cell) = row_and_cell(place);
        self.0.total(row, cell)
    }
}

fn row_and_cell(place: usize) -> (u32, usize) {
    let row = u32::try_from(place / PER_ROW).unwrap_or(u32::MAX);
    (row, place % PER_ROW)
}

const ANSWERED: usize = 0;
const REFUSED: usize = 1;
const ABANDONED: usize = 2;
const BATCHES: usize = 3;
const BATCH_FAILURES: usize = 4;
const STORE_CALLS: usize = 5;
const TRIPS: usize = 6;
const UNKNOWN_DOMAINS: usize = 7;
const OVERFLOWED: usize = 8;

/// Where the tails begin.
const CALL_TAIL: usize = 2 * PER_ROW;
const STORE_TAIL: usize = CALL_TAIL + Tail::BUCKETS;

const ROWS: usize = (STORE_TAIL + Tail::BUCKETS).div_ceil(PER_ROW);

/// A cache line.
const PER_ROW: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{Code, StoreName};

    fn served(ended: CallEnd, millis: u64) -> Served {
        Served {
            duration: Duration::from_millis(millis),
            ended,
        }
    }

    fn called(operation: Operation, result: &'static str, millis: u64) -> StoreCalled<'static> {
        StoreCalled {
            store: StoreName::Main,
            operation,
            result,
            duration: Duration::from_millis(millis),
            queries: 1,
            checks: 1,
            domains: &[],
            traced: crate::event::TracedQueries {
                spans: &[],
                node: "",
                started: None,
            },
        }
    }

    #[test]
    fn calls_are_counted_by_how_they_ended_and_the_slow_ones_by_how_long_they_took() {
        let tally = Tally::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        tally.served(served(CallEnd::Answered, 0));
                        tally.served(served(CallEnd::Answered, 5));
                        tally.served(served(CallEnd::Abandoned, 20));
                    }
                    tally.served(served(CallEnd::Refused(Code::Unavailable), 70_000));
                });
            }
        });
        let counts = tally.counts();
        assert_eq!(
            (counts.answered, counts.refused, counts.abandoned),
            (80, 4, 40)
        );
        let slowest = |rank| counts.call_tail.slowest(rank).as_millis();
        assert_eq!(slowest(4), 65_536, "longer than the last bucket begins");
        assert!((18..=23).contains(&slowest(5)) && (18..=23).contains(&slowest(44)));
        assert!((4..=6).contains(&slowest(45)) && (4..=6).contains(&slowest(84)));
        assert_eq!(slowest(85), 0);
        assert_eq!(counts.store_tail, Tail::default());
    }

    #[test]
    fn only_calls_that_carry_queries_are_batches_and_all_of_them_take_time() {
        let tally = Tally::new(1);
        tally.store_called(called(Operation::Decide, "ok", 0));
        tally.store_called(called(Operation::Decide, "timeout", 3_000));
        for operation in [Operation::Probe, Operation::Connect, Operation::Heartbeat] {
            tally.store_called(called(operation, "refused", 50));
        }
        let counts = tally.counts();
        assert_eq!((counts.batches, counts.batch_failures), (2, 1));
        assert_eq!(counts.store_calls, 5);
        assert!(counts.store_tail.slowest(1) > Duration::from_secs(2));
        assert!(counts.store_tail.slowest(4) > Duration::from_millis(40));
        assert_eq!(counts.call_tail, Tail::default());
    }

    #[test]
    fn a_breaker_trips_when_it_opens() {
        let tally = Tally::new(1);
        for state in BreakerState::ALL {
            tally.store_changed(StoreChanged {
                store: StoreName::Main,
                node: "127.0.0.1:6379",
                state,
            });
        }
        assert_eq!(tally.counts().trips, 1);
    }
}
