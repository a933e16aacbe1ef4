//! An HTTP listener with its routes.

use std::time::Duration;

use axum::Router;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use super::listener::{Address, Listener};

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
                warn!(%error, "an HTTP listener ended");
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
