//! How long each case takes, with criterion: `make bench-micro`. The same cases as those whose
//! instructions are counted.

use std::time::Duration;

use criterion::Criterion;

mod fixtures;

use fixtures::{CASES, Step};

/// As the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for case in CASES {
        // Only of what is asked for, and once: criterion runs the closure for each sample.
        let mut step: Option<Step> = None;
        criterion.bench_function(case.name, |bencher| {
            bencher.iter(step.get_or_insert_with(|| case.ready()));
        });
    }
    criterion.final_summary();
}
