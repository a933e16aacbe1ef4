//! How clients ask: gRPC for Envoy, JSON for everything else.
//!
//! The rate limit call is served straight by hyper ([`grpc`]), without tonic's router, since every
//! request through every Envoy pays for it; health and reflection fall through to tonic
//! ([`routes`]). One current-thread runtime per core ([`server`]); a connection stays on its core
//! ([`core_selector`]), takes turns there with the others ([`read_queue`]), and a decision never leaves the task that
//! read it. Everything else that is served
//! over HTTP goes through [`http_server`], which limits what a client can hold; [`clients`] does so for
//! gRPC, and [`http2`] looks at what goes in and out of HTTP/2.
//!
//! Only here are protobuf and gRPC known. What a client controls (the texts of entries, the size of a
//! message) never becomes an error; what is refused is the fault of a configuration, see [`status`].

mod body;
mod census;
mod clients;
mod convert;
mod core_selector;
mod deadline;
mod frame;
mod grpc;
mod headers;
pub mod http;
mod http2;
pub mod http_server;
pub mod json;
pub mod listener;
mod metadata;
mod read_queue;
mod refusals;
mod routes;
pub mod server;
mod serving;
mod status;
mod trace;
mod verdicts;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::event::{DeniedUnread, ProtocolError};
use crate::model::{Peer, Sampler};
use crate::pipeline::Pipeline;
use clients::Clients;
use http2::ProtocolErrors;
use refusals::Refusals;
use status::Status;

pub use grpc::Endpoint;
pub use routes::{HealthReporter, descriptor_set};

/// The pipeline as clients reach it, with what its answers carry and how much at once.
#[derive(Debug)]
pub struct Service {
    pipeline: Arc<Pipeline>,
    response: ResponseConfig,
    limits: Limits,
    in_flight: AtomicUsize,
    clients: Arc<Clients>,
    refusals: Refusals,
    protocol_errors: ProtocolErrors,
    /// Which calls are recorded, if any are.
    sampler: Option<Sampler>,
}

/// What an answer carries besides its statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseConfig {
    /// Headers for the client.
    pub headers: HeaderStyle,
    /// Whether the query and the rules' metadata go into Envoy's dynamic metadata.
    pub dynamic_metadata: bool,
    /// Whether how each limit ruled goes there too, as the list `verdicts`.
    pub verdicts: bool,
}

/// Which headers a client gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderStyle {
    /// `RateLimit` and `RateLimit-Policy`, as the IETF drafts them.
    Ietf,
    /// None.
    #[default]
    None,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`, as envoyproxy/ratelimit.
    Reference,
}

/// How much is taken in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that may be under way; one more is refused at once.
    pub in_flight: usize,
    /// Bytes of one request message.
    pub message_bytes: usize,
    /// Bytes of all unfinished calls of gRPC, their streams included.
    pub request_bytes: usize,
}

impl Service {
    /// Serves `pipeline`.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, response: ResponseConfig, limits: Limits) -> Self {
        Self {
            pipeline,
            response,
            limits,
            in_flight: AtomicUsize::new(0),
            clients: Clients::new(limits.request_bytes),
            refusals: Refusals::default(),
            protocol_errors: ProtocolErrors::default(),
            sampler: None,
        }
    }

    /// The same, and some calls of gRPC are recorded.
    #[must_use]
    pub fn with_sampler(self, sampler: Option<Sampler>) -> Self {
        Self { sampler, ..self }
    }

    /// Calls that are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What decides.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Takes note of a call that is not answered.
    fn note_refused(&self, status: &Status) {
        self.refusals
            .note(status, self.pipeline.events(), self.pipeline.clock().now());
    }

    /// Takes note of a call that is answered `OVER_LIMIT` unread.
    fn note_denied_unread(&self, reason: DeniedUnread, status: &Status) {
        let (events, now) = (self.pipeline.events(), self.pipeline.clock().now());
        self.refusals
            .note_denied_unread(reason, status, events, now);
    }

    /// Counts and logs that a gRPC client broke HTTP/2.
    fn report_protocol_error(&self, error: ProtocolError, peer: Peer) {
        let (events, now) = (self.pipeline.events(), self.pipeline.clock().now());
        self.protocol_errors.report(error, peer, events, now);
    }

    /// Takes a place among the calls under way, if one is free.
    fn enter(&self) -> Option<InFlight<'_>> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = InFlight(&self.in_flight);
        (before < self.limits.in_flight).then_some(place)
    }
}

/// A place among the calls under way; free again when dropped.
#[derive(Debug)]
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
