//! `/v1/schemas` and the descriptions the API browser shows.

use remuda_schema::output::Document;
use remuda_schema::{ApiError, Code, Schema, document};
use serde_json::{Value, json};

use crate::call::Call;
use crate::failure::Failure;
use crate::render;

/// Every type the caller sees. Complete in one answer: clients keep it for as long as they run.
pub fn list(call: &Call, schema: &Schema) -> Document {
    let url = call.urls.schemas();
    let data = call.schemas.iter().map(|schema| document::schema(schema, &call.urls)).collect();
    render::plain_collection(call, schema, &url, data)
}

/// One type, by id or plural in any case.
pub fn one(call: &Call, id: &str) -> Result<Document, Failure> {
    let found = call.find(id).ok_or_else(|| ApiError::new(Code::NotFound))?;
    Ok(document::schema(found, &call.urls))
}

pub fn documentation_list(call: &Call, schema: &Schema) -> Document {
    let url = call.urls.collection(&schema.plural);
    let data = call.schemas.iter().map(|described| documentation(call, described)).collect();
    render::plain_collection(call, schema, &url, data)
}

pub fn documentation_one(call: &Call, id: &str) -> Result<Document, Failure> {
    let found = call.find(id).ok_or_else(|| ApiError::new(Code::NotFound))?;
    Ok(documentation(call, found))
}

fn documentation(call: &Call, schema: &Schema) -> Document {
    let fields: Value = schema
        .fields
        .values()
        .map(|field| {
            ((*field.name).to_owned(), json!({ "type": "fieldDocumentation", "description": field.description }))
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut document = Document::new();
    document.set("id", schema.name);
    document.set("type", "typeDocumentation");
    document.set("links", json!({ "self": call.urls.resource("typeDocumentations", schema.name) }));
    document.set("actions", json!({}));
    document.set("description", schema.description);
    document.set("resourceFields", fields);
    document
}
