//! Windows for tests that go by the real clock, which would otherwise fail when an hour or a day ends
//! while they run.

use std::sync::LazyLock;

use tollgate::clock::Clock;
use tollgate::model::{Algorithm, DeniedHits, Quota, Unit, Window};

/// A window so long that nothing of it comes back while a test runs: no cell of it ends within an
/// hour. In days, or in as many seconds, which a store for limits per second counts.
pub(crate) fn long_window(unit: Unit) -> Window {
    // A second longer, or it would be the same key in another store.
    let more = u64::from(unit == Unit::Second);
    let multiplier = *DAYS * Unit::Day.millis() / unit.millis() + more;
    Window::try_new(unit, u32::try_from(multiplier).unwrap()).unwrap()
}

/// So many in such a window.
pub(crate) fn long(algorithm: Algorithm, limit: u32, unit: Unit) -> Quota {
    Quota::try_new(limit, long_window(unit), algorithm, DeniedHits::Free).unwrap()
}

/// The policy with such a window in place of each hour.
pub(crate) fn without_hours(policy: &str) -> String {
    let unit = format!("unit: day, unit_multiplier: {}", *DAYS);
    policy.replace("unit: hour", &unit)
}

/// Looked up once, so that a test has the same keys from its beginning to its end.
static DAYS: LazyLock<u64> = LazyLock::new(|| {
    let now = Clock::system().now().as_millis();
    let far_from_an_edge = |days: &u64| {
        let cell = days * Unit::Day.millis() / 10;
        cell - now % cell > Unit::Hour.millis()
    };
    (100..).find(far_from_an_edge).expect("a number of days")
});
