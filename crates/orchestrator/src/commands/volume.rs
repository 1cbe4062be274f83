//! Volumes by request (`resources-infra.md` §6.2): they stay `requested` until a container uses them.

use remuda_model::Volume;
use remuda_model::states::REQUESTED;
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Row, TypeDef};
use remuda_store::Tx;

use super::{CommandError, Context, draft, name_is_taken};

pub fn create(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<AnyRow, CommandError> {
    let mut row: Row<Volume> = draft(ctx, def, fields).typed()?;
    let name = row.meta.name.clone().unwrap_or_default();
    if name_is_taken(tx, def, ctx.account_id, &name)? {
        return Err(ApiError::field(Code::NotUnique, "name")
            .because(format!("there is a volume named `{name}` already"))
            .into());
    }
    row.meta.enter(REQUESTED);
    row.device_number = Some(-1);
    row.uri = Some(format!("{}:///{name}", row.driver.as_deref().unwrap_or("local")));
    Ok(tx.insert(row)?.to_any()?)
}
