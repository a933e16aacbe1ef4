//! One timer for all the queries that wait on a core.
//!
//! Each query has a time after which it waits no longer, and hardly any reaches it. A timer of the
//! runtime for each would be set and cleared again for nothing, and one that is due before all others
//! wakes the event loop, which is a system call more on the way of a query that is alone. So only
//! the earliest time is set here, and it stays set when its query is answered: then the next earliest is
//! looked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::now;

/// Wakes those who have waited long enough, while [`Timer::run`] is polled.
#[derive(Debug, Default)]
pub(super) struct Timer {
    state: Mutex<State>,
    /// Told when somebody is due before what is set.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Slab<Waiter>,
    /// When who waits is looked at next. Never after anybody's time.
    set: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    due: Instant,
    /// None once the time was over.
    waker: Option<Waker>,
}

/// A future that is waited for until its time is over.
#[derive(Debug)]
pub(super) struct Until<'a, F> {
    future: F,
    timer: &'a Timer,
    due: Instant,
    place: Option<usize>,
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

impl Timer {
    /// Waits for `future` until `due`, or a little longer: the runtime counts milliseconds.
    pub(super) fn until<F: Future + Unpin>(&self, due: Instant, future: F) -> Until<'_, F> {
        Until {
            future,
            timer: self,
            due,
            place: None,
        }
    }

    /// Wakes whom it must, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let (over, next) = self.state.lock().look(now());
            over.into_iter().for_each(Waker::wake);
            tokio::select! {
                () = self.earlier.notified() => {}
                () = sleep_until(next.unwrap_or_else(now).into()), if next.is_some() => {}
            }
        }
    }

    fn enter(&self, due: Instant, waker: &Waker) -> usize {
        let mut state = self.state.lock();
        let is_first = state.set.is_none_or(|set| due < set);
        if is_first {
            state.set = Some(due);
        }
        let place = state.waiting.insert(Waiter {
            due,
            waker: Some(waker.clone()),
        });
        drop(state);
        if is_first {
            self.earlier.notify_one();
        }
        place
    }

    /// Whether the time of who waits there is over.
    fn is_over(&self, place: usize, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        match state.waiting.get_mut(place).map(|waiter| &mut waiter.waker) {
            Some(Some(known)) => {
                known.clone_from(waker);
                false
            }
            Some(None) | None => true,
        }
    }

    fn leave(&self, place: usize) {
        self.state.lock().waiting.try_remove(place);
    }
}

impl State {
    /// Those whose time is over, and when to look again.
    fn look(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>) {
        let mut over = Vec::new();
        self.set = None;
        for (_, waiter) in &mut self.waiting {
            if waiter.due <= now {
                over.extend(waiter.waker.take());
            } else {
                self.set = Some(self.set.map_or(waiter.due, |set| set.min(waiter.due)));
            }
        }
        (over, self.set)
    }
}

impl<F: Future + Unpin> Future for Until<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = Pin::new(&mut self.future).poll(context) {
            return Poll::Ready(Ok(output));
        }
        match self.place {
            Some(place) if self.timer.is_over(place, context.waker()) => Poll::Ready(Err(Elapsed)),
            Some(_) => Poll::Pending,
            None => {
                self.place = Some(self.timer.enter(self.due, context.waker()));
                Poll::Pending
            }
        }
    }
}

impl<F> Drop for Until<'_, F> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.timer.leave(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use futures_util::future::join;
    use tokio::sync::oneshot;

    use super::*;

    fn timer() -> Arc<Timer> {
        let timer = Arc::new(Timer::default());
        drop(tokio::spawn(Arc::clone(&timer).run()));
        timer
    }

    #[tokio::test]
    async fn who_is_not_answered_is_told_so_and_not_before_time() {
        let timer = timer();
        let start = now();
        let after = |millis| start + Duration::from_millis(millis);
        // The later one first, so that the timer must be set anew.
        let wait = async |millis| {
            let waited = timer.until(after(millis), pending::<()>()).await;
            (waited, now() >= after(millis))
        };
        let (late, early) = join(wait(30), wait(10)).await;
        assert_eq!((early, late), ((Err(Elapsed), true), (Err(Elapsed), true)));
        assert_eq!(wait(0).await, (Err(Elapsed), true), "a time that is past");
        assert!(timer.state.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn an_answer_in_time_leaves_the_timer_as_it_is() {
        let timer = timer();
        let due = now() + Duration::from_secs(3600);
        assert_eq!(timer.until(due, ready(1)).await, Ok(1));
        assert_eq!(timer.state.lock().set, None, "nobody has waited");
        let (tell, told) = oneshot::channel();
        let (answered, ()) = join(timer.until(due, told), async {
            tell.send(2).unwrap();
        })
        .await;
        assert_eq!(answered, Ok(Ok(2)));
        let state = timer.state.lock();
        assert_eq!((state.waiting.len(), state.set), (0, Some(due)));
    }

    #[tokio::test]
    async fn who_waits_longer_than_the_one_before_is_woken_all_the_same() {
        let timer = timer();
        let soon = now() + Duration::from_millis(10);
        let later = soon + Duration::from_millis(10);
        // Is answered, and leaves the timer set.
        let (tell, told) = oneshot::channel();
        let (answered, ()) = join(timer.until(soon, told), async {
            tell.send(()).unwrap();
        })
        .await;
        assert_eq!(answered, Ok(Ok(())));
        let waited = timer.until(later, pending::<()>()).await;
        assert_eq!((waited, now() >= later), (Err(Elapsed), true));
    }
}
