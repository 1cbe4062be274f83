//! Sections 2, 3, 5, 6 and 10: forms, files, overrides, questions, volumes, networks.

use remuda_compose::{Kind, Question, SourceFile, Sources, compile};
use serde_json::json;

use crate::world::{World, both, docker, file};

#[test]
fn section_2_forms() {
    let versioned = docker(
        "version: '3.9'\nx-common: &common {tty: true}\nservices:\n  web: {<<: *common, image: x}\n  x-not: {}\n",
    );
    assert_eq!(versioned.web("/launchConfig/tty"), json!(true));
    // `version: 1` keeps the old form, even with a service of that name.
    assert_eq!(docker("version: 1\nservices: {image: x}\nweb: {image: y}").project().services.len(), 2);
    let mixed = both("services: {web: {image: x}}", "web: {scale: 3}");
    assert_eq!(mixed.web("/scale"), json!(3));
    let rancher_form = both("web: {image: x}", "version: '2'\nservices: {web: {scale: 3}, more: {image: y}}");
    assert_eq!((rancher_form.web("/scale"), rancher_form.project().services.len()), (json!(3), 2));
    let inline = docker("web: {image: x, scale: 2, metadata: {a: 1, b: 1}, x-rancher: {scale: 3, retain_ip: true}}")
        .file("rancher-compose.yml", "web: {scale: 4}");
    assert_eq!(
        (inline.web("/scale"), inline.web("/retainIp"), inline.web("/metadata/a")),
        (json!(4), json!(true), json!(1))
    );
}

#[test]
fn section_2_the_server_has_no_files() {
    let text = "web: {image: x, env_file: a.env}\napp: {build: .}\nbase: {extends: {service: a, file: b.yml}}";
    let nothing = |_: &str| None;
    let source = SourceFile { name: "dockerCompose".to_owned(), text: text.to_owned() };
    let problems = compile(&Sources::of(source, &nothing)).expect_err("needs files").to_string();
    insta::assert_snapshot!(problems, @r#"
    dockerCompose:1:27: web.env_file: files beside the compose file are not available here: the server has only the texts it was given
    dockerCompose:2:14: app.build: files beside the compose file are not available here: the server has only the texts it was given
    dockerCompose:3:1: base: needs `image`
    dockerCompose:3:17: base.extends: files beside the compose file are not available here: the server has only the texts it was given
    "#);
}

#[test]
fn section_5_override_files() {
    let world = docker("services: {web: {image: x, command: a, ports: ['80:80'], environment: {A: 1}, cap_add: [KILL]}}")
        .file("docker-compose.override.yml", "services: {web: {command: b, ports: ['80:80', '81:81'], environment: [B=2], cap_add: !override [CHOWN]}, more: {image: y}}");
    assert_eq!(world.web("/launchConfig/command"), json!(["b"]));
    assert_eq!(world.web("/launchConfig/ports"), json!(["80:80/tcp", "81:81/tcp"]));
    assert_eq!(world.web("/launchConfig/environment"), json!({"A": "1", "B": "2"}));
    assert_eq!(world.web("/launchConfig/capAdd"), json!(["CHOWN"]));
    assert_eq!(world.project().services.len(), 2);
}

#[test]
fn section_13_include_and_profiles() {
    let world = docker("services: {web: {image: x}}\ninclude: [sub/db.yml, {path: log.yml, env_file: log.env}]")
        .file("sub/db.yml", "services: {db: {image: y, env_file: db.env}}")
        .file("sub/db.env", "A=1")
        .file("log.yml", "services: {log: {image: 'log:${TAG}'}}")
        .file("log.env", "TAG=9");
    assert_eq!(world.service("db").api["launchConfig"]["environment"], json!({"A": "1"}));
    assert_eq!(world.service("log").api["launchConfig"]["imageUuid"], json!("docker:log:9"));
    let conflict = docker("services: {web: {image: x}}\ninclude: [a.yml]").file("a.yml", "services: {web: {image: z}}");
    assert_eq!(conflict.said(), "a.yml:1:12: include: the service `web` is in docker-compose.yml:1 as well");
    let text = "services: {web: {image: x}, debug: {image: y, profiles: [dev]}}";
    let names = |world: &World| world.project().services.len();
    assert_eq!(names(&docker(text)), 1);
    assert_eq!(names(&World { profiles: vec!["dev".to_owned()], ..docker(text) }), 2);
    assert_eq!(names(&World { named: vec!["debug".to_owned()], ..docker(text) }), 2);
    assert!(
        docker("services: {web: {image: x, links: [debug]}, debug: {image: y, profiles: [dev]}}")
            .said()
            .contains("a profile that is off")
    );
}

#[test]
fn section_6_catalog_questions() {
    let questions = ".catalog:\n  name: shop\n  questions:\n  - {variable: SIZE, label: Size, type: enum, options: [small, large], default: small, required: true, description: 'costs $5'}\n  - {variable: PORT, type: int, min: 1, max: 9}\n";
    for world in [
        both("web: {image: x}", questions),
        both("web: {image: x}", &format!("version: '2'\nservices:\n  {}", questions.trim_end().replace('\n', "\n  "))),
    ] {
        let found: Vec<Question> = world.project().questions;
        let words: Vec<_> = found
            .iter()
            .map(|question| {
                format!("{} {:?} {:?} {}", question.variable, question.kind, question.default, question.description)
            })
            .collect();
        assert_eq!(words, ["SIZE Enum Some(\"small\") costs $5", "PORT Int None "]);
    }
    assert!(
        both("web: {image: x}", ".catalog: {questions: [{variable: A, type: nmber}]}")
            .said()
            .contains("there is no type `nmber`")
    );
}

#[test]
fn section_6_keys_of_rancher_compose() {
    let world = both(
        "web: {image: x}",
        "web: {scale: 0, scale_policy: {min: 1, max: 4, increment: 1}, retain_ip: yes, health_check: {port: 80, response_timeout: 2, recreate_on_quorum_strategy_config: {quorum: 1}, strategy: recreateOnQuorum}}",
    );
    assert_eq!(world.web("/scale"), json!(1));
    assert_eq!(world.web("/scalePolicy"), json!({"min": 1, "max": 4, "increment": 1}));
    assert_eq!(world.web("/retainIp"), json!(true));
    assert_eq!(
        world.web("/launchConfig/healthCheck"),
        json!({"port": 80, "responseTimeout": 2, "strategy": "recreateOnQuorum", "recreateOnQuorumStrategyConfig": {"quorum": 1}})
    );
    let global = both("web: {image: x, labels: {io.rancher.scheduler.global: 'true'}}", "web: {scale: 3}");
    assert_eq!(global.web("/scale"), json!(null));
}

#[test]
fn section_7_sections_and_lb_config() {
    let world = docker(
        "services: {app: {image: x}}\nload_balancers: {lb: {links: [app], ports: ['80:80']}}\nexternal_services: {out: {external_ips: [10.0.0.1]}}\naliases: {both: {services: [app, out]}}",
    );
    let kinds: Vec<_> = ["lb", "out", "both"].map(|name| world.service(name).kind).to_vec();
    assert_eq!(kinds, [Kind::LoadBalancer, Kind::External, Kind::Dns]);
    assert_eq!(world.service("both").links.len(), 2);
    let rules = "app: {image: x}\nweb:\n  image: rancher/lb-service-haproxy\n  lb_config:\n    certs: [a]\n    port_rules:\n    - {source_port: 443, protocol: https, hostname: a.com, path: /x, service: app, target_port: 8080}\n    - {source_port: 81, protocol: tcp, service: app, target_port: 90}\n";
    let lb = docker(rules).service("web");
    assert_eq!(lb.api["launchConfig"]["ports"], json!(["81:81/tcp", "443:443"]));
    assert_eq!(lb.api["launchConfig"]["labels"]["io.rancher.loadbalancer.ssl.ports"], json!("443"));
    assert_eq!(lb.links[0].ports, ["a.com:443/x=8080", ":81=90"]);
    let refused = |rule: &str| {
        docker(&format!("app: {{image: x}}\nweb: {{image: y, lb_config: {{port_rules: [{{source_port: 80, service: app}}, {rule}]}}}}")).said()
    };
    assert!(refused("{source_port: 81, service: app, priority: 3}").contains("rule 2: `priority` cannot be said"));
    assert!(refused("{source_port: 80, service: app, protocol: tcp}").contains("rule 2: port 80 speaks http already"));
}

#[test]
fn section_10_volumes_and_networks() {
    let world = docker(
        "services: {web: {image: x, volumes: ['data:/a', 'named:/b', 'out:/c', 'nfs:/d', /e, '/h:/f']}}\nvolumes: {data: , named: {name: real}, out: {external: true}, nfs: {driver: convoy, driver_opts: {size: 10}}}",
    );
    assert_eq!(
        world.web("/launchConfig/dataVolumes"),
        json!(["/e", "shop_data:/a", "real:/b", "out:/c", "shop_nfs:/d", "/h:/f"])
    );
    assert_eq!(world.web("/launchConfig/volumeDriver"), json!("convoy"));
    let volumes: Vec<_> = world
        .project()
        .volumes
        .iter()
        .filter(|volume| volume.is_resource())
        .map(|volume| volume.real_name.clone())
        .collect();
    assert_eq!(volumes, ["shop_nfs"]);
    assert!(docker("services: {web: {image: x, volumes: ['data:/a']}}").said().contains("is not declared"));
    assert_eq!(docker("web: {image: x, volumes: ['data:/a']}").said(), "");
    let aliased = docker(
        "services: {web: {image: x, networks: {front: {aliases: [shop]}}}, db: {image: y, networks: [back]}}\nnetworks: {front: , back: {internal: true}}",
    );
    assert_eq!((aliased.service("shop").kind, aliased.service("shop").links[0].target.as_str()), (Kind::Dns, "web"));
    insta::assert_snapshot!(aliased.said(), @r#"
    warning: docker-compose.yml:1:67: db.networks: `db` and `web` share no network, but they can still reach each other
    warning: docker-compose.yml:2:28: networks.back: `internal` has no effect: every service is on the managed network
    "#);
}

#[test]
fn section_10_a_volume_for_each_container() {
    let text = "services: {web: {image: x, volumes: ['data:/a']}}\nvolumes: {data: {per_container: true}}";
    assert_eq!(docker(text).web("/launchConfig/dataVolumes"), json!(["shop_data_${service_index}:/a"]));
    assert!(docker(text).project().volumes[0].per_container);
    for more in ["driver: nfs", "external: true"] {
        let text = text.replace("true}", &format!("true, {more}}}"));
        assert!(docker(&text).said().contains("`per_container` is for volumes of the hosts"), "{text}");
    }
}

#[test]
fn section_13_paths_of_an_included_file_start_where_it_says() {
    let world = docker("services: {web: {image: x}}\ninclude: [{path: sub/a.yml, project_directory: other}]")
        .file("sub/a.yml", "services: {db: {image: y, env_file: db.env, extends: {file: base.yml, service: db}}}")
        .file("other/db.env", "A=1")
        .file("other/base.yml", "services: {db: {env_file: more.env}}")
        // What is extended keeps to its own directory.
        .file("other/more.env", "B=2");
    assert_eq!(world.service("db").api["launchConfig"]["environment"], json!({"A": "1", "B": "2"}));
    let here = docker("services: {web: {image: x}}\ninclude: [{path: sub/a.yml}]")
        .file("sub/a.yml", "services: {db: {image: y, env_file: db.env}}")
        .file("sub/db.env", "A=2");
    assert_eq!(here.service("db").api["launchConfig"]["environment"], json!({"A": "2"}));
}

#[test]
fn section_13_hosts_by_name() {
    let text =
        "services: {web: {image: x, deploy: {placement: {constraints: ['node.hostname == a', 'node.hostname!=b']}}}}";
    let labels = docker(text).web("/launchConfig/labels");
    assert_eq!(labels["io.rancher.scheduler.affinity:host_label"], json!("io.remuda.host.name=a"));
    assert_eq!(labels["io.rancher.scheduler.affinity:host_label_ne"], json!("io.remuda.host.name=b"));
}

#[test]
fn section_3_questions_are_known_before_the_compile() {
    let lookup = |_: &str| None;
    let text = |name: &str, text: &str| remuda_compose::SourceFile { name: name.to_owned(), text: text.to_owned() };
    let asked = |docker: &str, rancher: Option<&str>| {
        let sources = remuda_compose::Sources {
            rancher: rancher.map(|rancher| text("rancher-compose.yml", rancher)),
            ..remuda_compose::Sources::of(text("docker-compose.yml", docker), &lookup)
        };
        let questions = remuda_compose::questions::of(&sources);
        questions.into_iter().map(|question| question.variable).collect::<Vec<_>>()
    };
    let of = |name: &str| format!("{{questions: [{{variable: {name}}}]}}");
    assert_eq!(asked("web: {image: '$A'}", Some(&format!(".catalog: {}", of("A")))), ["A"]);
    assert_eq!(asked(&format!("services: {{web: {{image: x}}, .catalog: {}}}", of("B")), None), ["B"]);
    assert_eq!(asked(&format!("services: {{web: {{image: x}}}}\ncatalog: {}", of("C")), None), ["C"]);
    // A service of that name, and a file that is none.
    assert_eq!(asked("catalog: {image: x}", Some("catalog: [")), Vec::<String>::new());
}

#[test]
fn variables_are_remembered_for_config() {
    let project = file("docker-compose.yml", "web: {image: 'x:$TAG', user: '${U:-root}'}").set("TAG", "7").project();
    assert_eq!(project.variables, [("TAG".to_owned(), Some("7".to_owned())), ("U".to_owned(), None)].into());
}
