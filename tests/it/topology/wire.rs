//! Talks to a server as `redis-cli` does, over its unix socket.
//!
//! It is ours and not fred's because it watches what fred is used for: it has no reconnects, no
//! retries and no state, so what it says about a server is so.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A name and password. The server's `default` user has a password only.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

/// What a server answers (RESP 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Self>),
}

impl Reply {
    /// As text; empty for anything else.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Nil | Self::List(_) => String::new(),
        }
    }

    /// A text as it is; empty for anything else.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            Self::Nil | Self::Number(_) | Self::List(_) => &[],
        }
    }

    /// The items; none for anything but a list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Nil | Self::Number(_) | Self::Text(_) => &[],
        }
    }

    /// The value that follows `name` in a list of names and values.
    pub(crate) fn after(&self, name: &str) -> Option<String> {
        let pairs = self.items().chunks_exact(2);
        let mut named = pairs.filter(|pair| pair[0].text() == name);
        named.next().map(|pair| pair[1].text())
    }
}

/// One connection. A server that does not answer within [`PATIENCE`] is an error, as is an answer
/// that is one.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    pub(super) async fn open(socket: &Path, login: Option<&Login>) -> io::Result<Self> {
        let mut connection = Self(BufReader::new(UnixStream::connect(socket).await?));
        if let Some(Login { user, password }) = login {
            // A Sentinel's only user is `default`, and it may be without names.
            let line: &[&str] = match *user {
                "default" => &["AUTH", password],
                _ => &["AUTH", user, password],
            };
            connection.call(line).await?;
        }
        Ok(connection)
    }

    pub(crate) async fn call<A: AsRef<[u8]>>(&mut self, line: &[A]) -> io::Result<Reply> {
        let mut bytes = format!("*{}\r\n", line.len()).into_bytes();
        for argument in line.iter().map(AsRef::as_ref) {
            bytes.extend(format!("${}\r\n", argument.len()).bytes());
            bytes.extend([argument, b"\r\n"].concat());
        }
        let exchange = async {
            self.0.write_all(&bytes).await?;
            self.read().await
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|elapsed| io::Error::new(io::ErrorKind::TimedOut, elapsed))?
    }

    async fn read(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "-" => return Err(io::Error::other(rest)),
            "+" => Reply::Text(rest.into()),
            ":" => Reply::Number(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_negative) => Reply::Nil,
                Ok(length) => {
                    let mut text = vec![0; length + 2];
                    self.0.read_exact(&mut text).await?;
                    text.truncate(length);
                    Reply::Text(text)
                }
            },
            "*" => match usize::try_from(number()?) {
                Err(_negative) => Reply::Nil,
                Ok(length) => {
                    let mut items = Vec::with_capacity(length);
                    for _ in 0..length {
                        items.push(Box::pin(self.read()).await?);
                    }
                    Reply::List(items)
                }
            },
            _ => return Err(io::Error::other(format!("not RESP 2: {line}"))),
        })
    }
}

/// How long a server may take to answer. More than any stall of a test machine, less than the
/// patience of those who wait for a condition.
const PATIENCE: Duration = Duration::from_secs(2);
