//! Stacks by request (`services.md` §3).

use std::collections::BTreeMap;

use remuda_model::names::check_stack_name;
use remuda_model::states::*;
use remuda_model::{AddOutputsInput, Awaited, Service, ServiceConsumeMap, Stack, Until};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Id, Row, TypeDef};
use remuda_store::{Query, Scope, Tx};
use serde_json::Value;

use super::{CommandError, Context, draft, name_is_taken};

pub fn create(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<AnyRow, CommandError> {
    let mut row = draft(ctx, def, fields);
    let name = row.meta.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::field(Code::MissingRequired, "name").because("a stack has a name").into());
    }
    check_stack_name(&name)?;
    if name_is_taken(tx, def, ctx.account_id, &name)? {
        return Err(ApiError::field(Code::NotUnique, "name")
            .because(format!("there is a stack named `{name}` already"))
            .into());
    }
    row.data.insert("healthState".to_owned(), Value::from(HEALTHY));
    for field in ["dockerCompose", "rancherCompose"] {
        if row.get(field).as_str().is_some_and(|text| text.trim().is_empty()) {
            row.data.remove(field);
        }
    }
    Ok(tx.insert_any(def, row)?)
}

/// A rename may collide, but must be a name.
pub fn check_update(fields: &Object) -> Result<(), CommandError> {
    if let Some(name) = fields.get("name").and_then(Value::as_str) {
        check_stack_name(name)?;
    }
    Ok(())
}

fn services(tx: &Tx<'_>, stack: &AnyRow) -> Result<Vec<Row<Service>>, CommandError> {
    let rows: Vec<Row<Service>> = tx.list(&Scope::Everything, &Query::new().eq("environmentId", stack.meta.id))?;
    Ok(rows)
}

/// Every inactive service of the stack is activated, consumed ones first; a consumer waits for those.
pub fn activate_services(tx: &mut Tx<'_>, ctx: &Context, stack: &AnyRow) -> Result<(), CommandError> {
    let mut rows: BTreeMap<i64, Row<Service>> =
        services(tx, stack)?.into_iter().map(|row| (row.meta.id, row)).collect();
    let mut consumes: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for id in rows.keys() {
        let links = tx.list::<ServiceConsumeMap>(&Scope::Everything, &Query::new().eq("serviceId", *id))?;
        let live = links.iter().filter(|link| link.meta.is_live());
        consumes.insert(*id, live.filter_map(|link| Some(link.consumed_service_id?.number())).collect());
    }
    for id in consumed_first(&consumes) {
        let before = consumes.get(&id).into_iter().flatten().copied();
        let awaited: Vec<i64> = before.filter(|other| rows.get(other).is_some_and(waits_for_it)).collect();
        let Some(row) = rows.get_mut(&id).filter(|row| row.meta.state == INACTIVE) else { continue };
        super::enter(row, ACTIVATING, ctx);
        let active = |id| Awaited { service: Id::new(id), until: Until::Active };
        row.awaited = awaited.into_iter().map(active).collect();
        tx.update(row)?;
    }
    Ok(())
}

/// A service that this very request activates, or that is on its way: rows visited earlier are `activating` by now.
fn waits_for_it(row: &Row<Service>) -> bool {
    row.meta.state == ACTIVATING
}

/// Every service after those it consumes; circles are broken where the walk enters them.
fn consumed_first(consumes: &BTreeMap<i64, Vec<i64>>) -> Vec<i64> {
    let mut order = Vec::new();
    let mut visited = std::collections::BTreeSet::new();
    for start in consumes.keys() {
        // A stack of (service, how many of its targets were visited) instead of recursion: links come from outside.
        let mut path = vec![(*start, 0_usize)];
        if !visited.insert(*start) {
            continue;
        }
        while let Some((id, next)) = path.pop() {
            let target = consumes.get(&id).and_then(|targets| targets.get(next)).copied();
            match target {
                None => order.push(id),
                Some(target) => {
                    path.push((id, next + 1));
                    if consumes.contains_key(&target) && visited.insert(target) {
                        path.push((target, 0));
                    }
                }
            }
        }
    }
    order
}

/// All or nothing: a service in a state that cannot be deactivated refuses the whole.
pub fn deactivate_services(tx: &mut Tx<'_>, ctx: &Context, stack: &AnyRow) -> Result<(), CommandError> {
    let rows = services(tx, stack)?;
    let going = |state: &str| matches!(state, ACTIVE | ACTIVATING | UPDATING_ACTIVE | UPDATING_INACTIVE | "restarting");
    let resting = |state: &str| matches!(state, INACTIVE | DEACTIVATING | REMOVED | REMOVING);
    if let Some(row) = rows.iter().find(|row| !going(&row.meta.state) && !resting(&row.meta.state)) {
        let name = row.meta.name.as_deref().unwrap_or_default();
        let text = format!("Service {name} is not in valid state to be deactivated: {}", row.meta.state);
        return Err(ApiError::field(Code::InvalidState, text.clone()).detailed(text).into());
    }
    for mut row in rows.into_iter().filter(|row| going(&row.meta.state)) {
        super::enter(&mut row, DEACTIVATING, ctx);
        tx.update(&mut row)?;
    }
    Ok(())
}

/// Merges the given outputs.
pub fn add_outputs(tx: &mut Tx<'_>, def: &TypeDef, row: AnyRow, input: &Object) -> Result<AnyRow, CommandError> {
    let input: AddOutputsInput = serde_json::from_value(Value::Object(input.clone()))
        .map_err(|error| ApiError::field(Code::InvalidFormat, "outputs").because(error.to_string()))?;
    let mut stack: Row<Stack> = row.typed()?;
    stack.outputs.get_or_insert_with(BTreeMap::new).extend(input.outputs.unwrap_or_default());
    let mut row = stack.to_any()?;
    tx.update_any(def, &mut row)?;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumed_services_come_first_and_circles_end() {
        let order =
            |links: &[(i64, &[i64])]| consumed_first(&links.iter().map(|(id, to)| (*id, to.to_vec())).collect());
        assert_eq!(order(&[(1, &[2]), (2, &[3]), (3, &[])]), [3, 2, 1]);
        assert_eq!(order(&[(1, &[2]), (2, &[1])]), [2, 1]);
        assert_eq!(order(&[(1, &[9]), (2, &[])]), [1, 2]);
    }
}
