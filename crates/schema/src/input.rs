//! From a request body to checked values in storage form (`api-conventions.md` §7).
//!
//! First every given field is converted, then every field that the operation may write is held against its limits,
//! in the order of field names: of two mistakes the same one is always reported.

use serde_json::{Number, Value};

use crate::declare::Field;
use crate::error::{ApiError, Code};
use crate::row::Object;
use crate::schemas::{Schema, Schemas};
use crate::time::Time;
use crate::types::Type;

/// How deep a value may nest. Deeper ones are `InvalidFormat`, so that no later walk can exhaust the stack.
const MAX_DEPTH: usize = 64;

/// What the body is for: which fields may be written, and whether defaults and required fields count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// POST, and the inputs of actions.
    Create,
    /// PUT.
    Update,
}

/// Finds what references lead to. Implemented over the store with the caller's scope.
pub trait References {
    /// The number of the row of type `ty` (or of a kind of it) with that public id, if the caller may read it and it
    /// is not removed.
    fn resolve(&mut self, ty: &str, public_id: &str) -> Option<i64>;
}

/// The fields of `body` that `type_name` lets this operation write, checked and converted: references as row numbers,
/// dates as milliseconds. Unknown and unwritable fields are left out. Uniqueness is the store's business.
pub fn read(
    schemas: &Schemas,
    type_name: &str,
    operation: Operation,
    body: &Object,
    references: &mut dyn References,
) -> Result<Object, ApiError> {
    let schema = schemas.get(type_name).ok_or_else(|| ApiError::new(Code::NotFound))?;
    Reader { schemas, references }.object(schema, operation, body, 0)
}

struct Reader<'a> {
    schemas: &'a Schemas,
    references: &'a mut dyn References,
}

fn refuse<T>(code: Code, field: &Field, why: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::field(code, field.name).because(why))
}

impl Reader<'_> {
    fn object(
        &mut self,
        schema: &Schema,
        operation: Operation,
        body: &Object,
        depth: usize,
    ) -> Result<Object, ApiError> {
        let writable = |field: &&Field| match operation {
            Operation::Create => field.create,
            Operation::Update => field.update,
        };
        let mut checked = Object::new();
        for field in schema.fields.values().filter(writable) {
            let Some(given) = body.get(field.name) else { continue };
            let value = match given {
                Value::Null => Value::Null,
                given => self.convert(field, &field.ty, given, depth)?,
            };
            let value = match (value, &field.default) {
                (Value::Null, _) if field.nullable => Value::Null,
                (Value::Null, Some(default)) => default.clone(),
                (Value::Null, None) if field.required && operation == Operation::Create => {
                    return refuse(Code::MissingRequired, field, "the field is required");
                }
                (Value::Null, None) => return refuse(Code::NotNullable, field, "the field cannot be null"),
                (value, _) => value,
            };
            checked.insert(field.name.to_owned(), value);
        }
        for field in schema.fields.values().filter(writable) {
            if operation == Operation::Create && !checked.contains_key(field.name) {
                if let Some(default) = &field.default {
                    checked.insert(field.name.to_owned(), default.clone());
                } else if field.required {
                    return refuse(Code::MissingRequired, field, "the field is required");
                }
            }
            match checked.get(field.name) {
                Some(Value::Null) | None => {}
                Some(value) => check(field, value, operation)?,
            }
        }
        Ok(checked)
    }

    fn convert(&mut self, field: &Field, ty: &Type, given: &Value, depth: usize) -> Result<Value, ApiError> {
        if depth > MAX_DEPTH {
            return refuse(Code::InvalidFormat, field, format!("values nest at most {MAX_DEPTH} deep"));
        }
        match ty {
            Type::String | Type::Password | Type::Enum => match given {
                Value::String(text) => Ok(Value::String(text.clone())),
                Value::Bool(truth) => Ok(Value::String(truth.to_string())),
                Value::Number(number) => Ok(Value::String(number.to_string())),
                _ => refuse(Code::InvalidFormat, field, "the field holds text"),
            },
            Type::Int => match int(given) {
                Some(number) => Ok(Value::from(number)),
                None => refuse(Code::InvalidFormat, field, "the field holds a whole number"),
            },
            Type::Float => match float(given) {
                Some(number) => Ok(Value::Number(number)),
                None => refuse(Code::InvalidFormat, field, "the field holds a number"),
            },
            Type::Boolean => Ok(Value::Bool(match given {
                Value::Bool(truth) => *truth,
                Value::String(text) => text.eq_ignore_ascii_case("true"),
                _ => false,
            })),
            Type::Date => match given {
                Value::String(text) if text.trim().is_empty() => Ok(Value::Null),
                Value::String(text) => match Time::parse_iso(text.trim()) {
                    Some(time) => Ok(Value::from(time.0)),
                    None => refuse(Code::InvalidDateFormat, field, "dates are written like `2016-04-02T10:11:12Z`"),
                },
                _ => refuse(Code::InvalidDateFormat, field, "dates are written like `2016-04-02T10:11:12Z`"),
            },
            Type::Reference(to) => {
                let number = given.as_str().and_then(|id| self.references.resolve(to, id));
                match number {
                    Some(number) => Ok(Value::from(number)),
                    None => refuse(Code::InvalidReference, field, format!("there is no such `{to}`")),
                }
            }
            Type::Array(inner) => {
                let one;
                let values = match given {
                    Value::Array(values) => values.as_slice(),
                    single => {
                        one = [single.clone()];
                        &one
                    }
                };
                let mut converted = Vec::with_capacity(values.len());
                for value in values {
                    let value = match value {
                        Value::Null => Value::Null,
                        value => self.convert(field, inner, value, depth + 1)?,
                    };
                    if value.is_null() && **inner != Type::Json {
                        return refuse(Code::NotNullable, field, "an element of the list is null");
                    }
                    converted.push(value);
                }
                Ok(Value::Array(converted))
            }
            Type::Map(inner) => {
                let Value::Object(map) = given else {
                    return refuse(Code::InvalidFormat, field, "the field holds an object");
                };
                let mut converted = Object::new();
                for (key, value) in map {
                    let value = match (&**inner, value) {
                        // `labels: {a: null}` of compose means an empty value; a null reference is filled in later.
                        (Type::String, Value::Null) => Value::String(String::new()),
                        (Type::Json | Type::Reference(_), Value::Null) => Value::Null,
                        (_, Value::Null) => return refuse(Code::NotNullable, field, format!("`{key}` is null")),
                        (inner, value) => self.convert(field, inner, value, depth + 1)?,
                    };
                    converted.insert(key.clone(), value);
                }
                Ok(Value::Object(converted))
            }
            Type::Json => {
                if nests_deeper_than(given, MAX_DEPTH - depth) {
                    return refuse(Code::InvalidFormat, field, format!("values nest at most {MAX_DEPTH} deep"));
                }
                Ok(given.clone())
            }
            Type::Blob => refuse(Code::InvalidFormat, field, "the field cannot be sent as JSON"),
            Type::Nested(name) => {
                let Some(schema) = self.schemas.get(name) else {
                    return refuse(Code::InvalidFormat, field, format!("type `{name}` is not available"));
                };
                let empty = Object::new();
                let body = given.as_object().unwrap_or(&empty);
                self.object(schema, Operation::Create, body, depth + 1).map(Value::Object)
            }
        }
    }
}

/// Walks with a stack of its own, because the depth is what is in doubt.
fn nests_deeper_than(value: &Value, limit: usize) -> bool {
    let mut stack = vec![(value, 0)];
    while let Some((value, depth)) = stack.pop() {
        if depth > limit {
            return true;
        }
        match value {
            Value::Array(values) => stack.extend(values.iter().map(|value| (value, depth + 1))),
            Value::Object(map) => stack.extend(map.values().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    false
}

/// The largest float whose neighbours are whole numbers: beyond it a float is no exact integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn int(given: &Value) -> Option<i64> {
    let whole = |float: f64| (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64);
    match given {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| whole(text.parse().ok()?))
        }
        _ => None,
    }
}

fn float(given: &Value) -> Option<Number> {
    match given {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => Number::from_f64(text.trim().parse().ok()?),
        _ => None,
    }
}

/// The limits of one field, in the order of the specification.
fn check(field: &Field, value: &Value, operation: Operation) -> Result<(), ApiError> {
    if let Value::Array(values) = value {
        if field.min_length.is_some_and(|min| (values.len() as u64) < min) {
            return refuse(Code::MinLengthExceeded, field, "the list is too short");
        }
        if field.required && operation == Operation::Create && values.is_empty() {
            return refuse(Code::MissingRequired, field, "the list is empty");
        }
        return values.iter().try_for_each(|value| check_one(field, value));
    }
    check_one(field, value)
}

fn check_one(field: &Field, value: &Value) -> Result<(), ApiError> {
    if let Some(number) = value.as_f64() {
        if let Some(min) = field.min.filter(|min| number < *min as f64) {
            return refuse(Code::MinLimitExceeded, field, format!("the smallest value is {min}"));
        }
        if let Some(max) = field.max.filter(|max| number > *max as f64) {
            return refuse(Code::MaxLimitExceeded, field, format!("the largest value is {max}"));
        }
    }
    let Value::String(text) = value else { return Ok(()) };
    if field.min_length.is_some() || field.max_length.is_some() {
        let length = text.chars().count() as u64;
        if let Some(min) = field.min_length.filter(|min| length < *min) {
            return refuse(Code::MinLengthExceeded, field, format!("at least {min} characters are needed"));
        }
        if let Some(max) = field.max_length.filter(|max| length > *max) {
            return refuse(Code::MaxLengthExceeded, field, format!("at most {max} characters are allowed"));
        }
    }
    if let Some(options) = &field.options
        && !options.contains(&text.as_str())
    {
        return refuse(Code::InvalidOption, field, format!("the options are {}", options.join(", ")));
    }
    if let Some(class) = field.valid_chars
        && let Some(bad) = text.chars().find(|ch| !in_class(class, *ch))
    {
        return refuse(Code::InvalidCharacters, field, format!("`{bad}` is not among the characters `{class}`"));
    }
    // The original anchored this expression at both ends, so only a text of nothing but bad characters is refused.
    if let Some(class) = field.invalid_chars
        && !text.is_empty()
        && text.chars().all(|ch| in_class(class, ch))
    {
        return refuse(Code::InvalidCharacters, field, format!("the characters `{class}` are not allowed"));
    }
    Ok(())
}

/// Membership in the content of a character class: single characters and ranges; a `-` at either end is itself.
fn in_class(class: &str, ch: char) -> bool {
    let chars: Vec<char> = class.chars().collect();
    let mut idx = 0;
    while idx < chars.len() {
        match chars.get(idx..idx + 3) {
            Some([from, '-', to]) if from <= to => {
                if (*from..=*to).contains(&ch) {
                    return true;
                }
                idx += 3;
            }
            _ => {
                if chars[idx] == ch {
                    return true;
                }
                idx += 1;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::access::Role;
    use crate::testing::{Horse, registry};
    use crate::{Resource, Row};

    /// Knows every row below 100 except those of stables.
    struct Below100;

    impl References for Below100 {
        fn resolve(&mut self, ty: &str, public_id: &str) -> Option<i64> {
            match crate::id::decode(public_id)? {
                crate::id::Decoded::Number(number) if number < 100 && ty != "stableBox" => Some(number),
                _ => None,
            }
        }
    }

    fn read_as(role: Role, operation: Operation, body: Value) -> Result<Value, (Code, String)> {
        let registry = registry();
        let body = body.as_object().cloned().unwrap_or_default();
        read(registry.schemas(role), "horse", operation, &body, &mut Below100)
            .map(Value::Object)
            .map_err(|error| (error.code, error.field.unwrap_or_default()))
    }

    fn create(mut body: Value) -> Result<Value, (Code, String)> {
        if let Value::Object(body) = &mut body {
            for (name, value) in [("name", json!("bess")), ("riders", json!(["ann"]))] {
                body.entry(name).or_insert(value);
            }
        }
        let mut checked = read_as(Role::Project, Operation::Create, body)?;
        // Only what the case is about.
        if let Value::Object(checked) = &mut checked {
            for (name, value) in
                [("name", json!("bess")), ("riders", json!(["ann"])), ("age", json!(4)), ("colour", json!("bay"))]
            {
                if checked.get(name) == Some(&value) {
                    checked.remove(name);
                }
            }
        }
        Ok(checked)
    }

    #[test]
    fn values_are_converted() {
        for (body, expected) in [
            (json!({}), json!({})),
            (json!({ "age": "12" }), json!({ "age": 12 })),
            (json!({ "age": 12.0 }), json!({ "age": 12 })),
            (json!({ "colour": null }), json!({ "colour": null })),
            (json!({ "age": null }), json!({})),
            (json!({ "name": null }), json!({ "name": null })),
            (json!({ "born": "2016-04-02T10:11:12Z" }), json!({ "born": 1_459_591_872_000_i64 })),
            (json!({ "born": " " }), json!({ "born": null })),
            (json!({ "damId": "1h7" }), json!({ "damId": 7 })),
            (json!({ "riders": "bob" }), json!({ "riders": ["bob"] })),
            (json!({ "riders": [1, true] }), json!({ "riders": ["1", "true"] })),
            (json!({ "labels": { "a": 1, "b": null } }), json!({ "labels": { "a": "1", "b": "" } })),
            (json!({ "hands": "14.2" }), json!({ "hands": 14.2 })),
            (json!({ "notes": { "a": [null] } }), json!({ "notes": { "a": [null] } })),
            (json!({ "gear": { "saddle": "s" } }), json!({ "gear": { "saddle": "s", "bridle": true } })),
            (
                json!({ "gear": { "saddle": "s", "bridle": "no", "unknown": 1, "ownerId": "1a5", "more": { "saddle": "t" } } }),
                json!({ "gear": { "saddle": "s", "bridle": false, "ownerId": 5, "more": [{ "saddle": "t", "bridle": true }] } }),
            ),
            // Unknown, unwritable, and not this role's: left out without a word.
            (json!({ "id": "1h1", "type": "x", "links": 1, "state": "s", "sold": true, "cow": 1 }), json!({})),
            (json!({ "vet": "v", "boxId": "1sb1", "price": 3, "chip": "c" }), json!({})),
        ] {
            assert_eq!(create(body.clone()), Ok(expected), "{body}");
        }
    }

    #[test]
    fn mistakes_have_their_codes() {
        let long = "a".repeat(9);
        for (body, code, field) in [
            (json!({ "age": "many" }), Code::InvalidFormat, "age"),
            (json!({ "age": 1.5 }), Code::InvalidFormat, "age"),
            (json!({ "age": true }), Code::InvalidFormat, "age"),
            (json!({ "name": ["a"] }), Code::InvalidFormat, "name"),
            (json!({ "name": "a" }), Code::MinLengthExceeded, "name"),
            (json!({ "name": long }), Code::MaxLengthExceeded, "name"),
            (json!({ "name": "be ss" }), Code::InvalidCharacters, "name"),
            (json!({ "born": "yesterday" }), Code::InvalidDateFormat, "born"),
            (json!({ "born": 5 }), Code::InvalidDateFormat, "born"),
            (json!({ "damId": "7" }), Code::InvalidReference, "damId"),
            (json!({ "damId": 7 }), Code::InvalidReference, "damId"),
            (json!({ "damId": "1h700" }), Code::InvalidReference, "damId"),
            (json!({ "colour": "green" }), Code::InvalidOption, "colour"),
            (json!({ "hands": 0 }), Code::MinLimitExceeded, "hands"),
            (json!({ "hands": 1e9 }), Code::MaxLimitExceeded, "hands"),
            (json!({ "riders": [] }), Code::MissingRequired, "riders"),
            (json!({ "riders": [null] }), Code::NotNullable, "riders"),
            (json!({ "riders": null }), Code::MissingRequired, "riders"),
            (json!({ "labels": [] }), Code::InvalidFormat, "labels"),
            (json!({ "gear": 5 }), Code::MissingRequired, "saddle"),
            (json!({ "gear": { "saddle": "?!" } }), Code::InvalidCharacters, "saddle"),
        ] {
            assert_eq!(create(body.clone()), Err((code, field.to_owned())), "{body}");
        }
        assert_eq!(
            create(json!({ "gear": { "saddle": "s?" } })).map(|_| ()),
            Ok(()),
            "only a text of bad characters is refused"
        );
    }

    #[test]
    fn required_and_defaults_count_on_create_only() {
        let missing = read_as(Role::Project, Operation::Create, json!({ "name": "bess" }));
        assert_eq!(missing, Err((Code::MissingRequired, "riders".to_owned())));
        assert_eq!(read_as(Role::Project, Operation::Update, json!({})), Ok(json!({})));
        let update = read_as(Role::Project, Operation::Update, json!({ "name": "bo", "age": 3, "labels": null }));
        assert_eq!(update, Ok(json!({ "name": "bo", "labels": null })));
    }

    #[test]
    fn deep_values_are_refused_and_long_ones_are_not() {
        let mut deep = json!({ "saddle": "s" });
        for _ in 0..100 {
            deep = json!({ "saddle": "s", "more": [deep] });
        }
        assert_eq!(create(json!({ "gear": deep })), Err((Code::InvalidFormat, "more".to_owned())));
        let mut notes = json!(1);
        for _ in 0..100 {
            notes = json!([notes]);
        }
        assert_eq!(create(json!({ "notes": notes })), Err((Code::InvalidFormat, "notes".to_owned())));
        let many: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        assert!(create(json!({ "riders": many })).is_ok());
    }

    #[test]
    fn character_classes_know_ranges_and_hyphens() {
        for (class, inside, outside) in [("a-z-", "m-", "A_"), ("-._", "-._", "a"), ("*._0-9a-zA-Z;=", "*5Z;", "-")] {
            assert!(inside.chars().all(|ch| in_class(class, ch)), "{class}");
            assert!(!outside.chars().any(|ch| in_class(class, ch)), "{class}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "(1[a-z]{1,2})?[0-9]{0,4}".prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("(saddle|more|ownerId|bridle|[a-z])", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever is sent: no panic, and what is accepted can be stored in the struct.
        #[test]
        fn any_body_is_refused_or_fits_the_struct(
            fields in prop::collection::btree_map(
                "(age|born|boxId|colour|count|damId|gear|hands|labels|riders|notes|name|description|vet)",
                any_json(), 0..6),
            create in any::<bool>(),
        ) {
            let operation = if create { Operation::Create } else { Operation::Update };
            let mut body: Value = Value::Object(fields.into_iter().collect());
            if create && body.get("riders").is_none() {
                body["riders"] = json!(["ann"]);
            }
            for role in [Role::Project, Role::Admin] {
                if let Ok(Value::Object(checked)) = read_as(role, operation, body.clone()) {
                    let mut row = Row { meta: Default::default(), data: Object::new() };
                    row.apply(checked);
                    prop_assert!(row.typed::<Horse>().is_ok());
                    prop_assert_eq!(Horse::TYPE, "horse");
                }
            }
        }
    }
}
