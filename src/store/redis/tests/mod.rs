//! The bytes of calls and replies.

pub(super) mod recorder;

use super::{Call, Full, ReplyError, decode};
use crate::algorithm::tests::check_of;
use crate::clock::Timestamp;
use crate::model::{Check, DeniedHits, Hits, Quota, Role, Source, Unit, Verdict, Window};

fn check(user: &str, hits: Hits) -> Check {
    let window = Window::try_new(Unit::Minute, 1).unwrap();
    let quota = Quota::fixed(5, window, DeniedHits::Free);
    check_of(user, quota, hits)
}

#[test]
fn a_call_names_each_key_once() {
    let mut call = Call::new("tollgate", None, 0);
    let [ann, bob] = ["ann", "bob"].map(|user| check(user, Hits::Peek));
    call.push(&[ann.clone(), bob.clone(), ann], true).unwrap();
    call.push(&[bob], false).unwrap();
    assert_eq!(
        call.keys(),
        [
            &b"tollgate:{d|user=ann}:window:60s"[..],
            &b"tollgate:{d|user=bob}:window:60s"[..],
        ]
    );
    assert_eq!(call.checks(), 4);
}

#[test]
fn a_call_reads_as_the_script_says() {
    let mut call = Call::new("p", Some(Timestamp::from_millis(0x0102_0304)), 50);
    let quota_check = Check {
        role: Role {
            shadow: false,
            quota: true,
        },
        ..check("ann", Hits::Charge(3))
    };
    call.push(&[quota_check], true).unwrap();
    let expected: [&[u8]; 7] = [
        &[0, 0, 1, 2, 3, 4, 0, 0, 0, 50, 0, 1],
        &[1, 0, 1],
        &[0, 1, 1, 1, 2],
        &[0, 0, 0, 0, 3],
        &[0, 0, 0, 0, 0, 2],
        &[0, 0, 0, 0xea, 0x60],
        &[0, 0, 0, 5, 0, 0, 0, 5],
    ];
    assert_eq!(call.argument(), expected.concat());
}

#[test]
fn what_comes_afterwards_has_its_time_and_is_not_judged() {
    let at = Timestamp::from_millis(0x0102_0304);
    let acts = |call: &Call| -> Vec<u8> {
        let checks = call.argument().get(15..).unwrap().chunks(29);
        checks
            .map(|check| {
                assert_eq!(check.get(10..16), Some(&[0, 0, 1, 2, 3, 4][..]));
                check[3]
            })
            .collect()
    };
    let window = Window::try_new(Unit::Minute, 1).unwrap();
    let with = |denied_hits, hits| Check {
        quota: Quota::fixed(5, window, denied_hits),
        ..check("ann", hits)
    };
    let checks = [
        with(DeniedHits::Free, Hits::Charge(1)),
        with(DeniedHits::Debt, Hits::Charge(1)),
        with(DeniedHits::Charged, Hits::Charge(1)),
        with(DeniedHits::Free, Hits::Peek),
        with(DeniedHits::Free, Hits::Refund(1)),
    ];
    let [mut back, mut late] = [(); 2].map(|()| Call::new("p", None, 0));
    back.give_back(&checks, at).unwrap();
    late.land(&checks, at).unwrap();
    for call in [&back, &late] {
        assert_eq!(call.argument().get(10..15), Some(&[0, 1, 2, 0, 5][..]));
    }
    assert_eq!(acts(&back), [4, 0, 0, 0, 0]);
    assert_eq!(acts(&late), [5, 5, 5, 0, 3]);
}

#[test]
fn hits_that_never_pass_are_told_apart_from_those_that_do() {
    let mut call = Call::new("p", None, 0);
    call.push(&[check("ann", Hits::Charge(6))], true).unwrap();
    assert_eq!(call.argument().get(25..31), Some(&[0xff; 6][..]));
}

#[test]
fn a_full_call_takes_nothing_more() {
    let mut call = Call::new("p", None, 0);
    let many = vec![check("ann", Hits::Peek); 65_535];
    assert_eq!(call.push(&many, true), Ok(()));
    let before = call.clone();
    assert_eq!(call.push(&many[..1], true), Err(Full));
    assert_eq!(call.argument(), before.argument());
    assert_eq!(call.checks(), 65_535);
}

#[test]
fn a_reply_becomes_a_decision_for_each_query() {
    let (ann, bob) = (
        [check("ann", Hits::Charge(1))],
        [check("bob", Hits::Charge(9))],
    );
    let reply: [&[u8]; 5] = [
        &[0, 0, 0, 0, 3, 0xe8],
        &[0],
        &[0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0xea, 0x60],
        &[1],
        &[3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 7],
    ];
    let [first, second] = decode(&reply.concat(), [&ann[..], &bob[..]])
        .unwrap()
        .try_into()
        .unwrap();
    assert!(!first.denied);
    assert_eq!(
        first.verdicts[..],
        [Verdict {
            over: false,
            remaining: 3,
            counted: 2,
            reset_millis: 60_000,
            never: false,
            source: Source::Store,
            at: Timestamp::from_millis(1000),
        }]
    );
    assert!(second.denied);
    assert_eq!(
        second.verdicts[..],
        [Verdict {
            over: true,
            remaining: 0,
            counted: 4,
            reset_millis: 7,
            never: true,
            source: Source::Store,
            at: Timestamp::from_millis(1000),
        }]
    );
}

#[test]
fn a_reply_that_does_not_fit_is_refused() {
    let ann = [check("ann", Hits::Peek)];
    let fits = [0; 20];
    assert!(decode(&fits, [&ann[..]]).is_ok());
    for short in 0..20 {
        assert_eq!(
            decode(&fits[..short], [&ann[..]]).unwrap_err(),
            ReplyError::Short
        );
    }
    assert_eq!(
        decode(&[0; 23], [&ann[..]]).unwrap_err(),
        ReplyError::Long(3)
    );
}
