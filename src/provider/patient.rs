//! Work that may take its time: it runs when nothing else wants the core that it is on.
//!
//! To read a hundred thousand rules is half a second's work. A thread like any other would take
//! turns with those that answer queries, some milliseconds each, and each query would wait for such a turn.
//! So it is done under Linux's `SCHED_IDLE`: whatever else is to be done there goes first, at once.

use std::panic::resume_unwind;
use std::thread;

use parking_lot::Mutex;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tracing::{debug, warn};

/// Does `work` when there is time for it, on a thread of its own, and waits for what it comes to, which
/// is always there. Blocks. Where the machine has no thread for it, it is done on this one.
pub(crate) fn patiently<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let work = Mutex::new(Some(work));
    let take = || {
        // Not under the lock.
        let work = work.lock().take();
        work.map(|work| work())
    };
    thread::scope(|scope| {
        let patient = thread::Builder::new().name("patient".into());
        let spawned = patient.spawn_scoped(scope, || {
            step_back();
            take()
        });
        match spawned {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(error) => {
                warn!(%error, "cannot start a thread to read policies on; queries may wait while they are read");
                take()
            }
        }
    })
}

/// Lets all others go first, for as long as this thread lives: to take it back is not allowed.
fn step_back() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let this = thread_native_id();
    if let Err(error) = set_thread_priority_and_policy(this, ThreadPriority::Min, idle) {
        debug!(
            ?error,
            "cannot lower the priority of reading policies; it competes with queries"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use thread_priority::unix::thread_schedule_policy;

    use super::*;

    #[test]
    fn others_go_first_and_this_thread_stays_as_it_is() {
        let before = thread_schedule_policy().unwrap();
        let during = patiently(|| thread_schedule_policy().unwrap());
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(during, Some(idle));
        assert_eq!(thread_schedule_policy().unwrap(), before);
    }

    #[test]
    fn a_panic_is_handed_on() {
        let panicked = catch_unwind(|| patiently(|| panic!("as told")));
        let told = panicked.unwrap_err();
        assert_eq!(told.downcast_ref::<&str>(), Some(&"as told"));
    }
}
