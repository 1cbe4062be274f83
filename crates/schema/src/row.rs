//! One stored resource: what every row has ([`Meta`]) and what its type adds.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use crate::declare::Resource;
use crate::id::Id;
use crate::time::Time;

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
    /// Revision of the row's last write; 0 until committed.
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
