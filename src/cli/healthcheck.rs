//! `tollgate healthcheck`: for containers without a shell.

use std::process::ExitCode;
use std::time::Duration;

use http::StatusCode;

use crate::config::settings::ListenAddr;

/// Ask a running server whether it is alive, for container health checks.
///
/// Exits 0 if it is, 1 if not.
#[derive(Debug, clap::Args)]
pub(super) struct Healthcheck {
    /// The HTTP listener: host:port, or unix:/path
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: ListenAddr,
    /// Ask whether it wants traffic (/readyz) instead of whether it lives (/livez)
    #[arg(long)]
    ready: bool,
}

impl Healthcheck {
    pub(super) fn run(self) -> ExitCode {
        let path = if self.ready { "/readyz" } else { "/livez" };
        let addr = self.addr.to_string();
        let asked = super::block_on(async {
            tokio::time::timeout(PATIENCE, super::fetch::get(&addr, path)).await
        });
        let problem = match asked {
            Ok(Ok(Ok((StatusCode::OK, _)))) => return ExitCode::SUCCESS,
            Ok(Ok(Ok((StatusCode::NOT_FOUND, _)))) => format!(
                "{addr} has no {path}: --addr takes the HTTP listener (listen.http, port 8080 by \
                 default)"
            ),
            Ok(Ok(Ok((status, body)))) => {
                let body = String::from_utf8_lossy(&body);
                format!("{addr} says {status}: {}", body.trim())
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => format!("{addr} did not answer within {PATIENCE:?}"),
            Err(error) => error.to_string(),
        };
        super::complain(problem);
        ExitCode::from(super::FAILED)
    }
}

const PATIENCE: Duration = Duration::from_secs(2);
