//! Long reports, cut for those who only want to know how it is.

use std::fmt::Write;

/// The first lines of `text`. If there are more, a last line says how many, and `whole` where they
/// are. A report of 10,000 problems has a megabyte, and is answered and logged again and again.
pub(crate) fn brief(text: &str, whole: &str) -> String {
    let mut brief = String::new();
    for (index, line) in text.lines().take(MOST_LINES).enumerate() {
        if index > 0 {
            brief.push('\n');
        }
        let mut chars = line.chars();
        brief.extend(chars.by_ref().take(MOST_CHARS));
        if chars.next().is_some() {
            brief.push_str("...");
        }
    }
    let more = text.lines().count().saturating_sub(MOST_LINES);
    if more > 0 {
        // Writing to a string cannot fail.
        let _infallible = write!(brief, "\nand {more} more (all of them: {whole})");
    }
    brief
}

const MOST_LINES: usize = 20;

const MOST_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_stays_whole() {
        let lines = vec!["line"; MOST_LINES].join("\n");
        assert_eq!(brief(&lines, "there"), lines);
        assert_eq!(brief("", "there"), "");
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        let lines = vec!["line"; 10_000].join("\n");
        let brief_lines = brief(&lines, "there");
        assert_eq!(brief_lines.lines().count(), 21);
        assert!(brief_lines.ends_with("\nand 9980 more (all of them: there)"));
        let long = brief(&"ü".repeat(100_000), "there");
        assert_eq!(long, format!("{}...", "ü".repeat(500)));
    }
}
