//! One stored row between SQL and Rust: columns borrowed from the database, the body parsed once, straight into its type.

use std::sync::Arc;

use remuda_schema::row::Progress;
use remuda_schema::{AnyRow, Meta, Object, Resource, Row, Time};
use serde::Deserialize;

use crate::error::Error;
use crate::layout::TypeLayout;

/// The columns of a row as they lie in the database's buffer.
pub(crate) struct Record<'a> {
    pub(crate) id: i64,
    pub(crate) kind: &'a str,
    pub(crate) account_id: Option<i64>,
    pub(crate) uuid: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) state: &'a str,
    pub(crate) created: i64,
    pub(crate) removed: Option<i64>,
    pub(crate) remove_time: Option<i64>,
    pub(crate) revision: i64,
    pub(crate) body: &'a str,
}

/// What the body holds beside the fields of the type.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Common {
    description: Option<String>,
    progress: Progress,
}

impl Record<'_> {
    /// The row as its type. Two passes over the text: a flattened struct would copy every value first.
    pub(crate) fn row<T: Resource>(&self) -> Result<Row<T>, Error> {
        let data = serde_json::from_str(self.body).map_err(|error| self.corrupt(T::TABLE, T::TYPE, error))?;
        let common: Common = if self.body.contains("\"description\"") || self.body.contains("\"progress\"") {
            serde_json::from_str(self.body).map_err(|error| self.corrupt(T::TABLE, T::TYPE, error))?
        } else {
            Common::default()
        };
        Ok(Row { meta: self.meta(common), data })
    }

    /// The row as an object.
    pub(crate) fn any_row(&self, of: &TypeLayout) -> Result<AnyRow, Error> {
        let corrupt = |error| self.corrupt(of.table, of.name, error);
        let mut data: Object = serde_json::from_str(self.body).map_err(corrupt)?;
        let description = data.remove("description").map(serde_json::from_value).transpose().map_err(corrupt)?;
        let progress = data.remove("progress").map(serde_json::from_value).transpose().map_err(corrupt)?;
        let common = Common { description: description.flatten(), progress: progress.unwrap_or_default() };
        Ok(Row { meta: self.meta(common), data })
    }

    fn meta(&self, common: Common) -> Meta {
        Meta {
            id: self.id,
            kind: self.kind.to_owned(),
            account_id: self.account_id,
            uuid: self.uuid.to_owned(),
            name: self.name.map(str::to_owned),
            description: common.description,
            state: self.state.to_owned(),
            created: Time(self.created),
            removed: self.removed.map(Time),
            remove_time: self.remove_time.map(Time),
            progress: common.progress,
            revision: self.revision,
        }
    }

    fn corrupt(&self, table: &'static str, type_name: &'static str, error: serde_json::Error) -> Error {
        Error::Corrupt { table, id: self.id, type_name, cause: Arc::new(error) }
    }
}
