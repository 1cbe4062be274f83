//! Links from a service to others (`services.md` §10.1).

use remuda_model::balancer::LinkRule;
use remuda_model::names::check_link_name;
use remuda_model::states::{ACTIVE, REMOVED, REMOVING};
use remuda_model::{DnsService, Service, ServiceConsumeMap, ServiceLink};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Id, Resource, Row};
use remuda_store::{Query, Scope, Tx};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CommandError, Context};
use crate::balancer::is_balancer;

/// Most rules of one link.
const MAX_RULES: usize = 1_000;

fn read<T: DeserializeOwned>(input: &Object, field: &str) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(input.clone()))
        .map_err(|error| ApiError::field(Code::InvalidFormat, field).because(error.to_string()))
}

fn links(tx: &Tx<'_>, service: &AnyRow) -> Result<Vec<Row<ServiceConsumeMap>>, CommandError> {
    let rows: Vec<Row<ServiceConsumeMap>> =
        tx.list(&Scope::Everything, &Query::new().eq("serviceId", service.meta.id))?;
    Ok(rows.into_iter().filter(|row| row.meta.is_live()).collect())
}

fn target(tx: &Tx<'_>, ctx: &Context, link: &ServiceLink) -> Result<Row<Service>, CommandError> {
    let missing = || ApiError::field(Code::InvalidReference, "serviceId");
    let id = link.service_id.ok_or_else(|| ApiError::field(Code::MissingRequired, "serviceId"))?;
    let row = tx.get::<Service>(&Scope::Account(ctx.account_id), id)?.ok_or_else(missing)?;
    if row.meta.state == "purged" {
        return Err(missing().into());
    }
    Ok(row)
}

/// Names of links are names in DNS: they are kept in lower case, and two that differ in case are one.
fn name_of(link: &ServiceLink) -> Result<Option<String>, ApiError> {
    alias(link.name.as_deref())
}

/// The name a link gets, checked.
pub fn alias(name: Option<&str>) -> Result<Option<String>, ApiError> {
    let name = name.filter(|name| !name.is_empty());
    name.map_or(Ok(()), check_link_name)?;
    Ok(name.map(str::to_ascii_lowercase))
}

/// A link as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To {
    pub service: Id<Service>,
    /// Its name in DNS.
    pub name: Option<String>,
    /// Rules, of a load balancer's link.
    pub ports: Option<Vec<String>>,
}

/// What a request says of a link of that service. The names that a balancer's links have mean nothing, and the rules of
/// others do not either.
fn wanted(service: &AnyRow, to: Id<Service>, link: &ServiceLink, ports: Option<Vec<String>>) -> Result<To, ApiError> {
    if is_balancer(&service.meta.kind) {
        return Ok(To { service: to, name: None, ports: Some(checked_rules(ports)?) });
    }
    Ok(To { service: to, name: name_of(link)?, ports: None })
}

/// Rules that read, trimmed.
pub fn checked_rules(ports: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    let rules: Vec<String> = ports.unwrap_or_default().iter().map(|rule| rule.trim().to_owned()).collect();
    if rules.len() > MAX_RULES {
        return Err(ApiError::field(Code::MaxLimitExceeded, "ports")
            .because(format!("a link has at most {MAX_RULES} rules, not {}", rules.len())));
    }
    rules.iter().try_for_each(|rule| LinkRule::parse(rule).map(drop))?;
    Ok(rules)
}

fn insert(tx: &mut Tx<'_>, service: &AnyRow, to: To) -> Result<(), CommandError> {
    let data = ServiceConsumeMap {
        service_id: Some(Id::new(service.meta.id)),
        consumed_service_id: Some(to.service),
        ports: to.ports,
        ..Default::default()
    };
    let mut row = Row::new(service.meta.account_id, ACTIVE, data);
    row.meta.name = to.name;
    tx.insert(row)?;
    Ok(())
}

/// The same input with the rules that only load balancers' links have.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Link {
    #[serde(flatten)]
    link: ServiceLink,
    ports: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OneLink {
    service_link: Option<Link>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AllLinks {
    service_links: Option<Vec<Link>>,
}

fn end(tx: &mut Tx<'_>, ctx: &Context, mut row: Row<ServiceConsumeMap>) -> Result<(), CommandError> {
    row.meta.enter(REMOVED);
    row.meta.removed = Some(ctx.now);
    row.meta.remove_time = Some(ctx.now.plus_ms(ctx.settings.remove_delay_ms()));
    Ok(tx.update(&mut row)?)
}

/// Whoever is linked to the one service is linked to the other, too, under the same name.
pub fn follow(tx: &mut Tx<'_>, from: Id<Service>, to: Id<Service>) -> Result<(), CommandError> {
    let links = |tx: &Tx<'_>, id: Id<Service>| -> Result<Vec<Row<ServiceConsumeMap>>, CommandError> {
        let rows = tx.list(&Scope::Everything, &Query::new().eq("consumedServiceId", id.number()))?;
        Ok(rows.into_iter().filter(|row: &Row<ServiceConsumeMap>| row.meta.is_live()).collect())
    };
    let known = links(tx, to)?;
    for link in links(tx, from)?.into_iter().filter(|link| link.service_id != Some(to)) {
        if !known.iter().any(|row| row.service_id == link.service_id && row.meta.name == link.meta.name) {
            let data = ServiceConsumeMap {
                service_id: link.service_id,
                consumed_service_id: Some(to),
                ports: link.ports.clone(),
                ..ServiceConsumeMap::default()
            };
            let mut row = Row::new(link.meta.account_id, ACTIVE, data);
            row.meta.name = link.meta.name;
            tx.insert(row)?;
        }
    }
    Ok(())
}

/// `addservicelink`. Only a service with containers refuses a second link to the same one: an alias has it anyway.
pub fn add(tx: &mut Tx<'_>, ctx: &Context, service: &AnyRow, input: &Object) -> Result<(), CommandError> {
    let input: OneLink = read(input, "serviceLink")?;
    let Link { link, ports } =
        input.service_link.ok_or_else(|| ApiError::field(Code::MissingRequired, "serviceLink"))?;
    let to = target(tx, ctx, &link)?;
    if matches!(to.meta.state.as_str(), REMOVING | REMOVED) {
        return Err(ApiError::field(Code::InvalidReference, "serviceId").into());
    }
    let to = wanted(service, to.id(), &link, ports)?;
    let to_it = |row: &Row<ServiceConsumeMap>| row.consumed_service_id == Some(to.service);
    if let Some(mut known) = links(tx, service)?.into_iter().find(to_it) {
        if service.meta.kind == DnsService::TYPE {
            known.meta.name = to.name;
            return Ok(tx.update(&mut known)?);
        }
        return Err(ApiError::field(Code::NotUnique, "serviceId")
            .because("a link to that service exists; use `setservicelinks` for several names")
            .into());
    }
    insert(tx, service, to)
}

/// `removeservicelink`: `name` selects among several links to one service.
pub fn remove(tx: &mut Tx<'_>, ctx: &Context, service: &AnyRow, input: &Object) -> Result<(), CommandError> {
    let input: OneLink = read(input, "serviceLink")?;
    let Link { link, .. } = input.service_link.ok_or_else(|| ApiError::field(Code::MissingRequired, "serviceLink"))?;
    let name = link.name.clone().filter(|name| !name.is_empty());
    let to = link.service_id.ok_or_else(|| ApiError::field(Code::MissingRequired, "serviceId"))?;
    let mut found: Vec<Row<ServiceConsumeMap>> =
        links(tx, service)?.into_iter().filter(|row| row.consumed_service_id == Some(to)).collect();
    if !found.is_empty() && found.iter().all(|row| row.by_selector) {
        return Err(ApiError::field(Code::InvalidReference, "serviceId")
            .because("the link to that service is made by `selectorLink`: change the selector or the labels")
            .into());
    }
    found.retain(|row| !row.by_selector);
    if found.len() > 1 {
        let same = |row: &Row<ServiceConsumeMap>| match (&row.meta.name, &name) {
            (Some(have), Some(want)) => have.eq_ignore_ascii_case(want),
            (have, want) => have == want,
        };
        found.sort_by_key(|row| !same(row));
    }
    match found.into_iter().next() {
        Some(row) => end(tx, ctx, row),
        None if service.meta.kind == DnsService::TYPE => Ok(()),
        None => {
            Err(ApiError::field(Code::InvalidReference, "serviceId").because("there is no link to that service").into())
        }
    }
}

/// `setservicelinks`: the set becomes exactly this.
pub fn set(tx: &mut Tx<'_>, ctx: &Context, service: &AnyRow, input: &Object) -> Result<(), CommandError> {
    let input: AllLinks = read(input, "serviceLinks")?;
    let mut links: Vec<To> = Vec::new();
    for Link { link, ports } in input.service_links.unwrap_or_default() {
        let to = target(tx, ctx, &link)?;
        if matches!(to.meta.state.as_str(), REMOVING | REMOVED) {
            let text = format!("Service {} is removed", to.meta.name.as_deref().unwrap_or_default());
            return Err(ApiError::field(Code::InvalidReference, text.clone()).detailed(text).into());
        }
        let to = wanted(service, to.id(), &link, ports)?;
        if links.iter().any(|known| (known.service, &known.name) == (to.service, &to.name)) {
            let text = "serviceId and link name combination";
            return Err(ApiError::field(Code::NotUnique, text).detailed(text).into());
        }
        links.push(to);
    }
    replace(tx, ctx, service, links)
}

/// Links of a service become exactly these.
pub fn replace(tx: &mut Tx<'_>, ctx: &Context, service: &AnyRow, mut wanted: Vec<To>) -> Result<(), CommandError> {
    // What a selector made is the selector's to end.
    for mut row in links(tx, service)?.into_iter().filter(|row| !row.by_selector) {
        let same = |to: &To| Some(to.service) == row.consumed_service_id && to.name == row.meta.name;
        match wanted.iter().position(same) {
            Some(place) => {
                let to = wanted.remove(place);
                if to.ports != row.ports {
                    row.ports = to.ports;
                    tx.update(&mut row)?;
                }
            }
            None => end(tx, ctx, row)?,
        }
    }
    for to in wanted {
        insert(tx, service, to)?;
    }
    Ok(())
}
