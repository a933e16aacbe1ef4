//! Descriptors as people type them: `key=value,key=value`.

use std::fmt::{self, Write as _};

use smallvec::SmallVec;

use super::{Descriptor, Entry};

/// A descriptor that was read from a text; lends a [`Descriptor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorText(Vec<(String, String)>);

/// What is wrong with a descriptor's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not key=value (a descriptor is key=value[,key=value...]; write \\, for a comma and \\= for an equals sign inside a key)"
)]
pub struct DescriptorTextError(String);

impl DescriptorText {
    /// Reads `key=value[,key=value...]`. A backslash takes the meaning from the character after it;
    /// the value is all that follows the first `=`.
    ///
    /// # Errors
    /// If an entry has no `=` or no key.
    pub fn parse(text: &str) -> Result<Self, DescriptorTextError> {
        let mut entries = Vec::new();
        let (mut key, mut part, mut escaped) = (None, String::new(), false);
        let mut finish = |key: &mut Option<String>, part: &mut String| {
            let value = std::mem::take(part);
            match key.take() {
                Some(key) if !key.is_empty() => {
                    entries.push((key, value));
                    Ok(())
                }
                Some(_) | None => Err(DescriptorTextError(text.to_owned())),
            }
        };
        for c in text.chars() {
            match c {
                _ if escaped => {
                    part.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                ',' => finish(&mut key, &mut part)?,
                '=' if key.is_none() => key = Some(std::mem::take(&mut part)),
                _ => part.push(c),
            }
        }
        finish(&mut key, &mut part)?;
        Ok(Self(entries))
    }

    /// The descriptor, without a limit or cost of its own.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor<'_> {
        let entries: SmallVec<[Entry<'_>; 4]> = self
            .0
            .iter()
            .map(|(key, value)| Entry {
                key: key.as_bytes(),
                value: value.as_bytes(),
            })
            .collect();
        Descriptor {
            entries,
            ..Descriptor::default()
        }
    }

    /// Keys and values.
    #[must_use]
    pub fn entries(&self) -> &[(String, String)] {
        &self.0
    }

    /// Each entry as it is written.
    pub fn written(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(key, value)| {
            let mut text = String::with_capacity(key.len() + value.len() + 1);
            escape(&mut text, key, &['\\', ',', '=']);
            text.push('=');
            escape(&mut text, value, &['\\', ',']);
            text
        })
    }
}

/// What [`DescriptorText::parse`] reads as the same descriptor.
impl fmt::Display for DescriptorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.written().enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            f.write_str(&entry)?;
        }
        Ok(())
    }
}

/// Appends `part` with the meaning taken from special characters.
fn escape(text: &mut String, part: &str, special: &[char]) {
    for c in part.chars() {
        if special.contains(&c) {
            text.push('\\');
        }
        text.push(c);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Vec<(String, String)> {
        DescriptorText::parse(text).unwrap().0
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn entries_are_separated_by_commas() {
        assert_eq!(parse("a=1,b=2"), [pair("a", "1"), pair("b", "2")]);
        assert_eq!(parse("a="), [pair("a", "")]);
        assert_eq!(parse("path=/x?y=1"), [pair("path", "/x?y=1")]);
        assert_eq!(parse(r"a\=b=c\,d"), [pair("a=b", "c,d")]);
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in ["", "a", "a=1,", "=1", "a=1,,b=2"] {
            assert!(DescriptorText::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same(
            entries in prop::collection::vec(("[ab\\\\,=\n]{1,4}", "[ab\\\\,=\n]{0,4}"), 1..4)
        ) {
            let descriptor = DescriptorText(entries);
            prop_assert_eq!(DescriptorText::parse(&descriptor.to_string()).unwrap(), descriptor);
        }
    }
}
