//! Section 13: what users write today.

use remuda_compose::Condition;
use serde_json::{Value as Json, json};

use crate::world::docker;

#[test]
fn section_13_keys() {
    for (keys, pointer, expected) in [
        ("deploy: {mode: global}", "/launchConfig/labels/io.rancher.scheduler.global", json!("true")),
        ("deploy: {mode: replicated-job}", "/launchConfig/labels/io.rancher.container.start_once", json!("true")),
        (
            "deploy: {restart_policy: {condition: none}}",
            "/launchConfig/labels/io.rancher.container.start_once",
            json!("true"),
        ),
        (
            "deploy: {placement: {constraints: [node.labels.disk == ssd, 'node.labels.a==b', 'node.labels.zone != east']}}",
            "/launchConfig/labels/io.rancher.scheduler.affinity:host_label",
            json!("disk=ssd,a=b"),
        ),
        (
            "deploy: {placement: {constraints: ['node.labels.zone != east']}}",
            "/launchConfig/labels/io.rancher.scheduler.affinity:host_label_ne",
            json!("zone=east"),
        ),
        (
            "deploy: {placement: {max_replicas_per_node: 1}}",
            "/launchConfig/labels/io.rancher.scheduler.affinity:container_label_ne",
            json!("io.rancher.stack_service.name=${stack_name}/${service_name}"),
        ),
        (
            "deploy: {resources: {limits: {memory: 64m, cpus: '0.5'}, reservations: {memory: 32m}}}",
            "/launchConfig/memory",
            json!(64 << 20),
        ),
        ("deploy: {resources: {limits: {cpus: '0.5'}}}", "/launchConfig/cpuQuota", json!(50_000)),
        ("deploy: {resources: {reservations: {memory: 32m}}}", "/launchConfig/memoryReservation", json!(32 << 20)),
        ("deploy: {endpoint_mode: vip}", "/assignServiceIpAddress", json!(true)),
        ("deploy: {labels: {a: b}}", "/metadata/labels", json!({"a": "b"})),
        ("annotations: {a: b}", "/metadata/annotations", json!({"a": "b"})),
        ("deploy: {replicas: 3}", "/scale", json!(3)),
        (
            "healthcheck: {test: curl x, interval: 1m, timeout: 500ms, retries: 3}",
            "/launchConfig/healthCmd",
            json!(["CMD-SHELL", "curl x"]),
        ),
        (
            "healthcheck: {test: curl x, interval: 1m, timeout: 500ms, retries: 3}",
            "/launchConfig/healthInterval",
            json!(60),
        ),
        ("healthcheck: {test: curl x, timeout: 500ms}", "/launchConfig/healthTimeout", json!(1)),
        (
            "ports: [{target: 80, published: 8080, host_ip: 10.0.0.1, protocol: udp, mode: host, name: x}]",
            "/launchConfig/ports",
            json!(["10.0.0.1:8080:80/udp"]),
        ),
        (
            "volumes: [{type: bind, source: /h, target: /c, read_only: true}, {type: tmpfs, target: /t, tmpfs: {size: 1m}}]",
            "/launchConfig/dataVolumes",
            json!(["/h:/c:ro"]),
        ),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m}}]", "/launchConfig/tmpfs", json!({"/t": "size=1m"})),
        ("pull_policy: always", "/launchConfig/labels/io.rancher.container.pull_image", json!("always")),
        ("ulimits: {nofile: 5}", "/launchConfig/ulimits", json!([{"name": "nofile", "soft": 5, "hard": 5}])),
        ("extra_hosts: {a: 10.0.0.1}", "/launchConfig/extraHosts", json!(["a:10.0.0.1"])),
        ("logging: {options: {a: 1}}", "/launchConfig/logConfig", json!({"config": {"a": "1"}})),
        ("log_driver: syslog", "/launchConfig/logConfig", json!({"driver": "syslog", "config": {}})),
        (
            "device_read_bps: ['/dev/sda:1m']",
            "/launchConfig/blkioDeviceOptions",
            json!({"/dev/sda": {"readBps": 1 << 20}}),
        ),
    ] {
        let world = docker(&format!("services:\n  web:\n    image: x\n    {keys}\n"));
        assert_eq!(world.web(pointer), expected, "{keys}");
    }
    assert_eq!(docker("services: {web: {image: x, deploy: {replicas: 3}}}").service("web").declared_scale, Some(3));
    assert_eq!(docker("services: {web: {image: x, scale: 3}}").service("web").declared_scale, None);
    let upgrade = docker("services: {web: {image: x, deploy: {update_config: {parallelism: 2, delay: 10s, order: start-first, failure_action: rollback}}}}").service("web").upgrade_strategy;
    assert_eq!(
        (upgrade.batch_size, upgrade.interval_ms, upgrade.start_first, upgrade.rollback),
        (Some(2), Some(10_000), Some(true), true)
    );
}

#[test]
fn section_13_depends_on() {
    let world = docker(
        "services:\n  web: {image: x, depends_on: {db: {condition: service_healthy, restart: true}, job: {condition: service_completed_successfully}, gone: {condition: service_started, required: false}}}\n  db: {image: y, healthcheck: {test: ok}}\n  job: {image: z, labels: {io.rancher.container.start_once: 'true'}}\n",
    );
    let edges: Vec<_> =
        world.service("web").depends_on.into_iter().map(|edge| (edge.target, edge.condition, edge.restart)).collect();
    assert_eq!(
        edges,
        [("db".to_owned(), Condition::Healthy, true), ("job".to_owned(), Condition::CompletedSuccessfully, false)]
    );
    let said =
        |edge: &str| docker(&format!("services: {{web: {{image: x, depends_on: {edge}}}, db: {{image: y}}}}")).said();
    assert!(said("{db: {condition: service_healthy}}").contains("`db` has no health check"));
    assert!(said("{db: {condition: service_completed_successfully}}").contains("`db` never ends"));
    assert!(said("{db: {condition: service_ready}}").contains("`condition` is one of"));
    assert!(said("[bd]").contains("there is no service `bd` in this file"));
    let names: Vec<_> = docker("services: {web: {image: x, depends_on: [db]}, db: {image: y, links: [web]}}")
        .project()
        .services
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert_eq!(names, ["db", "web"], "the link gives way");
    assert_eq!(docker("web: {image: x}").web("/dependsOn"), Json::Null);
}
