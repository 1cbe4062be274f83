//! Reading rows for one caller: every read goes through the caller's scope and the policy.

use std::collections::BTreeMap;

use remuda_schema::filter::{self, Condition, Operand, Test};
use remuda_schema::id::{Decoded, decode};
use remuda_schema::input::References;
use remuda_schema::{AnyRow, ApiError, Code, Schema};
use remuda_store::{Direction, Op, Query as Select, Read, Visibility};
use serde_json::Value;

use crate::call::Call;
use crate::failure::Failure;
use crate::policy::{self, Act};

/// The row of that number, if the caller may read it. Removed rows too.
pub fn by_number(read: &Read<'_>, call: &Call, schema: &Schema, number: i64) -> Result<Option<AnyRow>, Failure> {
    let Some(def) = call.def(schema.name).filter(|def| def.table().is_some()) else { return Ok(None) };
    let row = read.get_any(def, &policy::scope(&call.principal, schema.base), number)?;
    Ok(row.filter(|row| policy::decide(&call.principal, Act::Read, schema, Some(row)).is_ok()))
}

/// The same; 404 when there is none.
pub fn required(read: &Read<'_>, call: &Call, schema: &Schema, number: i64) -> Result<AnyRow, Failure> {
    by_number(read, call, schema, number)?.ok_or_else(|| ApiError::new(Code::NotFound).into())
}

/// Readable rows of a type by their numbers.
pub fn by_numbers(
    read: &Read<'_>,
    call: &Call,
    type_name: &str,
    numbers: impl IntoIterator<Item = i64>,
) -> Result<BTreeMap<i64, AnyRow>, Failure> {
    let mut numbers: Vec<i64> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let (Some(def), Some(schema)) = (call.def(type_name), call.schemas.get(type_name)) else {
        return Ok(BTreeMap::new());
    };
    if numbers.is_empty() || def.table().is_none() {
        return Ok(BTreeMap::new());
    }
    let query = Select::new().any_of("id", numbers).visibility(Visibility::All);
    let rows = read.list_any(def, &policy::scope(&call.principal, schema.base), &query)?;
    Ok(readable(call, schema, rows).map(|row| (row.meta.id, row)).collect())
}

/// Listed rows of a type whose field `by` is one of these numbers. The type may be one the caller does not see (maps).
pub fn children(
    read: &Read<'_>,
    call: &Call,
    of: &str,
    by: &str,
    parents: impl IntoIterator<Item = i64>,
) -> Result<Vec<AnyRow>, Failure> {
    let parents: Vec<i64> = parents.into_iter().collect();
    let Some(def) = call.def(of).filter(|def| def.table().is_some() && !parents.is_empty()) else {
        return Ok(Vec::new());
    };
    let base = call.schemas.base(of);
    let query = Select::new().any_of(by, parents).visibility(call.listed());
    let rows = read.list_any(def, &policy::scope(&call.principal, base), &query)?;
    Ok(match call.schemas.get(of) {
        Some(schema) => readable(call, schema, rows).collect(),
        None => rows,
    })
}

/// Live rows of a map type whose field `by` is one of these numbers: what was connected once is connected no more.
pub fn connections(
    read: &Read<'_>,
    call: &Call,
    through: &str,
    by: &str,
    parents: impl IntoIterator<Item = i64>,
) -> Result<Vec<AnyRow>, Failure> {
    let mut maps = children(read, call, through, by, parents)?;
    maps.retain(|map| map.meta.is_live());
    Ok(maps)
}

/// Those the policy lets the caller read.
pub fn readable<'c>(call: &'c Call, schema: &'c Schema, rows: Vec<AnyRow>) -> impl Iterator<Item = AnyRow> + 'c {
    rows.into_iter().filter(move |row| policy::decide(&call.principal, Act::Read, schema, Some(row)).is_ok())
}

/// A list request as the store takes it, one row more than the page so that the next page is known.
pub fn select(call: &Call, asked: &filter::Query) -> Select {
    let mut select = Select::new().visibility(call.listed()).offset(asked.offset);
    for condition in &asked.conditions {
        select = with_condition(select, condition);
    }
    if let Some(sort) = &asked.sort {
        let direction = if sort.descending { Direction::Descending } else { Direction::Ascending };
        select = select.sort(sort.field, direction);
    }
    match asked.limit {
        Some(limit) => select.limit(u64::from(limit) + 1),
        None => select,
    }
}

fn with_condition(select: Select, condition: &Condition) -> Select {
    let field = condition.field;
    let (op, value) = match &condition.test {
        Test::Eq(operand) => (Op::Eq, json(operand)),
        Test::Ne(operand) => (Op::Ne, json(operand)),
        Test::Lt(operand) => (Op::Lt, json(operand)),
        Test::Lte(operand) => (Op::Lte, json(operand)),
        Test::Gt(operand) => (Op::Gt, json(operand)),
        Test::Gte(operand) => (Op::Gte, json(operand)),
        Test::Prefix(text) => (Op::Prefix, Value::from(text.as_str())),
        Test::Like(text) => (Op::Like, Value::from(text.as_str())),
        Test::NotLike(text) => (Op::NotLike, Value::from(text.as_str())),
        Test::Null => (Op::Null, Value::Null),
        Test::NotNull => (Op::NotNull, Value::Null),
        // No row has one of no values.
        Test::Nothing => (Op::In, Value::Array(Vec::new())),
    };
    select.filter(field, op, value)
}

fn json(operand: &Operand) -> Value {
    match operand {
        Operand::Text(text) => Value::from(text.as_str()),
        Operand::Int(number) => Value::from(*number),
        Operand::Float(number) => Value::from(*number),
        Operand::Bool(truth) => Value::from(*truth),
    }
}

/// Types whose rows are found also when they are removed: the commands that take them look at their state and say
/// which service or stack it is (`services.md` §4.1 check 2, §10.1).
const FOUND_IN_ANY_STATE: [&str; 2] = ["environment", "service"];

/// Resolves references in input: live rows that the caller may read.
pub struct Resolver<'r, 'a> {
    pub read: &'r Read<'a>,
    pub call: &'r Call,
    /// The database failed while resolving; the references found invalid may be fine.
    pub failed: Option<Failure>,
}

impl<'r, 'a> Resolver<'r, 'a> {
    pub fn new(read: &'r Read<'a>, call: &'r Call) -> Resolver<'r, 'a> {
        Resolver { read, call, failed: None }
    }

    fn find(&self, ty: &str, public_id: &str) -> Result<Option<i64>, Failure> {
        let Some(Decoded::Number(number)) = decode(public_id) else { return Ok(None) };
        let (Some(def), Some(schema)) = (self.call.def(ty), self.call.schemas.get(ty)) else { return Ok(None) };
        if def.table().is_none() {
            return Ok(None);
        }
        let row = self.read.get_any(def, &policy::scope(&self.call.principal, schema.base), number)?;
        let is_usable = |row: &AnyRow| {
            (row.meta.is_live() || FOUND_IN_ANY_STATE.contains(&ty))
                && policy::decide(&self.call.principal, Act::Read, schema, Some(row)).is_ok()
        };
        Ok(row.filter(is_usable).map(|row| row.meta.id))
    }
}

impl References for Resolver<'_, '_> {
    fn resolve(&mut self, ty: &str, public_id: &str) -> Option<i64> {
        if self.failed.is_some() {
            return None;
        }
        match self.find(ty, public_id) {
            Ok(found) => found,
            Err(failure) => {
                self.failed = Some(failure);
                None
            }
        }
    }
}
