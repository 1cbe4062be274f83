//! What can go wrong between a caller and the database. Callers act on the variant: plan again (`Changed`, `Claimed`),
//! try later (`Unavailable`), tell a person (`Corrupt`, `Sql`).

use std::sync::Arc;

use crate::claim::{Claim, Holder};

/// The underlying error, shared because one failed commit answers many callers.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Failure of a read or a write. A write that failed has changed nothing, except where the variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database does not answer. Nothing was written; trying again later is right.
    #[error("the database is not available ({step}); the operation can be repeated when it is back")]
    Unavailable {
        step: &'static str,
        #[source]
        cause: Cause,
    },
    /// The connection broke while the commit was under way: the write may or may not have taken effect.
    #[error("the connection to the database broke during the commit; read again to see whether the write took effect")]
    Uncertain {
        #[source]
        cause: Cause,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The row is not the one that was read: somebody else wrote it since.
    #[error("row {id} of `{table}` was changed by somebody else (read at revision {expected}, now at {found})")]
    Changed { table: &'static str, id: i64, expected: i64, found: i64 },
    /// No such row in this scope.
    #[error("there is no `{type_name}` with number {id}")]
    Missing { type_name: &'static str, id: i64 },
    /// Somebody else holds what was claimed.
    #[error("{claim} is held by {holder}")]
    Claimed { claim: Claim, holder: Holder },
    /// A value that must be unique in its table exists already.
    #[error("`{field}` of `{table}` must be unique, and `{value}` exists already")]
    NotUnique { table: &'static str, field: &'static str, value: String },
    /// The lease ended or another owner took it: what was decided under it must not be written.
    #[error("the lease `{name}` is no longer held in epoch {epoch}")]
    LeaseLost { name: String, epoch: i64 },
    /// The type has no rows, or the registry the store was opened with does not have it.
    #[error("`{0}` is not a type with rows in this store")]
    UnknownType(String),
    /// A filter or sort that no statement can be made of.
    #[error("`{field}` cannot be used in a query: {reason}")]
    Query { field: String, reason: &'static str },
    /// A value that cannot be stored.
    #[error("a row of `{table}` cannot be stored: {reason}")]
    Unstorable { table: &'static str, reason: String },
    /// A stored row cannot be read as its type.
    #[error("row {id} of `{table}` cannot be read as `{type_name}`")]
    Corrupt {
        table: &'static str,
        id: i64,
        type_name: &'static str,
        #[source]
        cause: Cause,
    },
    /// The closure panicked; its transaction was rolled back.
    #[error("the transaction panicked and was rolled back")]
    Crashed,
    /// The database refused a statement.
    #[error("the database refused a statement ({step})")]
    Sql {
        step: &'static str,
        #[source]
        cause: Cause,
    },
}

/// Why a store could not be opened. Each ends the start with a sentence.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database file `{path}` cannot be opened")]
    File {
        path: String,
        #[source]
        cause: std::io::Error,
    },
    #[error(
        "the database file `{path}` is in use by another server; stop that one first, or use PostgreSQL for several servers"
    )]
    InUse { path: String },
    #[error("the database URL is not usable: {reason}")]
    Url { reason: String },
    #[error(
        "the database was written by a newer version (migration {found}, this version knows {known}); start that version"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "migration {number} `{name}` in the database is not the one this version has; the database belongs to another program or build"
    )]
    ForeignMigration { number: i64, name: String },
    #[error("type `{type_name}` keeps its rows in `{table}`, a table that the store keeps for itself")]
    ReservedTable { type_name: &'static str, table: &'static str },
    #[error("the thread `{name}` could not be started")]
    Thread {
        name: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("the database could not be prepared")]
    Store(#[from] Error),
}
