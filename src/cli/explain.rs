//! `tollgate explain`: why a descriptor is answered as it is.

use std::path::PathBuf;
use std::process::ExitCode;

use http::StatusCode;

use super::policies;
use crate::admin::explain::ExplainReport;
use crate::app::configure;
use crate::config::settings::{ListenAddr, Overrides};
use crate::event::Silence;
use crate::model::DescriptorText;
use crate::policy::Policies;

/// Tell which rule applies to a descriptor, why the others do not, and what its counter is called.
///
/// With --policies or --config it reads the files, as `serve` with the same settings would; with
/// --admin it asks a running server, which also knows what is counted and what would be answered
/// now. Charges nothing. Exits 0 whatever the answer is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate explain --policies config/policies demo user_id=alice\n  \
    tollgate explain --config config/tollgate.yaml demo user_id=alice\n  \
    tollgate explain --admin 127.0.0.1:6070 demo user_id=alice --hits 3")]
#[group(skip)]
#[command(group(
    clap::ArgGroup::new("source").required(true).multiple(true).args(["policies", "config", "admin"])
))]
pub(super) struct Explain {
    /// A policy file, or a folder of them; may be given several times
    #[arg(long, value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// The settings file that the policies are served with; names them too, without --policies
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let several files share a domain (the setting policies.merge_domains)
    #[arg(long)]
    merge_domains: bool,
    /// The admin listener of a running server: host:port, or unix:/path
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["policies", "config", "merge_domains"])]
    admin: Option<ListenAddr>,
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
        let report = match &self.admin {
            Some(admin) => self.ask_server(&admin.to_string()),
            None => self.read_files(),
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

    fn read_files(&self) -> Result<ExplainReport, String> {
        let settings =
            super::settings::load(self.config.as_deref(), Overrides::default())?.settings;
        let mut defaults = settings.policy_defaults();
        defaults.merge_domains |= self.merge_domains;
        let caps = configure::caps(&settings);
        let checked = if self.policies.is_empty() {
            policies::check(&[settings.policies.path], &defaults)
        } else {
            policies::check(&self.policies, &defaults)
        };
        if let Some(error) = checked.unread.first() {
            return Err(error.to_string());
        }
        let compiled = checked
            .compiled
            .map_err(|report| format!("policies refused:\n{report}"))?;
        let policies = Policies::new(compiled.domains, &Silence);
        ExplainReport::new(&policies, caps, &self.domain, &self.descriptor, self.hits)
            .map(|(report, _asked)| report)
            .map_err(|refusal| refusal.to_string())
    }

    fn ask_server(&self, admin: &str) -> Result<ExplainReport, String> {
        let path = format!(
            "/explain?domain={}&descriptor={}&hits={}",
            super::fetch::encode(&self.domain),
            super::fetch::encode(&self.descriptor.to_string()),
            self.hits
        );
        let (status, body) = super::block_on(super::fetch::get(admin, &path))
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body);
        if status == StatusCode::NOT_FOUND {
            return Err(format!(
                "{admin} does not explain: --admin takes the admin listener (listen.admin, port \
                 6070 by default)"
            ));
        }
        if status != StatusCode::OK {
            return Err(format!("{admin} says {status}: {}", text.trim()));
        }
        serde_json::from_str(&text).map_err(|error| {
            format!("{admin} answered something else than an explanation: {error}")
        })
    }
}
