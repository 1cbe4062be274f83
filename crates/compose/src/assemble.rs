//! All definitions together: profiles, kinds, sidekicks, links, volumes, networks; then hashes and order.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::image;
use serde_json::{Map, Value as Json, json};

use crate::balancer;
use crate::context::Context;
use crate::convert::{self, Draft};
use crate::hash;
use crate::load::{self, Document};
use crate::names;
use crate::node::{Node, Place, shown};
use crate::order;
use crate::problem::{Problems, hint};
use crate::project::{Kind, Project, Service, Sources, Volume};
use crate::questions;
use crate::rancher;
use crate::secrets;
use crate::shared;

const SIDEKICKS: &str = "io.rancher.sidekicks";
const GLOBAL: &str = "io.rancher.scheduler.global";
pub const START_ONCE: &str = "io.rancher.container.start_once";

/// Compiles the files of one stack.
pub fn compile(sources: &Sources<'_>) -> Result<Project, Problems> {
    let mut context = Context::new(sources);
    let project = whole(&mut context);
    context.problems.sort_by_key(|problem| problem.place);
    context.warnings.sort_by_key(|warning| warning.place);
    if context.problems.is_empty() {
        Ok(Project { warnings: context.warnings, variables: context.variables, ..project })
    } else {
        Err(Problems(context.problems))
    }
}

fn whole(context: &mut Context<'_>) -> Project {
    let mut compose = load::compose(context);
    let mut rancher = load::rancher(context);
    let stack = context.sources.stack.as_ref().or(compose.name.as_ref()).unwrap_or(&context.sources.directory);
    let stack = names::stack_name(stack);
    let catalog = rancher.catalog.take().or_else(|| compose.catalog.take());
    let questions = catalog.map(|catalog| questions::read(context, &catalog)).unwrap_or_default();
    let mut own: BTreeMap<String, Node> = BTreeMap::new();
    let mut only_rancher = Vec::new();
    for (key, node) in std::mem::take(&mut rancher.services) {
        if compose.services.iter().any(|(known, _)| known.name == key.name) {
            own.insert(key.name.clone(), node);
        } else if node.get("image").is_some() {
            compose.services.push((key, node));
        } else {
            only_rancher.push(key);
        }
    }
    if compose.services.is_empty() && context.problems.is_empty() {
        context.problem(Place::default(), "", "there is no service in this file");
    }
    for key in only_rancher {
        let near = hint(&key.name, compose.services.iter().map(|(key, _)| key.name.as_str()));
        context.warn(key.place, &key.name, format!("no service of that name is in the compose file{near}"));
    }
    let active = active(context, &compose);
    let mut drafts: Vec<Draft> = Vec::new();
    for (key, node) in &compose.services {
        if context.is_hopeless() {
            break;
        }
        if active.contains(&key.name) {
            drafts.push(convert::service(context, &stack, key, node, own.get(&key.name)));
        }
    }
    let volumes = shared::volumes(context, &compose, &stack);
    let secrets = secrets::declared(context, &stack, &compose, &drafts);
    let mut assembly = Assembly {
        context,
        drafts,
        volumes,
        is_service_form: compose.is_service_form,
        all: compose.services.iter().map(|(key, _)| key.name.clone()).collect(),
    };
    let services = assembly.services();
    assembly.networks(&compose);
    let volumes = std::mem::take(&mut assembly.volumes);
    Project { name: compose.name, stack, services, questions, volumes, secrets, ..Project::default() }
}

/// Services whose profiles are on, or that were named.
fn active(context: &Context<'_>, compose: &Document) -> BTreeSet<String> {
    let sources = context.sources;
    let profiles = |node: &Node| load::listed(node.get("profiles"));
    let mut on: BTreeSet<String> = sources.profiles.iter().cloned().collect();
    for (key, node) in &compose.services {
        if sources.named.contains(&key.name) {
            on.extend(profiles(node));
        }
    }
    let is_on = |node: &Node| {
        let profiles = profiles(node);
        profiles.is_empty() || on.contains("*") || profiles.iter().any(|profile| on.contains(profile))
    };
    compose.services.iter().filter(|(_, node)| is_on(node)).map(|(key, _)| key.name.clone()).collect()
}

/// The definitions, while they are put together.
pub struct Assembly<'c, 's> {
    pub context: &'c mut Context<'s>,
    pub drafts: Vec<Draft>,
    pub volumes: Vec<Volume>,
    pub is_service_form: bool,
    /// Names of all services, those of profiles that are off too.
    pub all: Vec<String>,
}

impl Assembly<'_, '_> {
    fn services(&mut self) -> Vec<Service> {
        let drafts = std::mem::take(&mut self.drafts);
        let by_name: BTreeMap<String, usize> =
            drafts.iter().enumerate().map(|(idx, draft)| (draft.name.clone(), idx)).collect();
        // Sidekick to its primaries.
        let mut primaries: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for draft in &drafts {
            for sidekick in self.sidekicks(draft, &by_name) {
                primaries.entry(sidekick.clone()).or_default().push(draft.name.clone());
                units.entry(draft.name.clone()).or_default().push(sidekick);
            }
        }
        for name in primaries.keys() {
            if let Some(own) = units.get(name) {
                let (place, path) = (drafts[by_name[name]].place, format!("{name}.labels"));
                let text = format!(
                    "a sidekick (of `{}`) cannot have sidekicks: {}",
                    primaries[name].join("`, `"),
                    own.join(", ")
                );
                self.context.problem(place, &path, text);
            }
        }
        let depends = drafts
            .iter()
            .map(|draft| (draft.name.clone(), draft.depends_on.iter().map(|(edge, _)| edge.target.clone()).collect()))
            .collect();
        if let Some(cycle) = order::depends_cycle(&depends) {
            let place = drafts[by_name[&cycle[0]]].place;
            let text = format!("waits for itself: {}", cycle.join(" -> "));
            self.context.problem(place, &format!("{}.depends_on", cycle[0]), text);
        }
        let mut services = Vec::new();
        for draft in &drafts {
            if self.context.is_hopeless() {
                return Vec::new();
            }
            if primaries.contains_key(&draft.name) {
                continue;
            }
            let sidekicks: Vec<&Draft> =
                units.get(&draft.name).into_iter().flatten().map(|name| &drafts[by_name[name]]).collect();
            services.push(self.service(draft, &sidekicks, &drafts, &by_name, &primaries));
        }
        self.drafts = drafts;
        self.aliases(&mut services);
        let names: Vec<String> =
            order::order(&services).into_iter().flatten().map(|service| service.name.clone()).collect();
        let mut by_name: BTreeMap<String, Service> =
            services.into_iter().map(|service| (service.name.clone(), service)).collect();
        names.iter().filter_map(|name| by_name.remove(name)).collect()
    }

    fn sidekicks(&mut self, draft: &Draft, by_name: &BTreeMap<String, usize>) -> Vec<String> {
        let mut sidekicks = Vec::new();
        let mut seen = BTreeSet::new();
        let list = draft.labels.get(SIDEKICKS).map(String::as_str).unwrap_or_default();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let path = format!("{}.labels", draft.name);
            if !seen.insert(name) {
                continue;
            }
            if self.context.is_hopeless() {
                break;
            }
            if name == draft.name {
                self.context.problem(draft.place, &path, format!("`{SIDEKICKS}` names the service itself"));
            } else if !by_name.contains_key(name) {
                let near = hint(name, by_name.keys().map(String::as_str));
                let text = format!("the sidekick `{}` is not defined{near}", shown(name));
                self.context.problem(draft.place, &path, text);
            } else {
                sidekicks.push(name.to_owned());
            }
        }
        sidekicks
    }

    fn kind(&mut self, draft: &Draft) -> Kind {
        let is_balancer = draft.lb_config.as_ref().is_some_and(balancer::is_balancer);
        if draft.external_ips.is_some() || draft.external_hostname.is_some() {
            if draft.external_ips.is_some() && draft.external_hostname.is_some() {
                let text = "`external_ips` and `hostname` exclude each other";
                self.context.problem(draft.place, &draft.name, text);
            }
            Kind::External
        } else if is_balancer || rancher::is_image(&draft.image, rancher::LOAD_BALANCER) {
            Kind::LoadBalancer
        } else if rancher::is_image(&draft.image, rancher::DNS) {
            Kind::Dns
        } else {
            if rancher::is_image(&draft.image, rancher::EXTERNAL) {
                let text =
                    format!("`{}` needs `external_ips` or `hostname` in the rancher-compose file", rancher::EXTERNAL);
                self.context.problem(draft.place, &draft.name, text);
            }
            Kind::Service
        }
    }

    fn service(
        &mut self,
        draft: &Draft,
        sidekicks: &[&Draft],
        drafts: &[Draft],
        by_name: &BTreeMap<String, usize>,
        primaries: &BTreeMap<String, Vec<String>>,
    ) -> Service {
        let mut draft = draft.clone();
        let kind = self.kind(&draft);
        let targets =
            if kind == Kind::LoadBalancer { balancer::translate(self.context, &mut draft) } else { Vec::new() };
        if kind != Kind::LoadBalancer && draft.lb_config.is_some() {
            let text = "target rules on a service cannot be said to this server; write them on the balancer";
            self.context.problem(draft.place, &format!("{}.lb_config", draft.name), text);
        }
        let unit: Vec<&str> = std::iter::once(draft.name.as_str())
            .chain(sidekicks.iter().map(|sidekick| sidekick.name.as_str()))
            .collect();
        let is_unit = matches!(kind, Kind::Service | Kind::LoadBalancer);
        let mut api = Map::new();
        let mut links = self.links(&draft, by_name, primaries);
        if kind == Kind::LoadBalancer {
            self.target_rules(&draft, &mut links, targets, primaries, by_name);
        }
        if kind == Kind::External {
            if !links.is_empty() {
                self.context.warn(
                    draft.place,
                    &format!("{}.links", draft.name),
                    "has no effect on an external service",
                );
                links.clear();
            }
            api.extend(draft.external_ips.clone().map(|addresses| ("externalIpAddresses".to_owned(), addresses)));
            api.extend(draft.external_hostname.clone().map(|name| ("hostname".to_owned(), name)));
            api.extend(draft.health_check.clone().map(|check| ("healthCheck".to_owned(), check)));
            if !draft.labels.is_empty() {
                api.insert("launchConfig".to_owned(), json!({"labels": draft.labels}));
            }
        }
        if is_unit {
            api.insert("launchConfig".to_owned(), Json::Object(self.launch_config(&draft, kind, &unit)));
            let is_global = draft.labels.get(GLOBAL).is_some_and(|value| value == "true");
            if !is_global {
                api.insert("scale".to_owned(), draft.declared_scale.or(draft.scale).unwrap_or(1).into());
            }
        } else if kind == Kind::Dns && !draft.labels.is_empty() {
            api.insert("launchConfig".to_owned(), json!({"labels": draft.labels}));
        }
        api.insert("name".to_owned(), draft.name.clone().into());
        for (field, value) in &draft.service {
            api.insert(field.clone(), value.clone());
        }
        if !draft.metadata.is_empty() {
            api.insert("metadata".to_owned(), json!(draft.metadata));
        }
        for (label, field) in [("container", "selectorContainer"), ("link", "selectorLink")] {
            if let Some(selector) = draft.labels.get(&format!("io.rancher.service.selector.{label}")) {
                api.insert(field.to_owned(), selector.clone().into());
            }
        }
        let mut images: Vec<String> = Vec::new();
        let mut builds: Vec<_> = draft.build.clone().into_iter().collect();
        if kind == Kind::Service {
            images.push(draft.image.clone());
        }
        if !sidekicks.is_empty() {
            let mut secondaries = Vec::new();
            for sidekick in sidekicks {
                let mut config = self.launch_config(sidekick, Kind::Service, &unit);
                config.insert("name".to_owned(), sidekick.name.clone().into());
                config.entry("labels").or_insert_with(|| json!({}));
                secondaries.push(Json::Object(config));
                images.push(sidekick.image.clone());
                builds.extend(sidekick.build.clone());
            }
            if is_unit {
                api.insert("secondaryLaunchConfigs".to_owned(), secondaries.into());
            } else {
                self.context.problem(
                    draft.place,
                    &format!("{}.labels", draft.name),
                    "only services with containers have sidekicks",
                );
            }
            let cycle = volumes_cycle(&draft, sidekicks);
            if let Some(name) = cycle {
                self.context.problem(
                    draft.place,
                    &format!("{name}.volumes_from"),
                    "takes volumes from itself, over others",
                );
            }
        }
        let certificates = json!({"default": draft.default_certificate, "more": draft.certificates});
        let (hash, lc_hashes) = hash::seal(&draft.name, &mut api, &certificates);
        let depends_on = self.depends_on(&draft, drafts, by_name, primaries);
        Service {
            name: draft.name.clone(),
            kind,
            api,
            sidekicks: sidekicks.iter().map(|sidekick| sidekick.name.clone()).collect(),
            links,
            depends_on,
            upgrade_strategy: draft.upgrade,
            declared_scale: draft.declared_scale,
            default_certificate: draft.default_certificate.clone(),
            certificates: draft.certificates.clone(),
            hash,
            lc_hashes,
            images,
            builds,
            place: format!("{}:{}", self.context.file(draft.place), draft.place.line),
        }
    }

    fn launch_config(&mut self, draft: &Draft, kind: Kind, unit: &[&str]) -> Map<String, Json> {
        let mut config = draft.launch.clone();
        if kind == Kind::LoadBalancer {
            config.remove("ports");
            config.remove("expose");
            config.extend(
                draft
                    .listeners
                    .iter()
                    .filter(|(_, list)| !list.is_null())
                    .map(|(field, list)| (field.clone(), list.clone())),
            );
        } else if draft.image.is_empty() {
            self.context.problem(draft.place, &draft.name, "needs `image`");
        } else {
            config.insert("imageUuid".to_owned(), image::uuid_of(&draft.image).into());
        }
        self.mounts(draft, &mut config);
        if let Some(check) = &draft.health_check {
            config.insert("healthCheck".to_owned(), check.clone());
        }
        let mut outside = |place: Place, key: &str, name: &str| {
            if name == draft.name {
                self.context.problem(place, &format!("{}.{key}", draft.name), "names the service itself");
            } else if !unit.contains(&name) {
                let text = format!(
                    "`{}` is not in the same unit; the label `{SIDEKICKS}: {}` on one of the two makes it so",
                    shown(name),
                    shown(name)
                );
                self.context.problem(place, &format!("{}.{key}", draft.name), text);
            }
        };
        if !draft.volumes_from.is_empty() {
            for (name, place) in &draft.volumes_from {
                outside(*place, "volumes_from", name);
            }
            let names: Vec<&String> = draft.volumes_from.iter().map(|(name, _)| name).collect();
            config.insert("dataVolumesFromLaunchConfigs".to_owned(), json!(names));
        }
        if let Some((name, place)) = &draft.network_of {
            outside(*place, "net", name);
            config.insert("networkMode".to_owned(), "container".into());
            config.insert("networkLaunchConfig".to_owned(), name.clone().into());
        }
        config.entry("networkMode").or_insert_with(|| "managed".into());
        if !draft.labels.is_empty() {
            config.insert("labels".to_owned(), json!(draft.labels));
        }
        config
    }
}

/// A member of a unit that takes volumes from itself, over others.
fn volumes_cycle(primary: &Draft, sidekicks: &[&Draft]) -> Option<String> {
    let edges = std::iter::once(primary)
        .chain(sidekicks.iter().copied())
        .map(|draft| (draft.name.clone(), draft.volumes_from.iter().map(|(name, _)| name.clone()).collect()))
        .collect();
    order::depends_cycle(&edges).and_then(|cycle| cycle.into_iter().next())
}
