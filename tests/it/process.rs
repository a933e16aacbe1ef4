//! A child process whose output is kept, ended by pid at the latest when it is dropped.
//!
//! Where `setpriv` is there (util-linux has it), the kernel also ends a child when this process
//! ends without dropping anything, as it does when it is killed.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use parking_lot::Mutex;

/// How long anything here may take before the test fails. Generous: it only costs time when
/// something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running child. Its output is printed if the test that drops it is failing.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn spawn(name: &'static str, command: &Command) -> Self {
        let mut child = start(bound(command))
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let log = Arc::default();
        collect(child.stdout.take(), &log);
        collect(child.stderr.take(), &log);
        Self { name, child, log }
    }

    /// Sends a signal by name: `TERM`, `STOP`, `CONT`. After `STOP` it does not run any more when
    /// this returns, where the kernel says so (in `/proc`).
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own kill: a machine need not have it as a program.
        let kill = format!("kill -s {name} {}", self.child.id());
        let sent = Command::new("sh").arg("-c").arg(kill).status();
        assert!(
            sent.is_ok_and(|s| s.success()),
            "cannot send SIG{name} to {}",
            self.name
        );
        while name == "STOP" && self.is_running() {
            std::thread::yield_now();
        }
    }

    /// Whether it is neither stopped nor gone, as far as the kernel says.
    fn is_running(&self) -> bool {
        let path = format!("/proc/{}/stat", self.child.id());
        let Ok(text) = std::fs::read_to_string(path) else {
            return false;
        };
        // `pid (name) state`, where the name may hold anything.
        let state = text
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        !matches!(state, Some('T' | 't' | 'Z' | 'X') | None)
    }

    /// Ends it the hard way and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Bytes of memory, by their name in `/proc/PID/status`: `VmRSS` now, `VmHWM` at most so far.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("a process that runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes = kilobytes.and_then(|text| text.parse::<u64>().ok());
        kilobytes.expect("the kernel names it") * 1024
    }

    /// Ticks of the clock, 100 a second, that its threads have worked, by their names, as far as these
    /// begin so.
    pub(crate) fn thread_ticks(&self, prefix: &str) -> HashMap<String, u64> {
        let folder = format!("/proc/{}/task", self.child.id());
        let threads = std::fs::read_dir(folder).expect("a process that runs");
        let ticks = threads.filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
            // `tid (name) state ...`: of what follows the name, user and system time are 12 and 13.
            let (head, rest) = stat.rsplit_once(") ")?;
            let name = head.split_once('(')?.1.to_owned();
            let mut numbers = rest.split(' ').skip(11);
            let mut next = || numbers.next()?.parse::<u64>().ok();
            Some((name, next()? + next()?))
        });
        ticks.filter(|(name, _)| name.starts_with(prefix)).collect()
    }

    /// What it has said so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Whether it has said something.
    pub(crate) fn said(&self, text: &str) -> bool {
        self.log.lock().iter().any(|line| line.contains(text))
    }

    /// Waits until a line of its output gives something.
    pub(crate) async fn line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let (name, log) = (self.name, Arc::clone(&self.log));
        until(&format!("{name} to say {what}"), || {
            assert!(
                self.ended().is_none(),
                "{name} ended early:\n{}",
                log.lock().join("\n")
            );
            log.lock().iter().find_map(|line| find(line))
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log.lock();
            let tail = log
                .iter()
                .skip(log.len().saturating_sub(40))
                .cloned()
                .collect::<Vec<_>>();
            show(self.name, &tail.join("\n"));
        }
    }
}

/// Polls until `found` gives something; panics with `what` when that takes too long.
pub(crate) async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    until_async(what, async || found()).await
}

/// As [`until`], for a condition that has to ask somebody.
pub(crate) async fn until_async<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    let search = async {
        loop {
            beat.tick().await;
            if let Some(it) = found().await {
                return it;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(it) => it,
        Err(_elapsed) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// The same command, bound to the life of the thread that starts it, with its output piped.
fn bound(command: &Command) -> Command {
    static THERE: LazyLock<bool> = LazyLock::new(|| {
        let tried = Command::new(SETPRIV).args(WITH_PARENT).arg("true").status();
        tried.is_ok_and(|status| status.success())
    });
    let mut bound = if *THERE {
        // It becomes the program, so the pid is the program's.
        let mut setpriv = Command::new(SETPRIV);
        setpriv.args(WITH_PARENT).arg(command.get_program());
        setpriv
    } else {
        Command::new(command.get_program())
    };
    bound.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound.stdin(Stdio::null());
    bound.stdout(Stdio::piped()).stderr(Stdio::piped());
    bound
}

/// Starts a command on a thread that lives as long as the tests do: to the kernel that thread is
/// the parent, and a test's own thread ends while others still use what it started.
fn start(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                // Whoever ordered waits for it.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, started) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts children has ended");
    STARTER.send((command, answer)).map_err(|_order| gone())?;
    started.recv().map_err(|_closed| gone())?
}

const SETPRIV: &str = "setpriv";
const WITH_PARENT: [&str; 3] = ["--pdeathsig", "KILL", "--"];

fn collect(pipe: Option<impl Read + Send + 'static>, log: &Arc<Mutex<Vec<String>>>) {
    let (pipe, log) = (pipe.expect("the pipe was asked for"), Arc::clone(log));
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            log.lock().push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

#[expect(
    clippy::print_stderr,
    reason = "a failing test shows what its children said"
)]
fn show(name: impl Debug, text: &str) {
    eprintln!("--- the last lines of {name:?}\n{text}");
}
