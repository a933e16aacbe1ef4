//! `tollgate serve`: run the service.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::error;

use crate::app::{App, Control, Ended, LoadError, Options, StartError, configure};
use crate::clock::Clock;
use crate::config::settings::{Listen, ListenAddr, Loaded, Overrides, RedisUrl, RedisUrlError};
use crate::telemetry::logs;

/// Run the service.
///
/// Settings come from the flags, then from TOLLGATE_* environment variables, then from the file,
/// then from the defaults. Policies are read again when they change; SIGHUP reads both again. Ports
/// that were asked for as 0 are printed, a line each: `listen.grpc: 127.0.0.1:41234`.
/// SIGTERM drains; a second one ends at once. Exits 1 if settings or policies are refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate serve --policies config/policies\n  \
    tollgate serve --config config/tollgate.yaml\n  \
    tollgate serve --policies config/policies --redis redis://127.0.0.1:6379/0\n  \
    TOLLGATE_TELEMETRY__LOG__LEVEL=debug tollgate serve --config config/tollgate.yaml --grpc 127.0.0.1:0")]
pub(super) struct Serve {
    /// The settings file; without it every setting has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of policy files, or one file
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
    /// Where to answer Envoy: host:port (port 0 takes a free one) or unix:/path
    #[arg(long, value_name = "ADDR")]
    grpc: Option<ListenAddr>,
    /// Where to answer /json, /healthcheck, /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDR")]
    http: Option<ListenAddr>,
    /// Where to answer operators; not for the public
    #[arg(long, value_name = "ADDR")]
    admin: Option<ListenAddr>,
    /// Count in this Redis, which replicas share, instead of in memory; further URLs are servers to
    /// fail over to, in order. Other users of the machine can read a password in it: a file
    /// (the setting store.redis.password_file) is safer
    #[arg(long, value_name = "URL[,URL...]", value_delimiter = ',', value_parser = RedisUrlParser)]
    redis: Vec<RedisUrl>,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        let loaded = match self.settings() {
            Ok(loaded) => loaded,
            Err(error) => {
                super::complain(error);
                return ExitCode::from(super::FAILED);
            }
        };
        match super::block_on(self.serve(loaded)) {
            Ok(code) => code,
            Err(error) => {
                super::complain(format!("cannot start a runtime: {error}"));
                ExitCode::from(super::FAILED)
            }
        }
    }

    fn settings(&self) -> Result<Loaded, String> {
        let flags = Overrides {
            policies: self.policies.clone(),
            grpc: self.grpc.clone(),
            http: self.http.clone(),
            admin: self.admin.clone(),
            redis: self.redis.clone(),
        };
        super::settings::load_to_serve(self.config.as_deref(), flags)
    }

    async fn serve(self, loaded: Loaded) -> ExitCode {
        let Loaded { settings, warnings } = loaded;
        let log = logs::init(configure::level(&settings), configure::format(&settings));
        let log = log.inspect_err(|error| super::complain(error)).ok();
        configure::log_warnings(&warnings);
        let control = match controls() {
            Ok(control) => control,
            Err(error) => {
                super::complain(format!("cannot listen for signals: {error}"));
                return ExitCode::from(super::FAILED);
            }
        };
        let format = configure::format(&settings);
        let listen = settings.listen.clone();
        let reread = Box::new(move || self.settings());
        let options = Options {
            settings,
            reread,
            log,
            clock: Clock::system(),
        };
        let app = match App::start(options).await {
            Ok(app) => app,
            Err(error) => {
                refuse(&error, format);
                return ExitCode::from(super::FAILED);
            }
        };
        print_taken(&listen, &app);
        match app.run(control).await {
            // Asked to stop, it stopped in the time that it was given.
            Ended::Drained | Ended::Cut => ExitCode::SUCCESS,
            Ended::AtOnce => ExitCode::from(super::FAILED),
        }
    }
}

/// Reads a URL. clap's own words on what is wrong would repeat it, password and all.
#[derive(Clone)]
pub(super) struct RedisUrlParser;

impl TypedValueParser for RedisUrlParser {
    type Value = RedisUrl;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<RedisUrl, clap::Error> {
        let refused = |why: &dyn std::fmt::Display| {
            let message = format!("invalid value for '--redis <URL[,URL...]>': {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        };
        let text = value.to_str().ok_or_else(|| refused(&"it is not UTF-8"))?;
        text.parse().map_err(|error: RedisUrlError| refused(&error))
    }
}

/// Says why it does not start, in the log if machines read that.
fn refuse(error: &StartError, format: logs::Format) {
    let hint = match error {
        StartError::Policies(LoadError::Read(_)) => {
            " (--policies PATH says where they are, or the setting policies.path)"
        }
        _ => "",
    };
    match format {
        logs::Format::Json => error!("cannot start: {error}{hint}"),
        logs::Format::Text => super::complain(format!("{error}{hint}")),
    }
}

/// Prints what port 0 took. The log says so too, but not at every level.
fn print_taken(listen: &Listen, app: &App) {
    for (name, asked, taken) in [
        ("grpc", &listen.grpc, app.grpc()),
        ("http", &listen.http, app.http()),
        ("admin", &listen.admin, app.admin()),
    ] {
        if matches!(asked, ListenAddr::Tcp { port: 0, .. }) {
            super::print(format!("listen.{name}: {taken}\n"));
        }
    }
}

/// SIGHUP rereads, SIGTERM and SIGINT stop.
fn controls() -> std::io::Result<mpsc::Receiver<Control>> {
    let (sender, receiver) = mpsc::channel(8);
    for (kind, control) in [
        (SignalKind::hangup(), Control::Reload),
        (SignalKind::terminate(), Control::Stop),
        (SignalKind::interrupt(), Control::Stop),
    ] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send(control).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}
