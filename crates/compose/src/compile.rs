//! A docker-compose and a rancher-compose file to the objects of the API, or to everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json, json};

use crate::interpolate::{Malformed, interpolate};
use crate::keys::{self, Rule};
use crate::names;
use crate::node::{self, Key, Node, Place, Value};
use crate::problem::{Problem, Problems, nearest};
use crate::values::{self, Bad};

/// Label and metadata key that tells whether a service is what its file says.
pub const HASH_KEY: &str = "io.rancher.service.hash";
/// Hashes of ours begin with this; others came from other tools and are not compared.
pub const HASH_PREFIX: &str = "r1-";

/// One file: how the user calls it, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Everything a compile reads.
pub struct Input<'a> {
    pub docker_compose: &'a Source,
    pub rancher_compose: Option<&'a Source>,
    /// Value of a variable, from wherever the caller looks them up.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// Top-level `name`, for the stack.
    pub name: Option<String>,
    /// In an order in which every service comes after those it links to, as far as there is one.
    pub services: Vec<Service>,
    pub warnings: Vec<Problem>,
}

/// One service to create.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    pub name: String,
    /// The `launchConfig` of the API, hash label included.
    pub launch_config: Map<String, Json>,
    pub scale: i64,
    /// With the hash.
    pub metadata: Map<String, Json>,
    pub links: Vec<Link>,
    /// Services of the file that must be active first: links and `depends_on`.
    pub after: BTreeSet<String>,
    /// `r1-…`, over everything but links and scale.
    pub hash: String,
}

/// A link to a service of the same file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    pub target: String,
    pub alias: Option<String>,
}

impl Service {
    /// Body of `POST /services`.
    pub fn body(&self, stack_id: &str) -> Json {
        json!({
            "name": self.name,
            "environmentId": stack_id,
            "scale": self.scale,
            "launchConfig": self.launch_config,
            "metadata": self.metadata,
        })
    }
}

/// Compiles the files of one stack.
pub fn compile(input: &Input<'_>) -> Result<Compiled, Problems> {
    let mut compiler = Compiler {
        lookup: input.lookup,
        file: String::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        unset: BTreeSet::new(),
    };
    let compiled = compiler.compile(input);
    if compiler.problems.is_empty() {
        Ok(Compiled { warnings: compiler.warnings, ..compiled })
    } else {
        Err(Problems(compiler.problems))
    }
}

struct Compiler<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The file that is being read.
    file: String,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Variables already warned about.
    unset: BTreeSet<String>,
}

/// Service definitions of one file, in its order.
type Definitions = Vec<(Key, Node)>;

impl Compiler<'_> {
    fn problem(&mut self, place: Place, path: &str, text: impl Into<String>) {
        self.problems.push(Problem { file: self.file.clone(), place, path: path.to_owned(), text: text.into() });
    }

    fn warn(&mut self, place: Place, path: &str, text: impl Into<String>) {
        self.warnings.push(Problem { file: self.file.clone(), place, path: path.to_owned(), text: text.into() });
    }

    fn compile(&mut self, input: &Input<'_>) -> Compiled {
        let mut rancher = BTreeMap::new();
        if let Some(source) = input.rancher_compose {
            self.file.clone_from(&source.name);
            let (_, definitions) = self.definitions(source);
            for (key, node) in definitions {
                rancher.insert(key.name.clone(), (key, node));
            }
        }
        self.file.clone_from(&input.docker_compose.name);
        let (name, definitions) = self.definitions(input.docker_compose);
        if definitions.is_empty() && self.problems.is_empty() {
            self.problem(Place::default(), "", "there is no service in this file");
        }
        let names: Vec<String> = definitions.iter().map(|(key, _)| key.name.clone()).collect();
        let mut services = Vec::new();
        for (key, node) in &definitions {
            let own = rancher.remove(&key.name);
            let source = input.rancher_compose.map(|source| source.name.as_str()).unwrap_or_default();
            services.push(self.service(key, node, own.as_ref().map(|(_, node)| (source, node)), &names));
        }
        if let Some(source) = input.rancher_compose {
            self.file.clone_from(&source.name);
            for (name, (key, _)) in rancher {
                let hint = nearest(&name, names.iter().map(String::as_str));
                let hint = hint.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                self.warn(
                    key.place,
                    &name,
                    format!("no service of that name is in {}{hint}", input.docker_compose.name),
                );
            }
        }
        Compiled { name, services: in_order(services), warnings: Vec::new() }
    }

    /// The services of a file, in either form, and the project name it gives.
    fn definitions(&mut self, source: &Source) -> (Option<String>, Definitions) {
        let root = match node::read(&source.text) {
            Ok(root) => root,
            Err(error) => {
                self.problem(error.place, "", error.text);
                return (None, Vec::new());
            }
        };
        let members = match root.value {
            Value::Map(members) => members,
            Value::Null => return (None, Vec::new()),
            _ => {
                self.problem(root.place, "", "a compose file is a map of services");
                return (None, Vec::new());
            }
        };
        let services =
            members.iter().position(|(key, node)| key.name == "services" && matches!(node.value, Value::Map(_)));
        let Some(at) = services else {
            let services = members
                .into_iter()
                .filter(|(key, _)| !key.name.starts_with("x-") && !matches!(key.name.as_str(), "version" | ".catalog"));
            return (None, services.collect());
        };
        let mut name = None;
        let mut definitions = Vec::new();
        for (idx, (key, node)) in members.into_iter().enumerate() {
            match key.name.as_str() {
                _ if idx == at => {
                    if let Value::Map(services) = node.value {
                        definitions = services
                            .into_iter()
                            .filter(|(key, _)| !key.name.starts_with("x-") && key.name != ".catalog")
                            .collect();
                    }
                }
                "version" | "catalog" => {}
                "name" => name = self.fill(&node, "name").scalar(),
                "volumes" => self.named_volumes(&node),
                other if other.starts_with("x-") => {}
                other => {
                    let text = format!(
                        "`{other}` is not supported by this release; it reads `services`, `volumes` and `name`"
                    );
                    self.problem(key.place, "", text);
                }
            }
        }
        (name, definitions)
    }

    /// Declared volumes without options are what an undeclared name is too: one of that name per host.
    fn named_volumes(&mut self, node: &Node) {
        let Value::Map(volumes) = &node.value else { return };
        for (key, volume) in volumes {
            if !volume.is_null() && volume.value != Value::Map(Vec::new()) {
                let text = "options of volumes are not supported by this release; declare the name alone";
                self.problem(volume.place, &format!("volumes.{}", key.name), text);
            }
        }
    }

    /// The node with variables filled in.
    fn fill(&mut self, node: &Node, path: &str) -> Node {
        let value = match &node.value {
            Value::Text(text) if text.contains('$') => {
                let mut unset = Vec::new();
                let filled = interpolate(text, self.lookup, &mut |name| unset.push(name.to_owned()));
                for name in unset {
                    if self.unset.insert(name.clone()) {
                        self.warn(node.place, path, format!("variable `{name}` is not set; it counts as empty"));
                    }
                }
                match filled {
                    Ok(filled) => Value::Text(filled),
                    Err(Malformed(why)) => {
                        self.problem(node.place, path, why);
                        Value::Text(text.clone())
                    }
                }
            }
            Value::List(items) => Value::List(items.iter().map(|item| self.fill(item, path)).collect()),
            Value::Map(members) => {
                Value::Map(members.iter().map(|(key, member)| (key.clone(), self.fill(member, path))).collect())
            }
            other => other.clone(),
        };
        Node { place: node.place, value }
    }

    fn take<T>(&mut self, path: &str, read: Result<T, Bad>) -> Option<T> {
        read.map_err(|Bad { place, text }| self.problem(place, path, text)).ok()
    }

    fn service(&mut self, key: &Key, node: &Node, rancher: Option<(&str, &Node)>, names: &[String]) -> Service {
        let mut service = Service { name: key.name.clone(), scale: 1, ..Service::default() };
        if let Err(error) = names::check(&key.name) {
            self.problem(key.place, &key.name, error.to_string());
        }
        let Value::Map(members) = &node.value else {
            self.problem(node.place, &key.name, format!("a service is a map of keys, found {}", node.kind()));
            return service;
        };
        let mut log = Map::new();
        for (member, value) in members.iter().filter(|(member, _)| !member.name.starts_with("x-")) {
            let path = format!("{}.{}", key.name, member.name);
            let value = self.fill(value, &path);
            match keys::find(keys::DOCKER, &member.name).or_else(|| keys::find(keys::RANCHER, &member.name)) {
                Some(Rule::Launch(field, read)) => {
                    let read = self.take(&path, read(&value));
                    put(&mut service.launch_config, field, read);
                }
                Some(Rule::Own) => self.own_key(&mut service, &mut log, member, &value, names),
                Some(Rule::Ignored(why)) => self.warn(member.place, &path, format!("has no effect: {why}")),
                Some(Rule::NotYet) => self.problem(member.place, &path, "is not supported by this release"),
                None => self.unknown(keys::DOCKER, member, &path),
            }
        }
        if let Some((file, node)) = rancher {
            self.rancher_keys(&mut service, file, node);
        }
        if !log.is_empty() {
            service.launch_config.insert("logConfig".to_owned(), Json::Object(log));
        }
        if !service.launch_config.contains_key("imageUuid") && !members.iter().any(|(member, _)| member.name == "image")
        {
            self.problem(key.place, &key.name, "needs `image`");
        }
        service.launch_config.entry("networkMode").or_insert_with(|| "managed".into());
        service.seal();
        service
    }

    fn unknown(&mut self, table: &[(&'static str, Rule)], key: &Key, path: &str) {
        let slip = keys::SLIPS.iter().find(|(slip, _)| *slip == key.name).map(|(_, meant)| *meant);
        let near = slip.or_else(|| nearest(&key.name, table.iter().map(|(known, _)| *known)));
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        self.problem(key.place, path, format!("is no key of a service{hint}"));
    }

    fn own_key(
        &mut self,
        service: &mut Service,
        log: &mut Map<String, Json>,
        key: &Key,
        value: &Node,
        names: &[String],
    ) {
        let path = format!("{}.{}", service.name, key.name);
        match key.name.as_str() {
            "image" => match value.scalar().filter(|image| !image.is_empty()) {
                Some(image) => put(&mut service.launch_config, "imageUuid", Some(image_uuid(&image).into())),
                None => self.problem(value.place, &path, "needs the name of an image"),
            },
            "environment" => {
                let variables = self.take(&path, values::environment(value, self.lookup));
                put(&mut service.launch_config, "environment", variables.map(|variables| json!(variables)));
            }
            "labels" => {
                let labels = self.take(&path, values::labels(value)).unwrap_or_default();
                if let Some(unsupported) = labels.keys().find(|label| {
                    label.as_str() == "io.rancher.sidekicks" || label.starts_with("io.rancher.service.selector.")
                }) {
                    self.problem(value.place, &path, format!("`{unsupported}` is not supported by this release"));
                }
                put(&mut service.launch_config, "labels", Some(json!(labels)));
            }
            "links" => {
                for (target, alias, place) in self.take(&path, values::links(value)).unwrap_or_default() {
                    if names.contains(&target) {
                        service.after.insert(target.clone());
                        service.links.push(Link { target, alias });
                    } else {
                        let hint = nearest(&target, names.iter().map(String::as_str));
                        let hint = hint.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                        self.problem(place, &path, format!("there is no service `{target}` in this file{hint}"));
                    }
                }
            }
            "depends_on" => {
                let names_in = match &value.value {
                    Value::Map(members) => members.iter().map(|(key, _)| (key.name.clone(), key.place)).collect(),
                    Value::List(items) => items.iter().filter_map(|item| Some((item.scalar()?, item.place))).collect(),
                    _ => Vec::new(),
                };
                for (target, place) in names_in {
                    if names.contains(&target) {
                        service.after.insert(target);
                    } else {
                        self.problem(place, &path, format!("there is no service `{target}` in this file"));
                    }
                }
            }
            "net" | "network_mode" => match value.scalar().as_deref() {
                Some(mode @ ("managed" | "bridge" | "host" | "none")) => {
                    put(&mut service.launch_config, "networkMode", Some(mode.into()));
                }
                Some(mode) if mode.starts_with("container:") || mode.starts_with("service:") => {
                    self.problem(
                        value.place,
                        &path,
                        "sharing a network with a sidekick is not supported by this release",
                    );
                }
                _ => self.problem(value.place, &path, "is one of managed, bridge, host, none"),
            },
            "restart" => drop(self.take(&path, values::restart(value))),
            "log_driver" => put(log, "driver", self.take(&path, values::text(value))),
            "log_opt" => put(log, "config", self.take(&path, values::text_map(value))),
            "logging" => {
                let driver = value.get("driver").map(values::text).unwrap_or(Ok(Json::Null));
                put(log, "driver", self.take(&path, driver));
                let options = value.get("options").map(values::text_map).unwrap_or(Ok(Json::Null));
                put(log, "config", self.take(&path, options));
            }
            _ => self.rancher_key(service, key, value),
        }
    }

    /// Keys of the rancher-compose file win, one by one.
    fn rancher_keys(&mut self, service: &mut Service, file: &str, node: &Node) {
        let docker_file = std::mem::replace(&mut self.file, file.to_owned());
        match &node.value {
            Value::Map(members) => {
                for (key, value) in members.iter().filter(|(key, _)| !key.name.starts_with("x-")) {
                    let path = format!("{}.{}", service.name, key.name);
                    match keys::find(keys::RANCHER, &key.name) {
                        Some(Rule::NotYet) => self.problem(key.place, &path, "is not supported by this release"),
                        Some(_) => {
                            let value = self.fill(value, &path);
                            self.rancher_key(service, key, &value);
                        }
                        None => self.unknown(keys::RANCHER, key, &path),
                    }
                }
            }
            Value::Null => {}
            _ => self.problem(node.place, &service.name, "a service is a map of keys"),
        }
        self.file = docker_file;
    }

    fn rancher_key(&mut self, service: &mut Service, key: &Key, value: &Node) {
        let path = format!("{}.{}", service.name, key.name);
        match key.name.as_str() {
            "scale" => match self.take(&path, values::int(value)).and_then(|scale| scale.as_i64()) {
                // 0 and absent mean 1, as they always did.
                Some(scale) if scale >= 0 => service.scale = scale.max(1),
                Some(_) => self.problem(value.place, &path, "cannot be negative"),
                None => {}
            },
            "metadata" => {
                if let Some(metadata) = self.take(&path, values::metadata(value)) {
                    service.metadata = metadata;
                }
            }
            _ => {}
        }
    }
}

/// `docker:` in front, unless it says what it is.
fn image_uuid(image: &str) -> String {
    if image.starts_with("docker:") || image.starts_with("sim:") { image.to_owned() } else { format!("docker:{image}") }
}

fn put(map: &mut Map<String, Json>, field: &str, value: Option<Json>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        map.insert(field.to_owned(), value);
    }
}

impl Service {
    /// Computes the hash and puts it where it is looked for.
    fn seal(&mut self) {
        let mut canonical = Vec::new();
        write_canonical(&json!({"launchConfig": self.launch_config, "metadata": self.metadata}), &mut canonical);
        let hex: String =
            digest(&SHA256, &canonical).as_ref().iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        self.hash = format!("{HASH_PREFIX}{hex}");
        let labels = self.launch_config.entry("labels").or_insert_with(|| json!({}));
        if let Json::Object(labels) = labels {
            labels.insert(HASH_KEY.to_owned(), self.hash.clone().into());
        }
        self.metadata.insert(HASH_KEY.to_owned(), self.hash.clone().into());
    }
}

/// JSON with sorted keys; null, false and empty members dropped (`compose.md` §9).
fn write_canonical(value: &Json, out: &mut Vec<u8>) {
    let empty = |value: &Json| match value {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        _ => false,
    };
    match value {
        Json::Object(members) => {
            let sorted: BTreeMap<&String, &Json> =
                members.iter().filter(|(key, value)| *key != HASH_KEY && !empty(value)).collect();
            out.push(b'{');
            for (key, value) in sorted {
                write_canonical(&Json::String(key.clone()), out);
                out.push(b':');
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Json::Array(items) => {
            out.push(b'[');
            for item in items {
                write_canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

/// Every service after those it needs; where they need each other, in the order of the file.
fn in_order(mut left: Vec<Service>) -> Vec<Service> {
    let mut ordered: Vec<Service> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waiting: BTreeSet<&str> = left.iter().map(|service| service.name.as_str()).collect();
        let free = left.iter().position(|service| {
            service.after.iter().all(|name| *name == service.name || !waiting.contains(name.as_str()))
        });
        ordered.push(left.remove(free.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests;
