//! What a PromQL expression names: metrics with the labels they are picked by, and labels it groups
//! by. It reads words and brackets only, which is enough for expressions that Prometheus accepts.

use std::collections::BTreeSet;

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Metrics, each with the labels that its matchers name.
    pub(super) selectors: Vec<(String, Vec<String>)>,
    /// Labels of `by`, `without`, `on` and the like.
    pub(super) groups: BTreeSet<String>,
}

/// Reads an expression.
pub(super) fn names(expr: &str) -> Names {
    let tokens = tokens(expr);
    let mut names = Names::default();
    let mut rest = tokens.as_slice();
    while let [token, after @ ..] = rest {
        rest = after;
        let next = after.first();
        match token {
            // A window or a step has no names.
            Token::Sign('[') => rest = past(after, ']').1,
            Token::Word(word) if GROUPING.contains(&word.as_str()) => {
                if next == Some(&Token::Sign('(')) {
                    let (inside, after) = past(after, ')');
                    names.groups.extend(words(inside));
                    rest = after;
                }
            }
            Token::Word(word) if !OPERATORS.contains(&word.as_str()) => {
                let grouped =
                    matches!(next, Some(Token::Word(by)) if GROUPING.contains(&by.as_str()));
                if grouped || next == Some(&Token::Sign('(')) {
                    continue; // A function.
                }
                let mut labels = Vec::new();
                if next == Some(&Token::Sign('{')) {
                    let (inside, after) = past(after, '}');
                    labels = words(inside).collect();
                    rest = after;
                }
                names.selectors.push((word.clone(), labels));
            }
            Token::Word(_) | Token::Sign(_) => {}
        }
    }
    names
}

/// What is compared, in an alert's expression: the part before its last comparison with a number.
/// `absent(x)` compares x with nothing.
pub(super) fn judged(expr: &str) -> Option<&str> {
    let expr = expr.trim();
    if let Some(inside) = expr.strip_prefix("absent(") {
        return inside.strip_suffix(')');
    }
    let number =
        |(left, right): (&'_ str, &str)| right.trim().parse::<f64>().is_ok().then_some(left.len());
    let ends = [" > ", " < ", " == "].map(|sign| expr.rsplit_once(sign).and_then(number));
    let end = ends.into_iter().flatten().max()?;
    expr.get(..end)
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

/// Words and signs; text in quotes, numbers and durations are left out.
fn tokens(expr: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = expr.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '"' {
            let mut escaped = false;
            for c in chars.by_ref() {
                match c {
                    '"' if !escaped => break,
                    _ => escaped = c == '\\' && !escaped,
                }
            }
        } else if is_part_of_word(c) || c == '$' {
            let mut word = String::from(c);
            while let Some(c) = chars.next_if(|&c| {
                is_part_of_word(c) || (c == '.' && word.starts_with(|c: char| c.is_ascii_digit()))
            }) {
                word.push(c);
            }
            if !word.starts_with(|c: char| c.is_ascii_digit()) {
                tokens.push(Token::Word(word));
            }
        } else if !c.is_whitespace() {
            tokens.push(Token::Sign(c));
        }
    }
    tokens
}

fn is_part_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// What stands before a closing bracket, and after it.
fn past(tokens: &[Token], closing: char) -> (&[Token], &[Token]) {
    let at = tokens
        .iter()
        .position(|token| *token == Token::Sign(closing));
    let (inside, rest) = tokens.split_at(at.unwrap_or(tokens.len()));
    (inside, rest.get(1..).unwrap_or_default())
}

fn words(tokens: &[Token]) -> impl Iterator<Item = String> {
    tokens.iter().filter_map(|token| match token {
        Token::Word(word) => Some(word.clone()),
        Token::Sign(_) => None,
    })
}

const GROUPING: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

#[test]
fn metrics_matchers_and_groups_are_told_apart() {
    let expr = r#"topk(10, sum by (le, rule) (rate(a_total{x="b{\"}[c]", y!~"d"}[$__rate_interval]))) 
        / on (job) group_left () sum without(z) (b:c) > bool 0.5 or time() - up offset 5m"#;
    let names = names(expr);
    let selector = |name: &str, labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        (name.to_owned(), labels)
    };
    let expected = [
        selector("a_total", &["x", "y"]),
        selector("b:c", &[]),
        selector("up", &[]),
    ];
    assert_eq!(names.selectors, expected);
    assert_eq!(
        names.groups,
        ["job", "le", "rule", "z"].map(str::to_owned).into()
    );
}

#[test]
fn what_an_alert_judges_is_what_stands_before_the_number() {
    for (expr, expected) in [
        ("a:b > 0.05", Some("a:b")),
        (r#"up{job="x"} == 0"#, Some(r#"up{job="x"}"#)),
        ("a / (b > 0.2) < 1", Some("a / (b > 0.2)")),
        (r#"absent(up{job="x"})"#, Some(r#"up{job="x"}"#)),
        ("a > b", None),
        ("a", None),
    ] {
        assert_eq!(judged(expr), expected, "{expr}");
    }
}
