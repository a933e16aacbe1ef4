//! Starts a Tollgate in this process on free ports, and asks it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tokio::sync::{mpsc, oneshot};
use tollgate::app::{App, Control, Ended, Options, StartError};
use tollgate::clock::{Clock, Timestamp};
use tollgate::config::settings::{Overrides, Settings};
use tollgate::transport::Service;
use tonic::transport::Channel;

/// A running Tollgate with its policies in a folder of its own. Stops when dropped.
pub(crate) struct Harness {
    pub(crate) folder: tempfile::TempDir,
    settings: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) admin: String,
    pub(crate) service: Arc<Service>,
    control: mpsc::Sender<Control>,
    ended: oneshot::Receiver<Ended>,
}

/// 2026-11-24 12:00:00 UTC: windows of an hour or less have just begun.
pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_795_521_600_000);

impl Harness {
    /// One policy file, default settings.
    pub(crate) async fn with_policy(policy: &str) -> Self {
        Self::start(&[("policy.yaml", policy)], "").await.unwrap()
    }

    /// Policy files and settings.
    pub(crate) async fn start(
        policies: &[(&str, &str)],
        settings: &str,
    ) -> Result<Self, StartError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in policies {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self::serve(folder, settings, Clock::manual(NOON)).await
    }

    /// Serves the policies of `folder`, by `clock`.
    pub(crate) async fn serve(
        folder: tempfile::TempDir,
        settings: &str,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let (control, controlled) = mpsc::channel(8);
        let (told, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let settings_folder = tempfile::tempdir().unwrap();
        let file = settings_folder.path().join("tollgate.yaml");
        std::fs::write(&file, settings).unwrap();
        let options = options(folder.path(), file, clock.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let app = match App::start(options).await {
                    Ok(app) => app,
                    Err(error) => return told.send(Err(error)).unwrap_or_default(),
                };
                let addresses = [app.grpc(), app.http(), app.admin()].map(ToString::to_string);
                let _gone = told.send(Ok((addresses, Arc::clone(app.service()))));
                let _gone = end.send(app.run(controlled).await);
            });
        });
        let ([grpc, http, admin], service) = started.await.unwrap()?;
        Ok(Self {
            folder,
            settings: settings_folder,
            clock,
            grpc,
            http,
            admin,
            service,
            control,
            ended,
        })
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.grpc).await
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap();
        self.clock.set(self.clock.now() + millis);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Changes the settings file; [`Control::Reload`] has it read.
    pub(crate) fn write_settings(&self, text: &str) {
        std::fs::write(self.settings.path().join("tollgate.yaml"), text).unwrap();
    }

    pub(crate) async fn tell(&self, control: Control) {
        self.control.send(control).await.unwrap();
    }

    pub(crate) async fn ended(self) -> Ended {
        within(self.ended).await.unwrap()
    }

    /// GET over the `http` listener.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        http_call(&self.http, http::Method::GET, path, "").await
    }

    /// GET over the `admin` listener.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        http_call(&self.admin, http::Method::GET, path, "").await
    }

    /// POST to `/json`.
    pub(crate) async fn json(&self, body: &str) -> (u16, String) {
        http_call(&self.http, http::Method::POST, "/json", body).await
    }
}

fn options(folder: &Path, settings: PathBuf, clock: Clock) -> Options {
    let any = || Some("127.0.0.1:0".parse().unwrap());
    let flags = Overrides {
        policies: Some(folder.to_owned()),
        grpc: any(),
        http: any(),
        admin: any(),
        ..Overrides::default()
    };
    let reread = move || {
        let text = std::fs::read(&settings).map_err(|error| error.to_string())?;
        Settings::load(
            Some(("tollgate.yaml", &text)),
            std::iter::empty(),
            flags.clone(),
        )
        .map_err(|report| report.to_string())
    };
    let settings = reread().unwrap_or_else(|error| panic!("{error}")).settings;
    Options {
        settings,
        reread: Box::new(reread),
        log: None,
        clock,
    }
}

/// Asks as Envoy does.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) RateLimitServiceClient<Channel>);

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Self(RateLimitServiceClient::new(
            channel.connect().await.unwrap(),
        ))
    }

    pub(crate) async fn ask(&mut self, request: RateLimitRequest) -> RateLimitResponse {
        self.try_ask(request).await.unwrap()
    }

    pub(crate) async fn try_ask(
        &mut self,
        request: RateLimitRequest,
    ) -> Result<RateLimitResponse, tonic::Status> {
        Ok(within(self.0.should_rate_limit(request))
            .await?
            .into_inner())
    }

    /// Asks for one descriptor; the overall code.
    pub(crate) async fn code(&mut self, domain: &str, entries: &[(&str, &str)]) -> Code {
        self.ask(request(domain, &[descriptor(entries)]))
            .await
            .overall_code()
    }
}

pub(crate) fn request(domain: &str, descriptors: &[RateLimitDescriptor]) -> RateLimitRequest {
    RateLimitRequest {
        domain: domain.into(),
        descriptors: descriptors.to_vec(),
        ..RateLimitRequest::default()
    }
}

pub(crate) fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry {
        key: (*key).into(),
        value: (*value).into(),
    };
    RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        ..RateLimitDescriptor::default()
    }
}

/// One HTTP/1 call on a connection of its own: status and body.
pub(crate) async fn http_call(
    address: &str,
    method: http::Method,
    path: &str,
    body: &str,
) -> (u16, String) {
    use http_body_util::{BodyExt, Full};
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", address)
        .header("x-requested-with", "test")
        .body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A port that refuses connections. It stays reserved as long as this lives, so that no other test gets
/// it meanwhile.
pub(crate) struct ClosedPort(tokio::net::TcpSocket);

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// What takes longer than this has hung.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("hangs")
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
