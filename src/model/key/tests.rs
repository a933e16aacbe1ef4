use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::model::{Algorithm, DeniedHits, Unit, Window};

fn quota() -> Quota {
    Quota::fixed(
        1,
        Window::try_new(Unit::Minute, 1).unwrap(),
        DeniedHits::Free,
    )
}

fn key(domain: &[u8], entries: &[(&[u8], &[u8])]) -> Key {
    let mut builder = KeyBuilder::new(domain);
    for (k, v) in entries {
        builder.entry((k, false), (v, false));
    }
    builder.finish(&quota())
}

#[test]
fn reads_like_the_descriptor() {
    let key = key(b"shop", &[(b"plan", b"gold"), (b"user_id", b"alice")]);
    assert_eq!(key.to_string(), "{shop|plan=gold,user_id=alice}:window:60s");
}

#[test]
fn structure_and_odd_bytes_are_escaped() {
    let key = key(b"a|b", &[(b"k=", b"v,{}#% \xff*")]);
    assert_eq!(
        key.to_string(),
        "{a%7Cb|k%3D=v%2C%7B%7D%23%25%20%FF%2A}:window:60s"
    );
}

#[test]
fn a_shared_pattern_differs_from_its_literal_text() {
    let mut shared = KeyBuilder::new(b"d");
    shared.entry((b"path", false), (b"/a*", true));
    assert_eq!(
        shared.finish(&quota()).to_string(),
        "{d|path=/a*}:window:60s"
    );
    assert_eq!(
        key(b"d", &[(b"path", b"/a*")]).to_string(),
        "{d|path=/a%2A}:window:60s"
    );
}

#[test]
fn an_override_never_shares_a_rules_counter() {
    let rule = KeyBuilder::new(b"d").finish(&quota());
    let with_request = KeyBuilder::new(b"d").finish_override(&quota());
    assert_ne!(rule, with_request);
    assert_eq!(with_request.to_string(), "{d}:override:window:60s");
}

#[test]
fn long_texts_end_in_a_hash_of_the_whole() {
    let long = vec![b'x'; 50_000];
    let mut other = long.clone();
    other[49_999] = b'y';
    let (a, b) = (key(b"d", &[(b"h", &long)]), key(b"d", &[(b"h", &other)]));
    assert_ne!(a, b);
    assert_eq!(a, key(b"d", &[(b"h", &long)]));
    assert_eq!(a.as_bytes().len(), MAX_TEXT_LEN + "}:window:60s".len());
    assert!(a.to_string().starts_with("{d|h=xxx"));
}

#[test]
fn a_hash_depends_on_where_the_parts_end() {
    let x = vec![b'x'; 300];
    let a = key(b"d", &[(&x, b"1"), (b"k", b"2")]);
    let b = key(b"d", &[(&x, b"1,k=2")]);
    assert_ne!(a, b);
}

fn tenant<'a>(key: &'a [u8], value: &'a [u8]) -> Entry<'a> {
    Entry { key, value }
}

#[test]
fn a_tenants_key_begins_with_the_tenant_whatever_the_domain() {
    for domain in ["shop", "cart"] {
        let mut builder = KeyBuilder::colocated(domain.as_bytes(), tenant(b"user_id", b"alice"));
        builder.entry((b"plan", false), (b"gold", false));
        builder.entry((b"user_id", false), (b"alice", false));
        assert_eq!(
            builder.finish(&quota()).to_string(),
            format!("{{user_id=alice}}{domain}|plan=gold,user_id=alice:window:60s")
        );
    }
}

#[test]
fn a_tenants_texts_have_no_colon_and_no_brace_of_their_own() {
    let mut builder = KeyBuilder::colocated(b"a:b", tenant(b"ip", b"::1}"));
    builder.entry((b"ip", false), (b"::1}", false));
    builder.entry((b"path", false), (b"/x:*", true));
    assert_eq!(
        builder.finish_override(&quota()).to_string(),
        "{ip=%3A%3A1%7D}a%3Ab|ip=%3A%3A1%7D,path=/x%3A*:override:window:60s"
    );
}

#[test]
fn a_long_tag_ends_in_a_hash_and_is_the_tenants_own() {
    let tag_of = |value: &[u8]| {
        let builder = KeyBuilder::colocated(b"d", tenant(b"user_id", value));
        let name = builder.finish(&quota()).to_string();
        let (tag, rest) = name.trim_start_matches('{').split_once('}').unwrap();
        assert_eq!(rest, "d:window:60s");
        tag.to_owned()
    };
    let just = vec![b'x'; Key::MAX_TAG_LEN - "user_id=".len()];
    assert_eq!(tag_of(&just), format!("user_id={}", "x".repeat(just.len())));
    let (mut long, mut other) = (vec![b'x'; 10_000], vec![b'x'; 10_000]);
    assert_eq!(tag_of(&long), tag_of(&other));
    (long[9_999], other[9_999]) = (b'y', b'z');
    let (a, b) = (tag_of(&long), tag_of(&other));
    assert_ne!(a, b);
    assert_eq!((a.len(), b.len()), (Key::MAX_TAG_LEN, Key::MAX_TAG_LEN));
    assert!(
        a.starts_with("user_id=xxx") && a.as_bytes()[31] == b'#',
        "{a}"
    );
}

#[test]
fn the_longest_key_fits_with_the_longest_prefix() {
    let year = Window::try_new(Unit::Year, 1).unwrap();
    let longest = Window::try_new(Unit::Second, 34_359_738).unwrap();
    assert!(longest.millis() > year.millis());
    assert!(Window::try_new(Unit::Second, 34_359_739).is_err());
    let ends = Algorithm::ALL.map(|algorithm| {
        let quota = Quota::try_new(1, longest, algorithm, DeniedHits::Free).unwrap();
        let long = vec![b'{'; 10_000];
        let mut plain = KeyBuilder::new(&long);
        let mut tenants = KeyBuilder::colocated(&long, tenant(&long, &long));
        for builder in [&mut plain, &mut tenants] {
            builder.entry((&long, false), (&long, false));
        }
        let (plain, tenants) = (plain.finish_override(&quota), tenants.finish(&quota));
        for key in [&plain, &tenants] {
            assert!(key.as_bytes().len() <= Key::MAX_LEN, "{key}");
            assert!("a-prefix-of-20-bytes".len() + 1 + key.as_bytes().len() < 250);
        }
        plain.as_bytes().len()
    });
    // The bound is not a guess: it is reached.
    assert_eq!(ends.iter().max(), Some(&Key::MAX_LEN));
}

/// What makes a counter one of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counter {
    /// Kept beside others of this entry's tenant.
    tenant: Option<usize>,
    domain: Vec<u8>,
    /// Key and value, and whether they are patterns.
    entries: Vec<(Vec<u8>, Vec<u8>, bool)>,
    comes_with_the_request: bool,
    algorithm: usize,
    seconds: u32,
}

impl Counter {
    fn name(&self) -> Key {
        let tenant = self.tenant.and_then(|index| self.entries.get(index));
        let mut builder = match tenant {
            Some((key, value, _)) => KeyBuilder::colocated(&self.domain, Entry { key, value }),
            None => KeyBuilder::new(&self.domain),
        };
        for (key, value, shared) in &self.entries {
            builder.entry((key, *shared), (value, *shared));
        }
        let window = Window::try_new(Unit::Second, self.seconds).unwrap();
        let algorithm = Algorithm::ALL[self.algorithm];
        let quota = Quota::try_new(1, window, algorithm, DeniedHits::Free).unwrap();
        if self.comes_with_the_request {
            builder.finish_override(&quota)
        } else {
            builder.finish(&quota)
        }
    }

    /// Without what makes no difference: a pattern without a star, which of two equal entries it is.
    fn normal(&self) -> Self {
        let mut normal = self.clone();
        for (key, value, shared) in &mut normal.entries {
            *shared &= key.contains(&b'*') || value.contains(&b'*');
        }
        let tenant = self.tenant.and_then(|index| self.entries.get(index));
        normal.tenant = self
            .entries
            .iter()
            .position(|(key, value, _)| tenant.is_some_and(|t| (&t.0, &t.1) == (key, value)));
        normal
    }
}

/// Texts that try to look like something else: parts of names, separators, anything, long ones.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "",
        "a",
        "b",
        ":",
        "|",
        "=",
        ",",
        "{",
        "}",
        "#",
        "%",
        "%3A",
        "%7D",
        "*",
        "a=b",
        "}:",
        ":window:1s",
        "}:window:1s",
        ":override",
        "override:",
        "d|a",
        "{a=b}d",
        "\u{e9}",
        "\u{1f980}",
    ]);
    prop_oneof![
        4 => prop::collection::vec(parts.clone(), 0..4).prop_map(|parts| parts.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        1 => (parts, 40..300_usize).prop_map(|(part, times)| part.repeat(times).into_bytes()),
        1 => (any::<u8>(), 0..3_usize).prop_map(|(last, more)| {
            let mut text = vec![b'x'; 10_000];
            text.extend(vec![last; more]);
            text
        }),
    ]
}

fn counter() -> impl Strategy<Value = Counter> {
    let entry = (hostile(), hostile(), any::<bool>());
    (
        prop::option::of(0..3_usize),
        hostile(),
        prop::collection::vec(entry, 0..4),
        any::<bool>(),
        0..Algorithm::ALL.len(),
        1..3_u32,
    )
        .prop_map(
            |(tenant, domain, entries, comes_with_the_request, algorithm, seconds)| Counter {
                tenant: tenant.filter(|index| *index < entries.len()),
                domain,
                entries,
                comes_with_the_request,
                algorithm,
                seconds,
            },
        )
}

/// The same but for one small step, so that near misses are tried, too.
fn moved(counter: &Counter, step: u8, text: &[u8]) -> Counter {
    let mut other = counter.clone();
    let count = other.entries.len();
    match (step % 8, other.entries.first_mut()) {
        // One that looks as if the mark of the other stood in its last text.
        (0, _) if other.comes_with_the_request && !text.is_empty() => {
            other.comes_with_the_request = false;
            let last = other.entries.last_mut().map(|(_, value, _)| value);
            last.unwrap_or(&mut other.domain).extend(b":override");
        }
        (0, _) => other.comes_with_the_request ^= true,
        (1, _) => other.domain.extend(text),
        (2, Some((key, ..))) => key.extend(text),
        (3, Some((_, value, _))) => value.extend(text),
        (4, Some((.., shared))) => *shared ^= true,
        (5, _) => other.tenant = (count > 0 && other.tenant.is_none()).then_some(0),
        (6, _) => other.entries.push((text.to_vec(), text.to_vec(), false)),
        _ => other.seconds = 3 - other.seconds,
    }
    other
}

#[test]
fn names_are_the_same_exactly_if_the_counters_are() {
    let config = Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let steps = (any::<u8>(), hostile());
    let counters = prop::collection::vec((counter(), steps), 1..20);
    TestRunner::new_with_rng(config, rng)
        .run(&counters, |counters| {
            let mut known: HashMap<Key, Counter> = HashMap::new();
            for (counter, (step, text)) in counters {
                for counter in [moved(&counter, step, &text), counter] {
                    let name = counter.name();
                    prop_assert!(name.as_bytes().len() <= Key::MAX_LEN);
                    prop_assert!(name.as_bytes().iter().all(u8::is_ascii_graphic));
                    prop_assert_eq!(&name, &counter.clone().name());
                    if let Some(other) = known.insert(name.clone(), counter.clone()) {
                        prop_assert_eq!(other.normal(), counter.normal(), "{}", name);
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}
