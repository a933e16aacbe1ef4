//! Counts pause points instead of pausing: what a test can hold without a clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::Location;

thread_local! {
    static COUNTS: RefCell<Option<Counts>> = const { RefCell::new(None) };
}

/// The pause points that some work has passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// How often each was passed, by its file below `src`.
    pub(crate) by_file: BTreeMap<&'static str, u64>,
    /// The most units that were reported at once, and where.
    pub(crate) largest: (u32, Option<&'static Location<'static>>),
}

/// Counts the pause points of `work`.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, Counts) {
    COUNTS.replace(Some(Counts::default()));
    let result = work();
    (result, COUNTS.take().unwrap_or_default())
}

pub(super) fn count(units: u32, caller: &'static Location<'static>) {
    let _ending = COUNTS.try_with(|counts| {
        if let Some(counts) = &mut *counts.borrow_mut() {
            let file = caller.file().trim_start_matches("src/");
            *counts.by_file.entry(file).or_default() += 1;
            if units > counts.largest.0 {
                counts.largest = (units, Some(caller));
            }
        }
    });
}
