//! A receiver of OTLP: over gRPC by opentelemetry-proto's own services, over HTTP by axum.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// A running receiver; gone when dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    seen: Arc<Seen>,
    tasks: Vec<AbortHandle>,
}

/// What it has got, and how it behaves.
#[derive(Debug, Default)]
struct Seen {
    pushes: Mutex<Vec<Push>>,
    spans: Mutex<Vec<(String, Span)>>,
    /// Before each answer.
    delay: Duration,
}

/// One push of metrics.
#[derive(Clone, Debug)]
pub(super) struct Push {
    /// Attributes of the resource.
    pub(super) resource: BTreeMap<String, String>,
    pub(super) metrics: Vec<Metric>,
    /// What came with it.
    pub(super) headers: BTreeMap<String, String>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        Self::slow(Duration::ZERO).await
    }

    /// One that takes its time over each answer.
    pub(super) async fn slow(delay: Duration) -> Self {
        Self::run(delay, None).await
    }

    /// One that speaks TLS over gRPC.
    pub(super) async fn with_tls(tls: ServerTlsConfig) -> Self {
        Self::run(Duration::ZERO, Some(tls)).await
    }

    async fn run(delay: Duration, tls: Option<ServerTlsConfig>) -> Self {
        let seen = Arc::new(Seen {
            delay,
            ..Seen::default()
        });
        let [grpc, http] = [listener().await, listener().await];
        let addresses = [&grpc, &http].map(|listener| listener.local_addr().unwrap());
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let services = server
            .add_service(MetricsServiceServer::from_arc(Arc::clone(&seen)))
            .add_service(TraceServiceServer::from_arc(Arc::clone(&seen)));
        let over_grpc = services.serve_with_incoming(TcpIncoming::from(grpc));
        let routes = axum::Router::new()
            .route("/v1/metrics", post(take_metrics))
            .route("/v1/traces", post(take_spans))
            .with_state(Arc::clone(&seen));
        let over_http = axum::serve(http, routes);
        let tasks = vec![
            tokio::spawn(over_grpc).abort_handle(),
            tokio::spawn(over_http.into_future()).abort_handle(),
        ];
        Self {
            grpc: addresses[0],
            http: addresses[1],
            seen,
            tasks,
        }
    }

    /// Its addresses, with what they are spoken to.
    pub(super) fn endpoints(&self) -> [(String, &'static str); 2] {
        [
            (format!("http://{}", self.grpc), "grpc"),
            (format!("http://{}", self.http), "http/protobuf"),
        ]
    }

    /// Every push of metrics so far.
    pub(super) fn pushes(&self) -> Vec<Push> {
        self.seen.pushes.lock().clone()
    }

    /// Every span so far, with the name of its service.
    pub(super) fn spans(&self) -> Vec<(String, Span)> {
        self.seen.spans.lock().clone()
    }

    /// Spans of Tollgate of this kind.
    pub(super) fn of_tollgate(&self, name: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|(service, span)| service == "tollgate" && span.name == name);
        spans.into_iter().map(|(_, span)| span).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Seen {
    fn metrics(&self, request: ExportMetricsServiceRequest, headers: &BTreeMap<String, String>) {
        for one in request.resource_metrics {
            let scopes = one.scope_metrics.into_iter();
            self.pushes.lock().push(Push {
                resource: texts(&one.resource.unwrap_or_default().attributes),
                metrics: scopes.flat_map(|scope| scope.metrics).collect(),
                headers: headers.clone(),
            });
        }
    }

    fn spans(&self, request: ExportTraceServiceRequest) {
        for one in request.resource_spans {
            let resource = texts(&one.resource.unwrap_or_default().attributes);
            let spans = one.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let named = spans.map(|span| (resource["service.name"].clone(), span));
            self.spans.lock().extend(named);
        }
    }
}

#[tonic::async_trait]
impl MetricsService for Seen {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        tokio::time::sleep(self.delay).await;
        let headers = headers(&request.metadata().clone().into_headers());
        self.metrics(request.into_inner(), &headers);
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Seen {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        tokio::time::sleep(self.delay).await;
        self.spans(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

async fn take_metrics(
    State(seen): State<Arc<Seen>>,
    sent: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    tokio::time::sleep(seen.delay).await;
    let sent = headers(&sent);
    if sent["content-type"] != "application/x-protobuf" {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Vec::new());
    }
    seen.metrics(ExportMetricsServiceRequest::decode(body).unwrap(), &sent);
    let answer = ExportMetricsServiceResponse::default();
    (StatusCode::OK, answer.encode_to_vec())
}

async fn take_spans(State(seen): State<Arc<Seen>>, body: Bytes) -> StatusCode {
    tokio::time::sleep(seen.delay).await;
    seen.spans(ExportTraceServiceRequest::decode(body).unwrap());
    StatusCode::OK
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let pairs = headers.iter();
    pairs
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

/// Attributes, however they are written, as texts.
pub(super) fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = attribute.value.clone().unwrap().value.unwrap();
        match value {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            Value::BoolValue(flag) => flag.to_string(),
            other => format!("{other:?}"),
        }
    };
    let pairs = attributes.iter();
    pairs
        .map(|attribute| (attribute.key.clone(), text(attribute)))
        .collect()
}
