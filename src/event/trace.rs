//! A call that is recorded, and decisions that are written down: told of few calls, so these own or
//! borrow whatever is worth telling.

use std::time::{Duration, Instant};

use super::{CallEnd, DecidedBy, Outcome};
use crate::model::{Entry, Hits, Recorded, TraceRef};

/// A recorded call is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTrace {
    /// Its span, and that of whoever asked.
    pub recorded: Recorded,
    /// The caller's `tracestate`, if it sent one.
    pub state: Option<Box<str>>,
    /// From the first byte of the request until the last of the response was handed to the
    /// connection.
    pub duration: Duration,
    /// When that began; none while it has not ended.
    pub started: Option<Instant>,
    /// How it ended.
    pub ended: CallEnd,
    /// What was decided, if anything was.
    pub decided: Option<TracedDecision>,
}

/// What a recorded call was answered. Nothing in it is longer than [`MAX_TEXT`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedDecision {
    /// The domain that was asked.
    pub domain: Box<str>,
    /// Whether the request is over its limit.
    pub denied: bool,
    /// The first descriptors, [`MAX_DESCRIPTORS`] at most.
    pub descriptors: Vec<TracedDescriptor>,
    /// How many more there are.
    pub more: usize,
}

/// What became of one descriptor of a recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedDescriptor {
    /// The rule's path, or what its metrics show instead. Empty if no rule applied.
    pub rule: Box<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Who said so.
    pub by: DecidedBy,
}

/// Calls of a shared store that carried queries of recorded calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TracedQueries<'a> {
    /// The spans of these queries' calls; usually none.
    pub spans: &'a [TraceRef],
    /// The server's address; empty where there are no spans.
    pub node: &'a str,
    /// When the call was sent; none where there are no spans.
    pub started: Option<Instant>,
}

/// A query was decided, and its domain's decisions are written down.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// When it was decided, in milliseconds since 1970 on this process's clock.
    pub at_millis: u64,
    /// The domain, from the request.
    pub domain: &'a [u8],
    /// Whether the request is denied; none if a rule wanted an error, the store being away.
    pub denied: Option<bool>,
    /// The call's span, if it is recorded.
    pub trace: Option<TraceRef>,
    /// One for each descriptor.
    pub descriptors: &'a [WrittenDescriptor<'a>],
}

/// One descriptor of a query that is written down.
#[derive(Clone, Debug)]
pub struct WrittenDescriptor<'a> {
    /// Keys and values, from the request: as long as it pleases, in any bytes.
    pub entries: &'a [Entry<'a>],
    /// What it asked for.
    pub hits: Hits,
    /// The path of the rule that applied.
    pub rule: Option<&'a str>,
    /// How it ended, and who said so.
    pub decided: Option<(Outcome, DecidedBy)>,
    /// How its limit ruled, if it has one.
    pub ruling: Option<WrittenRuling>,
}

/// How a limit ruled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenRuling {
    /// Hits per window.
    pub limit: u32,
    /// The window's length in milliseconds.
    pub window_millis: u64,
    /// Hits that are counted once this query is done.
    pub counted: u64,
    /// Hits that are left.
    pub remaining: u32,
    /// Milliseconds until the reset.
    pub reset_millis: u64,
}

/// The most bytes of a text that a span shows.
pub const MAX_TEXT: usize = 200;

/// The most descriptors that a span shows.
pub const MAX_DESCRIPTORS: usize = 16;
