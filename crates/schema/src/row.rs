//! One stored resource: what every row has ([`Meta`]) and what its type adds.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::declare::Resource;
use crate::id::Id;
use crate::time::Time;

/// The fields of a row by wire name, in storage form: references are row numbers, dates milliseconds.
pub type Object = Map<String, Value>;

/// A row of any type. A field that is not set is absent; readers take a stored null for the same.
pub type AnyRow = Row<Object>;

/// A row whose fields and struct do not fit together: a declaration changed without a migration.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error("row {id} of kind `{kind}` cannot be read as `{ty}`")]
    Read { ty: &'static str, kind: String, id: i64, source: serde_json::Error },
    #[error("row {id} of type `{ty}` cannot be written as JSON")]
    Write { ty: &'static str, id: i64, source: serde_json::Error },
    #[error("row {id} of type `{ty}` is not a JSON object")]
    NotAnObject { ty: &'static str, id: i64 },
}

/// What every row has, whatever its type (`resources.md` §1.2). `account_id` is the owner: a row number in `account`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Row number; 0 until inserted.
    pub id: i64,
    /// Most specific type: `container` in table `instance`.
    pub kind: String,
    pub account_id: Option<i64>,
    pub uuid: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub state: String,
    pub created: Time,
    pub removed: Option<Time>,
    /// When a removed row leaves the lists and may be purged.
    pub remove_time: Option<Time>,
    pub progress: Progress,
    /// How often the row was written: guards against lost updates. 0 until committed.
    pub revision: i64,
}

/// How the running or last process fares; gives the `transitioning` triple together with the state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The last process stored an error. Cleared by the next state change.
    pub failed: bool,
    pub message: Option<String>,
    /// 0 to 100.
    pub percent: Option<i64>,
    /// When the running process gives up or is looked at again; every transitional state has one.
    pub deadline: Option<Time>,
}

/// A row of type `T`. Derefs to the fields of the type.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<T> {
    pub meta: Meta,
    pub data: T,
}

impl<T: Resource> Row<T> {
    /// A new row that has not been inserted. The store gives it its number, uuid (when empty), creation time and revision.
    pub fn new(account_id: Option<i64>, state: &str, data: T) -> Row<T> {
        Row { meta: Meta { kind: T::TYPE.to_owned(), account_id, state: state.to_owned(), ..Meta::default() }, data }
    }

    pub fn id(&self) -> Id<T> {
        Id::new(self.meta.id)
    }

    /// Public id, `1i42`.
    pub fn public_id(&self) -> String {
        crate::id::encode(T::TABLE, self.meta.id)
    }
}

impl<T: Resource> Row<T> {
    /// The row with its fields as JSON. Fields that are not set are left out.
    pub fn to_any(&self) -> Result<AnyRow, RowError> {
        let id = self.meta.id;
        match serde_json::to_value(&self.data).map_err(|source| RowError::Write { ty: T::TYPE, id, source })? {
            Value::Object(mut data) => {
                data.retain(|_, value| !value.is_null());
                Ok(Row { meta: self.meta.clone(), data })
            }
            _ => Err(RowError::NotAnObject { ty: T::TYPE, id }),
        }
    }
}

impl AnyRow {
    /// The row as its struct. A more general struct of the same table reads it too, but must not be written back.
    pub fn typed<T: Resource>(&self) -> Result<Row<T>, RowError> {
        let data = if self.data.values().any(Value::is_null) {
            let mut data = self.data.clone();
            data.retain(|_, value| !value.is_null());
            T::deserialize(&data)
        } else {
            T::deserialize(&self.data)
        };
        let data = data.map_err(|source| RowError::Read {
            ty: T::TYPE,
            kind: self.meta.kind.clone(),
            id: self.meta.id,
            source,
        })?;
        Ok(Row { meta: self.meta.clone(), data })
    }

    /// A field by wire name, common fields included, in storage form; null when not set.
    pub fn get(&self, name: &str) -> Value {
        let meta = &self.meta;
        let time = |time: Option<Time>| time.map_or(Value::Null, |time| Value::from(time.0));
        let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::String);
        match name {
            "id" => Value::from(meta.id),
            "kind" => Value::String(meta.kind.clone()),
            "accountId" => meta.account_id.map_or(Value::Null, Value::from),
            "uuid" => Value::String(meta.uuid.clone()),
            "name" => text(&meta.name),
            "description" => text(&meta.description),
            "state" => Value::String(meta.state.clone()),
            "created" => time(Some(meta.created)),
            "removed" => time(meta.removed),
            "removeTime" => time(meta.remove_time),
            _ => self.data.get(name).cloned().unwrap_or(Value::Null),
        }
    }

    /// Writes checked input (of `input::read`) into the row and returns the names of the fields whose value changed.
    pub fn apply(&mut self, changes: Object) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, value) in changes {
            if self.get(&name) == value {
                continue;
            }
            let text = || value.as_str().map(str::to_owned);
            match name.as_str() {
                "name" => self.meta.name = text(),
                "description" => self.meta.description = text(),
                "kind" => self.meta.kind = text().unwrap_or_default(),
                "uuid" => self.meta.uuid = text().unwrap_or_default(),
                "accountId" => self.meta.account_id = value.as_i64(),
                // Written by processes only; no declaration makes them writable.
                "id" | "state" | "created" | "removed" | "removeTime" => continue,
                _ if value.is_null() => {
                    self.data.remove(&name);
                }
                _ => {
                    self.data.insert(name.clone(), value);
                }
            }
            changed.push(name);
        }
        changed
    }
}

impl Meta {
    /// Enters a state; whatever the last process left is cleared.
    pub fn enter(&mut self, state: &str) {
        self.state = state.to_owned();
        self.progress = Progress::default();
    }

    /// Rests in a state with the reason why the last process failed.
    pub fn fail(&mut self, state: &str, message: impl Into<String>) {
        self.state = state.to_owned();
        self.progress = Progress { failed: true, message: Some(message.into()), ..Progress::default() };
    }

    /// Not removed, removing or purged.
    pub fn is_live(&self) -> bool {
        self.removed.is_none() && !matches!(self.state.as_str(), "removing" | "removed" | "purging" | "purged")
    }
}

impl<T> Deref for Row<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Row<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Horse, horse};

    #[test]
    fn rows_survive_the_way_to_json_and_back() {
        let row = horse();
        let any = row.to_any().expect("a horse can be stored");
        assert!(!any.data.contains_key("colour"), "what is not set is left out");
        assert_eq!(any.typed::<Horse>().expect("it reads back"), row);
    }

    #[test]
    fn stored_nulls_mean_not_set() {
        let mut any = horse().to_any().expect("a horse can be stored");
        any.data.insert("sold".into(), Value::Null);
        assert!(!any.typed::<Horse>().expect("it reads").sold);
        any.data.insert("age".into(), json!("old"));
        let error = any.typed::<Horse>().expect_err("text is no age").to_string();
        assert_eq!(error, "row 42 of kind `horse` cannot be read as `horse`");
    }

    #[test]
    fn applying_input_names_what_changed() {
        let mut any = horse().to_any().expect("a horse can be stored");
        let changes = json!({ "name": "bo", "age": 7, "gear": null, "labels": { "a": "b" }, "id": 9, "colour": null });
        let changed = any.apply(changes.as_object().cloned().unwrap_or_default());
        assert_eq!(changed, ["gear", "labels", "name"]);
        assert_eq!((any.get("name"), any.get("id"), any.get("gear")), (json!("bo"), json!(42), Value::Null));
    }
}
