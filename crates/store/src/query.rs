//! What to read: who asks ([`Scope`]) and which rows ([`Query`]). There is no read without a scope (DESIGN §4).

use remuda_schema::Time;
use serde_json::Value;

/// Whose rows a caller may see. The one place that keeps tenants apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Rows of that account, and rows that say `isPublic`.
    Account(i64),
    /// These rows of the table only: the projects a user is a member of.
    Rows(Vec<i64>),
    /// Every row: administrators and the platform itself.
    Everything,
}

/// What happens to removed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Only rows that are not removed.
    Live,
    /// What API lists show (`api-conventions.md` §8.5): rows not removed or removed less than `removed_for_ms` ago, and
    /// whose remove time is unset or lies ahead.
    Listed { now: Time, removed_for_ms: i64 },
    /// Removed and purged rows too.
    All,
}

/// How a field is compared. SQL semantics: a field without value matches only [`Op::Null`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Lte,
    Gt,
    Gte,
    /// Starts with the value; case of ASCII letters is ignored, as for `Like`.
    Prefix,
    /// `%` and `_` are supplied by the caller, `\` escapes them.
    Like,
    NotLike,
    /// The value is ignored.
    Null,
    NotNull,
    /// The value is an array.
    In,
}

/// One condition; all conditions of a query hold together.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Wire name.
    pub field: String,
    pub op: Op,
    /// In storage form: references as row numbers, dates as milliseconds.
    pub value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// Which rows of a type, in which order. Default: all live rows by number.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub filters: Vec<Filter>,
    /// Rows without value come first when ascending. Ties are ordered by number.
    pub sort: Option<(String, Direction)>,
    pub limit: Option<u64>,
    pub offset: u64,
    pub visibility: Visibility,
}

impl Default for Query {
    fn default() -> Query {
        Query { filters: Vec::new(), sort: None, limit: None, offset: 0, visibility: Visibility::Live }
    }
}

impl Query {
    /// All live rows by number.
    pub fn new() -> Query {
        Query::default()
    }

    pub fn filter(mut self, field: impl Into<String>, op: Op, value: impl Into<Value>) -> Query {
        self.filters.push(Filter { field: field.into(), op, value: value.into() });
        self
    }

    pub fn eq(self, field: impl Into<String>, value: impl Into<Value>) -> Query {
        self.filter(field, Op::Eq, value)
    }

    pub fn ne(self, field: impl Into<String>, value: impl Into<Value>) -> Query {
        self.filter(field, Op::Ne, value)
    }

    pub fn gt(self, field: impl Into<String>, value: impl Into<Value>) -> Query {
        self.filter(field, Op::Gt, value)
    }

    pub fn lt(self, field: impl Into<String>, value: impl Into<Value>) -> Query {
        self.filter(field, Op::Lt, value)
    }

    /// The field has one of these values.
    pub fn any_of<V: Into<Value>>(self, field: impl Into<String>, values: impl IntoIterator<Item = V>) -> Query {
        let values = values.into_iter().map(Into::into).collect::<Vec<Value>>();
        self.filter(field, Op::In, values)
    }

    pub fn null(self, field: impl Into<String>) -> Query {
        self.filter(field, Op::Null, Value::Null)
    }

    pub fn not_null(self, field: impl Into<String>) -> Query {
        self.filter(field, Op::NotNull, Value::Null)
    }

    pub fn sort(mut self, field: impl Into<String>, direction: Direction) -> Query {
        self.sort = Some((field.into(), direction));
        self
    }

    pub fn limit(mut self, limit: u64) -> Query {
        self.limit = Some(limit);
        self
    }

    pub fn offset(mut self, offset: u64) -> Query {
        self.offset = offset;
        self
    }

    pub fn visibility(mut self, visibility: Visibility) -> Query {
        self.visibility = visibility;
        self
    }

    /// Removed and purged rows too.
    pub fn all(self) -> Query {
        self.visibility(Visibility::All)
    }
}
