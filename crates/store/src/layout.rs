//! Which tables there are and what the fields of each type are in SQL: read off the registry once, at open.
//!
//! Every table has the same columns ([`COLUMNS`]); what a type adds lives in the JSON column `body`. A column per field
//! was rejected: a new field would be a migration, and lists read whole rows anyway. Fields that lists are filtered by
//! get an index on the expression the filter uses.

use std::collections::{BTreeMap, BTreeSet};

use remuda_schema::{LinkKind, Registry, Type, TypeDef};

use crate::error::{Error, OpenError};

/// The columns of every row table, in the order every row is read in.
pub(crate) const COLUMNS: &str =
    "id, kind, account_id, uuid, name, state, created, removed, remove_time, revision, body";

/// Tables of the store itself, made by migrations.
const RESERVED: &[&str] = &["migration", "head", "durable", "change", "claim", "lease", "counter", "meta"];

/// Text fields that rows are looked up by, beside references.
const LOOKUP_FIELDS: &[&str] = &["externalId", "publicValue", "deploymentUnitUuid"];

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// How a field compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Int,
    Real,
    Bool,
    Text,
    /// Decided by the value that is compared with.
    Value,
}

/// All tables and types.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) tables: BTreeMap<&'static str, Table>,
    types: BTreeMap<&'static str, TypeLayout>,
}

/// One row table with its prepared texts.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Fields indexed by expression.
    indexed: BTreeMap<&'static str, Class>,
    pub(crate) insert: String,
    pub(crate) insert_numbered: String,
    pub(crate) update: String,
    pub(crate) update_written: String,
    pub(crate) delete: String,
    pub(crate) locate: String,
}

/// One type with rows.
#[derive(Debug)]
pub(crate) struct TypeLayout {
    pub(crate) name: &'static str,
    pub(crate) table: &'static str,
    /// The kinds of its rows; `None` when every row of the table is one.
    pub(crate) kinds: Option<Vec<&'static str>>,
    /// Kinds of it with fields of their own: written as this type, such a row must keep them.
    pub(crate) richer: BTreeSet<&'static str>,
    /// Rows may say `isPublic`.
    pub(crate) may_be_public: bool,
    classes: BTreeMap<&'static str, Class>,
}

impl Layout {
    pub(crate) fn new(registry: &'static Registry, dialect: Dialect) -> Result<Layout, OpenError> {
        let mut tables: BTreeMap<&'static str, Table> = BTreeMap::new();
        let mut types: BTreeMap<&'static str, TypeLayout> = BTreeMap::new();
        for def in registry.types() {
            let Some(name) = def.table() else { continue };
            if RESERVED.contains(&name) {
                return Err(OpenError::ReservedTable { type_name: def.name, table: name });
            }
            let table = tables.entry(name).or_insert_with(|| Table::new(name, dialect));
            let mut classes = BTreeMap::new();
            for field in &def.fields {
                let class = match &field.ty {
                    // What has no rows is known by a key, not by a number: identities.
                    Type::Reference(to) if registry.get(to).is_none_or(|to| to.table().is_none()) => Class::Text,
                    ty => Class::of(ty),
                };
                classes.insert(field.name, class);
                let reference = field.filter && matches!(field.ty, Type::Reference(_));
                if (reference || LOOKUP_FIELDS.contains(&field.name)) && column(field.name).is_none() {
                    table.indexed.insert(field.name, class);
                }
            }
            let of_type: BTreeSet<&'static str> =
                registry.subtypes(def.name).into_iter().map(|sub| sub.name).chain([def.name]).collect();
            let others = registry.types().any(|other| other.table() == Some(name) && !of_type.contains(other.name));
            let kinds = others.then(|| of_type.into_iter().collect());
            let own = |sub: &&TypeDef| sub.fields.iter().any(|field| def.field(field.name).is_none());
            let richer = registry.subtypes(def.name).into_iter().filter(own).map(|sub| sub.name).collect();
            let may_be_public = def.field("isPublic").is_some();
            types.insert(def.name, TypeLayout { name: def.name, table: name, kinds, richer, may_be_public, classes });
        }
        // What links lead through is looked up too.
        for link in registry.types().flat_map(|def| &def.links) {
            let fields = match link.kind {
                LinkKind::Children { of, by } => vec![(of, by)],
                LinkKind::Through { through, from, via, .. } => vec![(through, from), (through, via)],
                LinkKind::Reference { .. } | LinkKind::List { .. } | LinkKind::Computed => vec![],
            };
            for (of, field) in fields {
                let Some(layout) = types.get(of) else { continue };
                if let Some(table) = tables.get_mut(layout.table)
                    && column(field).is_none()
                    && layout.declares(field)
                {
                    table.indexed.insert(field, layout.class(field));
                }
            }
        }
        Ok(Layout { tables, types })
    }

    pub(crate) fn of(&self, type_name: &str) -> Result<&TypeLayout, Error> {
        self.types.get(type_name).ok_or_else(|| Error::UnknownType(type_name.to_owned()))
    }

    pub(crate) fn table(&self, name: &str) -> Result<&Table, Error> {
        self.tables.get(name).ok_or_else(|| Error::UnknownType(name.to_owned()))
    }

    /// Statements that bring a table into being, each with the name of what it makes. All can be repeated.
    pub(crate) fn statements(&self, dialect: Dialect) -> Vec<(String, String)> {
        self.tables.values().flat_map(|table| table.statements(dialect)).collect()
    }
}

impl Table {
    fn new(name: &'static str, dialect: Dialect) -> Table {
        let differs = match dialect {
            Dialect::Sqlite => "IS NOT",
            Dialect::Postgres => "IS DISTINCT FROM",
        };
        let changed = ["kind", "account_id", "name", "state", "removed", "remove_time", "body"]
            .iter()
            .zip(1..)
            .map(|(column, number)| format!("{column} {differs} ${number}"))
            .collect::<Vec<_>>()
            .join(" OR ");
        let update = format!(
            "UPDATE \"{name}\" SET kind = $1, account_id = $2, name = $3, state = $4, removed = $5, remove_time = $6, \
             body = $7, revision = revision + 1 WHERE id = $8 AND ({changed})"
        );
        let values = "VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9";
        let rest = "revision, kind, account_id, uuid, name, state, created, removed, remove_time, body";
        let once = "ON CONFLICT (uuid) DO NOTHING RETURNING id";
        Table {
            name,
            indexed: BTreeMap::new(),
            insert: format!("INSERT INTO \"{name}\" ({rest}) {values}) {once}"),
            insert_numbered: format!(
                "INSERT INTO \"{name}\" ({rest}, id) {values}, $10) ON CONFLICT DO NOTHING RETURNING id"
            ),
            update_written: update.clone(),
            update: format!("{update} AND revision = $9"),
            delete: format!("DELETE FROM \"{name}\" WHERE id = $1 RETURNING kind, account_id"),
            locate: format!("SELECT revision FROM \"{name}\" WHERE id = $1"),
        }
    }

    fn statements(&self, dialect: Dialect) -> Vec<(String, String)> {
        let name = self.name;
        let (number, int, text, json, strict) = match dialect {
            Dialect::Sqlite => ("INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER", "TEXT", "TEXT", "STRICT"),
            Dialect::Postgres => ("BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "BIGINT", "TEXT", "JSONB", ""),
        };
        let table = format!(
            "CREATE TABLE IF NOT EXISTS \"{name}\" (id {number}, kind {text} NOT NULL, account_id {int}, uuid {text} \
             NOT NULL, name {text}, state {text} NOT NULL, created {int} NOT NULL, removed {int}, remove_time {int}, \
             revision {int} NOT NULL, body {json} NOT NULL) {strict}"
        );
        let mut statements = vec![(name.to_owned(), table)];
        let mut index = |what: &str, unique: &str, on: &str| {
            let index = format!("{name}_{what}");
            let statement = format!("CREATE {unique} INDEX IF NOT EXISTS \"{index}\" ON \"{name}\" {on}");
            statements.push((index, statement));
        };
        index("uuid", "UNIQUE", "(uuid)");
        // All that decides whether a row is on somebody's list: a page far down is found without reading the rows before.
        index("listed", "", "(account_id, id, kind, removed, remove_time)");
        index("purged", "", "(remove_time) WHERE state = 'purged'");
        for (field, class) in &self.indexed {
            // The class is part of the name: a field whose type changes gets a new index.
            let suffix = format!("{field}_{}", format!("{class:?}").to_ascii_lowercase());
            index(&suffix, "", &format!("(({}))", body_expression(field, *class, dialect)));
        }
        statements
    }
}

impl TypeLayout {
    /// Whether the type declares that field.
    pub(crate) fn declares(&self, field: &str) -> bool {
        self.classes.contains_key(field)
    }

    /// How a field of this type compares; undeclared ones as their values.
    pub(crate) fn class(&self, field: &str) -> Class {
        self.classes.get(field).copied().unwrap_or(Class::Value)
    }
}

impl Class {
    fn of(ty: &Type) -> Class {
        match ty {
            Type::Int | Type::Date | Type::Reference(_) => Class::Int,
            Type::Float => Class::Real,
            Type::Boolean => Class::Bool,
            Type::String | Type::Password | Type::Enum | Type::Blob => Class::Text,
            _ => Class::Value,
        }
    }
}

/// The column that holds a common field, and how it compares.
pub(crate) fn column(field: &str) -> Option<(&'static str, Class)> {
    Some(match field {
        "id" => ("id", Class::Int),
        "kind" => ("kind", Class::Text),
        "accountId" => ("account_id", Class::Int),
        "uuid" => ("uuid", Class::Text),
        "name" => ("name", Class::Text),
        "state" => ("state", Class::Text),
        "created" => ("created", Class::Int),
        "removed" => ("removed", Class::Int),
        "removeTime" => ("remove_time", Class::Int),
        "revision" => ("revision", Class::Int),
        _ => return None,
    })
}

/// The value of a field of the body. The caller has checked that `field` is a plain name.
pub(crate) fn body_expression(field: &str, class: Class, dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => format!("json_extract(body, '$.\"{field}\"')"),
        // A value of another JSON type than declared reads as no value instead of failing the statement.
        Dialect::Postgres => {
            let cast = |json: &str, sql: &str| {
                format!("CASE jsonb_typeof(body->'{field}') WHEN '{json}' THEN (body->>'{field}')::{sql} END")
            };
            match class {
                Class::Int => cast("number", "bigint"),
                Class::Real => cast("number", "double precision"),
                Class::Bool => cast("boolean", "boolean"),
                Class::Text | Class::Value => format!("body->>'{field}'"),
            }
        }
    }
}

/// Whether a name can stand in a statement: letters, digits, `_`, `-` and `.` only.
pub(crate) fn is_plain(field: &str) -> bool {
    !field.is_empty() && field.chars().all(|ch| ch.is_ascii_alphanumeric() || matches!(ch, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Query, Scope};
    use crate::select::{self, Want};

    /// The expression of a filter and that of its index must be the same to the letter, or the index is dead weight.
    #[test]
    fn lookups_use_their_indexes() {
        let layout = Layout::new(remuda_model::registry(), Dialect::Sqlite).expect("the layout fits");
        let database = rusqlite::Connection::open_in_memory().expect("a database");
        for (_, statement) in layout.statements(Dialect::Sqlite) {
            database.execute_batch(&statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        let mut checked = 0;
        for of in layout.types.values() {
            for field in layout.tables[of.table].indexed.keys().filter(|field| of.declares(field)) {
                let query = Query::new().eq(*field, 1);
                let statement =
                    select::select(of, Dialect::Sqlite, &Scope::Everything, &query, Want::Rows).expect("sql");
                let mut plan = database.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.text)).expect("a plan");
                let steps: Vec<String> = plan
                    .query_map(rusqlite::params_from_iter(&statement.params), |row| row.get(3))
                    .and_then(Iterator::collect)
                    .expect("a plan");
                assert!(
                    steps.iter().any(|step| step.contains(&format!("{}_{field}_", of.table))),
                    "{field}: {steps:?}"
                );
                checked += 1;
            }
        }
        assert!(checked > 20, "{checked}");
    }

    #[test]
    fn only_plain_names_reach_a_statement() {
        for (name, plain) in
            [("hostId", true), ("a-b.c_1", true), ("", false), ("a'b", false), ("a\"b", false), ("a b", false)]
        {
            assert_eq!(is_plain(name), plain, "{name}");
        }
    }
}
