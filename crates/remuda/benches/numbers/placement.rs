//! How many containers a second the scheduler places in a project that is large already: a thousand hosts with a hundred
//! thousand containers. Each placement sees the one before, as in the loop of a project. Store and network are left out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use remuda_model::states::{ACTIVE, CREATED, CREATING, RUNNING, STARTING};
use remuda_model::{Agent, Container, Host, Label, StoragePool, Workload};
use remuda_orchestrator::record::Record;
use remuda_orchestrator::scheduler::{Placement, place};
use remuda_orchestrator::settings::Settings;
use remuda_orchestrator::world::World;
use remuda_schema::{Id, Resource, Row, Time};

use crate::table::Table;

const N_HOSTS: i64 = 1_000;
const N_CONTAINERS: i64 = 100_000;
const N_PLACED: i64 = 20_000;
const PROJECT: i64 = 5;
const SERVICE: &str = "io.rancher.stack_service.name";
const AFFINITY: &str = "io.rancher.scheduler.affinity:";

pub fn measure(table: &mut Table) -> Result<()> {
    for (what, labels) in [
        ("without rules", vec![]),
        (
            "each with a host label to have and its own service to avoid",
            vec![("host_label", "zone=z3"), ("container_label_soft_ne", "io.rancher.stack_service.name=s/web-77")],
        ),
    ] {
        let labels: Vec<(String, String)> =
            labels.into_iter().map(|(kind, value)| (format!("{AFFINITY}{kind}"), value.to_owned())).collect();
        let mut bed = Bed::new();
        let mut took = Duration::ZERO;
        let settings = Settings::default();
        for n in 0..N_PLACED {
            let mut row = container(None, CREATING, n);
            row.labels = Some(labels.iter().cloned().collect());
            let id = bed.put(row);
            let begin = Instant::now();
            let row = &bed.world.containers[&id];
            let Placement::On(host) = place(&bed.world, row, &settings) else { bail!("container {id} has no host") };
            let mut placed = (**row).clone();
            placed.host_id = Some(Id::new(host));
            placed.meta.enter(STARTING);
            bed.world.put(&placed.into());
            took += begin.elapsed();
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = N_PLACED as f64 / took.as_secs_f64();
        table.plain_row(
            &format!("placements a second in process, {N_HOSTS} hosts, {N_CONTAINERS} containers there, {what}"),
            format!("{rate:.0}"),
            "≥ 20,000",
        );
    }
    Ok(())
}

fn container(host: Option<i64>, state: &str, n: i64) -> Row<Container> {
    let workload =
        Workload { image_uuid: Some("sim:bench".into()), network_mode: Some("managed".into()), ..Workload::default() };
    let data = Container { workload, host_id: host.map(Id::new), desired: "running".into(), ..Container::default() };
    let mut row = Row::new(Some(PROJECT), state, data);
    row.meta.name = Some(format!("s_web_{n}"));
    row
}

struct Bed {
    world: World,
    next: i64,
}

impl Bed {
    /// Hosts in ten zones, a hundred containers on each, of a thousand services.
    fn new() -> Bed {
        let mut bed = Bed { world: World::new(PROJECT, Time(0)), next: 0 };
        let hosts: Vec<i64> = (0..N_HOSTS).map(|n| bed.host(n)).collect();
        for n in 0..N_CONTAINERS {
            let host = hosts[usize::try_from(n % N_HOSTS).unwrap_or(0)];
            let id = bed.put(container(Some(host), RUNNING, n));
            let label = Label {
                key: Some(SERVICE.to_owned()),
                value: Some(format!("s/web-{}", n / 100)),
                instance_id: Some(Id::new(id)),
                ..Label::default()
            };
            bed.put(Row::new(Some(PROJECT), CREATED, label));
        }
        bed
    }

    fn host(&mut self, n: i64) -> i64 {
        let agent = self.put(Row::new(Some(PROJECT), ACTIVE, Agent::default()));
        let labels = Some([("zone".to_owned(), format!("z{}", n % 10))].into());
        let data = Host { agent_id: Some(Id::new(agent)), labels, ..Host::default() };
        let host = self.put(Row::new(Some(PROJECT), ACTIVE, data));
        let pool = StoragePool { host_id: Some(Id::new(host)), ..StoragePool::default() };
        self.put(Row::new(Some(PROJECT), ACTIVE, pool));
        host
    }

    fn put<T: Resource>(&mut self, mut row: Row<T>) -> i64
    where
        Record: From<Row<T>>,
    {
        self.next += 1;
        row.meta.id = self.next;
        row.meta.uuid = format!("uuid-{}", self.next);
        self.world.put(&row.into());
        self.next
    }
}
