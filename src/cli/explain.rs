//! `tollgate explain`: why a descriptor is answered as it is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http::StatusCode;

use super::policies;
use crate::admin::explain::ExplainReport;
use crate::event::Silence;
use crate::model::DescriptorText;
use crate::policy::Policies;

/// Tell which rule applies to a descriptor, why the others do not, and what its counter is called.
///
/// With --policies it reads the files; with --admin it asks a running server, which also knows what
/// is counted and what would be answered now. Charges nothing. Exits 0 whatever the answer is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate explain --policies config/policies demo user_id=alice\n  \
    tollgate explain --admin 127.0.0.1:6070 demo user_id=alice --hits 3")]
#[group(skip)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["policies", "admin"])))]
pub(super) struct Explain {
    /// Policy files, or folders of them
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
    /// The admin listener of a running server: host:port, or unix:/path
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// The domain
    domain: String,
    /// The descriptor
    #[arg(value_name = "KEY=VALUE[,KEY=VALUE...]", value_parser = DescriptorText::parse)]
    descriptor: DescriptorText,
    /// What it costs; 0 only asks
    #[arg(long, default_value_t = 1)]
    hits: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> ExitCode {
        let report = match (&self.policies, &self.admin) {
            (Some(path), _) => self.read_files(path),
            (None, Some(admin)) => self.ask_server(admin),
            (None, None) => Err("--policies or --admin says where the rules are".to_owned()),
        };
        let text = report.and_then(|report| {
            if self.json {
                serde_json::to_string_pretty(&report)
                    .map(|json| format!("{json}\n"))
                    .map_err(|error| error.to_string())
            } else {
                Ok(report.to_string())
            }
        });
        match text {
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

    fn read_files(&self, path: &Path) -> Result<ExplainReport, String> {
        let checked =
            policies::check(&[path.to_owned()], true).map_err(|error| error.to_string())?;
        let compiled = checked
            .compiled
            .map_err(|report| format!("policies refused:\n{report}"))?;
        let policies = Policies::new(compiled.domains, &Silence);
        ExplainReport::new(&policies, &self.domain, &self.descriptor, self.hits, None)
            .map_err(|refusal| refusal.to_string())
    }

    fn ask_server(&self, admin: &str) -> Result<ExplainReport, String> {
        let entry = |(key, value): &(String, String)| {
            format!(
                "{}={}",
                escape(key, &['\\', ',', '=']),
                escape(value, &['\\', ','])
            )
        };
        let descriptor: Vec<String> = self.descriptor.entries().iter().map(entry).collect();
        let path = format!(
            "/explain?domain={}&descriptor={}&hits={}",
            super::fetch::encode(&self.domain),
            super::fetch::encode(&descriptor.join(",")),
            self.hits
        );
        let (status, body) = super::block_on(super::fetch::get(admin, &path))
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body);
        if status != StatusCode::OK {
            return Err(format!("{admin} says {status}: {}", text.trim()));
        }
        serde_json::from_str(&text).map_err(|error| {
            format!("{admin} answered something else than an explanation: {error}")
        })
    }
}

/// Takes the meaning from special characters.
fn escape(text: &str, special: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if special.contains(&c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
