//! Tells an Alertmanager what fires: it groups, silences and reaches people.
//!
//! One task for each Alertmanager of a cluster, since each has to be told everything and one that
//! hangs must not hold up the others. A task takes how things stand from a channel that holds no
//! more than that ([`Latest`]), so a dead Alertmanager
//! costs one attempt at a time, each with its own time limit, and no memory.
//!
//! What fires is told at once, again each [`REPEAT`](outbox::REPEAT), and called off when it is
//! over. If this process ends meanwhile, nothing is called off: it has not seen the end of what it
//! told. Alertmanager takes it for over by itself after [`LAPSE`](outbox::LAPSE); a replica that
//! comes back under the same name before that, and finds the same, goes on where it was, and
//! nobody is paged twice by a restart.

mod notice;
mod outbox;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::alerts::Latest;
use super::hostname::hostname;
use crate::clock::Clock;
use crate::config::settings::AlertmanagerUrls;
use crate::telemetry::{self, Notified};
use crate::transport::listener::Address;
use notice::Notice;
use outbox::{Next, Outbox};

/// Posts alerts of this replica.
#[derive(Clone, Debug)]
pub(super) struct Poster {
    clock: Clock,
    telemetry: Arc<telemetry::Alerts>,
    /// This replica's name.
    instance: Arc<str>,
    client: Client,
}

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
#[error("alerts.alertmanager_url: {0}")]
pub struct ClientError(String);

impl Poster {
    /// Able to post to any of `urls`, by `clock`, for the replica that listens at `http`.
    ///
    /// # Errors
    /// If TLS is asked for and cannot be set up.
    pub(super) fn new(
        clock: &Clock,
        telemetry: &Arc<telemetry::Alerts>,
        http: &Address,
        urls: &AlertmanagerUrls,
    ) -> Result<Self, ClientError> {
        let tls = urls.iter().any(|url| url.starts_with("https:"));
        let client = Client::builder()
            .tls_backend_preconfigured(client_config(tls)?)
            .connect_timeout(TIME_LIMIT / 2)
            .timeout(TIME_LIMIT)
            // An address that leads elsewhere is a mistake in the settings.
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError(why(&error)))?;
        Ok(Self {
            clock: clock.clone(),
            telemetry: Arc::clone(telemetry),
            instance: instance(http),
            client,
        })
    }

    async fn post(&self, url: &str, notices: &[Notice<'_>]) -> Result<(), String> {
        let post = self.client.post(format!("{url}{PATH}")).json(notices);
        let sent = post.send().await;
        let response = sent.map_err(|error| why(&error.without_url()))?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refusal(response).await)
    }
}

/// Tells one Alertmanager.
#[derive(Debug)]
pub(super) struct Teller {
    poster: Poster,
    url: String,
    outbox: Outbox,
}

impl Teller {
    /// One that has told nothing yet to the Alertmanager at `url`.
    pub(super) fn new(poster: Poster, url: &str) -> Self {
        Self {
            poster,
            url: url.to_owned(),
            outbox: Outbox::default(),
        }
    }

    /// Tells how things stand until `latest` ends.
    pub(super) async fn run(mut self, mut latest: watch::Receiver<Latest>) {
        let start = Instant::now();
        loop {
            let standing = *latest.borrow_and_update();
            let dropped = self.outbox.take_in(start.elapsed(), &standing);
            self.poster.telemetry.notified(Notified::Dropped, dropped);
            let wait = match self.outbox.next(start.elapsed()) {
                Next::Now => {
                    self.post(start).await;
                    continue;
                }
                Next::Later(wait) => Some(wait),
                Next::Idle => None,
            };
            tokio::select! {
                changed = latest.changed() => if changed.is_err() { return },
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    async fn post(&mut self, start: Instant) {
        let batch = self.outbox.batch();
        let now = self.poster.clock.now();
        let notices: Vec<Notice<'_>> = batch
            .iter()
            .map(|told| {
                let began = self.outbox.began(told.alert);
                Notice::new(told, began, &self.poster.instance, now)
            })
            .collect();
        let posted = self.poster.post(&self.url, &notices).await;
        let (url, counted) = (&*self.url, &self.poster.telemetry);
        match posted {
            Ok(()) => {
                counted.notified(Notified::Ok, 1);
                if self.outbox.delivered(start.elapsed(), &batch) {
                    info!(url, "alertmanager reachable again");
                }
            }
            Err(error) => {
                counted.notified(Notified::Failed, 1);
                if self.outbox.failed(start.elapsed()) {
                    warn!(
                        url,
                        error,
                        "alertmanager unreachable (alerts.alertmanager_url); retrying, without \
                         further lines until it is reachable"
                    );
                }
            }
        }
    }
}

/// This replica's name, as a scrape of its metrics would have it: where it listens, or the
/// machine's name in place of an address that says nothing to others.
fn instance(http: &Address) -> Arc<str> {
    let named = match http {
        Address::Unix(_) => hostname(),
        Address::Tcp(address) => match address.parse::<std::net::SocketAddr>() {
            Ok(socket) if socket.ip().is_unspecified() || socket.ip().is_loopback() => {
                format!("{}:{}", hostname(), socket.port())
            }
            Ok(_) | Err(_) => address.clone(),
        },
    };
    named.into()
}

fn client_config(tls: bool) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    if tls {
        let found = rustls_native_certs::load_native_certs();
        let (_usable, _ignored) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(ClientError(
                "this machine trusts no authority, so https:// cannot be used: install its \
                 package of CA certificates, or name a file of them in SSL_CERT_FILE"
                    .to_owned(),
            ));
        }
    }
    // Named, and not the process's default, of which there might be none or another.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError(format!("TLS cannot be set up: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Why it was refused: the status, and how the answer begins.
async fn refusal(mut response: Response) -> String {
    let status = response.status();
    let Ok(Some(body)) = response.chunk().await else {
        return format!("it answers {status}");
    };
    let text = String::from_utf8_lossy(body.get(..MOST_BYTES).unwrap_or(&body)).into_owned();
    format!("it answers {status}: {}", text.trim())
}

/// An error with its causes: the library's own texts name only the outermost.
fn why(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

const PATH: &str = "/api/v2/alerts";

/// Of one attempt.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Of an answer that refuses, in the log.
const MOST_BYTES: usize = 300;
