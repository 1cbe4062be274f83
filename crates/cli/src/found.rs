//! Reads what the server has of a project, in few requests: those of a project of twenty services are as many as those
//! of one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join;
use remuda_client::{Client, Resource};
use remuda_compose::Project;
use serde_json::Value;

use crate::failure::Failure;
use crate::plan::{Found, FoundLink};
use crate::resolve;

const LIVE: (&str, &str) = ("removed_null", "true");

/// The services of the project's stack, if there is one, and their links.
pub async fn read(client: &Client, project: &Project, stack: Option<Resource>) -> Result<Found, Failure> {
    let mut found = match stack {
        Some(stack) => in_stack(client, stack).await?,
        None => Found::default(),
    };
    let stacks: BTreeSet<&String> = links(project).filter_map(|link| link.stack.as_ref()).collect();
    for stack in stacks {
        let Some(row) = resolve::stack_named(client, stack).await? else { continue };
        for service in client.list("services", &[("environmentId", row.id()), LIVE]).await? {
            found.elsewhere.insert((stack.clone(), service.name().to_owned()), service);
        }
    }
    Ok(found)
}

fn links(project: &Project) -> impl Iterator<Item = &remuda_compose::Link> {
    project.services.iter().flat_map(|service| &service.links)
}

/// The services of a stack and their links.
pub async fn in_stack(client: &Client, stack: Resource) -> Result<Found, Failure> {
    let filters = [("environmentId", stack.id()), LIVE];
    let (services, maps) = join(client.list("services", &filters), client.list("serviceconsumemaps", &[LIVE])).await;
    let mut links: BTreeMap<String, Vec<FoundLink>> = BTreeMap::new();
    for map in maps? {
        if matches!(map.state(), "removing" | "removed") {
            continue;
        }
        let link = FoundLink {
            target_id: map.text("consumedServiceId").to_owned(),
            ports: words(map.get("ports")),
            alias: map.maybe("name").filter(|name| !name.is_empty()).map(str::to_owned),
        };
        links.entry(map.text("serviceId").to_owned()).or_default().push(link);
    }
    let mut services = services?;
    services.retain(|service| !matches!(service.state(), "removing" | "removed"));
    Ok(Found { stack: Some(stack), services, links, elsewhere: BTreeMap::new() })
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Ids of the certificates that services of the files name. One that is not there is an error before anything is
/// changed.
pub async fn certificates<'a>(
    client: &Client,
    services: impl Iterator<Item = &'a remuda_compose::Service>,
) -> Result<BTreeMap<String, String>, Failure> {
    let named = services.flat_map(|service| service.default_certificate.iter().chain(&service.certificates));
    let named: BTreeSet<&String> = named.collect();
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = client.list("certificates", &[LIVE]).await?;
    let known: BTreeMap<String, String> = rows.iter().map(|row| (row.name().to_owned(), row.id().to_owned())).collect();
    match named.into_iter().find(|name| !known.contains_key(*name)) {
        Some(name) => Err(Failure::usage(format!("Failed to find certificate {name}"))),
        None => Ok(known),
    }
}
