//! What the fields of a load balancer mean (`load-balancer.md` §§2, 4, 5, 13): listeners and rules.
//!
//! There are two ways to write them down, links with `ports` and `lbConfig`. Both become [`Rules`], which has the shape
//! of the later one, before anything looks at them; nothing else knows that there are two.

use std::collections::{BTreeMap, BTreeSet};

use remuda_schema::{ApiError, Code};

use crate::labels;
use crate::launch_config::LaunchConfig;
use crate::load_balancer_service::{LbConfig, PortRule};
use crate::ports::PortSpec;
use crate::selector::Selector;
use crate::service::Service;

/// Where HAProxy says that it lives, unless a check says another port.
pub const HEALTH_PORT: u16 = 42;
/// Image of the original in a compose file: selects the type, and is never pulled.
pub const LABEL_SSL_PORTS: &str = "io.rancher.loadbalancer.ssl.ports";
pub const LABEL_PROXY_PORTS: &str = "io.rancher.loadbalancer.proxy-protocol.ports";
pub const LABEL_TARGET: &str = "io.rancher.lb_service.target";

/// Longest host of a rule, the longest name in DNS.
const LONGEST_HOST: usize = 253;
/// Longest path of a rule.
const LONGEST_PATH: usize = 700;
/// Most rules of a balancer.
const MOST_RULES: usize = 5_000;
/// Longest text for HAProxy.
const LONGEST_TEXT: usize = 262_144;

/// One rule of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkRule {
    pub host: String,
    pub source: Option<u16>,
    pub path: String,
    pub target: Option<u16>,
}

impl LinkRule {
    /// `[host][:source][/path][=target]`, a bare target port, or the older `target:[host][/path]`.
    pub fn parse(text: &str) -> Result<LinkRule, ApiError> {
        let text = text.trim();
        let wrong = |why: &str| {
            ApiError::new(Code::InvalidPort).because(format!("the rule `{}` does not read: {why}", shown(text)))
        };
        let port = |digits: &str, which: &str| {
            let number =
                digits.parse::<u16>().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
            number.ok_or_else(|| wrong(&format!("the {which} port is a number from 1 to 65535")))
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut rule = LinkRule::default();
        if is_number(text) {
            rule.target = Some(port(text, "target")?);
            return Ok(rule);
        }
        let older = text.split_once(':').filter(|(first, rest)| is_number(first) && !rest.contains('='));
        let left = if let Some((target, rest)) = older {
            rule.target = Some(port(target, "target")?);
            rest
        } else if let Some((left, target)) = text.split_once('=') {
            if target.contains('=') {
                return Err(wrong("it has more than one `=`"));
            }
            rule.target = Some(port(target.trim(), "target")?);
            left.trim()
        } else {
            text
        };
        let (name, path) = left.find('/').map_or((left, ""), |at| left.split_at(at));
        rule.path = path.to_owned();
        match name.split_once(':') {
            Some((_, source)) if source.contains(':') => return Err(wrong("it has more than one `:`")),
            Some((host, source)) => {
                rule.host = host.to_owned();
                rule.source = Some(port(source, "source")?);
            }
            None if is_number(name) && older.is_none() => rule.source = Some(port(name, "source")?),
            None => rule.host = name.to_owned(),
        }
        check_host(&rule.host).and_then(|()| check_path(&rule.path)).map_err(|why| wrong(&why))?;
        Ok(rule)
    }
}

/// A host that can be asked for: a name of DNS, with a `*` before or after it.
fn check_host(host: &str) -> Result<(), String> {
    if host.len() > LONGEST_HOST {
        return Err(format!("a host has at most {LONGEST_HOST} characters"));
    }
    let name = host.strip_prefix('*').unwrap_or(host);
    let name = if name.len() == host.len() { host.strip_suffix('*').unwrap_or(host) } else { name };
    let allowed = |ch: char| ch.is_ascii_alphanumeric() || matches!(ch, '.' | '-' | '_');
    match name.chars().find(|ch| !allowed(*ch)) {
        None => Ok(()),
        Some('*') => Err("a host has one `*`, before or after the rest".to_owned()),
        Some(ch) if !ch.is_ascii() => Err(format!("a host is written in ASCII (`xn--…`), without `{ch}`")),
        Some(ch) => Err(format!("`{}` cannot be in a host", ch.escape_default())),
    }
}

/// The beginning of a path as it is in a request.
fn check_path(path: &str) -> Result<(), String> {
    if path.len() > LONGEST_PATH {
        return Err(format!("a path has at most {LONGEST_PATH} characters"));
    }
    match path.chars().find(|ch| !ch.is_ascii_graphic()) {
        None => Ok(()),
        Some(ch) => Err(format!("`{}` cannot be in a path: write it as `%XX`", ch.escape_default())),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).map(|ch| if ch.is_control() { '?' } else { ch }).collect()
}

/// A port the balancer listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    /// `http`, `https`, `tcp`, `tls`, `sni`.
    pub protocol: &'static str,
    pub accept_proxy: bool,
    /// Port of targets that name none.
    target: u16,
}

/// What leads to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub port: u16,
    pub host: String,
    pub path: String,
    pub priority: Option<u32>,
    pub backend: Option<String>,
    pub weight: Option<u16>,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Row number, and port.
    Service(i64, u16),
    /// All services with those labels, at that port or at the ports of rules of their own.
    Selector(Selector, Option<u16>),
}

/// Both forms in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub listeners: Vec<Listener>,
    pub rules: Vec<Rule>,
}

impl Rules {
    /// Of a balancer and its links: consumed service, and its `ports`.
    pub fn of<'a>(service: &Service, links: impl IntoIterator<Item = (i64, &'a [String])>) -> Rules {
        match &service.lb_config {
            Some(config) => of_config(config),
            None => of_links(service.launch_config.as_ref(), links),
        }
    }
}

/// `load-balancer.md` §5. What does not read was refused when it came.
fn of_links<'a>(config: Option<&LaunchConfig>, links: impl IntoIterator<Item = (i64, &'a [String])>) -> Rules {
    let listeners = config.map(listeners).unwrap_or_default();
    let mut rules = Vec::new();
    for (service, ports) in links {
        let own: Vec<LinkRule> = ports.iter().filter_map(|text| LinkRule::parse(text).ok()).collect();
        for listener in &listeners {
            let mut mentioned = false;
            for rule in own.iter().filter(|rule| rule.source.is_none_or(|source| source == listener.port)) {
                mentioned = true;
                rules.push(rule_to(listener, &rule.host, &rule.path, service, rule.target));
            }
            if !mentioned {
                rules.push(rule_to(listener, "", "", service, None));
            }
        }
    }
    Rules { listeners, rules }
}

fn rule_to(listener: &Listener, host: &str, path: &str, service: i64, target: Option<u16>) -> Rule {
    Rule {
        port: listener.port,
        host: host.to_owned(),
        path: path.to_owned(),
        priority: None,
        backend: None,
        weight: None,
        target: Target::Service(service, target.unwrap_or(listener.target)),
    }
}

/// `load-balancer.md` §2: `ports` are public, `expose` internal, and a port is one listener.
fn listeners(config: &LaunchConfig) -> Vec<Listener> {
    let labels = config.labels.as_ref().map(labels::stored).unwrap_or_default();
    let numbers = |label: &str| -> BTreeSet<u16> {
        labels
            .get(label)
            .into_iter()
            .flat_map(|list| list.split(','))
            .filter_map(|port| port.trim().parse().ok())
            .collect()
    };
    let (secure, proxied) = (numbers(LABEL_SSL_PORTS), numbers(LABEL_PROXY_PORTS));
    let mut found: Vec<Listener> = Vec::new();
    for text in config.ports.iter().flatten().chain(config.expose.iter().flatten()) {
        let Ok(spec) = PortSpec::parse(text) else { continue };
        let port = spec.public.unwrap_or(spec.private);
        if found.iter().any(|known| known.port == port) {
            continue;
        }
        let protocol = match (text.contains("tcp"), secure.contains(&port)) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "tcp",
            (true, true) => "tls",
        };
        found.push(Listener { port, protocol, accept_proxy: proxied.contains(&port), target: spec.private });
    }
    found
}

fn number(number: Option<i64>) -> Option<u16> {
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn of_config(config: &LbConfig) -> Rules {
    let mut listeners: BTreeMap<u16, Listener> = BTreeMap::new();
    let mut rules = Vec::new();
    for rule in config.port_rules.iter().flatten() {
        let Some(port) = number(rule.source_port) else { continue };
        let protocol = match rule.protocol.as_deref() {
            Some("https") => "https",
            Some("tcp") => "tcp",
            Some("tls") => "tls",
            Some("sni") => "sni",
            Some("udp") => continue,
            _ => "http",
        };
        listeners.entry(port).or_insert(Listener { port, protocol, accept_proxy: false, target: port });
        let selector = rule.selector.as_deref().filter(|text| !text.is_empty());
        let target = match (rule.service_id, selector.map(Selector::parse)) {
            (Some(service), _) => number(rule.target_port).map(|port| Target::Service(service.number(), port)),
            (None, Some(Ok(selector))) => Some(Target::Selector(selector, number(rule.target_port))),
            (None, _) => None,
        };
        let Some(target) = target else { continue };
        rules.push(Rule {
            port,
            host: rule.hostname.clone().unwrap_or_default(),
            path: path_of(rule),
            priority: rule.priority.and_then(|priority| u32::try_from(priority).ok()).filter(|priority| *priority > 0),
            backend: rule.backend_name.clone().filter(|name| !name.is_empty()),
            weight: rule.weight.and_then(|weight| u16::try_from(weight).ok()),
            target,
        });
    }
    Rules { listeners: listeners.into_values().collect(), rules }
}

/// A path begins with `/`, whether that is written or not.
fn path_of(rule: &PortRule) -> String {
    match rule.path.as_deref().unwrap_or_default() {
        "" => String::new(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    }
}

/// Rules of a service for balancers that select it.
pub fn offered(service: &Service) -> impl Iterator<Item = &PortRule> {
    service.lb_config.iter().flat_map(|config| config.port_rules.iter().flatten())
}

/// The same rules as [`offered`], put onto the rule of the balancer that selected the service.
pub fn selected(rule: &Rule, target_port: Option<u16>, service: i64, offered: &[&PortRule]) -> Vec<Rule> {
    if offered.is_empty() {
        let target = target_port.map(|port| Target::Service(service, port));
        return target.map(|target| Rule { target, ..rule.clone() }).into_iter().collect();
    }
    let combined = offered.iter().filter_map(|own| {
        let target = Target::Service(service, number(own.target_port).or(target_port)?);
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Some(Rule {
            host: said(&own.hostname).unwrap_or_else(|| rule.host.clone()),
            path: if own.path.as_deref().is_some_and(|path| !path.is_empty()) {
                path_of(own)
            } else {
                rule.path.clone()
            },
            backend: said(&own.backend_name).or_else(|| rule.backend.clone()),
            target,
            ..rule.clone()
        })
    });
    combined.collect()
}

/// The checks of `load-balancer.md` §14 on one text of `ports` or `expose`.
pub fn check_listener(text: &str) -> Result<(), ApiError> {
    let spec = PortSpec::parse(text)?;
    if text.ends_with("/udp") {
        return Err(ApiError::field(Code::InvalidOption, "ports")
            .because(format!("`{text}`: a load balancer passes no UDP on")));
    }
    check_not_reserved(spec.public.unwrap_or(spec.private))
}

fn check_not_reserved(port: u16) -> Result<(), ApiError> {
    if port == HEALTH_PORT {
        let text = "Port 42 is reserved for loadBalancerService health check";
        return Err(ApiError::field(Code::InvalidOption, text).detailed(text));
    }
    Ok(())
}

/// The checks of `load-balancer.md` §14 on `lbConfig`. Of a service that is no balancer only the target's part counts.
pub fn check_config(config: &LbConfig, is_balancer: bool) -> Result<(), ApiError> {
    let rules = config.port_rules.as_deref().unwrap_or_default();
    if rules.len() > MOST_RULES {
        return Err(ApiError::field(Code::MaxLimitExceeded, "portRules")
            .because(format!("a load balancer has at most {MOST_RULES} rules, not {}", rules.len())));
    }
    check_text(config.config.as_deref(), "config")?;
    for (n, rule) in (1..).zip(rules) {
        check_rule(rule, n, is_balancer)?;
    }
    if is_balancer { check_clashes(rules) } else { Ok(()) }
}

fn check_rule(rule: &PortRule, n: usize, is_balancer: bool) -> Result<(), ApiError> {
    let wrong = |code: Code, field: &str, why: &str| {
        let text = format!("rule {n}: {why}");
        ApiError::field(code, field).because(text.clone()).detailed(text)
    };
    check_host(rule.hostname.as_deref().unwrap_or_default())
        .map_err(|why| wrong(Code::InvalidCharacters, "hostname", &why))?;
    check_path(rule.path.as_deref().unwrap_or_default()).map_err(|why| wrong(Code::InvalidCharacters, "path", &why))?;
    let allowed = |ch: char| ch.is_ascii_alphanumeric() || matches!(ch, '-' | '_' | '.' | ':');
    if let Some(name) = rule.backend_name.as_deref().filter(|name| !name.chars().all(allowed) || name.len() > 100) {
        let why = format!("`{}` is no name of a backend: letters, digits, `-`, `_`, `.`, `:`", shown(name));
        return Err(wrong(Code::InvalidCharacters, "backendName", &why));
    }
    if !is_balancer {
        return Ok(());
    }
    match number(rule.source_port) {
        Some(port) => check_not_reserved(port)?,
        None => return Err(wrong(Code::MissingRequired, "sourcePort", "on which port?")),
    }
    let selector = rule.selector.as_deref().filter(|text| !text.is_empty());
    match (rule.service_id, selector) {
        (None, None) => Err(wrong(Code::MissingRequired, "serviceId", "it leads nowhere")),
        (Some(_), Some(_)) => {
            let text = "Can't specify both selector and serviceId";
            Err(ApiError::field(Code::InvalidOption, text).detailed(text))
        }
        (Some(_), None) if rule.target_port.is_none() => {
            Err(wrong(Code::MissingRequired, "targetPort", "to which port of the service?"))
        }
        (Some(_), None) => Ok(()),
        (None, Some(selector)) => Selector::parse(selector).map(drop),
    }
}

/// Two rules for the same requests share a backend, so they cannot want different things of it.
fn check_clashes(rules: &[PortRule]) -> Result<(), ApiError> {
    let mut known: BTreeMap<(Option<i64>, String, String), (usize, &PortRule)> = BTreeMap::new();
    for (n, rule) in (1..).zip(rules) {
        let host = rule.hostname.as_deref().unwrap_or_default().to_ascii_lowercase();
        let key = (rule.source_port, host, path_of(rule).to_ascii_lowercase());
        let Some((first, other)) = known.get(&key) else {
            known.insert(key, (n, rule));
            continue;
        };
        let differs = |one: Option<String>, other: Option<String>| one.is_some() && other.is_some() && one != other;
        let text = |number: Option<i64>| number.filter(|number| *number > 0).map(|number| number.to_string());
        let what = if differs(rule.backend_name.clone(), other.backend_name.clone()) {
            "backendName"
        } else if differs(text(rule.priority), text(other.priority)) {
            "priority"
        } else {
            continue;
        };
        let asked = format!("{}:{}{}", key.1, key.0.unwrap_or_default(), key.2);
        let why = format!("rules {first} and {n} are both for `{asked}`, but have different values of `{what}`");
        return Err(ApiError::field(Code::InvalidOption, what).because(why.clone()).detailed(why));
    }
    Ok(())
}

/// Text for HAProxy is HAProxy's to judge, but not without end.
pub fn check_text(text: Option<&str>, field: &str) -> Result<(), ApiError> {
    match text.map(str::len).filter(|length| *length > LONGEST_TEXT) {
        Some(length) => Err(ApiError::field(Code::MaxLengthExceeded, field)
            .because(format!("text for HAProxy has at most {LONGEST_TEXT} bytes, not {length}"))),
        None => Ok(()),
    }
}

/// The user's text for HAProxy with section headers, whichever way it was given.
pub fn custom_text(service: &Service) -> String {
    if let Some(config) = &service.lb_config {
        return config.config.clone().unwrap_or_default();
    }
    let Some(haproxy) = service.load_balancer_config.as_ref().and_then(|config| config.haproxy_config.as_ref()) else {
        return String::new();
    };
    let section = |name: &str, lines: &Option<String>| {
        lines.as_deref().filter(|lines| !lines.trim().is_empty()).map(|lines| format!("{name}\n{lines}\n"))
    };
    [section("global", &haproxy.global), section("defaults", &haproxy.defaults)].into_iter().flatten().collect()
}

/// What a container of the balancer publishes: it listens on the port that is published.
pub fn container_ports(ports: &[String]) -> Vec<String> {
    let specs = ports.iter().filter_map(|text| PortSpec::parse(text).ok());
    specs.map(|spec| PortSpec { private: spec.public.unwrap_or(spec.private), ..spec }.to_string()).collect()
}

#[cfg(test)]
mod tests;
