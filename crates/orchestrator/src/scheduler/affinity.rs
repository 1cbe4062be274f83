//! Affinity rules (`scheduling-and-health.md` §4): what a container's labels, or names of its variables, ask of the
//! host beside the constraints that always hold.
//!
//! A rule is read without a World ([`rules`]) and becomes a [`Constraint`] in one ([`constraint`]). Which hosts have a
//! container that a rule names is found once for all hosts, by name or label, without a look at the others. Labels of other containers are their label rows, because
//! `setlabels` changes those and leaves the field as it was.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use remuda_model::labels::{self, Labels};
use remuda_model::states::{ERROR, ERRORING, PURGED, PURGING, REMOVED};
use remuda_model::{Container, Host};
use remuda_schema::Row;

use super::Constraint;
use crate::plan::service::units::is_managed;
use crate::world::{World, pair_key};

/// What the host is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    HostLabel(Pair),
    ContainerLabel(Pair),
    /// Name or uuid.
    Container(String),
}

/// A label with its value; one without `=` has no key and is never there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: Option<String>,
    pub value: String,
}

/// How much a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Shall be there, not: shall not be there.
    pub there: bool,
    pub hard: bool,
    /// At the end of a label's key.
    suffix: &'static str,
    /// Between the two sides of a variable's name.
    operator: &'static str,
    word: &'static str,
}

const WANTS: [Want; 4] = [
    Want { there: true, hard: true, suffix: "", operator: "==", word: "must" },
    Want { there: false, hard: true, suffix: "_ne", operator: "!=", word: "must not" },
    Want { there: true, hard: false, suffix: "_soft", operator: "==~", word: "should" },
    Want { there: false, hard: false, suffix: "_soft_ne", operator: "!=~", word: "should not" },
];

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub subject: Subject,
    pub want: Want,
}

/// The rules of a container, those that are given up first at the end.
pub fn rules(labels: &Labels, environment: &BTreeMap<String, String>) -> Vec<Rule> {
    let of_labels = labels.iter().flat_map(|(key, value)| {
        let found = label_kind(key).map(|(subject, want)| {
            let value = filled_in(value, labels);
            let elements = value.split(',').map(str::trim).filter(|element| !element.is_empty());
            elements.map(|element| Rule { subject: subject(element), want }).collect::<Vec<_>>()
        });
        found.unwrap_or_default()
    });
    of_labels.chain(environment.iter().filter_map(|(name, value)| variable(name, value))).collect()
}

/// Reads a subject from one element of a label's value.
type Read = fn(&str) -> Subject;

const SUBJECTS: [(&str, Read); 3] = [
    (labels::AFFINITY_HOST_LABEL, |element| Subject::HostLabel(Pair::read(element))),
    (labels::AFFINITY_CONTAINER_LABEL, |element| Subject::ContainerLabel(Pair::read(element))),
    (labels::AFFINITY_CONTAINER, |element| Subject::Container(element.to_owned())),
];

/// What a label of that key means; `None` when it is no rule.
fn label_kind(key: &str) -> Option<(Read, Want)> {
    let key = key.to_ascii_lowercase();
    SUBJECTS.iter().find_map(|(start, read)| {
        let suffix = key.strip_prefix(start)?;
        Some((*read, *WANTS.iter().find(|want| want.suffix == suffix)?))
    })
}

impl Pair {
    fn read(element: &str) -> Pair {
        match element.split_once('=') {
            Some((key, value)) => Pair { key: Some(key.trim().to_owned()), value: value.trim().to_owned() },
            None => Pair { key: None, value: element.to_owned() },
        }
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.key.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(key)) && self.value.eq_ignore_ascii_case(value)
    }
}

/// `constraint:disk==ssd`, `affinity:container!=~db`: Swarm wrote rules as names of variables.
fn variable(name: &str, value: &str) -> Option<Rule> {
    let (kind, rule) = name.split_once(':')?;
    // Who writes variables as `name=value` finds the name cut at the first of the operator's signs.
    let rule = if rule.contains("==") || rule.contains("!=") || value.is_empty() {
        Cow::Borrowed(rule)
    } else {
        Cow::Owned(format!("{rule}={value}"))
    };
    let at = rule.find("==").into_iter().chain(rule.find("!=")).min()?;
    let (key, rest) = rule.split_at(at);
    // The soft operators begin like the hard ones.
    let want = *WANTS.iter().rev().find(|want| rest.starts_with(want.operator))?;
    let (key, value) = (key.trim().to_owned(), rest[want.operator.len()..].trim().to_owned());
    let subject = match kind {
        "constraint" => Subject::HostLabel(Pair { key: Some(key), value }),
        "affinity" if key == "container" => Subject::Container(value),
        "affinity" => Subject::ContainerLabel(Pair { key: Some(key), value }),
        _ => return None,
    };
    Some(Rule { subject, want })
}

/// The value with the macros of the container that carries it; outside a stack they stay.
fn filled_in<'a>(value: &'a str, labels: &Labels) -> Cow<'a, str> {
    let Some(stack) = labels.get(labels::STACK_NAME).filter(|_| value.contains("${")) else { return value.into() };
    let service = labels.get(labels::STACK_SERVICE_NAME).map_or("", String::as_str);
    let service = service.strip_prefix(stack.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(service);
    let filled = value.replace("${stack_name}", stack).replace("${project_name}", stack);
    filled.replace("${service_name}", service).into()
}

/// Writes rules about services in full, as they are kept on a new container of `service` (`stack/service` or
/// `stack/service/sidekick`): a bare name that `is_sibling` is one of the own stack, and a sidekick is compared with
/// its peers.
pub fn qualify(labels: &mut Labels, service: &str, is_sibling: impl Fn(&str) -> bool) {
    let mut names = service.split('/');
    let (stack, own, sidekick) = (names.next().unwrap_or_default(), names.next().unwrap_or_default(), names.next());
    let full = |element: &str| -> String {
        let pair = Pair::read(element);
        let of_services = [labels::STACK_SERVICE_NAME, labels::PROJECT_SERVICE_NAME];
        if !pair.key.is_some_and(|key| of_services.iter().any(|known| known.eq_ignore_ascii_case(&key))) {
            return element.to_owned();
        }
        let mut name = pair.value;
        if !name.contains('/') && is_sibling(&name) {
            name = format!("{stack}/{name}");
        }
        if let Some(sidekick) = sidekick.filter(|_| name.eq_ignore_ascii_case(&format!("{stack}/{own}"))) {
            name = format!("{name}/{sidekick}");
        }
        format!("{}={name}", labels::STACK_SERVICE_NAME)
    };
    let rules = labels.iter_mut().filter(|(key, _)| key.starts_with(labels::AFFINITY_CONTAINER_LABEL));
    for (_, value) in rules {
        *value = value.split(',').map(full).collect::<Vec<_>>().join(",");
    }
}

/// Whether the host meets the hard rules about its labels: all that counts for a global service. Macros are none there.
pub fn meets_host_labels(host: &Host, labels: &Labels) -> bool {
    let rules = rules(labels, &BTreeMap::new());
    rules.iter().filter(|rule| rule.want.hard).all(|rule| match &rule.subject {
        Subject::HostLabel(pair) => has_label(host, pair) == rule.want.there,
        Subject::ContainerLabel(_) | Subject::Container(_) => true,
    })
}

fn has_label(host: &Host, pair: &Pair) -> bool {
    host.labels.iter().flatten().any(|(key, value)| pair.is(key, value))
}

/// The rule in this World.
pub fn constraint(world: &World, rule: Rule) -> Box<dyn Constraint> {
    let hosts = match &rule.subject {
        // Told by the host itself.
        Subject::HostLabel(_) => BTreeSet::new(),
        Subject::ContainerLabel(pair) => hosts_with_container_label(world, pair),
        Subject::Container(name) => {
            let name = name.to_ascii_lowercase();
            let named = world.each(&world.containers, &world.containers_by_name, name.clone());
            let rows = named.chain(world.container_by_uuid(&name)).filter(|row| row.meta.removed.is_none());
            rows.filter_map(|row| row.host_id).map(|id| id.number()).collect()
        }
    };
    Box::new(Affinity { rule, hosts })
}

fn hosts_with_container_label(world: &World, pair: &Pair) -> BTreeSet<i64> {
    let Some(key) = &pair.key else { return BTreeSet::new() };
    let labels = world.each(&world.labels, &world.labels_by_pair, pair_key(key, &pair.value));
    let labels = labels.filter(|label| label.meta.removed.is_none());
    let rows = labels.filter_map(|label| world.containers.get(&label.instance_id?.number()));
    rows.filter(|row| counts(world, row)).filter_map(|row| row.host_id).map(|id| id.number()).collect()
}

/// A container whose labels count: stopped ones do, failed ones and those kept of an upgrade do not.
fn counts(world: &World, row: &Row<Container>) -> bool {
    !matches!(row.meta.state.as_str(), ERROR | ERRORING | REMOVED | PURGING | PURGED) && is_managed(world, row)
}

struct Affinity {
    rule: Rule,
    /// Hosts that have the containers the rule names.
    hosts: BTreeSet<i64>,
}

impl Constraint for Affinity {
    fn name(&self) -> &'static str {
        "affinity"
    }

    fn is_hard(&self) -> bool {
        self.rule.want.hard
    }

    fn allows(&self, _: &World, host: &Row<Host>) -> bool {
        let is_there = match &self.rule.subject {
            Subject::HostLabel(pair) => has_label(host, pair),
            Subject::ContainerLabel(_) | Subject::Container(_) => self.hosts.contains(&host.meta.id),
        };
        is_there == self.rule.want.there
    }

    fn explanation(&self, _: &World) -> String {
        let Want { suffix, word, .. } = self.rule.want;
        match &self.rule.subject {
            Subject::HostLabel(Pair { key, value }) => {
                format!("needs host with label {}{suffix}: {value}", key.as_deref().unwrap_or_default())
            }
            Subject::ContainerLabel(Pair { key, value }) => {
                let key = key.as_ref().map(|key| format!("{key}=")).unwrap_or_default();
                format!("host {word} have a container with label {key}{value}")
            }
            Subject::Container(name) => format!("needs container with label {name}{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// `host disk=ssd must`, `container db should not`.
    fn told(rules: &[Rule]) -> Vec<String> {
        let pair = |pair: &Pair| format!("{}={}", pair.key.as_deref().unwrap_or("?"), pair.value);
        let one = |rule: &Rule| {
            let subject = match &rule.subject {
                Subject::HostLabel(of) => format!("host {}", pair(of)),
                Subject::ContainerLabel(of) => format!("label {}", pair(of)),
                Subject::Container(name) => format!("container {name}"),
            };
            format!("{subject} {}", rule.want.word)
        };
        rules.iter().map(one).collect()
    }

    #[test]
    fn labels_are_rules_by_subject_and_suffix() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("host_label", "disk=ssd, zone = a ,,", &["host disk=ssd must", "host zone=a must"]),
            ("host_label_ne", "role=backup", &["host role=backup must not"]),
            ("HOST_LABEL_soft", "disk=ssd", &["host disk=ssd should"]),
            ("container_label_soft_ne", "a=b=c", &["label a=b=c should not"]),
            ("container", "db,u-1", &["container db must", "container u-1 must"]),
            ("container_ne", "Db", &["container Db must not"]),
            ("host_label", "ssd", &["host ?=ssd must"]),
            ("host_label_maybe", "a=b", &[]),
            ("volumes", "data", &[]),
        ];
        for (key, value, expected) in cases {
            let labels = map(&[(&format!("io.rancher.scheduler.affinity:{key}"), value)]);
            assert_eq!(told(&rules(&labels, &BTreeMap::new())), *expected, "{key}: {value}");
        }
    }

    #[test]
    fn names_of_variables_are_rules() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("constraint:disk==ssd", "", &["host disk=ssd must"]),
            ("constraint:disk!=ssd", "", &["host disk=ssd must not"]),
            ("constraint:disk==~ssd", "x", &["host disk=ssd should"]),
            ("affinity:io.x!=~y", "", &["label io.x=y should not"]),
            ("affinity:container==db", "", &["container db must"]),
            // As a list in a compose file makes them.
            ("constraint:disk", "=ssd", &["host disk=ssd must"]),
            ("constraint:disk!", "~ssd", &["host disk=ssd should not"]),
            ("constraint:disk", "", &[]),
            ("PATH", "/bin:x==y", &[]),
            ("other:disk==ssd", "", &[]),
        ];
        for (name, value, expected) in cases {
            let found = rules(&BTreeMap::new(), &map(&[(name, value)]));
            assert_eq!(told(&found), *expected, "{name}={value}");
        }
    }

    #[test]
    fn macros_are_those_of_the_container() {
        let rule = ("io.rancher.scheduler.affinity:container_label_ne", "x=${stack_name}/${service_name}");
        let of = |labels: &[(&str, &str)]| told(&rules(&map(&[labels, &[rule]].concat()), &BTreeMap::new()));
        let sidekick = [(labels::STACK_NAME, "shop"), (labels::STACK_SERVICE_NAME, "shop/web/log")];
        assert_eq!(of(&sidekick), ["label x=shop/web/log must not"]);
        assert_eq!(of(&[]), ["label x=${stack_name}/${service_name} must not"]);
    }

    #[test]
    fn services_are_written_in_full() {
        let key = "io.rancher.scheduler.affinity:container_label_soft";
        let cases = [
            // of, value, kept
            ("shop/web", "io.rancher.stack_service.name=db", "io.rancher.stack_service.name=shop/db"),
            ("shop/web", "io.rancher.stack_service.name=none", "io.rancher.stack_service.name=none"),
            ("shop/web", "io.rancher.project_service.name=x/db", "io.rancher.stack_service.name=x/db"),
            ("shop/web/log", "a=b,io.rancher.stack_service.name=web", "a=b,io.rancher.stack_service.name=shop/web/log"),
            ("shop/web/log", "io.rancher.stack_service.name=db", "io.rancher.stack_service.name=shop/db"),
        ];
        for (of, value, kept) in cases {
            let mut labels = map(&[(key, value), ("other", "io.rancher.stack_service.name=db")]);
            qualify(&mut labels, of, |name| matches!(name, "db" | "web"));
            assert_eq!(labels[key], kept, "{of}: {value}");
            assert_eq!(labels["other"], "io.rancher.stack_service.name=db");
        }
    }
}
