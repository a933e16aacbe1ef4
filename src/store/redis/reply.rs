//! What a server answers, as plain data.

use std::borrow::Cow;

use bytes::Bytes;
use fred::types::Value;

/// What a server answers to a command. An error is a [`Failure`](super::Failure) instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// A text of any bytes.
    Text(Bytes),
    /// Answers in order.
    List(Vec<Self>),
}

impl Reply {
    /// The text, with what is not UTF-8 replaced; none if it is something else.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(String::from_utf8_lossy(text)),
            Self::Nil | Self::Number(_) | Self::List(_) => None,
        }
    }

    /// The number, also where it is written as text; none if it is something else.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => self.text()?.parse().ok(),
            Self::Nil | Self::List(_) => None,
        }
    }

    /// The answers of a list; empty if it is something else.
    #[must_use]
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            Self::Nil | Self::Number(_) | Self::Text(_) => &[],
        }
    }

    /// A list of names and values, as RESP2 has in place of maps: the value of a name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.list().chunks_exact(2).find_map(|pair| match pair {
            [key, value] if key.text().is_some_and(|key| key == name) => Some(value),
            _ => None,
        })
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Null | Value::Queued => Self::Nil,
            Value::Boolean(yes) => Self::Number(yes.into()),
            Value::Integer(number) => Self::Number(number),
            Value::Double(number) => Self::Text(number.to_string().into()),
            Value::String(text) => Self::Text(text.into_inner()),
            Value::Bytes(text) => Self::Text(text),
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            // Only RESP3 has maps, which is not spoken; they read as RESP2 has them.
            Value::Map(map) => Self::List(
                map.inner()
                    .into_iter()
                    .flat_map(|(key, value)| [Self::Text(key.into_bytes()), value.into()])
                    .collect(),
            ),
        }
    }
}
