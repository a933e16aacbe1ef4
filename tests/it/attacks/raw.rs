//! HTTP/2 byte by byte, for what no library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The most that a frame carries.
const MAX_PAYLOAD: usize = 16_384;

/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u8 = 4;

/// A connection whose client decides whether it reads, and that takes no bodies.
#[derive(Debug)]
pub(super) struct RawConnection {
    stream: TcpStream,
    next_stream: u32,
}

impl RawConnection {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, 0).await
    }

    /// One that takes so many bytes of each body.
    pub(super) async fn open_with(address: SocketAddr, window: u8) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        stream
            .write_all(&frame(
                SETTINGS,
                0,
                0,
                &[0, INITIAL_WINDOW, 0, 0, 0, window],
            ))
            .await
            .unwrap();
        Self {
            stream,
            next_stream: 1,
        }
    }

    /// Sends requests of this header block, and of a whole message if there is one. Returns `false` if
    /// the server has closed the connection.
    pub(super) async fn requests(
        &mut self,
        count: u32,
        block: &[u8],
        message: Option<&[u8]>,
    ) -> bool {
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.write_request(block, message, &mut bytes);
        }
        self.stream.write_all(&bytes).await.is_ok()
    }

    fn write_request(&mut self, block: &[u8], message: Option<&[u8]>, bytes: &mut Vec<u8>) {
        let id = self.next_stream;
        self.next_stream += 2;
        let mut parts = block.chunks(MAX_PAYLOAD).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            bytes.extend(frame(kind, flags, id, part));
            kind = CONTINUATION;
        }
        if let Some(message) = message {
            bytes.extend(frame(DATA, END_STREAM, id, message));
        }
    }

    /// Sends the start of a header block that never ends, `frames` frames of it.
    pub(super) async fn unfinished_block(&mut self, frames: usize) -> bool {
        let mut bytes = frame(HEADERS, 0, self.next_stream, &request_block("/"));
        // A literal that is not added to the table, whose value goes on and on: its length as HPACK writes it.
        let mut value = vec![0, 1, b'a', 0x7f, 0x80, 0xff, 0x7f];
        for _ in 1..frames {
            value.resize(MAX_PAYLOAD, b'x');
            bytes.extend(frame(CONTINUATION, 0, self.next_stream, &value));
            value.clear();
        }
        self.stream.write_all(&bytes).await.is_ok()
    }

    /// Reads and drops what is sent, until the server closes.
    pub(super) fn drain(self) -> tokio::net::tcp::OwnedWriteHalf {
        let (mut read, write): (OwnedReadHalf, _) = self.stream.into_split();
        tokio::spawn(async move {
            let mut bytes = vec![0; 1 << 16];
            while read.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
        write
    }
}

/// The header block of a gRPC request, without Huffman coding and without the dynamic table.
pub(super) fn request_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    literal(&[0x04], path, &mut block);
    literal(&[0x0f, 0x10], "application/grpc", &mut block);
    block
}

/// The same with `count` fields, each a reference of one byte to an entry of the dynamic table.
pub(super) fn bomb(path: &str, count: usize) -> Vec<u8> {
    let mut block = request_block(path);
    // `a:`, added to the table; from then on it is index 62.
    block.extend([0x40, 1, b'a', 0]);
    block.resize(block.len() + count, 0xbe);
    block
}

fn literal(name: &[u8], value: &str, block: &mut Vec<u8>) {
    block.extend(name);
    block.push(u8::try_from(value.len()).unwrap());
    block.extend(value.bytes());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
