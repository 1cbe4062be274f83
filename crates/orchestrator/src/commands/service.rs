//! Services by request: the checks of `services.md` §4.1 in its order, and the ports of §4.2.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::names::check_service_name;
use remuda_model::ports::{self, PortSpec};
use remuda_model::selector::Selector;
use remuda_model::states::{ERROR, HEALTHY, REGISTERING, REMOVED, REMOVING};
use remuda_model::{
    DnsService, ExternalService, ImageReference, LaunchConfig, Project, ScalePolicy, Service, Stack, Workload,
};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Id, Resource, Row, TypeDef};
use remuda_store::{Holder, Query, Scope, Tx};
use serde::Deserialize;
use serde_json::Value;

use super::{CommandError, Context, draft, external, load_balancer};
use crate::balancer::is_balancer;
use crate::plan::claims;

/// Most characters of the JSON of a service's metadata.
const MAX_METADATA: usize = 1_048_576;

/// Most sidekicks of a service.
const MAX_SIDEKICKS: usize = 32;

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
    check_policy(row.scale_policy.as_ref())?;
    check_service_name(&name)?;
    check_name_is_free(tx, &stack, None, &name)?;
    external::check(&row)?;
    check_sidekicks(tx, &stack, &row)?;
    let has_containers = has_containers(&row.meta.kind);
    if is_balancer(&row.meta.kind) {
        load_balancer::prepare(&ctx.settings, &mut row)?;
    } else if let Some(config) = &row.lb_config {
        remuda_model::balancer::check_config(config, false)?;
    }
    if has_containers {
        check_configs(&row)?;
        row.scale = Some(row.scale.unwrap_or(1).max(0));
    } else {
        only_labels(&mut row)?;
    }
    row.health_state = Some(HEALTHY.to_owned());
    row.token = Some(ctx.random.text(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 40));
    for config in configs_mut(&mut row) {
        config.version = Some("0".to_owned());
        if has_containers {
            config.network_mode.get_or_insert_with(|| "managed".to_owned());
        }
    }
    super::enter(&mut row, REGISTERING, ctx);
    let mut row = tx.insert(row)?;
    if assign_ports(tx, ctx, &mut row)? {
        tx.update(&mut row)?;
    }
    Ok(row.to_any()?)
}

/// Aliases and external services have none.
pub fn has_containers(kind: &str) -> bool {
    kind != DnsService::TYPE && kind != ExternalService::TYPE
}

/// Of the launch config of a service without containers only the labels count: nothing else of it can have an effect.
pub(super) fn only_labels(row: &mut Service) -> Result<(), ApiError> {
    let Some(config) = &mut row.launch_config else { return Ok(()) };
    check_config(config)?;
    let Workload { labels, version, .. } = std::mem::take(&mut config.workload);
    *config = LaunchConfig { workload: Workload { labels, version, ..Workload::default() }, ..LaunchConfig::default() };
    Ok(())
}

/// Images and ports of the launch configs.
pub(super) fn check_configs(row: &Service) -> Result<(), ApiError> {
    for config in row.secondary_launch_configs.iter().flatten().map(|sidekick| &sidekick.config) {
        if !config.has_image() {
            let text = "Image is required for every secondary launch config";
            return Err(ApiError::field(Code::InvalidOption, text).detailed(text));
        }
        check_config(config)?;
    }
    let Some(config) = &row.launch_config else { return Ok(()) };
    check_config(config)?;
    let selects = row.selector_container.as_deref().is_some_and(|selector| !selector.is_empty());
    if !selects && !config.has_image() {
        let text = "Image is required when selectorContainer is not passed in";
        return Err(ApiError::field(Code::InvalidOption, text).detailed(text));
    }
    Ok(())
}

/// The checks that also hold for PUT.
pub fn check_update(tx: &Tx<'_>, row: &AnyRow, fields: &Object) -> Result<(), CommandError> {
    check_selectors(["selectorLink", "selectorContainer"].map(|name| fields.get(name).and_then(Value::as_str)))?;
    if let Some(metadata) = fields.get("metadata").filter(|value| !value.is_null()) {
        check_metadata(Some(metadata.to_string()))?;
    }
    if let Some(policy) = fields.get("scalePolicy").filter(|value| !value.is_null()) {
        check_policy(ScalePolicy::deserialize(policy).ok().as_ref())?;
    }
    if row.meta.kind == ExternalService::TYPE {
        let mut then = row.clone();
        if !then.apply(fields.clone()).is_empty() {
            let then: Row<Service> = then.typed()?;
            external::check(&then)?;
        }
    }
    if load_balancer::concerns(fields) {
        let mut then = row.clone();
        then.apply(fields.clone());
        let then: Row<Service> = then.typed()?;
        match &then.lb_config {
            _ if is_balancer(&row.meta.kind) => load_balancer::check(&then)?,
            Some(config) => remuda_model::balancer::check_config(config, false)?,
            None => {}
        }
    }
    let Some(name) = fields.get("name").and_then(Value::as_str) else { return Ok(()) };
    if row.meta.name.as_deref() == Some(name) {
        return Ok(());
    }
    check_service_name(name)?;
    let service: Row<Service> = row.typed()?;
    let mut sidekicks = service.secondary_launch_configs.iter().flatten().filter_map(|of| of.name.as_deref());
    if sidekicks.any(|sidekick| sidekick.eq_ignore_ascii_case(name)) {
        return Err(ApiError::field(Code::NotUnique, "name").because("a sidekick of the service has that name").into());
    }
    let stack = service.environment_id.map(|id| tx.get::<Stack>(&Scope::Everything, id)).transpose()?.flatten();
    match stack {
        Some(stack) => check_name_is_free(tx, &stack, Some(row.meta.id), name),
        None => Ok(()),
    }
}

fn check_selectors(selectors: [Option<&str>; 2]) -> Result<(), ApiError> {
    selectors.into_iter().flatten().try_for_each(|text| Selector::parse(text).map(drop))
}

fn check_policy(policy: Option<&ScalePolicy>) -> Result<(), ApiError> {
    if policy.is_some_and(|policy| policy.max.is_some_and(|max| policy.least() > max)) {
        let text = "Min scale can't exceed scale";
        return Err(ApiError::field(Code::MaxLimitExceeded, text).detailed(text));
    }
    Ok(())
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
    let same = |other: &&Row<Service>| {
        let sidekicks = other.secondary_launch_configs.iter().flatten().filter_map(|sidekick| sidekick.name.as_deref());
        other.meta.name.as_deref().into_iter().chain(sidekicks).any(|taken| taken.eq_ignore_ascii_case(name))
    };
    if let Some(other) = taken.clone().find(same) {
        return Err(ApiError::field(Code::NotUnique, "name")
            .because(format!("service {} of the stack, or a sidekick of it, has that name", other.public_id()))
            .into());
    }
    Ok(())
}

/// Every launch config, the primary one first.
fn configs_mut(row: &mut Row<Service>) -> impl Iterator<Item = &mut LaunchConfig> {
    let Service { common, secondary_launch_configs, .. } = &mut row.data;
    let sidekicks = secondary_launch_configs.iter_mut().flatten().map(|sidekick| &mut sidekick.config);
    common.launch_config.iter_mut().chain(sidekicks)
}

/// Names of sidekicks, and what launch configs refer to (`services.md` §4.1, rows 5 to 9).
pub(super) fn check_sidekicks(tx: &Tx<'_>, stack: &Row<Stack>, row: &Row<Service>) -> Result<(), CommandError> {
    let own = row.meta.name.as_deref().unwrap_or_default();
    let sidekicks = row.secondary_launch_configs.as_deref().unwrap_or_default();
    if sidekicks.len() > MAX_SIDEKICKS {
        return Err(ApiError::field(Code::MaxLimitExceeded, "secondaryLaunchConfigs")
            .because(format!("a service has at most {MAX_SIDEKICKS} sidekicks, not {}", sidekicks.len()))
            .into());
    }
    let mut names = BTreeSet::from([own.to_lowercase()]);
    for sidekick in sidekicks {
        let name = sidekick.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Err(ApiError::field(Code::MissingRequired, "name").into());
        }
        check_service_name(name)?;
        if !names.insert(name.to_lowercase()) {
            return Err(ApiError::field(Code::NotUnique, "name")
                .because(format!("the name `{name}` is used twice in the service"))
                .into());
        }
        check_name_is_free(tx, stack, Some(row.meta.id), name)?;
    }
    let primary = row.launch_config.iter().map(|config| (own, config));
    let named = sidekicks.iter().map(|sidekick| (sidekick.name.as_deref().unwrap_or_default(), &sidekick.config));
    let graph = primary.chain(named).map(|(name, config)| (name, config.references().collect())).collect();
    Ok(check_references(graph)?)
}

/// Every name is known, and no launch config comes back to itself.
fn check_references(mut graph: BTreeMap<&str, Vec<&str>>) -> Result<(), ApiError> {
    if let Some(unknown) = graph.values().flatten().find(|name| !graph.contains_key(*name)) {
        return Err(ApiError::field(Code::InvalidReference, "LaunchConfigName")
            .because(format!("`{unknown}` is no launch config of the service")));
    }
    // Those without open references are settled, until none is left: what then remains goes in a circle.
    loop {
        let open: BTreeSet<&str> = graph.keys().copied().collect();
        let n_before = graph.len();
        graph.retain(|_, on| on.iter().any(|name| open.contains(name)));
        if graph.is_empty() {
            return Ok(());
        }
        if graph.len() == n_before {
            let names: Vec<&str> = graph.into_keys().collect();
            return Err(ApiError::field(Code::InvalidReference, "CircularReference")
                .because(format!("the launch configs {} refer to each other in a circle", names.join(", "))));
        }
    }
}

fn check_config(config: &LaunchConfig) -> Result<(), ApiError> {
    if let Some(image) = config.image_uuid.as_deref().filter(|_| config.has_image()) {
        ImageReference::parse(image)?;
    }
    PortSpec::parse_all(config.ports.as_deref().unwrap_or_default()).map(drop)
}

/// Ports without a public part get one that no other service of the project has; all of them or none.
fn assign_ports(tx: &mut Tx<'_>, ctx: &Context, row: &mut Row<Service>) -> Result<bool, CommandError> {
    let (service, balances) = (row.meta.id, is_balancer(&row.meta.kind));
    let mut any = false;
    for config in configs_mut(row) {
        any |= match balances {
            true => load_balancer::assign_ports(tx, ctx, service, config, &[])?,
            false => assign_ports_of(tx, ctx, service, config, &[])?,
        };
    }
    Ok(any)
}

/// The same for one launch config. `before` are the ports of the one it replaces: a port given by chance is kept for
/// the same private port.
pub fn assign_ports_of(
    tx: &mut Tx<'_>,
    ctx: &Context,
    service: i64,
    config: &mut LaunchConfig,
    before: &[String],
) -> Result<bool, CommandError> {
    let mut specs = PortSpec::parse_all(config.ports.as_deref().unwrap_or_default())?;
    if specs.is_empty() {
        return Ok(false);
    }
    let mut kept = kept_ports(tx, ctx, service, before)?;
    specs.sort_by_key(|spec| spec.public.is_none());
    for spec in specs.iter_mut().filter(|spec| spec.public.is_none()) {
        let same = |old: &PortSpec| old.private == spec.private && old.protocol == spec.protocol;
        if let Some(at) = kept.iter().position(same) {
            spec.public = kept.remove(at).public;
        }
    }
    let free = free_ports(tx, ctx, specs.iter().filter(|spec| spec.public.is_none()).count())?;
    for port in &free {
        tx.claim(&claims::service_port(ctx.account_id, i64::from(*port), service))?;
    }
    config.ports = Some(ports::publish(&specs, &free).iter().map(ToString::to_string).collect());
    Ok(true)
}

/// Of these ports, those whose public part was given to the service by chance and is its own still.
pub(super) fn kept_ports(
    tx: &Tx<'_>,
    ctx: &Context,
    service: i64,
    before: &[String],
) -> Result<Vec<PortSpec>, CommandError> {
    let own = Holder::new(Service::TABLE, service);
    let held = tx.claims("servicePort", ctx.account_id)?.into_iter().filter(|claim| claim.holder == own);
    let held: BTreeSet<String> = held.map(|claim| claim.key).collect();
    let mut kept: Vec<PortSpec> = before.iter().filter_map(|text| PortSpec::parse(text).ok()).collect();
    kept.retain(|old| old.public.is_some_and(|public| held.contains(&public.to_string())));
    Ok(kept)
}

/// That many free ports of the project's range from a random start; none when there are too few.
pub(super) fn free_ports(tx: &Tx<'_>, ctx: &Context, n_wanted: usize) -> Result<Vec<u16>, CommandError> {
    if n_wanted == 0 {
        return Ok(Vec::new());
    }
    let project = tx.get::<Project>(&Scope::Everything, Id::new(ctx.account_id))?;
    let range = project.and_then(|row| row.services_port_range.clone()).unwrap_or_default();
    let port = |number: i64| u16::try_from(number.clamp(1, 65_535)).unwrap_or(u16::MAX);
    let range = port(range.start_port.unwrap_or(PORT_RANGE.0))..=port(range.end_port.unwrap_or(PORT_RANGE.1));
    let used =
        tx.claims("servicePort", ctx.account_id)?.into_iter().filter_map(|claim| claim.key.parse().ok()).collect();
    let chosen = ports::free_ports(range, &used, ctx.random.below(u64::from(u16::MAX)), n_wanted);
    Ok(if chosen.len() == n_wanted { chosen } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_known_and_end() {
        type Graph<'a> = &'a [(&'a str, &'a [&'a str])];
        let cases: [(Graph<'_>, &str); 6] = [
            (&[("web", &[])], "ok"),
            (&[("web", &["data"]), ("data", &[])], "ok"),
            (&[("web", &["data", "net"]), ("data", &[]), ("net", &["data"])], "ok"),
            (&[("web", &["dat"]), ("data", &[])], "LaunchConfigName"),
            (&[("web", &["web"])], "CircularReference"),
            (&[("web", &["data"]), ("data", &["web"]), ("log", &[])], "CircularReference"),
        ];
        for (graph, expected) in cases {
            let graph = graph.iter().map(|(name, on)| (*name, on.to_vec())).collect();
            let told = check_references(graph).map_or_else(|error| error.field.unwrap_or_default(), |()| "ok".into());
            assert_eq!(told, expected);
        }
    }
}
