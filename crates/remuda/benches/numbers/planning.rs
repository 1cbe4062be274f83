//! How long the pure planner takes to say what ten thousand containers of one service on a thousand hosts shall be: from
//! a service without containers to all of them created, placed and told to start. Hosts, store and network are left out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use remuda_model::states::ACTIVE;
use remuda_model::{
    Agent, Host, LaunchConfig, Network, Project, Service, ServiceCommon, ServiceExposeMap, Stack, StoragePool, Workload,
};
use remuda_orchestrator::plan::{self, Moment, Plan, Step, Subject};
use remuda_orchestrator::record::Record;
use remuda_orchestrator::settings::Settings;
use remuda_orchestrator::world::World;
use remuda_runtime::Random;
use remuda_schema::{Id, Resource, Row, Time};

use crate::table::{Table, milliseconds};

const N_HOSTS: usize = 1_000;
const SCALE: usize = 10_000;
const PROJECT: i64 = 5;

pub fn measure(table: &mut Table) -> Result<()> {
    let mut bed = Bed::new();
    let service = bed.service();
    let begin = Instant::now();
    let settings = Settings::default();
    let mut planning = Duration::ZERO;
    // Creation comes in portions, a pass of the service each; each new container is planned until it waits for its host.
    while bed.world.containers.len() < SCALE {
        let before = bed.world.containers.len();
        let mut subjects = vec![Subject::Service(service)];
        while let Some(subject) = subjects.pop() {
            let moment = Moment { now: Time(1_000_000), settings: &settings, random: &bed.random };
            let asked = Instant::now();
            let plan = plan::plan(&bed.world, subject, moment);
            planning += asked.elapsed();
            subjects.extend(bed.carry_out(plan).into_iter().map(Subject::Container));
        }
        if bed.world.containers.len() == before {
            bail!("the service stops growing at {before} containers");
        }
    }
    let placed = bed.world.containers.values().filter(|row| row.host_id.is_some() && row.meta.state == "starting");
    if placed.count() != SCALE {
        bail!("not every container was placed");
    }
    table.row(
        &format!("planning a service of scale {SCALE} on {N_HOSTS} hosts, all placed"),
        milliseconds(planning),
        "< 500 ms",
        "with keeping the results in memory",
        milliseconds(begin.elapsed()),
        planning,
        begin.elapsed(),
    );
    Ok(())
}

struct Bed {
    world: World,
    random: Random,
    next: i64,
}

impl Bed {
    fn new() -> Bed {
        let mut bed = Bed { world: World::new(PROJECT, Time(0)), random: Random::seeded(7), next: PROJECT };
        let mut project = Row::new(None, ACTIVE, Project::default());
        project.meta.id = PROJECT;
        bed.world.put(&project.into());
        let data = Network { subnet: Some("10.42.0.0/16".into()), gateway: Some("10.42.0.1".into()) };
        let mut network = Row::new(Some(PROJECT), ACTIVE, data);
        network.meta.kind = "hostOnlyNetwork".into();
        bed.put(network);
        for number in 0..N_HOSTS {
            let agent = bed.put(Row::new(Some(PROJECT), ACTIVE, Agent::default()));
            let data = Host {
                agent_id: Some(Id::new(agent)),
                hostname: Some(format!("host-{number}")),
                agent_ip: Some(format!("192.168.{}.{}", number / 250, number % 250 + 1)),
                ..Host::default()
            };
            let host = bed.put(Row::new(Some(PROJECT), ACTIVE, data));
            let pool = StoragePool { host_id: Some(Id::new(host)), ..StoragePool::default() };
            bed.put(Row::new(Some(PROJECT), ACTIVE, pool));
        }
        bed
    }

    fn service(&mut self) -> i64 {
        let mut stack = Row::new(Some(PROJECT), ACTIVE, Stack::default());
        stack.meta.name = Some("s".into());
        let stack = self.put(stack);
        let workload = Workload {
            image_uuid: Some("sim:bench".into()),
            network_mode: Some("managed".into()),
            ..Workload::default()
        };
        let common = ServiceCommon {
            environment_id: Some(Id::new(stack)),
            launch_config: Some(LaunchConfig { workload, ..LaunchConfig::default() }),
            ..ServiceCommon::default()
        };
        let data = Service { common, scale: i64::try_from(SCALE).ok(), ..Service::default() };
        let mut service = Row::new(Some(PROJECT), "activating", data);
        service.meta.name = Some("web".into());
        self.put(service)
    }

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

    /// Writes the plan into the World; the containers it wrote.
    fn carry_out(&mut self, plan: Plan) -> Vec<i64> {
        let mut written = Vec::new();
        for step in plan.steps {
            match step {
                Step::Write(record) => {
                    if let Record::Container(row) = &record {
                        written.push(row.meta.id);
                    }
                    self.world.put(&record);
                }
                Step::Insert(mut record) => {
                    self.next += 1;
                    record.meta_mut().id = self.next;
                    self.world.put(&record);
                }
                Step::ContainerCreate(new) => {
                    let service = new.row.service_id;
                    let id = self.put(new.row);
                    let map = ServiceExposeMap {
                        instance_id: Some(Id::new(id)),
                        service_id: service,
                        managed: true,
                        ..ServiceExposeMap::default()
                    };
                    self.put(Row::new(Some(PROJECT), ACTIVE, map));
                    written.push(id);
                }
                Step::ContainerAddress { row, .. } => written.push(self.put(*row)),
                _ => {}
            }
        }
        written
    }
}
