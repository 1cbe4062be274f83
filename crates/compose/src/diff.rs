//! What an `up --upgrade` would change: a service of the file beside the one of the server (`compose.md` §9).

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::hash::{self, HASH_KEY, HASH_PREFIX};
use crate::project::{Kind, Link, Service};

/// Fields of a service that a file decides, launch configs aside.
const SERVICE_FIELDS: &[&str] = &[
    "assignServiceIpAddress",
    "externalIpAddresses",
    "healthCheck",
    "hostname",
    "loadBalancerConfig",
    "metadata",
    "retainIp",
    "scalePolicy",
];

/// Fields of a launch config that a file decides; everything else is the server's own.
const CONFIG_FIELDS: &[&str] = &[
    "blkioDeviceOptions",
    "blkioWeight",
    "build",
    "capAdd",
    "capDrop",
    "cgroupParent",
    "command",
    "cpuPeriod",
    "cpuQuota",
    "cpuSet",
    "cpuShares",
    "dataVolumes",
    "dataVolumesFromLaunchConfigs",
    "devices",
    "dns",
    "dnsOpt",
    "dnsSearch",
    "domainName",
    "entryPoint",
    "environment",
    "expose",
    "extraHosts",
    "groupAdd",
    "healthCheck",
    "healthCmd",
    "healthInterval",
    "healthRetries",
    "healthTimeout",
    "hostname",
    "imageUuid",
    "ipcMode",
    "isolation",
    "labels",
    "logConfig",
    "memory",
    "memoryReservation",
    "memorySwap",
    "memorySwappiness",
    "networkLaunchConfig",
    "networkMode",
    "oomKillDisable",
    "oomScoreAdj",
    "pidMode",
    "pidsLimit",
    "ports",
    "privileged",
    "readOnly",
    "securityOpt",
    "shmSize",
    "stdinOpen",
    "stopSignal",
    "storageOpt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "usernsMode",
    "uts",
    "volumeDriver",
    "workingDir",
];

/// Image that an upgrade gives a sidekick which is no more.
pub const NO_IMAGE: &str = "rancher/none";

/// One field that differs; null where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// `launchConfig.imageUuid`, `log.environment.A`.
    pub path: String,
    pub old: Json,
    pub new: Json,
}

/// What differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// The service itself: a `PUT` makes it so.
    pub service: bool,
    /// The primary launch config: an upgrade makes it so.
    pub launch_config: bool,
    pub sidekicks_changed: Vec<String>,
    pub sidekicks_added: Vec<String>,
    pub sidekicks_removed: Vec<String>,
    pub links: bool,
    pub fields: Vec<Field>,
    /// The server's service came from something that leaves no hash: worth no warning.
    pub is_unmarked: bool,
}

impl Diff {
    /// Whether an upgrade of containers is needed.
    pub fn needs_upgrade(&self) -> bool {
        let sidekicks = [&self.sidekicks_changed, &self.sidekicks_added, &self.sidekicks_removed];
        self.launch_config || sidekicks.iter().any(|names| !names.is_empty())
    }

    pub fn is_same(&self) -> bool {
        !self.service && !self.links && !self.needs_upgrade()
    }

    /// With the links the server has, targets by name.
    #[must_use]
    pub fn with_links(mut self, service: &Service, existing: &[Link]) -> Diff {
        let key = |link: &Link| {
            // An alias that repeats the target says nothing.
            let alias = link.alias.clone().filter(|alias| *alias != link.target && service.kind != Kind::LoadBalancer);
            let ports: BTreeSet<String> = link.ports.iter().cloned().collect();
            (link.stack.clone(), link.target.to_lowercase(), alias, ports)
        };
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (existing.iter().map(key).collect(), service.links.iter().map(key).collect());
        self.links = old != new;
        if self.links {
            self.fields.push(Field { path: "links".to_owned(), old: words(existing), new: words(&service.links) });
        }
        self
    }
}

fn words(links: &[Link]) -> Json {
    let word = |link: &Link| {
        let stack = link.stack.as_ref().map(|stack| format!("{stack}/")).unwrap_or_default();
        let alias = link.alias.as_ref().map(|alias| format!(":{alias}")).unwrap_or_default();
        let ports = if link.ports.is_empty() { String::new() } else { format!(" {}", link.ports.join(",")) };
        format!("{stack}{}{alias}{ports}", link.target)
    };
    let mut words: Vec<String> = links.iter().map(word).collect();
    words.sort();
    json!(words)
}

/// Compares a service of the file with that of the server, as the API shows it. Links are added by
/// [`Diff::with_links`].
pub fn diff(service: &Service, api: &Json) -> Diff {
    let mut diff = Diff::default();
    let stored = &api["metadata"][HASH_KEY];
    diff.is_unmarked = stored.is_null();
    let own = Json::Object(service.api.clone());
    diff.service = compare(&mut diff.fields, stored, Some(&service.hash), &own, api, SERVICE_FIELDS, "");
    if !matches!(service.kind, Kind::Service | Kind::LoadBalancer) {
        return diff;
    }
    let label = |config: &Json| config["labels"][HASH_KEY].clone();
    let (new, old) = (&own["launchConfig"], &api["launchConfig"]);
    let expected = service.lc_hashes.get(&service.name);
    diff.launch_config = compare(&mut diff.fields, &label(old), expected, new, old, CONFIG_FIELDS, "launchConfig.");
    let none = Vec::new();
    let secondaries = |value: &Json| value["secondaryLaunchConfigs"].as_array().unwrap_or(&none).clone();
    let name = |config: &Json| config["name"].as_str().unwrap_or_default().to_owned();
    let olds = secondaries(api);
    let is_gone = |config: &&Json| {
        let image = config["imageUuid"].as_str().unwrap_or_default();
        image.strip_prefix("docker:").unwrap_or(image) == NO_IMAGE
    };
    for new in secondaries(&own) {
        let name = name(&new);
        match olds.iter().find(|old| old["name"].as_str() == Some(name.as_str()) && !is_gone(old)) {
            None => {
                diff.fields.push(Field { path: name.clone(), old: Json::Null, new: new["imageUuid"].clone() });
                diff.sidekicks_added.push(name);
            }
            Some(old) => {
                let (expected, prefix) = (service.lc_hashes.get(&name), format!("{name}."));
                if compare(&mut diff.fields, &label(old), expected, &new, old, CONFIG_FIELDS, &prefix) {
                    diff.sidekicks_changed.push(name);
                }
            }
        }
    }
    for old in olds.iter().filter(|old| !is_gone(old) && !service.sidekicks.contains(&name(old))) {
        diff.fields.push(Field { path: name(old), old: old["imageUuid"].clone(), new: Json::Null });
        diff.sidekicks_removed.push(name(old));
    }
    diff
}

/// Whether a part differs, and its fields that do. A hash of ours decides; without one the fields do.
fn compare(
    fields: &mut Vec<Field>,
    stored: &Json,
    expected: Option<&String>,
    new: &Json,
    old: &Json,
    known: &[&str],
    prefix: &str,
) -> bool {
    let stored = stored.as_str();
    let is_ours = stored.is_some_and(|stored| stored.starts_with(HASH_PREFIX));
    if is_ours && stored == expected.map(String::as_str) {
        return false;
    }
    let before = fields.len();
    for field in known {
        compare_field(fields, &old[*field], &new[*field], format!("{prefix}{field}"));
    }
    is_ours || stored.is_none() || fields.len() > before
}

fn compare_field(fields: &mut Vec<Field>, old: &Json, new: &Json, path: String) {
    if same(old, new, &path) {
        return;
    }
    // Maps member by member, as people wrote them.
    let is_map = |value: &Json| value.is_object() || value.is_null();
    if is_map(old) && is_map(new) && !path.ends_with("healthCheck") && path.split('.').count() < 4 {
        let none = serde_json::Map::new();
        let (from, onto) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
        let names: BTreeSet<&String> = from.keys().chain(onto.keys()).filter(|name| *name != HASH_KEY).collect();
        for name in names {
            compare_field(fields, &old[name.as_str()], &new[name.as_str()], format!("{path}.{name}"));
        }
        return;
    }
    fields.push(Field { path, old: old.clone(), new: new.clone() });
}

fn same(old: &Json, new: &Json, path: &str) -> bool {
    if hash::canonical(old) == hash::canonical(new) || hash::is_empty(old) && hash::is_empty(new) {
        return true;
    }
    if path.ends_with("networkMode") {
        return old.is_null() && new == "managed";
    }
    // The server chose a public port where the file left it open.
    if path.ends_with(".ports")
        && let (Some(old), Some(new)) = (old.as_array(), new.as_array())
    {
        let (mut old, mut new): (Vec<&str>, Vec<&str>) =
            (old.iter().filter_map(Json::as_str).collect(), new.iter().filter_map(Json::as_str).collect());
        let private = |port: &&str| port.rsplit(':').next().unwrap_or_default().to_owned();
        old.sort_by_key(private);
        new.sort_by_key(private);
        let is_same =
            |(old, new): (&&str, &&str)| old == new || !new.contains(':') && old.rsplit(':').next() == Some(*new);
        return old.len() == new.len() && old.iter().zip(&new).all(is_same);
    }
    false
}
