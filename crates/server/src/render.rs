//! From rows to answers: links, offered actions, embedded resources, collections (`api-conventions.md` §4, §5, §8.4).

use remuda_schema::declare::{Link, LinkKind};
use remuda_schema::filter;
use remuda_schema::output::{self, Document, Secrets};
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, Schema};
use remuda_store::Read;
use serde_json::{Value, json};

use crate::base_url::with_query;
use crate::call::Call;
use crate::failure::Failure;
use crate::lookup;
use crate::managers;
use crate::policy::{self, Act};
use crate::request::Query;

/// The resource as the caller sees it, shown as its most specific visible type.
pub fn resource(call: &Call, requested: &Schema, row: &AnyRow, secrets: Secrets) -> Result<Document, Failure> {
    let schema = call.schemas.shown_as(requested, &row.meta.kind);
    let row = managers::decorate(call, schema, row)?;
    let id = call.public_id(schema, row.meta.id);
    let links = links(call, schema, &row, &id);
    let actions = actions(call, schema, &row, &id);
    Ok(output::keyed_row(call.schemas, schema, Value::String(id), &row, links, actions, secrets))
}

/// Links of a resource: itself, what its fields refer to, its children, and what code answers.
pub fn links(call: &Call, schema: &Schema, row: &AnyRow, id: &str) -> Object {
    let mut links = Object::new();
    let url = |name: &str| Value::String(call.urls.link(&schema.plural, id, name));
    links.insert("self".into(), call.urls.resource(&schema.plural, id).into());
    for link in &schema.links {
        let target = match &link.kind {
            LinkKind::Reference { field, .. } => (!row.get(field).is_null()).then(|| url(link.name)),
            LinkKind::List { .. } | LinkKind::Children { .. } | LinkKind::Through { .. } => Some(url(link.name)),
            LinkKind::Computed => managers::computed_link(call, schema, link.name, row, id),
        };
        if let Some(target) = target {
            links.insert(link.name.to_owned(), target);
        }
    }
    if schema.name == "project" {
        let inside = call.urls.inside(id);
        for listed in call.schemas.iter().filter(|listed| listed.collection_allows("GET")) {
            links.entry(listed.plural.clone()).or_insert_with(|| inside.collection(&listed.plural).into());
        }
    }
    links
}

/// The actions offered now: the role has them, the state machine starts them here, and nothing else forbids it.
pub fn actions(call: &Call, schema: &Schema, row: &AnyRow, id: &str) -> Object {
    schema
        .actions
        .iter()
        .filter(|action| is_offered(call, schema, row, action.name))
        .map(|action| (action.name.to_owned(), call.urls.action(&schema.plural, id, action.name).into()))
        .collect()
}

/// Whether that action of the schema is offered on that row.
pub fn is_offered(call: &Call, schema: &Schema, row: &AnyRow, action: &str) -> bool {
    if policy::decide(&call.principal, Act::Action(action), schema, Some(row)).is_err() {
        return false;
    }
    let by_state = match schema.machine {
        Some(machine) if machine.has(action) => machine.start(action, &row.meta.state).is_some(),
        _ => managers::handler_offered(schema, row, action),
    };
    by_state && call.def(schema.name).is_some_and(|def| remuda_orchestrator::commands::offered(def, row, action))
}

/// Resources with what their `include`s lead to, one query per link.
pub fn resources(
    read: &Read<'_>,
    call: &Call,
    requested: &Schema,
    rows: &[AnyRow],
    include: &[&str],
) -> Result<Vec<Document>, Failure> {
    let mut documents =
        rows.iter().map(|row| resource(call, requested, row, Secrets::Masked)).collect::<Result<Vec<_>, _>>()?;
    for name in include {
        let Some(link) = requested.link(name) else { continue };
        embed(read, call, link, rows, &mut documents)?;
    }
    Ok(documents)
}

fn embed(
    read: &Read<'_>,
    call: &Call,
    link: &Link,
    rows: &[AnyRow],
    documents: &mut [Document],
) -> Result<(), Failure> {
    let shown = |target: &str, row: &AnyRow| match call.schemas.get(target) {
        Some(schema) => resource(call, schema, row, Secrets::Masked).map(Some),
        None => Ok(None),
    };
    match &link.kind {
        LinkKind::Reference { field, to } | LinkKind::List { field, to } => {
            let linked = lookup::by_numbers(read, call, to, rows.iter().filter_map(|row| row.get(field).as_i64()))?;
            for (row, document) in rows.iter().zip(documents) {
                let found = row.get(field).as_i64().and_then(|id| linked.get(&id));
                let found = found.map_or(Ok(None), |row| shown(to, row))?;
                match link.kind {
                    LinkKind::List { .. } => document.embed_many(link.name, found.into_iter().collect()),
                    _ => document.embed_one(link.name, found),
                }
            }
        }
        LinkKind::Children { of, by } => {
            let children = lookup::children(read, call, of, by, rows.iter().map(|row| row.meta.id))?;
            for (row, document) in rows.iter().zip(documents) {
                let mut linked = Vec::new();
                for child in children.iter().filter(|child| child.get(by) == row.meta.id) {
                    linked.extend(shown(of, child)?);
                }
                document.embed_many(link.name, linked);
            }
        }
        LinkKind::Through { to, through, from, via } => {
            let maps = lookup::connections(read, call, through, from, rows.iter().map(|row| row.meta.id))?;
            let linked = lookup::by_numbers(read, call, to, maps.iter().filter_map(|map| map.get(via).as_i64()))?;
            for (row, document) in rows.iter().zip(documents) {
                let mut found = Vec::new();
                for map in maps.iter().filter(|map| map.get(from) == row.meta.id) {
                    if let Some(target) = map.get(via).as_i64().and_then(|id| linked.get(&id)) {
                        found.extend(shown(to, target)?);
                    }
                }
                document.embed_many(link.name, found);
            }
        }
        LinkKind::Computed => {}
    }
    Ok(())
}

/// What a page of a list was asked with and whether more follows.
pub struct Page<'q> {
    pub asked: &'q filter::Query,
    pub query: &'q Query,
    pub has_more: bool,
}

/// The envelope of a list read straight from one table.
pub fn collection(call: &Call, schema: &Schema, url: &str, data: Vec<Document>, page: &Page<'_>) -> Document {
    let mut document = envelope(call, schema, url);
    let bare = page.query.without(&["sort", "order", "marker"]);
    let sort_links: Object = schema
        .filters
        .keys()
        .map(|name| ((*name).to_owned(), with_query(url, &bare.clone().with("sort", name)).into()))
        .collect();
    document.set("sortLinks", sort_links);
    let next = page.has_more.then(|| {
        let offset = page.asked.offset + page.asked.limit.map_or(0, u64::from);
        with_query(url, &page.query.without(&["marker"]).with("marker", &format!("m{offset}")))
    });
    document.set(
        "pagination",
        json!({ "first": null, "previous": null, "next": next, "limit": page.asked.limit, "total": null, "partial": page.has_more }),
    );
    if let Some(sort) = &page.asked.sort {
        let (order, flipped) = if sort.descending { ("desc", "asc") } else { ("asc", "desc") };
        let reverse = with_query(url, &page.query.without(&["order", "marker"]).with("order", flipped));
        document.set("sort", json!({ "name": sort.field, "order": order, "reverse": reverse }));
    }
    let mut filters: Object = schema.filters.keys().map(|name| ((*name).to_owned(), Value::Null)).collect();
    for (name, modifier, value) in &page.asked.applied {
        let condition = json!({ "value": value, "modifier": modifier });
        match filters.get_mut(*name) {
            Some(Value::Array(conditions)) => conditions.push(condition),
            _ => drop(filters.insert((*name).to_owned(), json!([condition]))),
        }
    }
    document.set("filters", filters);
    document.embed_many("data", data);
    document
}

/// The envelope of a list that is not a page of one table: link targets, projects, schemas, identities.
pub fn plain_collection(call: &Call, schema: &Schema, url: &str, data: Vec<Document>) -> Document {
    let mut document = envelope(call, schema, url);
    document.embed_many("data", data);
    document
}

/// The rows a link leads to: filters are named but never applied.
pub fn link_collection(
    call: &Call,
    schema: &Schema,
    url: &str,
    data: Vec<Document>,
    preset: Option<(&str, String)>,
) -> Document {
    let mut document = envelope(call, schema, url);
    document.set("filters", schema.filters.keys().map(|name| ((*name).to_owned(), Value::Null)).collect::<Object>());
    if let Some((field, id)) = preset.filter(|_| schema.collection_allows("POST")) {
        document.set("createDefaults", json!({ field: id }));
    }
    document.embed_many("data", data);
    document
}

fn envelope(call: &Call, schema: &Schema, url: &str) -> Document {
    let create_types: Object = schema
        .create_types
        .iter()
        .map(|(name, plural)| ((*name).to_owned(), call.urls.collection(plural).into()))
        .collect();
    let mut document = Document::new();
    document.set("type", "collection");
    document.set("resourceType", schema.name);
    document.set("links", json!({ "self": url }));
    document.set("createTypes", create_types);
    document.set("actions", json!({}));
    document.embed_many("data", Vec::new());
    document.set("sortLinks", json!({}));
    document.set("pagination", Value::Null);
    document.set("sort", Value::Null);
    document.set("filters", json!({}));
    document.set("createDefaults", json!({}));
    document
}

/// A resource without a row: a computed answer of type `name`, if the caller sees that type.
pub fn value(call: &Call, name: &str, data: &Object) -> Document {
    match call.schemas.get(name) {
        Some(schema) => output::value(call.schemas, schema, Value::Null, data, Object::new(), Object::new()),
        // Answers of actions may be of types the role cannot name; the fields are what matters.
        None => {
            let mut document = Document::new();
            document.set("id", Value::Null);
            document.set("type", name);
            document.set("links", json!({}));
            document.set("actions", json!({}));
            for (name, value) in data {
                document.set(name, value.clone());
            }
            document
        }
    }
}

/// What a link of a row leads to, as an answer of its own.
pub fn follow(
    read: &Read<'_>,
    call: &Call,
    schema: &Schema,
    row: &AnyRow,
    link: &Link,
) -> Result<Option<Document>, Failure> {
    let id = call.public_id(schema, row.meta.id);
    let url = call.urls.link(&schema.plural, &id, link.name);
    let target = |name: &str| call.schemas.get(name);
    match &link.kind {
        LinkKind::Reference { field, to } => {
            let (Some(number), Some(schema)) = (row.get(field).as_i64(), target(to)) else { return Ok(None) };
            match lookup::by_number(read, call, schema, number)? {
                Some(row) => Ok(Some(resource(call, schema, &row, Secrets::Masked)?)),
                None => Ok(None),
            }
        }
        LinkKind::List { field, to } => {
            let Some(schema) = target(to) else { return Ok(None) };
            let rows = lookup::by_numbers(read, call, to, row.get(field).as_i64())?;
            let data =
                rows.values().map(|row| resource(call, schema, row, Secrets::Masked)).collect::<Result<_, _>>()?;
            Ok(Some(link_collection(call, schema, &url, data, None)))
        }
        LinkKind::Children { of, by } => {
            let Some(schema) = target(of) else { return Ok(None) };
            let rows = lookup::children(read, call, of, by, [row.meta.id])?;
            let data = rows.iter().map(|row| resource(call, schema, row, Secrets::Masked)).collect::<Result<_, _>>()?;
            Ok(Some(link_collection(call, schema, &url, data, Some((by, id)))))
        }
        LinkKind::Through { to, through, from, via } => {
            let Some(schema) = target(to) else { return Ok(None) };
            let maps = lookup::connections(read, call, through, from, [row.meta.id])?;
            let linked = lookup::by_numbers(read, call, to, maps.iter().filter_map(|map| map.get(via).as_i64()))?;
            let data =
                linked.values().map(|row| resource(call, schema, row, Secrets::Masked)).collect::<Result<_, _>>()?;
            Ok(Some(link_collection(call, schema, &url, data, None)))
        }
        LinkKind::Computed => Ok(None),
    }
}

/// Every version of the API, for programs that ask `/`.
pub fn versions(call: &Call) -> Document {
    let mut document = Document::new();
    document.set("type", "collection");
    document.set("resourceType", "apiVersion");
    document.set(
        "links",
        json!({ "latest": format!("{}/v1", call.urls.origin), "self": format!("{}/", call.urls.origin) }),
    );
    document.set("createTypes", json!({}));
    document.set("actions", json!({}));
    document.embed_many("data", vec![version(call)]);
    document.set("sortLinks", json!({}));
    document.set("pagination", Value::Null);
    document.set("sort", Value::Null);
    document.set("filters", json!({}));
    document.set("createDefaults", json!({}));
    document
}

/// `/v1`: one link per type the caller may list.
pub fn version(call: &Call) -> Document {
    let mut links = Object::new();
    links.insert("self".into(), call.urls.version().into());
    for schema in call.schemas.iter().filter(|schema| schema.collection_allows("GET")) {
        links.insert(schema.plural.clone(), call.urls.collection(&schema.plural).into());
    }
    let mut document = Document::new();
    document.set("id", "v1");
    document.set("type", "apiVersion");
    document.set("links", links);
    document.set("actions", json!({}));
    document
}
