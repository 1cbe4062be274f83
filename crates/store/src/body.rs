//! The JSON text of a row's body: description, progress, and the fields of the type that are set.
//!
//! A resource has up to a hundred fields and sets ten; fields that are null are left out, which also makes "unset"
//! and "null" one thing for readers and filters. The text is written in one pass, without a tree of values.

use remuda_schema::Meta;
use remuda_schema::row::Progress;
use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer};
use serde_json::Error as JsonError;

use crate::error::Error;

/// The body of a row.
pub(crate) fn body<T: Serialize>(table: &'static str, meta: &Meta, data: &T) -> Result<String, Error> {
    let unstorable = |reason: String| Error::Unstorable { table, reason };
    let text = text(meta, data).map_err(|error| unstorable(format!("it has no JSON form: {error}")))?;
    // PostgreSQL refuses it, and a row must be storable in both.
    if has_nul(&text) || meta.name.as_deref().is_some_and(|name| name.contains('\0')) {
        return Err(unstorable("it contains the character NUL".to_owned()));
    }
    Ok(text)
}

fn text<T: Serialize>(meta: &Meta, data: &T) -> Result<String, JsonError> {
    let mut members = Members { out: Vec::with_capacity(512) };
    members.out.push(b'{');
    members.member("description", &meta.description)?;
    if meta.progress != Progress::default() {
        members.member("progress", &meta.progress)?;
    }
    data.serialize(&mut members)?;
    members.out.push(b'}');
    String::from_utf8(members.out).map_err(JsonError::custom)
}

/// Whether JSON text contains the escape of NUL (and not an escaped backslash before `u0000`).
fn has_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = &json[..at];
        (before.len() - before.trim_end_matches('\\').len()).is_multiple_of(2)
    })
}

/// Appends the members of structs and maps to an object that is being written.
struct Members {
    out: Vec<u8>,
}

impl Members {
    fn member<V: Serialize + ?Sized>(&mut self, key: &str, value: &V) -> Result<(), JsonError> {
        let start = self.out.len();
        if start > 1 {
            self.out.push(b',');
        }
        serde_json::to_writer(&mut self.out, key)?;
        self.out.push(b':');
        let value_start = self.out.len();
        serde_json::to_writer(&mut self.out, value)?;
        if &self.out[value_start..] == b"null" {
            self.out.truncate(start);
        }
        Ok(())
    }
}

/// Serialises the members of a map, whose keys come before their values.
struct MapMembers<'m> {
    members: &'m mut Members,
    key: String,
}

fn not_an_object<R>() -> Result<R, JsonError> {
    Err(JsonError::custom("it is not an object"))
}

impl<'m> Serializer for &'m mut Members {
    type Ok = ();
    type Error = JsonError;
    type SerializeSeq = Impossible<(), JsonError>;
    type SerializeTuple = Impossible<(), JsonError>;
    type SerializeTupleStruct = Impossible<(), JsonError>;
    type SerializeTupleVariant = Impossible<(), JsonError>;
    type SerializeMap = MapMembers<'m>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), JsonError>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, JsonError> {
        Ok(self)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<MapMembers<'m>, JsonError> {
        Ok(MapMembers { members: self, key: String::new() })
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), JsonError> {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), JsonError> {
        value.serialize(self)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), JsonError> {
        Ok(())
    }
    fn serialize_bool(self, _: bool) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_i8(self, _: i8) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_i16(self, _: i16) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_i32(self, _: i32) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_i64(self, _: i64) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_u8(self, _: u8) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_u16(self, _: u16) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_u32(self, _: u32) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_u64(self, _: u64) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_f32(self, _: f32) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_f64(self, _: f64) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_char(self, _: char) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_str(self, _: &str) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_none(self) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_unit(self) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), JsonError> {
        not_an_object()
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, JsonError> {
        not_an_object()
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, JsonError> {
        not_an_object()
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, JsonError> {
        not_an_object()
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, JsonError> {
        not_an_object()
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, JsonError> {
        not_an_object()
    }
}

impl SerializeStruct for &mut Members {
    type Ok = ();
    type Error = JsonError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), JsonError> {
        self.member(key, value)
    }

    fn end(self) -> Result<(), JsonError> {
        Ok(())
    }
}

impl SerializeMap for MapMembers<'_> {
    type Ok = ();
    type Error = JsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), JsonError> {
        self.key = match serde_json::to_value(key)? {
            serde_json::Value::String(key) => key,
            other => other.to_string(),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        self.members.member(&self.key, value)
    }

    fn end(self) -> Result<(), JsonError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Sample {
        first: Option<i64>,
        second: Option<&'static str>,
        third: Vec<Option<i64>>,
    }

    #[test]
    fn only_what_is_set_is_written() {
        let meta = Meta { description: Some("a".into()), ..Meta::default() };
        let sample = Sample { first: None, second: Some("x"), third: vec![None] };
        assert_eq!(text(&meta, &sample).ok().as_deref(), Some(r#"{"description":"a","second":"x","third":[null]}"#));
        let object = json!({"b": null, "a": {"c": null}});
        assert_eq!(text(&Meta::default(), &object).ok().as_deref(), Some(r#"{"a":{"c":null}}"#));
        assert_eq!(text(&Meta::default(), &json!({})).ok().as_deref(), Some("{}"));
        assert!(text(&Meta::default(), &json!([1])).is_err());
    }

    #[test]
    fn nul_is_refused_and_its_spelling_is_not() {
        for (value, storable) in [("a\0b", false), ("a\\u0000", true), ("\\\0", false)] {
            assert_eq!(body("t", &Meta::default(), &json!({ "v": value })).is_ok(), storable, "{value:?}");
        }
    }
}
