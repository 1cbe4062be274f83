//! What a field can hold, as spelled on the wire (`api-conventions.md` §7): `string`, `array[reference[network]]`…

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// A field type. `Display` and `FromStr` use the wire spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Password,
    Enum,
    Int,
    Float,
    Boolean,
    /// Stored as milliseconds since the epoch, sent as ISO 8601 with a `…TS` sibling.
    Date,
    Json,
    Blob,
    /// The id of a row of the named type. Stored as the row number, sent encoded.
    Reference(String),
    Array(Box<Type>),
    Map(Box<Type>),
    /// A value of the named nested type.
    Nested(String),
}

impl Type {
    /// The row type a reference points to, looking through arrays and maps.
    pub fn referenced(&self) -> Option<&str> {
        match self {
            Type::Reference(name) => Some(name),
            Type::Array(inner) | Type::Map(inner) => inner.referenced(),
            _ => None,
        }
    }

    /// The type once a list of options is given: strings become enumerations, inside lists and maps too.
    pub fn with_options(self) -> Type {
        match self {
            Type::String => Type::Enum,
            Type::Array(inner) => Type::Array(Box::new(inner.with_options())),
            Type::Map(inner) => Type::Map(Box::new(inner.with_options())),
            other => other,
        }
    }

    /// The filter modifiers this type offers (`api-conventions.md` §8.1); none for types that are not filterable.
    pub fn modifiers(&self) -> &'static [&'static str] {
        match self {
            Type::String | Type::Password => &["eq", "ne", "prefix", "like", "notlike", "null", "notnull"],
            Type::Int | Type::Float | Type::Date => &["eq", "ne", "lt", "lte", "gt", "gte", "null", "notnull"],
            Type::Enum | Type::Boolean | Type::Reference(_) => &["eq", "ne", "null", "notnull"],
            _ => &[],
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::String => f.write_str("string"),
            Type::Password => f.write_str("password"),
            Type::Enum => f.write_str("enum"),
            Type::Int => f.write_str("int"),
            Type::Float => f.write_str("float"),
            Type::Boolean => f.write_str("boolean"),
            Type::Date => f.write_str("date"),
            Type::Json => f.write_str("json"),
            Type::Blob => f.write_str("blob"),
            Type::Reference(name) => write!(f, "reference[{name}]"),
            Type::Array(inner) => write!(f, "array[{inner}]"),
            Type::Map(inner) => write!(f, "map[{inner}]"),
            Type::Nested(name) => f.write_str(name),
        }
    }
}

/// A type spelling with unbalanced brackets.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a field type")]
pub struct BadType(String);

impl FromStr for Type {
    type Err = BadType;

    fn from_str(text: &str) -> Result<Type, BadType> {
        let inside = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
        if let Some(inner) = inside("reference[") {
            return Ok(Type::Reference(inner.to_owned()));
        }
        if let Some(inner) = inside("array[") {
            return Ok(Type::Array(Box::new(inner.parse()?)));
        }
        if let Some(inner) = inside("map[") {
            return Ok(Type::Map(Box::new(inner.parse()?)));
        }
        match text {
            "string" => Ok(Type::String),
            "password" => Ok(Type::Password),
            "enum" => Ok(Type::Enum),
            "int" => Ok(Type::Int),
            "float" => Ok(Type::Float),
            "boolean" => Ok(Type::Boolean),
            "date" => Ok(Type::Date),
            "json" => Ok(Type::Json),
            "blob" => Ok(Type::Blob),
            name if !name.is_empty() && name.chars().all(char::is_alphanumeric) => Ok(Type::Nested(name.to_owned())),
            _ => Err(BadType(text.to_owned())),
        }
    }
}

/// The wire type of a Rust type: how a struct field becomes a [`Type`] without saying it twice.
pub trait FieldType {
    /// The type, `nullable` aside.
    fn field_type() -> Type;
}

macro_rules! field_types {
    ($($rust:ty => $wire:ident),*) => { $(impl FieldType for $rust { fn field_type() -> Type { Type::$wire } })* };
}
field_types!(String => String, i64 => Int, f64 => Float, bool => Boolean, Value => Json, crate::time::Time => Date);

/// What is large and never changed in place: copying a row shares it.
impl<T: FieldType> FieldType for std::sync::Arc<T> {
    fn field_type() -> Type {
        T::field_type()
    }
}

impl<T: FieldType> FieldType for Option<T> {
    fn field_type() -> Type {
        T::field_type()
    }
}

impl<T: FieldType> FieldType for Box<T> {
    fn field_type() -> Type {
        T::field_type()
    }
}

impl<T: FieldType> FieldType for Vec<T> {
    fn field_type() -> Type {
        Type::Array(Box::new(T::field_type()))
    }
}

impl<T: FieldType> FieldType for BTreeMap<String, T> {
    fn field_type() -> Type {
        Type::Map(Box::new(T::field_type()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_survives_a_round_trip() {
        for text in ["string", "array[reference[network]]", "map[json]", "map[array[int]]", "restartPolicy"] {
            assert_eq!(text.parse::<Type>().map(|ty| ty.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn unbalanced_brackets_are_refused() {
        for text in ["array[string", "map[]", "", "reference]x["] {
            assert!(text.parse::<Type>().is_err(), "{text}");
        }
    }
}
