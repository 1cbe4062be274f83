//! The cases that tests must cover, in the order of the section. Those that are about applying (upgrades, confirm,
//! rollback, relinking) are covered by what `diff` says here, and by the commands' own tests.

use remuda_compose::{Kind, Link, diff, names, order};
use serde_json::{Value as Json, json};

use crate::world::{World, both, docker};

fn web(keys: &str) -> World {
    docker(&format!("web:\n  image: x\n  {keys}\n")).set("SHELL_VAR", "from-shell")
}

/// Fields of the create input of `web`, written as `image: x` and these keys.
fn check(cases: &[(&str, &str, Json)]) {
    for (keys, pointer, expected) in cases {
        assert_eq!(web(keys).web(pointer), *expected, "{keys}");
    }
}

#[test]
fn section_15_restart_no_quoted_and_bare() {
    for keys in ["restart: \"no\"", "restart: no", "restart: on-failure:3", "restart: unless-stopped"] {
        assert_eq!(web(keys).said(), "", "{keys}");
        assert_eq!(web(keys).web("/launchConfig/restartPolicy"), Json::Null);
    }
    assert!(web("restart: nope").said().contains("`nope` is no restart policy"));
}

#[test]
fn section_15_values_of_labels_and_environment() {
    check(&[
        ("labels: {a: 1, b: true, c: 1.5}", "/launchConfig/labels/a", json!("1")),
        ("labels: {a: 1, b: true, c: 1.5}", "/launchConfig/labels/b", json!("true")),
        ("labels: [alone, 'k=v=w']", "/launchConfig/labels/alone", json!("")),
        ("labels: [alone, 'k=v=w']", "/launchConfig/labels/k", json!("v=w")),
        ("environment: {A: ':A'}", "/launchConfig/environment/A", json!(":A")),
        ("environment: {A: :A}", "/launchConfig/environment/A", json!(":A")),
        ("environment: ['A=b:c', 'B=1=2']", "/launchConfig/environment", json!({"A": "b:c", "B": "1=2"})),
        ("environment: {A: 1, B: true}", "/launchConfig/environment", json!({"A": "1", "B": "true"})),
        ("environment: [SHELL_VAR, NOWHERE]", "/launchConfig/environment", json!({"SHELL_VAR": "from-shell"})),
        ("environment: {SHELL_VAR: '', NOWHERE: }", "/launchConfig/environment", json!({"SHELL_VAR": "from-shell"})),
        ("command: echo $$HOME $$", "/launchConfig/command", json!(["echo", "$HOME", "$"])),
        ("labels: ['io.x=$${stack_name}/web']", "/launchConfig/labels/io.x", json!("${stack_name}/web")),
        ("domainname: $SHELL_VAR-x", "/launchConfig/domainName", json!("from-shell-x")),
    ]);
}

#[test]
fn section_15_env_file_precedence_over_two_files() {
    let world = docker("web:\n  image: x\n  env_file: [a.env, b.env]\n  environment: {C: mine}\n")
        .file("a.env", "# both\nA=1\nB=1\nC=1\n")
        .file("b.env", "B=2\nexport D='two words'\nC=2\n");
    assert_eq!(world.web("/launchConfig/environment"), json!({"A": "1", "B": "2", "C": "mine", "D": "two words"}));
    let missing = docker("web: {image: x, env_file: no.env}");
    assert_eq!(missing.said(), "docker-compose.yml:1:27: web.env_file: there is no file `no.env`");
    assert_eq!(docker("web: {image: x, env_file: [{path: no.env, required: false}]}").said(), "");
}

#[test]
fn section_15_unset_variable() {
    assert_eq!(
        web("user: a$NO$NO\n  domainname: $NO").said(),
        "warning: docker-compose.yml:3:9: web.user: variable `NO` is not set; it counts as empty\n"
    );
    let strict = World { strict: true, ..web("user: a$NO") };
    assert!(strict.compile().is_err());
    assert!(docker("web: {image: 'name:$UNSET'}").web("/launchConfig/imageUuid") == "docker:name:");
}

#[test]
fn section_15_ports() {
    check(&[
        ("ports: [80]", "/launchConfig/ports", json!(["80/tcp"])),
        ("ports: ['80:81', 53/udp]", "/launchConfig/ports", json!(["80:81/tcp", "53/udp"])),
        ("ports: ['8000-8002:80-82']", "/launchConfig/ports", json!(["8000:80/tcp", "8001:81/tcp", "8002:82/tcp"])),
        ("ports: ['127.0.0.1:80:81']", "/launchConfig/ports", json!(["127.0.0.1:80:81/tcp"])),
    ]);
}

#[test]
fn section_15_network_of_another_container() {
    let inside = "web: {image: x, labels: {io.rancher.sidekicks: log}}\nlog: {image: y, net: 'container:web'}";
    let secondary = docker(inside).web("/secondaryLaunchConfigs/0");
    assert_eq!((&secondary["networkMode"], &secondary["networkLaunchConfig"]), (&json!("container"), &json!("web")));
    assert_eq!(
        docker("web: {image: x, net: 'container:db'}\ndb: {image: y}").said(),
        "docker-compose.yml:1:22: web.net: `db` is not in the same unit; the label `io.rancher.sidekicks: db` on one of the two makes it so"
    );
    assert!(docker("web: {image: x, volumes_from: [db]}\ndb: {image: y}").said().contains("not in the same unit"));
    assert!(
        docker("web: {image: x, volumes_from: ['db:ro']}\ndb: {image: y}")
            .said()
            .contains("only the name of a sidekick")
    );
}

#[test]
fn section_15_sidekicks() {
    let files = "web: {image: x, labels: {io.rancher.sidekicks: 'log, data'}}\nlog: {image: y, links: [web], volumes_from: [data]}\ndata: {image: z}\n";
    let service = both(files, "log: {health_check: {port: 9}, scale: 7, metadata: {a: 1}}").service("web");
    assert_eq!(service.sidekicks, ["log", "data"]);
    assert_eq!(service.api["secondaryLaunchConfigs"][0]["healthCheck"], json!({"port": 9}));
    assert_eq!((&service.api["scale"], service.links.len()), (&json!(1), 0));

    let shared = docker("a: {image: x, labels: {io.rancher.sidekicks: log}}\nb: {image: x, labels: {io.rancher.sidekicks: log}}\nlog: {image: y}").project();
    let units: Vec<_> =
        shared.services.iter().map(|service| (service.name.as_str(), service.sidekicks.join(","))).collect();
    assert_eq!(units, [("a", "log".to_owned()), ("b", "log".to_owned())]);

    assert_eq!(
        docker("web: {image: x, labels: {io.rancher.sidekicks: lgo}}\nlog: {image: y}").said(),
        "docker-compose.yml:1:1: web.labels: the sidekick `lgo` is not defined"
    );
    assert_eq!(
        docker("web: {image: x, labels: {io.rancher.sidekicks: log}}\nlog: {image: y}\ndb: {image: z, links: [log]}")
            .said(),
        "docker-compose.yml:3:24: db.links: `log` is a sidekick and has no name of its own; link to `web`"
    );
    let cycle = "web: {image: x, volumes_from: [log], labels: {io.rancher.sidekicks: log}}\nlog: {image: y, volumes_from: [web]}";
    assert!(docker(cycle).said().contains("takes volumes from itself"));
}

#[test]
fn section_15_links_self_and_cycles() {
    let project =
        docker("a: {image: x, links: [b]}\nb: {image: x, links: [c]}\nc: {image: x, links: [a, c]}\nd: {image: x}\n")
            .project();
    let waves: Vec<String> = order(&project.services)
        .iter()
        .map(|wave| wave.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join("+"))
        .collect();
    // An edge of the cycle gives way; every link is still there.
    assert_eq!(waves, ["d", "a", "c", "b"]);
    assert_eq!(project.services.iter().map(|service| service.links.len()).sum::<usize>(), 4);
}

#[test]
fn section_15_relink_without_upgrade() {
    let service = docker("web: {image: x, links: [db]}\ndb: {image: y}").service("web");
    let api = Json::Object(service.api.clone());
    let same = diff(&service, &api).with_links(&service, &[Link { target: "db".into(), ..Link::default() }]);
    let other = diff(&service, &api).with_links(&service, &[]);
    assert!(same.is_same() && other.links && !other.needs_upgrade() && !other.service);
}

#[test]
fn section_15_links_to_other_stacks_and_with_spaces() {
    let service =
        docker("web: {image: x, links: ['db: main'], external_links: ['other/api:v2', plain]}\ndb: {image: y}")
            .service("web");
    let links: Vec<_> =
        service.links.iter().map(|link| (link.stack.as_deref(), link.target.as_str(), link.alias.as_deref())).collect();
    assert_eq!(links, [(None, "db", Some("main")), (Some("other"), "api", Some("v2")), (None, "plain", None)]);
}

#[test]
fn section_15_stack_names() {
    assert_eq!(names::stack_name("v0.2.6"), "v0-2-6");
    // `-p` in another case is the same stack.
    assert_eq!(names::stack_name("Shop"), names::stack_name("shop"));
    let named = World { stack: Some("My_Shop".to_owned()), ..docker("web: {image: x}") };
    assert_eq!(named.project().stack, "my-shop");
    assert_eq!(docker("name: inner\nservices: {web: {image: x}}").project().stack, "inner");
}

#[test]
fn section_15_load_balancers() {
    let lb = |keys: &str| {
        docker(&format!(
            "web:\n  image: rancher/load-balancer-service:v1\n  links: [app]\n  {keys}\napp: {{image: x}}\n"
        ))
    };
    let plain = lb("ports: [80, '80:8080', 9999/tcp]").service("web");
    assert_eq!(plain.kind, Kind::LoadBalancer);
    assert_eq!(plain.api["launchConfig"]["ports"], json!(["80", "80:8080", "9999/tcp"]));
    assert!(plain.links[0].ports.is_empty());
    let rules =
        lb("ports: ['80:80']\n  labels: {io.rancher.loadbalancer.target.app: 'a.com:80/x=8000 , 81'}").service("web");
    assert_eq!(rules.links[0].ports, ["a.com:80/x=8000", "81"]);
    assert_eq!(lb("expose: ['80:8080']").web("/launchConfig/expose"), json!(["80:8080"]));
    assert_eq!(
        lb("labels: {io.rancher.loadbalancer.target.app: 'a:1:2'}").said(),
        "docker-compose.yml:1:1: web.labels: the rule `a:1:2` of `io.rancher.loadbalancer.target.app` does not read: more than one `:`"
    );
    assert!(lb("labels: {io.rancher.loadbalancer.target.ap: '1'}").said().contains("(did you mean `app`?)"));
    // A certificate is a name here; whoever sends it looks the name up, and fails before creating anything.
    let certificates =
        both("web: {image: rancher/load-balancer-service}", "web: {default_cert: wild, certs: [a, b]}").service("web");
    assert_eq!(
        (certificates.default_certificate.as_deref(), certificates.certificates),
        (Some("wild"), vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn section_15_hostname_in_either_file() {
    let inside = docker("web: {image: x, hostname: box}").service("web");
    assert_eq!((inside.kind, &inside.api["launchConfig"]["hostname"]), (Kind::Service, &json!("box")));
    let outside = both("web: {image: rancher/external-service}", "web: {hostname: example.com}").service("web");
    assert_eq!((outside.kind, &outside.api["hostname"]), (Kind::External, &json!("example.com")));
    let addresses = both("web: {image: x}", "web: {external_ips: [10.0.0.1], health_check: {port: 80}}").service("web");
    assert_eq!(addresses.api["externalIpAddresses"], json!(["10.0.0.1"]));
    assert_eq!(addresses.api["healthCheck"], json!({"port": 80}));
    assert!(docker("web: {image: rancher/external-service}").said().contains("needs `external_ips` or `hostname`"));
    assert!(
        both("web: {image: x}", "web: {external_ips: [10.0.0.1], hostname: a}").said().contains("exclude each other")
    );
}

#[test]
fn section_15_extends() {
    let same = docker("base: {image: x, dns: [1.1.1.1], environment: {A: 1, B: 1}}\nweb: {extends: {service: base}, dns: [8.8.8.8], environment: [B=2]}").service("web");
    assert_eq!(same.api["launchConfig"]["dns"], json!(["1.1.1.1", "8.8.8.8"]));
    assert_eq!(same.api["launchConfig"]["environment"], json!({"A": "1", "B": "2"}));
    let other = docker("web: {extends: {service: base, file: common/base.yml}}")
        .file("common/base.yml", "services: {base: {extends: deep, env_file: its.env}, deep: {image: y}}")
        .file("common/its.env", "A=1\n");
    assert_eq!(other.web("/launchConfig/imageUuid"), json!("docker:y"));
    assert_eq!(other.web("/launchConfig/environment"), json!({"A": "1"}));
    assert!(
        docker("base: {image: x, links: [web]}\nweb: {extends: base}").said().contains("what is extended stands alone")
    );
    assert!(docker("web: {extends: {service: bse}}\nbase: {image: x}").said().contains("(did you mean `base`?)"));
}

#[test]
fn section_15_git_builds() {
    let build = |keys: &str| docker(&format!("web: {{{keys}}}")).service("web").api["launchConfig"].clone();
    let named = build("image: acme/web, build: 'https://example.com/web.git'");
    assert_eq!(
        (&named["imageUuid"], &named["build"]),
        (&json!("docker:acme/web"), &json!({"remote": "https://example.com/web.git"}))
    );
    let plain = build("build: 'git://example.com/web', dockerfile: Dock");
    assert_eq!(plain["build"], json!({"remote": "git://example.com/web", "dockerfile": "Dock"}));
    let image = plain["imageUuid"].as_str().expect("is text").to_owned();
    assert!(image.starts_with("docker:shop_web:") && image.len() == "docker:shop_web:".len() + 12, "{image}");
    assert_eq!(image, build("build: 'git://example.com/web', dockerfile: Dock")["imageUuid"]);
    let local = docker("web: {build: {context: ./src, args: {A: 1}}}").service("web");
    assert_eq!(
        (local.builds[0].directory.as_str(), &local.api["launchConfig"]["imageUuid"]),
        ("/src/src", &json!("docker:shop_web"))
    );
}

#[test]
fn section_15_changes_of_sidekicks() {
    let with = |log: &str| {
        docker(&format!(
            "web: {{image: x, labels: {{io.rancher.sidekicks: '{log}'}}}}\nlog: {{image: y}}\ndata: {{image: z}}"
        ))
    };
    let before = Json::Object(with("log").service("web").api);
    let added = diff(&with("log,data").service("web"), &before);
    assert_eq!((added.sidekicks_added, added.sidekicks_removed), (vec!["data".to_owned()], vec![]));
    let replaced = diff(&with("data").service("web"), &before);
    assert_eq!(
        (replaced.sidekicks_added, replaced.sidekicks_removed),
        (vec!["data".to_owned()], vec!["log".to_owned()])
    );
    let mut gone = before.clone();
    gone["secondaryLaunchConfigs"][0]["imageUuid"] = json!("docker:rancher/none");
    assert_eq!(diff(&with("log").service("web"), &gone).sidekicks_added, ["log"]);
    assert!(diff(&with("log").service("web"), &before).is_same());
}

#[test]
fn section_15_metadata_eight_levels_deep() {
    let world = both("web: {image: x}", "web: {metadata: {a: {b: {c: {d: {e: {f: {g: {h: [1, true, ~, x]}}}}}}}}}");
    assert_eq!(world.web("/metadata/a/b/c/d/e/f/g/h"), json!([1, true, null, "x"]));
}
