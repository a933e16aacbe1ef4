//! Redis breaks under load, in front of everything a real Envoy: who notices?
//!
//! - `scenarios`: Redis frozen, killed, failed over, behind one Envoy with its default timeout of
//!   20 ms and two Tollgates, at a thousand requests a second (fewer where the machine is slow). Beside each run with a fault there is
//!   one without, on the same processes; what Envoy had to let through unlimited may hardly differ.
//! - `fire`: four Tollgates hammer one key, one of them dies, and no window holds more than its
//!   rule allows, nor less.
//! - `outage`: what three Tollgates admit while there is no Redis.
//! - `stalls`: what is decided without a Redis that pauses again and again.
//!
//! `make test` runs all of them short ([`SHORT`]); `make faults` runs them at full length and prints
//! what was measured as tables. They run one at a time ([`alone`]), since each wants the machine.

mod bed;
mod fire;
mod history;
pub(crate) mod load;
mod outage;
mod pressure;
mod report;
mod run;
mod scenarios;
mod stalls;
mod states;
mod ticker;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

/// How long everything takes, and how much is forgiven.
#[derive(Clone, Copy, Debug)]
struct Length {
    /// Users that are asked for, ten times a second each, if the machine bears it.
    users: u32,
    /// How often they may be halved if it does not.
    halvings: u32,
    /// A run under load.
    load: Duration,
    /// Of it, before the fault.
    before: Duration,
    /// Redis is frozen for so long.
    freeze: Duration,
    /// Redis is gone for so long before it comes back.
    absence: Duration,
    /// Pairs of a run with the fault and one without; medians are judged.
    pairs: usize,
    /// How many requests in 10,000 may pass undecided beyond those that do without a fault, ...
    forgiven: u64,
    /// ... and how many at least.
    forgiven_at_least: u64,
    /// How many more may pass undecided for each one that does in the worst run without a fault. Where
    /// calls are late for want of a core, two runs under the same load differ by as much as there are.
    forgiven_for_each: u64,
    /// From when Redis can serve again until every Tollgate uses it.
    recovery: Duration,
    /// Ends of windows to cross under fire.
    edges: u64,
    /// How many times as long a query on ten slots may take as one on one.
    ten_slots: u32,
    /// Redis is gone for so long where the outage is measured.
    outage: Duration,
    /// Pauses of Redis in milliseconds, and the percentage of the time that they take.
    stalls: &'static [(u64, u32)],
}

/// What the README promises.
const FULL: Length = Length {
    users: 100,
    halvings: 0,
    load: Duration::from_secs(30),
    before: Duration::from_secs(5),
    freeze: Duration::from_secs(5),
    absence: Duration::from_secs(10),
    pairs: 3,
    forgiven: 5,
    forgiven_at_least: 0,
    forgiven_for_each: 0,
    recovery: Duration::from_secs(3),
    edges: 20,
    ten_slots: 2,
    outage: Duration::from_secs(30),
    stalls: &[
        (5, 1),
        (5, 4),
        (5, 10),
        (20, 1),
        (20, 4),
        (20, 10),
        (50, 1),
        (50, 4),
        (50, 10),
        (200, 1),
        (200, 4),
        (200, 10),
    ],
};

/// The same behaviour on a machine that has other things to do. A Tollgate that waits for a
/// frozen Redis lets half of all requests through in this time.
const SHORT: Length = Length {
    // Without the compiler's help two replicas take half of two cores for this.
    users: 50,
    halvings: 2,
    load: Duration::from_secs(4),
    before: Duration::from_secs(1),
    freeze: Duration::from_secs(1),
    absence: Duration::from_secs(1),
    pairs: 1,
    forgiven: 50,
    forgiven_at_least: 5,
    forgiven_for_each: 1,
    recovery: Duration::from_secs(6),
    edges: 3,
    // Without the compiler's help, work counts for more beside waiting.
    ten_slots: 3,
    outage: Duration::from_secs(4),
    stalls: &[(50, 10)],
};

impl Length {
    fn chosen() -> Self {
        if report_file().is_some() { FULL } else { SHORT }
    }

    /// How many more of `requests` may pass undecided with a fault than the `undecided` without one.
    fn forgiven(&self, requests: u64, undecided: u64) -> u64 {
        let share = (requests * self.forgiven / 10_000).max(self.forgiven_at_least);
        share + undecided * self.forgiven_for_each
    }
}

/// One at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Where `make faults` wants the tables.
#[expect(
    clippy::disallowed_methods,
    reason = "how `make faults` tells the tests"
)]
fn report_file() -> Option<PathBuf> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let read = || std::env::var("FAULTS_REPORT").ok().map(PathBuf::from);
    FILE.get_or_init(read).clone()
}
