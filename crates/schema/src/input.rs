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
