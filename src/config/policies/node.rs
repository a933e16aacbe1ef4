//! A document as it was written: texts with their style and their place.
//!
//! Scalars keep their source text. What a text means (a number, a boolean, nothing) depends on who
//! reads it, so that is asked of [`Resolved`], not stored.

use std::borrow::Cow;
use std::rc::Rc;

use crate::config::report::Pos;
use crate::pace::PauseOnDrop;

/// A node. Cloning is cheap: lists and maps are shared.
#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    pub(super) pos: Pos,
    pub(super) kind: Kind<'t>,
    _pause: PauseOnDrop,
}

#[derive(Clone, Debug)]
pub(super) enum Kind<'t> {
    Scalar(Scalar<'t>),
    List(Rc<Vec<Node<'t>>>),
    Map(Rc<Vec<Entry<'t>>>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: Node<'t>,
    pub(super) value: Node<'t>,
}

#[derive(Clone, Debug)]
pub(super) struct Scalar<'t> {
    pub(super) text: Cow<'t, str>,
    /// Written without quotes, not as a block and not tagged `!!str`: it may mean something else
    /// than text.
    pub(super) plain: bool,
}

impl<'t> Node<'t> {
    pub(super) const fn new(pos: Pos, kind: Kind<'t>) -> Self {
        Self {
            pos,
            kind,
            _pause: PauseOnDrop,
        }
    }

    /// What to call it in a sentence.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
            Kind::Scalar(scalar) => scalar.describe(),
        }
    }

    /// Nothing: `~`, `null`, or no text at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.resolve() == Resolved::Null)
    }
}

impl Scalar<'_> {
    /// What YAML 1.1 takes the text for.
    pub(super) fn resolve(&self) -> Resolved {
        if self.plain {
            Resolved::of(&self.text)
        } else {
            Resolved::Text
        }
    }

    fn describe(&self) -> String {
        let text = crate::config::suggest::quoted(&self.text);
        match self.resolve() {
            Resolved::Null => "nothing".to_owned(),
            Resolved::Bool(_) => format!("the boolean {}", self.text),
            Resolved::Int { .. } | Resolved::Float(_) => format!("the number {}", self.text),
            Resolved::Text if self.plain => format!("the text {text}"),
            Resolved::Text => format!("the quoted text {text}"),
        }
    }
}

/// A plain scalar in YAML 1.1, as envoyproxy/ratelimit's parser resolves it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Resolved {
    Null,
    Bool(bool),
    /// A whole number. `octal`: only a leading zero says so.
    Int {
        value: i128,
        octal: bool,
    },
    Float(f64),
    Text,
}

impl Resolved {
    fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                return Self::Bool(true);
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF" => return Self::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Self::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
                return Self::Float(f64::INFINITY);
            }
            "-.inf" | "-.Inf" | "-.INF" => return Self::Float(f64::NEG_INFINITY),
            _ => {}
        }
        // Only what begins like a number can be one; most texts end here.
        if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
            return Self::Text;
        }
        let digits: Cow<'_, str> = if text.contains('_') {
            text.replace('_', "").into()
        } else {
            text.into()
        };
        integer(&digits)
            .or_else(|| float(&digits))
            .unwrap_or(Self::Text)
    }
}

fn integer(text: &str) -> Option<Resolved> {
    let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let prefixed = |lower: &str, upper: &str| {
        unsigned
            .strip_prefix(lower)
            .or_else(|| unsigned.strip_prefix(upper))
    };
    let (digits, radix, octal) = if let Some(hex) = prefixed("0x", "0X") {
        (hex, 16, false)
    } else if let Some(binary) = prefixed("0b", "0B") {
        (binary, 2, false)
    } else if let Some(octal) = prefixed("0o", "0O") {
        (octal, 8, false)
    } else if unsigned.len() > 1 && unsigned.starts_with('0') {
        (unsigned, 8, true)
    } else {
        (unsigned, 10, false)
    };
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    Some(Resolved::Int {
        value: if negative { -magnitude } else { magnitude },
        octal,
    })
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<Resolved> {
    let number = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    let value: f64 = number.then(|| text.parse().ok())??;
    value.is_finite().then_some(Resolved::Float(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_yaml_1_1_writes_them() {
        let int = |value, octal| Resolved::Int { value, octal };
        for (text, expected) in [
            ("0", int(0, false)),
            ("-0", int(0, false)),
            ("+7", int(7, false)),
            ("-7", int(-7, false)),
            ("1_000", int(1000, false)),
            ("0x10", int(16, false)),
            ("-0X1f", int(-31, false)),
            ("0b101", int(5, false)),
            ("0o17", int(15, false)),
            ("010", int(8, true)),
            ("0_10", int(8, true)),
            ("4294967296", int(4_294_967_296, false)),
        ] {
            assert_eq!(Resolved::of(text), expected, "{text}");
        }
    }

    #[test]
    fn fractions_and_exponents_are_no_whole_numbers() {
        for (text, expected) in [
            ("1.0", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("-1e3", -1000.0),
            ("08", 8.0),
        ] {
            assert_eq!(Resolved::of(text), Resolved::Float(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_text() {
        for text in [
            "2024-01-31",
            "1:30",
            "0x",
            "0xzz",
            "--1",
            "+-1",
            "1e",
            ".",
            "-",
            "1.2.3",
            "1e999",
            "tRue",
            "nULL",
            "infinity",
            "+nan",
            "_1",
        ] {
            assert_eq!(Resolved::of(text), Resolved::Text, "{text}");
        }
    }

    #[test]
    fn quotes_make_a_text_of_anything() {
        let quoted = Scalar {
            text: "5".into(),
            plain: false,
        };
        assert_eq!(quoted.resolve(), Resolved::Text);
        assert_eq!(quoted.describe(), "the quoted text \"5\"");
    }
}
