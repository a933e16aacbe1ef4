//! Runs the steps of one case in a function of their own, so that callgrind can count what they cost
//! and nothing else: `scripts/count-instructions`.
//!
//! `cargo bench --bench instructions -- CASE STEPS`; without arguments, the names of the cases.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it did"
)]

mod fixtures;

use fixtures::CASES;

/// As the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = words.collect();
    match words.as_slice() {
        [] => CASES.iter().for_each(|case| println!("{}", case.name)),
        [name, steps] => {
            let steps = steps.parse().expect("the second word is a number of steps");
            let case = CASES.iter().find(|case| case.name == name);
            let case = case.expect("the first word is the name of a case");
            counted_steps(&mut *case.ready(), steps);
            println!("{name}: {steps} steps");
        }
        other => panic!("a case and a number of steps, not {other:?}"),
    }
}

/// callgrind counts while this runs; the script knows it by its name.
#[inline(never)]
fn counted_steps(step: &mut dyn FnMut(), steps: u32) {
    for _ in 0..steps {
        step();
    }
}
