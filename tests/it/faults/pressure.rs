//! Callers that ask straight by gRPC, as fast as they are answered, and keep what each verdict says
//! of itself (`response.verdicts`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use tokio::task::JoinSet;
use tonic::Request;

use crate::envoy::bed::Tollgate;
use crate::harness::Client;

/// Callers under way.
#[derive(Debug)]
pub(super) struct Pressure {
    callers: JoinSet<Calls>,
    watched: Arc<Watched>,
}

/// What one connection saw.
#[derive(Debug)]
pub(super) struct Calls {
    /// Which of the Tollgates it asked.
    pub(super) tollgate: usize,
    pub(super) answers: Vec<Answer>,
    /// Why it ended before it was told to.
    pub(super) broke: Option<tonic::Status>,
}

/// One answer: admitted or not, and the verdicts of its checks.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) admitted: bool,
    pub(super) stamps: Vec<Stamp>,
}

/// What a verdict says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) rule: String,
    /// Who decided: `store`, `local`, ...
    pub(super) source: String,
    /// When, in milliseconds of the clock that decided.
    pub(super) at: u64,
    /// Milliseconds.
    pub(super) window: u64,
    pub(super) limit: u64,
    pub(super) over: bool,
}

#[derive(Debug, Default)]
struct Watched {
    stop: AtomicBool,
    /// The latest time of a verdict.
    latest: AtomicU64,
    /// The latest second in which a check was over, and how many of them there were.
    last_denial: AtomicU64,
    seconds_with_denials: AtomicU64,
}

impl Watched {
    fn note(&self, stamps: &[Stamp]) {
        let times = stamps.iter().map(|stamp| stamp.at);
        self.latest
            .fetch_max(times.max().unwrap_or(0), Ordering::Relaxed);
        // All checks are asked alike; the last one to be denied is enough.
        let over = stamps.iter().all(|stamp| stamp.over);
        if let (true, Some(stamp)) = (over, stamps.first()) {
            let second = stamp.at / 1000;
            if self.last_denial.fetch_max(second, Ordering::Relaxed) < second {
                self.seconds_with_denials.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Pressure {
    /// Opens so many connections to each, and asks the same on all of them.
    pub(super) async fn start(fleet: &[Tollgate], each: usize, request: &RateLimitRequest) -> Self {
        let watched = Arc::<Watched>::default();
        let mut callers = JoinSet::new();
        for (number, tollgate) in fleet.iter().enumerate() {
            for _ in 0..each {
                let client = Client::connect(&tollgate.grpc.to_string()).await;
                callers.spawn(call(number, client, request.clone(), Arc::clone(&watched)));
            }
        }
        Self { callers, watched }
    }

    /// The latest time that a verdict gave, 0 before the first.
    pub(super) fn latest(&self) -> u64 {
        self.watched.latest.load(Ordering::Relaxed)
    }

    /// In how many seconds checks were over.
    pub(super) fn seconds_with_denials(&self) -> u64 {
        self.watched.seconds_with_denials.load(Ordering::Relaxed)
    }

    /// Ends it. Calls under way are answered first.
    pub(super) async fn stop(self) -> Vec<Calls> {
        self.watched.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await
    }
}

async fn call(
    tollgate: usize,
    mut client: Client,
    request: RateLimitRequest,
    watched: Arc<Watched>,
) -> Calls {
    let mut calls = Calls {
        tollgate,
        answers: Vec::new(),
        broke: None,
    };
    while !watched.stop.load(Ordering::Relaxed) {
        let mut asked = Request::new(request.clone());
        asked.set_timeout(TIMEOUT);
        match client.0.should_rate_limit(asked).await {
            Err(status) => {
                calls.broke = Some(status);
                break;
            }
            Ok(response) => {
                let answer = Answer::of(&response.into_inner());
                watched.note(&answer.stamps);
                calls.answers.push(answer);
            }
        }
    }
    calls
}

impl Answer {
    fn of(response: &RateLimitResponse) -> Self {
        let listed = response.dynamic_metadata.as_ref().and_then(|metadata| {
            match metadata.fields.get("verdicts")?.kind.as_ref()? {
                Kind::ListValue(list) => Some(&list.values),
                _ => None,
            }
        });
        let Some(listed) = listed else {
            panic!("no list of verdicts in {response:?}");
        };
        let stamps = listed.iter().map(|verdict| {
            Stamp::of(verdict).unwrap_or_else(|| panic!("{verdict:?} is no verdict"))
        });
        Self {
            admitted: response.overall_code() == Code::Ok,
            stamps: stamps.collect(),
        }
    }
}

impl Stamp {
    fn of(verdict: &Value) -> Option<Self> {
        let Kind::StructValue(Struct { fields }) = verdict.kind.as_ref()? else {
            return None;
        };
        let text = |name: &str| match fields.get(name)?.kind.as_ref()? {
            Kind::StringValue(text) => Some(text.clone()),
            _ => None,
        };
        let number = |name: &str| match fields.get(name)?.kind.as_ref()? {
            Kind::NumberValue(number) => format!("{number:.0}").parse().ok(),
            _ => None,
        };
        let Kind::BoolValue(over) = *fields.get("over")?.kind.as_ref()? else {
            return None;
        };
        Some(Self {
            rule: text("rule")?,
            source: text("source")?,
            at: number("at")?,
            window: number("window")?,
            limit: number("limit")?,
            over,
        })
    }
}

/// Longer than the store may take, so that no caller gives up on a charge.
const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn verdicts_are_read_from_the_metadata() {
    let value = |kind| Value { kind: Some(kind) };
    let text = |text: &str| value(Kind::StringValue(text.into()));
    let fields = [
        ("rule", text("fire")),
        ("source", text("store")),
        ("at", value(Kind::NumberValue(1_795_521_600_123.0))),
        ("window", value(Kind::NumberValue(1_000.0))),
        ("limit", value(Kind::NumberValue(200.0))),
        ("over", value(Kind::BoolValue(true))),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let stamp = Stamp {
        rule: "fire".into(),
        source: "store".into(),
        at: 1_795_521_600_123,
        window: 1_000,
        limit: 200,
        over: true,
    };
    let verdict = value(Kind::StructValue(Struct { fields }));
    assert_eq!(Stamp::of(&verdict), Some(stamp));
    assert_eq!(Stamp::of(&text("store")), None);
}
