//! Keys of rancher-compose files (`compose.md` §6), wherever they stand.

use serde_json::{Map, Value as Json, json};

use crate::context::Context;
use crate::convert::{Draft, unknown};
use crate::keys::{self, Rule};
use crate::merge;
use crate::node::{Key, Node, Value, shown};
use crate::problem::hint;
use crate::values::{self, Bad, Read};

/// Images that stand for a kind.
pub const LOAD_BALANCER: &str = "rancher/load-balancer-service";
pub const DNS: &str = "rancher/dns-service";
pub const EXTERNAL: &str = "rancher/external-service";

/// Largest metadata, bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 1 << 20;

/// Whether an image is that one, with or without a tag.
pub fn is_image(image: &str, name: &str) -> bool {
    let image = image.strip_prefix("docker:").unwrap_or(image);
    image.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Reads Rancher's keys: those in the compose file, under `x-rancher`, and of the rancher-compose file, later ones
/// winning key by key.
pub fn keys(context: &mut Context<'_>, draft: &mut Draft, node: &Node, rancher: Option<&Node>) {
    let inline = node.members().iter().filter(|(key, _)| keys::is_rancher(&key.name)).cloned().collect();
    let mut all = Node::new(node.place, Value::Map(inline));
    for over in node.get("x-rancher").into_iter().chain(rancher) {
        match over.value {
            Value::Map(_) => all = merge::replaced(&all, over),
            Value::Null => {}
            _ => context.problem(over.place, &draft.name, "a service is a map of keys"),
        }
    }
    for (key, value) in all.members().iter().filter(|(key, _)| !key.name.starts_with("x-")) {
        let path = format!("{}.{}", draft.name, shown(&key.name));
        match keys::find(keys::RANCHER, &key.name) {
            Some(Rule::Refused(why)) => context.problem(key.place, &path, format!("is not supported: {why}")),
            Some(Rule::Ignored(why)) => context.warn(key.place, &path, format!("has no effect: {why}")),
            Some(_) => one(context, draft, key, value, &path),
            None if keys::find(keys::DOCKER, &key.name).is_some() => {
                context.problem(key.place, &path, "belongs into the docker-compose file");
            }
            None => unknown(context, keys::RANCHER, key, &path),
        }
    }
}

fn one(context: &mut Context<'_>, draft: &mut Draft, key: &Key, value: &Node, path: &str) {
    let mut field = |context: &mut Context<'_>, name: &str, read: Read| {
        let read = context.take(path, read).filter(|read| !read.is_null() && *read != json!(false));
        draft.service.extend(read.map(|read| (name.to_owned(), read)));
    };
    match key.name.as_str() {
        "scale" => match context.take(path, values::int(value)).and_then(|scale| scale.as_i64()) {
            // 0 and absent mean 1, as they always did.
            Some(scale) if scale >= 0 => draft.scale = Some(scale.max(1)),
            Some(_) => context.problem(value.place, path, "cannot be negative"),
            None => {}
        },
        "scale_policy" => field(context, "scalePolicy", numbers(value, &["min", "max", "increment"])),
        "retain_ip" => field(context, "retainIp", values::boolean(value)),
        "load_balancer_config" => field(context, "loadBalancerConfig", balancer_config(value)),
        "health_check" => draft.health_check = context.take(path, health_check(value)).filter(|check| !check.is_null()),
        "metadata" => {
            if let Some(metadata) = context.take(path, values::metadata(value)) {
                draft.metadata.extend(metadata);
            }
            if json!(draft.metadata).to_string().len() > MAX_METADATA_BYTES {
                context.problem(value.place, path, format!("is larger than {} MiB", MAX_METADATA_BYTES >> 20));
            }
        }
        "upgrade_strategy" => {
            let first = value.get("start_first").map(values::boolean).transpose();
            draft.upgrade.start_first = context.take(path, first).flatten().and_then(|first| first.as_bool());
        }
        "default_cert" => draft.default_certificate = value.scalar().filter(|name| !name.is_empty()),
        "certs" => draft.certificates = crate::load::listed(Some(value)),
        "external_ips" => {
            let addresses = context.take(path, values::one_or_list(value));
            draft.external_ips =
                addresses.filter(|addresses| addresses.as_array().is_some_and(|list| !list.is_empty()));
        }
        "hostname" => draft.external_hostname = context.take(path, values::text(value)).filter(|name| !name.is_null()),
        "lb_config" => draft.lb_config = Some(value.clone()).filter(|value| !value.is_null()),
        _ => {}
    }
}

/// `snake_case` to the API's `camelCase`.
pub fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_first = false;
    for letter in name.chars() {
        match letter {
            '_' => is_first = true,
            letter if is_first => {
                out.extend(letter.to_uppercase());
                is_first = false;
            }
            letter => out.push(letter),
        }
    }
    out
}

fn reject<T>(key: &Key, known: &[&str], what: &str) -> Result<T, Bad> {
    let near = hint(&key.name, known.iter().copied());
    Err(Bad { place: key.place, text: format!("`{}` is no key of {what}{near}", shown(&key.name)) })
}

/// A map of whole numbers.
fn numbers(node: &Node, known: &[&str]) -> Read {
    let mut map = Map::new();
    for (key, value) in node.members() {
        if !known.contains(&key.name.as_str()) {
            return reject(key, known, "this map");
        }
        map.insert(camel(&key.name), values::int(value)?);
    }
    Ok(Json::Object(map))
}

const CHECK: &[&str] = &[
    "port",
    "interval",
    "response_timeout",
    "initializing_timeout",
    "reinitializing_timeout",
    "healthy_threshold",
    "unhealthy_threshold",
    "request_line",
    "strategy",
    "recreate_on_quorum_strategy_config",
];

fn health_check(node: &Node) -> Read {
    if node.is_null() {
        return Ok(Json::Null);
    }
    let Value::Map(members) = &node.value else { return values::expected(node, "a map") };
    let mut check = Map::new();
    for (key, value) in members {
        let read = match key.name.as_str() {
            "request_line" => values::text(value)?,
            "strategy" => match value.scalar().as_deref() {
                Some(known @ ("none" | "recreate" | "recreateOnQuorum")) => known.into(),
                _ => return values::bad(value, "`strategy` is one of none, recreate, recreateOnQuorum"),
            },
            "recreate_on_quorum_strategy_config" => numbers(value, &["quorum"])?,
            name if CHECK.contains(&name) => values::int(value)?,
            name if name.starts_with("x-") => continue,
            _ => return reject(key, CHECK, "a health check"),
        };
        if !read.is_null() {
            check.insert(camel(&key.name), read);
        }
    }
    match check.get("port").and_then(Json::as_i64) {
        Some(1..=65_535) => Ok(Json::Object(check)),
        Some(_) => values::bad(node, "`port` is a number from 1 to 65535"),
        None => values::bad(node, "needs `port`"),
    }
}

const CONFIG: &[&str] = &["haproxy_config", "lb_cookie_stickiness_policy", "name", "description", "health_check"];
const STICKINESS: &[&str] = &["name", "cookie", "domain", "indirect", "nocache", "postonly", "mode"];

fn balancer_config(node: &Node) -> Read {
    let mut config = Map::new();
    for (key, value) in node.members() {
        match key.name.as_str() {
            "haproxy_config" => {
                let mut parts = Map::new();
                for (key, value) in value.members() {
                    if !matches!(key.name.as_str(), "global" | "defaults") {
                        return reject(key, &["global", "defaults"], "`haproxy_config`");
                    }
                    parts.insert(key.name.clone(), values::text(value)?);
                }
                config.insert("haproxyConfig".to_owned(), Json::Object(parts));
            }
            "lb_cookie_stickiness_policy" => {
                config.insert("lbCookieStickinessPolicy".to_owned(), stickiness(value)?);
            }
            // Accepted ever since, without effect.
            "name" | "description" | "health_check" => {}
            _ => return reject(key, CONFIG, "`load_balancer_config`"),
        }
    }
    Ok(if config.is_empty() { Json::Null } else { Json::Object(config) })
}

/// A cookie that keeps a visitor on one container.
pub fn stickiness(node: &Node) -> Read {
    let mut policy = Map::new();
    for (key, value) in node.members() {
        let read = match key.name.as_str() {
            "indirect" | "nocache" | "postonly" => values::boolean(value)?,
            "mode" => match value.scalar().as_deref() {
                Some(known @ ("rewrite" | "insert" | "prefix")) => known.into(),
                _ => return values::bad(value, "`mode` is one of rewrite, insert, prefix"),
            },
            name if STICKINESS.contains(&name) => values::text(value)?,
            _ => return reject(key, STICKINESS, "a stickiness policy"),
        };
        policy.insert(camel(&key.name), read);
    }
    Ok(Json::Object(policy))
}
