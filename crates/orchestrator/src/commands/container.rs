//! Containers by request (`resources.md` §§6.2-6.5, 6.9).

use std::collections::BTreeMap;

use remuda_model::ports::PortSpec;
use remuda_model::states::{CREATING, PURGING, RESTORING};
use remuda_model::{Container, ImageReference, InstanceStop, Label, Volume};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Row, TypeDef};
use remuda_store::{Query, Scope, Tx};
use serde_json::Value;

use super::{CommandError, Context, draft};
use crate::plan::NewContainer;
use crate::rows;
use crate::transitions::{self, WANT_RUNNING, WANT_STOPPED};

/// At most that many containers by one request.
const MAX_COUNT: i64 = 1000;

const CLEANUP: &str = "io.rancher.container.volume_cleanup_strategy";

pub fn create(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<Vec<AnyRow>, CommandError> {
    let links: BTreeMap<String, Option<i64>> = fields.get("instanceLinks").map(links_of).unwrap_or_default();
    let count = fields.get("count").and_then(Value::as_i64).unwrap_or(1).max(1);
    let mut row: Row<Container> = draft(ctx, def, fields).typed()?;
    check(&row)?;
    if count > MAX_COUNT {
        return Err(ApiError::field(Code::MaxLimitExceeded, "count")
            .because(format!("one request makes at most {MAX_COUNT} containers"))
            .into());
    }
    if transitions::label(&row, "io.rancher.container.network") == Some("true") {
        row.network_mode = Some("managed".to_owned());
    }
    row.version.get_or_insert_with(|| "0".to_owned());
    row.meta.enter(CREATING);
    row.meta.progress.deadline = Some(ctx.now.plus_ms(ctx.settings.container_start_deadline_ms()));
    if row.start_on_create {
        row.desired = WANT_RUNNING.to_owned();
        row.start_serial = 1;
    } else {
        row.desired = WANT_STOPPED.to_owned();
    }
    if let Err(problem) = resolve_volumes(tx, &mut row)? {
        row.meta.fail("error", problem);
    }
    let links: Vec<(String, Option<i64>)> = links.into_iter().collect();
    let mut made = Vec::new();
    for _ in 0..count {
        let new = NewContainer { row: row.clone(), links: links.clone(), requested_address: None };
        made.push(rows::container_insert(tx, new, &ctx.random)?.to_any()?);
    }
    Ok(made)
}

fn links_of(value: &Value) -> BTreeMap<String, Option<i64>> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(alias, target)| (alias.clone(), target.as_i64())).collect()
}

/// The checks of `resources.md` §6.4, in its order.
fn check(row: &Row<Container>) -> Result<(), ApiError> {
    let image = row.image_uuid.as_deref().filter(|image| !image.is_empty());
    ImageReference::parse(image.ok_or_else(|| ApiError::field(Code::MissingRequired, "imageUuid"))?)?;
    for port in row.ports.iter().flatten() {
        PortSpec::parse(port)?;
    }
    if let Some(strategy) = transitions::label(row, CLEANUP)
        && !matches!(strategy, "none" | "unnamed" | "all")
    {
        return Err(ApiError::new(Code::InvalidOption)
            .with_status(400)
            .because(format!("{strategy} is an invalid value for the {CLEANUP} label.")));
    }
    Ok(())
}

/// Named volumes that exist are mounted by number (`resources.md` §6.5 step 4). The inner error is for the row.
fn resolve_volumes(tx: &Tx<'_>, row: &mut Row<Container>) -> Result<Result<(), String>, CommandError> {
    let Some(project) = row.meta.account_id else { return Ok(Ok(())) };
    let wanted: Vec<String> = transitions::label(row, "io.rancher.scheduler.affinity:volumes")
        .map(|names| names.split(',').map(|name| name.trim().to_owned()).collect())
        .unwrap_or_default();
    let mut mounts = row.data_volume_mounts.clone().unwrap_or_default();
    for entry in row.data_volumes.iter().flatten() {
        let mut parts = entry.split(':');
        let (Some(name), Some(path)) = (parts.next(), parts.next()) else { continue };
        if name.is_empty() || name.starts_with('/') || mounts.contains_key(path) {
            continue;
        }
        let query = Query::new().eq("name", name);
        let found: Vec<Row<Volume>> = tx.list(&Scope::Account(project), &query)?;
        let usable: Vec<&Row<Volume>> = found
            .iter()
            .filter(|volume| volume.meta.is_live())
            .filter(|volume| volume.host_id.is_none() || wanted.iter().any(|listed| listed == name))
            .collect();
        match usable.as_slice() {
            [] => {}
            [volume] => drop(mounts.insert(path.to_owned(), volume.id())),
            _ => {
                return Ok(Err(format!(
                    "Could not process named volume {name}. More than one volume with that name exists."
                )));
            }
        }
    }
    if !mounts.is_empty() {
        row.data_volume_mounts = Some(mounts);
    }
    Ok(Ok(()))
}

/// A process action that the state allows.
pub fn process(
    tx: &mut Tx<'_>,
    ctx: &Context,
    row: AnyRow,
    action: &str,
    input: &Object,
) -> Result<AnyRow, CommandError> {
    let mut row: Row<Container> = row.typed()?;
    let settings = &ctx.settings;
    match action {
        "start" => transitions::start(&mut row, settings, ctx.now),
        "restart" => transitions::restart(&mut row, settings, ctx.now),
        "stop" => {
            let input: InstanceStop = serde_json::from_value(Value::Object(input.clone()))
                .map_err(|error| ApiError::new(Code::InvalidFormat).because(error.to_string()))?;
            transitions::stop(&mut row, input.timeout, input.remove, settings, ctx.now);
        }
        "remove" => drop(transitions::remove(&mut row, settings, ctx.now)),
        "restore" => super::enter(&mut row, RESTORING, ctx),
        "purge" => super::enter(&mut row, PURGING, ctx),
        other => {
            let start = remuda_model::machines::CONTAINER.start(other, &row.meta.state);
            let start = start.ok_or_else(|| ApiError::field(Code::ActionNotAvailable, "action"))?;
            super::enter(&mut row, start.via, ctx);
        }
    }
    tx.update(&mut row)?;
    Ok(row.to_any()?)
}

/// DELETE, through a stop where it may run. Removing or removed: nothing to do.
pub fn remove(tx: &mut Tx<'_>, ctx: &Context, row: AnyRow) -> Result<AnyRow, CommandError> {
    let mut container: Row<Container> = row.typed()?;
    if !transitions::remove(&mut container, &ctx.settings, ctx.now) {
        return Ok(row);
    }
    tx.update(&mut container)?;
    Ok(container.to_any()?)
}

/// `setlabels`: replaces the label rows; the `labels` field keeps what the container was made with.
pub fn set_labels(tx: &mut Tx<'_>, ctx: &Context, row: &AnyRow, input: &Object) -> Result<(), CommandError> {
    let container: Row<Container> = row.typed()?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut wanted: BTreeMap<String, String> = match input.get("labels") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(labels)) => labels.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        Some(_) => return Err(ApiError::field(Code::InvalidFormat, "labels").into()),
    };
    let query = Query::new().eq("instanceId", container.meta.id);
    for mut label in tx.list::<Label>(&Scope::Everything, &query)? {
        let key = label.key.clone().unwrap_or_default();
        if wanted.get(&key) == Some(&label.value.clone().unwrap_or_default()) {
            wanted.remove(&key);
        } else {
            label.meta.enter("removed");
            label.meta.removed = Some(ctx.now);
            label.meta.remove_time = Some(ctx.now);
            tx.update(&mut label)?;
        }
    }
    for (key, value) in wanted {
        rows::label_insert(tx, &container, &key, &value)?;
    }
    Ok(())
}
