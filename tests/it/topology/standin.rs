//! A server that says what a test wants it to: for what no real one can be brought to say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Takes no more connections when it is dropped.
#[derive(Debug)]
pub(crate) struct Standin {
    pub(crate) addr: SocketAddr,
    task: AbortHandle,
}

impl Standin {
    /// Answers each command (its words, the first in capitals) with the RESP that `answer` gives, after
    /// `delay`.
    pub(crate) async fn start(
        delay: Duration,
        answer: impl Fn(&[String]) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, answer) = (listener.local_addr().unwrap(), Arc::new(answer));
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let answer = Arc::clone(&answer);
                tokio::spawn(async move { serve(socket, delay, &*answer).await });
            }
        });
        Self {
            addr,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until the client goes.
async fn serve(socket: TcpStream, delay: Duration, answer: &(dyn Fn(&[String]) -> String + Sync)) {
    let mut socket = BufReader::new(socket);
    while let Some(words) = command(&mut socket).await {
        // A slow server: nothing waits for this to be over.
        tokio::time::sleep(delay).await;
        if socket.write_all(answer(&words).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The words of the next command; none if the client has gone.
async fn command(socket: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(socket, '*').await?;
    let mut words = VecDeque::new();
    for _ in 0..count {
        let mut bytes = vec![0; number(socket, '$').await? + 2];
        socket.read_exact(&mut bytes).await.ok()?;
        bytes.truncate(bytes.len() - 2);
        words.push_back(String::from_utf8_lossy(&bytes).into_owned());
    }
    let first = words.pop_front()?.to_uppercase();
    words.push_front(first);
    Some(words.into())
}

async fn number(socket: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}

/// A text as a server sends it.
pub(crate) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A list of answers.
pub(crate) fn list(items: &[String]) -> String {
    format!("*{}\r\n{}", items.len(), items.concat())
}
