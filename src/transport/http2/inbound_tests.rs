//! Frames as clients send them, cut anywhere.

use proptest::prelude::*;

use super::*;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead {
        length: payload.len(),
        kind,
        flags,
        stream: [0, 0, 0, stream],
    };
    [&head.to_bytes().unwrap(), payload].concat()
}

/// What reaches the HTTP/2 library of `sent`, read in pieces, and the most that was held meanwhile.
fn received(sent: &[u8], piece: usize) -> (Vec<u8>, usize) {
    let (mut inbound, mut out, mut most_held) = (Inbound::default(), Vec::new(), 0);
    for read in sent.chunks(piece) {
        let passed = inbound.accept(read);
        out.extend_from_slice(&read[..passed]);
        out.extend_from_slice(&inbound.take_ready(usize::MAX));
        most_held = most_held.max(inbound.held.len());
    }
    inbound.finish();
    out.extend_from_slice(&inbound.take_ready(usize::MAX));
    (out, most_held)
}

const PIECES: [usize; 7] = [1, 2, 7, 9, 10, 50, 100_000];

/// `:authority` as a literal that is added to the table.
const BAD: &[u8] = b"\x41\x03a|b";
const EMPTY: &[u8] = b"\x41\x00";
const GOOD: &[u8] = b"\x41\x01a";

fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])
}

#[test]
fn other_frames_and_accepted_blocks_pass_as_they_are() {
    let sent = [
        settings(),
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &[b"\x83\x86", GOOD].concat(),
        ),
        frame(0, 1, 1, &[1; 20_000]),
        // In two frames, with padding and a priority.
        frame(HEADERS, PADDED | PRIORITY, 3, b"\x02\0\0\0\0\x10\x83\0\0"),
        frame(CONTINUATION, END_HEADERS, 3, b"\xbe"),
        frame(0xfa, 0xff, 9, b"unknown"),
    ]
    .concat();
    for piece in PIECES {
        assert_eq!(received(&sent, piece).0, sent, "in pieces of {piece}");
    }
}

#[test]
fn a_refused_authority_is_removed_however_its_block_is_cut() {
    let plain = frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &[b"\x83", BAD, b"\x86"].concat(),
    );
    let padded = frame(
        HEADERS,
        END_HEADERS | END_STREAM | PADDED | PRIORITY,
        1,
        &[b"\x03\0\0\0\0\x10\x83", BAD, b"\x86\0\0\0"].concat(),
    );
    let split = [
        frame(HEADERS, END_STREAM, 1, &[b"\x83", &BAD[..3]].concat()),
        frame(CONTINUATION, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 1, &[&BAD[3..], b"\x86"].concat()),
    ]
    .concat();
    // The second call refers to the entry that was replaced.
    let second = frame(HEADERS, END_HEADERS, 3, b"\x83\xbe\x40\x01x\x01y\xbe\xbf");
    let data = frame(0, 1, 1, b"message");
    let expected = [
        settings(),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x83\x41\x01-\x86"),
        data.clone(),
        second.clone(),
        data.clone(),
    ]
    .concat();
    for first in [plain, padded, split] {
        let sent = [
            settings(),
            first,
            data.clone(),
            second.clone(),
            data.clone(),
        ]
        .concat();
        for piece in PIECES {
            assert_eq!(received(&sent, piece).0, expected, "in pieces of {piece}");
        }
    }
}

#[test]
fn a_rewritten_block_that_needs_it_has_several_frames() {
    let field = [b"\x00\x01x\x7f\x81\x7d".as_slice(), &[b'v'; 16_128]].concat();
    let sent = [
        frame(HEADERS, END_STREAM, 1, BAD),
        frame(CONTINUATION, 0, 1, &field),
        frame(CONTINUATION, END_HEADERS, 1, &field),
    ]
    .concat();
    let block = [b"\x41\x01-", field.as_slice(), &field].concat();
    let (first, second) = block.split_at(MAX_PAYLOAD);
    let expected = [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, END_HEADERS, 1, second),
    ]
    .concat();
    for piece in PIECES {
        assert_eq!(received(&sent, piece).0, expected, "in pieces of {piece}");
    }
}

#[test]
fn what_breaks_the_protocol_is_left_to_the_library() {
    let tail = frame(0, 0, 1, b"later");
    for broken in [
        // Malformed HPACK, padding beyond the frame, a frame that is too long.
        frame(HEADERS, END_HEADERS, 1, b"\x40\x7f"),
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05\x83"),
        frame(HEADERS, END_HEADERS, 1, &[0x83; MAX_PAYLOAD + 1]),
        frame(HEADERS, 0, 1, &[0x83; MAX_PAYLOAD + 1]),
        // Malformed after a refused authority, or in the second of two frames.
        frame(HEADERS, END_HEADERS, 1, &[BAD, b"\x40\x7f"].concat()),
        frame(HEADERS, END_HEADERS, 1, &[EMPTY, b"\x40\x7f"].concat()),
        [
            frame(HEADERS, 0, 1, b"\x83"),
            frame(CONTINUATION, END_HEADERS, 1, b"\x40\x7f"),
        ]
        .concat(),
        // CONTINUATION without HEADERS, after another frame, on another stream.
        frame(CONTINUATION, END_HEADERS, 1, b"\x83"),
        [frame(HEADERS, 0, 1, b"\x83"), frame(0, 0, 1, b"")].concat(),
        [
            frame(HEADERS, 0, 1, b"\x83"),
            frame(CONTINUATION, END_HEADERS, 3, b"\x83"),
        ]
        .concat(),
        frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x83"),
    ] {
        let sent = [settings(), broken, tail.clone()].concat();
        for piece in PIECES {
            assert_eq!(received(&sent, piece).0, sent, "in pieces of {piece}");
        }
    }
}

#[test]
fn a_connection_whose_indices_are_translated_ends_where_they_break_hpack() {
    let good = [
        settings(),
        frame(HEADERS, END_HEADERS, 1, &[b"\x83", EMPTY].concat()),
    ]
    .concat();
    let sent = [good, frame(HEADERS, END_HEADERS, 3, b"\x40\x7f")].concat();
    let sent = [sent, frame(HEADERS, END_HEADERS, 5, b"\x83")].concat();
    let expected = [
        settings().as_slice(),
        &frame(HEADERS, END_HEADERS, 1, b"\x83"),
        LONE_CONTINUATION,
    ]
    .concat();
    for piece in PIECES {
        assert_eq!(received(&sent, piece).0, expected, "in pieces of {piece}");
    }
}

#[test]
fn blocks_without_an_end_are_held_within_bounds() {
    let mut sent = frame(HEADERS, 0, 1, &[0x83; MAX_PAYLOAD]);
    for _ in 0..200 {
        sent.extend(frame(CONTINUATION, 0, 1, &[0x83; MAX_PAYLOAD]));
    }
    let (out, held) = received(&sent, 10_000);
    assert_eq!(out, sent);
    assert!(
        held <= (MAX_FRAMES + 1) * (MAX_PAYLOAD + FrameHead::SIZE),
        "{held}"
    );
    // Many small frames are no way around.
    let mut sent = frame(HEADERS, 0, 1, b"\x83");
    for _ in 0..1000 {
        sent.extend(frame(CONTINUATION, 0, 1, b""));
    }
    let (out, held) = received(&sent, 100);
    assert_eq!(out, sent);
    assert!(held < 2000, "{held}");
}

/// Frames of any kind, some of them with one of these blocks.
fn any_frames(blocks: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::sample::select(blocks).prop_map(<[u8]>::to_vec);
    let kind = prop_oneof![Just(HEADERS), Just(CONTINUATION), 0..10_u8];
    let any_frame = (kind, any::<u8>(), 0..3_u8, payload);
    prop::collection::vec(any_frame, 0..20).prop_map(|frames| {
        let frames = frames.iter();
        frames
            .flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload))
            .collect()
    })
}

const ACCEPTED: [&[u8]; 7] = [
    b"\x83\x41\x01a",
    b"\x83\x86\x04\x02/x",
    b"",
    b"\x83\x86",
    b"\x40\x01x\x01y",
    b"\x40\x7f",
    b"\x3f\xe1\x1f\x83",
];

const ANY: [&[u8]; 8] = [
    b"\x83\x41\x01a",
    b"\x83\x41\x03a|b",
    b"\x83\x41\x00",
    b"\x81\xbe\x83\xbf",
    b"\x41\x03a|b\x40\x7f",
    b"\x40\x01x\x01y",
    b"\x40\x7f",
    b"",
];

proptest! {
    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        sent in prop_oneof![any_frames(&ANY), prop::collection::vec(any::<u8>(), 0..200)],
        piece in 1..60_usize,
    ) {
        let (whole, _) = received(&sent, usize::MAX);
        let (cut, held) = received(&sent, piece);
        prop_assert!(held <= sent.len());
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn without_a_refused_authority_nothing_changes(
        sent in any_frames(&ACCEPTED),
        piece in 1..60_usize,
    ) {
        prop_assert_eq!(received(&sent, piece).0, sent);
    }
}

#[test]
fn a_block_of_too_many_fields_ends_the_connection() {
    for (fields, is_taken) in [(1000, true), (1001, false), (30_000, false)] {
        let block = vec![0x83; fields];
        let mut sent = BytesMut::new();
        let head = FrameHead {
            length: 0,
            kind: HEADERS,
            flags: 0,
            stream: [0, 0, 0, 1],
        };
        head.write(&block, &mut sent);
        let mut inbound = Inbound::default();
        let passed = inbound.accept(&sent);
        let rest = inbound.take_ready(usize::MAX);
        assert_eq!(passed + rest.len() == sent.len(), is_taken, "{fields}");
        assert_eq!(inbound.has_ended(), !is_taken, "{fields}");
        assert_eq!(inbound.held_bytes(), 0);
    }
}
