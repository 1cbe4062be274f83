//! `secrets` and `configs`: files that containers get, kept by the server (`compose.md` §13). Both are the same to it;
//! they differ in where the file is when nobody says.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::context::Context;
use crate::convert::Draft;
use crate::load::{Document, Members};
use crate::node::{Key, Node, Value, shown};
use crate::problem::hint;
use crate::project::{SecretKind, SecretSource};

/// What the services use of both sections. What none uses is not even read.
pub fn declared(context: &mut Context<'_>, stack: &str, compose: &Document, drafts: &[Draft]) -> Vec<SecretSource> {
    let sections = [(SecretKind::Secret, &compose.secrets), (SecretKind::Config, &compose.configs)];
    let uses = drafts.iter().flat_map(|draft| draft.secrets.iter().map(move |usage| (draft, usage)));
    let mut used = BTreeSet::new();
    for (draft, (wanted, written, place)) in uses {
        used.insert(wanted.as_str());
        let known = |kind: SecretKind, members: &Members| members.iter().any(|(key, _)| kind.key(&key.name) == *wanted);
        if !sections.iter().any(|(kind, members)| known(*kind, members)) {
            let kind = if wanted.starts_with("secret:") { SecretKind::Secret } else { SecretKind::Config };
            let members = if kind == SecretKind::Secret { &compose.secrets } else { &compose.configs };
            let near = hint(written, members.iter().map(|(key, _)| key.name.as_str()));
            let text = format!("the {kind} `{}` is not declared at the top{near}", shown(written));
            context.problem(*place, &format!("{}.{}", draft.name, kind.section()), text);
        }
    }
    let mut all = Vec::new();
    for (kind, members) in sections {
        section(
            context,
            stack,
            kind,
            members.iter().filter(|(key, _)| used.contains(kind.key(&key.name).as_str())),
            &mut all,
        );
    }
    all
}

fn section<'n>(
    context: &mut Context<'_>,
    stack: &str,
    kind: SecretKind,
    members: impl Iterator<Item = &'n (Key, Node)>,
    all: &mut Vec<SecretSource>,
) {
    for (key, node) in members {
        let path = format!("{}.{}", kind.section(), shown(&key.name));
        let mut secret = SecretSource {
            key: kind.key(&key.name),
            kind,
            real_name: match kind {
                SecretKind::Secret => format!("{stack}_{}", key.name),
                SecretKind::Config => format!("{stack}_config_{}", key.name),
            },
            value: None,
            place: format!("{}:{}", context.file(key.place), key.place.line),
        };
        let mut sources = Vec::new();
        for (option, value) in node.members() {
            let text = value.scalar().unwrap_or_default();
            match option.name.as_str() {
                "file" | "environment" | "content" => sources.push((option.name.as_str(), option.place, text)),
                "external" if text == "false" => {}
                "external" => {
                    key.name.clone_into(&mut secret.real_name);
                    sources.push(("external", option.place, String::new()));
                }
                "name" => {}
                name if name.starts_with("x-") => {}
                "labels" => context.warn(option.place, &path, "`labels` has no effect"),
                "driver" | "driver_opts" | "template_driver" => {
                    context.problem(option.place, &path, format!("`{}` is not supported", option.name));
                }
                name => {
                    let near = hint(name, ["file", "environment", "content", "external", "name"]);
                    context.problem(option.place, &path, format!("`{}` is no key of a {kind}{near}", shown(name)));
                }
            }
        }
        if let Some(name) = node.part("name").filter(|name| !name.is_empty()) {
            secret.real_name = name;
        }
        match &sources[..] {
            [("external", ..)] => {}
            [("file", place, file)] => match context.bytes(*place, file) {
                Ok(bytes) => secret.value = Some(bytes),
                Err(error) => context.problem(*place, &path, error.to_string()),
            },
            [("environment", place, name)] => match context.variable(name) {
                Some(text) => secret.value = Some(text.into_bytes()),
                None => context.problem(*place, &path, format!("the variable `{}` is not set", shown(name))),
            },
            [("content", _, text)] => secret.value = Some(text.clone().into_bytes()),
            _ => {
                let text = "needs exactly one of `file`, `environment`, `content` and `external`";
                context.problem(key.place, &path, text);
            }
        }
        all.push(secret);
    }
}

/// What a service uses: `launchConfig.secrets`, with keys of the declarations where ids will be.
pub fn used(context: &mut Context<'_>, draft: &mut Draft, kind: SecretKind, node: &Node) {
    let path = format!("{}.{}", draft.name, kind.section());
    let Value::List(items) = &node.value else {
        return context.problem(node.place, &path, format!("is a list of {}, found {}", kind.section(), node.kind()));
    };
    for item in items {
        let source = item.scalar().or_else(|| item.part("source"));
        let Some(source) = source.filter(|source| !source.is_empty()) else {
            context.problem(item.place, &path, format!("needs the name of a {kind}"));
            continue;
        };
        for (option, _) in item.members() {
            if !matches!(option.name.as_str(), "source" | "target" | "uid" | "gid" | "mode") {
                let near = hint(&option.name, ["source", "target", "uid", "gid", "mode"]);
                context.problem(option.place, &path, format!("`{}` is not known here{near}", shown(&option.name)));
            }
        }
        let target = item.part("target").filter(|target| !target.is_empty());
        let target = target.unwrap_or_else(|| match kind {
            SecretKind::Secret => source.clone(),
            SecretKind::Config => format!("/{source}"),
        });
        if kind == SecretKind::Config && !target.starts_with('/') {
            context.problem(item.place, &path, "`target` is an absolute path");
        }
        let mut reference = Map::from_iter([
            ("secretId".to_owned(), Json::from(kind.key(&source))),
            ("name".to_owned(), target.into()),
        ]);
        for key in ["uid", "gid"] {
            reference.extend(item.part(key).map(|text| (key.to_owned(), text.into())));
        }
        if let Some(text) = item.part("mode") {
            match octal(&text) {
                Some(mode) => drop(reference.insert("mode".to_owned(), mode.into())),
                None => context.problem(item.place, &path, "`mode` is in octal, like `0400`"),
            }
        }
        draft.secrets.push((kind.key(&source), source, item.place));
        let list = draft.launch.entry("secrets").or_insert_with(|| json!([]));
        if let Json::Array(list) = list {
            list.push(Json::Object(reference));
        }
    }
}

/// `0400`, `400`, `"0400"`, `0o400`: people mean octal, whatever YAML makes of it.
fn octal(text: &str) -> Option<String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777)?;
    Some(format!("{mode:04o}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        for (text, expected) in
            [("0400", Some("0400")), ("440", Some("0440")), ("0o444", Some("0444")), ("9", None), ("77777", None)]
        {
            assert_eq!(octal(text).as_deref(), expected, "{text}");
        }
    }
}
