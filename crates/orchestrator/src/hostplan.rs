//! What one host shall run, as a pure function of the World (DESIGN §6): the rows in the words of the engine
//! (`resources.md` §§6.5-6.9). Container by container, so that a change costs what changed.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::docker_name::docker_name;
use remuda_model::states::*;
use remuda_model::{BlkioDeviceOption, Container, Host};
use remuda_schema::Row;
use remuda_wire::plan::{
    Backend, BlkioDevice, Build, ContainerPlan, ContainerSpec, Desired, HealthCheck, LinkPlan, NetworkMode,
    NetworkPlan, PlanUpdate, PortPlan, Pull, Removal, RestartPolicy, SecretPlan, Ulimit, VolumeCleanup, VolumePlan,
    VolumeRemoval,
};

use crate::balancer;
use crate::fence;
use crate::plan::container::cleanup_volumes;
use crate::plan::volume::is_on_a_host;
use crate::transitions::{STOP_TIMEOUT_SECONDS, WANT_RUNNING, is_start_once, label};
use crate::world::{World, dependencies};

/// Address of the name and metadata server on every host.
pub const RESOLVER: &str = "169.254.169.250";
/// Last search domain of every container.
pub const DOMAIN: &str = "rancher.internal";
/// Bytes kept free in a packet between hosts for the headers of a tunnel: more than any backend needs.
const HEADROOM: u32 = 98;

/// What the host is told of one container.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Keep(Box<ContainerPlan>),
    Remove(Removal),
    /// Not in the plan (any more); says nothing about the engine.
    Nothing,
}

/// The whole plan of a host, without a base.
pub fn plan(world: &World, host: i64) -> PlanUpdate {
    let mut update = PlanUpdate { revision: world.revision, network: network(world), ..PlanUpdate::default() };
    for row in world.containers_on(host) {
        match part(world, host, row) {
            Part::Keep(container) => {
                update.containers.push(*container);
                update.balancers.extend(balancer::plan(world, row, host));
            }
            Part::Remove(removal) => update.removals.push(removal),
            Part::Nothing => {}
        }
    }
    update.volume_removals = volume_removals(world, host);
    update
}

/// What the host is told of that container.
pub fn part(world: &World, host: i64, row: &Row<Container>) -> Part {
    if row.host_id.is_none_or(|id| id.number() != host) {
        return Part::Nothing;
    }
    match row.meta.state.as_str() {
        REQUESTED | CREATING | PURGED => Part::Nothing,
        PURGING if row.purge_confirmed => Part::Nothing,
        PURGING => Part::Remove(Removal {
            uuid: row.meta.uuid.clone(),
            docker_id: row.external_id.clone(),
            volumes: VolumeCleanup {
                names: cleanup_volumes(world, row).filter_map(|volume| volume.meta.name.clone()).collect(),
            },
        }),
        _ => Part::Keep(Box::new(container(world, row))),
    }
}

/// Volumes of the host to delete.
pub fn volume_removals(world: &World, host: i64) -> Vec<VolumeRemoval> {
    let going = world
        .each(&world.volumes, &world.volumes_by_host, host)
        .filter(|row| row.meta.state == PURGING && is_on_a_host(world, row));
    going
        .map(|row| VolumeRemoval {
            uuid: row.meta.uuid.clone(),
            name: row.meta.name.clone().unwrap_or_default(),
            driver: row.driver.clone(),
        })
        .collect()
}

/// The project's managed network.
pub fn network(world: &World) -> Option<NetworkPlan> {
    let row = world.network_of_mode("managed")?;
    let project = world.project.as_deref();
    let backend = project.and_then(|row| Backend::named(row.network_backend.as_deref()?));
    let mtu = project.and_then(|row| u32::try_from(row.network_mtu?).ok()).unwrap_or(1500);
    let port = project.and_then(|row| u16::try_from(row.network_port?).ok());
    Some(NetworkPlan {
        subnet: row.subnet.clone()?,
        gateway: row.gateway.clone()?,
        mtu: mtu.saturating_sub(HEADROOM),
        backend: backend.unwrap_or_default(),
        underlay_mtu: mtu,
        port: port.unwrap_or(0),
    })
}

fn container(world: &World, row: &Row<Container>) -> ContainerPlan {
    let desired = match row.meta.state.as_str() {
        _ if row.start_serial == 0 && !row.native_container => Desired::Nothing,
        ERROR | ERRORING | REMOVING | REMOVED | RESTORING => Desired::Stopped,
        // Those who route to it are told first.
        STOPPING if row.withdraw_by.is_some() => Desired::Running,
        _ if row.desired == WANT_RUNNING => Desired::Running,
        _ => Desired::Stopped,
    };
    let start_once = is_start_once(row);
    ContainerPlan {
        uuid: row.meta.uuid.clone(),
        id: row.public_id(),
        name: row.meta.name.clone().unwrap_or_else(|| row.meta.uuid.clone()),
        docker_id: row.external_id.clone(),
        desired,
        start_serial: row.start_serial,
        stop_timeout_seconds: row.stop_timeout_seconds.unwrap_or(STOP_TIMEOUT_SECONDS),
        supervise: row.service_id.is_some() && !start_once && !row.native_container,
        start_once,
        after: dependencies(row).filter_map(|id| uuid_of(world, id)).collect::<BTreeSet<_>>().into_iter().collect(),
        native: row.native_container,
        fence_after_ms: fence::of(world, row),
        spec: if row.native_container { ContainerSpec::default() } else { spec(world, row) },
    }
}

fn uuid_of(world: &World, container: i64) -> Option<String> {
    world.containers.get(&container).map(|row| row.meta.uuid.clone())
}

fn spec(world: &World, row: &Row<Container>) -> ContainerSpec {
    let network = network_mode(world, row);
    let is_managed = matches!(network, NetworkMode::Managed { .. });
    let has_ports = matches!(network, NetworkMode::Managed { .. } | NetworkMode::Bridge);
    let own_host_name = !matches!(network, NetworkMode::Host | NetworkMode::Container { .. });
    let (dns, dns_search, resolver) = names(row, &network);
    let links = links(world, row);
    let mut environment = row.environment.clone().unwrap_or_default();
    if is_managed {
        for (key, value) in link_environment(world, &links) {
            environment.entry(key).or_insert(value);
        }
    }
    let log = row.log_config.clone().unwrap_or_default();
    ContainerSpec {
        // The agent takes the uuid when another container of the host has the name.
        docker_name: docker_name(row.meta.name.as_deref(), &row.meta.uuid, |_| false),
        image: image(row),
        pull: if label(row, "io.rancher.container.pull_image") == Some("always") {
            Pull::Always
        } else {
            Pull::IfMissing
        },
        build: row.build.as_ref().filter(|build| build.context.is_some() || build.remote.is_some()).map(|build| {
            Build {
                args: build.args.clone().unwrap_or_default(),
                context: build.context.clone(),
                remote: build.remote.clone(),
                dockerfile: build.dockerfile.clone(),
                no_cache: build.nocache,
                force_rm: build.forcerm,
                target: build.target.clone().filter(|target| !target.is_empty()),
            }
        }),
        secrets: secrets(row),
        command: row.command.clone(),
        entry_point: row.entry_point.clone(),
        environment,
        working_dir: row.working_dir.clone(),
        user: row.user.clone(),
        hostname: row.hostname.clone().filter(|_| own_host_name),
        domain_name: row.domain_name.clone().filter(|_| own_host_name),
        tty: row.tty,
        stdin_open: row.stdin_open,
        labels: labels(world, row, &network),
        ports: if has_ports { ports(world, row) } else { Vec::new() },
        expose: if has_ports { row.expose.clone().unwrap_or_default() } else { Vec::new() },
        publish_all_ports: row.publish_all_ports && has_ports,
        data_volumes: data_volumes(world, row),
        volumes_from: row.data_volumes_from.iter().flatten().filter_map(|id| uuid_of(world, id.number())).collect(),
        volume_driver: row.volume_driver.clone(),
        volumes: volumes(world, row),
        links: if matches!(network, NetworkMode::Bridge) {
            links
                .iter()
                .filter(|(_, target)| target.host_id == row.host_id)
                .map(|(alias, target)| LinkPlan { alias: alias.clone(), target_uuid: target.meta.uuid.clone() })
                .collect()
        } else {
            Vec::new()
        },
        network,
        dns,
        dns_search,
        resolver,
        extra_hosts: row.extra_hosts.clone().unwrap_or_default(),
        devices: row.devices.clone().unwrap_or_default(),
        restart_policy: row.restart_policy.as_ref().filter(|_| row.service_id.is_none()).and_then(|policy| {
            let name = policy.name.clone()?;
            Some(RestartPolicy { name, maximum_retry_count: policy.maximum_retry_count })
        }),
        memory: row.memory,
        memory_swap: row.memory_swap,
        cpu_shares: row.cpu_shares,
        cpu_set: row.cpu_set.clone(),
        pid_mode: row.pid_mode.clone(),
        privileged: row.privileged,
        read_only: row.read_only,
        cap_add: row.cap_add.clone().unwrap_or_default(),
        cap_drop: row.cap_drop.clone().unwrap_or_default(),
        security_opt: row.security_opt.clone().unwrap_or_default(),
        log_driver: log.driver.filter(|driver| !driver.is_empty()),
        log_options: log.config.unwrap_or_default(),
        blkio_devices: blkio_devices(row),
        blkio_weight: row.blkio_weight,
        cgroup_parent: row.cgroup_parent.clone(),
        cpu_period: row.cpu_period,
        cpu_quota: row.cpu_quota,
        cpu_set_mems: row.cpu_set_mems.clone(),
        dns_opt: row.dns_opt.clone().unwrap_or_default(),
        group_add: row.group_add.clone().unwrap_or_default(),
        health_check: health_check(row),
        ipc_mode: row.ipc_mode.clone(),
        isolation: row.isolation.clone(),
        memory_reservation: row.memory_reservation,
        memory_swappiness: row.memory_swappiness,
        oom_kill_disable: row.oom_kill_disable == Some(true),
        oom_score_adj: row.oom_score_adj,
        pids_limit: row.pids_limit,
        shm_size: row.shm_size,
        stop_signal: row.stop_signal.clone(),
        storage_opt: row.storage_opt.clone().unwrap_or_default(),
        sysctls: row.sysctls.clone().unwrap_or_default(),
        tmpfs: row.tmpfs.clone().unwrap_or_default(),
        ulimits: ulimits(row),
        userns_mode: row.userns_mode.clone(),
        uts: row.uts.clone(),
    }
}

/// What does not read was refused when it came in.
fn secrets(row: &Row<Container>) -> Vec<SecretPlan> {
    let secrets = row.secrets.iter().flatten().filter_map(|secret| {
        let (uid, gid, mode) = secret.rights()?;
        Some(SecretPlan { id: secret.secret_id?.number(), path: secret.path(), uid, gid, mode })
    });
    secrets.collect()
}

fn blkio_devices(row: &Row<Container>) -> Vec<BlkioDevice> {
    let devices = row.blkio_device_options.iter().flatten();
    let device = |(path, of): (&String, &BlkioDeviceOption)| BlkioDevice {
        path: path.clone(),
        weight: of.weight,
        read_bps: of.read_bps,
        write_bps: of.write_bps,
        read_iops: of.read_iops,
        write_iops: of.write_iops,
    };
    devices.map(device).collect()
}

/// A limit of which one half is given has it in both; one without any says nothing.
fn ulimits(row: &Row<Container>) -> Vec<Ulimit> {
    let limits = row.ulimits.iter().flatten();
    let limits = limits.filter_map(|limit| {
        let (soft, hard) = (limit.soft.or(limit.hard)?, limit.hard.or(limit.soft)?);
        Some(Ulimit { name: limit.name.clone()?, soft, hard })
    });
    limits.collect()
}

fn health_check(row: &Row<Container>) -> Option<HealthCheck> {
    let check = HealthCheck {
        test: row.health_cmd.clone().unwrap_or_default(),
        interval_seconds: row.health_interval,
        timeout_seconds: row.health_timeout,
        retries: row.health_retries,
    };
    (check != HealthCheck::default()).then_some(check)
}

/// The reference without `docker:`; simulated images keep their prefix, the simulated engine wants to see it.
fn image(row: &Row<Container>) -> String {
    let uuid = row.image_uuid.as_deref().unwrap_or_default();
    uuid.strip_prefix("docker:").unwrap_or(uuid).to_owned()
}

fn network_mode(world: &World, row: &Row<Container>) -> NetworkMode {
    match row.network_mode.as_deref() {
        Some("managed") => match &row.primary_ip_address {
            Some(address) => {
                NetworkMode::Managed { address: address.clone(), mac: row.mac_address.clone().unwrap_or_default() }
            }
            None => NetworkMode::Bridge,
        },
        Some("host") => NetworkMode::Host,
        Some("none") => NetworkMode::None,
        Some("container") => {
            let target = row.network_container_id.and_then(|id| uuid_of(world, id.number()));
            target.map_or(NetworkMode::None, |uuid| NetworkMode::Container { uuid })
        }
        _ => NetworkMode::Bridge,
    }
}

/// Name servers, search domains, and whether our resolver file is bound (`resources.md` §6.5 step 3, DESIGN §7).
fn names(row: &Row<Container>, network: &NetworkMode) -> (Vec<String>, Vec<String>, bool) {
    let mut dns = row.dns.clone().unwrap_or_default();
    let mut search = row.dns_search.clone().unwrap_or_default();
    let wish = label(row, "io.rancher.container.dns");
    let off = wish == Some("false") || row.system_container.is_some();
    let joined = matches!(network, NetworkMode::None | NetworkMode::Container { .. });
    if off || joined {
        return (dns, search, false);
    }
    let resolver = matches!(network, NetworkMode::Managed { .. }) || wish == Some("true");
    if resolver && !dns.iter().any(|server| server == RESOLVER) {
        dns.insert(0, RESOLVER.to_owned());
    }
    if !search.iter().any(|domain| domain == DOMAIN) {
        search.push(DOMAIN.to_owned());
    }
    let mounts_its_own = row
        .data_volumes
        .iter()
        .flatten()
        .any(|volume| volume.split(':').nth(1).or(Some(volume)).is_some_and(|path| path == "/etc/resolv.conf"));
    (dns, search, resolver && !mounts_its_own)
}

/// The user's labels and what the platform adds at creation.
fn labels(world: &World, row: &Row<Container>, network: &NetworkMode) -> BTreeMap<String, String> {
    let mut labels = row.labels.clone().unwrap_or_default();
    labels.insert("io.rancher.container.uuid".to_owned(), row.meta.uuid.clone());
    if let Some(name) = &row.meta.name {
        labels.insert("io.rancher.container.name".to_owned(), name.clone());
    }
    if let NetworkMode::Managed { address, .. } = network {
        let subnet = world.network_of_mode("managed").and_then(|row| row.subnet.clone()).unwrap_or_default();
        let size = subnet.rsplit_once('/').map_or("16", |(_, size)| size);
        labels.insert("io.rancher.container.ip".to_owned(), format!("{address}/{size}"));
    }
    if let Some(role) = &row.system_container {
        labels.insert("io.rancher.container.system".to_owned(), role.clone());
    }
    labels
}

fn ports(world: &World, row: &Row<Container>) -> Vec<PortPlan> {
    let asked = world.ports_of(row.meta.id).filter(|port| port.meta.kind != "imagePort");
    asked
        .filter_map(|port| {
            Some(PortPlan {
                bind_address: port.bind_address.clone().unwrap_or_default(),
                public: port.public_port.and_then(|port| u16::try_from(port).ok()),
                private: u16::try_from(port.private_port?).ok()?,
                protocol: port.protocol.clone().unwrap_or_else(|| "tcp".to_owned()),
            })
        })
        .collect()
}

/// The user's list, and named volumes given by path; the same path twice: the list wins.
fn data_volumes(world: &World, row: &Row<Container>) -> Vec<String> {
    let mut list = row.data_volumes.clone().unwrap_or_default();
    let path_of = |entry: &str| entry.split(':').nth(1).unwrap_or(entry).to_owned();
    let taken: BTreeSet<String> = list.iter().map(|entry| path_of(entry)).collect();
    for (path, id) in row.data_volume_mounts.iter().flatten() {
        let name = world.volumes.get(&id.number()).and_then(|volume| volume.meta.name.clone());
        if let Some(name) = name.filter(|_| !taken.contains(path)) {
            list.push(format!("{name}:{path}"));
        }
    }
    list
}

/// Volumes with a driver or options of their own, to make before the container.
fn volumes(world: &World, row: &Row<Container>) -> Vec<VolumePlan> {
    let ids: BTreeSet<i64> = row.data_volume_mounts.iter().flatten().map(|(_, id)| id.number()).collect();
    let rows = ids.into_iter().filter_map(|id| world.volumes.get(&id)).filter(|volume| !volume.is_host_path);
    rows.filter_map(|volume| {
        Some(VolumePlan {
            name: volume.meta.name.clone()?,
            driver: volume.driver.clone(),
            driver_opts: volume.driver_opts.clone().unwrap_or_default(),
        })
    })
    .collect()
}

type Linked<'a> = (String, &'a Row<Container>);

fn links<'a>(world: &'a World, row: &Row<Container>) -> Vec<Linked<'a>> {
    let links = world.links_of(row.meta.id).filter(|link| link.meta.is_live());
    links
        .filter_map(|link| {
            let target = world.containers.get(&link.target_instance_id?.number())?;
            Some((link.link_name.clone()?, target.as_ref()))
        })
        .collect()
}

/// Variables of links (`resources.md` §6.7).
fn link_environment(world: &World, links: &[Linked<'_>]) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let is_link_variable = |key: &str| key.ends_with("_NAME") || key.contains("_PORT") || key.contains("_ENV_");
    for (alias, target) in links {
        let prefix: String =
            alias.chars().map(|ch| if ch.is_ascii_alphanumeric() { ch.to_ascii_uppercase() } else { '_' }).collect();
        environment.insert(format!("{prefix}_NAME"), format!("/cattle/{alias}"));
        for port in world.ports_of(target.meta.id) {
            let Some(private) = port.private_port else { continue };
            let protocol = port.protocol.as_deref().unwrap_or("tcp");
            let url = format!("{protocol}://{alias}:{private}");
            let full = format!("{prefix}_PORT_{private}_{}", protocol.to_ascii_uppercase());
            environment.entry(format!("{prefix}_PORT")).or_insert_with(|| url.clone());
            environment.insert(format!("{full}_ADDR"), alias.clone());
            environment.insert(format!("{full}_PORT"), private.to_string());
            environment.insert(format!("{full}_PROTO"), protocol.to_owned());
            environment.insert(full, url);
        }
        for (key, value) in target.environment.iter().flatten() {
            if !matches!(key.as_str(), "HOME" | "PATH") && !is_link_variable(key) {
                environment.insert(format!("{prefix}_ENV_{key}"), value.clone());
            }
        }
    }
    environment
}

/// Name of the host for people.
pub fn host_name(host: &Row<Host>) -> String {
    host.meta.name.clone().or_else(|| host.hostname.clone()).unwrap_or_else(|| host.public_id())
}

/// Which containers of which host changed when, so that a host is told only what it lacks. Kept while the server runs;
/// a host that connects gets everything once.
#[derive(Clone, Debug, Default)]
pub struct Log {
    hosts: BTreeMap<i64, HostLog>,
    balancers: balancer::Log,
    network: i64,
    /// Changes up to this revision are not told apart any more.
    floor: i64,
}

#[derive(Clone, Debug, Default)]
struct HostLog {
    order: BTreeSet<(i64, i64)>,
    /// Revision and uuid by container.
    changed: BTreeMap<i64, (i64, String)>,
    volumes: i64,
    /// Changes up to this revision are not told apart any more.
    floor: i64,
}

/// Entries a host's log keeps; more than a host has containers, so that only those long gone are dropped.
const REMEMBERED: usize = 10_000;

impl Log {
    /// Starts where a World was listed.
    pub fn starting_at(revision: i64) -> Log {
        Log { floor: revision, ..Log::default() }
    }

    /// A row changed (called with what it was before the World takes it over, and with what it is after).
    pub fn touch(&mut self, world: &World, record: &crate::record::Record, revision: i64) {
        use crate::record::Record;
        for service in self.balancers.changed(world, record) {
            world.containers_of(service).for_each(|row| self.touch_container(row, revision));
        }
        let container = match record {
            Record::Container(row) => return self.touch_container(row, revision),
            Record::Port(row) => row.instance_id.map(|id| id.number()),
            Record::Mount(row) => row.instance_id.map(|id| id.number()),
            Record::InstanceLink(row) => row.instance_id.map(|id| id.number()),
            Record::Volume(row) => {
                if let Some(host) = row.host_id {
                    self.hosts.entry(host.number()).or_default().volumes = revision;
                }
                None
            }
            Record::Network(_) | Record::Project(_) => {
                // Called with the row before and after: what a host is told is a function of both.
                self.network = revision;
                None
            }
            _ => None,
        };
        if let Some(row) = container.and_then(|id| world.containers.get(&id)) {
            self.touch_container(row, revision);
        }
    }

    fn touch_container(&mut self, row: &Row<Container>, revision: i64) {
        let Some(host) = row.host_id else { return };
        let log = self.hosts.entry(host.number()).or_default();
        if let Some((before, _)) = log.changed.insert(row.meta.id, (revision, row.meta.uuid.clone())) {
            log.order.remove(&(before, row.meta.id));
        }
        log.order.insert((revision, row.meta.id));
        while log.order.len() > REMEMBERED {
            if let Some((revision, id)) = log.order.pop_first() {
                log.changed.remove(&id);
                log.floor = log.floor.max(revision);
            }
        }
    }

    /// What the host lacks that has the plan of revision `base`: `None` when nothing, everything without a usable base.
    pub fn since(&self, world: &World, host: i64, base: Option<i64>) -> Option<PlanUpdate> {
        let log = self.hosts.get(&host);
        let floor = log.map_or(self.floor, |log| log.floor.max(self.floor));
        let Some(base) = base.filter(|base| *base >= floor) else { return Some(plan(world, host)) };
        let mut update = PlanUpdate { revision: world.revision, base: Some(base), ..PlanUpdate::default() };
        let mut any = false;
        if self.network > base {
            update.network = network(world);
            any = true;
        }
        let Some(log) = log else { return any.then_some(update) };
        for (_, id) in log.order.range((base + 1, i64::MIN)..) {
            any = true;
            match world.containers.get(id).map_or(Part::Nothing, |row| part(world, host, row)) {
                Part::Keep(container) => {
                    update.containers.push(*container);
                    let row = world.containers.get(id);
                    update.balancers.extend(row.and_then(|row| balancer::plan(world, row, host)));
                }
                Part::Remove(removal) => update.removals.push(removal),
                Part::Nothing => update.forgotten.extend(log.changed.get(id).map(|(_, uuid)| uuid.clone())),
            }
        }
        if log.volumes > base {
            update.volume_removals = volume_removals(world, host);
            any |= !update.volume_removals.is_empty();
        }
        any.then_some(update)
    }

    /// The removals that are not confirmed yet, to ask for them again.
    pub fn outstanding(world: &World, host: i64) -> Option<PlanUpdate> {
        let all = plan(world, host);
        if all.removals.is_empty() && all.volume_removals.is_empty() {
            return None;
        }
        Some(PlanUpdate {
            revision: world.revision,
            base: Some(world.revision),
            removals: all.removals,
            volume_removals: all.volume_removals,
            ..PlanUpdate::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use remuda_model::InstanceLink;
    use remuda_schema::Id;
    use serde_json::json;

    use super::*;
    use crate::testing::{Language, PROJECT, world};

    fn plan_of(w: &Language, name: &str) -> ContainerPlan {
        let row = w.named(name).expect("such a container");
        match part(&w.world, w.host_id("a"), row) {
            Part::Keep(plan) => *plan,
            other => panic!("not kept: {other:?}"),
        }
    }

    fn with_address(w: Language, name: &str) -> Language {
        w.change_container(name, |row| row.primary_ip_address = Some("10.42.0.9".into()))
    }

    #[test]
    fn managed_containers_get_address_names_and_labels() {
        let w = with_address(world().host("a").running_with_port("web", "a", "8080:80"), "web");
        let plan = plan_of(&w, "web");
        let spec = &plan.spec;
        assert_eq!(spec.network, NetworkMode::Managed { address: "10.42.0.9".into(), mac: String::new() });
        assert_eq!(
            (spec.dns.as_slice(), spec.dns_search.as_slice(), spec.resolver),
            ([RESOLVER.to_owned()].as_slice(), [DOMAIN.to_owned()].as_slice(), true)
        );
        assert_eq!(spec.docker_name, "r-web");
        assert_eq!(spec.labels["io.rancher.container.ip"], "10.42.0.9/16");
        assert_eq!(spec.labels["io.rancher.container.uuid"], plan.uuid);
        assert_eq!((spec.ports[0].public, spec.ports[0].private), (Some(8080), 80));
        assert_eq!((plan.desired, plan.supervise), (Desired::Running, false));
    }

    #[test]
    fn each_mode_keeps_what_it_can_do() {
        let cases = [
            // mode, dns label, ports, resolver, host name
            ("managed", None, true, true, true),
            ("managed", Some("false"), true, false, true),
            ("bridge", None, true, false, true),
            ("bridge", Some("true"), true, true, true),
            ("host", None, false, false, false),
            ("none", None, false, false, true),
        ];
        for (mode, label, has_ports, resolver, has_host_name) in cases {
            let w = with_address(world().host("a").running_with_port("web", "a", "8080:80"), "web");
            let w = w.change_container("web", |row| {
                row.network_mode = Some(mode.into());
                row.hostname = Some("me".into());
                row.labels = label.map(|label| [("io.rancher.container.dns".to_owned(), label.to_owned())].into());
            });
            let spec = plan_of(&w, "web").spec;
            let told = (!spec.ports.is_empty(), spec.resolver, spec.hostname.is_some());
            assert_eq!(told, (has_ports, resolver, has_host_name), "{mode} {label:?}");
        }
    }

    #[test]
    fn settings_of_the_engine_are_handed_on() {
        let w = world().host("a").running("web", "a").change_container("web", |row| {
            let fields = json!({
                "blkioDeviceOptions": {"/dev/sda": {"weight": 1, "readBps": 2, "writeBps": 3, "readIops": 4, "writeIops": 5}},
                "blkioWeight": 6, "cgroupParent": "/g", "cpuPeriod": 7, "cpuQuota": 8, "cpuSetMems": "0",
                "dnsOpt": ["ndots:1"], "groupAdd": ["audio"], "healthCmd": ["CMD", "true"], "healthInterval": 9,
                "healthRetries": 10, "healthTimeout": 11, "ipcMode": "host", "isolation": "default",
                "memoryReservation": 12, "memorySwappiness": 13, "oomKillDisable": true, "oomScoreAdj": 14,
                "pidsLimit": 15, "shmSize": 16, "stopSignal": "SIGQUIT", "storageOpt": {"size": "1G"},
                "sysctls": {"a.b": "1"}, "tmpfs": {"/run": ""}, "usernsMode": "host", "uts": "host",
                "ulimits": [{"name": "nofile", "soft": 17}, {"name": "core", "hard": 18}, {"name": "empty"}],
            });
            row.workload = serde_json::from_value(fields).expect("a workload");
        });
        let written = serde_json::to_value(plan_of(&w, "web").spec).expect("a spec");
        let expected = json!({
            "blkioDevices": [{"path": "/dev/sda", "weight": 1, "readBps": 2, "writeBps": 3, "readIops": 4, "writeIops": 5}],
            "blkioWeight": 6, "cgroupParent": "/g", "cpuPeriod": 7, "cpuQuota": 8, "cpuSetMems": "0",
            "dnsOpt": ["ndots:1"], "groupAdd": ["audio"], "ipcMode": "host", "isolation": "default",
            "healthCheck": {"test": ["CMD", "true"], "intervalSeconds": 9, "timeoutSeconds": 11, "retries": 10},
            "memoryReservation": 12, "memorySwappiness": 13, "oomKillDisable": true, "oomScoreAdj": 14,
            "pidsLimit": 15, "shmSize": 16, "stopSignal": "SIGQUIT", "storageOpt": {"size": "1G"},
            "sysctls": {"a.b": "1"}, "tmpfs": {"/run": ""}, "usernsMode": "host", "uts": "host",
            "ulimits": [{"name": "nofile", "soft": 17, "hard": 17}, {"name": "core", "soft": 18, "hard": 18}],
        });
        for (field, value) in expected.as_object().expect("fields") {
            assert_eq!(&written[field], value, "{field}");
        }
    }

    #[test]
    fn links_become_variables_that_never_replace_the_users() {
        let mut w = with_address(world().host("a").running_with_port("db", "a", "3306:3306"), "db").running("web", "a");
        let (db, web) = (w.container_id("db"), w.container_id("web"));
        w = w.change_container("db", |row| row.environment = Some([("PASS".to_owned(), "x".to_owned())].into()));
        w = with_address(w, "web").change_container("web", |row| {
            row.environment = Some([("MY_DB_NAME".to_owned(), "mine".to_owned())].into());
        });
        let link = InstanceLink {
            instance_id: Some(Id::new(web)),
            link_name: Some("my-db".into()),
            target_instance_id: Some(Id::new(db)),
        };
        let mut link = Row::new(Some(PROJECT), ACTIVE, link);
        link.meta.id = 900;
        w.world.put(&link.into());
        let environment = plan_of(&w, "web").spec.environment;
        let told: Vec<String> = environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            told,
            [
                "MY_DB_ENV_PASS=x",
                "MY_DB_NAME=mine",
                "MY_DB_PORT=tcp://my-db:3306",
                "MY_DB_PORT_3306_TCP=tcp://my-db:3306",
                "MY_DB_PORT_3306_TCP_ADDR=my-db",
                "MY_DB_PORT_3306_TCP_PORT=3306",
                "MY_DB_PORT_3306_TCP_PROTO=tcp",
            ]
        );
    }

    #[test]
    fn what_is_wanted_follows_the_state() {
        let cases = [
            ("starting", "running", 1, Some(Desired::Running)),
            ("stopping", "stopped", 1, Some(Desired::Stopped)),
            ("stopped", "running", 1, Some(Desired::Running)),
            ("stopped", "stopped", 0, Some(Desired::Nothing)),
            ("removed", "removed", 1, Some(Desired::Stopped)),
            ("error", "running", 1, Some(Desired::Stopped)),
            ("creating", "running", 1, None),
            ("purging", "removed", 1, None),
        ];
        for (state, desired, serial, expected) in cases {
            let w = world().host("a").running("web", "a").change_container("web", |row| {
                row.meta.enter(state);
                row.desired = desired.into();
                row.start_serial = serial;
            });
            let row = w.named("web").expect("there");
            let told = match part(&w.world, w.host_id("a"), row) {
                Part::Keep(plan) => Some(plan.desired),
                Part::Remove(_) | Part::Nothing => None,
            };
            assert_eq!(told, expected, "{state}");
        }
    }

    #[test]
    fn a_host_is_told_what_changed_and_what_is_forgotten() {
        let mut w = world().host("a").running("web", "a").running("db", "a");
        let a = w.host_id("a");
        let mut log = Log::starting_at(5);
        w.world.revision = 5;
        assert_eq!(log.since(&w.world, a, None).map(|update| update.containers.len()), Some(2));
        assert_eq!(log.since(&w.world, a, Some(5)), None);
        let mut change = |w: &mut Language, state: &str, revision: i64| {
            let mut row = w.named("web").expect("there").clone();
            row.meta.enter(state);
            let record = crate::record::Record::from(row);
            log.touch(&w.world, &record, revision);
            w.world.put(&record);
            w.world.revision = revision;
            log.clone()
        };
        let log = change(&mut w, "stopped", 6);
        let update = log.since(&w.world, a, Some(5)).expect("a change");
        assert_eq!((update.base, update.revision, update.containers.len()), (Some(5), 6, 1));
        let uuid = update.containers[0].uuid.clone();
        let log = change(&mut w, "purging", 7);
        assert_eq!(log.since(&w.world, a, Some(6)).map(|update| update.removals.len()), Some(1));
        assert_eq!(Log::outstanding(&w.world, a).map(|update| update.removals.len()), Some(1));
        let log = change(&mut w, "purged", 8);
        assert_eq!(log.since(&w.world, a, Some(7)).map(|update| update.forgotten), Some(vec![uuid]));
        assert_eq!(log.since(&w.world, a, Some(8)), None);
        assert!(log.since(&w.world, a, Some(3)).is_some_and(|update| update.base.is_none()), "too old a base");
    }
}
