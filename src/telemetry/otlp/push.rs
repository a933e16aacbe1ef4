//! When something is pushed, how often it is tried, and until when.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::metrics::{self, Reader};
use super::post::{Message, NotTaken, Partly, Post};
use super::queue::Batches;
use super::spans;
use crate::telemetry::dropped::{Dropped, Kind};

/// One signal on its way to a receiver.
#[derive(Debug)]
pub(super) struct Pushing {
    pub(super) post: Post,
    pub(super) kind: Kind,
    pub(super) dropped: Arc<Dropped>,
    /// When the last may be sent; none while the service runs.
    pub(super) stopping: watch::Receiver<Option<Instant>>,
    /// It has been said that the receiver does not take anything.
    pub(super) failing: bool,
}

/// Pushes the metrics at each interval, and once more in the end.
pub(super) async fn metrics(
    mut pushing: Pushing,
    reader: Reader,
    resource: Resource,
    interval: Duration,
) {
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut collected = ResourceMetrics::default();
    loop {
        let last = pushing
            .stopped_before(async {
                let _at = ticks.tick().await;
            })
            .await;
        let sent = match metrics::requests(&reader, &mut collected, &resource) {
            Ok(messages) => pushing.send_all(messages).await,
            Err(why) => Err(NotTaken { why, again: true }),
        };
        pushing.tell(sent, 1, 0);
        if last {
            return;
        }
    }
}

/// Pushes batches of spans, and what is left in the end.
pub(super) async fn spans(mut pushing: Pushing, mut batches: Batches, resource: Resource) {
    loop {
        let last = pushing.stopped_before(batches.due()).await;
        loop {
            let batch = batches.take();
            if batch.is_empty() {
                break;
            }
            let many = batch.len();
            let message = Message::Spans(spans::request(batch, &resource));
            let sent = pushing.send_again(message).await;
            let rejected = sent.as_ref().map_or(0, |partly| partly.rejected);
            pushing.tell(sent, many, rejected);
            // While it does not take any, what comes waits as long as there is room.
            if pushing.failing && !last {
                break;
            }
        }
        if last {
            return;
        }
    }
}

impl Pushing {
    /// Waits for `event`; whether the service stops instead.
    async fn stopped_before(&mut self, event: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            // Whoever would tell has gone: then nobody waits for us either.
            _ = self.stopping.wait_for(Option::is_some) => true,
            () = event => false,
        }
    }

    /// Sends the messages of one push, up to the first that is not taken.
    async fn send_all(
        &mut self,
        messages: Vec<ExportMetricsServiceRequest>,
    ) -> Result<Partly, NotTaken> {
        let mut all = Partly::default();
        for message in messages {
            let partly = self.send(Message::Metrics(message)).await?;
            all.rejected = all.rejected.saturating_add(partly.rejected);
            if all.why.is_empty() {
                all.why = partly.why;
            }
        }
        Ok(all)
    }

    /// Sends a message once.
    async fn send(&mut self, message: Message) -> Result<Partly, NotTaken> {
        let late = |why: &str| {
            Err(NotTaken {
                why: why.to_owned(),
                again: true,
            })
        };
        let limit = self.post.target().timeout;
        let out_of_time = deadline(&mut self.stopping);
        tokio::select! {
            sent = timeout(limit, self.post.send(message)) => match sent {
                Ok(sent) => sent,
                Err(_elapsed) => late(&format!("no answer within {limit:?}")),
            },
            () = out_of_time => late("the service has stopped"),
        }
    }

    /// Sends a message, and a few times more if the receiver may take it then.
    async fn send_again(&mut self, message: Message) -> Result<Partly, NotTaken> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..MOST_TRIES {
            match self.send(message.clone()).await {
                Err(NotTaken { again: true, why }) => {
                    let pausing = sleep(pause.mul_f64(0.5 + fastrand::f64()));
                    if self.stopped_before(pausing).await && self.is_out_of_time() {
                        return Err(NotTaken { why, again: true });
                    }
                    pause = pause.saturating_mul(2);
                }
                other => return other,
            }
        }
        self.send(message).await
    }

    fn is_out_of_time(&self) -> bool {
        let deadline = *self.stopping.borrow();
        deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Counts what was lost of so many, and says when it begins to fail and when that is over.
    fn tell(&mut self, sent: Result<Partly, NotTaken>, many: usize, rejected: usize) {
        let target = self.post.target();
        let endpoint = &target.endpoint;
        let signal = match self.kind {
            Kind::Metrics => "metrics",
            Kind::Decisions | Kind::Spans => "spans",
        };
        match sent {
            Ok(partly) => {
                self.dropped.add(self.kind, rejected);
                if std::mem::take(&mut self.failing) {
                    info!(signal, %endpoint, "otlp receiver accepts data again");
                }
                if partly.rejected > 0 {
                    let (rejected, why) = (partly.rejected, partly.why);
                    warn!(signal, %endpoint, rejected, why, "otlp receiver rejected part of the data");
                }
            }
            Err(NotTaken { why, .. }) => {
                self.dropped.add(self.kind, many);
                if !std::mem::replace(&mut self.failing, true) {
                    let protocol = target.protocol.name();
                    warn!(
                        signal,
                        %endpoint,
                        protocol,
                        why,
                        "otlp receiver unavailable; retrying (decisions are not affected)"
                    );
                }
            }
        }
    }
}

/// Comes to an end when the last may be sent.
async fn deadline(stopping: &mut watch::Receiver<Option<Instant>>) {
    let stopped = stopping.wait_for(Option::is_some).await;
    let deadline = stopped.map_or_else(|_gone| None, |deadline| *deadline);
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Tries after the first that failed.
const MOST_TRIES: usize = 3;

/// Before the second try, give or take a half; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
