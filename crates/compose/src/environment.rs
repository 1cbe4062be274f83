//! `env_file`: variables of containers from files.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::context::Context;
use crate::convert::Draft;
use crate::envfile;
use crate::node::Node;

/// Variables of the env files; `environment` is put over them later.
pub fn env_files(context: &mut Context<'_>, draft: &mut Draft, node: &Node) {
    let Some(value) = node.get("env_file") else { return };
    let path = format!("{}.env_file", draft.name);
    let items: Vec<&Node> = if value.items().is_empty() { vec![value] } else { value.items().iter().collect() };
    let mut variables: BTreeMap<String, Json> = BTreeMap::new();
    for item in items {
        let Some(name) = item.part("path").or_else(|| item.scalar()).filter(|name| !name.is_empty()) else {
            context.problem(item.place, &path, "needs the path of a file");
            continue;
        };
        let is_raw = match item.part("format").as_deref() {
            None => false,
            Some("raw") => true,
            Some(_) => {
                context.problem(item.place, &path, "`format` is `raw` or absent");
                continue;
            }
        };
        let is_required = item.part("required").as_deref() != Some("false");
        let file = if is_required {
            context.open(item.place, &name, &path)
        } else {
            context.open_optional(item.place, &name, &path)
        };
        let Some(file) = file else { continue };
        let entries = if is_raw {
            Ok(envfile::raw(&file.text))
        } else {
            envfile::parse(&file.text, &|name| context.look_up(name))
        };
        match entries {
            Ok(entries) => {
                for (name, value) in entries {
                    if let Some(value) = value.or_else(|| context.variable(&name)) {
                        variables.insert(name, value.into());
                    }
                }
            }
            Err(error) => context.problem(item.place, &path, format!("{}: {error}", file.name)),
        }
    }
    draft.put("environment", Some(json!(variables)));
}
