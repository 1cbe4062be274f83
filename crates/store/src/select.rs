//! The text of reading statements: scope, filters, visibility and order become `WHERE` and `ORDER BY`.

use serde_json::Value;

use crate::error::Error;
use crate::layout::{COLUMNS, Class, Dialect, TypeLayout, body_expression, column, is_plain};
use crate::param::Param;
use crate::query::{Direction, Filter, Op, Query, Scope, Visibility};

/// A statement with its values.
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) params: Vec<Param<'static>>,
}

/// What is read of the matching rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Rows,
    Count,
}

struct Builder<'t> {
    of: &'t TypeLayout,
    dialect: Dialect,
    text: String,
    params: Vec<Param<'static>>,
}

/// One row by number, if the scope admits it; removed rows too.
pub(crate) fn by_number(of: &TypeLayout, dialect: Dialect, scope: &Scope, id: i64) -> Statement {
    let mut builder = Builder::new(of, dialect, COLUMNS);
    builder.push("id = ", Param::Int(id));
    builder.scope(scope);
    builder.done()
}

/// The rows a query matches.
pub(crate) fn select(
    of: &TypeLayout,
    dialect: Dialect,
    scope: &Scope,
    query: &Query,
    want: Want,
) -> Result<Statement, Error> {
    let mut builder = Builder::new(of, dialect, if want == Want::Rows { COLUMNS } else { "count(*)" });
    builder.text.push_str("1 = 1");
    builder.scope(scope);
    builder.visibility(query.visibility);
    for filter in &query.filters {
        builder.filter(filter)?;
    }
    if want == Want::Rows {
        builder.page(query)?;
    }
    Ok(builder.done())
}

impl<'t> Builder<'t> {
    fn new(of: &'t TypeLayout, dialect: Dialect, what: &str) -> Builder<'t> {
        let text = format!("SELECT {what} FROM \"{}\" WHERE ", of.table);
        Builder { of, dialect, text, params: Vec::new() }
    }

    fn done(self) -> Statement {
        Statement { text: self.text, params: self.params }
    }

    /// Appends `before` and a placeholder for `param`. Placeholders are numbered in the order they appear.
    fn push(&mut self, before: &str, param: Param<'static>) {
        self.params.push(param);
        self.text.push_str(before);
        self.text.push('$');
        self.text.push_str(&self.params.len().to_string());
    }

    /// Appends a test for being one of the values of an array parameter.
    fn push_any(&mut self, expression: &str, array: Param<'static>) {
        match self.dialect {
            Dialect::Sqlite => {
                self.push(&format!("{expression} IN (SELECT value FROM json_each("), array);
                self.text.push_str("))");
            }
            Dialect::Postgres => {
                self.push(&format!("{expression} = ANY("), array);
                self.text.push(')');
            }
        }
    }

    /// Kind and scope: the rows of the type that the caller may see.
    fn scope(&mut self, scope: &Scope) {
        if let Some(kinds) = &self.of.kinds {
            // Names of types from declarations: plain words.
            self.text.push_str(" AND kind IN ('");
            self.text.push_str(&kinds.join("', '"));
            self.text.push_str("')");
        }
        match scope {
            Scope::Everything => {}
            Scope::Account(account) => {
                self.push(" AND (account_id = ", Param::Int(*account));
                if self.of.may_be_public {
                    let public = body_expression("isPublic", Class::Bool, self.dialect);
                    self.text.push_str(" OR ");
                    self.text.push_str(&public);
                }
                self.text.push(')');
            }
            Scope::Rows(ids) => {
                self.text.push_str(" AND ");
                self.push_any("id", Param::Ints(ids.iter().copied().map(Some).collect()));
            }
        }
    }

    fn visibility(&mut self, visibility: Visibility) {
        match visibility {
            Visibility::All => {}
            Visibility::Live => self.text.push_str(" AND removed IS NULL"),
            Visibility::Listed { now, removed_for_ms } => {
                let since = now.0.saturating_sub(removed_for_ms);
                self.push(" AND (removed IS NULL OR removed > ", Param::Int(since));
                self.push(") AND (remove_time IS NULL OR remove_time > ", Param::Int(now.0));
                self.text.push(')');
            }
        }
    }

    /// The expression of a field, and how it compares (with `value`).
    fn field(&self, field: &str, value: &Value) -> Result<(String, Class), Error> {
        if let Some((column, class)) = column(field) {
            return Ok((column.to_owned(), class));
        }
        if !is_plain(field) {
            return Err(Error::Query { field: field.to_owned(), reason: "it is not the name of a field" });
        }
        let class = match (self.of.class(field), value) {
            (Class::Value, Value::Bool(_)) => Class::Bool,
            (Class::Value, Value::Number(number)) if number.is_i64() => Class::Int,
            (Class::Value, Value::Number(_)) => Class::Real,
            (Class::Value, Value::Array(values)) => match values.first() {
                Some(Value::Bool(_)) => Class::Bool,
                Some(Value::Number(number)) if number.is_i64() => Class::Int,
                Some(Value::Number(_)) => Class::Real,
                _ => Class::Text,
            },
            (Class::Value, _) => Class::Text,
            (declared, _) => declared,
        };
        Ok((body_expression(field, class, self.dialect), class))
    }

    fn filter(&mut self, filter: &Filter) -> Result<(), Error> {
        let (expression, class) = self.field(&filter.field, &filter.value)?;
        self.text.push_str(" AND ");
        match filter.op {
            Op::Null => self.text.push_str(&format!("{expression} IS NULL")),
            Op::NotNull => self.text.push_str(&format!("{expression} IS NOT NULL")),
            Op::Eq => self.compare(&expression, "=", scalar(&filter.value, class)),
            Op::Lt => self.compare(&expression, "<", scalar(&filter.value, class)),
            Op::Lte => self.compare(&expression, "<=", scalar(&filter.value, class)),
            Op::Gt => self.compare(&expression, ">", scalar(&filter.value, class)),
            Op::Gte => self.compare(&expression, ">=", scalar(&filter.value, class)),
            Op::Ne => match scalar(&filter.value, class) {
                Some(value) => self.compare(&expression, "<>", Some(value)),
                // Something that no value of this type equals; comparing with null matches nothing.
                None if filter.value.is_null() => self.text.push_str("1 = 0"),
                None => self.text.push_str(&format!("{expression} IS NOT NULL")),
            },
            Op::Prefix | Op::Like | Op::NotLike => {
                let Value::String(pattern) = &filter.value else {
                    return Err(Error::Query { field: filter.field.clone(), reason: "a pattern is a text" });
                };
                if class != Class::Text {
                    return Err(Error::Query { field: filter.field.clone(), reason: "only texts match patterns" });
                }
                let pattern = if filter.op == Op::Prefix { prefix_pattern(pattern) } else { whole_pattern(pattern) };
                let not = if filter.op == Op::NotLike { "NOT " } else { "" };
                let like = match self.dialect {
                    Dialect::Sqlite => "LIKE",
                    Dialect::Postgres => "ILIKE",
                };
                self.push(&format!("{expression} {not}{like} "), Param::Text(pattern.into()));
                self.text.push_str(" ESCAPE '\\'");
            }
            Op::In => {
                let Value::Array(values) = &filter.value else {
                    return Err(Error::Query { field: filter.field.clone(), reason: "`in` compares with an array" });
                };
                let values = values.iter().filter_map(|value| scalar(value, class));
                self.push_any(&expression, array(class, values));
            }
        }
        Ok(())
    }

    fn compare(&mut self, expression: &str, sign: &str, value: Option<Param<'static>>) {
        match value {
            Some(value) => self.push(&format!("{expression} {sign} "), value),
            None => self.text.push_str("1 = 0"),
        }
    }

    /// Order, offset and limit.
    fn page(&mut self, query: &Query) -> Result<(), Error> {
        let limit = |count: u64| Param::Int(i64::try_from(count).unwrap_or(i64::MAX));
        if query.sort.is_none() && query.offset > 0 {
            // Where the page begins is found among numbers alone, which an index gives; counting off whole rows would
            // read all of them.
            let (table, conditions) = (self.of.table, self.text.split_once(" WHERE ").map_or("", |(_, rest)| rest));
            let first =
                format!(" AND id >= (SELECT id FROM \"{table}\" WHERE {conditions} ORDER BY id LIMIT 1 OFFSET ");
            self.push(&first, limit(query.offset));
            self.text.push_str(") ORDER BY id");
            if let Some(count) = query.limit {
                self.push(" LIMIT ", limit(count));
            }
            return Ok(());
        }
        self.text.push_str(" ORDER BY ");
        if let Some((field, direction)) = &query.sort {
            let (expression, class) = self.field(field, &Value::Null)?;
            self.text.push_str(&expression);
            if self.dialect == Dialect::Postgres && class == Class::Text {
                self.text.push_str(" COLLATE \"C\"");
            }
            self.text.push_str(match direction {
                Direction::Ascending => " ASC NULLS FIRST, ",
                Direction::Descending => " DESC NULLS LAST, ",
            });
        }
        self.text.push_str("id");
        match (query.limit, query.offset) {
            (Some(count), _) => self.push(" LIMIT ", limit(count)),
            (None, 0) => {}
            // SQLite has no offset without a limit.
            (None, _) => self.push(" LIMIT ", Param::Int(i64::MAX)),
        }
        if query.offset > 0 {
            self.push(" OFFSET ", limit(query.offset));
        }
        Ok(())
    }
}

/// The value as the class compares it; `None` when no value of the class equals it.
fn scalar(value: &Value, class: Class) -> Option<Param<'static>> {
    match (class, value) {
        (_, Value::Null | Value::Array(_) | Value::Object(_)) => None,
        (Class::Int, Value::Number(number)) => number.as_i64().map(Param::Int),
        (Class::Int, Value::String(text)) => text.parse().ok().map(Param::Int),
        (Class::Real, Value::Number(number)) => number.as_f64().map(Param::Real),
        (Class::Real, Value::String(text)) => text.parse().ok().map(Param::Real),
        (Class::Bool, Value::Bool(flag)) => Some(Param::Bool(*flag)),
        (Class::Bool, Value::String(text)) => text.parse().ok().map(Param::Bool),
        (Class::Int | Class::Real, Value::Bool(_)) | (Class::Bool, Value::Number(_)) => None,
        (Class::Text | Class::Value, Value::String(text)) => Some(Param::Text(text.clone().into())),
        (Class::Text | Class::Value, other) => Some(Param::Text(other.to_string().into())),
    }
}

fn array(class: Class, values: impl Iterator<Item = Param<'static>>) -> Param<'static> {
    match class {
        Class::Int => Param::Ints(
            values.filter_map(|value| if let Param::Int(it) = value { Some(Some(it)) } else { None }).collect(),
        ),
        Class::Real => {
            Param::Reals(values.filter_map(|value| if let Param::Real(it) = value { Some(it) } else { None }).collect())
        }
        Class::Bool => {
            Param::Bools(values.filter_map(|value| if let Param::Bool(it) = value { Some(it) } else { None }).collect())
        }
        Class::Text | Class::Value => Param::Texts(
            values.filter_map(|value| if let Param::Text(it) = value { Some(it.into_owned()) } else { None }).collect(),
        ),
    }
}

fn prefix_pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for ch in prefix.chars() {
        if matches!(ch, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(ch);
    }
    pattern.push('%');
    pattern
}

/// A pattern that ends in the middle of an escape is an error to PostgreSQL: let the last `\` stand for itself.
fn whole_pattern(pattern: &str) -> String {
    let trailing = pattern.len() - pattern.trim_end_matches('\\').len();
    if trailing % 2 == 1 { format!("{pattern}\\") } else { pattern.to_owned() }
}
