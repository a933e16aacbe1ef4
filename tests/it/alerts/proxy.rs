//! A slow way to a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Passes on what a server answers, later. Ends with the runtime.
pub(super) struct Proxy {
    address: SocketAddr,
    delay: Arc<AtomicU64>,
}

impl Proxy {
    pub(super) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let delay = Arc::<AtomicU64>::default();
        let current = Arc::clone(&delay);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(server).await else {
                    continue;
                };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let (from_near, to_near) = near.into_split();
                let (from_far, to_far) = far.into_split();
                tokio::spawn(pass(from_near, to_far, Arc::default()));
                tokio::spawn(pass(from_far, to_near, Arc::clone(&current)));
            }
        });
        Self { address, delay }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// How much later answers come from now on.
    pub(super) fn slow_down(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap();
        self.delay.store(millis, Ordering::Relaxed);
    }
}

/// What comes is read at once and written when its time has come, so that many can be under way.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Arc<AtomicU64>) {
    let (late, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1_000);
    tokio::spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        let delay = Duration::from_millis(delay.load(Ordering::Relaxed));
        let at = Instant::now() + delay;
        if late.send((at, buffer[..read].to_vec())).await.is_err() {
            return;
        }
    }
}
