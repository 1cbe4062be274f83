//! What balancers are told, from rows.

use remuda_model::{LbConfig, PortRule, ServiceConsumeMap};
use remuda_wire::plan::PlanUpdate;

use super::*;
use crate::hostplan;
use crate::testing::{Language, PROJECT, world};

/// A host with a balancer `lb` on port 80, and services `web` and `db`.
fn balanced() -> Language {
    let w = world().host("a").service("lb", 1).service("web", 1).service("db", 1).settle();
    w.change_service("lb", |row| {
        row.meta.kind = LoadBalancerService::TYPE.to_owned();
        let config = row.launch_config.as_mut().expect("has one");
        config.ports = Some(vec!["80:8080".to_owned()]);
    })
}

fn with_rules(w: Language, to: &str, rules: &[&str]) -> Language {
    let map = ServiceConsumeMap {
        service_id: Some(Id::new(w.service_row("lb").meta.id)),
        consumed_service_id: Some(Id::new(w.service_row(to).meta.id)),
        ports: Some(rules.iter().map(|rule| (*rule).to_owned()).collect()),
        ..ServiceConsumeMap::default()
    };
    put(w, Row::new(Some(PROJECT), ACTIVE, map))
}

fn put<T: Resource>(mut w: Language, mut row: Row<T>) -> Language
where
    Record: From<Row<T>>,
{
    row.meta.id = 9_000 + i64::try_from(w.world.consume_maps.len() + w.world.certificates.len()).expect("few");
    w.world.put(&row.into());
    w
}

/// `host:port/path > targets` of what the balancer's container is told.
fn told(w: &Language) -> Vec<String> {
    let plan = plan(&w.world, w.named("s_lb_1").expect("runs"), w.host_id("a")).expect("a balancer");
    let target = |target: &Target| match &target.servers {
        Servers::Service(id) => {
            let name = w.world.services[id].meta.name.clone().unwrap_or_default();
            format!("{name}:{}", target.port)
        }
        Servers::Address(text) | Servers::Name(text) => format!("{text}:{}", target.port),
    };
    let route = |route: &Route| {
        let targets: Vec<String> = route.targets.iter().map(target).collect();
        format!("{}:{}{} > {}", route.host, route.port, route.path, targets.join(" "))
    };
    plan.routes.iter().map(route).collect()
}

#[test]
fn links_lead_to_active_services_only() {
    let w = with_rules(with_rules(balanced(), "web", &["a.test=81"]), "db", &[]);
    assert_eq!(told(&w), ["a.test:80 > web:81", ":80 > db:8080"]);
    // The rule stays, so that its requests are not answered by another service.
    let w = w.change_service("web", |row| row.meta.enter(INACTIVE));
    assert_eq!(told(&w), ["a.test:80 > ", ":80 > db:8080"]);
}

#[test]
fn aliases_are_followed_and_circles_end() {
    let w = balanced().service("alias", 0).service("outside", 0).settle();
    let w = w.change_service("alias", |row| row.meta.kind = DnsService::TYPE.to_owned());
    let w = w.change_service("outside", |row| {
        row.meta.kind = ExternalService::TYPE.to_owned();
        row.external_ip_addresses = Some(vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()]);
        row.health_check = Some(InstanceHealthCheck { port: Some(7), ..InstanceHealthCheck::default() });
    });
    let w = w.explicit_link("alias", "web", None).explicit_link("alias", "outside", None);
    let w = with_rules(w.explicit_link("alias", "alias", None), "alias", &["90"]);
    assert_eq!(told(&w), [":80 > web:90 192.0.2.1:90 192.0.2.2:90"]);
    let plan = plan(&w.world, w.named("s_lb_1").expect("runs"), 1).expect("a balancer");
    let checks: Vec<Option<u16>> =
        plan.routes[0].targets.iter().map(|target| target.check.as_ref().map(|check| check.port)).collect();
    assert_eq!(checks, [None, Some(7), Some(7)]);
}

#[test]
fn selectors_take_rules_of_what_they_select() {
    let rule = |selector: &str, target_port| PortRule {
        source_port: Some(80),
        hostname: Some("a.test".to_owned()),
        selector: Some(selector.to_owned()),
        target_port,
        ..PortRule::default()
    };
    let labelled = |row: &mut Row<Service>| {
        let config = row.launch_config.as_mut().expect("has one");
        config.labels = Some([("tier".to_owned(), "front".to_owned())].into());
    };
    let w = balanced().change_service("web", labelled).change_service("db", labelled);
    let w = w.change_service("lb", |row| {
        let rules = vec![rule("tier=front", Some(80)), rule("tier=back", Some(1))];
        row.lb_config = Some(LbConfig { port_rules: Some(rules), ..LbConfig::default() });
    });
    assert_eq!(told(&w), ["a.test:80 > web:80", "a.test:80 > db:80"]);
    let w = w.change_service("db", |row| {
        let own = PortRule { path: Some("/db".to_owned()), target_port: Some(9), ..PortRule::default() };
        row.lb_config = Some(LbConfig { port_rules: Some(vec![own]), ..LbConfig::default() });
    });
    assert_eq!(told(&w), ["a.test:80 > web:80", "a.test:80/db > db:9"]);
}

fn certificate(sealed: &str) -> Row<Certificate> {
    let data =
        Certificate { cert: Some("PEM".to_owned()), sealed_key: Some(sealed.to_owned()), ..Certificate::default() };
    let mut row = Row::new(Some(PROJECT), ACTIVE, data);
    row.meta.name = Some("main".to_owned());
    row
}

#[test]
fn tls_without_a_certificate_is_a_problem() {
    let w = balanced().change_service("lb", |row| {
        let config = row.launch_config.as_mut().expect("has one");
        config.labels = Some([(balancer::LABEL_SSL_PORTS.to_owned(), "80".to_owned())].into());
    });
    let said = problem(&w.world, w.service_row("lb"));
    assert_eq!(said.as_deref(), Some("port 80 speaks https and there is no certificate: every handshake fails"));
    let w = put(w, certificate("v1:k:x"));
    let id = *w.world.certificates.keys().next().expect("one");
    let w = w.change_service("lb", |row| row.default_certificate_id = Some(Id::new(id)));
    assert_eq!(problem(&w.world, w.service_row("lb")), None);
    let plan = plan(&w.world, w.named("s_lb_1").expect("runs"), 1).expect("a balancer");
    assert_eq!((plan.default_certificate, plan.certificates.len()), (Some(format!("1c{id}")), 1));
    assert_eq!(plan.certificates[0].key, "v1:k:x", "sealed");
}

/// What a host is told after that change, of balancers.
struct Told {
    w: Language,
    log: hostplan::Log,
}

impl Told {
    fn after(&mut self, record: impl Into<Record>) -> Option<PlanUpdate> {
        let record = record.into();
        let base = self.w.world.revision;
        self.log.touch(&self.w.world, &record, base + 1);
        self.w.world.put(&record);
        self.w.world.revision = base + 1;
        self.log.touch(&self.w.world, &record, base + 1);
        self.log.since(&self.w.world, self.w.host_id("a"), Some(base))
    }
}

#[test]
fn a_host_is_told_when_rules_or_certificates_change_and_not_when_containers_do() {
    let mut w = put(with_rules(balanced(), "web", &["81"]), certificate("v1:k:x"));
    w.world.revision = 10;
    let mut told = Told { log: hostplan::Log::starting_at(10), w };
    let whole = told.log.since(&told.w.world, told.w.host_id("a"), None).expect("everything");
    assert_eq!((whole.balancers.len(), whole.containers.len()), (1, 3));

    // The first look at a balancer finds it new; from then on it is compared.
    let lb = told.w.service_row("lb").clone();
    told.after(lb.clone());
    let n = |update: Option<PlanUpdate>| update.map_or(0, |update| update.balancers.len());
    assert_eq!(n(told.after(lb.clone())), 0, "the same row again");
    let mut web = told.w.service_row("web").clone();
    web.create_index = Some(77);
    assert_eq!(n(told.after(web.clone())), 0, "nothing that rules speak of");
    web.meta.enter(INACTIVE);
    assert_eq!(n(told.after(web)), 1, "a target that serves no more");
    let db = told.w.service_row("db").clone();
    assert_eq!(n(told.after(db)), 0, "no target");
    let mut map = told.w.world.consume_maps.values().next().expect("one").as_ref().clone();
    map.ports = Some(vec!["a.test".to_owned()]);
    assert_eq!(n(told.after(map)), 1, "another rule");
    let mut row = told.w.world.certificates.values().next().expect("one").as_ref().clone();
    row.sealed_key = Some("v1:k:y".to_owned());
    assert_eq!(n(told.after(row.clone())), 0, "it uses none");
    let mut lb = lb;
    lb.certificate_ids = Some(vec![row.id()]);
    assert_eq!(n(told.after(lb)), 1);
    row.sealed_key = Some("v1:k:z".to_owned());
    assert_eq!(n(told.after(row)), 1, "replaced");
    let mut container = told.w.named("s_web_1").expect("runs").clone();
    container.meta.enter(STOPPING);
    assert_eq!(n(told.after(container)), 0, "the directory's business");
}
