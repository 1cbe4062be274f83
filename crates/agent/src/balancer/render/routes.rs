//! From routes to backends, and the order in which a listener asks them (`load-balancer.md` §5).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use remuda_wire::balancer::{BalancerPlan, Listener, Protocol, Route, Servers, Target};

use super::words::{chosen_name, name, word};
use super::{Error, LONGEST_RULE};

/// One backend: what routes with equal port, host and path lead to, or with an equal name the user gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub name: String,
    pub protocol: Protocol,
    pub targets: Vec<Target>,
}

impl Backend {
    /// Whether it has servers known by a host name only.
    pub fn has_names(&self) -> bool {
        self.targets.iter().any(|target| matches!(target.servers, Servers::Name(_)))
    }
}

/// One question of a listener. Without conditions it is the default, and the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub conditions: Vec<Condition>,
    /// Place of the backend in [`Resolved::backends`].
    pub backend: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Host(String),
    Path(String),
}

/// Everything routes say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub backends: Vec<Backend>,
    /// By port of the listener, in the order of evaluation.
    pub rules: BTreeMap<u16, Vec<Rule>>,
}

/// Routes of one listener that agree in what they ask.
struct Group<'a> {
    host: String,
    path: String,
    priority: Option<u32>,
    chosen: Option<&'a str>,
    targets: Vec<Target>,
}

pub fn resolve(plan: &BalancerPlan) -> Result<Resolved, Error> {
    let mut resolved = Resolved::default();
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_port: BTreeMap<u16, Vec<&Route>> = BTreeMap::new();
    for route in &plan.routes {
        let length = route.host.len() + route.path.len();
        if length > LONGEST_RULE {
            return Err(Error::LongRule { port: route.port, length });
        }
        by_port.entry(route.port).or_default().push(route);
    }
    for listener in &plan.listeners {
        let routes = by_port.remove(&listener.port).unwrap_or_default();
        let mut rules = Vec::new();
        for group in ordered(groups(listener.protocol, &routes)) {
            let backend = backend_of(&mut resolved.backends, &mut by_name, listener, &group);
            let conditions = [
                (!group.host.is_empty()).then_some(Condition::Host(group.host)),
                (!group.path.is_empty()).then_some(Condition::Path(group.path)),
            ];
            rules.push(Rule { conditions: conditions.into_iter().flatten().collect(), backend });
        }
        if resolved.rules.insert(listener.port, rules).is_some() {
            return Err(Error::SamePort { port: listener.port });
        }
    }
    Ok(resolved)
}

fn groups<'a>(protocol: Protocol, routes: &[&'a Route]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for route in routes {
        // What a listener cannot see does not tell its routes apart. Case does not either.
        let has_host = protocol.is_http() || protocol == Protocol::Sni;
        let host = if has_host { route.host.to_ascii_lowercase() } else { String::new() };
        let host = if host == "*" { String::new() } else { host };
        let path = if protocol.is_http() { route.path.to_ascii_lowercase() } else { String::new() };
        let place = *places.entry((host.clone(), path.clone())).or_insert_with(|| {
            groups.push(Group { host, path, priority: None, chosen: None, targets: Vec::new() });
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.priority = [group.priority, route.priority].into_iter().flatten().min();
        group.chosen = group.chosen.or(route.backend.as_deref().filter(|name| !name.is_empty()));
        group.targets.extend(route.targets.iter().cloned());
    }
    groups
}

/// `load-balancer.md` §5.2. The default is last whatever its priority: nothing could come after it.
fn ordered(mut groups: Vec<Group<'_>>) -> Vec<Group<'_>> {
    let key = |group: &Group<'_>| {
        let is_wildcard = group.host.starts_with('*') || group.host.ends_with('*');
        let class = match (group.host.is_empty(), group.path.is_empty()) {
            (false, false) if !is_wildcard => 1,
            (false, true) if !is_wildcard => 2,
            (false, false) => 3,
            (false, true) => 4,
            (true, false) => 5,
            (true, true) => 6,
        };
        let priority = group.priority.filter(|priority| *priority > 0).unwrap_or(u32::MAX);
        (class == 6, priority, class, Reverse(group.path.len()), Reverse(group.host.len()))
    };
    // Stable: what is equal stays in the order of creation.
    groups.sort_by_key(key);
    groups
}

/// The backend of a group: a new one, or the one that has the name which the user chose for both. Generated names that
/// fall together get a number.
fn backend_of(
    backends: &mut Vec<Backend>,
    by_name: &mut BTreeMap<String, usize>,
    listener: &Listener,
    group: &Group<'_>,
) -> usize {
    let wanted = match group.chosen {
        Some(chosen) => chosen_name(chosen),
        None => name(&format!("{}_{}_{}", listener.port, group.host, group.path)),
    };
    if group.chosen.is_some()
        && let Some(&place) = by_name.get(&wanted)
        && backends[place].protocol.is_http() == listener.protocol.is_http()
    {
        backends[place].targets.extend(group.targets.iter().cloned());
        return place;
    }
    let mut name = wanted.clone();
    let mut n = 2;
    while by_name.contains_key(&name) {
        name = format!("{wanted}_{n}");
        n += 1;
    }
    by_name.insert(name.clone(), backends.len());
    backends.push(Backend { name, protocol: listener.protocol, targets: group.targets.clone() });
    backends.len() - 1
}

impl Condition {
    /// What follows the name of an `acl`.
    pub fn write(&self, config: &mut String, listener: &Listener) {
        match self {
            Condition::Path(path) => {
                let _ = write!(config, "path_beg -i -- {}", word(path));
            }
            Condition::Host(host) => {
                let (how, text) = match (host.strip_prefix('*'), host.strip_suffix('*')) {
                    (Some(end), _) => ("end", end),
                    (None, Some(start)) => ("beg", start),
                    (None, None) => ("str", host.as_str()),
                };
                // The whole header: one with a comma in it is not two hosts.
                let source = if listener.protocol.is_http() { "req.fhdr(host)" } else { "req.ssl_sni" };
                let _ = write!(config, "{source} -m {how} -i -- {}", word(text));
                if listener.protocol.is_http() && how != "beg" {
                    let _ = write!(config, " {}", word(&format!("{text}:{}", listener.port)));
                }
            }
        }
    }
}
