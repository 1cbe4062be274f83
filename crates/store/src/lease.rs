//! Leases: which server runs a project's controllers (DESIGN §5). Times are the database's.

use remuda_schema::Time;

/// A lease as it was taken. Every write decided under it checks it inside its transaction ([`crate::Tx::lease_check`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    /// The process that holds it; different after each start.
    pub owner: String,
    /// Which holding this is.
    pub epoch: i64,
    /// When it ends if it is not renewed, by the database's clock.
    pub until: Time,
}
