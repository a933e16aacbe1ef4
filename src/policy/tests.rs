use proptest::prelude::*;

use super::*;
use crate::event::Silence;
use crate::model::{Algorithm, Entry, OnStoreFailure, OverrideLimit, Unit, Window};

fn rule(path: &str, limit: u32) -> Rule {
    let window = Window::try_new(Unit::Minute, 1).unwrap();
    Rule {
        domain: "d".into(),
        path: path.into(),
        name: None,
        limit: Limit::Quota(
            Quota::try_new(limit, window, Algorithm::FixedWindow, DeniedHits::Free).unwrap(),
        ),
        replaces: Vec::new(),
        shadow_mode: false,
        quota_mode: false,
        enforce_percent: 100,
        on_store_failure: OnStoreFailure::Local,
        metadata: None,
        origin: Origin::default(),
        meter: 0,
        id: RuleId::default(),
    }
}

fn node(text: &str, limit: Option<u32>, descriptors: Vec<DescriptorSpec>) -> DescriptorSpec {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    DescriptorSpec {
        key: key.into(),
        value,
        rule: limit.map(|limit| rule(text, limit)),
        descriptors,
        ..DescriptorSpec::default()
    }
}

fn policies(descriptors: Vec<DescriptorSpec>) -> Policies {
    colocated(None, descriptors)
}

fn colocated(by: Option<&str>, descriptors: Vec<DescriptorSpec>) -> Policies {
    let spec = DomainSpec {
        name: "d".into(),
        descriptors,
        shadow_mode: false,
        override_denied_hits: DeniedHits::Free,
        override_on_store_failure: OnStoreFailure::Local,
        colocate_by: by.map(|key| key.as_bytes().into()),
    };
    Policies::new(vec![spec], &Silence)
}

fn descriptor<'a>(entries: &[(&'a str, &'a str)]) -> Descriptor<'a> {
    Descriptor {
        entries: entries
            .iter()
            .map(|(key, value)| Entry {
                key: key.as_bytes(),
                value: value.as_bytes(),
            })
            .collect(),
        ..Descriptor::default()
    }
}

/// Path and key of what applies, or the miss.
fn find(policies: &Policies, entries: &[(&str, &str)]) -> Result<(String, String), Miss> {
    let domain = policies.domain(b"d").unwrap();
    let descriptor = descriptor(entries);
    match domain.find(&descriptor).unwrap() {
        Matched::Limited(rule, quota, path) => Ok((
            rule.path.clone(),
            domain.key(&descriptor, &path, &quota).to_string(),
        )),
        Matched::Nothing(miss) => Err(miss),
        other => panic!("{other:?}"),
    }
}

fn path_of(policies: &Policies, entries: &[(&str, &str)]) -> String {
    find(policies, entries).unwrap().0
}

#[test]
fn exact_wins_over_wildcard_wins_over_key_alone() {
    let policies = policies(vec![
        node("path", Some(1), vec![]),
        node("path=/a*", Some(2), vec![]),
        node("path=/ab*", Some(3), vec![]),
        node("path=/abc", Some(4), vec![]),
    ]);
    assert_eq!(path_of(&policies, &[("path", "/abc")]), "path=/abc");
    assert_eq!(path_of(&policies, &[("path", "/abd")]), "path=/a*");
    assert_eq!(path_of(&policies, &[("path", "/x")]), "path");
    assert_eq!(path_of(&policies, &[("path", "/ab*")]), "path=/ab*");
}

#[test]
fn the_choice_is_final() {
    let policies = policies(vec![
        node("a=1", None, vec![node("b", Some(1), vec![])]),
        node("a", None, vec![node("c", Some(2), vec![])]),
    ]);
    assert_eq!(
        find(&policies, &[("a", "1"), ("c", "x")]),
        Err(Miss::NoMatch(1))
    );
    assert_eq!(path_of(&policies, &[("a", "2"), ("c", "x")]), "c");
}

#[test]
fn only_the_last_entrys_limit_counts() {
    let policies = policies(vec![node("a", Some(1), vec![node("b", None, vec![])])]);
    assert_eq!(path_of(&policies, &[("a", "x")]), "a");
    assert_eq!(
        find(&policies, &[("a", "x"), ("b", "y")]),
        Err(Miss::NoLimit)
    );
    assert_eq!(
        find(&policies, &[("a", "x"), ("b", "y"), ("c", "z")]),
        Err(Miss::NoMatch(2))
    );
    assert_eq!(find(&policies, &[]), Err(Miss::NoEntries));
}

#[test]
fn stars_do_not_reach_from_the_key_into_the_value() {
    let policies = policies(vec![
        node("a=*z", Some(1), vec![]),
        node("k*", Some(2), vec![]),
    ]);
    assert_eq!(find(&policies, &[("a_b", "z")]), Err(Miss::NoMatch(0)));
    assert_eq!(path_of(&policies, &[("key", "anything")]), "k*");
}

#[test]
fn wildcards_of_all_kinds_keep_file_order() {
    let policies = policies(vec![
        node("a*=1", Some(1), vec![]),
        node("ab=1*", Some(2), vec![]),
        node("ab=*2", Some(3), vec![]),
    ]);
    assert_eq!(path_of(&policies, &[("ab", "1")]), "a*=1");
    assert_eq!(path_of(&policies, &[("ab", "12")]), "ab=1*");
    assert_eq!(path_of(&policies, &[("ab", "02")]), "ab=*2");
}

#[test]
fn a_shared_threshold_names_one_counter_for_all_that_match() {
    let mut shared = node("path=/a*", Some(1), vec![]);
    shared.share_threshold = true;
    let policies = policies(vec![shared, node("path=/b*", Some(1), vec![])]);
    let key = |value| find(&policies, &[("path", value)]).unwrap().1;
    assert_eq!(key("/a1"), key("/a2"));
    assert_eq!(key("/a1"), "{d|path=/a*}:window:60s");
    assert_eq!(key("/a*"), key("/a1"));
    assert_ne!(key("/b1"), key("/b2"));
}

#[test]
fn a_tenants_keys_begin_with_the_tenant() {
    let user = || node("user_id", Some(1), vec![]);
    let rules = vec![
        user(),
        node("plan", None, vec![user()]),
        node("path", Some(1), vec![]),
    ];
    let policies = colocated(Some("user_id"), rules);
    let key = |entries| find(&policies, entries).unwrap().1;
    for (entries, name) in [
        (
            &[("user_id", "al")][..],
            "{user_id=al}d|user_id=al:window:60s",
        ),
        (
            &[("plan", "gold"), ("user_id", "al")],
            "{user_id=al}d|plan=gold,user_id=al:window:60s",
        ),
        (&[("user_id", "")], "{user_id=}d|user_id=:window:60s"),
        // Nobody's.
        (&[("path", "/a")], "{d|path=/a}:window:60s"),
    ] {
        assert_eq!(key(entries), name);
    }
}

#[test]
fn the_first_entry_with_the_key_is_the_tenant_and_no_other_key_is() {
    let rules = vec![node(
        "user_id",
        None,
        vec![
            node("user_id", Some(1), vec![]),
            node("USER_ID", Some(1), vec![]),
            node("user", Some(1), vec![]),
        ],
    )];
    let policies = colocated(Some("user_id"), rules);
    for key in ["user_id", "USER_ID"] {
        let (_, name) = find(&policies, &[("user_id", "al"), (key, "bo")]).unwrap();
        assert_eq!(
            name,
            format!("{{user_id=al}}d|user_id=al,{key}=bo:window:60s")
        );
    }
    let policies = colocated(Some("user"), vec![node("user_id", Some(1), vec![])]);
    let (_, name) = find(&policies, &[("user_id", "al")]).unwrap();
    assert_eq!(name, "{d|user_id=al}:window:60s");
}

#[test]
fn what_tenants_share_is_no_tenants() {
    let mut shared = node("user*=a*", Some(1), vec![node("user_id", Some(1), vec![])]);
    shared.share_threshold = true;
    let own = node("user_id=b*", Some(1), vec![]);
    let policies = colocated(Some("user_id"), vec![shared, own]);
    let key = |entries| find(&policies, entries).unwrap().1;
    assert_eq!(key(&[("user_id", "al")]), "{d|user*=a*}:window:60s");
    assert_eq!(key(&[("user_id", "an")]), "{d|user*=a*}:window:60s");
    // A pattern that is not shared gives each its own.
    assert_eq!(
        key(&[("user_id", "bo")]),
        "{user_id=bo}d|user_id=bo:window:60s"
    );
    // One counter has one name, whichever entry reached the shared part.
    let (one, other) = (
        key(&[("user_id", "al"), ("user_id", "bo")]),
        key(&[("user_x", "al"), ("user_id", "bo")]),
    );
    assert_eq!(one, "{user_id=bo}d|user*=a*,user_id=bo:window:60s");
    assert_eq!(one, other);
}

/// Entries whose texts try to look like other entries, and like the ends of keys.
fn hostile_entries() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = prop::sample::select(vec!["user_id", "user_x", "path", "path:", "p}ath"]);
    let parts = prop::sample::select(vec![
        "a",
        "b",
        "a*",
        "*",
        ":",
        "|",
        "=",
        ",",
        "{",
        "}",
        "#",
        "%3A",
        "}:window:60s",
        "\u{e9}",
        "\u{1f980}",
        "user_id=a",
        "{user_id=a}d",
    ]);
    let value = prop_oneof![
        8 => prop::collection::vec(parts, 0..4).prop_map(|parts| parts.concat()),
        1 => (0..2_usize, 0..2_usize).prop_map(|(a, b)| {
            format!("{}{}{}", "a".repeat(a), "x".repeat(10_000), "y".repeat(b))
        }),
    ];
    prop::collection::vec((key.prop_map(str::to_owned), value), 1..4)
}

/// What tells one counter from another: the entries, or the patterns that they share.
fn counter_of(policies: &Policies, entries: &[(&str, &str)]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let domain = policies.domain(b"d").unwrap();
    let descriptor = descriptor(entries);
    let Matched::Limited(_, _, path) = domain.find(&descriptor).unwrap() else {
        return None;
    };
    let identity = descriptor.entries.iter().zip(&path).map(|(entry, step)| {
        if step.is_shared() {
            // No literal text is told apart from a pattern by these marks.
            let value = step.node.value_text().unwrap_or(b"*");
            (
                [b"shared ", step.node.key_text()].concat(),
                [b"shared ", value].concat(),
            )
        } else {
            (entry.key.to_vec(), entry.value.to_vec())
        }
    });
    Some(identity.collect())
}

proptest! {
    #[test]
    fn counters_have_one_name_each_with_and_without_tenants(
        descriptors in prop::collection::vec(hostile_entries(), 1..40)
    ) {
        fn level(depth: u32) -> Vec<DescriptorSpec> {
            let below = || if depth == 0 { Vec::new() } else { level(depth - 1) };
            let shared = |text: &str| DescriptorSpec {
                share_threshold: true,
                ..node(text, Some(1), below())
            };
            vec![
                shared("user*=*}*"),
                node("user_id", Some(1), below()),
                shared("user_x=a*"),
                node("*", Some(1), below()),
            ]
        }
        let settings = [None, Some("user_id"), Some("path")];
        let all = settings.map(|by| colocated(by, level(2)));
        let mut names = std::collections::HashMap::new();
        for entries in &descriptors {
            let entries: Vec<(&str, &str)> =
                entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let counter = counter_of(&all[0], &entries).unwrap();
            let mut own = Vec::new();
            for (policies, by) in all.iter().zip(settings) {
                let (_, name) = find(policies, &entries).unwrap();
                prop_assert!(name.len() <= Key::MAX_LEN);
                // Each has the name that its tenant gives it, and no other counter has that.
                let is_by = |key: &[u8]| by.is_some_and(|by| by.as_bytes() == key);
                let has_tenant = counter.iter().any(|(key, _)| is_by(key));
                let before_colon = name.split_once("}:").is_some_and(|(tag, _)| !tag.contains('}'));
                prop_assert_eq!(has_tenant, !before_colon, "{}", name);
                own.push(name);
            }
            own.sort_unstable();
            own.dedup();
            for name in own {
                let known = names.insert(name.clone(), counter.clone());
                prop_assert!(known.is_none_or(|known| known == counter), "{}", name);
            }
        }
        // And one counter has no second name under the same setting.
        for policies in &all {
            let mut names = std::collections::HashMap::new();
            for entries in &descriptors {
                let entries: Vec<(&str, &str)> =
                    entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let (_, name) = find(policies, &entries).unwrap();
                let known = names.insert(counter_of(policies, &entries), name.clone());
                prop_assert!(known.is_none_or(|known| known == name), "{}", name);
            }
        }
    }
}

#[test]
fn limits_that_come_with_a_request_are_kept_with_the_tenant_too() {
    let name = |by, entries| {
        let policies = colocated(by, vec![]);
        let domain = policies.domain(b"d").unwrap();
        let mut descriptor = descriptor(entries);
        descriptor.limit = Some(OverrideLimit {
            requests_per_unit: 5,
            unit: 1,
            unit_multiplier: None,
        });
        let Ok(Matched::Override(quota)) = domain.find(&descriptor) else {
            panic!()
        };
        domain.override_key(&descriptor, &quota).to_string()
    };
    let entries = &[("path", "/a"), ("user_id", "al")];
    assert_eq!(
        name(Some("user_id"), entries),
        "{user_id=al}d|path=/a,user_id=al:override:window:1s"
    );
    for by in [None, Some("other")] {
        assert_eq!(
            name(by, entries),
            "{d|path=/a,user_id=al}:override:window:1s"
        );
    }
}

#[test]
fn an_override_needs_no_rule_but_a_unit() {
    let policies = policies(vec![]);
    let domain = policies.domain(b"d").unwrap();
    let mut descriptor = descriptor(&[("k", "v")]);
    let limit = |unit, unit_multiplier| OverrideLimit {
        requests_per_unit: 5,
        unit,
        unit_multiplier,
    };
    descriptor.limit = Some(limit(2, Some(5)));
    let Ok(Matched::Override(quota)) = domain.find(&descriptor) else {
        panic!()
    };
    assert_eq!(quota.window().millis(), 300_000);
    for bad in [limit(0, None), limit(8, None), limit(-1, None)] {
        descriptor.limit = Some(bad);
        assert!(matches!(
            domain.find(&descriptor),
            Err(OverrideError::Unit(_))
        ));
    }
    for bad in [limit(6, Some(2)), limit(1, Some(0))] {
        descriptor.limit = Some(bad);
        assert!(matches!(
            domain.find(&descriptor),
            Err(OverrideError::Window(_))
        ));
    }
}

#[test]
fn replaced_rules_are_dropped_also_in_chains() {
    let named = |text: &str, name: &str, replaces: &[&str]| {
        let mut node = node(text, Some(1), vec![]);
        let rule = node.rule.as_mut().unwrap();
        rule.name = Some(name.into());
        rule.replaces = replaces.iter().map(|&name| name.into()).collect();
        node
    };
    let policies = policies(vec![
        named("a", "x", &[]),
        named("b", "y", &["x"]),
        named("c", "z", &["y"]),
    ]);
    let domain = policies.domain(b"d").unwrap();
    assert!(domain.has_replaces());
    let mut found: Vec<Matched<'_>> = ["a", "b", "c"]
        .iter()
        .map(|key| domain.find(&descriptor(&[(key, "1")])).unwrap())
        .collect();
    apply_replaces(&mut found);
    let dropped: Vec<bool> = found
        .iter()
        .map(|one| matches!(one, Matched::Replaced(_)))
        .collect();
    assert_eq!(dropped, [true, true, false]);
}

#[test]
fn labels_show_values_only_where_asked() {
    let mut outer = node("plan", None, vec![node("user", Some(1), vec![])]);
    let label = |outer: &DescriptorSpec| {
        let policies = policies(vec![outer.clone()]);
        let domain = policies.domain(b"d").unwrap();
        let descriptor = descriptor(&[("plan", "gold"), ("user", "al")]);
        let Ok(Matched::Limited(_, _, path)) = domain.find(&descriptor) else {
            panic!()
        };
        Domain::label(&descriptor, &path)
    };
    assert_eq!(label(&outer), None);
    outer.value_to_metric = true;
    assert_eq!(label(&outer).unwrap(), "plan=gold,user");
    outer.descriptors[0].detailed_metric = true;
    assert_eq!(label(&outer).unwrap(), "plan=gold,user=al");
}

#[test]
fn a_trace_names_winner_and_losers() {
    let policies = policies(vec![
        node("path", Some(1), vec![]),
        node("path=/a*", Some(2), vec![]),
        node("path=/abc", Some(4), vec![]),
        node("path=/other", Some(4), vec![]),
    ]);
    let domain = policies.domain(b"d").unwrap();
    let trace = domain.trace(&descriptor(&[("path", "/abc")])).unwrap();
    let fates: Vec<(&str, Fate)> = trace.levels[0]
        .candidates
        .iter()
        .map(|candidate| (candidate.descriptor.as_str(), candidate.fate))
        .collect();
    assert_eq!(
        fates,
        [
            ("path=/abc", Fate::Chosen(Kind::Exact)),
            ("path=/a*", Fate::Lost(Kind::Wildcard)),
            ("path", Fate::Lost(Kind::KeyOnly)),
            ("path=/other", Fate::OtherValue),
        ]
    );
    assert_eq!(trace.matched.rule().unwrap().path, "path=/abc");
}
