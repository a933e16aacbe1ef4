//! Pushing metrics and spans: the settings of Tollgate's own, and what comes of them and
//! OpenTelemetry's variables together.
//!
//! A setting wins, wherever it was written; then a signal's own variable; then that of all signals;
//! then the default. Nothing is pushed unless something says where to.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::otel::Signal;
use super::texts::{self, Written};
use super::values::Ratio;
use super::{Settings, otel};
use crate::model::Sampler;
use crate::telemetry::otlp::{OtlpProtocol, PushConfig, Target};

/// The address of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(Uri);

impl OtlpEndpoint {
    pub(super) fn into_uri(self) -> Uri {
        self.0
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        // The path that is no path was not written.
        f.write_str(text.strip_suffix('/').unwrap_or(&text))
    }
}

impl Serialize for OtlpEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Written for OtlpEndpoint {
    const EXPECTING: &'static str = "an address such as http://127.0.0.1:4317";

    fn read(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("not the address of an OTLP receiver: {why}"));
        let (Ok(uri), true) = (Uri::from_str(text), text.contains("://")) else {
            return refused("write http://HOST:PORT or https://HOST:PORT");
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return refused("it begins with http:// or https://");
        }
        if uri
            .authority()
            .is_some_and(|host| host.as_str().contains('@'))
        {
            // An address is shown and logged.
            return refused(
                "a user and a password do not belong in it (OTEL_EXPORTER_OTLP_HEADERS takes an \
                 Authorization header)",
            );
        }
        match uri.host() {
            None | Some("") => refused("it has no host"),
            Some(_) => Ok(Self(uri)),
        }
    }
}

/// How a receiver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolName(OtlpProtocol);

impl Serialize for ProtocolName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl Written for ProtocolName {
    const EXPECTING: &'static str = "grpc or http/protobuf";

    fn read(text: &str) -> Result<Self, String> {
        protocol(text).map(Self)
    }
}

/// The protocol of this name.
pub(super) fn protocol(text: &str) -> Result<OtlpProtocol, String> {
    let found = OtlpProtocol::ALL.into_iter().find(|one| one.name() == text);
    found.ok_or_else(|| format!("{text:?} is neither grpc nor http/protobuf"))
}

/// `telemetry.traces`: which calls are recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// The share of the calls that come without a trace of their own.
    #[serde(deserialize_with = "optional_ratio")]
    pub ratio: Option<Ratio>,
}

fn optional_ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ratio>, D::Error> {
    texts::optional(deserializer)
}

impl Settings {
    /// What is pushed and where to; none if nothing is.
    #[must_use]
    pub fn push(&self) -> Option<PushConfig> {
        let otel = &self.otel;
        if otel.disabled {
            return None;
        }
        let metrics = self.target(&otel.metrics, "v1/metrics");
        let traces = self.target(&otel.traces, "v1/traces");
        if metrics.is_none() && traces.is_none() {
            return None;
        }
        let mut resource = otel.resource.clone();
        if !resource.iter().any(|(name, _)| name == otel::SERVICE_NAME) {
            resource.push((otel::SERVICE_NAME.to_owned(), "tollgate".to_owned()));
        }
        Some(PushConfig {
            metrics,
            traces,
            interval: otel.interval.unwrap_or(INTERVAL),
            spans: otel.spans,
            resource,
        })
    }

    /// Which calls are recorded; none where no spans are pushed.
    #[must_use]
    pub fn sampler(&self) -> Option<Sampler> {
        self.push()?.traces?;
        let (ratio, follows_parent) = match (self.telemetry.traces.ratio, self.otel.sampler) {
            (Some(ratio), _) => (ratio.get(), true),
            (None, Some(sampler)) => sampler,
            (None, None) => (0.0, true),
        };
        Sampler::new(ratio, follows_parent)
    }

    /// Where a signal is pushed to, if anywhere; over HTTP `path` is its own.
    fn target(&self, signal: &Signal, path: &str) -> Option<Target> {
        if signal.exporter == Some(false) {
            return None;
        }
        let set = self.telemetry.otlp_endpoint.as_ref();
        let (endpoint, is_base) = match (set, &signal.own_endpoint, &signal.endpoint) {
            (Some(OtlpEndpoint(set)), _, _) => (Some(set.clone()), true),
            (None, Some(own), _) => (Some(own.clone()), false),
            (None, None, endpoint) => (endpoint.clone(), true),
        };
        let protocol = self.telemetry.otlp_protocol.map(|name| name.0);
        let protocol = protocol.or(signal.protocol).unwrap_or_else(|| {
            let port = endpoint.as_ref().and_then(Uri::port_u16);
            match port {
                Some(HTTP_PORT) => OtlpProtocol::HttpProtobuf,
                _ => OtlpProtocol::Grpc,
            }
        });
        let endpoint = match (endpoint, signal.exporter) {
            (Some(endpoint), _) => endpoint,
            // Somebody wants it and leaves where to OpenTelemetry's default.
            (None, Some(true)) => Uri::from_static(match protocol {
                OtlpProtocol::Grpc => "http://localhost:4317",
                OtlpProtocol::HttpProtobuf => "http://localhost:4318",
            }),
            (None, _) => return None,
        };
        Some(Target {
            endpoint: match (protocol, is_base) {
                (OtlpProtocol::HttpProtobuf, true) => below(&endpoint, path),
                _ => endpoint,
            },
            protocol,
            headers: signal.headers.clone(),
            timeout: signal.timeout.unwrap_or(TIMEOUT),
            files: signal.files.clone(),
        })
    }
}

/// The address of `path` below another one.
fn below(base: &Uri, path: &str) -> Uri {
    let text = format!("{}/{path}", base.to_string().trim_end_matches('/'));
    Uri::from_str(&text).unwrap_or_else(|_odd| base.clone())
}

/// OpenTelemetry's port for OTLP over HTTP; 4317 is that for gRPC.
const HTTP_PORT: u16 = 4318;

/// OpenTelemetry's defaults.
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
