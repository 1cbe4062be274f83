//! One definition to the launch config and what stands beside it. What several services decide together (kinds,
//! sidekicks, links) is left to [`crate::assemble`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::build::build;
use crate::context::Context;
use crate::deploy;
use crate::envfile;
use crate::environment;
use crate::healthcheck;
use crate::keys::{self, Rule};
use crate::names;
use crate::node::{Key, Node, Place, Value, shown};
use crate::problem::hint;
use crate::project::{Build, Condition, Dependency, SecretKind, UpgradeStrategy};
use crate::rancher;
use crate::secrets;
use crate::values::{self, Mount};

/// One definition, read.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub name: String,
    pub place: Place,
    /// Text of `image`; empty when there is none.
    pub image: String,
    pub launch: Map<String, Json>,
    pub labels: BTreeMap<String, String>,
    /// Fields of the service itself.
    pub service: Map<String, Json>,
    pub metadata: Map<String, Json>,
    pub scale: Option<i64>,
    pub declared_scale: Option<i64>,
    pub links: Vec<(String, Option<String>, Place)>,
    pub external_links: Vec<(String, Option<String>, Place)>,
    pub depends_on: Vec<(Dependency, Place)>,
    /// Other members of the unit: `volumes_from` and `container:` networks.
    pub volumes_from: Vec<(String, Place)>,
    pub network_of: Option<(String, Place)>,
    pub mounts: Vec<Mount>,
    /// Key, name as written, and place of each secret and config.
    pub secrets: Vec<(String, String, Place)>,
    /// As written, for load balancers.
    pub listeners: Map<String, Json>,
    pub health_check: Option<Json>,
    pub has_engine_check: bool,
    pub external_ips: Option<Json>,
    pub external_hostname: Option<Json>,
    pub default_certificate: Option<String>,
    pub certificates: Vec<String>,
    pub lb_config: Option<Node>,
    pub build: Option<Build>,
    pub upgrade: UpgradeStrategy,
    pub networks: Option<BTreeSet<String>>,
    pub aliases: Vec<(String, Place)>,
    pub profiles: Vec<String>,
}

impl Draft {
    pub fn put(&mut self, field: &str, value: Option<Json>) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.launch.insert(field.to_owned(), value);
        }
    }
}

/// Reads one service: its definition and what the rancher-compose file says of it.
pub fn service(context: &mut Context<'_>, stack: &str, key: &Key, node: &Node, rancher: Option<&Node>) -> Draft {
    let mut draft = Draft { name: key.name.clone(), place: key.place, ..Draft::default() };
    if let Err(error) = names::check(&key.name) {
        context.problem(key.place, &key.name, error.to_string());
    }
    let Value::Map(members) = &node.value else {
        context.problem(node.place, &key.name, format!("a service is a map of keys, found {}", node.kind()));
        // Enough is said of it.
        draft.image = "-".to_owned();
        return draft;
    };
    environment::env_files(context, &mut draft, node);
    for (member, value) in members.iter().filter(|(member, _)| !member.name.starts_with("x-")) {
        if keys::is_rancher(&member.name) {
            continue;
        }
        let path = format!("{}.{}", key.name, shown(&member.name));
        match keys::find(keys::DOCKER, &member.name) {
            Some(Rule::Launch(field, read)) => {
                let read = context.take(&path, read(value));
                draft.put(field, read);
            }
            Some(Rule::Own) => own_key(context, &mut draft, member, value, &path),
            Some(Rule::Ignored(why)) => context.warn(member.place, &path, format!("has no effect: {why}")),
            Some(Rule::Refused(why)) => context.problem(member.place, &path, format!("is not supported: {why}")),
            None => unknown(context, keys::DOCKER, member, &path),
        }
    }
    log(context, &mut draft, node);
    build(context, &mut draft, stack, node);
    rancher::keys(context, &mut draft, node, rancher);
    if let Some(deploy) = node.get("deploy") {
        deploy::keys(context, &mut draft, deploy);
    }
    finish(context, &mut draft, node);
    draft
}

/// Says that a key is unknown, and what was probably meant.
pub fn unknown(context: &mut Context<'_>, table: &[(&'static str, Rule)], key: &Key, path: &str) {
    if context.is_hopeless() {
        return;
    }
    let slip = keys::SLIPS.iter().find(|(slip, _)| *slip == key.name).map(|(_, meant)| *meant);
    let hint = match slip {
        Some(meant) => format!(" (did you mean `{meant}`?)"),
        None => hint(&key.name, table.iter().map(|(known, _)| *known)),
    };
    context.problem(key.place, path, format!("is no key of a service{hint}"));
}

fn own_key(context: &mut Context<'_>, draft: &mut Draft, key: &Key, value: &Node, path: &str) {
    match key.name.as_str() {
        "image" => match value.scalar().filter(|image| !image.is_empty()) {
            Some(image) => draft.image = image,
            None => context.problem(value.place, path, "needs the name of an image"),
        },
        "environment" => {
            let variables = values::pairs(value, &['=']);
            let mut known: BTreeMap<String, Json> = match draft.launch.remove("environment") {
                Some(Json::Object(known)) => known.into_iter().collect(),
                _ => BTreeMap::new(),
            };
            for (name, given, _) in context.take(path, variables).unwrap_or_default() {
                match given.filter(|given| !given.is_empty()).or_else(|| context.variable(&name)) {
                    Some(given) => drop(known.insert(name, given.into())),
                    // Asked for, and nowhere to be found: left out.
                    None => drop(known.remove(&name)),
                }
            }
            draft.put("environment", Some(json!(known)));
        }
        "labels" => {
            let labels = context.take(path, values::labels(value)).unwrap_or_default();
            draft.labels.extend(labels);
        }
        "label_file" => {
            for name in crate::load::listed(Some(value)) {
                let Some(file) = context.open(value.place, &name, path) else { continue };
                match envfile::parse(&file.text, &|_| None) {
                    Ok(entries) => {
                        for (label, text) in entries {
                            draft.labels.entry(label).or_insert(text.unwrap_or_default());
                        }
                    }
                    Err(error) => context.problem(value.place, path, format!("{}: {error}", file.name)),
                }
            }
        }
        "annotations" => {
            let annotations = context.take(path, values::labels(value)).unwrap_or_default();
            draft.metadata.insert("annotations".to_owned(), json!(annotations));
        }
        "ports" | "expose" => {
            let verbatim = context.take(path, verbatim_ports(value));
            draft.listeners.extend(verbatim.map(|ports| (key.name.clone(), ports)));
            if key.name == "expose" {
                let listed = values::list(value).ok();
                draft.put("expose", listed);
            } else if draft_is_balancer(draft) || context.is_hopeless() {
                // Balancers take them as they stand.
            } else {
                let ports = context.take(path, values::ports(value));
                draft.put("ports", ports);
            }
        }
        "volumes" => draft.mounts = context.take(path, values::volumes(value)).unwrap_or_default(),
        "volumes_from" => {
            for item in value.items() {
                let text = item.scalar().unwrap_or_default();
                let (name, mode) =
                    text.split_once(':').map_or((text.as_str(), None), |(name, mode)| (name, Some(mode)));
                if mode.is_some_and(|mode| mode != "rw") || name == "container" {
                    context.problem(
                        item.place,
                        path,
                        format!("`{}`: only the name of a sidekick may stand here", shown(&text)),
                    );
                } else {
                    draft.volumes_from.push((name.to_owned(), item.place));
                }
            }
        }
        "links" => draft.links = context.take(path, values::links(value)).unwrap_or_default(),
        "external_links" => draft.external_links = context.take(path, values::links(value)).unwrap_or_default(),
        "depends_on" => depends_on(context, draft, value, path),
        "net" | "network_mode" => match value.scalar().as_deref().map(|mode| (mode, mode.split_once(':'))) {
            Some((mode @ ("managed" | "bridge" | "host" | "none"), _)) => draft.put("networkMode", Some(mode.into())),
            Some((_, Some(("container" | "service", name)))) => draft.network_of = Some((name.to_owned(), value.place)),
            _ => context.problem(value.place, path, "is one of managed, bridge, host, none, container:NAME"),
        },
        "networks" => networks(context, draft, value, path),
        "restart" => drop(context.take(path, values::restart(value))),
        "healthcheck" => healthcheck::healthcheck(context, draft, value, path),
        "profiles" => draft.profiles = crate::load::listed(Some(value)),
        "pull_policy" => match value.scalar().as_deref() {
            Some("always") => {
                draft.labels.insert("io.rancher.container.pull_image".to_owned(), "always".to_owned());
            }
            Some("missing" | "if_not_present" | "build") | None => {}
            Some("never") => context.warn(value.place, path, "`never` has no effect: hosts pull what they miss"),
            Some(_) => context.problem(value.place, path, "is one of always, missing, build, never"),
        },
        "cpus" => {
            let quota = deploy::cpu_quota(value);
            let quota = context.take(path, quota);
            deploy::put_cpus(draft, quota.flatten());
        }
        "secrets" => secrets::used(context, draft, SecretKind::Secret, value),
        "configs" => secrets::used(context, draft, SecretKind::Config, value),
        "blkio_weight_device" => device_option(context, draft, value, path, "weight"),
        "device_read_bps" => device_option(context, draft, value, path, "readBps"),
        "device_read_iops" => device_option(context, draft, value, path, "readIops"),
        "device_write_bps" => device_option(context, draft, value, path, "writeBps"),
        "device_write_iops" => device_option(context, draft, value, path, "writeIops"),
        // build, dockerfile, env_file, log_driver, log_opt, logging, deploy: read together with their neighbours.
        _ => {}
    }
}

/// Whether the image is the platform's balancer. `image` may stand after `ports`, so [`finish`] looks again.
fn draft_is_balancer(draft: &Draft) -> bool {
    rancher::is_image(&draft.image, rancher::LOAD_BALANCER)
}

fn verbatim_ports(node: &Node) -> Result<Json, values::Bad> {
    match &node.value {
        Value::List(items) if items.iter().any(|item| !item.members().is_empty()) => values::ports(node),
        _ => values::list(node),
    }
}

fn depends_on(context: &mut Context<'_>, draft: &mut Draft, value: &Node, path: &str) {
    for item in value.items() {
        if let Some(target) = item.scalar() {
            draft.depends_on.push((Dependency { target, required: true, ..Dependency::default() }, item.place));
        }
    }
    for (key, edge) in value.members() {
        let condition = match edge.part("condition").as_deref() {
            None | Some("service_started") => Condition::Started,
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::CompletedSuccessfully,
            Some(_) => {
                let text = "`condition` is one of service_started, service_healthy, service_completed_successfully";
                context.problem(edge.place, path, text);
                continue;
            }
        };
        let says = |name: &str, default: bool| edge.part(name).map_or(default, |text| text == "true");
        let dependency = Dependency {
            target: key.name.clone(),
            condition,
            required: says("required", true),
            restart: says("restart", false),
        };
        draft.depends_on.push((dependency, key.place));
    }
}

fn networks(context: &mut Context<'_>, draft: &mut Draft, value: &Node, path: &str) {
    let mut names: BTreeSet<String> = value.items().iter().filter_map(Node::scalar).collect();
    for (key, network) in value.members() {
        names.insert(key.name.clone());
        for (option, node) in network.members() {
            if option.name == "aliases" {
                draft.aliases.extend(node.items().iter().filter_map(|alias| Some((alias.scalar()?, alias.place))));
            } else if !option.name.starts_with("x-") {
                let text =
                    format!("`{}` has no effect: every container is on the managed network", shown(&option.name));
                context.warn(option.place, path, text);
            }
        }
    }
    draft.networks = Some(names).filter(|names| !names.is_empty());
}

fn device_option(context: &mut Context<'_>, draft: &mut Draft, value: &Node, path: &str, field: &str) {
    for (device, amount, place) in context.take(path, values::pairs(value, &[':'])).unwrap_or_default() {
        let amount = Node::text(place, amount.unwrap_or_default());
        let read = if field.ends_with("Bps") { values::bytes(&amount) } else { values::int(&amount) };
        let Some(amount) = context.take(path, read) else { continue };
        let options = draft.launch.entry("blkioDeviceOptions").or_insert_with(|| json!({}));
        options[device.as_str()][field] = amount;
    }
}

fn log(context: &mut Context<'_>, draft: &mut Draft, node: &Node) {
    let path = format!("{}.logging", draft.name);
    let logging = node.get("logging");
    let driver = logging.and_then(|logging| logging.get("driver")).or_else(|| node.get("log_driver"));
    let options = logging.and_then(|logging| logging.get("options")).or_else(|| node.get("log_opt"));
    if driver.is_none() && options.is_none() {
        return;
    }
    let mut config = Map::new();
    let driver = driver.and_then(|driver| context.take(&path, values::text(driver))).filter(|driver| !driver.is_null());
    config.extend(driver.map(|driver| ("driver".to_owned(), driver)));
    let options = options.and_then(|options| context.take(&path, values::text_map(options)));
    config.insert("config".to_owned(), options.unwrap_or_else(|| json!({})));
    draft.put("logConfig", Some(Json::Object(config)));
}

/// Rules between keys, once all are read.
fn finish(context: &mut Context<'_>, draft: &mut Draft, node: &Node) {
    let name = draft.name.clone();
    if draft_is_balancer(draft) {
        draft.launch.remove("ports");
    }
    if let Some(swap) = node.get("memswap_limit")
        && !draft.launch.contains_key("memory")
    {
        context.problem(swap.place, &format!("{name}.memswap_limit"), "needs `mem_limit`");
    }
    if draft.health_check.is_some() && draft.has_engine_check {
        let place = node.get("healthcheck").map_or(draft.place, |node| node.place);
        context.warn(place, &format!("{name}.healthcheck"), "has no effect: `health_check` of Rancher counts");
        draft.launch.retain(|field, _| {
            !matches!(field.as_str(), "healthCmd" | "healthInterval" | "healthTimeout" | "healthRetries")
        });
    }
}
