//! Row numbers and their public spelling (`api-conventions.md` §3): `1` + letters + number, `1i42`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::declare::Resource;
use crate::types::{FieldType, Type};

/// The number of a row of type `T` in its table. Serialises as that number; the public spelling is made at the edge.
pub struct Id<T> {
    number: i64,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    pub const fn new(number: i64) -> Self {
        Id { number, of: PhantomData }
    }

    pub const fn number(self) -> i64 {
        self.number
    }

    /// The same row seen as another type of the same table (`container` as `instance`).
    pub fn cast<U>(self) -> Id<U> {
        Id::new(self.number)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}
impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}
impl<T: Resource> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", prefix(T::TABLE), self.number)
    }
}
impl<T: Resource> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(T::TABLE, self.number))
    }
}
impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.number)
    }
}
impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Id::new)
    }
}
impl<T: Resource> FieldType for Id<T> {
    fn field_type() -> Type {
        Type::Reference(T::TYPE.to_owned())
    }
}

/// `1` + first letter + capital letters of the base type, lower-cased: `instanceLink` gives `1il`.
pub fn prefix(base_type: &str) -> String {
    let mut letters = String::from("1");
    for (idx, ch) in base_type.chars().enumerate() {
        if idx == 0 || ch.is_ascii_uppercase() {
            letters.push(ch.to_ascii_lowercase());
        }
    }
    letters
}

/// Public id of row `number` of a base type.
pub fn encode(base_type: &str, number: i64) -> String {
    format!("{}{number}", prefix(base_type))
}

/// Public id of a row known by a text key: `1as!api.host`.
pub fn encode_key(base_type: &str, key: &str) -> String {
    format!("{}!{key}", prefix(base_type))
}

/// What a client's id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A row number. The letters of the id are not compared with the type.
    Number(i64),
    /// A literal key: it started with a letter, or its rest is not a number.
    Key(String),
}

/// Decodes a public id. `None` when it cannot be one: empty, or a bare number.
pub fn decode(id: &str) -> Option<Decoded> {
    let first = id.chars().next()?;
    if first.is_ascii_alphabetic() {
        return Some(Decoded::Key(id.to_owned()));
    }
    let rest = id.strip_prefix('1')?;
    let letters = rest.chars().take_while(char::is_ascii_alphabetic).count();
    if letters == 0 {
        return None;
    }
    let rest = &rest[letters..];
    let rest = rest.strip_prefix('!').unwrap_or(rest);
    match rest.parse::<i64>() {
        Ok(number) if number >= 0 && rest.bytes().all(|byte| byte.is_ascii_digit()) => Some(Decoded::Number(number)),
        _ if rest.is_empty() => None,
        _ => Some(Decoded::Key(rest.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_those_of_the_original() {
        for (base, id) in [
            ("account", "1a"),
            ("instanceHostMap", "1ihm"),
            ("credential", "1c"),
            ("ipAddress", "1ia"),
            ("environment", "1e"),
            ("serviceExposeMap", "1sem"),
        ] {
            assert_eq!(prefix(base), id);
        }
    }

    #[test]
    fn ids_decode_leniently() {
        let cases = [
            ("1h5", Some(Decoded::Number(5))),
            ("1zz77", Some(Decoded::Number(77))),
            ("1as!api.host", Some(Decoded::Key("api.host".into()))),
            ("api.host", Some(Decoded::Key("api.host".into()))),
            ("1i!rancher_id:1a7", Some(Decoded::Key("rancher_id:1a7".into()))),
            ("5", None),
            ("15", None),
            ("", None),
            ("1i", None),
            ("é", None),
        ];
        for (id, expected) in cases {
            assert_eq!(decode(id), expected, "{id}");
        }
    }
}
