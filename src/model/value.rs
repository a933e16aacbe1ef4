//! Free-form data of a rule (`metadata`), the shape of JSON.

/// A value as `google.protobuf.Value` can hold it. Maps keep the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A list.
    List(Vec<Self>),
    /// Named values; names are unique.
    Map(Vec<(String, Self)>),
    /// Nothing.
    Null,
    /// A number.
    Number(f64),
    /// A text.
    String(String),
}
