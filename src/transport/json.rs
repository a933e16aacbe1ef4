//! `/json`: the rate limit call for clients without gRPC, in proto3's JSON.
//!
//! A request is turned into the bytes of the protobuf message and answered like any other, so both
//! protocols share one path. prost-reflect does the mapping from the compiled descriptors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::grpc::Call;
use super::status::Status;
use super::{Service, census, descriptor_set, wire};
use crate::clock::Stopwatch;
use crate::event::{Answered, Code};
use crate::pipeline::Caps;
use crate::store::Lane;

/// Turns JSON into requests, and responses into JSON.
#[derive(Clone, Debug)]
pub struct Json {
    request: MessageDescriptor,
    response: MessageDescriptor,
    /// Permits for parsing bodies longer than [`SMALL`].
    large_bodies: Arc<Semaphore>,
}

/// The answer to a `/json` call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonAnswer {
    /// The call was understood: the response as JSON.
    Response {
        /// Whether the request is over its limit.
        denied: bool,
        /// The response message.
        body: Bytes,
    },
    /// The call was not understood, and why.
    BadRequest(String),
    /// The answer could not be written; our fault.
    Failed(String),
    /// Too many calls are under way.
    Overloaded(String),
    /// The store cannot be asked, and a rule wants that to be an error.
    Unavailable(String),
}

/// The compiled-in descriptors are not those of the rate limit service. A test holds them.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// They cannot be read.
    #[error("the compiled-in protobuf descriptors cannot be read: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// A message is missing.
    #[error("the compiled-in protobuf descriptors lack {0}")]
    Missing(&'static str),
}

impl Json {
    /// Knows the messages.
    ///
    /// # Errors
    /// If the compiled-in descriptors are broken.
    pub fn new() -> Result<Self, JsonError> {
        let pool = DescriptorPool::decode(descriptor_set())?;
        let message = |name| {
            pool.get_message_by_name(name)
                .ok_or(JsonError::Missing(name))
        };
        Ok(Self {
            request: message(REQUEST)?,
            response: message(RESPONSE)?,
            large_bodies: Arc::new(Semaphore::new(PARALLEL_LARGE_BODIES)),
        })
    }

    /// Answers one call, by `lane` if the counts are in a store that all replicas share.
    pub async fn answer(&self, service: &Service, lane: Option<&Lane>, body: Bytes) -> JsonAnswer {
        let asked = Instant::now().into_std();
        let Some(_place) = service.enter() else {
            let status = Status::overloaded(service.limits.in_flight);
            service.note_refused(&status);
            return JsonAnswer::Overloaded(status.message);
        };
        let watch = Stopwatch::start();
        let caps = service.pipeline.caps();
        let parsed = if body.len() <= SMALL {
            self.parse(&body, caps)
        } else {
            match self.parse_large(body, caps).await {
                Ok(parsed) => parsed,
                Err(error) => return JsonAnswer::Failed(error),
            }
        };
        let decided = match (parsed, lane) {
            (Err(status), _) => Err(status),
            (Ok(request), None) => service.decide(&request, None),
            (Ok(request), Some(lane)) => {
                let due = lane.shared().due(asked, PATIENCE);
                let trace = None;
                service.ask(&request, Call { lane, due, trace }).await
            }
        };
        match decided {
            Ok(response) => {
                let answer = self.print(&response);
                let duration = watch.elapsed();
                service.pipeline.events().answered(Answered { duration });
                answer
            }
            Err(status) => {
                service.note_refused(&status);
                match status.code {
                    Code::Unavailable => JsonAnswer::Unavailable(status.message),
                    _ => JsonAnswer::BadRequest(status.message),
                }
            }
        }
    }

    /// Parses on a blocking thread, a few bodies at a time. Errors if the parser panics.
    async fn parse_large(
        &self,
        body: Bytes,
        caps: Caps,
    ) -> Result<Result<wire::RateLimitRequest, Status>, String> {
        let permit = Arc::clone(&self.large_bodies).acquire_owned().await;
        let json = self.clone();
        let parsing = spawn_blocking(move || {
            // Also held if the client has disconnected: the work goes on.
            let _permit = permit;
            json.parse(&body, caps)
        });
        parsing.await.map_err(|error| error.to_string())
    }

    fn parse(&self, body: &[u8], caps: Caps) -> Result<wire::RateLimitRequest, Status> {
        census::refuse_json(body, caps)?;
        let wrong = |message: String| Status::new(Code::InvalidArgument, message);
        let mut json = serde_json::Deserializer::from_slice(body);
        let message = DynamicMessage::deserialize(self.request.clone(), &mut json)
            .map_err(|error| wrong(format!("not a RateLimitRequest: {error}")))?;
        json.end()
            .map_err(|error| wrong(format!("after the RateLimitRequest: {error}")))?;
        wire::RateLimitRequest::decode(message.encode_to_vec().as_slice())
            .map_err(|error| Status::undecodable(&error))
    }

    fn print(&self, response: &wire::RateLimitResponse) -> JsonAnswer {
        let printed =
            DynamicMessage::decode(self.response.clone(), response.encode_to_vec().as_slice())
                .map_err(|error| error.to_string())
                .and_then(|message| {
                    let mut json = Vec::new();
                    message
                        .serialize_with_options(
                            &mut serde_json::Serializer::new(&mut json),
                            &SerializeOptions::default(),
                        )
                        .map_err(|error| error.to_string())?;
                    Ok(json)
                });
        match printed {
            Ok(json) => JsonAnswer::Response {
                denied: response.overall_code == wire::OVER_LIMIT,
                body: json.into(),
            },
            Err(error) => JsonAnswer::Failed(error),
        }
    }
}

/// Longer bodies are parsed beside the runtime that accepts connections.
const SMALL: usize = 16 * 1024;

/// More at a time would not be faster, and each takes memory.
const PARALLEL_LARGE_BODIES: usize = 4;

/// A caller over HTTP/1 does not say how long it waits; the settings do.
const PATIENCE: Duration = Duration::from_secs(60);

const REQUEST: &str = "envoy.service.ratelimit.v3.RateLimitRequest";
const RESPONSE: &str = "envoy.service.ratelimit.v3.RateLimitResponse";
