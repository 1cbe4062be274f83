//! Load balancers by request (`load-balancer.md` §§1, 2, 14): what is filled in, what is refused.

use remuda_model::balancer::{self, HEALTH_PORT};
use remuda_model::image;
use remuda_model::ports::PortSpec;
use remuda_model::{InstanceHealthCheck, LaunchConfig, LoadBalancerService, Service};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Resource, Row};
use remuda_store::{Query, Scope, Tx};

use super::service::{free_ports, kept_ports};
use super::{CommandError, Context};
use crate::plan::claims;
use crate::settings::Settings;

/// Fills in what a balancer has though nobody said it: image and health check; and refuses what cannot be one.
pub fn prepare(settings: &Settings, row: &mut Service) -> Result<(), ApiError> {
    let is_later_form = row.lb_config.is_some();
    let config = row.launch_config.get_or_insert_default();
    if !config.has_image() {
        config.image_uuid = Some(image(settings));
    }
    config.health_check.get_or_insert_with(|| InstanceHealthCheck {
        port: Some(i64::from(HEALTH_PORT)),
        interval: Some(2000),
        healthy_threshold: Some(2),
        unhealthy_threshold: Some(3),
        response_timeout: Some(2000),
        ..InstanceHealthCheck::default()
    });
    for text in config.ports.iter().flatten().chain(config.expose.iter().flatten()) {
        balancer::check_listener(text)?;
    }
    if is_later_form {
        // A rule names the port of the balancer, so a plain port is published as itself.
        for text in config.ports.iter_mut().flatten() {
            let spec = PortSpec::parse(text)?;
            if spec.public.is_none() && spec.bind.is_none() {
                *text = format!("{}:{text}", spec.private);
            }
        }
    }
    check(row)
}

/// The checks that also hold for PUT.
pub fn check(row: &Service) -> Result<(), ApiError> {
    if let Some(config) = &row.lb_config {
        balancer::check_config(config, true)?;
    }
    let haproxy = row.load_balancer_config.as_ref().and_then(|config| config.haproxy_config.as_ref());
    let Some(haproxy) = haproxy else { return Ok(()) };
    balancer::check_text(haproxy.global.as_deref(), "global")?;
    balancer::check_text(haproxy.defaults.as_deref(), "defaults")
}

/// The image that the setting names.
fn image(settings: &Settings) -> String {
    let name = settings.get("lb.instance.image").unwrap_or_default();
    image::uuid_of(name)
}

/// Ports without a public part get one, as those of other services do; nothing else of what was written changes,
/// because a balancer reads a meaning into `tcp`. `before`: the ports of the launch config that is exchanged.
pub fn assign_ports(
    tx: &mut Tx<'_>,
    ctx: &Context,
    service: i64,
    config: &mut LaunchConfig,
    before: &[String],
) -> Result<bool, CommandError> {
    let Some(texts) = config.ports.as_mut().filter(|texts| !texts.is_empty()) else { return Ok(false) };
    let mut kept = kept_ports(tx, ctx, service, before)?;
    let mut open = Vec::new();
    for text in texts.iter_mut() {
        let spec = PortSpec::parse(text)?;
        if spec.public.is_some() {
            continue;
        }
        match kept.iter().position(|old| old.private == spec.private) {
            Some(at) => {
                if let Some(public) = kept.remove(at).public {
                    publish(text, spec, public);
                }
            }
            None => open.push((text, spec)),
        }
    }
    let free = free_ports(tx, ctx, open.len())?;
    if free.len() < open.len() {
        return Ok(true);
    }
    for ((text, spec), port) in open.into_iter().zip(&free) {
        tx.claim(&claims::service_port(ctx.account_id, i64::from(*port), service))?;
        publish(text, spec, *port);
    }
    texts.sort_by_key(|text| PortSpec::parse(text).is_ok_and(|spec| spec.public.is_none()));
    Ok(true)
}

/// Puts the public port in front of the private one.
fn publish(text: &mut String, spec: PortSpec, public: u16) {
    let (bind, rest) =
        text.rsplit_once(':').map_or(("", text.as_str()), |(bind, rest)| (bind.trim_end_matches(':'), rest));
    let bind = if bind.is_empty() { String::new() } else { format!("{bind}:") };
    debug_assert!(rest.starts_with(&spec.private.to_string()));
    *text = format!("{bind}{public}:{rest}");
}

/// A certificate that balancers use stays.
pub fn check_certificate_remove(tx: &Tx<'_>, row: &AnyRow) -> Result<(), CommandError> {
    let Some(account) = row.meta.account_id else { return Ok(()) };
    let query = Query::new().eq("kind", LoadBalancerService::TYPE);
    let balancers: Vec<Row<Service>> = tx.list(&Scope::Account(account), &query)?;
    let uses = |service: &Row<Service>| {
        let (later, earlier) = (service.lb_config.as_ref(), &service.data);
        let ids = earlier.certificate_ids.iter().flatten().chain(&earlier.default_certificate_id);
        let more = later.iter().flat_map(|of| of.certificate_ids.iter().flatten().chain(&of.default_certificate_id));
        ids.chain(more).any(|id| id.number() == row.meta.id)
    };
    let users: Vec<String> = balancers
        .into_iter()
        .filter(|service| service.meta.removed.is_none() && uses(service))
        .map(|service| service.meta.name.unwrap_or_default())
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let text = format!("Certificate is in use by load balancer services: {}", users.join(","));
    Err(ApiError::new(Code::InvalidAction).with_status(405).because(text.clone()).detailed(text).into())
}

/// Whether a change of these fields is one of the balancer's rules.
pub fn concerns(fields: &Object) -> bool {
    ["lbConfig", "loadBalancerConfig"].iter().any(|name| fields.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_port_goes_before_the_private_one() {
        for (text, expected) in [
            ("80", "50000:80"),
            ("80/tcp", "50000:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1:50000:80"),
            ("[fe80::1]::80", "[fe80::1]:50000:80"),
        ] {
            let mut changed = text.to_owned();
            publish(&mut changed, PortSpec::parse(text).expect("reads"), 50_000);
            assert_eq!(changed, expected);
            assert!(PortSpec::parse(&changed).is_ok_and(|spec| spec.public == Some(50_000)));
        }
    }

    #[test]
    fn what_nobody_said_is_filled_in() {
        let mut row = Service::default();
        let settings = Settings::default().with("lb.instance.image", Some("registry:5000/haproxy:3".into()));
        prepare(&settings, &mut row).expect("fine");
        let config = row.launch_config.as_ref().expect("made");
        assert_eq!(config.image_uuid.as_deref(), Some("docker:registry:5000/haproxy:3"));
        assert_eq!(config.health_check.as_ref().and_then(|check| check.port), Some(42));
    }
}
