//! The rows that come with another: what a new container consists of. Requests
//! and services make containers through the same [`container_insert`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use remuda_model::ports::PortSpec;
use remuda_model::states::{ACTIVE, CREATED, INACTIVE};
use remuda_model::{
    Container, Host, Image, ImageReference, InstanceLink, IpAddress, Label, Network, Port, Service, ServiceExposeMap,
    Volume,
};
use remuda_runtime::Random;
use remuda_schema::{Id, Resource, Row};
use remuda_store::{Claim, Error, Holder, Query, Scope, Tx};
use serde_json::json;

use crate::plan::{NewContainer, claims};

/// Kind of the network that containers of a mode are on.
pub fn network_kind(mode: &str) -> Option<&'static str> {
    match mode {
        "managed" => Some("hostOnlyNetwork"),
        "bridge" => Some("dockerBridge"),
        "host" => Some("dockerHost"),
        "none" => Some("dockerNone"),
        "container" => Some("dockerContainer"),
        _ => None,
    }
}

/// Keys of platform labels are lower-case.
pub fn with_lowercase_platform_keys(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let lower = |key: String| {
        let folded = key.to_lowercase();
        if folded.starts_with("io.rancher") { folded } else { key }
    };
    labels.into_iter().map(|(key, value)| (lower(key), value)).collect()
}

/// Inserts a container and what belongs to it: image, address, root volume, ports, links, labels, membership.
pub fn container_insert(tx: &mut Tx<'_>, new: NewContainer, random: &Random) -> Result<Row<Container>, Error> {
    let NewContainer { mut row, links, requested_address } = new;
    let owner = row.meta.account_id;
    if !row.native_container {
        row.image_id = Some(image_insert(tx, &row)?.id());
    }
    if row.network_mode.as_deref() == Some("managed") && !row.native_container {
        let requested = requested_address.or_else(|| {
            row.labels.as_ref()?.get("io.rancher.container.requested_ip").map(|address| address.trim().to_owned())
        });
        address_choose(tx, &mut row, requested.as_deref(), random)?;
    }
    let row = tx.insert(row)?;
    if let (Some(service), Some(index)) = (row.service_id, row.service_index) {
        tx.claim(&claims::service_index(service.number(), row.launch_config_name.as_deref(), index, row.meta.id))?;
    }
    // An address that an engine gave is the engine's business: two hosts may give the same.
    if !row.native_container {
        address_insert(tx, &row)?;
    }
    let root = Volume {
        device_number: Some(0),
        instance_id: Some(row.id().cast()),
        image_id: row.image_id,
        driver: None,
        ..Volume::default()
    };
    tx.insert(Row::new(owner, INACTIVE, root))?;
    for text in row.ports.iter().flatten() {
        // Checked when the request came in; what does not parse publishes nothing.
        let Ok(spec) = PortSpec::parse(text) else { continue };
        port_insert(tx, &row, spec)?;
    }
    for (alias, target) in links {
        let link = InstanceLink {
            instance_id: Some(row.id().cast()),
            link_name: Some(alias),
            target_instance_id: target.map(Id::new),
        };
        tx.insert(Row::new(owner, ACTIVE, link))?;
    }
    for (key, value) in row.labels.iter().flatten() {
        label_insert(tx, &row, key, value)?;
    }
    if let Some(service) = row.service_id {
        let map = ServiceExposeMap {
            service_id: Some(service),
            instance_id: Some(row.id().cast()),
            managed: true,
            ..ServiceExposeMap::default()
        };
        tx.insert(Row::new(owner, ACTIVE, map))?;
    }
    Ok(row)
}

/// One label row of a container.
pub fn label_insert(tx: &mut Tx<'_>, row: &Row<Container>, key: &str, value: &str) -> Result<(), Error> {
    let label = Label {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
        r#type: Some("container".to_owned()),
        instance_id: Some(row.id().cast()),
        ..Label::default()
    };
    tx.insert(Row::new(row.meta.account_id, CREATED, label)).map(drop)
}

fn port_insert(tx: &mut Tx<'_>, row: &Row<Container>, spec: PortSpec) -> Result<(), Error> {
    let port = Port {
        bind_address: spec.bind.map(|address| address.to_string()),
        instance_id: Some(row.id().cast()),
        private_port: Some(i64::from(spec.private)),
        protocol: Some(spec.protocol.to_string()),
        public_port: spec.public.map(i64::from),
        ..Port::default()
    };
    let mut port = Row::new(row.meta.account_id, INACTIVE, port);
    port.meta.kind = "userPort".to_owned();
    tx.insert(port).map(drop)
}

fn image_insert(tx: &mut Tx<'_>, row: &Row<Container>) -> Result<Row<Image>, Error> {
    let uuid = row.image_uuid.as_deref().unwrap_or_default();
    let parsed = ImageReference::parse(uuid).ok();
    let docker_image = parsed.as_ref().map(|image| json!({"dockerImage": image.docker_image()}));
    let mut image = Row::new(row.meta.account_id, ACTIVE, Image { docker_image });
    let name = parsed.map_or_else(|| uuid.to_owned(), |image| image.full_name());
    image.meta.name = Some(name);
    tx.insert(image)
}

/// Chooses a free address on the project's managed network: the requested one if it is free and in the range, else
/// the first free one from a random start. Without a managed network, or without a free address, there is none.
pub fn address_choose(
    tx: &mut Tx<'_>,
    row: &mut Row<Container>,
    requested: Option<&str>,
    random: &Random,
) -> Result<(), Error> {
    let Some(project) = row.meta.account_id else { return Ok(()) };
    let Some(range) = managed_range(tx, project)? else { return Ok(()) };
    let requested = requested.and_then(|text| text.parse::<Ipv4Addr>().ok()).and_then(|address| range.offset(address));
    let start = u32::try_from(random.below(u64::from(range.size()))).unwrap_or(0);
    // What the service keeps for it.
    let own = row.service_id.map(|service| Holder::new(Service::TABLE, service.number()));
    let chosen = free_address(tx, project, range, requested, start, own.as_ref())?;
    row.mac_address = chosen.map(mac_of);
    row.primary_ip_address = chosen.map(|address| address.to_string());
    Ok(())
}

/// The addresses of the project's managed network.
fn managed_range(tx: &Tx<'_>, project: i64) -> Result<Option<Range>, Error> {
    let query = Query::new().eq("accountId", project).eq("kind", "hostOnlyNetwork");
    let network = tx.first::<Network>(&Scope::Everything, &query)?;
    Ok(network.and_then(|row| Range::of(row.subnet.as_deref()?)))
}

/// A few are tried one by one, which in all but full networks is enough; then all that are taken are listed once.
fn free_address(
    tx: &Tx<'_>,
    project: i64,
    range: Range,
    requested: Option<u32>,
    start: u32,
    own: Option<&Holder>,
) -> Result<Option<Ipv4Addr>, Error> {
    const TRIES: u32 = 32;
    let probes = (0..range.size()).map(|step| (start + step) % range.size());
    let tried = probes.clone().take(TRIES as usize);
    for address in requested.into_iter().chain(tried).map(|offset| range.at(offset)) {
        let holder = tx.claim_holder("address", project, &address.to_string())?;
        if holder.is_none() || holder.as_ref() == own {
            return Ok(Some(address));
        }
    }
    if range.size() <= TRIES {
        return Ok(None);
    }
    let taken: BTreeSet<String> = tx.claims("address", project)?.into_iter().map(|claim| claim.key).collect();
    Ok(probes.map(|offset| range.at(offset)).find(|address| !taken.contains(&address.to_string())))
}

/// The host's own address on its project's managed network: source of what its processes send to containers of other
/// hosts. Claimed once and kept; `true` when the row has changed.
pub fn host_address(tx: &mut Tx<'_>, host: &mut Row<Host>) -> Result<bool, Error> {
    let Some(project) = host.meta.account_id else { return Ok(false) };
    let holder = claims::host(host.meta.id);
    if let Some(address) = host.network_address.clone() {
        tx.claim(&Claim::new("address", project, address, holder))?;
        return Ok(false);
    }
    let Some(range) = managed_range(tx, project)? else { return Ok(false) };
    // Spread like those of containers, and the same however often it is tried.
    let start = host.meta.id.unsigned_abs().wrapping_mul(7_919) % u64::from(range.size());
    let start = u32::try_from(start).unwrap_or(0);
    let Some(address) = free_address(tx, project, range, None, start, None)? else {
        tracing::warn!(project, host = host.meta.id, "no address is left for the host");
        return Ok(false);
    };
    tx.claim(&Claim::new("address", project, address.to_string(), holder))?;
    host.network_address = Some(address.to_string());
    Ok(true)
}

/// Claims the chosen address for the inserted container, and makes its row.
pub fn address_insert(tx: &mut Tx<'_>, row: &Row<Container>) -> Result<(), Error> {
    let (Some(project), Some(address)) = (row.meta.account_id, &row.primary_ip_address) else { return Ok(()) };
    if let Some(service) = row.service_id {
        tx.release(&claims::retained_address(project, address, service.number()))?;
    }
    tx.claim(&claims::address(project, address, row.meta.id))?;
    let query = Query::new().eq("accountId", project).eq("kind", "hostOnlyNetwork");
    let network = tx.first::<Network>(&Scope::Everything, &query)?;
    let data = IpAddress {
        address: Some(address.clone()),
        network_id: network.map(|row| row.id()),
        instance_id: Some(row.id().cast()),
        role: Some("primary".to_owned()),
        ..IpAddress::default()
    };
    let mut address = Row::new(row.meta.account_id, ACTIVE, data);
    address.meta.kind = "docker".to_owned();
    tx.insert(address).map(drop)
}

/// Locally administered, and unique because the address is.
fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:72:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The addresses of a subnet that containers can have: from the second to the sixth from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u32,
    len: u32,
}

impl Range {
    /// Of `10.42.0.0/16`; `None` for what is no IPv4 subnet with room.
    pub fn of(cidr: &str) -> Option<Range> {
        let (network, size) = cidr.split_once('/')?;
        let size: u32 = size.parse().ok().filter(|size| (8..=29).contains(size))?;
        let network = u32::from(network.parse::<Ipv4Addr>().ok()?) & (u32::MAX << (32 - size));
        let addresses = 1_u32 << (32 - size);
        Some(Range { first: network + 2, len: addresses.checked_sub(7)? })
    }

    /// How many there are.
    pub fn size(self) -> u32 {
        self.len
    }

    fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + offset)
    }

    fn offset(self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address).checked_sub(self.first).filter(|offset| *offset < self.len)
    }

    /// Whether containers can have the address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some()
    }

    /// The first address of the subnet.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_that_of_the_original() {
        let range = Range::of("10.42.0.0/16").expect("a subnet");
        assert_eq!(range.gateway().to_string(), "10.42.0.1");
        assert_eq!(range.at(0).to_string(), "10.42.0.2");
        assert_eq!(range.at(range.size() - 1).to_string(), "10.42.255.250");
        assert_eq!(range.offset(Ipv4Addr::new(10, 43, 0, 1)), None);
        assert_eq!(Range::of("10.42.0.0/30"), None);
        assert_eq!(Range::of("nonsense"), None);
    }
}
