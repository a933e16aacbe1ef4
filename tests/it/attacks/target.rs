//! The process under attack, and the honest caller beside it.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Size, alone, report_file};
use crate::envoy::bed::{Envoy, Tollgate};
use crate::envoy::config::Gateway;
use crate::faults::load::{EACH, Load};
use crate::harness::{Client, descriptor, request};
use crate::process::until_async as until;

/// For the honest caller, and for the load that comes by way of Envoy.
const POLICY: &str = "
domain: it
descriptors:
  - { key: user, rate_limit: { requests_per_unit: 1000000, unit: second } }
  - { key: user_id, rate_limit: { requests_per_unit: 1000000, unit: second } }
";

/// For how many users Envoy is asked: a thousand requests a second.
const ENVOYS_USERS: u32 = 100;

/// What an attack may add to the process's memory.
pub(super) const ALLOWED: u64 = 64 << 20;

/// Envoy waits so long for an answer unless told otherwise.
const ENVOYS_TIMEOUT: Duration = Duration::from_millis(20);

/// Where the target listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// What an attack did.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Bytes by which the most memory that the process ever had is above what it had before.
    pub(super) grown: u64,
    /// Honest calls that got an error, or were denied.
    pub(super) refused: usize,
    /// Honest calls that took longer than Envoy waits.
    pub(super) late: usize,
    /// The longest honest call.
    pub(super) longest: Duration,
    /// Requests that Envoy let pass undecided, of so many.
    pub(super) undecided: Option<(u64, usize)>,
}

/// Runs an attack on a process of its own, with an honest caller beside it, and asserts that the
/// caller noticed nothing, that the memory stayed within what is allowed, and that Envoy let nothing pass undecided. `attack` returns what
/// has to stay open while the caller goes on.
pub(super) async fn withstands<F: Future>(
    name: &str,
    before: &str,
    attack: impl FnOnce(Ports, Size) -> F + Send + 'static,
) {
    let _alone = alone().await;
    let size = Size::chosen();
    run_on(Cores::OfTarget);
    let target = Tollgate::start("", POLICY, None).await;
    run_on(Cores::OfOthers);
    let envoy = match report_file() {
        Some(_) => Some(warm_envoy(target.grpc).await),
        None => None,
    };
    let ports = Ports {
        grpc: target.grpc,
        http: target.http,
        admin: target.admin,
    };
    let caller = Client::connect(&target.grpc.to_string()).await;
    let start = target.process.memory("VmRSS");
    let load = envoy
        .as_ref()
        .map(|envoy| Load::with_users(envoy.gateway, ENVOYS_USERS, user_id));
    let before_attack = undecided(envoy.as_ref()).await;
    let beside = tokio::spawn(honest(caller.clone(), size));
    let attacking = Attacking::start(move || attack(ports, size)).await;
    let calls = beside.await.unwrap();
    // While everything is held, a newcomer as well.
    let newcomer = Client::connect(&target.grpc.to_string()).await;
    let again = tokio::spawn(honest(caller, size));
    let new = honest(newcomer, size).await;
    let again = again.await.unwrap();
    let grown = target.process.memory("VmHWM").saturating_sub(start);
    let sent = match load {
        Some(load) => tokio::task::spawn_blocking(|| load.stop().len())
            .await
            .unwrap(),
        None => 0,
    };
    let passed = undecided(envoy.as_ref()).await.zip(before_attack);
    attacking.stop().await;
    let calls: Vec<_> = [calls, again, new].into_iter().flatten().collect();
    let outcome = Outcome {
        grown,
        refused: calls.iter().filter(|call| call.is_none()).count(),
        late: calls
            .iter()
            .flatten()
            .filter(|took| **took > ENVOYS_TIMEOUT)
            .count(),
        longest: calls.iter().flatten().copied().max().unwrap_or_default(),
        undecided: passed.map(|(after, before)| (after - before, sent)),
    };
    report(name, before, &outcome, calls.len());
    assert_eq!(outcome.refused, 0, "{name}: {outcome:?}");
    assert!(outcome.grown < ALLOWED, "{name}: {outcome:?}");
    let undecided = outcome.undecided.map_or(0, |(undecided, _)| undecided);
    assert_eq!(undecided, 0, "{name}: {outcome:?}");
}

/// An Envoy in front of Tollgate that has asked it.
async fn warm_envoy(grpc: SocketAddr) -> Envoy {
    let envoy = Envoy::start(2, &Gateway::default_of_envoy(vec![grpc])).await;
    let load = Load::start(envoy.gateway, ENVOYS_USERS);
    until("Envoy to have asked", async || {
        let ok = envoy.stat("cluster.upstream.ratelimit.ok").await;
        (ok > u64::from(ENVOYS_USERS * EACH)).then_some(())
    })
    .await;
    tokio::task::spawn_blocking(|| load.stop()).await.unwrap();
    envoy
}

/// Every tenth one is as long as the largest header of an honest client.
fn user_id(user: u32) -> String {
    let length = if user.is_multiple_of(10) { 60 << 10 } else { 1 };
    format!("{user:0>length$}")
}

/// Which cores a process gets that is measured.
#[derive(Clone, Copy, Debug)]
enum Cores {
    /// The first one alone.
    OfTarget,
    /// All but the first one.
    OfOthers,
}

/// From now on all threads of this process and its new children run on these cores, if `make attack` measures: Envoy
/// and the attackers are on other machines than Tollgate, so they compete with it for connections, not for its core.
fn run_on(cores: Cores) {
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    let all = ALL.get_or_init(allowed_cores);
    let Some((first, others)) = all.split_first().filter(|(_, others)| !others.is_empty()) else {
        return;
    };
    if report_file().is_none() {
        return;
    }
    let cores = match cores {
        Cores::OfTarget => std::slice::from_ref(first),
        Cores::OfOthers => others,
    };
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    let cores = cores.join(",");
    let mut taskset = Command::new("taskset");
    taskset.args(["--all-tasks", "--cpu-list", "--pid", &cores]);
    taskset.arg(std::process::id().to_string());
    let output = taskset.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The cores that this process may use.
fn allowed_cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.unwrap().trim().split(',');
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    };
    ranges.flat_map(range).collect()
}

/// How many requests Envoy has let pass undecided.
async fn undecided(envoy: Option<&Envoy>) -> Option<u64> {
    let name = "cluster.upstream.ratelimit.failure_mode_allowed";
    Some(envoy?.stat(name).await)
}

/// An attack, on a thread of its own that runs when no other has to: it would come from another machine.
struct Attacking {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Attacking {
    /// Returns once `attack` has returned; what it holds stays.
    async fn start<F: Future>(attack: impl FnOnce() -> F + Send + 'static) -> Self {
        let (started, ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            match report_file() {
                Some(_) => run_when_idle(),
                // Beside busy processes it would never run.
                None => yield_often(),
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let _held = attack().await;
                // The test is over if nobody listens.
                let _listening = started.send(());
                let _stopped: Result<(), _> = stopped.await;
            });
        });
        ready.await.expect("the attack does not panic");
        Self { stop, thread }
    }

    async fn stop(self) {
        drop(self.stop);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join());
        assert!(joined.await.unwrap().is_ok(), "the attack does not panic");
    }
}

/// From now on this thread runs only when no other one wants the core: an attack comes from another machine.
fn run_when_idle() {
    // PROCESS/task/THREAD
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let mut idle = Command::new("chrt");
    idle.args(["--idle", "--pid", "0"]).args(thread.file_name());
    assert!(idle.status().unwrap().success(), "chrt sets a policy");
}

/// From now on this thread gets less of the core than others.
fn yield_often() {
    // Of this thread alone, on Linux. If it is not permitted, honest calls are later.
    let _nice = rustix::process::nice(19);
}

/// Calls one after the other, a thousand a second at most; how long each took, or none if it was refused.
async fn honest(mut caller: Client, size: Size) -> Vec<Option<Duration>> {
    let mut calls = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..size.honest_calls {
        pace.tick().await;
        let user = descriptor(&[("user", &format!("honest-{number}"))]);
        let started = Instant::now();
        let answered = caller.try_ask(request("it", &[user])).await;
        let is_ok = answered.is_ok_and(|answer| answer.overall_code() == Code::Ok);
        calls.push(is_ok.then(|| started.elapsed()));
    }
    calls
}

/// Appends a row to the table of `make attack`.
fn report(name: &str, before: &str, outcome: &Outcome, calls: usize) {
    let Some(file) = report_file() else { return };
    let mut row = format!("| {name} | {before} | +{} MB", outcome.grown >> 20);
    let (refused, late) = (outcome.refused, outcome.late);
    write!(
        row,
        ", {refused} of {calls} calls refused, {late} late, longest {:.1} ms",
        outcome.longest.as_secs_f64() * 1e3
    )
    .unwrap();
    if let Some((undecided, sent)) = outcome.undecided {
        write!(
            row,
            "; Envoy let {undecided} of {sent} requests pass undecided"
        )
        .unwrap();
    }
    row.push_str(" |");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    if file.metadata().unwrap().len() == 0 {
        writeln!(file, "| attack | at 1466841 | now |\n|---|---|---|").unwrap();
    }
    writeln!(file, "{row}").unwrap();
}
