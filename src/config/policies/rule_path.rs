//! What people call a rule: `plan=gold,user_id`.
//!
//! Unique in its domain, since what would make two paths alike is escaped; and bounded, since it
//! goes into logs, metrics and answers: a long one ends in a hash of the whole.

/// The longest path in bytes.
const MAX_LEN: usize = 512;

/// Hex digits of 128 bits.
const HASH_DIGITS: usize = 32;

/// The path of a descriptor below `parent`, which is empty for the first level. An empty value
/// stands for any.
pub(super) fn extend(parent: &str, key: &str, value: &str) -> String {
    let room = parent.len() + key.len() + value.len() + 2;
    let mut path = String::with_capacity(room);
    if !parent.is_empty() {
        path.push_str(parent);
        path.push(',');
    }
    escape(&mut path, key);
    if !value.is_empty() {
        path.push('=');
        escape(&mut path, value);
    }
    if path.len() > MAX_LEN {
        shorten(&mut path);
    }
    path
}

fn escape(path: &mut String, part: &str) {
    if part.bytes().all(is_plain) {
        path.push_str(part);
        return;
    }
    for c in part.chars() {
        match u8::try_from(c) {
            Ok(byte) if c.is_ascii() && !is_plain(byte) => {
                path.push_str(&format!("%{byte:02X}"));
            }
            _ => path.push(c),
        }
    }
}

/// What stands as it is: all but control characters and what structures a path. (`#` begins the
/// hash of a long one.)
const fn is_plain(byte: u8) -> bool {
    !byte.is_ascii_control() && !matches!(byte, b',' | b'=' | b'%' | b'#')
}

fn shorten(path: &mut String) {
    let hash = blake3::hash(path.as_bytes()).to_hex();
    let mut end = MAX_LEN - HASH_DIGITS - 1;
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path.truncate(end);
    path.push('#');
    path.extend(hash.chars().take(HASH_DIGITS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_a_descriptor() {
        let plan = extend("", "plan", "gold");
        assert_eq!(plan, "plan=gold");
        assert_eq!(extend(&plan, "user_id", ""), "plan=gold,user_id");
    }

    #[test]
    fn what_structures_a_path_is_escaped_inside_its_parts() {
        assert_eq!(extend("", "a=b", "c,d%\n#"), "a%3Db=c%2Cd%25%0A%23");
        assert_eq!(extend("", "größe", "/a b*"), "größe=/a b*");
        assert_ne!(extend("", "a", "b"), extend("", "a=b", ""));
        assert_ne!(extend("a", "b", ""), extend("", "a,b", ""));
    }

    #[test]
    fn a_long_path_is_cut_and_stays_unique() {
        let long = "ü".repeat(1000);
        let (a, b) = (extend("", "k", &long), extend("", "k", &format!("{long}x")));
        assert_ne!(a, b);
        assert!(a.len() <= MAX_LEN && b.len() <= MAX_LEN);
        let (below_a, below_b) = (extend(&a, "k", ""), extend(&b, "k", ""));
        assert_ne!(below_a, below_b);
        assert!(below_a.len() <= MAX_LEN);
    }
}
