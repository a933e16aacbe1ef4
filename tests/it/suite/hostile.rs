//! Descriptors made to collide: each has a count of its own, under a short name.

use std::collections::BTreeSet;

use tokio::runtime::Runtime;
use tollgate::event::Silence;
use tollgate::model::{
    Algorithm, Check, DeniedHits, Descriptor, Entry, Hits, OnStoreFailure, Role, RuleId, Unit,
};
use tollgate::policy::{DescriptorSpec, DomainSpec, Limit, Matched, Origin, Policies, Rule};

use super::bed::{Bed, Kind};
use super::checks::long;

pub(super) fn distinct_descriptors_never_share_a_count(runtime: &Runtime, bed: &Bed) {
    for (name, colocate_by) in [("hostile", None), ("hostile:user", Some("user"))] {
        let policies = policies(colocate_by);
        let checks: Vec<Check> = descriptors()
            .iter()
            .map(|entries| check(&policies, entries))
            .collect();
        runtime.block_on(async {
            let client = bed.client(name, 1).await;
            for part in checks.chunks(20) {
                let decision = client.decide(0, part, true).await;
                assert!(!decision.denied, "one of {part:#?} was counted before");
            }
            for check in &checks {
                assert_eq!(client.counted(check).await, 1, "{check:?}");
                let decision = client.decide(0, std::slice::from_ref(check), true).await;
                assert!(decision.denied, "{check:?}");
            }
            if bed.kind != Kind::Memory {
                let names = bed.keys(&client.prefix).await;
                // One name begins with the other.
                let of_the_other = |name: &&Vec<u8>| !name.starts_with(b"tollgate:hostile:user:");
                let names: Vec<_> = match colocate_by {
                    Some(_) => names.iter().collect(),
                    None => names.iter().filter(of_the_other).collect(),
                };
                assert_eq!(names.len(), checks.len());
                let longest = names.iter().map(|name| name.len()).max();
                assert!(longest < Some(250), "{longest:?}");
                let printable = |byte: &u8| byte.is_ascii_graphic();
                assert!(names.iter().all(|name| name.iter().all(printable)));
            }
        });
    }
}

/// One hit for a user, and for a user's path.
fn policies(colocate_by: Option<&str>) -> Policies {
    let rule = |path: &str| Rule {
        domain: DOMAIN.into(),
        path: path.into(),
        name: None,
        limit: Limit::Quota(long(Algorithm::FixedWindow, 1, Unit::Day)),
        replaces: Vec::new(),
        shadow_mode: false,
        quota_mode: false,
        enforce_percent: 100,
        on_store_failure: OnStoreFailure::Local,
        metadata: None,
        origin: Origin::default(),
        meter: 0,
        id: RuleId::default(),
    };
    let spec = |key: &str, path: &str, descriptors| DescriptorSpec {
        key: key.into(),
        rule: Some(rule(path)),
        descriptors,
        ..DescriptorSpec::default()
    };
    let user = spec("user", "user", vec![spec("path", "user,path", vec![])]);
    let path = spec("path", "path", vec![spec("user", "path,user", vec![])]);
    let domain = DomainSpec {
        name: DOMAIN.into(),
        descriptors: vec![user, path],
        shadow_mode: false,
        override_denied_hits: DeniedHits::Free,
        override_on_store_failure: OnStoreFailure::Local,
        colocate_by: colocate_by.map(|key| key.as_bytes().into()),
    };
    Policies::new(vec![domain], &Silence)
}

fn check(policies: &Policies, entries: &[(&str, Vec<u8>)]) -> Check {
    let entries = entries.iter().map(|(key, value)| Entry {
        key: key.as_bytes(),
        value,
    });
    let descriptor = Descriptor {
        entries: entries.collect(),
        ..Descriptor::default()
    };
    let domain = policies.domain(DOMAIN.as_bytes()).unwrap();
    let Ok(Matched::Limited(_, quota, path)) = domain.find(&descriptor) else {
        panic!("no rule for {descriptor:?}");
    };
    Check {
        rule: RuleId::default(),
        key: domain.key(&descriptor, &path, &quota),
        quota,
        hits: Hits::Charge(1),
        role: Role::default(),
        on_store_failure: OnStoreFailure::Local,
    }
}

/// Each once.
fn descriptors() -> BTreeSet<Vec<(&'static str, Vec<u8>)>> {
    let mut values: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..60 {
        let pieces = (0..random.usize(..5)).map(|_| PIECES[random.usize(..PIECES.len())]);
        values.insert(pieces.collect::<Vec<_>>().concat());
    }
    for odd in [&b"a"[..], b"b", b"}", b"\0"] {
        // They differ at the beginning, in the middle, and at the end.
        let long = |at: usize| {
            let mut value = vec![b'x'; 10_000];
            value.splice(at..=at, odd.iter().copied());
            value
        };
        values.extend([0, 5_000, 9_999].map(long));
    }
    let values: Vec<Vec<u8>> = values.into_iter().collect();
    let mut all = BTreeSet::new();
    for value in &values {
        let other = values[random.usize(..values.len())].clone();
        all.insert(vec![("user", value.clone())]);
        all.insert(vec![("path", value.clone())]);
        all.insert(vec![("user", value.clone()), ("path", other.clone())]);
        all.insert(vec![("path", value.clone()), ("user", other)]);
    }
    all
}

const DOMAIN: &str = "sh{o}p|user=a,path:window:1s";

const PIECES: [&[u8]; 22] = [
    b"a",
    b"|",
    b"=",
    b",",
    b"{",
    b"}",
    b":",
    b"%",
    b"#",
    b"*",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"%7C",
    b"user=",
    b",path=",
    b"}:window:60s",
    "\u{e9}".as_bytes(),
    "\u{1f600}".as_bytes(),
    "e\u{301}".as_bytes(),
    b"override:",
];
