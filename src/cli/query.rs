//! `tollgate query`: ask a running server what Envoy would ask.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::config::settings::ListenAddr;
use crate::model::DescriptorText;
use crate::transport::wire;

/// Ask a running server, as Envoy would.
///
/// Each descriptor is one argument. Exits with the last answer: 0 OK, 3 OVER_LIMIT, 1 no answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate query --addr 127.0.0.1:8081 demo user_id=alice\n  \
    tollgate query demo plan=gold,user_id=alice remote_address=10.0.0.1 --hits 3 --repeat 5")]
pub(super) struct Query {
    /// The gRPC listener: host:port, or unix:/path
    #[arg(long, default_value = "127.0.0.1:8081")]
    addr: ListenAddr,
    /// The domain
    domain: String,
    /// A descriptor: key=value[,key=value...]
    #[arg(required = true, value_name = "KEY=VALUE[,KEY=VALUE...]", value_parser = DescriptorText::parse)]
    descriptors: Vec<DescriptorText>,
    /// What each descriptor costs; 0 asks without charging
    #[arg(long)]
    hits: Option<u64>,
    /// Give the hits back instead of charging them
    #[arg(long)]
    refund: bool,
    /// Ask so many times, one after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Wait so long for an answer
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Query {
    pub(super) fn run(self) -> ExitCode {
        let outcome = super::block_on(self.ask()).map_err(|error| error.to_string());
        match outcome.and_then(|asked| asked) {
            Ok(wire::OK) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(OVER_LIMIT),
            Err(problem) => {
                super::complain(problem);
                ExitCode::from(super::FAILED)
            }
        }
    }

    /// The last answer's code.
    async fn ask(self) -> Result<i32, String> {
        let channel = self.connect().await?;
        let mut client = tonic::client::Grpc::new(channel);
        let mut last = wire::OK;
        for _ in 0..self.repeat {
            client
                .ready()
                .await
                .map_err(|error| format!("{}: {error}", self.addr))?;
            let codec = ProstCodec::<wire::RateLimitRequest, wire::RateLimitResponse>::default();
            let request = tonic::Request::new(self.request());
            let path = PathAndQuery::from_static(wire::SHOULD_RATE_LIMIT);
            let response = client
                .unary(request, path, codec)
                .await
                .map_err(|status| self.refused(&status))?
                .into_inner();
            last = response.overall_code;
            self.show(&response);
        }
        Ok(last)
    }

    async fn connect(&self) -> Result<Channel, String> {
        let uri = match &self.addr {
            ListenAddr::Unix(path) => format!("unix:{}", path.display()),
            ListenAddr::Tcp { .. } => format!("http://{}", self.addr),
        };
        Endpoint::from_shared(uri)
            .map_err(|error| format!("--addr {}: {error}", self.addr))?
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .connect()
            .await
            .map_err(|error| {
                let cause = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
                format!(
                    "cannot reach {}: {cause} (is Tollgate running there?)",
                    self.addr
                )
            })
    }

    /// What an error means, if it was not Tollgate's answer.
    fn refused(&self, status: &tonic::Status) -> String {
        let (code, message) = (status.code(), status.message());
        // What answers without gRPC's own status, or not in HTTP/2, is no gRPC listener.
        let foreign = [
            "grpc-status header missing",
            "h2 protocol error",
            "http2 error",
        ];
        if message == "transport error" {
            // An HTTP/1 listener closes the connection, sometimes before its answer has been read.
            return format!(
                "{}: connection closed before the answer (--addr takes the gRPC listener, listen.grpc, port 8081 \
                 by default)",
                self.addr
            );
        }
        if code == Code::Unimplemented || foreign.iter().any(|part| message.contains(part)) {
            format!(
                "{} does not answer rate limit calls: --addr takes the gRPC listener (listen.grpc, \
                 port 8081 by default) ({code:?}: {message})",
                self.addr
            )
        } else {
            format!("{}: {code:?}: {message}", self.addr)
        }
    }

    fn request(&self) -> wire::RateLimitRequest {
        let entry = |(key, value): &(String, String)| wire::Entry {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        let descriptor = |text: &DescriptorText| wire::RateLimitDescriptor {
            entries: text.entries().iter().map(entry).collect(),
            limit: None,
            hits_addend: self.hits,
            is_negative_hits: self.refund,
        };
        wire::RateLimitRequest {
            domain: Bytes::copy_from_slice(self.domain.as_bytes()),
            descriptors: self.descriptors.iter().map(descriptor).collect(),
            hits_addend: 0,
        }
    }

    /// One line for the answer, and one for each descriptor if there are several.
    fn show(&self, response: &wire::RateLimitResponse) {
        let overall = code(response.overall_code);
        match response.statuses.as_slice() {
            [status] if status.code == response.overall_code => {
                super::print(format!("{overall:<10} {}\n", describe(status)));
            }
            // Shadow mode, or a denial that enforce_percent spared.
            [status] => {
                let own = code(status.code);
                let described = describe(status);
                super::print(format!("{overall:<10} ({own}, not enforced) {described}\n"));
            }
            statuses => {
                super::print(format!("{overall}\n"));
                for (index, status) in statuses.iter().enumerate() {
                    let code = code(status.code);
                    super::print(format!("  [{index}] {code:<10} {}\n", describe(status)));
                }
            }
        }
    }
}

fn describe(status: &wire::DescriptorStatus) -> String {
    let Some(limit) = &status.current_limit else {
        return match status.limit_remaining {
            u32::MAX => "unlimited".into(),
            _ => "no limit applies".into(),
        };
    };
    let reset = status
        .duration_until_reset
        .as_ref()
        .map_or(0, |duration| duration.seconds);
    let name = if limit.name.is_empty() {
        String::new()
    } else {
        format!(" \"{}\"", limit.name)
    };
    let units = match limit.unit_multiplier {
        None | Some(1) => unit(limit.unit).to_owned(),
        Some(many) => format!("{many} {}s", unit(limit.unit)),
    };
    format!(
        "{} left of {} per {units}{name}, reset in {reset} s",
        status.limit_remaining, limit.requests_per_unit
    )
}

const fn code(code: i32) -> &'static str {
    match code {
        wire::OK => "OK",
        wire::OVER_LIMIT => "OVER_LIMIT",
        _ => "UNKNOWN",
    }
}

const fn unit(unit: i32) -> &'static str {
    match unit {
        1 => "second",
        2 => "minute",
        3 => "hour",
        4 => "day",
        5 => "month",
        6 => "year",
        7 => "week",
        _ => "unknown unit",
    }
}

/// Exit code when the last answer was OVER_LIMIT.
const OVER_LIMIT: u8 = 3;
