//! A store that comes and goes: some hits are decided by it, some here.

use proptest::prelude::*;

use super::{Admitted, START, any_hits, any_quota, any_wait, at, check, only, replicas, within};
use crate::model::{Check, Decision, Hits, SATURATED, Source};
use crate::store::local::{Fleet, LocalStore};
use crate::store::{MemoryConfig, MemoryStore};

#[derive(Clone, Debug)]
enum Step {
    /// A query, decided by the store if it can be asked.
    Hit { up: bool, replica: usize, hits: u64 },
    /// An answer of the store is seen, perhaps late.
    See { newest: bool },
    /// Up to so many entries are charged in the store; or sending fails.
    Drain {
        replica: usize,
        most: usize,
        works: bool,
    },
    /// Everything that has expired is dropped.
    Sweep,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn at_most_two_limits_pass_where_the_store_comes_and_goes(
        quota in any_quota(),
        count in 1..=4_usize,
        ranked: bool,
        steps in prop::collection::vec((any_wait(), any_step()), 1..200),
    ) {
        let shared = Shared::new();
        let fleet = replicas(count, ranked);
        let mut unseen: Vec<(usize, Check, Decision)> = Vec::new();
        let mut taken: Vec<(usize, u64, Vec<Check>)> = Vec::new();
        let (mut now, mut admitted) = (START, Admitted::new());
        for (wait, step) in steps {
            now += wait;
            match step {
                Step::Hit { up, replica, hits } => {
                    let hit = check("u", quota, Hits::Charge(hits));
                    let replica = replica % count;
                    let decision = match up {
                        true => shared.decide(&hit, now),
                        false => fleet[replica].decide(std::slice::from_ref(&hit), true, at(now)),
                    };
                    if !only(&decision).over {
                        admitted.push((now, hits));
                    }
                    if up {
                        unseen.push((replica, hit, decision));
                    }
                }
                Step::See { newest } => {
                    let seen = match newest {
                        true => unseen.pop(),
                        false => (!unseen.is_empty()).then(|| unseen.remove(0)),
                    };
                    if let Some((replica, hit, decision)) = seen {
                        fleet[replica].observe(&[hit], &decision.verdicts);
                    }
                }
                Step::Drain { replica, most, works } => {
                    let replica = replica % count;
                    // What was under way has arrived, or failed.
                    for (from, when, checks) in taken.drain(..) {
                        match works {
                            true => checks.iter().for_each(|check| shared.charge(check, now)),
                            false => fleet[from].put_back(&checks, at(when)),
                        }
                    }
                    taken.push((replica, now, fleet[replica].take(most, |_| at(now))));
                }
                Step::Sweep => fleet.iter().for_each(|replica| {
                    (0..replica.shards()).for_each(|_| replica.sweep_next(at(now)));
                }),
            }
        }
        within(&quota, &admitted, 2)?;
    }
}

#[test]
fn an_outage_that_begins_at_the_limit_lets_nothing_more_pass() {
    let quota = super::fixed(30);
    let shared = Shared::new();
    let fleet: Vec<LocalStore> = replicas(3, true);
    let hit = check("u", quota, Hits::Charge(1));
    let mut passed = 0;
    for turn in 0..60 {
        let decision = shared.decide(&hit, START);
        passed += u32::from(!only(&decision).over);
        fleet[turn % 3].observe(std::slice::from_ref(&hit), &decision.verdicts);
    }
    assert_eq!(passed, 30);
    for replica in &fleet {
        assert_eq!(super::drain(replica, &hit, START), 0);
    }
}

#[test]
fn replicas_that_come_back_one_by_one_keep_their_shares() {
    let hit = check("u", super::fixed(30), Hits::Charge(1));
    let shared = Shared::new();
    let fleet = replicas(3, true);
    let mut passed: u32 = fleet
        .iter()
        .map(|replica| super::drain(replica, &hit, START))
        .sum();
    assert_eq!(passed, 30);
    for replica in &fleet {
        for owed in replica.take(10, |_| at(START)) {
            shared.charge(&owed, START);
        }
        // The store goes away again.
        replica.observe(
            std::slice::from_ref(&hit),
            &shared.decide(&hit, START).verdicts,
        );
        passed += super::drain(replica, &hit, START);
    }
    // Only the store let more pass, two hits, before it was told of everything.
    assert_eq!(passed, 30);
    assert!(only(&shared.decide(&hit, START)).over);
    fleet[0].set_fleet(Fleet::alone());
    assert_eq!(super::counts(&fleet[0], &hit, START).0, 10);
}

/// Stands for Redis.
struct Shared(MemoryStore);

impl Shared {
    fn new() -> Self {
        let max_keys = std::num::NonZeroU32::new(100).unwrap();
        Self(MemoryStore::new(MemoryConfig { max_keys }))
    }

    fn decide(&self, hit: &Check, now: u64) -> Decision {
        let mut decision = self.0.decide(std::slice::from_ref(hit), true, at(now));
        for verdict in &mut decision.verdicts {
            verdict.source = Source::Store;
        }
        decision
    }

    fn charge(&self, owed: &Check, now: u64) {
        let before = self.counted(owed, now);
        drop(self.0.decide(std::slice::from_ref(owed), false, at(now)));
        let after = self.counted(owed, now);
        assert!(after > before || after >= SATURATED, "an owed charge lands");
    }

    fn counted(&self, check: &Check, now: u64) -> u64 {
        let peek = Check {
            hits: Hits::Peek,
            ..check.clone()
        };
        self.0.inspect(&peek, at(now)).counted
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0..4_usize, any_hits())
            .prop_map(|(up, replica, hits)| Step::Hit { up, replica, hits }),
        4 => any::<bool>().prop_map(|newest| Step::See { newest }),
        2 => (0..4_usize, 1..3_usize, any::<bool>())
            .prop_map(|(replica, most, works)| Step::Drain { replica, most, works }),
        1 => Just(Step::Sweep),
    ]
}
