//! From files to objects, back to files, and to the same objects: the hashes are equal.

use remuda_compose::export::{Exported, Format, export};
use remuda_compose::{Project, diff};
use serde_json::{Value as Json, json};

use crate::section_14;
use crate::world::{World, both, docker, file};

const RICH: &str = r#"
web:
  image: acme/web:1
  build: git://example.com/web
  dockerfile: Dock
  command: ["sh", "-c", "echo $$HOME"]
  entrypoint: /bin/run --x
  environment: {A: "yes", B: 'two: words', C: "multi\nline", D: "$$x"}
  ports: ['80:81', 53/udp, '127.0.0.1:90:91']
  expose: [99]
  volumes: [/a, '/h:/c:ro', 'data:/d']
  volume_driver: flocker
  external_links: ['other/api:v2', 'other/db']
  net: host
  dns: 1.1.1.1
  dns_search: [a.example]
  labels: {a: 1, b: '${stack}', io.rancher.service.selector.link: 'a = b', io.rancher.scheduler.global: 'true'}
  cap_add: [SYS_ADMIN]
  cap_drop: [MKNOD]
  mem_limit: 512m
  memswap_limit: 1g
  mem_reservation: 64m
  cpu_shares: 512
  cpuset: 0,1
  cpus: 1.5
  devices: [/dev/sda]
  extra_hosts: ['a:10.0.0.1']
  log_driver: json-file
  log_opt: {max-size: 1m}
  privileged: true
  read_only: true
  stdin_open: true
  tty: true
  security_opt: ['label:disable']
  user: root
  working_dir: /w
  hostname: box
  domainname: example.com
  pid: host
  ipc: host
  ulimits: {nofile: {soft: 1, hard: 2}}
  tmpfs: ['/run:size=1m', /tmp]
  shm_size: 64m
  stop_signal: SIGQUIT
  sysctls: {net.core.somaxconn: 1024}
  device_read_bps: ['/dev/sda:1m']
  blkio_weight_device: ['/dev/sda:10']
  healthcheck: {test: [CMD, ok], interval: 1m30s, retries: 3}
  deploy: {endpoint_mode: vip}
"#;

const RICH_RANCHER: &str = r#"
web:
  metadata: {deep: {list: [1, two, {three: 3}]}, dollar: 'a$$b'}
  retain_ip: true
  scale_policy: {min: 1, max: 3, increment: 1}
  upgrade_strategy: {start_first: true}
"#;

/// Compiles what an export of the project says.
fn again(project: &Project, format: Format, newline: &str) -> (Project, String) {
    let bodies: Vec<Json> = project.services.iter().map(|service| Json::Object(service.api.clone())).collect();
    let services: Vec<Exported<'_>> = project
        .services
        .iter()
        .zip(&bodies)
        .map(|(service, api)| Exported {
            kind: service.kind,
            api: Some(api),
            links: service.links.clone(),
            default_certificate: service.default_certificate.clone(),
            certificates: service.certificates.clone(),
        })
        .collect();
    let files = export(&services, format, newline);
    let text = format!("{}---\n{}", files.docker_compose, files.rancher_compose);
    let world = both(&files.docker_compose, &files.rancher_compose);
    let compiled = world.compile().unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    (compiled, text)
}

fn check(world: &World) {
    let project = world.project();
    for (format, newline) in [(Format::V1, "\n"), (Format::V1, "\r\n"), (Format::V2, "\n"), (Format::Compose, "\n")] {
        let (found, text) = again(&project, format, newline);
        assert_eq!(found.services.len(), project.services.len(), "{text}");
        for service in &project.services {
            let same = found.services.iter().find(|other| other.name == service.name).expect("is exported");
            assert_eq!(
                (same.kind, &same.hash),
                (service.kind, &service.hash),
                "{text}\n{:#?}\n{:#?}",
                same.api,
                service.api
            );
            assert_eq!(same.lc_hashes, service.lc_hashes, "{text}\n{:#?}\n{:#?}", same.api, service.api);
            let difference = diff(same, &Json::Object(service.api.clone())).with_links(same, &service.links);
            assert!(difference.is_same(), "{format:?} {difference:#?}\n{text}");
        }
    }
}

#[test]
fn section_15_export_round_trip() {
    check(&section_14::world());
    check(&both(RICH, RICH_RANCHER).set("stack", "x"));
    check(&both(
        "web: {image: rancher/external-service, labels: {a: b}}\nalias: {image: rancher/dns-service, links: [web]}",
        "web: {external_ips: [10.0.0.1], health_check: {port: 80, request_line: GET / HTTP/1.0}, metadata: {a: 1}}",
    ));
    check(&both(
        "lb: {image: rancher/load-balancer-service, ports: ['80:8080', '443'], expose: ['81:82'], links: [web, db], external_links: [other/api], labels: {io.rancher.loadbalancer.target.web: 'a.com:80/x=8000,81', io.rancher.loadbalancer.target.other/api: '9'}}\nweb: {image: x}\ndb: {image: y}",
        "lb: {scale: 2, default_cert: wild, certs: [a, b], load_balancer_config: {haproxy_config: {global: \"maxconn 4\\n\", defaults: x}, lb_cookie_stickiness_policy: {cookie: c, mode: insert, indirect: true}}}",
    ));
    check(&docker("services: {web: {image: x, volumes: ['data:/d']}}\nvolumes: {data: }"));
    check(&file(
        "docker-compose.yml",
        "web: {image: x, labels: {io.rancher.sidekicks: 'log, data'}}\nlog: {image: y, net: 'container:web', volumes_from: [data]}\ndata: {image: z, healthcheck: {test: curl, disable: false}}",
    ));
    check(&docker(
        "services: {web: {image: x}, lb: {image: rancher/lb-service-haproxy, lb_config: {port_rules: [{source_port: 443, protocol: https, hostname: a.com, service: web, target_port: 8080}]}}}",
    ));
}

#[test]
fn section_12_exported_files() {
    let (_, text) = again(&section_14::world().project(), Format::V1, "\n");
    insta::assert_snapshot!(text, @r#"
    assets:
      command:
      - 'true'
      image: acme/assets
    db:
      image: mysql:5.7
      volumes:
      - dbdata:/var/lib/mysql
    edge:
      image: rancher/load-balancer-service
      labels:
        io.rancher.loadbalancer.ssl.ports: '443'
        io.rancher.loadbalancer.target.shop: shop.example.com:443=8080
      links:
      - shop:shop
      ports:
      - '443:8080'
    shop:
      command:
      - run
      - '--port'
      - '8080'
      environment:
        MODE: prod
      image: acme/shop:7
      labels:
        io.rancher.sidekicks: assets
      links:
      - db:mysql
      volumes_from:
      - assets
    ---
    assets:
      scale: 2
    db:
      scale: 1
    edge:
      default_cert: wild
      scale: 1
    shop:
      health_check:
        interval: 2000
        port: 8080
        request_line: GET /up HTTP/1.0
      scale: 2
    "#);
    let (_, crlf) = again(&section_14::world().project(), Format::V1, "\r\n");
    assert!(crlf.lines().count() > 10 && !crlf.replace("\r\n", "").replace("---\n", "").contains('\n'));
}

#[test]
fn section_9_a_hash_of_another_tool_is_unknown() {
    let service = docker("web: {image: x, ports: ['80'], environment: {A: 1}}").service("web");
    let mut api = Json::Object(service.api.clone());
    api["metadata"] = json!({"io.rancher.service.hash": "0a1b"});
    api["launchConfig"]["labels"] = json!({"io.rancher.service.hash": "0a1b"});
    // The server chose a port, and says more than files do.
    api["launchConfig"]["ports"] = json!(["49153:80/tcp"]);
    api["launchConfig"]["instanceTriggeredStop"] = json!("stop");
    assert!(diff(&service, &api).is_same(), "{:#?}", diff(&service, &api));
    api["launchConfig"]["environment"]["A"] = json!("2");
    let changed = diff(&service, &api);
    assert!(changed.launch_config && !changed.service);
    assert_eq!(
        (changed.fields[0].path.as_str(), &changed.fields[0].old, &changed.fields[0].new),
        ("launchConfig.environment.A", &json!("2"), &json!("1"))
    );
    // No hash at all differs, without a warning.
    let bare = diff(&service, &json!({"launchConfig": service.api["launchConfig"]}));
    assert!(bare.service && bare.is_unmarked);
}

#[test]
fn section_9_what_the_hash_sees() {
    let hashes = |docker_file: &str, rancher: &str| {
        let service = both(docker_file, rancher).service("web");
        (service.hash, service.lc_hashes["web"].clone())
    };
    let base = "web: {image: a, links: [web], environment: {A: '1', B: '2'}}";
    let (service, config) = hashes(base, "web: {scale: 1}");
    assert_eq!(
        (service.clone(), config.clone()),
        hashes("web: {environment: [B=2, A=1], tty: false, image: a}", "web: {scale: 5}")
    );
    // These words are names that people chose, except on the service itself.
    for named in ["environment: {A: '1', B: '2', scale: '1'}", "labels: {links: a}", "log_opt: {scale: '1'}"] {
        let text = format!("web: {{image: a, {named}}}");
        assert_ne!(
            hashes(&text, "").1,
            hashes(&text.replace("scale: '1'", "scale: '2'").replace("links: a", "links: b"), "").1
        );
    }
    assert_ne!(hashes(base, "web: {metadata: {scale: 1}}").0, hashes(base, "web: {metadata: {scale: 2}}").0);
    let other_image = hashes("web: {image: b, environment: {A: '1', B: '2'}}", "");
    assert!(other_image.0 == service && other_image.1 != config);
    let other_metadata = hashes(base, "web: {metadata: {a: 1}}");
    assert!(other_metadata.0 != service && other_metadata.1 == config);
    let certificate = hashes(base, "web: {default_cert: x}");
    assert!(certificate.0 != service);
}
