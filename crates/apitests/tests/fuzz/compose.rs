//! Compose files: any text compiles or is refused in bounded words, and what compiles can be written back.

use remuda_compose::export::{self, Exported, Format};
use remuda_compose::{Kind, Link, Project, SourceFile, Sources};
use serde_json::Value;

use crate::fuzz;

/// One input holds both files.
const BETWEEN: &str = "\n---8<---\n";

fn compile(docker: &str, rancher: Option<&str>) -> Result<Project, String> {
    let source = |name: &str, text: &str| SourceFile { name: name.to_owned(), text: text.to_owned() };
    let lookup = |name: &str| name.len().is_multiple_of(2).then(|| format!("value of {name}"));
    let sources = Sources {
        rancher: rancher.map(|text| source("rancher-compose.yml", text)),
        ..Sources::of(source("docker-compose.yml", docker), &lookup)
    };
    let questions = remuda_compose::questions::of(&sources);
    let compiled = remuda_compose::compile(&sources).map_err(|problems| problems.to_string())?;
    assert!(compiled.questions.is_empty() || compiled.questions == questions, "other questions before the compile");
    Ok(compiled)
}

#[test]
fn compose_files_compile_or_are_refused_and_can_be_written_back() {
    fuzz(
        &[
            b"web:\n  image: nginx:1.9\n  links: ['db:mysql']\n  ports: ['8080:80', '53/udp']\n  labels: {io.rancher.sidekicks: log}\n  environment: {A: $AA, B: }\nlog: {image: log, volumes_from: [web]}\ndb: {image: db, volumes: ['data:/d']}\n---8<---\nweb: {scale: 2, health_check: {port: 80, request_line: GET / HTTP/1.0}}\n.catalog:\n  questions: [{variable: AA, type: int, default: '1'}]\n",
            b"services:\n  web: &w\n    image: x\n    deploy: {replicas: 2, placement: {constraints: ['node.labels.a==b']}}\n    healthcheck: {test: [CMD, a], interval: 5s}\n    depends_on: {db: {condition: service_started}}\n  db: {<<: *w, depends_on: []}\nvolumes: {v: {per_container: true}}\n",
            b"lb:\n  image: rancher/load-balancer-service\n  ports: ['80:8080']\n  links: [app]\n  labels: {io.rancher.loadbalancer.target.app: 'a.com:80/x=8080'}\napp: {image: y, extends: {service: base}}\nbase: {image: z, tmpfs: /t, ulimits: {nofile: 5}}\nout: {image: rancher/external-service}\n---8<---\nout: {external_ips: [10.0.0.1]}\nlb: {default_cert: c}\n",
            b"",
        ],
        &[
            "web", "image", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: *w", "!reset ", "!override ", "!!binary ", "|", ">", "\"", "'", "#", "---", "\n  ",
            "${A:-", "}", "$$", "$", "services:\n", "extends: web", "links: [web]", "volumes_from: [web]", "net: container:web", "build: .", "deploy:", "profiles: [a]", "include: [a]",
            "x-rancher:", "lb_config:", "port_rules:", "scale: 99999999999999999999", "1e999", "0x7f", "0777", "~", "null", "true", "yes", "2026-01-01", ".inf", BETWEEN, "\u{feff}", "\u{0}", "\t", "\r\n", "\u{85}", "e\u{301}",
        ],
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (docker, rancher) = match text.split_once(BETWEEN) {
                Some((docker, rancher)) => (docker, Some(rancher)),
                None => (text.as_ref(), None),
            };
            let project = match compile(docker, rancher) {
                Ok(project) => project,
                Err(said) => return assert!(!said.is_empty() && said.len() < 100_000, "says {} bytes", said.len()),
            };
            let shown: Vec<Value> = project.services.iter().map(|service| service.body("1e1")).collect();
            let exported: Vec<Exported<'_>> = project
                .services
                .iter()
                .zip(&shown)
                .map(|(service, api)| Exported {
                    kind: service.kind,
                    api: Some(api),
                    links: service.links.iter().filter(|_| service.kind != Kind::External).cloned().collect::<Vec<Link>>(),
                    default_certificate: service.default_certificate.clone(),
                    certificates: service.certificates.clone(),
                })
                .collect();
            for format in [Format::V1, Format::V2, Format::Compose] {
                let files = export::export(&exported, format, "\n");
                let rancher = (!files.rancher_compose.is_empty()).then_some(files.rancher_compose.as_str());
                let again = compile(&files.docker_compose, rancher);
                let again = again.unwrap_or_else(|said| panic!("{said:.2000}\n{:.3000}\n{rancher:.2000?}", files.docker_compose));
                let names = |project: &Project| {
                    let mut names: Vec<String> = project.services.iter().map(|service| service.name.clone()).collect();
                    names.sort();
                    names
                };
                assert_eq!(names(&again), names(&project), "{}", files.docker_compose);
            }
        },
    );
}
