//! One message to one receiver, over gRPC or HTTP.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use super::config::{OtlpProtocol, Target};

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Metrics(ExportMetricsServiceRequest),
    Spans(ExportTraceServiceRequest),
}

/// A message was not taken.
#[derive(Debug)]
pub(super) struct NotTaken {
    pub(super) why: String,
    /// Whether the same message may be taken a little later.
    pub(super) again: bool,
}

/// A receiver took a message, but not all that is in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Partly {
    /// How much it left.
    pub(super) rejected: usize,
    /// What it says of that.
    pub(super) why: String,
}

/// The way to a receiver. The connection is made when something is sent, and kept.
#[derive(Debug)]
pub(super) struct Post {
    target: Target,
    way: Option<Way>,
}

#[derive(Clone, Debug)]
enum Way {
    Grpc(Channel),
    Http(reqwest::Client),
}

impl Post {
    pub(super) const fn new(target: Target) -> Self {
        Self { target, way: None }
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a message and waits for what the receiver says, as long as that takes.
    pub(super) async fn send(&mut self, message: Message) -> Result<Partly, NotTaken> {
        let way = match &self.way {
            Some(way) => way.clone(),
            None => {
                // Files are read now; what is wrong with them may be put right while we run.
                let way = Way::to(&self.target).map_err(|why| NotTaken { why, again: true })?;
                self.way.insert(way).clone()
            }
        };
        match way {
            Way::Grpc(channel) => self.call(channel, message).await,
            Way::Http(client) => self.post(&client, message).await,
        }
    }

    async fn call(&self, channel: Channel, message: Message) -> Result<Partly, NotTaken> {
        let taken = match message {
            Message::Metrics(message) => {
                let mut client = MetricsServiceClient::new(channel);
                let response = client.export(self.request(message)).await;
                response.map(|response| Partly::from(response.into_inner()))
            }
            Message::Spans(message) => {
                let mut client = TraceServiceClient::new(channel);
                let response = client.export(self.request(message)).await;
                response.map(|response| Partly::from(response.into_inner()))
            }
        };
        taken.map_err(|status| NotTaken::from(&status))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = MetadataMap::from_headers(self.target.headers.0.clone());
        *request.metadata_mut() = metadata;
        request.set_timeout(self.target.timeout);
        request
    }

    async fn post(&self, client: &reqwest::Client, message: Message) -> Result<Partly, NotTaken> {
        let (body, read): (_, ReadAnswer) = match message {
            Message::Metrics(message) => (message.encode_to_vec(), |answer| {
                ExportMetricsServiceResponse::decode(answer)
                    .ok()
                    .map(Partly::from)
            }),
            Message::Spans(message) => (message.encode_to_vec(), |answer| {
                ExportTraceServiceResponse::decode(answer)
                    .ok()
                    .map(Partly::from)
            }),
        };
        let sent = client
            .post(self.target.endpoint.to_string())
            .headers(self.target.headers.0.clone())
            .header(CONTENT_TYPE, PROTOBUF)
            .body(body)
            .send()
            .await;
        let mut response = sent.map_err(|error| NotTaken::of(&error, true))?;
        let status = response.status();
        let mut answer = Vec::new();
        while answer.len() < LONGEST_ANSWER
            && let Some(chunk) = response
                .chunk()
                .await
                .map_err(|error| NotTaken::of(&error, true))?
        {
            answer.extend_from_slice(&chunk);
        }
        if status.is_success() {
            // An answer that cannot be read says no less than none.
            return Ok(read(&answer).unwrap_or_default());
        }
        Err(NotTaken {
            why: format!("it answered {status}"),
            again: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
        })
    }
}

/// Reads what a receiver says over HTTP.
type ReadAnswer = fn(&[u8]) -> Option<Partly>;

impl Way {
    fn to(target: &Target) -> Result<Self, String> {
        match target.protocol {
            OtlpProtocol::Grpc => grpc(target).map(Self::Grpc),
            OtlpProtocol::HttpProtobuf => http(target).map(Self::Http),
        }
    }
}

fn grpc(target: &Target) -> Result<Channel, String> {
    let wrong = |error: tonic::transport::Error| with_causes(&error);
    let mut endpoint = Endpoint::from(target.endpoint.clone())
        .user_agent(AGENT)
        .map_err(wrong)?
        .connect_timeout(target.timeout)
        // A receiver that is gone without a word is noticed.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    if target.endpoint.scheme_str() == Some("https") {
        let mut tls = ClientTlsConfig::new();
        tls = match &target.files.ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &target.files.identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        endpoint = endpoint.tls_config(tls).map_err(wrong)?;
    }
    Ok(endpoint.connect_lazy())
}

fn http(target: &Target) -> Result<reqwest::Client, String> {
    let wrong = |error: reqwest::Error| with_causes(&error);
    // reqwest takes the process's provider, and brings none. Another part may have set it already.
    let _set_already = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .user_agent(AGENT)
        .timeout(target.timeout)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &target.files.ca {
        let authorities = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(wrong)?;
        client = client.tls_certs_only(authorities);
    }
    if let Some((certificate, key)) = &target.files.identity {
        let both = [read(certificate)?, read(key)?].concat();
        client = client.identity(reqwest::Identity::from_pem(&both).map_err(wrong)?);
    }
    client.build().map_err(wrong)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    std::fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))
}

impl NotTaken {
    fn of(error: &dyn Error, again: bool) -> Self {
        let why = with_causes(error);
        Self { why, again }
    }
}

impl From<&Status> for NotTaken {
    fn from(status: &Status) -> Self {
        let causes = status.source().map(with_causes).unwrap_or_default();
        let message = clipped(status.message());
        Self {
            why: match causes.as_str() {
                "" => format!("{:?}: {message}", status.code()),
                causes => format!("{:?}: {causes}", status.code()),
            },
            // As OTLP has it. (It may take RESOURCE_EXHAUSTED later if it says when.)
            again: matches!(
                status.code(),
                Code::Aborted
                    | Code::Cancelled
                    | Code::DataLoss
                    | Code::DeadlineExceeded
                    | Code::OutOfRange
                    | Code::Unavailable
            ),
        }
    }
}

impl From<ExportMetricsServiceResponse> for Partly {
    fn from(response: ExportMetricsServiceResponse) -> Self {
        let partly = response.partial_success.map(|partly| Self {
            rejected: usize::try_from(partly.rejected_data_points).unwrap_or_default(),
            why: clipped(&partly.error_message).to_owned(),
        });
        partly.unwrap_or_default()
    }
}

impl From<ExportTraceServiceResponse> for Partly {
    fn from(response: ExportTraceServiceResponse) -> Self {
        let partly = response.partial_success.map(|partly| Self {
            rejected: usize::try_from(partly.rejected_spans).unwrap_or_default(),
            why: clipped(&partly.error_message).to_owned(),
        });
        partly.unwrap_or_default()
    }
}

/// An error and what it comes from.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    clipped(&text).to_owned()
}

/// What a receiver says may be of any length.
fn clipped(text: &str) -> &str {
    let end = text.floor_char_boundary(500);
    text.get(..end).unwrap_or_default()
}

const AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// How often a silent receiver is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read; more tells nothing.
const LONGEST_ANSWER: usize = 64 * 1024;
