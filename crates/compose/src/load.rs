//! From files to one document: forms, variables, `include`, `extends`, overrides.

use std::collections::BTreeMap;

use crate::context::{Base, Context};
use crate::envfile;
use crate::merge;
use crate::node::{Key, Node, Place, Value, shown};
use crate::problem::hint;
use crate::project::SourceFile;

/// Longest chain of services that extend each other, and of files that include each other.
pub const MAX_CHAIN: usize = 32;
/// Most services of one project.
pub const MAX_SERVICES: usize = 1000;

/// What one file, or all of them together, say.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub name: Option<String>,
    pub services: Vec<(Key, Node)>,
    pub volumes: Vec<(Key, Node)>,
    pub networks: Vec<(Key, Node)>,
    pub secrets: Vec<(Key, Node)>,
    pub configs: Vec<(Key, Node)>,
    /// `.catalog`, as it stands: a `$` in a description is a `$`.
    pub catalog: Option<Node>,
    /// Whether it has a `services` section.
    pub is_service_form: bool,
}

/// The compose files, merged in order.
pub fn compose(context: &mut Context<'_>) -> Document {
    let mut whole: Option<Document> = None;
    let sources = context.sources;
    for source in &sources.compose {
        let document =
            Loader { context, including: Vec::new(), opened: BTreeMap::new(), paths: BTreeMap::new() }.document(source);
        whole = Some(match whole {
            None => document,
            Some(before) => over(before, document),
        });
    }
    let whole = whole.unwrap_or_default();
    if whole.services.len() > MAX_SERVICES {
        let (key, _) = &whole.services[MAX_SERVICES];
        context.problem(key.place, "", format!("more than {MAX_SERVICES} services in one project"));
    }
    whole
}

/// The rancher-compose file.
pub fn rancher(context: &mut Context<'_>) -> Document {
    let Some(source) = &context.sources.rancher else { return Document::default() };
    let Some(root) = context.parse(source) else { return Document::default() };
    sections(context, &root)
}

/// The `.catalog` section of a file, nothing else read.
pub fn catalog(context: &mut Context<'_>, source: &SourceFile) -> Option<Node> {
    // Most files have none, and parsing them twice would be for nothing.
    if !source.text.contains("catalog") {
        return None;
    }
    let root = context.parse(source)?;
    let services = root.get("services").filter(|node| matches!(node.value, Value::Map(_)));
    let inside = services.and_then(|services| services.get(".catalog"));
    let named = root.get("catalog").filter(|_| services.is_some());
    root.get(".catalog").or(inside).or(named).cloned()
}

/// Names and values of a section.
pub type Members = Vec<(Key, Node)>;

fn over(before: Document, after: Document) -> Document {
    let merged = |before: Members, after: Members, how: fn(&Node, &Node) -> Node| {
        let mut merged = before;
        for (key, node) in after {
            match merged.iter_mut().find(|(known, _)| known.name == key.name) {
                Some((_, known)) => *known = how(known, &node),
                None => merged.push((key, node)),
            }
        }
        merged
    };
    Document {
        name: after.name.or(before.name),
        services: merged(before.services, after.services, merge::service),
        volumes: merged(before.volumes, after.volumes, merge::maps),
        networks: merged(before.networks, after.networks, merge::maps),
        secrets: merged(before.secrets, after.secrets, merge::maps),
        configs: merged(before.configs, after.configs, merge::maps),
        catalog: after.catalog.or(before.catalog),
        is_service_form: before.is_service_form || after.is_service_form,
    }
}

/// Splits a file into its sections, either form, variables filled in; `extends` and `include` are left to the caller.
fn sections(context: &mut Context<'_>, root: &Node) -> Document {
    let members = match &root.value {
        Value::Map(members) => members,
        Value::Null => return Document::default(),
        _ => {
            context.problem(root.place, "", "a compose file is a map of services");
            return Document::default();
        }
    };
    let is_v1 = root.get("version").and_then(Node::scalar).is_some_and(|version| version == "1");
    let is_service_form = !is_v1 && root.get("services").is_some_and(|node| matches!(node.value, Value::Map(_)));
    let mut document = Document { is_service_form, ..Document::default() };
    for (key, node) in members {
        match key.name.as_str() {
            name if name.starts_with("x-") => {}
            "version" => {}
            ".catalog" => document.catalog = Some(node.clone()),
            _ if !is_service_form => service(context, &mut document, key, node),
            "services" => {
                for (key, node) in node.members() {
                    match key.name.as_str() {
                        ".catalog" => document.catalog = Some(node.clone()),
                        name if name.starts_with("x-") => {}
                        _ => service(context, &mut document, key, node),
                    }
                }
            }
            "catalog" => document.catalog = Some(node.clone()),
            "name" => document.name = context.fill(node, "name").scalar().filter(|name| !name.is_empty()),
            "volumes" => document.volumes = declared(context, key, node),
            "networks" => document.networks = declared(context, key, node),
            "secrets" => document.secrets = declared(context, key, node),
            "configs" => document.configs = declared(context, key, node),
            "include" => {}
            "load_balancers" | "external_services" | "aliases" => special(context, &mut document, key, node),
            "containers" | "storage_drivers" | "network_drivers" | "virtual_machines" | "dependencies" | "hosts" => {
                context.problem(key.place, "", format!("the section `{}` is not supported", key.name));
            }
            other => {
                let known = ["services", "volumes", "networks", "secrets", "configs", "include", "name"];
                let text = format!("`{}` is no section of a compose file{}", shown(other), hint(other, known));
                context.problem(key.place, "", text);
            }
        }
    }
    document
}

/// Named volumes, networks, secrets or configs.
fn declared(context: &mut Context<'_>, key: &Key, node: &Node) -> Members {
    let members = context.fill(node, &key.name).members().to_vec();
    if members.len() > MAX_SERVICES {
        context.problem(key.place, "", format!("more than {MAX_SERVICES} {}", key.name));
        return Vec::new();
    }
    members.into_iter().filter(|(key, _)| !key.name.starts_with("x-")).collect()
}

fn service(context: &mut Context<'_>, document: &mut Document, key: &Key, node: &Node) {
    if context.is_hopeless() || document.services.len() > MAX_SERVICES {
        return;
    }
    let members = match &node.value {
        Value::Map(members) => {
            let path = |member: &Key| format!("{}.{}", shown(&key.name), shown(&member.name));
            Value::Map(
                members.iter().map(|(member, value)| (member.clone(), context.fill(value, &path(member)))).collect(),
            )
        }
        other => other.clone(),
    };
    document.services.push((key.clone(), Node { value: members, ..*node }));
}

/// Sections of 1.6 that are services of a kind.
fn special(context: &mut Context<'_>, document: &mut Document, section: &Key, node: &Node) {
    let text = |name: &str, value: Value| {
        (Key { place: section.place, name: name.to_owned() }, Node::new(section.place, value))
    };
    for (key, node) in node.members() {
        let filled = context.fill(node, &key.name);
        let mut members = Vec::new();
        let image = match section.name.as_str() {
            "load_balancers" => "rancher/load-balancer-service",
            "aliases" => "rancher/dns-service",
            _ => "rancher/external-service",
        };
        members.push(text("image", Value::Text(image.to_owned())));
        let mut rancher = Vec::new();
        for (name, value) in filled.members() {
            match (section.name.as_str(), name.name.as_str()) {
                ("aliases", "services") => {
                    members.push((Key { name: "links".to_owned(), ..name.clone() }, value.clone()));
                }
                ("external_services", _) => rancher.push((name.clone(), value.clone())),
                _ => members.push((name.clone(), value.clone())),
            }
        }
        if !rancher.is_empty() {
            members.push(text("x-rancher", Value::Map(rancher)));
        }
        document.services.push((key.clone(), Node::new(node.place, Value::Map(members))));
    }
}

struct Loader<'c, 's> {
    context: &'c mut Context<'s>,
    /// Files that include each other, outermost first.
    including: Vec<String>,
    /// Files that `extends` opened.
    opened: BTreeMap<String, Document>,
    /// The file that a path written in a file means.
    paths: BTreeMap<(usize, String), String>,
}

impl Loader<'_, '_> {
    fn document(&mut self, source: &SourceFile) -> Document {
        let Some(root) = self.context.parse(source) else { return Document::default() };
        let mut document = sections(self.context, &root);
        self.opened.insert(source.name.clone(), document.clone());
        for (key, node) in &mut document.services {
            let mut chain = vec![(source.name.clone(), key.name.clone())];
            *node = self.extended(&source.name, key, node, &mut chain);
        }
        if document.is_service_form
            && let Some(include) = root.get("include")
        {
            let include = self.context.fill(include, "include");
            self.include(source, &mut document, &include);
        }
        document
    }

    fn include(&mut self, source: &SourceFile, document: &mut Document, include: &Node) {
        if self.including.contains(&source.name) || self.including.len() >= MAX_CHAIN {
            let text = format!("includes itself: {} -> {}", self.including.join(" -> "), source.name);
            return self.context.problem(include.place, "include", text);
        }
        self.including.push(source.name.clone());
        for item in include.items() {
            let mut defaults = BTreeMap::new();
            for path in listed(item.get("env_file")) {
                defaults.extend(self.values(item.place, &path));
            }
            let directory = item.part("project_directory").filter(|directory| !directory.is_empty());
            let paths = if item.members().is_empty() { listed(Some(item)) } else { listed(item.get("path")) };
            if paths.is_empty() {
                self.context.problem(item.place, "include", "needs the path of a file");
            }
            self.context.defaults.push(defaults);
            let mut included: Option<Document> = None;
            for path in paths {
                let Some(file) = self.context.open(item.place, &path, "include") else { continue };
                self.context.next_base = directory.as_ref().map(|directory| Base {
                    file: source.name.clone(),
                    directory: directory.trim_end_matches('/').to_owned(),
                });
                let next = self.document(&file);
                included = Some(match included {
                    None => next,
                    Some(before) => over(before, next),
                });
            }
            self.context.defaults.pop();
            self.add(document, included.unwrap_or_default());
        }
        self.including.pop();
    }

    /// What is included may not say anything a second time.
    fn add(&mut self, document: &mut Document, included: Document) {
        for (kind, into, from) in [
            ("service", &mut document.services, included.services),
            ("volume", &mut document.volumes, included.volumes),
            ("network", &mut document.networks, included.networks),
        ] {
            let known: BTreeMap<String, Node> =
                into.iter().map(|(key, node)| (key.name.clone(), node.clone())).collect();
            for (key, node) in from {
                match known.get(&key.name) {
                    None => into.push((key, node)),
                    Some(same) if same.json() == node.json() => {}
                    Some(other) => {
                        let (file, line) = (self.context.file(other.place).to_owned(), other.place.line);
                        let text = format!("the {kind} `{}` is in {file}:{line} as well", shown(&key.name));
                        self.context.problem(key.place, "include", text);
                    }
                }
            }
        }
    }

    fn values(&mut self, place: Place, path: &str) -> BTreeMap<String, String> {
        let Some(file) = self.context.open(place, path, "include.env_file") else { return BTreeMap::new() };
        match envfile::parse(&file.text, self.context.sources.variables) {
            Ok(entries) => entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
            Err(error) => {
                self.context.problem(place, "include.env_file", format!("{}: {error}", file.name));
                BTreeMap::new()
            }
        }
    }

    /// The definition with its bases put under it.
    fn extended(&mut self, file: &str, key: &Key, node: &Node, chain: &mut Vec<(String, String)>) -> Node {
        let Some(extends) = node.get("extends") else { return node.clone() };
        let path = format!("{}.extends", key.name);
        let own = without_extends(node);
        let (name, other) = match extends.scalar() {
            Some(name) => (Some(name), None),
            None => (extends.part("service"), extends.part("file")),
        };
        let Some(name) = name else {
            self.context.problem(extends.place, &path, "needs `service`, the name of what it extends");
            return own;
        };
        let file = match other {
            None => file.to_owned(),
            Some(other) => match self.open(extends.place, &other, &path) {
                Some(file) => file,
                None => return own,
            },
        };
        let step = (file.clone(), name.clone());
        if chain.contains(&step) || chain.len() >= MAX_CHAIN {
            let names: Vec<&str> = chain.iter().map(|(_, name)| name.as_str()).collect();
            self.context.problem(extends.place, &path, format!("extends itself: {} -> {name}", names.join(" -> ")));
            return own;
        }
        let services = self.opened.get(&file).map(|document| document.services.as_slice()).unwrap_or_default();
        let Some((base_key, base)) = services.iter().find(|(key, _)| key.name == name).cloned() else {
            let near = hint(&name, services.iter().map(|(key, _)| key.name.as_str()));
            self.context.problem(
                extends.place,
                &path,
                format!("there is no service `{}` in {file}{near}", shown(&name)),
            );
            return own;
        };
        for forbidden in ["links", "volumes_from"] {
            if base.get(forbidden).is_some() {
                let text =
                    format!("`{name}` has `{forbidden}`: what is extended stands alone; move it to `{}`", key.name);
                self.context.problem(extends.place, &path, text);
            }
        }
        chain.push(step);
        let base = self.extended(&file, &base_key, &base, chain);
        chain.pop();
        merge::service(&base, &own)
    }

    /// A file that is extended: its name, once it is read.
    fn open(&mut self, place: Place, path: &str, key: &str) -> Option<String> {
        let known = (place.file, path.to_owned());
        if let Some(name) = self.paths.get(&known) {
            return Some(name.clone());
        }
        let file = self.context.open(place, path, key)?;
        if !self.opened.contains_key(&file.name) {
            let root = self.context.parse(&file)?;
            let document = sections(self.context, &root);
            self.opened.insert(file.name.clone(), document);
        }
        self.paths.insert(known, file.name.clone());
        Some(file.name)
    }
}

fn without_extends(node: &Node) -> Node {
    let members = node.members().iter().filter(|(key, _)| key.name != "extends").cloned().collect();
    Node { value: Value::Map(members), ..*node }
}

/// One text, or a list of them.
pub fn listed(node: Option<&Node>) -> Vec<String> {
    let Some(node) = node else { return Vec::new() };
    node.scalar().into_iter().chain(node.items().iter().filter_map(Node::scalar)).collect()
}
