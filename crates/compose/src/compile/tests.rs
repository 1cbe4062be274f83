//! Whole files: what they become, and what is said of broken ones.

use insta::assert_snapshot;

use super::*;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn run(docker: &str, rancher: Option<&str>) -> Result<Compiled, Problems> {
    let docker = source("docker-compose.yml", docker);
    let rancher = rancher.map(|text| source("rancher-compose.yml", text));
    let lookup = |name: &str| match name {
        "TAG" => Some("7".to_owned()),
        "FROM_OUTSIDE" => Some("outside".to_owned()),
        _ => None,
    };
    compile(&Input { docker_compose: &docker, rancher_compose: rancher.as_ref(), lookup: &lookup })
}

/// What is said of the files: the problems, or the warnings.
fn said(docker: &str, rancher: Option<&str>) -> String {
    match run(docker, rancher) {
        Ok(compiled) => compiled.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn a_stack_of_2016() {
    let compiled = run(
        "shop:\n  image: acme/shop:${TAG}\n  command: run --port 8080\n  links: ['db: mysql']\n  environment: {MODE: prod, TOKEN: , FROM_OUTSIDE: }\n  restart: no\n  labels: {a: 1, b: true}\ndb: {image: 'mysql:5.7', volumes: ['dbdata:/var/lib/mysql']}\n",
        Some("shop:\n  scale: 2\n  metadata: {deep: {er: [1, x]}}\n"),
    )
    .expect("compiles");
    let shop = &compiled.services[1];
    assert_eq!(compiled.services[0].name, "db", "what is linked to comes first");
    assert_eq!((shop.scale, &shop.links[..]), (2, &[Link { target: "db".into(), alias: Some("mysql".into()) }][..]));
    let body = serde_json::to_string_pretty(&shop.body("1e9")).expect("is JSON").replace(&shop.hash, "HASH");
    assert_snapshot!(body, @r#"
    {
      "environmentId": "1e9",
      "launchConfig": {
        "command": [
          "run",
          "--port",
          "8080"
        ],
        "environment": {
          "FROM_OUTSIDE": "outside",
          "MODE": "prod"
        },
        "imageUuid": "docker:acme/shop:7",
        "labels": {
          "a": "1",
          "b": "true",
          "io.rancher.service.hash": "HASH"
        },
        "networkMode": "managed"
      },
      "metadata": {
        "deep": {
          "er": [
            1,
            "x"
          ]
        },
        "io.rancher.service.hash": "HASH"
      },
      "name": "shop",
      "scale": 2
    }
    "#);
}

#[test]
fn a_stack_of_today() {
    let compiled = run(
        "name: shop\nversion: '3.9'\nx-common: &common\n  tty: true\nservices:\n  web:\n    <<: *common\n    image: nginx\n    depends_on: {api: {condition: service_started}}\n    logging: {driver: json-file, options: {max-size: 1m}}\n  api: {image: 'sim:api', network_mode: host}\nvolumes:\n  data:\n",
        None,
    )
    .expect("compiles");
    assert_eq!(compiled.name.as_deref(), Some("shop"));
    let names: Vec<&str> = compiled.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["api", "web"]);
    assert_eq!(compiled.services[0].launch_config["imageUuid"], "sim:api");
    assert_eq!(compiled.services[0].launch_config["networkMode"], "host");
    assert_eq!(compiled.services[1].launch_config["tty"], true);
    assert_eq!(
        compiled.services[1].launch_config["logConfig"],
        json!({"driver": "json-file", "config": {"max-size": "1m"}})
    );
}

#[test]
fn the_hash_sees_what_matters() {
    let hash = |docker: &str, rancher: &str| run(docker, Some(rancher)).expect("compiles").services.remove(0).hash;
    let web = "web: {image: a, links: [web], environment: {A: '1', B: '2'}}";
    assert_eq!(
        hash(web, "web: {scale: 1}"),
        hash("web: {environment: [B=2, A=1], tty: false, image: a}", "web: {scale: 5}")
    );
    assert_ne!(hash(web, ""), hash("web: {image: b}", ""));
    assert_ne!(hash(web, ""), hash(web, "web: {metadata: {a: 1}}"));
}

#[test]
fn cycles_keep_the_order_of_the_file() {
    let compiled = run(
        "a: {image: x, links: [b]}\nb: {image: x, links: [c]}\nc: {image: x, links: [a, c]}\nd: {image: x}\n",
        None,
    )
    .expect("compiles");
    let names: Vec<&str> = compiled.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["d", "a", "c", "b"]);
}

#[test]
fn problems_name_their_place_and_the_way_out() {
    assert_snapshot!(said("web:\n  imge: x\n  port: [80]\n  volumes: ['./a:/b']\n  build: .\nmy_app: {image: x, links: [wb]}\n", None), @"
    docker-compose.yml:2:3: web.imge: is no key of a service (did you mean `image`?)
    docker-compose.yml:3:3: web.port: is no key of a service (did you mean `ports`?)
    docker-compose.yml:4:13: web.volumes: `./a` is relative to this machine, but containers run on other hosts; write an absolute path or a volume name
    docker-compose.yml:5:3: web.build: is not supported by this release
    docker-compose.yml:1:1: web: needs `image`
    docker-compose.yml:6:1: my_app: `my_app` is no name here: only letters, digits and `-` are allowed; `my-app` would do
    docker-compose.yml:6:28: my_app.links: there is no service `wb` in this file (did you mean `web`?)
    ");
    assert_snapshot!(said("web: {image: 'x:${A!}'}", None), @"docker-compose.yml:1:14: web.image: `${A!}` has an operator nobody knows; there are :- - :? ? :+ +");
    assert_snapshot!(said("web: [1]", None), @"docker-compose.yml:1:6: web: a service is a map of keys, found a list");
    assert_snapshot!(said("", None), @"docker-compose.yml: there is no service in this file");
    assert_snapshot!(said("- a", None), @"docker-compose.yml:1:1: a compose file is a map of services");
    assert_snapshot!(said("services: {web: {image: x}}\nnetworks: {a: }", None), @"docker-compose.yml:2:1: `networks` is not supported by this release; it reads `services`, `volumes` and `name`");
    assert_snapshot!(said("web: {image: x, labels: {io.rancher.sidekicks: a}}", None), @"docker-compose.yml:1:25: web.labels: `io.rancher.sidekicks` is not supported by this release");
    assert_snapshot!(said("web: {image: x}", Some("web: {scale: -1}\n")), @"rancher-compose.yml:1:14: web.scale: cannot be negative");
}

#[test]
fn warnings_come_once_per_variable() {
    assert_snapshot!(said("web: {image: x, environment: {A: '$NO$NO', B: $NO}, container_name: y}", Some("webb: {scale: 2}\n")), @"
    warning: docker-compose.yml:1:34: web.environment: variable `NO` is not set; it counts as empty
    warning: docker-compose.yml:1:53: web.container_name: has no effect: containers are named stack_service_N
    warning: rancher-compose.yml:1:1: webb: no service of that name is in docker-compose.yml (did you mean `web`?)
    ");
}

proptest::proptest! {
    #[test]
    fn any_file_compiles_or_is_refused(docker in "(web|db|services|image|ports|links|[a-z:\\[\\]{}$\" \n-]|[0-9]){0,60}") {
        drop(run(&docker, Some(&docker)));
    }
}
