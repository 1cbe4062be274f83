//! `build`: remote contexts go into the launch config, directories are for the caller to send (`compose.md` §11).

use remuda_model::build_context;
use serde_json::{Map, Value as Json, json};

use crate::context::Context;
use crate::convert::Draft;
use crate::node::{Node, shown};
use crate::problem::hint;
use crate::project::Build;
use crate::values;

pub fn build(context: &mut Context<'_>, draft: &mut Draft, stack: &str, node: &Node) {
    let path = format!("{}.build", draft.name);
    let Some(value) = node.get("build") else {
        if let Some(dockerfile) = node.get("dockerfile") {
            context.problem(dockerfile.place, &format!("{}.dockerfile", draft.name), "needs `build`");
        }
        return;
    };
    let remote_dockerfile = value.part("dockerfile").or_else(|| node.part("dockerfile"));
    let has_inline = value.part("dockerfile_inline").is_some();
    let Some(written) = value
        .scalar()
        .filter(|text| !text.is_empty())
        .or_else(|| value.part("context"))
        .or_else(|| has_inline.then(|| ".".to_owned()))
    else {
        return context.problem(value.place, &path, "needs the path or address of a context");
    };
    for (key, _) in value.members() {
        match key.name.as_str() {
            "context" | "dockerfile" | "dockerfile_inline" | "args" | "target" => {}
            name if name.starts_with("x-") => {}
            "cache_from" | "cache_to" | "no_cache" | "pull" | "labels" | "shm_size" | "tags" | "network" => {
                context.warn(key.place, &path, format!("`{}` has no effect: the hosts build", key.name));
            }
            "ssh"
            | "secrets"
            | "platforms"
            | "additional_contexts"
            | "isolation"
            | "privileged"
            | "extra_hosts"
            | "entitlements"
            | "ulimits" => {
                context.problem(key.place, &path, format!("`{}` is not supported: the hosts build", key.name));
            }
            name => {
                let known = ["context", "dockerfile", "dockerfile_inline", "args", "target"];
                let text = format!("`{}` is no key of a build{}", shown(name), hint(name, known));
                context.problem(key.place, &path, text);
            }
        }
    }
    let is_remote =
        ["git://", "git@github.com:", "github.com", "http:", "https:"].iter().any(|start| written.starts_with(start));
    let labels = value.get("args").map(values::labels);
    let args = labels.and_then(|args| context.take(&path, args)).unwrap_or_default();
    if is_remote {
        if has_inline {
            context.problem(value.place, &path, "`dockerfile_inline` needs a directory");
        }
        let mut build = Map::from_iter([("remote".to_owned(), Json::String(written.clone()))]);
        build.extend(remote_dockerfile.clone().map(|dockerfile| ("dockerfile".to_owned(), dockerfile.into())));
        build.extend((!args.is_empty()).then(|| ("args".to_owned(), json!(args))));
        build.extend(value.part("target").map(|target| ("target".to_owned(), target.into())));
        draft.put("build", Some(Json::Object(build)));
        if draft.image.is_empty() {
            let what = json!([written, remote_dockerfile, args]);
            draft.image = format!("{stack}_{}:{}", draft.name, &crate::hash::hex(what.to_string().as_bytes())[..12]);
        }
        return;
    }
    if build_context::hash_of(&written).is_some() {
        // An export of a service whose context the server keeps.
        let mut build = Map::from_iter([("context".to_owned(), Json::String(written))]);
        build.extend(remote_dockerfile.map(|dockerfile| ("dockerfile".to_owned(), dockerfile.into())));
        build.extend((!args.is_empty()).then(|| ("args".to_owned(), json!(args))));
        build.extend(value.part("target").map(|target| ("target".to_owned(), target.into())));
        draft.put("build", Some(Json::Object(build)));
        if draft.image.is_empty() {
            context.problem(value.place, &path, "needs `image` beside a context that the server keeps");
        }
        return;
    }
    let found = context.directory(value.place, &written);
    match found {
        Ok(directory) => {
            draft.build = Some(Build {
                launch_config: draft.name.clone(),
                directory,
                dockerfile: remote_dockerfile,
                dockerfile_inline: value.part("dockerfile_inline"),
                target: value.part("target"),
                args,
                image: Some(draft.image.clone()).filter(|image| !image.is_empty()),
            });
            if draft.image.is_empty() {
                draft.image = format!("{stack}_{}", draft.name);
            }
        }
        Err(error) => {
            context.problem(value.place, &path, error.to_string());
            // Enough is said of it.
            draft.image = "-".to_owned();
        }
    }
}
