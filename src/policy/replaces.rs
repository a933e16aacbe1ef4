//! Rules that take the place of others within one request.

use smallvec::SmallVec;

use super::matched::Matched;

/// Marks those of `matched` that do not count since another rule of the request replaces them.
///
/// As envoyproxy/ratelimit does it: the names that any matched rule replaces are collected, those
/// of unlimited and of replaced rules too, and every rule with a limit that bears one of them is
/// dropped. The order of the descriptors does not matter; unlimited rules are never dropped.
pub fn apply_replaces(matched: &mut [Matched<'_>]) {
    let replaced: SmallVec<[bool; 4]> = matched
        .iter()
        .map(|one| is_replaced(one, matched))
        .collect();
    for (one, replaced) in matched.iter_mut().zip(replaced) {
        if let (true, Some(rule)) = (replaced, one.rule()) {
            *one = Matched::Replaced(rule);
        }
    }
}

fn is_replaced(one: &Matched<'_>, all: &[Matched<'_>]) -> bool {
    let Matched::Limited(rule, ..) = one else {
        return false;
    };
    let mut names = all
        .iter()
        .filter_map(Matched::rule)
        .flat_map(|rule| &rule.replaces);
    rule.name
        .as_ref()
        .is_some_and(|name| names.any(|replaced| replaced == name))
}
