//! `tollgate reset`: start one counter afresh.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http::{HeaderValue, Method, StatusCode};

use super::fetch::{Call, encode};
use crate::admin::counter::CounterReport;
use crate::config::settings::ListenAddr;
use crate::model::DescriptorText;

/// Start the counter of one descriptor afresh, in a running server.
///
/// All that it counts is dropped, and what it said before and says now is printed. Other counters
/// of the same rule stay. The server takes this from its own machine, or, once its setting
/// admin.token_file is set, from whoever has the token in that file. Exits 0 if the counter was
/// reset, 1 if not: the server refuses, or no limit applies to the descriptor.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate reset --admin 127.0.0.1:6070 demo user_id=alice\n  \
    tollgate reset --admin 10.0.0.7:6070 --token-file token.txt demo user_id=alice")]
pub(super) struct Reset {
    /// The admin listener of a running server: host:port, or unix:/path
    #[arg(long, value_name = "ADDR")]
    admin: ListenAddr,
    /// The file with the server's token; a copy of what its setting admin.token_file names
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The domain
    domain: String,
    /// The descriptor
    #[arg(value_name = "KEY=VALUE[,KEY=VALUE...]", value_parser = DescriptorText::parse)]
    descriptor: DescriptorText,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Reset {
    pub(super) fn run(self) -> ExitCode {
        match self.reset() {
            Ok(text) => {
                super::print(text);
                ExitCode::SUCCESS
            }
            Err(problem) => {
                super::complain(problem);
                ExitCode::from(super::FAILED)
            }
        }
    }

    /// What to print.
    fn reset(&self) -> Result<String, String> {
        let admin = self.admin.to_string();
        let path = format!(
            "/counters?domain={}&descriptor={}",
            encode(&self.domain),
            encode(&self.descriptor.to_string()),
        );
        let call = Call {
            method: Method::DELETE,
            path: &path,
            authorization: self.token_file.as_deref().map(bearer).transpose()?,
        };
        let (status, body) = super::block_on(super::fetch::call(&admin, call))
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body);
        match (status, text.trim()) {
            (StatusCode::OK, text) => {
                let report: CounterReport = serde_json::from_str(text).map_err(|error| {
                    format!("{admin} answered something else than a counter: {error}")
                })?;
                if self.json {
                    serde_json::to_string_pretty(&report)
                        .map(|json| format!("{json}\n"))
                        .map_err(|error| error.to_string())
                } else {
                    Ok(report.to_string())
                }
            }
            // Ours says why.
            (StatusCode::NOT_FOUND, "") => Err(format!(
                "{admin} has no counters: --admin takes the admin listener (listen.admin, port 6070 \
                 by default)"
            )),
            (status, why) => Err(format!("{admin} says {status}: {why}")),
        }
    }
}

/// The header that brings the token.
fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let name = path.display();
    let token =
        std::fs::read(path).map_err(|error| format!("cannot read the token {name}: {error}"))?;
    let token = token.trim_ascii();
    if token.is_empty() {
        return Err(format!("the token file {name} is empty"));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_error| {
        format!("{name} holds no token: it has several lines, or bytes that no header may have")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
