use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::event::StoreName;

const CONFIG: Config = Config {
    thresholds: [
        Some(5.0),
        Some(80.0),
        Some(3.0),
        Some(0.5),
        Some(10.0),
        Some(0.1),
        Some(10.0),
        Some(0.0),
        Some(0.0),
    ],
    window: Duration::from_secs(60),
    hold: Duration::from_secs(5),
    keep: Duration::from_secs(30),
    min_calls: 20,
};

/// A watch, and a service whose numbers a test moves.
struct Rig {
    watch: Watch,
    second: u64,
    sample: Sample,
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self {
            watch: Watch::new(CONFIG),
            second: 0,
            sample: Sample::default(),
        };
        assert_eq!(rig.step(), []);
        rig
    }

    /// The next second.
    fn step(&mut self) -> Vec<Transition> {
        self.second += 1;
        self.sample.at = Timestamp::from_millis(self.second * 1_000);
        self.watch
            .step(Duration::from_secs(self.second), &self.sample)
    }

    /// So many seconds that each change the sample; what happened when.
    fn run(&mut self, seconds: u64, change: impl Fn(&mut Sample)) -> Vec<(u64, Alert, State)> {
        let mut seen = Vec::new();
        for _ in 0..seconds {
            change(&mut self.sample);
            let told = self.step();
            seen.extend(told.iter().map(|one| (self.second, one.alert, one.state)));
        }
        seen
    }

    fn phase(&self, alert: Alert) -> Phase {
        self.watch.readings()[alert.index()].phase
    }

    fn value(&self, alert: Alert) -> Option<f64> {
        self.watch.readings()[alert.index()].value
    }
}

/// A second of calls, of which some are refused.
fn calls(answered: u64, refused: u64) -> impl Fn(&mut Sample) {
    move |sample| {
        sample.counts.answered += answered;
        sample.counts.refused += refused;
    }
}

fn slow(each: u64, duration: Duration) -> impl Fn(&mut Sample) {
    move |sample| {
        sample.counts.answered += each;
        sample.counts.store_calls += each;
        sample.counts.call_tail.record(duration);
        sample.counts.store_tail.record(duration);
    }
}

#[test]
fn names_are_told_apart_and_places_fit() {
    for (index, alert) in Alert::ALL.iter().enumerate() {
        assert_eq!(alert.index(), index);
        assert!(alert.alertname().starts_with("Tollgate"));
        let others = Alert::ALL.iter().filter(|other| *other != alert);
        for other in others {
            assert_ne!(alert.name(), other.name());
            assert_ne!(alert.alertname(), other.alertname());
        }
    }
}

#[test]
fn a_service_that_does_nothing_alarms_nobody() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(300, |_| {}), []);
    assert_eq!(rig.value(Alert::ErrorRate), None, "of no calls, no share");
    assert_eq!(rig.value(Alert::RedisLatency), None);
    assert_eq!(rig.value(Alert::CircuitTrips), Some(0.0));
}

#[test]
fn a_query_for_an_unknown_domain_fires_at_once_and_until_the_window_has_passed() {
    let mut rig = Rig::new();
    let fired = rig.run(2, |sample| sample.counts.unknown_domains += 1);
    assert_eq!(fired, [(2, Alert::UnknownDomains, State::Firing)]);
    assert_eq!(rig.value(Alert::UnknownDomains), Some(2.0));
    let ended = rig.run(200, calls(100, 0));
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(
        (ended[0].1, ended[0].2),
        (Alert::UnknownDomains, State::Resolved)
    );
}

#[test]
fn a_rule_with_more_keys_than_room_fires_at_once() {
    let mut rig = Rig::new();
    let fired = rig.run(2, |sample| sample.counts.overflowed += 3);
    assert_eq!(fired, [(2, Alert::KeysFull, State::Firing)]);
    assert_eq!(rig.value(Alert::KeysFull), Some(6.0));
}

#[test]
fn errors_fire_while_their_share_is_high_and_are_resolved_when_the_window_has_passed() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(100, calls(100, 0)), []);
    let fired = rig.run(30, calls(50, 50));
    // Above 5 % of the last minute after 7 s, for 5 s.
    assert_eq!(fired, [(113, Alert::ErrorRate, State::Firing)]);
    let ended = rig.run(200, calls(100, 0));
    assert_eq!(ended.len(), 1, "{ended:?}");
    let (second, alert, state) = ended[0];
    assert_eq!((alert, state), (Alert::ErrorRate, State::Resolved));
    // Below 4.5 % when 25 of the 30 s have left the window; that must last for 30 s.
    assert!((131 + 55..131 + 90).contains(&second), "{second}");
}

#[test]
fn a_few_errors_at_night_alarm_nobody() {
    let mut rig = Rig::new();
    rig.run(120, |_| {});
    calls(1, 1)(&mut rig.sample);
    assert_eq!(rig.run(120, |_| {}), []);
    // Nineteen of nineteen, and then one too many.
    calls(0, 19)(&mut rig.sample);
    assert_eq!(rig.run(10, |_| {}), []);
    calls(0, 1)(&mut rig.sample);
    let fired = rig.run(10, |_| {});
    assert_eq!(fired[0].1, Alert::ErrorRate);
}

#[test]
fn one_slow_call_alarms_nobody_and_three_of_few_do() {
    let mut rig = Rig::new();
    calls(30, 0)(&mut rig.sample);
    slow(1, Duration::from_secs(3))(&mut rig.sample);
    assert_eq!(rig.run(30, |_| {}), []);
    for _ in 0..2 {
        slow(1, Duration::from_secs(3))(&mut rig.sample);
    }
    let fired = rig.run(10, |_| {});
    assert_eq!(fired.len(), 1, "the store was called too rarely: {fired:?}");
    assert_eq!(fired[0].1, Alert::ResponseTime);
}

#[test]
fn percentiles_are_of_all_calls_the_fast_ones_included() {
    let mut rig = Rig::new();
    // One in 200 is slow: the 99th percentile is a fast one.
    let mostly_fast = slow(200, Duration::from_secs(1));
    assert_eq!(rig.run(100, mostly_fast), []);
    assert_eq!(rig.value(Alert::ResponseTime), Some(0.0));
    // One in 50.
    let fired = rig.run(100, slow(50, Duration::from_secs(1)));
    let alerts: Vec<Alert> = fired.iter().map(|one| one.1).collect();
    assert_eq!(alerts, [Alert::ResponseTime, Alert::RedisLatency]);
    let value = rig.value(Alert::ResponseTime).unwrap();
    assert!((0.9..1.1).contains(&value), "{value}");
}

#[test]
fn between_two_thresholds_only_the_store_is_slow() {
    let mut rig = Rig::new();
    let fired = rig.run(60, slow(10, Duration::from_millis(200)));
    assert_eq!(fired.len(), 1, "{fired:?}");
    assert_eq!(fired[0].1, Alert::RedisLatency);
}

#[test]
fn the_fourth_trip_in_a_minute_fires_at_once() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.sample.counts.trips += 1;
        assert_eq!(rig.run(10, |_| {}), []);
    }
    rig.sample.counts.trips += 1;
    let fired = rig.run(1, |_| {});
    assert_eq!(fired, [(32, Alert::CircuitTrips, State::Firing)]);
    let ended = rig.run(120, |_| {});
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].2, State::Resolved);
    // One each 20 s is no alarm.
    for _ in 0..20 {
        rig.sample.counts.trips += 1;
        assert_eq!(rig.run(20, |_| {}), []);
    }
}

#[test]
fn batches_fail_by_their_share() {
    let mut rig = Rig::new();
    let batches = |all: u64, failed: u64| {
        move |sample: &mut Sample| {
            sample.counts.batches += all;
            sample.counts.batch_failures += failed;
        }
    };
    assert_eq!(rig.run(70, batches(10, 1)), [], "a tenth is not above");
    let fired = rig.run(70, batches(10, 2));
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].1, Alert::BatchFailures);
}

#[test]
fn a_queue_has_to_stay_full() {
    let mut rig = Rig::new();
    let full = |queue: f64| move |sample: &mut Sample| sample.levels.queue = queue;
    for _ in 0..20 {
        assert_eq!(rig.run(4, full(1.0)), []);
        assert_eq!(rig.run(1, full(0.1)), []);
    }
    let fired = rig.run(10, full(0.81));
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].1, Alert::QueueFull);
    let ended = rig.run(31, full(0.0));
    assert_eq!(ended.len(), 1, "{ended:?}");
}

#[test]
fn a_store_that_is_down_fires_after_ten_seconds_and_names_itself() {
    let mut rig = Rig::new();
    let down = StoreName::PerSecond.index();
    let goes_on = move |sample: &mut Sample| sample.levels.down[down] += Duration::from_secs(1);
    assert_eq!(rig.run(10, goes_on), []);
    goes_on(&mut rig.sample);
    let fired = rig.step();
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].alert, Alert::StoreDown);
    assert_eq!(fired[0].store, Some(StoreName::PerSecond));
    assert_eq!((fired[0].value, fired[0].threshold), (11.0, 10.0));
    rig.sample.levels = Levels::default();
    let ended: Vec<Transition> = (0..40).flat_map(|_| rig.step()).collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].store, Some(StoreName::PerSecond), "as it began");
    assert_eq!(ended[0].state, State::Resolved);
}

#[test]
fn an_alert_that_is_switched_off_while_it_fires_ends() {
    let mut rig = Rig::new();
    rig.sample.counts.trips = 9;
    assert_eq!(rig.run(1, |_| {}).len(), 1);
    let mut config = CONFIG;
    config.thresholds[Alert::CircuitTrips.index()] = None;
    rig.watch.configure(config);
    let ended = rig.run(1, |_| {});
    assert_eq!(ended[0].2, State::Resolved);
    assert_eq!(rig.phase(Alert::CircuitTrips), Phase::Off);
    assert_eq!(rig.run(10, |_| {}), []);
    rig.watch.configure(CONFIG);
    assert_eq!(rig.run(1, |_| {})[0].2, State::Firing, "and on again");
}

#[test]
fn a_threshold_that_is_lowered_counts_at_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(60, calls(96, 4)), []);
    let mut config = CONFIG;
    config.thresholds[Alert::ErrorRate.index()] = Some(3.0);
    rig.watch.configure(config);
    let fired = rig.run(6, calls(96, 4));
    assert_eq!(fired.len(), 1);
    assert_eq!(rig.phase(Alert::ErrorRate), Phase::Firing);
}

#[test]
fn a_clock_that_steps_back_holds_everything_until_it_has_caught_up() {
    let mut rig = Rig::new();
    rig.run(10, calls(100, 0));
    rig.run(3, calls(0, 100));
    assert_eq!(rig.phase(Alert::ErrorRate), Phase::Pending);
    rig.second = 0;
    assert_eq!(rig.run(10, calls(0, 100)), []);
    assert_eq!(rig.run(10, calls(0, 100)).len(), 1, "in the end");
}

#[test]
fn counters_that_begin_anew_are_not_taken_for_a_flood() {
    let mut rig = Rig::new();
    rig.run(30, calls(1_000, 10));
    rig.sample.counts = Counts::default();
    assert_eq!(rig.run(30, calls(1_000, 10)), []);
    let share = rig.value(Alert::ErrorRate).unwrap();
    assert!((0.9..1.1).contains(&share), "{share}");
}

#[test]
fn the_history_keeps_the_newest() {
    let mut history = History::default();
    for at in 0..250 {
        history.push(Transition {
            alert: Alert::ErrorRate,
            state: State::Firing,
            value: 6.0,
            threshold: 5.0,
            store: None,
            at: Timestamp::from_millis(at),
        });
    }
    let at: Vec<u64> = history
        .newest_first()
        .map(|one| one.at.as_millis())
        .collect();
    assert_eq!((at.len(), at[0], at[99]), (History::LENGTH, 249, 150));
}

/// A second in the life of a service that is not well.
fn second() -> impl Strategy<Value = (u64, Sample)> {
    let counts = (0..200_u64, 0..50_u64, 0..3_u64, 0..5_000_u64, any::<bool>());
    (0..40_u64, counts, 0.0..2.0_f64).prop_map(|(second, counts, queue)| {
        let (answered, refused, trips, millis, restarts) = counts;
        let mut sample = Sample::default();
        sample.counts.answered = if restarts { 0 } else { answered };
        sample.counts.refused = refused;
        sample.counts.batches = answered;
        sample.counts.batch_failures = refused;
        sample.counts.store_calls = answered;
        sample.counts.trips = trips;
        sample
            .counts
            .store_tail
            .record(Duration::from_millis(millis));
        sample.levels.queue = queue;
        sample.levels.down[0] = Duration::from_millis(millis * 4);
        (second, sample)
    })
}

proptest! {
    /// Whatever is told, in whatever order: each alert fires and ends in turn, what is told agrees
    /// with what is shown, and every value is a number.
    #[test]
    fn each_alert_fires_and_ends_in_turn(seconds in prop::collection::vec(second(), 0..200)) {
        let mut watch = Watch::new(CONFIG);
        let mut firing = [false; Alert::ALL.len()];
        for (second, sample) in seconds {
            for told in watch.step(Duration::from_secs(second), &sample) {
                let fires = told.state == State::Firing;
                prop_assert_ne!(firing[told.alert.index()], fires);
                prop_assert!(told.value.is_finite());
                prop_assert!(!fires || told.value > told.threshold);
                firing[told.alert.index()] = fires;
            }
            for reading in watch.readings() {
                prop_assert_eq!(reading.phase == Phase::Firing, firing[reading.alert.index()]);
                prop_assert_eq!(reading.since.is_some(), firing[reading.alert.index()]);
            }
        }
    }
}
