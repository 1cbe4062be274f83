//! The database is the truth (DESIGN §4): transactions, scoped queries, claims, leases, and the ordered change feed, alike
//! on SQLite and PostgreSQL.
//!
//! A caller opens a [`Store`] and hands it closures: [`Store::write`] gives them a [`Tx`], [`Store::read`] a [`Read`].
//! Closures are synchronous, so that a transaction can never be suspended between two statements with a lock held.
//!
//! Read in this order: [`query`] (who asks for what), [`read`] and [`write`] (what a transaction can do), [`feed`] and
//! [`claim`] and [`lease`] (what it relies on), [`store`] (how transactions run), `layout` and `select` (how types become
//! tables and statements), `sqlite` and `postgres` (the two databases), [`retention`], [`seal`] and
//! [`secret`]; [`faults`] is for simulations.

mod body;
pub mod claim;
mod conn;
mod durable;
pub mod error;
pub mod faults;
pub mod feed;
mod job;
mod layout;
pub mod lease;
mod migrate;
mod param;
mod postgres;
pub mod query;
pub mod read;
mod record;
pub mod retention;
pub mod seal;
pub mod secret;
mod select;
mod sqlite;
pub mod store;
mod tls;
pub mod write;

pub use claim::{Claim, Holder};
pub use error::{Error, OpenError};
pub use faults::{Fault, Faults};
pub use feed::{Change, Feed, Identity};
pub use lease::Lease;
pub use query::{Direction, Filter, Op, Query, Scope, Visibility};
pub use read::Read;
pub use retention::{Retention, Trimmed};
pub use seal::{Seal, SealError};
pub use store::{Database, Options, Store};
pub use write::{Committed, Tx};
