//! Accounts: the last administrator stays, and people get a registration token with their account
//! (`access-control.md` §1).

use remuda_model::Account;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code};
use remuda_store::{Query as Select, Scope, Tx};

use crate::call::Call;
use crate::failure::Failure;
use crate::managers::keys;

/// A user or administrator gets a registration token of their own.
pub fn created(tx: &mut Tx<'_>, call: &Call, row: &AnyRow) -> Result<(), Failure> {
    if matches!(row.meta.kind.as_str(), "user" | "admin") {
        let (public_value, sealed) = keys::registration_values(&call.server);
        tx.insert(keys::registration_row(public_value, sealed, row.meta.id, call.now))?;
    }
    Ok(())
}

/// The last administrator cannot become something else.
pub fn check_update(tx: &Tx<'_>, call: &Call, row: &AnyRow, fields: &Object) -> Result<(), Failure> {
    let changes_kind = fields.get("kind").is_some_and(|kind| kind != row.meta.kind.as_str());
    if changes_kind { check_last_admin(tx, call, row) } else { Ok(()) }
}

/// People's accounts are deactivated before they are removed; the last administrator stays.
pub fn check_remove(tx: &mut Tx<'_>, call: &Call, row: &AnyRow) -> Result<(), Failure> {
    check_last_admin(tx, call, row)
}

pub fn check_deactivate(tx: &mut Tx<'_>, call: &Call, row: &AnyRow) -> Result<(), Failure> {
    check_last_admin(tx, call, row)
}

fn check_last_admin(tx: &Tx<'_>, call: &Call, row: &AnyRow) -> Result<(), Failure> {
    // With access control off nobody can be locked out.
    if row.meta.kind != "admin" || row.meta.state != "active" || call.server.options.dev {
        return Ok(());
    }
    let active = Select::new().eq("kind", "admin").eq("state", "active");
    if tx.count::<Account>(&Scope::Everything, &active)? > 1 {
        return Ok(());
    }
    Err(ApiError::new(Code::LastAdminAccount)
        .because("LastAdminAccount")
        .detailed("At least one admin account is required at all times")
        .into())
}
