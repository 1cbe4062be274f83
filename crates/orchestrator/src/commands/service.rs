//! Services by request: the checks of `services.md` §4.1 in its order, and the ports of §4.2.

use std::collections::BTreeSet;

use remuda_model::selector::Selector;
use remuda_model::states::{ERROR, HEALTHY, REGISTERING, REMOVED, REMOVING};
use remuda_model::{Project, Service, Stack};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Id, Row, TypeDef};
use remuda_store::{Query, Scope, Tx};
use serde_json::Value;

use super::{CommandError, Context, draft};
use crate::plan::claims;
use crate::rules;

/// Most characters of the JSON of a service's metadata.
const MAX_METADATA: usize = 1_048_576;

/// Ports services may be given when the project says nothing else.
pub const PORT_RANGE: (i64, i64) = (49153, 65535);

pub fn create(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<AnyRow, CommandError> {
    let mut row: Row<Service> = draft(ctx, def, fields).typed()?;
    let name = row.meta.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::field(Code::MissingRequired, "name").because("a service has a name").into());
    }
    let stack = row.environment_id.ok_or_else(|| ApiError::field(Code::MissingRequired, "environmentId"))?;
    let stack = tx
        .get::<Stack>(&Scope::Account(ctx.account_id), stack)?
        .ok_or_else(|| ApiError::field(Code::InvalidReference, "environmentId"))?;
    if matches!(stack.meta.state.as_str(), ERROR | REMOVING | REMOVED) {
        return Err(ApiError::field(Code::InvalidState, "environment")
            .because(format!("the stack is {}", stack.meta.state))
            .into());
    }
    check_selectors([row.selector_link.as_deref(), row.selector_container.as_deref()])?;
    check_metadata(row.metadata.as_ref().and_then(|metadata| serde_json::to_string(metadata).ok()))?;
    rules::service_name(&name)?;
    check_name_is_free(tx, &stack, None, &name)?;
    if let Some(config) = &row.launch_config {
        check_image(config.image_uuid.as_deref())?;
        for port in config.ports.iter().flatten() {
            rules::port(port)?;
        }
        let selects = row.selector_container.as_deref().is_some_and(|selector| !selector.is_empty());
        if !selects && config.image_uuid.as_deref().is_none_or(is_no_image) {
            let text = "Image is required when selectorContainer is not passed in";
            return Err(ApiError::field(Code::InvalidOption, text).detailed(text).into());
        }
    }
    row.scale = Some(row.scale.unwrap_or(1).max(0));
    row.health_state = Some(HEALTHY.to_owned());
    row.token = Some(ctx.random.text(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 40));
    if let Some(config) = &mut row.launch_config {
        config.version = Some("0".to_owned());
        config.network_mode.get_or_insert_with(|| "managed".to_owned());
    }
    super::enter(&mut row, REGISTERING, ctx);
    let mut row = tx.insert(row)?;
    if assign_ports(tx, ctx, &mut row)? {
        tx.update(&mut row)?;
    }
    Ok(row.to_any()?)
}

/// The checks that also hold for PUT.
pub fn check_update(tx: &Tx<'_>, row: &AnyRow, fields: &Object) -> Result<(), CommandError> {
    check_selectors(["selectorLink", "selectorContainer"].map(|name| fields.get(name).and_then(Value::as_str)))?;
    if let Some(metadata) = fields.get("metadata").filter(|value| !value.is_null()) {
        check_metadata(Some(metadata.to_string()))?;
    }
    let Some(name) = fields.get("name").and_then(Value::as_str) else { return Ok(()) };
    if row.meta.name.as_deref() == Some(name) {
        return Ok(());
    }
    rules::service_name(name)?;
    let service: Row<Service> = row.typed()?;
    let stack = service.environment_id.map(|id| tx.get::<Stack>(&Scope::Everything, id)).transpose()?.flatten();
    match stack {
        Some(stack) => check_name_is_free(tx, &stack, Some(row.meta.id), name),
        None => Ok(()),
    }
}

fn check_selectors(selectors: [Option<&str>; 2]) -> Result<(), ApiError> {
    selectors.into_iter().flatten().try_for_each(|text| Selector::parse(text).map(drop))
}

fn check_metadata(json: Option<String>) -> Result<(), ApiError> {
    if json.is_some_and(|json| json.chars().count() > MAX_METADATA) {
        let text = "metadata limit is 1MB";
        return Err(ApiError::field(Code::MaxLimitExceeded, text).detailed(text));
    }
    Ok(())
}

/// No other service of the stack has the name, whatever its case.
fn check_name_is_free(tx: &Tx<'_>, stack: &Row<Stack>, own: Option<i64>, name: &str) -> Result<(), CommandError> {
    let others: Vec<Row<Service>> = tx.list(&Scope::Everything, &Query::new().eq("environmentId", stack.meta.id))?;
    let taken = others.iter().filter(|other| Some(other.meta.id) != own && other.meta.removed.is_none());
    let same = |other: &&Row<Service>| other.meta.name.as_deref().is_some_and(|taken| taken.eq_ignore_ascii_case(name));
    if let Some(other) = taken.clone().find(same) {
        return Err(ApiError::field(Code::NotUnique, "name")
            .because(format!("service {} of the stack has that name", other.public_id()))
            .into());
    }
    Ok(())
}

fn is_no_image(image: &str) -> bool {
    image.is_empty() || image.starts_with("rancher/none") || image.starts_with("docker:rancher/none")
}

fn check_image(image: Option<&str>) -> Result<(), ApiError> {
    match image {
        None => Ok(()),
        Some(image) if is_no_image(image) => Ok(()),
        Some(image) => rules::image(image).map(drop),
    }
}

/// Ports without a public part get one that no other service of the project has; all of them or none.
fn assign_ports(tx: &mut Tx<'_>, ctx: &Context, row: &mut Row<Service>) -> Result<bool, CommandError> {
    let Some(config) = row.data.launch_config.as_mut() else { return Ok(false) };
    let mut specs = Vec::new();
    for text in config.ports.iter().flatten() {
        specs.push(rules::port(text)?);
    }
    if specs.is_empty() {
        return Ok(false);
    }
    specs.sort_by_key(|spec| spec.public.is_none());
    let n_open = specs.iter().filter(|spec| spec.public.is_none()).count();
    let mut chosen = free_ports(tx, ctx, n_open)?.into_iter();
    let mut ports = Vec::new();
    for spec in specs {
        let public = spec.public.or_else(|| chosen.next());
        if let Some(public) = public.filter(|_| spec.public.is_none()) {
            tx.claim(&claims::service_port(ctx.account_id, i64::from(public), row.meta.id))?;
        }
        let bind = spec
            .bind_address
            .map(|address| if address.contains(':') { format!("[{address}]:") } else { format!("{address}:") });
        let middle = match (&bind, public) {
            (_, Some(public)) => format!("{public}:"),
            (Some(_), None) => ":".to_owned(),
            (None, None) => String::new(),
        };
        ports.push(format!("{}{middle}{}/{}", bind.unwrap_or_default(), spec.private, spec.protocol));
    }
    config.ports = Some(ports);
    Ok(true)
}

/// That many free ports of the project's range from a random start; none when there are too few.
fn free_ports(tx: &Tx<'_>, ctx: &Context, n_wanted: usize) -> Result<Vec<u16>, CommandError> {
    if n_wanted == 0 {
        return Ok(Vec::new());
    }
    let project = tx.get::<Project>(&Scope::Everything, Id::new(ctx.account_id))?;
    let range = project.and_then(|row| row.services_port_range.clone()).unwrap_or_default();
    let first = range.start_port.unwrap_or(PORT_RANGE.0);
    let last = range.end_port.unwrap_or(PORT_RANGE.1);
    let len = last.saturating_sub(first).saturating_add(1).max(0);
    let used: BTreeSet<String> = tx.claims("servicePort", ctx.account_id)?.into_iter().map(|claim| claim.key).collect();
    let start = i64::try_from(ctx.random.below(len.unsigned_abs())).unwrap_or(0);
    let candidates = (0..len).map(|step| first + (start + step) % len).filter(|port| !used.contains(&port.to_string()));
    let chosen: Vec<u16> = candidates.filter_map(|port| u16::try_from(port).ok()).take(n_wanted).collect();
    Ok(if chosen.len() == n_wanted { chosen } else { Vec::new() })
}
