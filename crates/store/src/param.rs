//! Values bound to statements, alike for both databases.

use std::borrow::Cow;
use std::error::Error as StdError;

use rusqlite::types::{ToSql as SqliteToSql, ToSqlOutput, Value as SqliteValue, ValueRef};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// One bound value. Arrays are arrays in PostgreSQL and JSON text (for `json_each`) in SQLite.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Param<'a> {
    Null,
    Int(i64),
    Real(f64),
    Bool(bool),
    Text(Cow<'a, str>),
    /// JSON text.
    Json(Cow<'a, str>),
    Ints(Vec<Option<i64>>),
    Reals(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(text: &'a str) -> Param<'a> {
        Param::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(text: &'a String) -> Param<'a> {
        Param::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Param<'_> {
    fn from(text: String) -> Self {
        Param::Text(Cow::Owned(text))
    }
}

impl From<i64> for Param<'_> {
    fn from(number: i64) -> Self {
        Param::Int(number)
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Param<'a> {
        value.map_or(Param::Null, Into::into)
    }
}

impl SqliteToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let json = |text: Result<String, serde_json::Error>| match text {
            Ok(text) => Ok(ToSqlOutput::Owned(SqliteValue::Text(text))),
            Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error))),
        };
        match self {
            Param::Null => Ok(ToSqlOutput::Borrowed(ValueRef::Null)),
            Param::Int(number) => Ok(ToSqlOutput::Borrowed(ValueRef::Integer(*number))),
            Param::Real(number) => Ok(ToSqlOutput::Borrowed(ValueRef::Real(*number))),
            Param::Bool(flag) => Ok(ToSqlOutput::Borrowed(ValueRef::Integer(i64::from(*flag)))),
            Param::Text(text) | Param::Json(text) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))),
            Param::Ints(numbers) => json(serde_json::to_string(numbers)),
            Param::Reals(numbers) => json(serde_json::to_string(numbers)),
            // `json_extract` gives 1 and 0 for booleans, and so does `json_each` in its `value` column.
            Param::Bools(flags) => json(serde_json::to_string(flags)),
            Param::Texts(texts) => json(serde_json::to_string(texts)),
        }
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Param::Null => Ok(IsNull::Yes),
            Param::Int(number) if *ty == Type::FLOAT8 => (*number as f64).to_sql_checked(ty, out),
            Param::Int(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql_checked(ty, out),
            Param::Int(number) => number.to_sql_checked(ty, out),
            Param::Real(number) => number.to_sql_checked(ty, out),
            Param::Bool(flag) => flag.to_sql_checked(ty, out),
            Param::Text(text) => text.as_ref().to_sql_checked(ty, out),
            Param::Json(text) if *ty == Type::JSONB => {
                // Version of the binary form, then the text.
                out.extend_from_slice(&[1]);
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            Param::Json(text) => text.as_ref().to_sql_checked(ty, out),
            Param::Ints(numbers) => numbers.to_sql_checked(ty, out),
            Param::Reals(numbers) => numbers.to_sql_checked(ty, out),
            Param::Bools(flags) => flags.to_sql_checked(ty, out),
            Param::Texts(texts) => texts.to_sql_checked(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Each value checks the type it is bound to by itself.
        true
    }

    to_sql_checked!();
}
