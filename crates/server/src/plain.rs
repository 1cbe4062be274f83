//! `_plainId`: the same answer with bare numbers for ids (`api-conventions.md` §2), for the platform's own tools.

use remuda_schema::id::{Decoded, decode};
use remuda_schema::{Schemas, Type};
use serde_json::Value;

/// Replaces ids and references of every resource in the value.
pub fn ids(schemas: &Schemas, value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| ids(schemas, value)),
        Value::Object(fields) => {
            let schema = fields.get("type").and_then(Value::as_str).and_then(|name| schemas.get(name));
            for (name, value) in fields.iter_mut() {
                let is_reference = schema.is_some_and(|schema| {
                    name == "id"
                        || schema
                            .fields
                            .get(name.as_str())
                            .is_some_and(|field| matches!(field.ty, Type::Reference(_)) || field.id_of.is_some())
                });
                if is_reference {
                    bare(value);
                } else {
                    ids(schemas, value);
                }
            }
        }
        _ => {}
    }
}

fn bare(value: &mut Value) {
    let number = value.as_str().filter(|text| text.starts_with('1')).and_then(decode);
    if let Some(Decoded::Number(number)) = number {
        *value = Value::String(number.to_string());
    }
}

#[cfg(test)]
mod tests {
    use remuda_schema::Role;
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_and_references_become_numbers() {
        let mut value = json!({"type": "collection", "data": [
            {"type": "container", "id": "1i5", "accountId": "1a7", "hostId": null, "name": "1i9"},
        ]});
        ids(remuda_model::registry().schemas(Role::Project), &mut value);
        assert_eq!(
            value["data"][0],
            json!({"type": "container", "id": "5", "accountId": "7", "hostId": null, "name": "1i9"})
        );
    }
}
