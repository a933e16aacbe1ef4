//! A thread of its own for work on policies, which then goes on beside the queries.

use std::panic::resume_unwind;
use std::thread;

use parking_lot::Mutex;
use tracing::warn;

use crate::pace;

/// Does `work` in short slices on a thread of its own, and waits for its result, which is always
/// there. Blocks. If the system refuses another thread, the work is done on this one.
///
/// The thread's name, `policies`, is what `top -H` and the bench show its CPU time under.
pub(crate) fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let work = Mutex::new(Some(work));
    let take = || {
        // Not under the lock.
        let work = work.lock().take();
        work.map(|work| pace::in_slices("policies", work))
    };
    thread::scope(|scope| {
        let named = thread::Builder::new().name("policies".into());
        match named.spawn_scoped(scope, take) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(error) => {
                warn!(%error, "cannot start a thread to read policies; using a shared one");
                take()
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn work_is_done_on_a_thread_of_its_own() {
        let name = in_background(|| thread::current().name().map(str::to_owned));
        assert_eq!(name.flatten().as_deref(), Some("policies"));
    }

    #[test]
    fn a_panic_is_passed_on() {
        let panicked = catch_unwind(|| in_background(|| panic!("on purpose")));
        let payload = panicked.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
    }
}
