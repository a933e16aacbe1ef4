//! gRPC's framing of one message: a flag, a length, the bytes.

use std::ops::Deref;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use prost::Message;

use super::clients::{ClientConnection, Held};
use super::status::Status;
use crate::event::Code;

/// Reads the one message of a unary call. Does not wait for the end of the stream, so that the
/// answer leaves as soon as it is known; a length over `most` is refused before it is read. What
/// has come of a message that is not complete is added to `held`.
pub(super) async fn read<B, C>(
    mut body: B,
    most: usize,
    held: &mut Held<C>,
) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    C: Deref<Target = ClientConnection>,
{
    let mut pending = Pending::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Status::new(Code::Cancelled, "the caller has gone"));
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if let Some(message) = pending.push(data, most)? {
            return Ok(message);
        }
        if !held.resize(pending.parts.capacity()) {
            return Err(Status::client_holds_too_much());
        }
    }
    Err(Status::new(
        Code::InvalidArgument,
        "the call ended before its message was complete",
    ))
}

/// What has come of a message.
#[derive(Debug, Default)]
struct Pending {
    /// Empty as long as everything came in one piece, which is then not copied.
    parts: BytesMut,
}

impl Pending {
    fn push(&mut self, data: Bytes, most: usize) -> Result<Option<Bytes>, Status> {
        if self.parts.is_empty() {
            if let Some(length) = length(&data, most)?
                && data.len().saturating_sub(PREFIX) >= length
            {
                return Ok(Some(data.slice(PREFIX..PREFIX.saturating_add(length))));
            }
            self.parts.extend_from_slice(&data);
            return Ok(None);
        }
        self.parts.extend_from_slice(&data);
        let Some(length) = length(&self.parts, most)? else {
            return Ok(None);
        };
        if self.parts.len().saturating_sub(PREFIX) < length {
            return Ok(None);
        }
        self.parts.advance(PREFIX);
        Ok(Some(self.parts.split_to(length).freeze()))
    }
}

/// The message's length, once the prefix is there.
fn length(data: &[u8], most: usize) -> Result<Option<usize>, Status> {
    let Some((&[compressed, a, b, c, d], _)) = data.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    if compressed != 0 {
        return Err(Status::new(
            Code::Unimplemented,
            "compressed messages are not understood; send them plain (grpc-encoding: identity)",
        ));
    }
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > most {
        Err(Status::too_large(length, most))
    } else {
        Ok(Some(length))
    }
}

/// `message` in a frame.
pub(super) fn write(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX.saturating_add(length));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// Length of the prefix.
const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Peer;
    use crate::transport::clients::Clients;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        frame
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_message(
            message in prop::collection::vec(any::<u8>(), 0..50),
            cuts in prop::collection::vec(1_usize..9, 0..60),
        ) {
            let frame = Bytes::from(framed(&message));
            let mut pending = Pending::default();
            let (mut at, mut cuts, mut found) = (0, cuts.into_iter().chain(std::iter::repeat(3)), None);
            while at < frame.len() {
                prop_assert!(found.is_none());
                let end = frame.len().min(at + cuts.next().unwrap());
                found = pending.push(frame.slice(at..end), 100).unwrap();
                at = end;
            }
            prop_assert_eq!(&found.unwrap()[..], &message[..]);
        }
    }

    #[test]
    fn a_length_over_the_cap_is_refused_before_the_bytes_come() {
        let refused = Pending::default()
            .push(Bytes::from_static(&[0, 0, 0, 1, 0]), 255)
            .unwrap_err();
        assert_eq!(refused, Status::too_large(256, 255));
    }

    #[tokio::test]
    async fn a_caller_who_goes_meanwhile_is_no_mistake_of_anybodys() {
        use http_body::Frame;
        use http_body_util::StreamBody;

        let first = Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 9, 1])));
        let reset = Err(std::io::Error::other("stream reset"));
        let pieces = futures_util::stream::iter([first, reset]);
        let connection = Clients::new(1 << 20).connect(Peer::Unix);
        let mut held = Held::nothing(&*connection);
        let gone = read(StreamBody::new(pieces), 100, &mut held);
        let gone = gone.await.unwrap_err();
        assert_eq!(gone.code, Code::Cancelled);

        let ended: [Result<Frame<Bytes>, std::io::Error>; 1] =
            [Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 9, 1])))];
        let pieces = futures_util::stream::iter(ended);
        let short = read(StreamBody::new(pieces), 100, &mut held);
        let short = short.await.unwrap_err();
        assert_eq!(short.code, Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_message_that_does_not_end_is_refused_before_it_takes_too_much_memory() {
        use http_body_util::StreamBody;

        let connection = Clients::new(1 << 20).connect(Peer::Unix);
        let start = Bytes::from_static(&[0, 0, 64, 0, 0]);
        let pieces =
            std::iter::once(start).chain(std::iter::repeat_n(Bytes::from_static(&[7; 1024]), 4096));
        let mut sent = 0;
        let frames = pieces.map(|piece: Bytes| {
            sent += piece.len();
            Ok::<_, std::io::Error>(http_body::Frame::data(piece))
        });
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut held = Held::nothing(&*connection);
        let refused = read(body, 8 << 20, &mut held).await.unwrap_err();
        assert_eq!(refused, Status::client_holds_too_much());
        assert!(held.bytes() <= 600 << 10, "{}", held.bytes());
        assert!(sent <= 1 << 20, "{sent}");
    }

    #[test]
    fn compression_is_named() {
        let refused = Pending::default()
            .push(Bytes::from_static(&[1, 0, 0, 0, 0]), 9)
            .unwrap_err();
        assert_eq!(refused.code, Code::Unimplemented);
    }
}
