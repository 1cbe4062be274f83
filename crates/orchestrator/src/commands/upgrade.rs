//! Upgrade, rollback and their ends, and restart, by request (`services.md` §11): what is checked and written before the answer. The
//! work is done by `plan::service::upgrade` and `plan::service::restart`.

use std::collections::BTreeSet;

use remuda_model::labels::PRIMARY_LAUNCH_CONFIG as PRIMARY;
use remuda_model::{
    InServiceUpgradeStrategy, LaunchConfig, SecondaryLaunchConfig, Service, ServiceRestart, ServiceUpgrade, Stack,
    ToServiceUpgradeStrategy,
};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Row};
use remuda_store::{Scope, Tx};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::service::{assign_ports_of, check_configs, check_sidekicks, has_containers, only_labels};
use super::{CommandError, Context, link, load_balancer};
use crate::balancer::is_balancer;
use crate::plan::service::units::primary_or_sidekick;

/// The action by request.
pub fn act(tx: &mut Tx<'_>, ctx: &Context, row: &AnyRow, action: &str, input: &Object) -> Result<AnyRow, CommandError> {
    let row: Row<Service> = row.typed()?;
    let row = match action {
        "upgrade" => upgrade(tx, ctx, row, read(input)?)?,
        "restart" => restart(tx, ctx, row, read(input)?)?,
        _ => go_on(tx, ctx, row, action)?,
    };
    Ok(row.to_any()?)
}

fn read<T: DeserializeOwned>(input: &Object) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(input.clone()))
        .map_err(|error| ApiError::new(Code::InvalidFormat).because(error.to_string()))
}

/// `restart`: every container once, some at a time.
pub fn restart(
    tx: &mut Tx<'_>,
    ctx: &Context,
    mut row: Row<Service>,
    wish: ServiceRestart,
) -> Result<Row<Service>, CommandError> {
    begin(&mut row, "restart", ctx)?;
    row.restart = wish.rolling_restart_strategy;
    row.restart_counts = None;
    row.next_batch = Some(ctx.now);
    tx.update(&mut row)?;
    Ok(row)
}

/// What comes after an upgrade: `finishupgrade`, `cancelupgrade`, `rollback`, `cancelrollback`.
pub fn go_on(
    tx: &mut Tx<'_>,
    ctx: &Context,
    mut row: Row<Service>,
    action: &str,
) -> Result<Row<Service>, CommandError> {
    begin(&mut row, action, ctx)?;
    if action == "rollback" {
        row.put_back();
        (row.next_batch, row.ailing_since, row.rollback_reason) = (Some(ctx.now), None, None);
    }
    tx.update(&mut row)?;
    Ok(row)
}

/// Enters the state of the action; refused where it is not offered.
fn begin(row: &mut Row<Service>, action: &str, ctx: &Context) -> Result<(), ApiError> {
    let via = super::upgrade_step::<Service>(&row.meta.state, action, "service")?;
    super::enter(row, via, ctx);
    Ok(())
}

/// `upgrade`: the service has the new launch configs at once, its containers get them batch by batch.
pub fn upgrade(
    tx: &mut Tx<'_>,
    ctx: &Context,
    mut row: Row<Service>,
    wish: ServiceUpgrade,
) -> Result<Row<Service>, CommandError> {
    begin(&mut row, "upgrade", ctx)?;
    (row.next_batch, row.ailing_since, row.rollback_reason) = (Some(ctx.now), None, None);
    let upgrade = match (wish.in_service_strategy, wish.to_service_strategy) {
        (Some(strategy), _) => ServiceUpgrade {
            in_service_strategy: Some(in_service(tx, ctx, &mut row, strategy)?),
            ..ServiceUpgrade::default()
        },
        (None, Some(strategy)) => {
            to_service(tx, ctx, &row, &strategy)?;
            ServiceUpgrade { to_service_strategy: Some(strategy), ..ServiceUpgrade::default() }
        }
        (None, None) => {
            let text = "Upgrade strategy needs to be set";
            return Err(ApiError::field(Code::MissingRequired, text).detailed(text).into());
        }
    };
    row.upgrade = Some(Box::new(upgrade));
    tx.update(&mut row)?;
    Ok(row)
}

/// The service gets the new launch configs; what is noted of the old and the new ones.
fn in_service(
    tx: &mut Tx<'_>,
    ctx: &Context,
    row: &mut Row<Service>,
    mut strategy: InServiceUpgradeStrategy,
) -> Result<InServiceUpgradeStrategy, CommandError> {
    if strategy.start_first && row.retain_ip == Some(true) {
        let text = "StartFirst option can't be used for service with retainIp field set";
        return Err(ApiError::field(Code::InvalidOption, text).detailed(text).into());
    }
    let sidekicks = strategy.secondary_launch_configs.as_ref().is_some_and(|sidekicks| !sidekicks.is_empty());
    if sidekicks && !has_containers(&row.meta.kind) {
        let text = "Only services with containers have sidekicks";
        return Err(ApiError::field(Code::InvalidOption, "secondaryLaunchConfigs").because(text).into());
    }
    exchange(row, &mut strategy, &ctx.random.uuid())?;
    if is_balancer(&row.meta.kind) {
        load_balancer::prepare(&ctx.settings, row)?;
    }
    check(tx, row)?;
    if !has_containers(&row.meta.kind) {
        only_labels(row)?;
        strategy.launch_config = row.launch_config.clone();
        return Ok(strategy);
    }
    let (service, balances) = (row.meta.id, is_balancer(&row.meta.kind));
    let before = strategy.previous_launch_config.as_ref();
    if let Some(config) = row.launch_config.as_mut().filter(|_| strategy.launch_config.is_some()) {
        match balances {
            true => load_balancer::assign_ports(tx, ctx, service, config, ports_of(before))?,
            false => assign_ports_of(tx, ctx, service, config, ports_of(before))?,
        };
        strategy.launch_config = Some(config.clone());
    }
    for given in strategy.secondary_launch_configs.iter_mut().flatten() {
        let before = find(&strategy.previous_secondary_launch_configs, given.name.as_deref());
        let now = row.secondary_launch_configs.iter_mut().flatten().find(|now| now.name == given.name);
        if let Some(now) = now {
            assign_ports_of(tx, ctx, service, &mut now.config, ports_of(before))?;
            given.config = now.config.clone();
        }
    }
    Ok(strategy)
}

/// The other service is there, and linked by whoever is linked to this one, if that is wanted.
fn to_service(
    tx: &mut Tx<'_>,
    ctx: &Context,
    row: &Row<Service>,
    strategy: &ToServiceUpgradeStrategy,
) -> Result<(), CommandError> {
    let id = strategy.to_service_id.ok_or_else(|| ApiError::field(Code::MissingRequired, "toServiceId"))?;
    let target = tx.get::<Service>(&Scope::Account(ctx.account_id), id)?;
    let bare = [Some(&row.meta), target.as_ref().map(|target| &target.meta)];
    if let Some(bare) = bare.into_iter().flatten().find(|meta| !has_containers(&meta.kind)) {
        return Err(ApiError::field(Code::InvalidOption, "toServiceStrategy")
            .because(format!("a {} has no containers that could be exchanged for others", bare.kind))
            .into());
    }
    if target.is_none_or(|target| target.meta.id == row.meta.id) {
        return Err(ApiError::field(Code::InvalidReference, "toServiceId")
            .because("an upgrade leads to another service of the project")
            .into());
    }
    if strategy.update_links == Some(true) {
        link::follow(tx, row.id(), id)?;
    }
    Ok(())
}

fn ports_of(config: Option<&LaunchConfig>) -> &[String] {
    config.and_then(|config| config.ports.as_deref()).unwrap_or_default()
}

fn find<'a>(sidekicks: &'a Option<Vec<SecondaryLaunchConfig>>, name: Option<&str>) -> Option<&'a LaunchConfig> {
    sidekicks.iter().flatten().find(|sidekick| sidekick.name.as_deref() == name).map(|sidekick| &sidekick.config)
}

/// Puts the given launch configs in the place of the present ones, as that version, and notes both in the strategy. One
/// that refers to a given one is exchanged with it. An unknown name is a new sidekick; one without an image goes.
fn exchange(row: &mut Service, strategy: &mut InServiceUpgradeStrategy, version: &str) -> Result<(), ApiError> {
    let given = strategy.secondary_launch_configs.take().unwrap_or_default();
    if strategy.launch_config.is_none() && given.is_empty() {
        let text = "LaunchConfig/secondaryLaunchConfigs need to be specified for inService strategy";
        return Err(ApiError::field(Code::InvalidOption, text).detailed(text));
    }
    let selects = row.selector_container.as_deref().is_some_and(|selector| !selector.is_empty());
    if selects && row.launch_configs().is_empty() {
        let text = "Can't upgrade selector only service";
        return Err(ApiError::field(Code::InvalidAction, text).detailed(text));
    }
    let before = (row.launch_config.clone(), row.secondary_launch_configs.clone());
    (strategy.previous_launch_config, strategy.previous_secondary_launch_configs) = (None, None);
    let mut exchanged = BTreeSet::new();
    if let Some(config) = &strategy.launch_config {
        row.launch_config = Some(config.clone());
        exchanged.insert(PRIMARY.to_owned());
    }
    for sidekick in given {
        let name = sidekick.name.clone().unwrap_or_default();
        if !exchanged.insert(name.clone()) {
            return Err(ApiError::field(Code::NotUnique, "name")
                .because(format!("the upgrade has two launch configs named `{name}`")));
        }
        let sidekicks = row.secondary_launch_configs.get_or_insert_default();
        match sidekicks.iter_mut().find(|present| present.name == sidekick.name) {
            Some(present) => present.config = sidekick.config,
            None if sidekick.config.has_image() => sidekicks.push(sidekick),
            None => {
                let text = format!("Invalid secondary launch config name {name}");
                return Err(ApiError::field(Code::InvalidOption, text.clone()).detailed(text));
            }
        }
    }
    // Who refers to what is exchanged, until nothing is added.
    loop {
        let refers =
            |config: &LaunchConfig| config.references().any(|name| exchanged.contains(primary_or_sidekick(row, name)));
        let primary = row.launch_config.iter().map(|config| (PRIMARY, config));
        let sidekicks = row.secondary_launch_configs.iter().flatten();
        let sidekicks = sidekicks.map(|sidekick| (sidekick.name.as_deref().unwrap_or_default(), &sidekick.config));
        let mut rest = primary.chain(sidekicks).filter(|(name, _)| !exchanged.contains(*name));
        match rest.find(|(_, config)| refers(config)).map(|(name, _)| name.to_owned()) {
            Some(name) => drop(exchanged.insert(name)),
            None => break,
        }
    }
    let renew = |config: &mut LaunchConfig| {
        config.version = Some(version.to_owned());
        config.network_mode.get_or_insert_with(|| "managed".to_owned());
    };
    if exchanged.contains(PRIMARY) {
        row.launch_config.iter_mut().for_each(renew);
        strategy.launch_config = row.launch_config.clone();
        strategy.previous_launch_config = before.0;
    }
    let mut sidekicks = Vec::new();
    for sidekick in row.secondary_launch_configs.iter_mut().flatten() {
        if exchanged.contains(sidekick.name.as_deref().unwrap_or_default()) {
            renew(&mut sidekick.config);
            sidekicks.push(sidekick.clone());
        }
    }
    if !sidekicks.is_empty() {
        strategy.secondary_launch_configs = Some(sidekicks);
        strategy.previous_secondary_launch_configs = before.1;
    }
    Ok(())
}

/// The service as it will be passes the checks of one that is made.
fn check(tx: &Tx<'_>, row: &Row<Service>) -> Result<(), CommandError> {
    let mut then = row.clone();
    if let Some(sidekicks) = &mut then.secondary_launch_configs {
        sidekicks.retain(|sidekick| sidekick.config.has_image());
    }
    let stack = then.environment_id.map(|id| tx.get::<Stack>(&Scope::Everything, id)).transpose()?.flatten();
    if let Some(stack) = stack {
        check_sidekicks(tx, &stack, &then)?;
    }
    let checked = if has_containers(&then.meta.kind) { check_configs(&then) } else { only_labels(&mut then) };
    Ok(checked?)
}

#[cfg(test)]
mod tests {
    use remuda_model::{ServiceCommon, Workload};

    use super::*;

    fn config(image: &str) -> LaunchConfig {
        let workload =
            Workload { image_uuid: Some(image.to_owned()), version: Some("0".to_owned()), ..Workload::default() };
        LaunchConfig { workload, ..LaunchConfig::default() }
    }

    fn sidekick(name: &str, config: LaunchConfig) -> SecondaryLaunchConfig {
        SecondaryLaunchConfig { name: Some(name.to_owned()), config }
    }

    /// `web` mounts the volumes of `data`; `log` stands for itself.
    fn service() -> Service {
        let mut primary = config("docker:web:1");
        primary.data_volumes_from_launch_configs = Some(vec!["data".to_owned()]);
        let sidekicks = vec![sidekick("data", config("docker:data:1")), sidekick("log", config("docker:log:1"))];
        let common = ServiceCommon { launch_config: Some(primary), ..ServiceCommon::default() };
        Service { common, secondary_launch_configs: Some(sidekicks), ..Service::default() }
    }

    /// Image and version of every launch config after the upgrade, the same after it is put back, or the error.
    fn check(primary: Option<LaunchConfig>, sidekicks: &[(&str, &str)], expected: &str) {
        let mut row = service();
        let given = sidekicks.iter().map(|(name, image)| sidekick(name, config(image))).collect();
        let mut strategy = InServiceUpgradeStrategy {
            launch_config: primary,
            secondary_launch_configs: Some(given),
            ..InServiceUpgradeStrategy::default()
        };
        let found = match exchange(&mut row, &mut strategy, "v") {
            Err(error) => error.field.unwrap_or_default(),
            Ok(()) => {
                assert_eq!(strategy.version(), Some("v"));
                let told = |row: &Service| {
                    let primary = row.launch_config.iter();
                    let all = primary.chain(row.secondary_launch_configs.iter().flatten().map(|of| &of.config));
                    let of = |config: &LaunchConfig| {
                        let image = config.image_uuid.as_deref().unwrap_or("-").replace("docker:", "");
                        format!("{image}@{}", config.version.as_deref().unwrap_or("-"))
                    };
                    all.map(of).collect::<Vec<_>>().join(" ")
                };
                let after = told(&row);
                row.upgrade =
                    Some(Box::new(ServiceUpgrade { in_service_strategy: Some(strategy), ..ServiceUpgrade::default() }));
                row.put_back();
                assert_eq!(row.launch_config, service().launch_config);
                assert_eq!(row.secondary_launch_configs, service().secondary_launch_configs);
                after
            }
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn services_11_2_given_launch_configs_replace_and_take_along_who_refers_to_them() {
        check(Some(config("docker:web:2")), &[], "web:2@v data:1@0 log:1@0");
        check(None, &[("data", "docker:data:2")], "web:1@v data:2@v log:1@0");
        check(None, &[("log", "docker:log:2")], "web:1@0 data:1@0 log:2@v");
        check(None, &[("new", "docker:new:1")], "web:1@0 data:1@0 log:1@0 new:1@v");
        check(None, &[("log", "rancher/none")], "web:1@0 data:1@0 rancher/none@v");
        check(None, &[("none", "docker:rancher/none")], "Invalid secondary launch config name none");
        check(None, &[("log", "docker:a"), ("log", "docker:b")], "name");
        check(None, &[], "LaunchConfig/secondaryLaunchConfigs need to be specified for inService strategy");
    }
}
