//! The whole stream under the real HTTP/2 library: what a service gets of random valid requests,
//! however they are encoded.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use http::Request;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::CheckedStream;
use super::frame::{CONTINUATION, END_HEADERS, END_STREAM, FrameHead, HEADERS};
use super::huffman::tests::encode;
use crate::model::Peer;
use crate::transport::clients::{Clients, Held};
use crate::transport::read_queue::Turn;

/// A request as a client writes it.
#[derive(Clone, Debug)]
struct Call {
    authority: Option<Text>,
    headers: Vec<(usize, Text)>,
    /// Where the block is split, in bytes.
    split: usize,
}

/// A value and how it is encoded.
#[derive(Clone, Debug)]
struct Text {
    value: String,
    huffman: bool,
    /// Added to the table, not added, never added.
    form: usize,
    /// Refer to an entry that has the same name and value, if there is one.
    reuse: bool,
}

fn text(value: impl Strategy<Value = String>) -> impl Strategy<Value = Text> {
    (value, any::<bool>(), 0..3_usize, any::<bool>()).prop_map(|(value, huffman, form, reuse)| {
        Text {
            value,
            huffman,
            form,
            reuse,
        }
    })
}

fn authority() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("outbound|8081||ratelimit.default.svc.cluster.local".to_owned()),
        2 => Just("ratelimit:8081".to_owned()),
        1 => Just(String::new()),
        1 => Just("extension/projectcontour/ratelimit".to_owned()),
        1 => "\\PC{0,20}",
    ]
}

fn call() -> impl Strategy<Value = Call> {
    (
        prop::option::weighted(0.9, text(authority())),
        prop::collection::vec((0..4_usize, text("[ -~]{0,300}".boxed())), 0..6),
        0..200_usize,
    )
        .prop_map(|(authority, headers, split)| Call {
            authority,
            headers,
            split,
        })
}

/// An encoder with a dynamic table.
#[derive(Default)]
struct Encoder {
    entries: Vec<(String, String)>,
    size: usize,
}

impl Encoder {
    fn field(&mut self, name: &str, text: &Text, out: &mut BytesMut) {
        let newest_first = || self.entries.iter().rev().enumerate();
        let same = |(_, (known, value)): &(usize, &(String, String))| {
            *known == name && *value == text.value
        };
        if text.reuse
            && let Some((place, _)) = newest_first().find(same)
        {
            integer(0x80, 0x7f, 62 + place, out);
            return;
        }
        let known = newest_first().find(|(_, (known, _))| known == name);
        let (pattern, mask) = [(0x40, 0x3f), (0x00, 0x0f), (0x10, 0x0f)][text.form];
        match known {
            // Every other client prefers the static table.
            Some((place, _)) if text.reuse => integer(pattern, mask, 62 + place, out),
            _ if name == ":authority" && text.huffman => integer(pattern, mask, 1, out),
            _ => {
                integer(pattern, mask, 0, out);
                string(name, text.huffman, out);
            }
        }
        string(&text.value, text.huffman, out);
        if text.form == 0 {
            self.entries.push((name.to_owned(), text.value.clone()));
            self.size += name.len() + text.value.len() + 32;
            while self.size > 4096 {
                let (name, value) = self.entries.remove(0);
                self.size -= name.len() + value.len() + 32;
            }
        }
    }

    fn block(&mut self, call: &Call) -> BytesMut {
        // POST, http, /.
        let mut block = BytesMut::from(&b"\x83\x86\x84"[..]);
        if let Some(authority) = &call.authority {
            self.field(":authority", authority, &mut block);
        }
        for (name, text) in &call.headers {
            self.field(NAMES[*name], text, &mut block);
        }
        block
    }
}

const NAMES: [&str; 4] = ["x-request-id", "traceparent", "authority", "x-b3"];

fn integer(pattern: u8, mask: u8, value: usize, out: &mut BytesMut) {
    let Some(mut rest) = value.checked_sub(usize::from(mask)) else {
        out.put_u8(pattern | u8::try_from(value).unwrap());
        return;
    };
    out.put_u8(pattern | mask);
    while rest >= 128 {
        out.put_u8(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.put_u8(u8::try_from(rest).unwrap());
}

fn string(text: &str, huffman: bool, out: &mut BytesMut) {
    let bytes = match huffman {
        true => encode(text.as_bytes()),
        false => text.as_bytes().to_vec(),
    };
    integer(if huffman { 0x80 } else { 0 }, 0x7f, bytes.len(), out);
    out.put_slice(&bytes);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut BytesMut) {
    let head = FrameHead {
        length: payload.len(),
        kind,
        flags,
        stream: stream.to_be_bytes(),
    };
    out.put_slice(&head.to_bytes().unwrap());
    out.put_slice(payload);
}

/// Everything that a client sends for `calls`, after the preface.
fn sent(calls: &[Call]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    frame(4, 0, 0, b"", &mut out);
    for (call, stream) in calls.iter().zip((1..).step_by(2)) {
        let block = encoder.block(call);
        let (first, second) = block.split_at(call.split.min(block.len()));
        if second.is_empty() {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, first, &mut out);
        } else {
            frame(HEADERS, END_STREAM, stream, first, &mut out);
            frame(CONTINUATION, END_HEADERS, stream, second, &mut out);
        }
    }
    out
}

fn checked<S, R>(stream: S, report: R) -> CheckedStream<S, R> {
    let client = Clients::new(64 << 20).connect(Peer::Unix);
    let turn = Turn::new(Arc::default(), &client);
    CheckedStream::new(stream, Held::nothing(client), turn, report)
}

/// The requests that the library gives to a service.
async fn received(bytes: &[u8], piece: usize, count: usize) -> Vec<Request<()>> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let stream = checked(server, |error| panic!("{error:?}"));
    let bytes = bytes.to_vec();
    let send = async move {
        for piece in bytes.chunks(piece) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client
    };
    let receive = async {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut requests = Vec::new();
        while requests.len() < count {
            let (request, respond) = connection.accept().await.unwrap().unwrap();
            requests.push((request.map(drop), respond));
        }
        requests.into_iter().map(|(request, _)| request).collect()
    };
    tokio::join!(send, receive).1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_request_arrives_with_all_but_a_refused_authority(
        calls in prop::collection::vec(call(), 1..40),
        piece in 1..2000_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let requests = runtime.block_on(received(&sent(&calls), piece, calls.len()));
        for (call, request) in calls.iter().zip(requests) {
            let authority = call.authority.as_ref().map(|text| text.value.as_str());
            let wanted = authority.filter(|text| !text.is_empty()).map(|text| {
                http::uri::Authority::try_from(text).map_or("-", |_| text)
            });
            let got = request.uri().authority().map(http::uri::Authority::as_str);
            prop_assert_eq!(got, wanted);
            for name in NAMES {
                let sent = call.headers.iter().filter(|(index, _)| NAMES[*index] == name);
                let sent: Vec<_> = sent.map(|(_, text)| text.value.as_bytes()).collect();
                let got = request.headers().get_all(name).iter();
                let got: Vec<_> = got.map(http::HeaderValue::as_bytes).collect();
                prop_assert_eq!(got, sent);
            }
        }
    }
}

/// h2 takes as many frames for a block as are held here, and ends the connection for one more.
#[tokio::test]
async fn a_block_has_as_many_frames_as_the_library_takes() {
    for (frames, is_taken) in [(82, true), (83, false)] {
        let mut sent = BytesMut::new();
        frame(4, 0, 0, b"", &mut sent);
        frame(HEADERS, END_STREAM, 1, b"\x83\x86\x84", &mut sent);
        for _ in 0..frames - 2 {
            frame(CONTINUATION, 0, 1, b"", &mut sent);
        }
        frame(CONTINUATION, END_HEADERS, 1, b"\x41\x03a|b", &mut sent);
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(&sent).await.unwrap();
        let stream = checked(server, |_| {});
        let mut builder = h2::server::Builder::new();
        builder.max_header_list_size(super::MAX_HEADER_LIST);
        let mut connection = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
        let accepted = connection.accept().await.unwrap();
        let authority = accepted.ok().map(|(request, _)| request.uri().to_string());
        assert_eq!(
            authority.as_deref(),
            is_taken.then_some("http://-/"),
            "{frames}"
        );
    }
}
