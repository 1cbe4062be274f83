//! What connects services: links, target rules of balancers, `depends_on`, and names that networks give.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::assemble::{Assembly, START_ONCE};
use crate::balancer;
use crate::convert::Draft;
use crate::hash;
use crate::names;
use crate::node::{Place, shown};
use crate::problem::hint;
use crate::project::{Condition, Dependency, Kind, Link, Service};

impl Assembly<'_, '_> {
    pub fn missing(&mut self, place: Place, path: &str, name: &str, by_name: &BTreeMap<String, usize>) {
        if self.context.is_hopeless() {
            return;
        }
        let text = if self.all.iter().any(|known| known == name) {
            format!("`{name}` belongs to a profile that is off")
        } else {
            format!(
                "there is no service `{}` in this file{}",
                shown(name),
                hint(name, by_name.keys().map(String::as_str))
            )
        };
        self.context.problem(place, path, text);
    }

    pub fn links(
        &mut self,
        draft: &Draft,
        by_name: &BTreeMap<String, usize>,
        primaries: &BTreeMap<String, Vec<String>>,
    ) -> Vec<Link> {
        let mut links = Vec::new();
        let path = format!("{}.links", draft.name);
        for (target, alias, place) in &draft.links {
            if let Some(of) = primaries.get(target) {
                let text =
                    format!("`{target}` is a sidekick and has no name of its own; link to `{}`", of.join("` or `"));
                self.context.problem(*place, &path, text);
            } else if !by_name.contains_key(target) {
                self.missing(*place, &path, target, by_name);
            } else {
                links.push(Link { target: target.clone(), alias: alias.clone(), ..Link::default() });
            }
        }
        for (name, alias, place) in &draft.external_links {
            let (stack, target) = match name.split_once('/') {
                Some((stack, target)) => (Some(stack.to_owned()), target),
                None => (None, name.as_str()),
            };
            if target.is_empty() || target.contains('/') || stack.as_deref() == Some("") {
                let text = format!("`{}` is no target; write `stack/service`", shown(name));
                self.context.problem(*place, &format!("{}.external_links", draft.name), text);
                continue;
            }
            links.push(Link { target: target.to_owned(), stack, alias: alias.clone(), ports: Vec::new() });
        }
        for link in &links {
            let alias = link.alias.as_deref().unwrap_or_default();
            let good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
            if alias.len() > 253 || !alias.chars().all(good) {
                self.context.problem(draft.place, &path, format!("`{}` is no name of a link", shown(alias)));
            }
        }
        let mut seen = BTreeSet::new();
        links.retain(|link| seen.insert(link.clone()));
        links
    }

    pub fn target_rules(
        &mut self,
        draft: &Draft,
        links: &mut Vec<Link>,
        targets: Vec<(String, Place)>,
        primaries: &BTreeMap<String, Vec<String>>,
        by_name: &BTreeMap<String, usize>,
    ) {
        let split = |name: &str| match name.split_once('/') {
            Some((stack, target)) => (Some(stack.to_owned()), target.to_owned()),
            None => (None, name.to_owned()),
        };
        for (name, place) in targets {
            let (stack, target) = split(&name);
            let path = format!("{}.lb_config", draft.name);
            if stack.is_none() && primaries.contains_key(&target) {
                self.context.problem(
                    place,
                    &path,
                    format!("`{target}` is a sidekick; a balancer reaches primaries only"),
                );
            } else if stack.is_none() && !by_name.contains_key(&target) {
                self.missing(place, &path, &target, by_name);
            }
            if !links.iter().any(|link| link.target == target && link.stack == stack) {
                links.push(Link { target, stack, ..Link::default() });
            }
        }
        for (name, rules) in balancer::rules(self.context, draft) {
            let (stack, target) = split(&name);
            match links.iter_mut().find(|link| link.target == target && link.stack == stack) {
                Some(link) => link.ports = rules,
                None if self.context.is_hopeless() => {}
                None => {
                    let path = format!("{}.labels", draft.name);
                    let near = hint(&target, links.iter().map(|link| link.target.as_str()));
                    let text = format!("rules for `{}`, which is no link of the balancer{near}", shown(&name));
                    self.context.problem(draft.place, &path, text);
                }
            }
        }
    }

    pub fn depends_on(
        &mut self,
        draft: &Draft,
        drafts: &[Draft],
        by_name: &BTreeMap<String, usize>,
        primaries: &BTreeMap<String, Vec<String>>,
    ) -> Vec<Dependency> {
        let path = format!("{}.depends_on", draft.name);
        let mut edges: Vec<Dependency> = Vec::new();
        for (edge, place) in &draft.depends_on {
            let Some(target) = by_name.get(&edge.target).map(|idx| &drafts[*idx]) else {
                if edge.required {
                    self.missing(*place, &path, &edge.target, by_name);
                }
                continue;
            };
            match edge.condition {
                Condition::Healthy if target.health_check.is_none() && !target.has_engine_check => {
                    let text = format!("`{}` has no health check, so it never becomes healthy", edge.target);
                    self.context.problem(*place, &path, text);
                }
                Condition::CompletedSuccessfully
                    if target.labels.get(START_ONCE).is_none_or(|value| value != "true") =>
                {
                    let text = format!("`{}` never ends: it needs the label `{START_ONCE}: 'true'`", edge.target);
                    self.context.problem(*place, &path, text);
                }
                _ => {}
            }
            // A sidekick starts with its primary.
            let named = primaries.get(&edge.target).and_then(|of| of.first()).unwrap_or(&edge.target);
            if *named != draft.name {
                edges.push(Dependency { target: named.clone(), ..edge.clone() });
            }
        }
        edges
    }

    /// Names that networks give to services become DNS services.
    pub fn aliases(&mut self, services: &mut Vec<Service>) {
        let mut made: BTreeMap<String, Service> = BTreeMap::new();
        for draft in &self.drafts {
            for (alias, place) in &draft.aliases {
                let path = format!("{}.networks", draft.name);
                let taken = services.iter().any(|service| service.name.eq_ignore_ascii_case(alias));
                if alias == &draft.name {
                    continue;
                }
                if taken || names::check(alias).is_err() || !services.iter().any(|service| service.name == draft.name) {
                    self.context.warn(
                        *place,
                        &path,
                        format!("the alias `{}` cannot be the name of a service here", shown(alias)),
                    );
                    continue;
                }
                let service = made.entry(alias.clone()).or_insert_with(|| {
                    let mut api = Map::from_iter([("name".to_owned(), Json::String(alias.clone()))]);
                    let (hash, lc_hashes) = hash::seal(alias, &mut api, &Json::Null);
                    let place = format!("{}:{}", self.context.file(*place), place.line);
                    Service { name: alias.clone(), kind: Kind::Dns, api, hash, lc_hashes, place, ..Service::default() }
                });
                service.links.push(Link { target: draft.name.clone(), ..Link::default() });
            }
        }
        services.extend(made.into_values());
    }
}
