//! A little language for tests of pure plans: `world().host("a").running("x", "a")`.

use std::collections::BTreeMap;

use remuda_model::ports::PortSpec;
use remuda_model::states::{ACTIVE, CREATING, INACTIVE, RUNNING};
use remuda_model::{
    Agent, Container, Host, Label, LaunchConfig, Network, Port, Project, Service, ServiceCommon, ServiceConsumeMap,
    Stack, StoragePool, Workload,
};
use remuda_runtime::Random;
use remuda_schema::{Id, Resource, Row, Time};

use crate::plan::{self, Moment, Plan, Step, Subject};
use crate::record::Record;
use crate::settings::Settings;
use crate::world::World;

pub const PROJECT: i64 = 5;

pub struct Language {
    pub world: World,
    pub now: Time,
    pub settings: Settings,
    pub random: Random,
    next: i64,
    names: BTreeMap<String, i64>,
}

fn workload() -> Workload {
    Workload { image_uuid: Some("docker:nginx".into()), network_mode: Some("managed".into()), ..Workload::default() }
}

pub fn world() -> Language {
    let mut language = Language {
        world: World::new(PROJECT, Time(0)),
        now: Time(1_000_000),
        settings: Settings::default(),
        random: Random::seeded(7),
        next: 0,
        names: BTreeMap::new(),
    };
    let mut project = Row::new(None, ACTIVE, Project::default());
    project.meta.id = PROJECT;
    language.world.put(&project.into());
    let data = Network { subnet: Some("10.42.0.0/16".into()), gateway: Some("10.42.0.1".into()) };
    let mut network = Row::new(Some(PROJECT), ACTIVE, data);
    network.meta.kind = "hostOnlyNetwork".into();
    language.put(network);
    language
}

impl Language {
    fn put<T: Resource>(&mut self, mut row: Row<T>) -> i64
    where
        Record: From<Row<T>>,
    {
        if row.meta.id == 0 {
            self.next += 1;
            row.meta.id = self.next;
            row.meta.uuid = format!("uuid-{}", self.next);
        }
        let id = row.meta.id;
        self.world.put(&row.into());
        id
    }

    pub fn host(mut self, name: &str) -> Language {
        let agent = self.put(Row::new(Some(99), ACTIVE, Agent::default()));
        let data = Host {
            agent_id: Some(Id::new(agent)),
            hostname: Some(name.to_owned()),
            agent_ip: Some(format!("192.168.0.{agent}")),
            ..Host::default()
        };
        let host = self.put(Row::new(Some(PROJECT), ACTIVE, data));
        let pool = StoragePool { host_id: Some(Id::new(host)), ..StoragePool::default() };
        self.put(Row::new(Some(PROJECT), ACTIVE, pool));
        self.names.insert(format!("host {name}"), host);
        self
    }

    pub fn host_id(&self, name: &str) -> i64 {
        self.names[&format!("host {name}")]
    }

    pub fn container_id(&self, name: &str) -> i64 {
        self.names[&format!("container {name}")]
    }

    pub fn host_state(self, name: &str, state: &str) -> Language {
        self.change_host(name, |row| row.meta.enter(state))
    }

    pub fn change_host(mut self, name: &str, change: impl FnOnce(&mut Row<Host>)) -> Language {
        let mut row = (*self.world.hosts[&self.host_id(name)]).clone();
        change(&mut row);
        self.put(row);
        self
    }

    pub fn agent_state(mut self, name: &str, state: &str) -> Language {
        let host = &self.world.hosts[&self.host_id(name)];
        let mut row = (**self.world.agent_of(host).expect("has an agent")).clone();
        row.meta.enter(state);
        self.put(row);
        self
    }

    /// Nothing is heard of the host from now on, and that is noticed.
    pub fn silent(mut self, name: &str) -> Language {
        let host = &self.world.hosts[&self.host_id(name)];
        let mut row = (**self.world.agent_of(host).expect("has an agent")).clone();
        row.meta.enter("reconnecting");
        row.silent_since = Some(self.now);
        self.put(row);
        self
    }

    /// It is heard again, and tells what runs there: nothing that was stopped without it unless `stale`.
    pub fn heard(mut self, name: &str, stale: bool) -> Language {
        let host = self.world.hosts[&self.host_id(name)].clone();
        let mut row = (**self.world.agent_of(&host).expect("has an agent")).clone();
        row.meta.enter(ACTIVE);
        (row.silent_since, row.away_until) = (None, None);
        self.put(row);
        for row in self.world.containers_on(host.meta.id).cloned().collect::<Vec<_>>() {
            if row.unconfirmed && !stale {
                let mut next = (*row).clone();
                next.unconfirmed = false;
                self.put(next);
            }
        }
        self
    }

    pub fn host_of(&self, container: &str) -> String {
        let host = self.named(container).and_then(|row| row.host_id).map(|id| id.number());
        let name = host.and_then(|id| self.world.hosts.get(&id)?.hostname.clone());
        name.unwrap_or_default()
    }

    /// A container that is not in the World.
    pub fn draft_container(&mut self, name: &str) -> Row<Container> {
        let data =
            Container { workload: workload(), desired: "running".into(), start_serial: 1, ..Container::default() };
        let mut row = Row::new(Some(PROJECT), CREATING, data);
        self.next += 1;
        row.meta.id = self.next;
        row.meta.uuid = format!("uuid-{}", self.next);
        row.meta.name = Some(name.to_owned());
        row
    }

    pub fn draft_container_with_port(&mut self, name: &str, port: &str) -> Row<Container> {
        let row = self.draft_container(name);
        self.add_port(row.meta.id, port);
        row
    }

    fn add_port(&mut self, container: i64, text: &str) {
        let spec = PortSpec::parse(text).expect("a port");
        let data = Port {
            instance_id: Some(Id::new(container)),
            bind_address: spec.bind.map(|address| address.to_string()),
            private_port: Some(spec.private.into()),
            public_port: spec.public.map(Into::into),
            protocol: Some(spec.protocol.to_string()),
            ..Port::default()
        };
        self.put(Row::new(Some(PROJECT), INACTIVE, data));
    }

    /// A container in the World that has no host yet.
    pub fn add_draft(&mut self, name: &str) -> i64 {
        let row = self.draft_container(name);
        self.names.insert(format!("container {name}"), row.meta.id);
        self.put(row)
    }

    pub fn running(mut self, name: &str, host: &str) -> Language {
        let mut row = self.draft_container(name);
        row.host_id = Some(Id::new(self.host_id(host)));
        row.first_running = Some(self.now);
        row.meta.enter(RUNNING);
        self.names.insert(format!("container {name}"), row.meta.id);
        self.put(row);
        self
    }

    pub fn running_with_port(mut self, name: &str, host: &str, port: &str) -> Language {
        self = self.running(name, host);
        self.add_port(self.container_id(name), port);
        self
    }

    /// An activating service in stack `s`.
    pub fn service(mut self, name: &str, scale: i64) -> Language {
        let stack = match self.names.get("stack s") {
            Some(id) => *id,
            None => {
                let mut row = Row::new(Some(PROJECT), ACTIVE, Stack::default());
                row.meta.name = Some("s".into());
                let id = self.put(row);
                self.names.insert("stack s".into(), id);
                id
            }
        };
        let common = ServiceCommon {
            environment_id: Some(Id::new(stack)),
            launch_config: Some(LaunchConfig { workload: workload(), ..LaunchConfig::default() }),
            ..ServiceCommon::default()
        };
        let data = Service { common, scale: Some(scale), ..Service::default() };
        let mut row = Row::new(Some(PROJECT), "activating", data);
        row.meta.name = Some(name.to_owned());
        let id = self.put(row);
        self.names.insert(format!("service {name}"), id);
        self
    }

    /// One more launch config of the service, like the primary one.
    pub fn sidekick(self, service: &str, name: &str) -> Language {
        self.change_service(service, |row| {
            let config = row.launch_config.clone().unwrap_or_default();
            let sidekick = remuda_model::SecondaryLaunchConfig { name: Some(name.to_owned()), config };
            row.secondary_launch_configs.get_or_insert_default().push(sidekick);
        })
    }

    /// The primary container of the service mounts the volumes of that sidekick.
    pub fn volumes_from(self, service: &str, sidekick: &str) -> Language {
        self.change_service(service, |row| {
            let config = row.launch_config.as_mut().expect("has one");
            config.data_volumes_from_launch_configs.get_or_insert_default().push(sidekick.to_owned());
        })
    }

    /// The sidekick shares the network of the primary container.
    pub fn network_of_primary(self, service: &str, sidekick: &str) -> Language {
        self.change_service(service, |row| {
            let sidekicks = row.secondary_launch_configs.iter_mut().flatten();
            for of in sidekicks.filter(|of| of.name.as_deref() == Some(sidekick)) {
                of.config.network_launch_config = Some(service.to_owned());
            }
        })
    }

    /// Containers of the launch config publish that port; `service` itself is the primary one.
    pub fn publish(self, service: &str, config: &str, port: &str) -> Language {
        self.change_service(service, |row| {
            let ports = Some(vec![port.to_owned()]);
            match row.secondary_launch_configs.iter_mut().flatten().find(|of| of.name.as_deref() == Some(config)) {
                Some(sidekick) => sidekick.config.ports = ports,
                None => row.launch_config.as_mut().expect("has one").ports = ports,
            }
        })
    }

    /// A service with one unit on each host.
    pub fn global(self, name: &str) -> Language {
        self.service(name, 1).change_service(name, |row| {
            let config = row.launch_config.as_mut().expect("has one");
            config.labels.get_or_insert_default().insert("io.rancher.scheduler.global".into(), "true".into());
        })
    }

    pub fn label_host(mut self, host: &str, key: &str, value: &str) -> Language {
        let mut row = (*self.world.hosts[&self.host_id(host)]).clone();
        row.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self.put(row);
        self
    }

    /// One more label row, as `setlabels` makes it.
    pub fn label_container(mut self, container: &str, key: &str, value: &str) -> Language {
        let data = Label {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
            instance_id: Some(Id::new(self.container_id(container))),
            ..Label::default()
        };
        self.put(Row::new(Some(PROJECT), "created", data));
        self
    }

    /// The same for a container of a service.
    pub fn label_container_of(mut self, name: &str, key: &str, value: &str) -> Language {
        let id = self.named(name).expect("such a container").meta.id;
        self.names.insert(format!("container {name}"), id);
        self.label_container(name, key, value)
    }

    /// Asks for removal of the container.
    pub fn remove_container(self, name: &str) -> Language {
        let (settings, now) = (self.settings.clone(), self.now);
        self.change_container(name, |row| assert!(crate::transitions::remove(row, &settings, now)))
    }

    pub fn service_row(&self, name: &str) -> &Row<Service> {
        &self.world.services[&self.names[&format!("service {name}")]]
    }

    pub fn change_service(mut self, name: &str, change: impl FnOnce(&mut Row<Service>)) -> Language {
        let mut row = self.service_row(name).clone();
        change(&mut row);
        self.put(row);
        self
    }

    /// A link somebody made by request.
    pub fn explicit_link(mut self, from: &str, to: &str, alias: Option<&str>) -> Language {
        let data = ServiceConsumeMap {
            service_id: Some(Id::new(self.service_row(from).meta.id)),
            consumed_service_id: Some(Id::new(self.service_row(to).meta.id)),
            ..ServiceConsumeMap::default()
        };
        let mut row = Row::new(Some(PROJECT), ACTIVE, data);
        row.meta.name = alias.map(str::to_owned);
        self.put(row);
        self
    }

    pub fn named(&self, name: &str) -> Option<&Row<Container>> {
        let mut all = self.world.containers.values().rev();
        all.find(|row| row.meta.name.as_deref() == Some(name) && row.meta.removed.is_none()).map(AsRef::as_ref)
    }

    pub fn change_container(mut self, name: &str, change: impl FnOnce(&mut Row<Container>)) -> Language {
        let mut row = self.named(name).expect("such a container").clone();
        change(&mut row);
        self.put(row);
        self
    }

    pub fn plan(&self, subject: Subject) -> Plan {
        plan::plan(&self.world, subject, self.moment())
    }

    pub fn moment(&self) -> Moment<'_> {
        Moment { now: self.now, settings: &self.settings, random: &self.random }
    }

    pub fn after_ms(mut self, ms: i64) -> Language {
        self.now = self.now.plus_ms(ms);
        self
    }

    fn subjects(&self) -> Vec<Subject> {
        let w = &self.world;
        (w.hosts.keys().map(|id| Subject::Host(*id)))
            .chain(w.stacks.keys().map(|id| Subject::Stack(*id)))
            .chain(w.services.keys().map(|id| Subject::Service(*id)))
            .chain(w.services.keys().map(|id| Subject::Selection(*id)))
            .chain(w.containers.keys().map(|id| Subject::Container(*id)))
            .chain(w.volumes.keys().map(|id| Subject::Volume(*id)))
            .collect()
    }

    /// Carries plans out until none has anything to do; hosts do at once what they are told.
    pub fn settle(mut self) -> Language {
        for _ in 0..100 {
            self = self.settle_but_hosts();
            if !self.hosts_act() {
                return self;
            }
        }
        panic!("the plans do not come to rest");
    }

    /// The same, but nothing happens on the hosts.
    pub fn settle_but_hosts(mut self) -> Language {
        for _ in 0..100 {
            let mut idle = true;
            for subject in self.subjects() {
                let plan = self.plan(subject);
                idle &= plan.steps.is_empty();
                self.carry_out(plan);
            }
            if idle {
                return self;
            }
        }
        panic!("the plans do not come to rest");
    }

    /// Every plan is carried out once, then hosts act once.
    pub fn one_round(mut self) -> Language {
        for subject in self.subjects() {
            let plan = self.plan(subject);
            self.carry_out(plan);
        }
        self.hosts_act();
        self
    }

    /// Containers of that version start and turn out unhealthy.
    pub fn sicken(mut self, version: &str) -> Language {
        for row in self.world.containers.values().cloned().collect::<Vec<_>>() {
            if row.version.as_deref() == Some(version) && row.meta.state == "starting" {
                let mut next = (*row).clone();
                next.meta.enter(RUNNING);
                next.health_state = Some("unhealthy".into());
                self.put(next);
            } else if row.meta.state == "stopping" {
                let mut next = (*row).clone();
                next.meta.enter("stopped");
                self.put(next);
            }
        }
        self
    }

    fn carry_out(&mut self, plan: Plan) {
        for step in plan.steps {
            match step {
                Step::Write(record) => self.world.put(&record),
                Step::Insert(mut record) => {
                    self.next += 1;
                    record.meta_mut().id = self.next;
                    self.world.put(&record);
                }
                Step::ContainerCreate(new) => {
                    let mut row = new.row;
                    self.next += 1;
                    row.meta.id = self.next;
                    row.primary_ip_address = new.requested_address.or(Some(format!("10.42.1.{}", self.next)));
                    row.meta.uuid = format!("uuid-{}", self.next);
                    row.meta.created = self.now;
                    let service = row.service_id;
                    let ports = row.ports.clone();
                    let id = self.put(row);
                    let map = remuda_model::ServiceExposeMap {
                        instance_id: Some(Id::new(id)),
                        service_id: service,
                        managed: true,
                        ..Default::default()
                    };
                    self.put(Row::new(Some(PROJECT), ACTIVE, map));
                    ports.iter().flatten().for_each(|port| self.add_port(id, port));
                }
                Step::ContainerAddress { row, .. } => drop(self.put(*row)),
                _ => {}
            }
        }
    }

    fn hosts_act(&mut self) -> bool {
        let mut any = false;
        for row in self.world.containers.values().cloned().collect::<Vec<_>>() {
            let host = row.host_id.and_then(|id| self.world.hosts.get(&id.number()));
            if host.and_then(|host| self.world.agent_of(host)).is_some_and(|agent| agent.meta.state != ACTIVE) {
                continue;
            }
            let mut next = (*row).clone();
            match row.meta.state.as_str() {
                "starting" if row.host_id.is_some() => {
                    next.meta.enter(RUNNING);
                    next.first_running = next.first_running.or(Some(self.now));
                    next.start_count = Some(next.start_count.unwrap_or(0) + 1);
                }
                "stopping" if row.desired != "running" && row.host_id.is_some() => next.meta.enter("stopped"),
                "purging" => next.purge_confirmed = true,
                _ => continue,
            }
            if next != *row {
                any = true;
                self.put(next);
            }
        }
        any
    }

    /// Every container that is not removed: `name state`.
    pub fn told(&self) -> Vec<String> {
        let rows = self.world.containers.values().filter(|row| row.meta.removed.is_none());
        let mut told: Vec<String> =
            rows.map(|row| format!("{} {}", row.meta.name.as_deref().unwrap_or("?"), row.meta.state)).collect();
        told.sort();
        told
    }
}
