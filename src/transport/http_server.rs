//! An HTTP listener with its routes. Handlers find who asks as `ConnectInfo<Peer>`.

use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::listener::{Address, Listener};
use crate::model::Peer;

/// A running HTTP server. Dropping it lets it run until the runtime ends.
#[derive(Debug)]
pub struct HttpServer {
    address: Address,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `routes` on `listener`.
    #[must_use]
    pub fn start(listener: Listener, routes: Router) -> Self {
        let address = listener.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            // A sender that is dropped means stop as well.
            let _dropped = stopped.await;
        };
        let routes = routes.into_make_service_with_connect_info::<Peer>();
        let serving = tokio::spawn(async move {
            let ended = match listener {
                Listener::Tcp(listener) => {
                    axum::serve(listener, routes)
                        .with_graceful_shutdown(stopped)
                        .await
                }
                Listener::Unix(listener, file) => {
                    let ended = axum::serve(listener, routes)
                        .with_graceful_shutdown(stopped)
                        .await;
                    drop(file);
                    ended
                }
            };
            if let Err(error) = ended {
                warn!(%error, "http listener ended");
            }
        });
        Self {
            address,
            stop,
            serving,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Takes no more requests and waits for those under way, at most `grace`.
    pub async fn stop(self, grace: Duration) {
        // It may have ended by itself.
        let _ended = self.stop.send(());
        let abort = self.serving.abort_handle();
        if timeout(grace, self.serving).await.is_err() {
            abort.abort();
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Tcp(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Self {
        Self::Unix
    }
}
