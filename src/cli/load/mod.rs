//! `tollgate load`: ask a running server as often as is wanted, and tell how it fares.
//!
//! - [`plan`]: what to ask: descriptors, whose values may hold a key's number.
//! - [`drive`]: threads, connections, calls: as many as answer, or so many a second.
//! - [`wire`]: a connection, and a call over it.
//! - [`tally`]: what came of the calls.
//! - [`report`]: lines for people, JSON for machines.

mod drive;
mod plan;
mod report;
mod tally;
mod wire;

use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::settings::ListenAddr;
use crate::model::DescriptorText;
use drive::Load as Drive;
use plan::{KeyOrder, Keys, Plan};

/// Ask a running server under load, and print how long answers take.
///
/// Without --rate it asks as fast as it is answered, by --connections with --in-flight calls each.
/// With --rate it asks so many times a second whatever the server does, and times each call from
/// when it was due: a server that stalls shows in the percentiles, for the calls that it kept
/// waiting too. A % in a value is replaced by the number of a key, drawn from 0 up to --keys.
///
/// Prints a line each second on standard error, and a summary at the end or after Ctrl-C. Exits 0
/// if any call was answered, 1 if none was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate load demo user_id=alice --duration 5s\n  \
    tollgate load --rate 20000 --keys 1000000 --zipf 1.1 demo user_id=user-%\n  \
    tollgate load --connections 16 --in-flight 8 demo plan=gold,user_id=% remote_address=10.0.0.% --json")]
pub(super) struct Load {
    /// The gRPC listener: host:port, or unix:/path
    #[arg(long, default_value = "127.0.0.1:8081")]
    addr: ListenAddr,
    /// The domain
    domain: String,
    /// A descriptor: key=value[,key=value...]; % stands for a key's number
    #[arg(required = true, value_name = "KEY=VALUE[,KEY=VALUE...]", value_parser = DescriptorText::parse)]
    descriptors: Vec<DescriptorText>,
    /// Calls a second; without, as many as are answered
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Connections, spread over the threads
    #[arg(long, default_value = "4")]
    connections: NonZero<u16>,
    /// Calls under way on each connection: all the time, or with --rate at most
    #[arg(long, default_value = "32")]
    in_flight: NonZero<u16>,
    /// Threads; by default one for each core, at most one for each connection
    #[arg(long)]
    threads: Option<NonZero<u16>>,
    /// End after so many calls, if that is before --duration is over
    #[arg(long)]
    calls: Option<NonZero<u64>>,
    /// How long to go on
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Distinct keys
    #[arg(long, default_value = "1")]
    keys: NonZero<u32>,
    /// The order of keys: by chance, or each in its turn, so that --calls asks as many distinct ones
    #[arg(long, value_enum, default_value = "random")]
    key_order: KeyOrder,
    /// Draw keys by Zipf's law with this exponent, the first ones most often; without, evenly
    #[arg(long, value_name = "EXPONENT", value_parser = plan::exponent)]
    zipf: Option<f64>,
    /// What each descriptor costs; 0 asks without charging
    #[arg(long)]
    hits: Option<u64>,
    /// Give a call up after this, as Envoy does after 20ms
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print the summary as JSON, and no progress
    #[arg(long)]
    json: bool,
}

impl Load {
    pub(super) fn run(self) -> ExitCode {
        match self.load() {
            Ok(code) => code,
            Err(problem) => {
                super::complain(problem);
                ExitCode::from(super::FAILED)
            }
        }
    }

    fn load(self) -> Result<ExitCode, String> {
        let plan = Plan::new(
            &self.domain,
            &self.descriptors,
            Keys {
                count: self.keys,
                order: self.key_order,
                zipf: self.zipf,
            },
            self.hits,
        )?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = self.threads.map_or(cores, |threads| threads.get().into());
        let connections = usize::from(self.connections.get());
        let drive = Drive {
            addr: self.addr.to_string(),
            plan,
            rate: self.rate,
            connections,
            in_flight: usize::from(self.in_flight.get()),
            threads: threads.min(connections),
            duration: self.duration,
            calls: self.calls.map(NonZero::get),
            timeout: self.timeout,
        };
        let json = self.json;
        let mut progress = report::Progress::default();
        let (took, total) = drive.run(|last| {
            if !json {
                progress.print(last);
            }
        })?;
        super::print(match json {
            true => report::json(&drive, took, &total),
            false => report::text(&drive, took, &total),
        });
        Ok(match total.answered_count() {
            0 => ExitCode::from(super::FAILED),
            _ => ExitCode::SUCCESS,
        })
    }
}
