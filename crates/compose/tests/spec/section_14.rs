//! The worked example.

use remuda_compose::{Kind, Link, order};
use serde_json::{Value as Json, json};

use crate::world::{World, both};

pub const DOCKER: &str = r#"
shop:
  image: acme/shop:${TAG}
  command: run --port 8080
  links: ["db:mysql"]
  environment: {MODE: prod, TOKEN: }
  volumes_from: [assets]
  labels: {io.rancher.sidekicks: assets}
assets: {image: acme/assets, command: "true"}
db: {image: "mysql:5.7", volumes: ["dbdata:/var/lib/mysql"]}
edge:
  image: rancher/load-balancer-service
  ports: ["443:8080"]
  links: [shop]
  labels:
    io.rancher.loadbalancer.ssl.ports: '443'
    io.rancher.loadbalancer.target.shop: "shop.example.com:443=8080"
"#;

pub const RANCHER: &str = r#"
shop:
  scale: 2
  health_check: {port: 8080, interval: 2000, request_line: GET /up HTTP/1.0}
  upgrade_strategy: {start_first: true}
edge:
  default_cert: wild
"#;

pub fn world() -> World {
    both(DOCKER, RANCHER).set("TAG", "7")
}

#[test]
fn section_14_worked_example() {
    let project = world().project();
    let waves: Vec<Vec<&str>> = order(&project.services)
        .into_iter()
        .map(|wave| wave.into_iter().map(|service| service.name.as_str()).collect())
        .collect();
    assert_eq!(waves, [["db"], ["shop"], ["edge"]]);
    let shop = world().service("shop");
    let (own, sidekick) = (&shop.lc_hashes["shop"], &shop.lc_hashes["assets"]);
    assert_eq!(
        shop.body("1e9"),
        json!({"name":"shop","environmentId":"1e9","scale":2,"metadata":{"io.rancher.service.hash":shop.hash},
         "launchConfig":{"imageUuid":"docker:acme/shop:7","command":["run","--port","8080"],
          "environment":{"MODE":"prod"},"networkMode":"managed","dataVolumesFromLaunchConfigs":["assets"],
          "labels":{"io.rancher.sidekicks":"assets","io.rancher.service.hash":own},
          "healthCheck":{"port":8080,"interval":2000,"requestLine":"GET /up HTTP/1.0"}},
         "secondaryLaunchConfigs":[{"name":"assets","imageUuid":"docker:acme/assets","command":["true"],
          "networkMode":"managed","labels":{"io.rancher.service.hash":sidekick}}]})
    );
    assert!(shop.hash.starts_with("r1-") && shop.hash.len() == 43 && own != sidekick);
    assert_eq!(shop.links, [Link { target: "db".into(), alias: Some("mysql".into()), ..Link::default() }]);
    assert_eq!(shop.upgrade_strategy.start_first, Some(true));
    assert_eq!(
        (shop.images, shop.sidekicks),
        (vec!["acme/shop:7".to_owned(), "acme/assets".to_owned()], vec!["assets".to_owned()])
    );
    let edge = world().service("edge");
    assert_eq!(
        (edge.kind, edge.kind.collection(), edge.default_certificate.as_deref()),
        (Kind::LoadBalancer, "loadbalancerservices", Some("wild"))
    );
    assert_eq!(edge.api["launchConfig"]["ports"], json!(["443:8080"]));
    assert_eq!(edge.api["launchConfig"].get("imageUuid"), None::<&Json>);
    assert_eq!(edge.links[0].ports, ["shop.example.com:443=8080"]);
}
