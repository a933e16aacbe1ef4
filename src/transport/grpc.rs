//! The rate limit call, from hyper's request to hyper's response.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use prost::Message;

use super::body::{GRPC_MESSAGE, GRPC_STATUS, GrpcBody};
use super::routes::Routes;
use super::status::Status;
use super::{Service, convert, frame, wire};
use crate::clock::Stopwatch;
use crate::event::Answered;

/// What answers the calls of a connection.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) service: Arc<Service>,
    pub(super) routes: Routes,
}

impl Calls {
    /// Answers whatever comes in on the gRPC listener.
    pub(super) async fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<GrpcBody>, Infallible>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.uri().path() != wire::SHOULD_RATE_LIMIT || request.method() != Method::POST {
            return self.routes.clone().serve(request).await;
        }
        if !is_grpc(&request) {
            return Ok(unsupported_media_type());
        }
        Ok(
            match should_rate_limit(&self.service, request.into_body()).await {
                Ok(message) => answer(GrpcBody::Message(message)),
                Err(status) => refuse(&status),
            },
        )
    }
}

async fn should_rate_limit<B>(service: &Service, body: B) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
{
    let limits = service.limits;
    let _place = service
        .enter()
        .ok_or_else(|| Status::overloaded(limits.in_flight))?;
    let message = frame::read(body, limits.message_bytes).await?;
    let watch = Stopwatch::start();
    let response = frame::write(&service.decode_and_decide(message)?);
    service.pipeline.events().answered(Answered {
        duration: watch.elapsed(),
    });
    Ok(response)
}

impl Service {
    /// Answers an encoded request with an encoded response: all of a call but its frames.
    ///
    /// # Errors
    /// What the caller would be told.
    pub fn answer_bytes(&self, message: Bytes) -> Result<Bytes, String> {
        match self.decode_and_decide(message) {
            Ok(response) => Ok(response.encode_to_vec().into()),
            Err(status) => Err(status.message),
        }
    }

    fn decode_and_decide(&self, message: Bytes) -> Result<wire::RateLimitResponse, Status> {
        let request =
            wire::RateLimitRequest::decode(message).map_err(|error| Status::undecodable(&error))?;
        self.decide(&request)
    }

    /// Answers one request.
    pub(super) fn decide(
        &self,
        request: &wire::RateLimitRequest,
    ) -> Result<wire::RateLimitResponse, Status> {
        let query = convert::query(request);
        let snapshot = self.pipeline.snapshot();
        let answer = snapshot.answer(&query)?;
        Ok(convert::response(&query, &answer, self.response))
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(APPLICATION_GRPC.as_bytes()))
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
