//! What a balancer's containers are told: the rows around a load balancer service, put together for the host plan
//! (`load-balancer.md` §§3, 5, 6). Pure; what it looks at is said by [`Log`], so that a change costs the balancers it is
//! about and no others.
//!
//! Keys of certificates are sealed in it. The hub opens them when the plan leaves the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remuda_model::balancer::{self, Rule, Rules};
use remuda_model::states::*;
use remuda_model::{
    Certificate, Container, DnsService, ExternalService, InstanceHealthCheck, LoadBalancerCookieStickinessPolicy,
    LoadBalancerService, Service, labels,
};
use remuda_schema::{Id, Resource, Row};
use remuda_wire::balancer::{
    self as wire, BalancerPlan, Check, CookieMode, HealthListener, Listener, Locality, Protocol, Route, Servers,
    Stickiness, Target,
};

use crate::record::Record;
use crate::world::World;

/// Whether the containers of services of that kind are HAProxy.
pub fn is_balancer(kind: &str) -> bool {
    kind == LoadBalancerService::TYPE
}

/// What that container of a balancer is told.
pub fn plan(world: &World, container: &Row<Container>, host: i64) -> Option<BalancerPlan> {
    let service = world.services.get(&container.service_id?.number()).filter(|row| is_balancer(&row.meta.kind))?;
    let shared = definition(world, service, &mut BTreeSet::new());
    Some(BalancerPlan { container: container.meta.uuid.clone(), host_id: host, ..shared })
}

/// The part all containers of the service share. `seen` gets the numbers of the services it looked at.
fn definition(world: &World, service: &Row<Service>, seen: &mut BTreeSet<i64>) -> BalancerPlan {
    let links = world.each(&world.consume_maps, &world.consume_maps_by_service, service.meta.id);
    let links: Vec<(i64, &[String])> = links
        .filter(|map| map.meta.is_live())
        .filter_map(|map| Some((map.consumed_service_id?.number(), map.ports.as_deref().unwrap_or_default())))
        .collect();
    let rules = Rules::of(service, links);
    let mut routes = Vec::new();
    for rule in &rules.rules {
        match &rule.target {
            balancer::Target::Service(id, port) => routes.push(route(world, rule, *id, *port, seen)),
            balancer::Target::Selector(selector, port) => {
                for other in world.services.values().filter(|other| other.meta.is_live()) {
                    let labels = other.launch_config.as_ref().and_then(|config| config.labels.as_ref());
                    if !labels.is_some_and(|labels| selector.matches(labels)) || other.meta.id == service.meta.id {
                        continue;
                    }
                    let offered: Vec<_> =
                        if is_balancer(&other.meta.kind) { vec![] } else { balancer::offered(other).collect() };
                    for rule in balancer::selected(rule, *port, other.meta.id, &offered) {
                        if let balancer::Target::Service(id, port) = rule.target {
                            routes.push(route(world, &rule, id, port, seen));
                        }
                    }
                }
            }
        }
    }
    let (ids, default) = certificates_of(service);
    let default = default.filter(|id| world.certificates.contains_key(&id.number()));
    let mut wanted: Vec<Id<Certificate>> = default.into_iter().collect();
    for id in ids {
        if !wanted.contains(&id) {
            wanted.push(id);
        }
    }
    let check = service.launch_config.as_ref().and_then(|config| config.health_check.as_ref());
    let stored = service.launch_config.as_ref().and_then(|config| config.labels.as_ref()).map(labels::stored);
    let locality = match stored.as_ref().and_then(|labels| labels.get(balancer::LABEL_TARGET)).map(String::as_str) {
        Some("only-local") => Locality::OnlyLocal,
        Some("prefer-local") => Locality::PreferLocal,
        _ => Locality::Any,
    };
    BalancerPlan {
        container: String::new(),
        service_id: service.meta.id,
        service: service.meta.name.clone().unwrap_or_default(),
        host_id: 0,
        health: check
            .and_then(InstanceHealthCheck::rules)
            .map(|rules| HealthListener { port: rules.port, http: rules.request_line.is_some() }),
        listeners: rules.listeners.iter().map(listener).collect(),
        routes,
        default_certificate: default.map(|id| id.to_string()),
        certificates: wanted.iter().filter_map(|id| certificate(world.certificates.get(&id.number())?)).collect(),
        stickiness: stickiness(service),
        config: balancer::custom_text(service),
        locality,
    }
}

fn listener(of: &balancer::Listener) -> Listener {
    let protocol = match of.protocol {
        "https" => Protocol::Https,
        "tcp" => Protocol::Tcp,
        "tls" => Protocol::Tls,
        "sni" => Protocol::Sni,
        _ => Protocol::Http,
    };
    Listener { port: of.port, protocol, accept_proxy: of.accept_proxy }
}

fn route(world: &World, rule: &Rule, service: i64, port: u16, seen: &mut BTreeSet<i64>) -> Route {
    let (mut targets, mut looked) = (Vec::new(), BTreeSet::new());
    leaves(world, service, &mut looked, &mut |servers, check| {
        targets.push(Target { servers, port, weight: rule.weight, check });
    });
    seen.extend(looked);
    Route {
        port: rule.port,
        host: rule.host.clone(),
        path: rule.path.clone(),
        priority: rule.priority,
        backend: rule.backend.clone(),
        targets,
    }
}

/// What a service comes down to: itself, or what is behind an alias. Cycles end where they began.
fn leaves(world: &World, id: i64, on_the_way: &mut BTreeSet<i64>, found: &mut dyn FnMut(Servers, Option<Check>)) {
    if !on_the_way.insert(id) {
        return;
    }
    let Some(row) = world.services.get(&id).filter(|row| is_active_like(&row.meta.state)) else { return };
    match row.meta.kind.as_str() {
        DnsService::TYPE => {
            let links = world.each(&world.consume_maps, &world.consume_maps_by_service, id);
            for map in links.filter(|map| map.meta.is_live()) {
                if let Some(target) = map.consumed_service_id {
                    leaves(world, target.number(), on_the_way, found);
                }
            }
        }
        ExternalService::TYPE => {
            let check = row.health_check.as_ref().and_then(check);
            for address in row.external_ip_addresses.iter().flatten() {
                found(Servers::Address(address.clone()), check.clone());
            }
            if let Some(name) = row.hostname.as_ref().filter(|name| !name.is_empty()) {
                found(Servers::Name(name.clone()), check);
            }
        }
        _ => {
            let config = row.launch_config.as_ref().and_then(|config| config.health_check.as_ref());
            found(Servers::Service(id), config.and_then(check));
        }
    }
}

fn check(of: &InstanceHealthCheck) -> Option<Check> {
    let rules = of.rules()?;
    Some(Check {
        port: rules.port,
        interval_ms: u32::try_from(rules.interval_ms).unwrap_or(u32::MAX),
        response_timeout_ms: u32::try_from(rules.timeout_ms).unwrap_or(u32::MAX),
        healthy_threshold: rules.rise,
        unhealthy_threshold: rules.fall,
        request_line: rules.request_line.unwrap_or_default(),
    })
}

/// Certificates a balancer names: those chosen by name, and the default one.
pub fn certificates_of(row: &Service) -> (Vec<Id<Certificate>>, Option<Id<Certificate>>) {
    match &row.lb_config {
        Some(config) => (config.certificate_ids.clone().unwrap_or_default(), config.default_certificate_id),
        None => (row.certificate_ids.clone().unwrap_or_default(), row.default_certificate_id),
    }
}

fn certificate(row: &Arc<Row<Certificate>>) -> Option<wire::Certificate> {
    if row.meta.removed.is_some() {
        return None;
    }
    Some(wire::Certificate {
        id: row.public_id(),
        name: row.meta.name.clone().unwrap_or_default(),
        cert: row.cert.clone()?,
        chain: row.cert_chain.clone().unwrap_or_default(),
        key: row.sealed_key.clone()?,
    })
}

fn stickiness(row: &Service) -> Option<Stickiness> {
    let earlier = || row.load_balancer_config.as_ref()?.lb_cookie_stickiness_policy.as_ref();
    let policy: &LoadBalancerCookieStickinessPolicy = match &row.lb_config {
        Some(config) => config.stickiness_policy.as_ref()?,
        None => earlier()?,
    };
    Some(Stickiness {
        cookie: policy.cookie.clone().filter(|name| !name.is_empty()),
        mode: match policy.mode.as_deref() {
            Some("rewrite") => CookieMode::Rewrite,
            Some("prefix") => CookieMode::Prefix,
            _ => CookieMode::Insert,
        },
        indirect: policy.indirect == Some(true),
        nocache: policy.nocache == Some(true),
        postonly: policy.postonly == Some(true),
        domain: policy.domain.clone().filter(|domain| !domain.is_empty()),
    })
}

/// Why a balancer cannot do all that it is asked, whatever HAProxy says: TLS without a certificate.
pub fn problem(world: &World, row: &Row<Service>) -> Option<String> {
    let definition = definition(world, row, &mut BTreeSet::new());
    let secure = definition.listeners.iter().find(|listener| listener.protocol.has_certificates())?;
    definition.certificates.is_empty().then(|| {
        format!(
            "port {} speaks {} and there is no certificate: every handshake fails",
            secure.port,
            secure.protocol.as_str()
        )
    })
}

/// What each balancer of a project was last told, and which services that depends on.
#[derive(Clone, Debug, Default)]
pub struct Log {
    told: BTreeMap<i64, (BalancerPlan, BTreeSet<i64>)>,
}

impl Log {
    /// Balancers whose containers are told something else after that row changed.
    pub fn changed(&mut self, world: &World, record: &Record) -> Vec<i64> {
        let touched = |id: Option<i64>| -> Vec<i64> {
            let Some(id) = id else { return Vec::new() };
            let is_about = |balancer: &i64| {
                let selects = world.services.get(balancer).is_some_and(|row| selects(row));
                *balancer == id || selects || self.told.get(balancer).is_none_or(|(_, seen)| seen.contains(&id))
            };
            world.balancers.iter().copied().filter(is_about).collect()
        };
        let looked_at = match record {
            Record::Service(row) => touched(Some(row.meta.id)),
            Record::ServiceConsumeMap(row) => touched(row.service_id.map(|id| id.number())),
            Record::Certificate(_) => world.balancers.iter().copied().collect(),
            _ => return Vec::new(),
        };
        self.told.retain(|id, _| world.balancers.contains(id));
        looked_at.into_iter().filter(|id| self.look(world, *id)).collect()
    }

    /// Looks at a balancer again; whether what its containers are told differs.
    fn look(&mut self, world: &World, id: i64) -> bool {
        let Some(row) = world.services.get(&id) else { return false };
        let mut seen = BTreeSet::new();
        let now = definition(world, row, &mut seen);
        let before = self.told.insert(id, (now.clone(), seen));
        before.is_none_or(|(before, _)| before != now)
    }
}

/// Whether a rule chooses services by their labels.
fn selects(row: &Row<Service>) -> bool {
    let rules = row.lb_config.iter().flat_map(|config| config.port_rules.iter().flatten());
    rules.into_iter().any(|rule| rule.selector.as_deref().is_some_and(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
