//! `tollgate top`: the fleet at a glance.
//!
//! What it shows, replicas write into their Redis every five seconds (`store`, `FleetSource`); the
//! keys that are limited most it asks of the replicas themselves. It only reads.

mod board;
mod screen;
mod text;
#[cfg(test)]
mod text_tests;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use tokio::time::sleep;

use super::serve::RedisUrlParser;
use crate::admin::top::TopReport;
use crate::app::store::{patience, shared_stores};
use crate::clock::Clock;
use crate::config::settings::{KeyPrefix, ListenAddr, Overrides, RedisUrl, Settings, StoreKind};
use crate::event::{Events, Silence};
use crate::store::{FleetReading, Glance};
use board::{Board, History, together};
use screen::{Screen, Wish};

/// Show what a fleet does: requests, denials and errors by domain, replicas, alerts, limited keys.
///
/// Replicas with store.kind redis add up their counts in Redis every 5 s; top reads them there. The
/// address, TLS and passwords are those of the service: take its settings file with --config, or
/// give --redis. With --admin it asks these replicas which keys they limit most; alone, for replicas
/// that count in memory, it shows nothing else. Rates are those of the last 10 s, or since the start
/// of top. On a terminal it goes on until q or Ctrl-C; elsewhere, or with --once, it looks twice,
/// prints, and exits 0, or 1 if something could not be asked.
///
/// `no store` is the part of descriptors that were decided without a call to Redis: rules without
/// bound, descriptors that no rule matches, and what is decided while Redis is away. `batches` are
/// calls to Redis that carried requests of the domain.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate top --redis redis://127.0.0.1:6379/0\n  \
    tollgate top --config config/tollgate.yaml --admin 10.0.0.7:6070,10.0.0.8:6070\n  \
    tollgate top --redis redis://127.0.0.1:6379/0 --json | jq .all.per_second.denied")]
pub(super) struct Top {
    /// The Redis of the fleet; further URLs are those that it fails over to. Other users of the
    /// machine can read a password in it: a settings file that names a password file is safer
    #[arg(long, value_name = "URL[,URL...]", value_delimiter = ',', value_parser = RedisUrlParser)]
    redis: Vec<RedisUrl>,
    /// The settings file of the service, which says how to reach its Redis
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the fleet's keys begin with (the setting store.redis.key_prefix)
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<KeyPrefix>,
    /// Admin listeners of replicas, to ask for the keys that are limited most: host:port, or
    /// unix:/path
    #[arg(long, value_name = "ADDR[,ADDR...]", value_delimiter = ',')]
    admin: Vec<ListenAddr>,
    /// Time between two looks [default: 2s on a terminal; 5s, in which every replica tells once,
    /// elsewhere]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    interval: Option<Duration>,
    /// Print once and exit
    #[arg(long)]
    once: bool,
    /// Print JSON, once
    #[arg(long)]
    json: bool,
}

impl Top {
    pub(super) fn run(self) -> ExitCode {
        let shown = self.settings().and_then(|settings| {
            let watching = self.watch(&settings);
            super::block_on(watching).map_err(|error| error.to_string())?
        });
        match shown {
            Ok(code) => code,
            Err(problem) => {
                super::complain(problem);
                ExitCode::from(super::FAILED)
            }
        }
    }

    fn settings(&self) -> Result<Settings, String> {
        let flags = Overrides {
            redis: self.redis.clone(),
            ..Overrides::default()
        };
        let mut settings = super::settings::load(self.config.as_deref(), flags)?.settings;
        if let Some(prefix) = &self.key_prefix {
            if settings.store.kind == StoreKind::Memory {
                return Err(
                    "--key-prefix is of keys in Redis: give --redis URL, or --config FILE with \
                     store.kind: redis"
                        .to_owned(),
                );
            }
            settings.store.redis.key_prefix = prefix.clone();
        }
        if settings.store.kind == StoreKind::Memory && self.admin.is_empty() {
            return Err(
                "nothing to look at: give --redis URL, or --config FILE with store.kind: redis; \
                 replicas that count in memory tell only which keys they limit (--admin ADDR)"
                    .to_owned(),
            );
        }
        Ok(settings)
    }

    async fn watch(&self, settings: &Settings) -> Result<ExitCode, String> {
        let mut eyes = Eyes::open(settings, self.admin.clone());
        if let Some(glance) = &eyes.glance {
            glance.settled(patience(settings)).await;
        }
        if self.once || self.json || !std::io::stdout().is_terminal() {
            return self.print(&mut eyes).await;
        }
        let first = eyes.look().await?;
        self.show(&mut eyes, first).await
    }

    /// Looks twice, and prints.
    async fn print(&self, eyes: &mut Eyes) -> Result<ExitCode, String> {
        if eyes.glance.is_some() {
            eyes.look_at_fleet().await?;
            sleep(self.interval.unwrap_or(ONE_ROUND)).await;
        }
        let board = eyes.look().await?;
        if self.json {
            let json = serde_json::to_string_pretty(&board).map_err(|error| error.to_string())?;
            super::print(format!("{json}\n"));
        } else {
            super::print(text::text(&board));
        }
        Ok(match board.problems.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(super::FAILED),
        })
    }

    /// Looks and draws until somebody wants to go.
    async fn show(&self, eyes: &mut Eyes, mut board: Board) -> Result<ExitCode, String> {
        let unusable = |error| format!("cannot draw on this terminal: {error} (--once prints)");
        let mut screen = Screen::open().map_err(unusable)?;
        let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(unusable)?;
        let interval = self.interval.unwrap_or(OFTEN);
        loop {
            screen.draw(&text::lines(&board)).map_err(unusable)?;
            let mut next = std::pin::pin!(async {
                sleep(interval).await;
                eyes.look().await
            });
            let looked = loop {
                tokio::select! {
                    looked = &mut next => break looked,
                    wish = screen.wish() => match wish {
                        Wish::Draw => screen.draw(&text::lines(&board)).map_err(unusable)?,
                        Wish::Quit => return Ok(ExitCode::SUCCESS),
                    },
                    _ = ended.recv() => return Ok(ExitCode::SUCCESS),
                }
            };
            match looked {
                Ok(new) => board = new,
                // What was seen last stays, and its time.
                Err(problem) => board.problems = vec![problem],
            }
        }
    }
}

/// What is looked at, and what was seen.
struct Eyes {
    glance: Option<Glance>,
    prefix: String,
    admins: Vec<ListenAddr>,
    history: History,
    clock: Clock,
}

impl Eyes {
    fn open(settings: &Settings, admins: Vec<ListenAddr>) -> Self {
        let clock = Clock::system();
        let glance = (settings.store.kind == StoreKind::Redis).then(|| {
            let events: Arc<dyn Events> = Arc::new(Silence);
            let (main, per_second) = shared_stores(settings, None, &clock, &events);
            Glance::open(&main, per_second.as_ref())
        });
        Self {
            glance,
            prefix: settings.store.redis.key_prefix.as_str().to_owned(),
            admins,
            history: History::default(),
            clock,
        }
    }

    /// Looks at everything.
    async fn look(&mut self) -> Result<Board, String> {
        let mut board = self.look_at_fleet().await?;
        if self.admins.is_empty() {
            return Ok(board);
        }
        let mut reports = Vec::new();
        for asked in join_all(self.admins.iter().map(top_keys)).await {
            match asked {
                Ok(report) => reports.push(report),
                Err(problem) => board.problems.push(problem),
            }
        }
        board.top = (!reports.is_empty()).then(|| together(reports, MOST_KEYS));
        Ok(board)
    }

    async fn look_at_fleet(&mut self) -> Result<Board, String> {
        let Some(glance) = &self.glance else {
            return Ok(Board {
                at_ms: self.clock.now().as_millis(),
                ..Board::default()
            });
        };
        let reading: FleetReading = glance.read().await.map_err(|error| error.to_string())?;
        Ok(self.history.tell(reading, &self.prefix, self.clock.now()))
    }
}

/// The keys that a replica limits most.
async fn top_keys(admin: &ListenAddr) -> Result<TopReport, String> {
    let admin = admin.to_string();
    let path = format!("/top?limit={ASKED_KEYS}");
    let asked = tokio::time::timeout(PATIENCE, super::fetch::get(&admin, &path)).await;
    let (status, body) = match asked {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_elapsed) => return Err(format!("{admin} did not answer within {PATIENCE:?}")),
    };
    let text = String::from_utf8_lossy(&body);
    match status {
        StatusCode::OK => serde_json::from_str(&text)
            .map_err(|error| format!("{admin} answered something else than keys: {error}")),
        StatusCode::NOT_FOUND => Err(format!(
            "{admin} does not tell of keys: --admin takes the admin listener (listen.admin, port \
             6070 by default)"
        )),
        status => Err(format!("{admin} says {status}: {}", text.trim())),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match interval >= SHORTEST {
        true => Ok(interval),
        false => Err(format!("at least {SHORTEST:?}: replicas tell every 5 s")),
    }
}

/// Between two looks on a terminal.
const OFTEN: Duration = Duration::from_secs(2);

/// In which every replica tells once.
const ONE_ROUND: Duration = Duration::from_secs(5);

const SHORTEST: Duration = Duration::from_millis(100);

/// How long a replica may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keys that are shown.
const MOST_KEYS: usize = 20;

/// Keys that each replica is asked for: one that is low with each may be high with all.
const ASKED_KEYS: usize = 100;
