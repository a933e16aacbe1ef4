//! Replicas and servers that are cut off from each other in random ways. The servers answer as `failover.lua` does;
//! `tests/it/reactions/failover.rs` has real ones.

use std::collections::BTreeSet;

use super::super::now;
use super::*;

const SERVERS: [&str; 2] = ["a:6379", "b:6379"];
const LOOK_MS: u64 = 450;
const WELL_FOR: Duration = Duration::from_secs(3);

/// What `failover.lua` keeps.
#[derive(Clone, Debug, Default)]
struct Store {
    members: Vec<Member>,
    lease: Option<(Lease, u64)>,
}

#[derive(Clone, Debug)]
struct Member {
    replica: usize,
    seen: u64,
    heard: Heard,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    /// The latest epoch.
    Epoch(u64),
    /// It gets no answers.
    Deaf,
    Left,
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap()
}

impl Store {
    fn see(&mut self, replica: usize, heard: Heard, now: u64) {
        self.members
            .retain(|member| member.replica != replica && now - member.seen < millis(REMEMBERED));
        self.members.push(Member {
            replica,
            seen: now,
            heard,
        });
    }

    fn call(&mut self, replica: usize, heard: Option<u64>, wish: &Wish, now: u64) -> Report {
        self.see(replica, heard.map_or(Heard::Deaf, Heard::Epoch), now);
        let left = |member: &&Member| member.heard == Heard::Left;
        let left = self.members.iter().filter(left).count() as u64;
        let known = self.members.len() as u64 - left;
        let (mut present, mut absent) = (Vec::new(), None::<u64>);
        for member in &self.members {
            let age = now - member.seen;
            match member.heard {
                Heard::Left => {}
                Heard::Epoch(epoch) if age < millis(LEASE) => present.push(epoch),
                Heard::Epoch(_) | Heard::Deaf => {
                    absent = Some(absent.map_or(age, |other| other.min(age)));
                }
            }
        }
        let is_majority = present.len() as u64 * 2 > known;
        self.lease.take_if(|(_, until)| *until <= now);
        let held = self.lease.as_ref().map(|(lease, _)| lease);
        let is_later = |lease: &Lease| held.is_some_and(|held| lease.beats(held));
        let (lease, is_taken) = match wish {
            Wish::Watch => (None, false),
            Wish::Update(lease) => (Some(lease), is_later(lease)),
            Wish::Renew(lease) => (
                Some(lease),
                held.is_none_or(|held| lease == held) || is_later(lease),
            ),
            Wish::Claim(lease) => (Some(lease), held.is_none()),
            Wish::Move(lease) => (
                Some(lease),
                is_majority && held.is_none_or(|held| lease.epoch > held.epoch),
            ),
        };
        if let Some(lease) = lease.filter(|_| is_taken) {
            self.lease = Some((lease.clone(), now + millis(LEASE)));
        }
        let lease = self.lease.as_ref().map(|(lease, _)| lease.clone());
        let epoch = lease.as_ref().map_or(u64::MAX, |lease| lease.epoch);
        Report {
            lease,
            known,
            here: present.iter().filter(|heard| **heard <= epoch).count() as u64,
            absent_for: Duration::from_millis(absent.unwrap_or(0)),
            left,
        }
    }
}

/// Some replicas and two servers.
struct Fleet {
    start: Instant,
    now: u64,
    stores: Vec<Store>,
    replicas: Vec<Replica>,
    /// Until when a replica (the first index) is cut off from a server.
    cut: Vec<[u64; 2]>,
    /// Whether it is cut off one way: it is heard, and does not get the answer.
    loses_answers: Vec<[bool; 2]>,
    /// When the server in use has changed.
    switches: Vec<u64>,
    /// The last lease in each server.
    leases: [Option<Lease>; 2],
    /// Which server was used when.
    used: Vec<(u64, usize)>,
}

struct Replica {
    name: usize,
    failover: Failover,
    next_look: u64,
    choice: Choice,
}

impl Replica {
    fn new(name: usize, now: u64) -> Self {
        Self {
            name,
            failover: Failover::new(SERVERS.map(String::from).into_iter(), WELL_FOR),
            next_look: now,
            choice: Choice::Nothing(Reason::NoneReached),
        }
    }
}

impl Fleet {
    fn new(replicas: usize) -> Self {
        Self {
            start: now(),
            now: 0,
            stores: vec![Store::default(); 2],
            replicas: (0..replicas).map(|name| Replica::new(name, 0)).collect(),
            cut: vec![[0; 2]; replicas],
            loses_answers: vec![[false; 2]; replicas],
            switches: vec![0],
            leases: [const { None }; 2],
            used: Vec::new(),
        }
    }

    /// Cuts those off that are not cut off already, so that none is for longer than it is meant to be.
    fn cut(&mut self, replicas: &[usize], server: usize, seconds: u64) {
        for &replica in replicas {
            let until = &mut self.cut[replica][server];
            if *until + 2 * LOOK_MS < self.now || *until == 0 {
                *until = self.now + seconds * 1_000;
            }
        }
    }

    /// Lets time pass, with a look of a replica now and then.
    fn run(&mut self, seconds: u64) {
        let end = self.now + seconds * 1_000;
        while self.now < end {
            for index in 0..self.replicas.len() {
                if self.replicas[index].next_look <= self.now {
                    self.look(index);
                }
                // One that is cut off admits nothing by way of that server.
                if let Choice::Use(server) = self.replicas[index].choice
                    && self.cut[index][server] <= self.now
                {
                    self.used.push((self.now, server));
                }
            }
            self.now += 50;
        }
    }

    fn look(&mut self, index: usize) {
        let at = self.start + Duration::from_millis(self.now);
        let replica = &mut self.replicas[index];
        let (wishes, heard) = (
            replica.failover.wishes(false, at),
            replica.failover.heard(at),
        );
        let answers = wishes.iter().enumerate().map(|(server, wish)| {
            let is_cut = self.cut[index][server] > self.now;
            if is_cut && !self.loses_answers[index][server] {
                return None;
            }
            let report = self.stores[server].call(replica.name, heard[server], wish, self.now);
            (!is_cut).then_some((report, true))
        });
        let answers = answers.collect();
        replica.failover.hear(answers, at);
        replica.choice = replica.failover.choice(at);
        replica.next_look = self.now + LOOK_MS;
        for (store, last) in self.stores.iter().zip(&mut self.leases) {
            let lease = store.lease.as_ref().map(|(lease, _)| lease);
            if lease.is_some() && last.as_ref() != lease {
                *last = lease.cloned();
                self.switches.push(self.now);
            }
        }
    }

    /// In no second more servers were used than one, and one more for each change of the server in use that the
    /// second touches. A change takes until the last replica has noticed that most of the others are gone: [`LEASE`], and a look.
    fn assert_bound(&self, what: &str) {
        for second in 0..self.now / 1_000 {
            let window = second * 1_000..(second + 1) * 1_000;
            let used: BTreeSet<usize> = self
                .used
                .iter()
                .filter(|(at, _)| window.contains(at))
                .map(|(_, server)| *server)
                .collect();
            let touched = self
                .switches
                .iter()
                .filter(|at| **at < window.end && **at + LOOK_MS + millis(LEASE) > window.start);
            assert!(
                used.len() <= 1 + touched.count(),
                "{what}: second {second} used {used:?}; changes at {:?}",
                self.switches
            );
        }
    }

    fn choices(&self) -> Vec<&Choice> {
        self.replicas
            .iter()
            .map(|replica| &replica.choice)
            .collect()
    }
}

#[test]
fn the_first_server_is_used_and_the_next_one_once_no_replica_reaches_it() {
    let mut fleet = Fleet::new(3);
    fleet.run(5);
    assert_eq!(fleet.choices(), [&Choice::Use(0); 3]);
    fleet.cut(&[0, 1, 2], 0, 30);
    fleet.run(2);
    assert!(
        !fleet.choices().contains(&&Choice::Use(1)),
        "within the lease"
    );
    fleet.run(4);
    assert_eq!(fleet.choices(), [&Choice::Use(1); 3]);
    // And back, once it has been well for a while.
    fleet.run(26);
    assert_eq!(fleet.choices(), [&Choice::Use(1); 3]);
    fleet.run(6);
    assert_eq!(fleet.choices(), [&Choice::Use(0); 3]);
    fleet.assert_bound("there and back");
}

#[test]
fn a_replica_that_alone_cannot_reach_the_server_in_use_does_not_use_another_one() {
    let mut fleet = Fleet::new(3);
    fleet.run(5);
    fleet.cut(&[2], 0, 120);
    fleet.run(110);
    let not_reached = Choice::Nothing(Reason::NotReached(SERVERS[0].into()));
    assert_eq!(
        fleet.choices(),
        [&Choice::Use(0), &Choice::Use(0), &not_reached]
    );
    assert!(fleet.used.iter().all(|(_, server)| *server == 0));
    fleet.run(12);
    assert_eq!(fleet.choices(), [&Choice::Use(0); 3]);
}

#[test]
fn of_replicas_that_are_split_most_go_on_and_the_others_do_not_for_a_minute() {
    let mut fleet = Fleet::new(3);
    fleet.run(5);
    fleet.cut(&[0, 1], 0, 100);
    fleet.cut(&[2], 1, 100);
    let minority = Choice::Nothing(Reason::Minority(SERVERS[0].into()));
    let larger_side = [&Choice::Use(1), &Choice::Use(1), &minority];
    for seconds in [10, 45] {
        fleet.run(seconds);
        assert_eq!(fleet.choices(), larger_side);
    }
    fleet.assert_bound("split for 55 s");
    // Then each side has forgotten the other.
    fleet.run(10);
    assert_eq!(
        fleet.choices(),
        [&Choice::Use(1), &Choice::Use(1), &Choice::Use(0)]
    );
    // When they meet again, the highest epoch holds.
    fleet.run(38);
    let first = fleet.choices()[0].clone();
    assert!(matches!(first, Choice::Use(_)), "{first:?}");
    assert_eq!(fleet.choices(), [&first; 3]);
}

#[test]
fn a_replica_that_is_left_alone_goes_on_if_it_reaches_all_servers() {
    let mut fleet = Fleet::new(2);
    fleet.run(5);
    // The other one is killed.
    fleet.cut(&[1], 0, 1_000);
    fleet.cut(&[1], 1, 1_000);
    fleet.run(10);
    assert_eq!(*fleet.choices()[0], Choice::Use(0));
}

#[test]
fn replicas_that_leave_are_not_missed_though_a_server_is_down() {
    let mut fleet = Fleet::new(4);
    fleet.run(5);
    fleet.cut(&[0, 1, 2, 3], 1, 100);
    fleet.run(5);
    for replica in 1..4 {
        fleet.stores[0].see(replica, Heard::Left, fleet.now);
        fleet.cut(&[replica], 0, 1_000);
    }
    fleet.used.clear();
    for _ in 0..70 {
        fleet.run(1);
        assert_eq!(*fleet.choices()[0], Choice::Use(0), "at {}", fleet.now);
    }
}

#[test]
fn new_replicas_after_a_crash_of_all_use_a_server_as_soon_as_the_lease_has_expired() {
    let mut fleet = Fleet::new(3);
    fleet.run(5);
    for (index, replica) in fleet.replicas.iter_mut().enumerate() {
        *replica = Replica::new(10 + index, fleet.now);
    }
    fleet.run(5);
    assert_eq!(fleet.choices(), [&Choice::Use(0); 3]);
}

#[test]
fn a_late_server_is_kept_while_there_is_no_better_one() {
    let start = now();
    let mut failover = Failover::new(SERVERS.map(String::from).into_iter(), WELL_FOR);
    let mut stores = vec![Store::default(); 2];
    for now in (0..60_000).step_by(450) {
        let at = start + Duration::from_millis(now);
        let (wishes, heard) = (failover.wishes(now > 5_000, at), failover.heard(at));
        // The first server is late after 5 s; the second one is back after 30 s.
        let mut answer = |server: usize, in_time: bool| {
            let report = stores[server].call(0, heard[server], &wishes[server], now);
            Some((report, in_time))
        };
        let first = answer(0, now <= 5_000);
        let second = if now > 30_000 { answer(1, true) } else { None };
        failover.hear(vec![first, second], at);
        let expected = match now {
            0..2_000 | 30_000..36_000 => continue,
            2_000..30_000 => Choice::Use(0),
            _ => Choice::Use(1),
        };
        assert_eq!(failover.choice(at), expected, "at {now}");
    }
}

#[test]
fn a_useless_server_is_left_and_gets_its_next_chances_ever_later() {
    let start = now();
    let mut failover = Failover::new(SERVERS.map(String::from).into_iter(), WELL_FOR);
    let mut stores = vec![Store::default(); 2];
    let (mut uses_of_first, mut was_first) = (0, false);
    for now in (0..600_000).step_by(450) {
        let at = start + Duration::from_millis(now);
        let is_first = failover.active() == Some(0);
        uses_of_first += u32::from(is_first && !was_first);
        was_first = is_first;
        // It reports in time, and answers no queries.
        let (wishes, heard) = (failover.wishes(is_first, at), failover.heard(at));
        let answers = stores.iter_mut().zip(wishes.iter().zip(heard));
        let answers =
            answers.map(|(store, (wish, heard))| Some((store.call(0, heard, wish, now), true)));
        failover.hear(answers.collect(), at);
    }
    assert!((2..10).contains(&uses_of_first), "{uses_of_first}");
}

#[test]
fn asymmetric_partitions_keep_the_bound() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(1..6);
        // A replica that starts at a server that has lost its data cannot know of the others.
        let loses_data = random.bool();
        let mut fleet = Fleet::new(count);
        for replica in &mut fleet.replicas {
            replica.next_look = random.u64(0..900);
        }
        for _ in 0..30 {
            let pause = random.u64(1..12);
            fleet.run(pause);
            match random.usize(0..10) {
                // A server is away for all, perhaps for good, perhaps with its data.
                0 | 1 => {
                    let (server, seconds) = (random.usize(0..2), random.u64(1..40));
                    let all: Vec<usize> = (0..count).collect();
                    fleet.cut(&all, server, seconds);
                    if loses_data && random.bool() {
                        fleet.stores[server] = Store::default();
                    }
                }
                // A replica is killed and starts again.
                2 if !loses_data => {
                    let replica = random.usize(0..count);
                    // A pod of a Deployment has another name then.
                    let name = fleet.replicas[replica].name;
                    let name = if random.bool() { name } else { name + count };
                    let start = fleet.now + random.u64(0..5_000);
                    fleet.replicas[replica] = Replica::new(name, start);
                }
                // Some are cut off from a server, for less than they are remembered.
                _ => {
                    let (server, seconds) = (random.usize(0..2), random.u64(1..45));
                    let some: Vec<usize> = (0..count).filter(|_| random.bool()).collect();
                    let one_way = random.bool();
                    for &replica in &some {
                        fleet.loses_answers[replica][server] = one_way;
                    }
                    fleet.cut(&some, server, seconds);
                }
            }
        }
        fleet.assert_bound(&format!("seed {seed}"));
        // All is well again.
        fleet.run(60);
        let first = fleet.choices()[0].clone();
        assert!(matches!(first, Choice::Use(_)), "seed {seed}: {first:?}");
        assert!(
            fleet.choices().iter().all(|choice| **choice == first),
            "seed {seed}"
        );
    }
}
