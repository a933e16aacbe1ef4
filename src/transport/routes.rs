//! What the gRPC listener serves besides the rate limit call: health and reflection, by tonic.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, TE};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Limited;
use tonic::service::Routes as TonicRoutes;
use tonic_health::ServingStatus;
use tower::ServiceExt;

/// tonic's services; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Routes(TonicRoutes);

impl Routes {
    pub(super) fn new(health: &HealthReporter) -> Result<Self, tonic_reflection::server::Error> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptor_set())
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = TonicRoutes::new(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.0.clone()),
        ))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
        Ok(Self(routes.prepare()))
    }

    /// Answers a call. tonic keeps a request's headers and body while it answers, so that it gets only the
    /// headers that it knows, and a body of [`MAX_BODY`] bytes at most.
    pub(super) async fn serve<B>(
        self,
        request: Request<B>,
    ) -> Result<Response<tonic::body::Body>, Infallible>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        let known = KNOWN_HEADERS.into_iter().filter_map(|name| {
            let value = head.headers.get(&name)?.clone();
            Some((name, value))
        });
        head.headers = known.collect();
        let body = tonic::body::Body::new(Limited::new(body, MAX_BODY));
        self.0.oneshot(Request::from_parts(head, body)).await
    }
}

/// Says over gRPC whether this server wants traffic: under the name `ratelimit`, as
/// envoyproxy/ratelimit does, and under the empty name, which means the whole server.
#[derive(Clone, Debug)]
pub struct HealthReporter(tonic_health::server::HealthReporter);

impl Default for HealthReporter {
    fn default() -> Self {
        Self::new()
    }
}

impl HealthReporter {
    /// A server that does not want traffic yet.
    #[must_use]
    pub fn new() -> Self {
        Self(tonic_health::server::HealthReporter::new())
    }

    /// Says from now on whether traffic is wanted.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in ["", SERVICE] {
            self.0.set_service_status(name, status).await;
        }
    }
}

/// The messages and the service as protobuf describes them: what `proto/` holds, compiled.
#[must_use]
pub const fn descriptor_set() -> &'static [u8] {
    include_bytes!("../../proto/descriptors.bin")
}

/// What tonic reads of a request's headers.
const KNOWN_HEADERS: [HeaderName; 5] = [
    CONTENT_TYPE,
    TE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];

/// Bytes of a request for health or reflection: the name of a service or of a file, or a few of them.
const MAX_BODY: usize = 16 * 1024;

/// The name under which health is asked for.
const SERVICE: &str = "ratelimit";
