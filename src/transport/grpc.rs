//! The rate limit call, from hyper's request to hyper's response.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use futures_util::future::Either;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::body::{GRPC_MESSAGE, GRPC_STATUS, GrpcBody};
use super::clients::{ClientConnection, Held};
use super::read_queue::ReadQueue;
use super::routes::{HealthReporter, Routes};
use super::server::{self, ServerError};
use super::serving::Serving;
use super::status::Status;
use super::{Service, census, convert, deadline, frame, http2, trace, wire};
use crate::clock::Stopwatch;
use crate::event::{Answered, CallTrace, Code};
use crate::limiter::{Answer, Refusal};
use crate::model::{Peer, Query};
use crate::pipeline::Begun;
use crate::store::{Asked, Lane};

/// What `read` brings, if it comes within `patience`. What is there already, as with Envoy, needs
/// no timer.
async fn in_time<T>(
    read: impl Future<Output = Result<T, Status>>,
    patience: Duration,
) -> Result<T, Status> {
    let mut read = std::pin::pin!(read);
    let now = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
    match now {
        Poll::Ready(message) => message,
        Poll::Pending => Box::pin(tokio::time::timeout(patience, read))
            .await
            .unwrap_or_else(|_| Err(Status::too_slow(patience))),
    }
}

/// What answers calls on a core.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) service: Arc<Service>,
    pub(super) routes: Routes,
    /// This core's way to the store, if it is not in this process.
    pub(super) lane: Option<Lane>,
    pub(super) reads: Arc<ReadQueue>,
}

/// A connection whose calls are answered.
#[derive(Debug)]
pub(super) struct ServedConnection {
    pub(super) calls: Arc<Calls>,
    /// Whose it is, and what its calls hold.
    pub(super) client: Arc<ClientConnection>,
}

impl ServedConnection {
    /// Answers whatever comes in on the gRPC listener. What is not a rate limit call is answered in
    /// a box, and nothing of a request but its body is kept: the future is moved several times, for
    /// each call.
    pub(super) fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<GrpcBody>, Infallible>> + Send + use<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if request.uri().path() != wire::SHOULD_RATE_LIMIT || request.method() != Method::POST {
            return Either::Left(Box::pin(self.answer_other(request)));
        }
        let expected = is_grpc(&request);
        let serving = expected.then(|| Serving::new(self, request.headers()));
        let patience = deadline::patience(request.headers());
        let body = request.into_body();
        Either::Right(async move {
            let Some(mut serving) = serving else {
                return Ok(unsupported_media_type());
            };
            let answered = if serving.hold(CALL_BYTES) {
                let (connection, trace) = serving.parts();
                connection.should_rate_limit(body, patience, trace).await
            } else {
                Err(Status::client_holds_too_much())
            };
            Ok(match answered {
                Ok(message) => answer(GrpcBody::Message(serving.attach(message), serving)),
                // Nobody reads it; the call is told as abandoned.
                Err(status) if status.code == Code::Cancelled => refuse(&status),
                Err(status) => match status.denied_unread {
                    Some(reason)
                        if let Some(message) =
                            serving.attach_denial(frame::write(&convert::over())) =>
                    {
                        serving.note_denied_unread(reason, &status);
                        answer(GrpcBody::Message(message, serving))
                    }
                    _ => {
                        serving.note_refused(&status);
                        serving.refused(status.code);
                        refuse(&status)
                    }
                },
            })
        })
    }

    /// Answers a call of health or reflection.
    async fn answer_other<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<GrpcBody>, Infallible>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut held = Held::nothing(Arc::clone(&self.client));
        if held.resize(OTHER_CALL_BYTES) {
            let response = self.calls.routes.clone().serve(request).await?;
            return Ok(response.map(|body| GrpcBody::Tonic { body, _held: held }));
        }
        let status = Status::client_holds_too_much();
        self.calls.service.note_refused(&status);
        Ok(refuse(&status))
    }

    async fn should_rate_limit<B>(
        &self,
        body: B,
        patience: Duration,
        trace: Option<&mut CallTrace>,
    ) -> Result<Bytes, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let service = &*self.calls.service;
        let limits = service.limits;
        let lane = self.calls.lane.as_ref();
        let asked = lane.map(|lane| (lane, Instant::now().into_std()));
        let mut held = Held::nothing(&*self.client);
        let read = frame::read(body, limits.message_bytes, &mut held);
        let message = in_time(read, patience).await?;
        // A call whose message does not come takes up no place.
        let _place = service
            .enter()
            .ok_or_else(|| Status::overloaded(limits.in_flight))?;
        let watch = Stopwatch::start();
        let response = match asked {
            None => service.decode_and_decide(message, trace)?,
            // In a box, so that calls that never wait do not carry what those need that do.
            Some((lane, asked)) => {
                // It waits in its decoded form too, which is larger.
                if !held.resize(message.len().saturating_mul(DECODED)) {
                    return Err(Status::client_holds_too_much());
                }
                let due = lane.shared().due(asked, patience);
                let call = Call { lane, due, trace };
                Box::pin(service.decode_and_ask(message, call)).await?
            }
        };
        let response = frame::write(&response);
        service.pipeline.events().answered(Answered {
            duration: watch.elapsed(),
        });
        Ok(response)
    }
}

/// What the gRPC listener serves, without a socket: a request goes in, a response comes out. For
/// measurements.
#[derive(Clone, Debug)]
pub struct Endpoint(Arc<ServedConnection>);

impl Endpoint {
    /// Answers by the counts of this process.
    ///
    /// # Errors
    /// If the compiled-in descriptors are broken.
    pub fn new(service: &Arc<Service>, health: &HealthReporter) -> Result<Self, ServerError> {
        Ok(Self(Arc::new(ServedConnection {
            calls: Arc::new(Calls {
                service: Arc::clone(service),
                routes: Routes::new(health)?,
                lane: None,
                reads: Arc::default(),
            }),
            client: service.clients.connect(Peer::Unix),
        })))
    }

    /// Serves a connection until its client ends it.
    ///
    /// # Errors
    /// If the client breaks the protocol, or the stream fails.
    pub async fn serve<S>(&self, stream: S) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let calls = Arc::clone(&self.0.calls);
        let service = Arc::clone(&calls.service);
        let client = service.clients.connect(Peer::Unix);
        let report = move |error| service.report_protocol_error(error, Peer::Unix);
        let stream = http2::accept(stream, &client, &calls.reads, report).await?;
        let connection = Arc::new(ServedConnection { calls, client });
        let stream = TokioIo::new(stream);
        let answer = service_fn(move |request| Arc::clone(&connection).answer(request));
        Ok(server::builder().serve_connection(stream, answer).await?)
    }

    /// Answers one call.
    pub async fn call<B>(
        &self,
        request: Request<B>,
    ) -> Response<impl Body<Data = Bytes, Error = tonic::Status> + use<B>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        match Arc::clone(&self.0).answer(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Service {
    /// Answers an encoded request with an encoded response: all of a call but its frames.
    ///
    /// # Errors
    /// What the caller would be told.
    pub fn answer_bytes(&self, message: Bytes) -> Result<Bytes, String> {
        match self.decode_and_decide(message, None) {
            Ok(response) => Ok(response.encode_to_vec().into()),
            Err(status) => Err(status.message),
        }
    }

    fn decode_and_decide(
        &self,
        message: Bytes,
        trace: Option<&mut CallTrace>,
    ) -> Result<wire::RateLimitResponse, Status> {
        self.decide(&self.decode(message)?, trace)
    }

    fn decode(&self, message: Bytes) -> Result<wire::RateLimitRequest, Status> {
        census::refuse(&message, self.pipeline.caps())?;
        wire::RateLimitRequest::decode(message).map_err(|error| Status::undecodable(&error))
    }

    /// Answers one request by the counts of this process.
    pub(super) fn decide(
        &self,
        request: &wire::RateLimitRequest,
        trace: Option<&mut CallTrace>,
    ) -> Result<wire::RateLimitResponse, Status> {
        let query = convert::query(request, trace.as_deref());
        let snapshot = self.pipeline.snapshot();
        let answer = snapshot.answer(&query, self.pipeline.store().memory())?;
        Ok(self.respond(&query, &answer, trace))
    }

    async fn decode_and_ask(
        &self,
        message: Bytes,
        call: Call<'_>,
    ) -> Result<wire::RateLimitResponse, Status> {
        let request = self.decode(message)?;
        self.ask(&request, call).await
    }

    /// Answers one request by the store that all replicas share.
    pub(super) async fn ask(
        &self,
        request: &wire::RateLimitRequest,
        Call { lane, due, trace }: Call<'_>,
    ) -> Result<wire::RateLimitResponse, Status> {
        let query = convert::query(request, trace.as_deref());
        let snapshot = self.pipeline.lasting_snapshot();
        let asking = match snapshot.begin(&query)? {
            Begun::Answered(answer) => return Ok(self.respond(&query, &answer, trace)),
            Begun::Asking(asking) => asking,
        };
        let asked = Asked {
            checks: asking.checks().into(),
            enforce: asking.enforce(),
            domain: asking.domain(),
            trace: query.trace,
        };
        match lane.decide(asked, due).await {
            Ok(decision) => {
                let answer = asking.finish(&query, &decision);
                Ok(self.respond(&query, &answer, trace))
            }
            Err(unavailable) => {
                asking.fail(&query);
                Err(Refusal::from(unavailable).into())
            }
        }
    }

    fn respond(
        &self,
        query: &Query<'_>,
        answer: &Answer<'_>,
        trace: Option<&mut CallTrace>,
    ) -> wire::RateLimitResponse {
        if let Some(trace) = trace {
            trace::note(trace, query, answer);
        }
        convert::response(query, answer, self.response)
    }
}

/// What a call that asks the shared store goes by.
#[derive(Debug)]
pub(super) struct Call<'c> {
    pub(super) lane: &'c Lane,
    /// By when the store has to answer.
    pub(super) due: StdInstant,
    /// What is recorded of it, if that is wanted.
    pub(super) trace: Option<&'c mut CallTrace>,
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    let variant = content_type.and_then(|text| text.strip_prefix(APPLICATION_GRPC.as_bytes()));
    // `+proto` or parameters may follow; `-web` is another protocol.
    matches!(variant, Some([] | [b'+' | b';', ..]))
}

fn answer(body: GrpcBody) -> Response<GrpcBody> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_GRPC));
    response
}

fn refuse(status: &Status) -> Response<GrpcBody> {
    let mut response = answer(GrpcBody::Empty);
    response
        .headers_mut()
        .insert(GRPC_STATUS, status.code_header());
    response
        .headers_mut()
        .insert(GRPC_MESSAGE, status.message_header());
    response
}

fn unsupported_media_type() -> Response<GrpcBody> {
    let mut response = Response::new(GrpcBody::Empty);
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

const APPLICATION_GRPC: &str = "application/grpc";

/// What a call holds until its response has been written: hyper's and h2's state of a stream, and
/// ours, some 2.4 KiB as measured.
const CALL_BYTES: usize = 3 * 1024;

/// The same of a call that tonic answers: it allocates 8 KiB to decode the request, and as much for
/// the response. Few are open at a time: a gRPC client watches the health once for each connection.
const OTHER_CALL_BYTES: usize = 24 * 1024;

/// How many times as much memory as a message takes while it waits for the store: as bytes, decoded,
/// and as checks.
const DECODED: usize = 4;
