//! Where metrics and spans are pushed to, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, Uri};

/// What is pushed, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct PushConfig {
    /// Where metrics go, if anywhere.
    pub metrics: Option<Target>,
    /// Where spans go, if anywhere.
    pub traces: Option<Target>,
    /// Between two pushes of the metrics.
    pub interval: Duration,
    /// How spans wait.
    pub spans: SpanQueue,
    /// What this process says of itself, beside its version: names and values.
    pub resource: Vec<(String, String)>,
}

/// How spans wait until they are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanQueue {
    /// Spans that may wait; one more is dropped and counted.
    pub size: usize,
    /// Spans of one push.
    pub batch: usize,
    /// How long the first of a batch waits for others.
    pub delay: Duration,
}

impl Default for SpanQueue {
    fn default() -> Self {
        Self {
            size: 2_048,
            batch: 512,
            delay: Duration::from_secs(1),
        }
    }
}

/// One receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its address; over HTTP with the path of the signal.
    pub endpoint: Uri,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// What each call carries.
    pub headers: Headers,
    /// How long a call may take.
    pub timeout: Duration,
    /// What is trusted and shown over TLS.
    pub files: PemFiles,
}

/// How a receiver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    HttpProtobuf,
}

impl OtlpProtocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Grpc, Self::HttpProtobuf];

    /// The name in settings and variables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

/// Headers, which may hold secrets: only their names are shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub HeaderMap);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// Files in PEM for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PemFiles {
    /// The authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate to show, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}
