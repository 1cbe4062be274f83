//! GET: versions, lists, single resources, links.

use remuda_schema::output::Document;
use remuda_schema::{ApiError, Code, Schema, filter};
use remuda_store::{Direction, Read};

use crate::call::Call;
use crate::failure::Failure;
use crate::lookup;
use crate::managers::{self, Answer};
use crate::policy::{self, Act};
use crate::render::{self, Page};

/// Answers a GET.
pub fn get(read: &Read<'_>, call: &Call) -> Result<Document, Failure> {
    if call.path.type_name.is_none() {
        return Ok(render::version(call));
    }
    let schema = call.schema()?;
    if call.path.id.is_none() {
        policy::decide(&call.principal, Act::List, schema, None)?;
        return list(read, call, schema);
    }
    policy::decide(&call.principal, Act::Read, schema, None)?;
    if call.path.beyond {
        return Err(ApiError::new(Code::NotFound).into());
    }
    match &call.path.link {
        None => one(read, call, schema),
        Some(link) => follow(read, call, schema, link),
    }
}

fn list(read: &Read<'_>, call: &Call, schema: &'static Schema) -> Result<Document, Failure> {
    let mut asked = filter::parse(schema, call.pairs());
    managers::fold_case(schema, &mut asked);
    if let Answer::Given(document) = managers::list(read, call, schema, &asked)? {
        return Ok(document);
    }
    let url = call.self_url(schema);
    let Some(def) = call.def(schema.name).filter(|def| def.table().is_some()) else {
        return Ok(render::plain_collection(call, schema, &url, Vec::new()));
    };
    let mut select = lookup::select(call, &asked);
    if schema.name == "auditLog" && asked.sort.is_none() {
        select = select.sort("id", Direction::Descending);
    }
    let scope = managers::list_scope(call, schema, &asked);
    let mut rows = read.list_any(def, &scope, &select)?;
    let has_more = asked.limit.is_some_and(|limit| rows.len() > limit as usize);
    if let Some(limit) = asked.limit {
        rows.truncate(limit as usize);
    }
    let rows: Vec<_> = lookup::readable(call, schema, rows).collect();
    let data = render::resources(read, call, schema, &rows, &asked.include)?;
    Ok(render::collection(call, schema, &url, data, &Page { asked: &asked, query: &call.query, has_more }))
}

fn one(read: &Read<'_>, call: &Call, schema: &'static Schema) -> Result<Document, Failure> {
    if let Answer::Given(document) = managers::one(read, call, schema)? {
        return Ok(document);
    }
    let row = lookup::required(read, call, schema, call.path_number()?)?;
    let include = filter::includes(schema, call.pairs());
    let mut documents = render::resources(read, call, schema, std::slice::from_ref(&row), &include)?;
    documents.pop().ok_or_else(|| ApiError::new(Code::NotFound).into())
}

fn follow(read: &Read<'_>, call: &Call, schema: &'static Schema, link: &str) -> Result<Document, Failure> {
    let not_found = || Failure::from(ApiError::new(Code::NotFound));
    if call.def(schema.name).is_none_or(|def| def.table().is_none()) {
        return Err(not_found());
    }
    let row = lookup::required(read, call, schema, call.path_number()?)?;
    // A container asked for as an instance has the links of a container.
    let shown = call.schemas.shown_as(schema, &row.meta.kind);
    let link = shown.link(link).or_else(|| schema.link(link)).ok_or_else(not_found)?;
    let document = match render::follow(read, call, shown, &row, link)? {
        Some(document) => Some(document),
        None => managers::follow_computed(read, call, shown, &row, link.name)?,
    };
    document.ok_or_else(not_found)
}
