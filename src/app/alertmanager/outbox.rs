//! What one Alertmanager has still to be told, and when: a state machine without a queue.

use std::time::Duration;

use crate::alert::{Alert, State, Transition};
use crate::app::alerts::Latest;
use crate::clock::Timestamp;

/// The last transition of each alert, and whether it was told. Nothing here can grow: a transition
/// that was not told in time is overtaken by the next one of the same alert.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    slots: [Slot; Alert::ALL.len()],
    /// Nothing is tried before.
    rest_until: Duration,
    /// Attempts in a row that failed.
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    transition: Option<Transition>,
    /// When it was taken in.
    since: Duration,
    /// When the alert began to fire last.
    began: Timestamp,
    /// When it was told last, if it was.
    told: Option<Duration>,
    /// Alertmanager has been told, or may have been, that the alert fires.
    known: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, until something changes.
    Idle,
    /// Something, after so long.
    Later(Duration),
    /// Post now.
    Now,
}

impl Outbox {
    /// Takes in how things stand; how many transitions will not be told any more.
    pub(super) fn take_in(&mut self, now: Duration, latest: &Latest) -> u64 {
        let mut dropped = 0;
        for (slot, transition) in self.slots.iter_mut().zip(latest) {
            if *transition != slot.transition {
                dropped += u64::from(slot.transition.is_some() && slot.told.is_none());
                slot.transition = *transition;
                slot.since = now;
                slot.told = None;
                if let Some(own) = transition
                    && own.state == State::Firing
                {
                    slot.began = own.at;
                }
            }
            // What nobody heard of need not be called off, and what is long over has lapsed.
            let lapsed = now.saturating_sub(slot.since) >= LAPSE;
            if slot.waits() && slot.is(State::Resolved) && (!slot.known || lapsed) {
                dropped += 1;
                slot.told = Some(now);
                slot.known = false;
            }
        }
        dropped
    }

    /// What is to be done next.
    pub(super) fn next(&self, now: Duration) -> Next {
        let due = self.slots.iter().filter_map(|slot| slot.due());
        match due.min().map(|due| due.max(self.rest_until)) {
            None => Next::Idle,
            Some(due) if due <= now => Next::Now,
            Some(due) => Next::Later(due.saturating_sub(now)),
        }
    }

    /// What to post: whatever fires, and what is over and was not called off yet.
    pub(super) fn batch(&mut self) -> Vec<Transition> {
        let mut batch = Vec::new();
        for slot in &mut self.slots {
            if slot.is(State::Firing) || slot.waits() {
                slot.known |= slot.is(State::Firing);
                batch.extend(slot.transition);
            }
        }
        batch
    }

    /// When an alert began to fire last.
    pub(super) fn began(&self, alert: Alert) -> Timestamp {
        let slot = self.slots.get(alert.index());
        slot.map_or_else(Timestamp::default, |slot| slot.began)
    }

    /// It was accepted; whether the one before was not.
    pub(super) fn delivered(&mut self, now: Duration, batch: &[Transition]) -> bool {
        for slot in &mut self.slots {
            if slot.transition.is_some_and(|own| batch.contains(&own)) {
                slot.told = Some(now);
                slot.known = slot.is(State::Firing);
            }
        }
        self.rest_until = now;
        std::mem::take(&mut self.failures) > 0
    }

    /// It was not; whether the one before was.
    pub(super) fn failed(&mut self, now: Duration) -> bool {
        let doublings = self.failures.min(10);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(REPEAT);
        self.rest_until = now.saturating_add(pause);
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }
}

impl Slot {
    fn is(&self, state: State) -> bool {
        self.transition.is_some_and(|own| own.state == state)
    }

    fn waits(&self) -> bool {
        self.transition.is_some() && self.told.is_none()
    }

    /// When it is to be told, or told again.
    fn due(&self) -> Option<Duration> {
        match self.told {
            None => self.transition.map(|_| self.since),
            Some(told) if self.is(State::Firing) => Some(told.saturating_add(REPEAT)),
            Some(_) => None,
        }
    }
}

/// What fires is told again this often, or Alertmanager takes it for over.
pub(super) const REPEAT: Duration = Duration::from_secs(30);

/// So long after it was told last, Alertmanager takes an alert for over: six posts may be lost.
pub(super) const LAPSE: Duration = Duration::from_secs(180);

/// The first pause after a post that failed; each further one is twice as long, up to [`REPEAT`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(alert: Alert, state: State, at: u64) -> Transition {
        Transition {
            alert,
            state,
            value: 6.0,
            threshold: 5.0,
            store: None,
            at: Timestamp::from_millis(at),
        }
    }

    fn with(transitions: &[Transition]) -> Latest {
        let mut latest = Latest::default();
        for transition in transitions {
            latest[transition.alert.index()] = Some(*transition);
        }
        latest
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_fires_is_told_at_once_and_again_and_called_off_once() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.next(secs(0)), Next::Idle);
        let fires = turn(Alert::ErrorRate, State::Firing, 1);
        assert_eq!(outbox.take_in(secs(5), &with(&[fires])), 0);
        for second in [5, 35, 65] {
            let before = secs(second) - secs(1);
            if second > 5 {
                assert_eq!(outbox.next(before), Next::Later(secs(1)));
            }
            assert_eq!(outbox.next(secs(second)), Next::Now);
            assert_eq!(outbox.batch(), [fires]);
            assert!(!outbox.delivered(secs(second), &[fires]));
        }
        let over = turn(Alert::ErrorRate, State::Resolved, 2);
        assert_eq!(outbox.take_in(secs(66), &with(&[over])), 0);
        assert_eq!(outbox.next(secs(66)), Next::Now);
        assert_eq!(outbox.batch(), [over]);
        assert_eq!(outbox.began(Alert::ErrorRate), fires.at);
        outbox.delivered(secs(66), &[over]);
        assert_eq!(outbox.next(secs(1_000)), Next::Idle);
        assert_eq!(outbox.take_in(secs(1_000), &with(&[over])), 0, "told");
    }

    #[test]
    fn whatever_fires_goes_along() {
        let mut outbox = Outbox::default();
        let first = turn(Alert::ErrorRate, State::Firing, 1);
        outbox.take_in(secs(0), &with(&[first]));
        let batch = outbox.batch();
        outbox.delivered(secs(0), &batch);
        let second = turn(Alert::StoreDown, State::Firing, 2);
        outbox.take_in(secs(1), &with(&[first, second]));
        assert_eq!(outbox.next(secs(1)), Next::Now);
        assert_eq!(outbox.batch(), [first, second]);
    }

    #[test]
    fn a_post_that_fails_is_tried_again_less_and_less_often() {
        let mut outbox = Outbox::default();
        let fires = turn(Alert::ErrorRate, State::Firing, 1);
        outbox.take_in(secs(0), &with(&[fires]));
        let mut now = secs(0);
        let mut pauses = Vec::new();
        for attempt in 0..8 {
            assert_eq!(outbox.next(now), Next::Now);
            outbox.batch();
            assert_eq!(outbox.failed(now), attempt == 0, "said once");
            let Next::Later(pause) = outbox.next(now) else {
                panic!("tried again")
            };
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        let batch = outbox.batch();
        assert!(outbox.delivered(now, &batch), "it is back");
        outbox.batch();
        assert!(outbox.failed(now + REPEAT), "said again");
        assert_eq!(outbox.next(now + REPEAT), Next::Later(secs(1)));
    }

    #[test]
    fn what_nobody_heard_of_is_not_called_off() {
        let mut outbox = Outbox::default();
        let fires = turn(Alert::ErrorRate, State::Firing, 1);
        let over = turn(Alert::ErrorRate, State::Resolved, 2);
        outbox.take_in(secs(0), &with(&[fires]));
        assert_eq!(outbox.take_in(secs(1), &with(&[over])), 2);
        assert_eq!(outbox.next(secs(1)), Next::Idle);
    }

    #[test]
    fn what_may_have_been_heard_is_called_off_until_it_has_lapsed() {
        let mut outbox = Outbox::default();
        let fires = turn(Alert::ErrorRate, State::Firing, 1);
        let over = turn(Alert::ErrorRate, State::Resolved, 2);
        outbox.take_in(secs(0), &with(&[fires]));
        outbox.batch();
        // No answer came, but who knows what arrived.
        outbox.failed(secs(5));
        assert_eq!(outbox.take_in(secs(6), &with(&[over])), 1);
        assert_eq!(outbox.next(secs(6)), Next::Now);
        assert_eq!(outbox.batch(), [over]);
        outbox.failed(secs(7));
        assert_eq!(outbox.take_in(secs(185), &with(&[over])), 0);
        assert_eq!(outbox.next(secs(185)), Next::Now);
        assert_eq!(outbox.take_in(secs(186), &with(&[over])), 1);
        assert_eq!(outbox.next(secs(186)), Next::Idle);
    }

    #[test]
    fn what_changes_during_a_post_is_told_after_it() {
        let mut outbox = Outbox::default();
        let fires = turn(Alert::ErrorRate, State::Firing, 1);
        let over = turn(Alert::ErrorRate, State::Resolved, 2);
        outbox.take_in(secs(0), &with(&[fires]));
        let batch = outbox.batch();
        outbox.take_in(secs(1), &with(&[over]));
        outbox.delivered(secs(2), &batch);
        assert_eq!(outbox.next(secs(2)), Next::Now);
        assert_eq!(outbox.batch(), [over]);
    }

    proptest! {
        /// Once Alertmanager accepts what it is sent, it knows what fires and of nothing else.
        #[test]
        fn in_the_end_it_knows_what_fires(steps in prop::collection::vec((0..7_usize, any::<bool>(), 0..3_u8, 0..60_u64), 0..100)) {
            let mut outbox = Outbox::default();
            let mut latest = Latest::default();
            let mut there = [false; Alert::ALL.len()];
            let mut now = secs(0);
            let mut post = |outbox: &mut Outbox, now: Duration, fate: u8| {
                if outbox.next(now) != Next::Now { return; }
                let batch = outbox.batch();
                // Accepted, lost on the way there, or lost on the way back.
                if fate != 1 {
                    for one in &batch {
                        there[one.alert.index()] = one.state == State::Firing;
                    }
                }
                if fate == 0 { outbox.delivered(now, &batch); } else { outbox.failed(now); }
            };
            for (at, (alert, fires, fate, pause)) in (1..).zip(steps) {
                let state = if fires { State::Firing } else { State::Resolved };
                if latest[alert].is_none_or(|last| last.state != state) {
                    latest[alert] = Some(turn(Alert::ALL[alert], state, at));
                }
                outbox.take_in(now, &latest);
                post(&mut outbox, now, fate);
                now += secs(pause);
            }
            for _ in 0..3 {
                outbox.take_in(now, &latest);
                post(&mut outbox, now, 0);
                now += REPEAT;
            }
            for (alert, known) in latest.iter().zip(there) {
                let fires = alert.is_some_and(|last| last.state == State::Firing);
                // What was lost for too long is left to lapse.
                prop_assert!(known == fires || (known && !fires && now >= LAPSE));
            }
        }
    }
}
