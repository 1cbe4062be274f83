//! From a stored row to the JSON a client sees (`api-conventions.md` §4, §5).
//!
//! `serde_json`'s map sorts its keys; the wire puts `id`, `type`, `links` and `actions` first, as people read them.
//! So an answer is a [`Document`], an ordered list of members, and is written as it stands.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::declare::Field;
use crate::id;
use crate::machine::Machine;
use crate::row::{AnyRow, Meta, Object};
use crate::schemas::{Schema, Schemas};
use crate::time::Time;
use crate::types::Type;

/// A JSON object whose members keep their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    members: Vec<(String, Member)>,
}

/// A value, or documents embedded by `include`.
#[derive(Clone, Debug, PartialEq)]
enum Member {
    Value(Value),
    One(Option<Document>),
    Many(Vec<Document>),
}

/// Whether fields that are read once carry their value: only in answers to POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Shown,
    Masked,
}

impl Document {
    pub fn new() -> Document {
        Document::default()
    }

    /// Sets a member, in place when it is there already.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.put(name, Member::Value(value.into()));
    }

    /// Embeds the linked resource.
    pub fn embed_one(&mut self, name: &str, linked: Option<Document>) {
        self.put(name, Member::One(linked));
    }

    /// Embeds the linked resources.
    pub fn embed_many(&mut self, name: &str, linked: Vec<Document>) {
        self.put(name, Member::Many(linked));
    }

    /// A plain member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.iter().find_map(|(known, member)| match member {
            Member::Value(value) if known == name => Some(value),
            _ => None,
        })
    }

    /// The same as a value; loses the order of members.
    pub fn to_value(&self) -> Value {
        let object = self.members.iter().map(|(name, member)| {
            let value = match member {
                Member::Value(value) => value.clone(),
                Member::One(one) => one.as_ref().map_or(Value::Null, Document::to_value),
                Member::Many(many) => many.iter().map(Document::to_value).collect(),
            };
            (name.clone(), value)
        });
        Value::Object(object.collect())
    }

    fn put(&mut self, name: &str, member: Member) {
        match self.members.iter_mut().find(|(known, _)| known == name) {
            Some((_, slot)) => *slot = member,
            None => self.members.push((name.to_owned(), member)),
        }
    }

    /// Without looking for an earlier one: the callers write each name once.
    fn push(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.members.push((name.into(), Member::Value(value.into())));
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (name, member) in &self.members {
            match member {
                Member::Value(value) => map.serialize_entry(name, value)?,
                Member::One(one) => map.serialize_entry(name, one)?,
                Member::Many(many) => map.serialize_entry(name, many)?,
            }
        }
        map.end()
    }
}

/// A stored row as the role sees it. `schema` is the type it is shown as (`Schemas::shown_as`).
pub fn row(
    schemas: &Schemas,
    schema: &Schema,
    row: &AnyRow,
    links: Object,
    actions: Object,
    secrets: Secrets,
) -> Document {
    let id = Value::String(id::encode(schema.base, row.meta.id));
    keyed_row(schemas, schema, id, row, links, actions, secrets)
}

/// A stored row that is known by a key instead of its number: settings.
pub fn keyed_row(
    schemas: &Schemas,
    schema: &Schema,
    id: Value,
    row: &AnyRow,
    links: Object,
    actions: Object,
    secrets: Secrets,
) -> Document {
    let [transitioning, message, progress] = transition_triple(&row.meta, schema.machine);
    let read = |name: &str| match name {
        "transitioning" => transitioning.clone(),
        "transitioningMessage" => message.clone(),
        "transitioningProgress" => progress.clone(),
        name => row.get(name),
    };
    document(schemas, schema, id, &read, links, actions, secrets)
}

/// A resource without a row: identities, access objects, answers of actions. `data` is in storage form.
pub fn value(schemas: &Schemas, schema: &Schema, id: Value, data: &Object, links: Object, actions: Object) -> Document {
    let read = |name: &str| data.get(name).cloned().unwrap_or(Value::Null);
    document(schemas, schema, id, &read, links, actions, Secrets::Shown)
}

fn document(
    schemas: &Schemas,
    schema: &Schema,
    id: Value,
    read: &dyn Fn(&str) -> Value,
    links: Object,
    actions: Object,
    secrets: Secrets,
) -> Document {
    let mut document = Document { members: Vec::with_capacity(schema.fields.len() + 6) };
    document.push("id", id);
    document.push("type", schema.name);
    document.push("links", links);
    document.push("actions", actions);
    let first = ["name", "state"].iter().filter_map(|name| schema.fields.get(name));
    let rest = schema.fields.values().filter(|field| !matches!(field.name, "id" | "name" | "state"));
    for field in first.chain(rest).filter(|field| !field.input_only) {
        let stored =
            if field.read_on_create_only && secrets == Secrets::Masked { Value::Null } else { read(field.name) };
        if let (Type::Date, Some(ms)) = (&field.ty, stored.as_i64()) {
            document.push(field.name, Time(ms).iso());
            document.push(format!("{}TS", field.name), ms);
            continue;
        }
        let wire = match field.id_of {
            Some(by) if !stored.is_null() => {
                let of = read(by);
                stored
                    .as_i64()
                    .zip(of.as_str())
                    .map_or(Value::Null, |(number, of)| Value::String(id::encode(schemas.base(of), number)))
            }
            _ => field_value(schemas, field, stored),
        };
        document.push(field.name, wire);
    }
    document
}

/// `transitioning`, its message and its progress (`resources.md` §1.5).
fn transition_triple(meta: &Meta, machine: Option<&Machine>) -> [Value; 3] {
    let message = meta.progress.message.clone();
    if machine.is_some_and(|machine| machine.is_transitional(&meta.state)) {
        let message = message.unwrap_or_else(|| String::from("In Progress"));
        return ["yes".into(), message.into(), meta.progress.percent.map_or(Value::Null, Value::from)];
    }
    if meta.progress.failed {
        return ["error".into(), message.map_or(Value::Null, Value::String), Value::Null];
    }
    // At rest, and yet there is something to say: why a host takes nothing, why a container is not where it should be.
    ["no".into(), message.map_or(Value::Null, Value::String), meta.progress.percent.map_or(Value::Null, Value::from)]
}

fn field_value(schemas: &Schemas, field: &Field, stored: Value) -> Value {
    if stored.is_null() {
        return match field.ty {
            Type::Boolean if !field.nullable => field.default.clone().unwrap_or(Value::Bool(false)),
            _ => Value::Null,
        };
    }
    if field.transform.is_some_and(|transform| !transform.is_empty()) {
        return Value::String(String::new());
    }
    wire_value(schemas, &field.ty, stored)
}

/// A stored value in the form of the wire. What does not fit the type (old data) is shown as null, not as an error.
fn wire_value(schemas: &Schemas, ty: &Type, stored: Value) -> Value {
    match (ty, stored) {
        (_, Value::Null) => Value::Null,
        (Type::Date, stored) => stored.as_i64().map_or(Value::Null, |ms| Value::String(Time(ms).iso())),
        (Type::Reference(to), Value::Number(number)) => match number.as_i64() {
            Some(number) => Value::String(id::encode(schemas.base(to), number)),
            None => Value::Null,
        },
        (Type::Reference(to), Value::String(key)) => Value::String(id::encode_key(schemas.base(to), &key)),
        (Type::Array(inner), Value::Array(values)) => {
            values.into_iter().map(|value| wire_value(schemas, inner, value)).collect()
        }
        (Type::Map(inner), Value::Object(map)) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, wire_value(schemas, inner, value))).collect())
        }
        (Type::Nested(name), Value::Object(mut map)) => match schemas.get(name) {
            Some(schema) => {
                let mut wire = Object::new();
                wire.insert("type".into(), schema.name.into());
                for field in schema.fields.values() {
                    let stored = map.remove(field.name).unwrap_or(Value::Null);
                    wire.insert(field.name.to_owned(), field_value(schemas, field, stored));
                }
                Value::Object(wire)
            }
            None => Value::Null,
        },
        (Type::Reference(_) | Type::Array(_) | Type::Map(_) | Type::Nested(_), _) => Value::Null,
        (_, stored) => stored,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::Role;
    use crate::testing::{horse, registry};

    fn shown(role: Role, secrets: Secrets, change: impl FnOnce(&mut AnyRow)) -> String {
        let registry = registry();
        let schemas = registry.schemas(role);
        let schema = schemas.get("horse").expect("visible");
        let mut stored = horse().to_any().expect("a horse can be stored");
        change(&mut stored);
        let document = row(schemas, schema, &stored, Object::new(), Object::new(), secrets);
        serde_json::to_string(&document).expect("a document is JSON")
    }

    #[test]
    fn a_row_is_shown_in_the_order_people_read_it() {
        let text = shown(Role::Project, Secrets::Masked, |_| {}).replace(",\"", ",\n\"");
        insta::assert_snapshot!(text, @r#"
        {"id":"1h42",
        "type":"horse",
        "links":{},
        "actions":{},
        "name":"bess",
        "state":"active",
        "accountId":"1a5",
        "age":7,
        "born":"2016-04-02T10:11:12Z",
        "bornTS":1459591872123,
        "boxId":"1sb3",
        "colour":null,
        "created":"1970-01-01T00:00:01Z",
        "createdTS":1000,
        "damId":null,
        "description":null,
        "gear":{"bridle":false,
        "more":null,
        "ownerId":"1a5",
        "saddle":"old",
        "type":"gear"},
        "hands":null,
        "kind":"horse",
        "labels":null,
        "notes":null,
        "removed":null,
        "riders":null,
        "secret":null,
        "sold":false,
        "transitioning":"no",
        "transitioningMessage":null,
        "transitioningProgress":null,
        "uuid":"u-42",
        "vet":null}
        "#);
    }

    #[test]
    fn what_is_read_once_is_shown_once() {
        let secret = |secrets| {
            let shown: Value = serde_json::from_str(&shown(Role::Project, secrets, |_| {})).expect("JSON");
            shown["secret"].clone()
        };
        assert_eq!(secret(Secrets::Shown), json!("s3cret"));
        assert_eq!(secret(Secrets::Masked), Value::Null);
    }

    #[test]
    fn the_transition_triple_follows_state_and_progress() {
        let triple = |change: &dyn Fn(&mut Meta)| {
            let text = shown(Role::Project, Secrets::Masked, |row| change(&mut row.meta));
            let shown: Value = serde_json::from_str(&text).expect("JSON");
            json!([shown["transitioning"], shown["transitioningMessage"], shown["transitioningProgress"]])
        };
        assert_eq!(triple(&|_| {}), json!(["no", null, null]));
        assert_eq!(triple(&|meta| meta.enter("creating")), json!(["yes", "In Progress", null]));
        assert_eq!(triple(&|meta| meta.fail("active", "lame")), json!(["error", "lame", null]));
        assert_eq!(triple(&|meta| meta.progress.message = Some("resting".into())), json!(["no", "resting", null]));
        let running = |meta: &mut Meta| {
            meta.fail("removing", "Leading out");
            meta.progress.percent = Some(50);
        };
        assert_eq!(triple(&running), json!(["yes", "Leading out", 50]));
    }

    #[test]
    fn old_data_of_another_shape_is_shown_as_null() {
        let text = shown(Role::Project, Secrets::Masked, |row| {
            for (name, value) in
                [("gear", json!(1)), ("labels", json!([1])), ("damId", json!(1.5)), ("riders", json!({}))]
            {
                row.data.insert(name.into(), value);
            }
        });
        let shown: Value = serde_json::from_str(&text).expect("JSON");
        for name in ["gear", "labels", "damId", "riders"] {
            assert_eq!(shown[name], Value::Null, "{name}");
        }
    }

    #[test]
    fn values_without_rows_have_the_id_they_are_given() {
        let registry = registry();
        let schemas = registry.schemas(Role::Project);
        let data = json!({ "saddle": "s" }).as_object().cloned().unwrap_or_default();
        let mut document =
            value(schemas, schemas.get("gear").expect("visible"), Value::Null, &data, Object::new(), Object::new());
        document.embed_one("owner", None);
        document.embed_many("more", Vec::new());
        let text = serde_json::to_string(&document).expect("JSON");
        let expected = r#"{"id":null,"type":"gear","links":{},"actions":{},"bridle":true,"more":[],"ownerId":null,"saddle":"s","owner":null}"#;
        assert_eq!(text, expected);
        assert_eq!(document.to_value()["saddle"], json!("s"));
    }
}
