//! The decision log: a line of JSON for each decision that is written down.
//!
//! Lines are made where the decision is, since they borrow from the request, and written by a thread
//! of their own, which starts with the first of them. Between the two wait [`ROOM`] bytes or a line
//! more; what finds no room is dropped before it is made, and counted. So an output that nobody reads
//! delays no decision. Whatever comes from a request is cut to [`LONGEST`] bytes a text.

use std::borrow::Cow;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::warn;

use super::dropped::{Dropped, Kind};
use crate::event::{Written, WrittenDescriptor};
use crate::model::{Entry, Hits, escaped};

/// Where lines go.
type Output = Box<dyn Write + Send>;

/// The lines that wait, and the thread that writes them.
pub(super) struct DecisionLog {
    dropped: Arc<Dropped>,
    /// Bytes.
    waiting: Arc<AtomicUsize>,
    /// Taken by the thread.
    output: Mutex<Option<Output>>,
    thread: OnceLock<Sender<Message>>,
}

enum Message {
    Line(Vec<u8>),
    /// Tell when all before it is written.
    Flush(oneshot::Sender<()>),
}

impl DecisionLog {
    /// A log to `output`. Nothing is started yet.
    pub(super) fn new(dropped: Arc<Dropped>, output: Output) -> Self {
        Self {
            dropped,
            waiting: Arc::default(),
            output: Mutex::new(Some(output)),
            thread: OnceLock::new(),
        }
    }

    /// Writes a decision down, if there is room.
    pub(super) fn write(&self, decision: &Written<'_>) {
        if self.waiting.load(Ordering::Relaxed) < ROOM
            && let Ok(line) = serde_json::to_string(&Line::new(decision))
        {
            // What a client sent may hold more than JSON has to escape.
            let mut line = escaped(&line).into_owned().into_bytes();
            line.push(b'\n');
            let length = line.len();
            self.waiting.fetch_add(length, Ordering::Relaxed);
            if self.thread().send(Message::Line(line)).is_ok() {
                return;
            }
            self.waiting.fetch_sub(length, Ordering::Relaxed);
        }
        self.dropped.add(Kind::Decisions, 1);
    }

    /// Waits until what was written down before is out, at most `limit`.
    pub(super) async fn flush(&self, limit: Duration) {
        let Some(thread) = self.thread.get() else {
            return;
        };
        let (told, done) = oneshot::channel();
        if thread.send(Message::Flush(told)).is_ok() {
            let _late = tokio::time::timeout(limit, done).await;
        }
    }

    fn thread(&self) -> &Sender<Message> {
        self.thread.get_or_init(|| {
            let (sender, lines) = channel();
            let waiting = Arc::clone(&self.waiting);
            let dropped = Arc::clone(&self.dropped);
            if let Some(output) = self.output.lock().take() {
                let run = move || run(&lines, output, &waiting, &dropped);
                let name = "decision-log".to_owned();
                if let Err(error) = std::thread::Builder::new().name(name).spawn(run) {
                    // The receiver is gone with it: every line is dropped and counted.
                    warn!(%error, "cannot start the thread of the decision log; decisions are not logged");
                }
            }
            sender
        })
    }
}

impl std::fmt::Debug for DecisionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecisionLog").finish_non_exhaustive()
    }
}

/// Writes lines until nobody can send any.
fn run(lines: &Receiver<Message>, mut output: Output, waiting: &AtomicUsize, dropped: &Dropped) {
    let mut warned = false;
    let mut next = lines.recv().ok();
    while let Some(message) = next.take() {
        match message {
            Message::Line(line) => {
                let written = output.write_all(&line);
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
                if let Err(error) = written {
                    dropped.add(Kind::Decisions, 1);
                    if !warned {
                        warned = true;
                        warn!(%error, "cannot write the decision log to standard output; lines are dropped");
                    }
                }
            }
            Message::Flush(told) => {
                let _unwritten = output.flush();
                let _gone = told.send(());
            }
        }
        next = lines.try_recv().ok().or_else(|| {
            // A moment of rest: what was written is to be seen.
            let _unwritten = output.flush();
            lines.recv().ok()
        });
    }
}

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    domain: Cow<'a, str>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    descriptors: Vec<LineDescriptor<'a>>,
    /// Descriptors that are not shown.
    #[serde(skip_serializing_if = "is_none")]
    more: usize,
}

#[derive(Serialize)]
struct LineDescriptor<'a> {
    entries: Vec<LineEntry<'a>>,
    /// Negative where hits are given back, 0 where it is only asked.
    hits: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_ms: Option<u64>,
}

#[derive(Serialize)]
struct LineEntry<'a> {
    key: Cow<'a, str>,
    value: Cow<'a, str>,
}

impl<'a> Line<'a> {
    fn new(decision: &'a Written<'_>) -> Self {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(decision.at_millis);
        let shown = decision.descriptors.iter().take(MOST_DESCRIPTORS);
        Self {
            time: humantime::format_rfc3339_millis(at).to_string(),
            domain: clipped(decision.domain),
            verdict: match decision.denied {
                None => "error",
                Some(false) => "ok",
                Some(true) => "over_limit",
            },
            trace_id: decision.trace.map(|trace| trace.to_string()),
            descriptors: shown.map(LineDescriptor::new).collect(),
            more: decision.descriptors.len().saturating_sub(MOST_DESCRIPTORS),
        }
    }
}

impl<'a> LineDescriptor<'a> {
    fn new(descriptor: &'a WrittenDescriptor<'_>) -> Self {
        let entry = |entry: &'a Entry<'_>| LineEntry {
            key: clipped(entry.key),
            value: clipped(entry.value),
        };
        let number = |hits: u64| i64::try_from(hits).unwrap_or(i64::MAX);
        let entries = descriptor.entries.iter().take(MOST_ENTRIES);
        let (outcome, by) = descriptor.decided.unzip();
        let ruling = descriptor.ruling;
        Self {
            entries: entries.map(entry).collect(),
            hits: match descriptor.hits {
                Hits::Charge(hits) => number(hits),
                Hits::Peek => 0,
                Hits::Refund(hits) => number(hits).saturating_neg(),
            },
            rule: descriptor.rule.map(|rule| clipped(rule.as_bytes())),
            outcome: outcome.map(crate::event::Outcome::name),
            source: by.map(crate::event::DecidedBy::name),
            limit: ruling.map(|ruling| ruling.limit),
            window_ms: ruling.map(|ruling| ruling.window_millis),
            counted: ruling.map(|ruling| ruling.counted),
            remaining: ruling.map(|ruling| ruling.remaining),
            reset_ms: ruling.map(|ruling| ruling.reset_millis),
        }
    }
}

/// The beginning of a text; what is no UTF-8 shows as such.
fn clipped(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(text))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
const fn is_none(more: &usize) -> bool {
    *more == 0
}

/// Bytes of lines that may wait.
const ROOM: usize = 4 * 1024 * 1024;

/// Bytes of a text from a request.
const LONGEST: usize = 256;

const MOST_DESCRIPTORS: usize = 16;

const MOST_ENTRIES: usize = 32;

#[cfg(test)]
mod tests;
