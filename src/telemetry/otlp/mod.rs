//! Metrics and spans pushed to a receiver that speaks OTLP, over gRPC or HTTP.
//!
//! A thread of its own with a runtime of its own does all of it: collecting, encoding, sending. What
//! decides only puts a finished span into a bounded queue, and never waits: a receiver that is dead,
//! slow or silent costs dropped spans, which are counted, and nothing else. Metrics are cumulative,
//! so a push that fails loses nothing that the next one does not tell.
//!
//! | file | |
//! |---|---|
//! | [`config`] | where to, and how |
//! | [`queue`] | spans on their way to the thread |
//! | [`spans`], [`metrics`] | what is told, as OTLP's messages |
//! | [`post`] | one message to one receiver |
//! | [`push`] | when, how often, and until when |

mod config;
mod metrics;
mod post;
mod push;
mod queue;
mod spans;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub use config::{Headers, OtlpProtocol, PemFiles, PushConfig, SpanQueue, Target};
pub(super) use metrics::Reader;
use post::Post;
use push::Pushing;
use queue::Spans;
pub(super) use queue::{Finished, StoreSpan};

use super::dropped::{Dropped, Kind};

/// What is pushed, and the thread that does so.
#[derive(Debug)]
pub(super) struct Push {
    spans: Option<Spans>,
    /// When the last may be sent; none while the service runs.
    stop: watch::Sender<Option<Instant>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Push {
    /// Starts the thread. `reader` collects the metrics, if they are pushed.
    pub(super) fn start(
        config: PushConfig,
        reader: Option<Reader>,
        dropped: &Arc<Dropped>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let resource = resource(&config.resource);
        let (stop, stopping) = watch::channel(None);
        let pushing = |target, kind| Pushing {
            post: Post::new(target),
            kind,
            dropped: Arc::clone(dropped),
            stopping: stopping.clone(),
            failing: false,
        };
        let metrics = config.metrics.zip(reader).map(|(target, reader)| {
            let pushing = pushing(target, Kind::Metrics);
            push::metrics(pushing, reader, resource.clone(), config.interval)
        });
        let (spans, sending) = config
            .traces
            .map(|target| {
                let (spans, finished) = queue::queue(config.spans, dropped);
                let pushing = pushing(target, Kind::Spans);
                (spans, push::spans(pushing, finished, resource.clone()))
            })
            .unzip();
        let (told, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // In tasks, so that neither ends with the other.
                    let metrics = metrics.map(tokio::spawn);
                    let sending = sending.map(tokio::spawn);
                    for task in [metrics, sending].into_iter().flatten() {
                        let _panicked = task.await;
                    }
                });
                let _gone = told.send(());
            })?;
        Ok(Self {
            spans,
            stop,
            ended: Mutex::new(Some(ended)),
        })
    }

    /// Puts a span into the queue, if spans are pushed and there is room.
    pub(super) fn span(&self, finish: impl FnOnce() -> Finished) {
        if let Some(spans) = &self.spans {
            spans.put(finish);
        }
    }

    /// Sends what there is, in at most `limit`, and ends.
    pub(super) async fn stop(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.stop.send_replace(Some(deadline));
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            let _late = tokio::time::timeout_at(deadline + SLACK, ended).await;
        }
    }
}

/// What this process says of itself.
fn resource(attributes: &[(String, String)]) -> Resource {
    let mut all = vec![text("service.version", env!("CARGO_PKG_VERSION"))];
    if !attributes.iter().any(|(name, _)| name == INSTANCE) {
        let (a, b) = (fastrand::u64(..), fastrand::u64(..));
        all.push(text(INSTANCE, format!("{a:016x}{b:016x}")));
    }
    for (name, value) in attributes {
        all.retain(|known| known.key != *name);
        all.push(text(name, value.clone()));
    }
    Resource {
        attributes: all,
        ..Resource::default()
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: usize) -> KeyValue {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

const INSTANCE: &str = "service.instance.id";

/// For the thread to notice that its time is over.
const SLACK: Duration = Duration::from_millis(200);
