//! What a type says of itself on the wire: the `schema` resource (`api-conventions.md` §6).

use serde_json::{Value, json};

use crate::declare::Field;
use crate::output::Document;
use crate::row::Object;
use crate::schemas::Schema;

/// Where things are. The server implements it per request: base URL, version and project prefix vary.
pub trait Urls {
    /// A collection, by camelCase plural: `http://host/v1/apikeys`.
    fn collection(&self, plural: &str) -> String;
    /// One resource of a collection: `http://host/v1/apikeys/1c3`.
    fn resource(&self, plural: &str, id: &str) -> String;
}

/// The `schema` resource of a type.
pub fn schema(schema: &Schema, urls: &dyn Urls) -> Document {
    let mut links = Object::new();
    links.insert("self".into(), urls.resource("schemas", schema.name).into());
    if schema.collection_allows("GET") {
        links.insert("collection".into(), urls.collection(&schema.plural).into());
    }
    let fields: Object = schema.fields.iter().map(|(name, def)| ((*name).to_owned(), field(def))).collect();
    let filters: Object = schema
        .filters
        .iter()
        .map(|(name, filter)| ((*name).to_owned(), json!({ "modifiers": filter.modifiers })))
        .collect();
    let includeable: Vec<Value> =
        schema.links.iter().filter(|link| link.includeable).map(|link| link.name.to_ascii_lowercase().into()).collect();
    let actions: Object = schema
        .actions
        .iter()
        .map(|action| (action.name.to_owned(), json!({ "input": action.input, "output": action.output })))
        .collect();
    let mut document = Document::new();
    document.set("id", schema.name);
    document.set("type", "schema");
    document.set("links", links);
    document.set("actions", Object::new());
    document.set("pluralName", schema.plural.as_str());
    document.set("resourceFields", fields);
    document.set("collectionFilters", filters);
    document.set("includeableLinks", includeable);
    document.set("resourceActions", actions);
    document.set("collectionActions", Object::new());
    document.set("collectionFields", Object::new());
    document.set("resourceMethods", schema.resource_methods.clone());
    document.set("collectionMethods", schema.collection_methods.clone());
    document
}

/// Four keys always; the others only when they say something.
fn field(field: &Field) -> Value {
    let mut said = Object::new();
    said.insert("type".into(), field.ty.to_string().into());
    let description = Some(field.description).filter(|text| !text.is_empty());
    said.insert("description".into(), description.into());
    said.insert("create".into(), field.create.into());
    said.insert("update".into(), field.update.into());
    said.insert("readOnCreateOnly".into(), field.read_on_create_only.into());
    for (name, set) in [("nullable", field.nullable), ("required", field.required), ("unique", field.unique)] {
        if set {
            said.insert(name.into(), true.into());
        }
    }
    let mut optional = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            said.insert(name.into(), value);
        }
    };
    optional("default", field.default.clone());
    optional("minLength", field.min_length.map(Value::from));
    optional("maxLength", field.max_length.map(Value::from));
    optional("min", field.min.map(Value::from));
    optional("max", field.max.map(Value::from));
    optional("options", field.options.clone().map(Value::from));
    optional("validChars", field.valid_chars.map(Value::from));
    optional("invalidChars", field.invalid_chars.map(Value::from));
    optional("transform", field.transform.map(Value::from));
    Value::Object(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::testing::{Plain, registry};

    #[test]
    fn a_type_says_what_is_set_and_nothing_else() {
        let registry = registry();
        let shown = |name: &str| {
            let schemas = registry.schemas(Role::Project);
            super::schema(schemas.get(name).expect("visible"), &Plain).to_value()
        };
        let horse = shown("horse");
        assert_eq!(
            horse["resourceFields"]["name"],
            json!({
                "type": "string", "description": "Name shown to people.", "create": true, "update": true,
                "readOnCreateOnly": false, "nullable": true, "required": true, "minLength": 2, "maxLength": 8,
                "validChars": "a-z-",
            })
        );
        assert_eq!(
            horse["resourceFields"]["sold"],
            json!({
                "type": "boolean", "description": null, "create": false, "update": false, "readOnCreateOnly": false,
                "maxLength": 255,
            })
        );
        assert_eq!(
            horse["resourceFields"]["state"]["options"],
            json!(["active", "creating", "removed", "removing", "requested"])
        );
        assert_eq!(horse["collectionFilters"]["breederId"], json!({ "modifiers": ["eq", "ne", "null", "notnull"] }));
        assert_eq!(horse["resourceActions"]["shoe"], json!({ "input": "shoeInput", "output": "horse" }));
        assert_eq!(horse["includeableLinks"], json!(["dam", "account", "foals"]));
        assert_eq!(horse["links"], json!({ "self": "http://h/v1/schemas/horse", "collection": "http://h/v1/horses" }));
        assert_eq!(shown("gear")["links"], json!({ "self": "http://h/v1/schemas/gear" }));
    }
}
