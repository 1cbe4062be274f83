//! The `deploy` section (`compose.md` §13): replicas, placement, resources, updates.

use remuda_model::labels;
use serde_json::{Value as Json, json};

use crate::context::Context;
use crate::convert::Draft;
use crate::node::{Key, Node, shown};
use crate::problem::hint;
use crate::values::{self, Bad};

const GLOBAL: &str = "io.rancher.scheduler.global";
const START_ONCE: &str = "io.rancher.container.start_once";
const AFFINITY: &str = "io.rancher.scheduler.affinity:";
/// Microseconds that CPU quotas are shares of.
const CPU_PERIOD: i64 = 100_000;
const KNOWN: &[&str] = &[
    "replicas",
    "mode",
    "placement",
    "resources",
    "update_config",
    "rollback_config",
    "restart_policy",
    "endpoint_mode",
    "labels",
];

pub fn keys(context: &mut Context<'_>, draft: &mut Draft, deploy: &Node) {
    for (key, value) in deploy.members() {
        let path = format!("{}.deploy.{}", draft.name, shown(&key.name));
        let label =
            |draft: &mut Draft, name: &str, value: &str| drop(draft.labels.insert(name.to_owned(), value.to_owned()));
        match key.name.as_str() {
            "replicas" => match context.take(&path, values::int(value)).and_then(|count| count.as_i64()) {
                Some(count) if count >= 1 => draft.declared_scale = Some(count),
                Some(_) => context.problem(value.place, &path, "is at least 1; `stop` a service to have none"),
                None => {}
            },
            "mode" => match value.scalar().as_deref() {
                Some("replicated") | None => {}
                Some("global") => label(draft, GLOBAL, "true"),
                Some("replicated-job") => label(draft, START_ONCE, "true"),
                Some("global-job") => {
                    label(draft, GLOBAL, "true");
                    label(draft, START_ONCE, "true");
                }
                Some(_) => {
                    context.problem(value.place, &path, "is one of replicated, global, replicated-job, global-job")
                }
            },
            "placement" => placement(context, draft, value, &path),
            "resources" => resources(context, draft, value, &path),
            "update_config" => update(context, draft, value, &path),
            "restart_policy" => {
                if value.part("condition").as_deref() == Some("none") {
                    label(draft, START_ONCE, "true");
                }
            }
            "endpoint_mode" => match value.scalar().as_deref() {
                Some("vip") => drop(draft.service.insert("assignServiceIpAddress".to_owned(), true.into())),
                Some("dnsrr") | None => {}
                Some(_) => context.problem(value.place, &path, "is vip or dnsrr"),
            },
            "labels" => {
                let labels = context.take(&path, values::labels(value)).unwrap_or_default();
                draft.metadata.insert("labels".to_owned(), json!(labels));
            }
            "rollback_config" => {
                context.warn(key.place, &path, "has no effect: a rollback goes at the pace of the upgrade")
            }
            name if name.starts_with("x-") => {}
            name => {
                let text = format!("is no key of `deploy`{}", hint(name, KNOWN.iter().copied()));
                context.problem(key.place, &path, text);
            }
        }
    }
}

fn add_affinity(draft: &mut Draft, kind: &str, what: String) {
    let list = draft.labels.entry(format!("{AFFINITY}{kind}")).or_default();
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(&what);
}

fn placement(context: &mut Context<'_>, draft: &mut Draft, value: &Node, path: &str) {
    let itself = "io.rancher.stack_service.name=${stack_name}/${service_name}";
    for (key, node) in value.members() {
        match key.name.as_str() {
            "constraints" => {
                for item in node.items() {
                    constraint(context, draft, item, path);
                }
            }
            "preferences" => add_affinity(draft, "container_label_soft_ne", itself.to_owned()),
            "max_replicas_per_node" => match context.take(path, values::int(node)).and_then(|count| count.as_i64()) {
                Some(0) | None => {}
                Some(1) => add_affinity(draft, "container_label_ne", itself.to_owned()),
                Some(_) => context.problem(node.place, path, "`max_replicas_per_node` can be 1 only"),
            },
            _ => unknown(context, key, path, &["constraints", "preferences", "max_replicas_per_node"]),
        }
    }
}

fn unknown(context: &mut Context<'_>, key: &Key, path: &str, known: &[&str]) {
    if !key.name.starts_with("x-") {
        let text = format!("`{}` is not known here{}", shown(&key.name), hint(&key.name, known.iter().copied()));
        context.problem(key.place, path, text);
    }
}

fn constraint(context: &mut Context<'_>, draft: &mut Draft, item: &Node, path: &str) {
    let text = item.scalar().unwrap_or_default();
    let parts = text.split_once("==").map(|(key, value)| (key, value, ""));
    let parts = parts.or_else(|| text.split_once("!=").map(|(key, value)| (key, value, "_ne")));
    let Some((key, value, suffix)) = parts.map(|(key, value, suffix)| (key.trim(), value.trim(), suffix)) else {
        return context.problem(
            item.place,
            path,
            format!("`{}` is no constraint; write `node.labels.K==V`", shown(&text)),
        );
    };
    let label = match key.strip_prefix("node.labels.").or_else(|| key.strip_prefix("engine.labels.")) {
        Some(label) => label,
        None if key == "node.hostname" => labels::HOST_NAME,
        None if matches!(key, "node.role" | "node.platform.os" | "node.platform.arch") => {
            return context.warn(item.place, path, format!("`{key}` has no effect: hosts here have none"));
        }
        None => {
            let text = format!("`{}` is no property of hosts; there is `node.labels.…`", shown(key));
            return context.problem(item.place, path, text);
        }
    };
    add_affinity(draft, &format!("host_label{suffix}"), format!("{label}={value}"));
}

/// CPU time of `1.5` processors per [`CPU_PERIOD`].
pub fn cpu_quota(node: &Node) -> Result<Option<i64>, Bad> {
    let Some(text) = node.scalar().filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.trim().parse::<f64>() {
        Ok(0.0) => Ok(None),
        Ok(cpus) if (0.01..=10_000.0).contains(&cpus) => Ok(Some((cpus * CPU_PERIOD as f64).round() as i64)),
        _ => values::bad(node, format!("`{}` is no number of processors", shown(&text))),
    }
}

pub fn put_cpus(draft: &mut Draft, quota: Option<i64>) {
    if let Some(quota) = quota {
        draft.put("cpuQuota", Some(quota.into()));
        draft.put("cpuPeriod", Some(CPU_PERIOD.into()));
    }
}

fn resources(context: &mut Context<'_>, draft: &mut Draft, value: &Node, path: &str) {
    for (part, limits) in value.members() {
        for (key, node) in limits.members() {
            match (part.name.as_str(), key.name.as_str()) {
                ("limits", "memory") => {
                    let memory = context.take(path, values::bytes(node));
                    draft.put("memory", memory);
                }
                ("reservations", "memory") => {
                    let memory = context.take(path, values::bytes(node));
                    draft.put("memoryReservation", memory);
                }
                ("limits", "cpus") => {
                    let quota = context.take(path, cpu_quota(node)).flatten();
                    put_cpus(draft, quota);
                }
                ("limits", "pids") | ("reservations", "cpus") => {
                    context.warn(key.place, path, format!("`{}.{}` has no effect here", part.name, key.name));
                }
                ("reservations", "devices" | "generic_resources") => {
                    context.problem(
                        key.place,
                        path,
                        format!("`{}` is not supported: hosts do not hand out devices", key.name),
                    );
                }
                ("limits" | "reservations", _) => unknown(context, key, path, &["memory", "cpus", "pids"]),
                _ => {
                    unknown(context, part, path, &["limits", "reservations"]);
                    break;
                }
            }
        }
    }
}

fn update(context: &mut Context<'_>, draft: &mut Draft, value: &Node, path: &str) {
    for (key, node) in value.members() {
        match key.name.as_str() {
            "parallelism" => {
                let count = context.take(path, values::int(node)).and_then(|count: Json| count.as_i64());
                // 0 means all at once.
                draft.upgrade.batch_size = count.map(|count| if count <= 0 { i64::from(u16::MAX) } else { count });
            }
            "delay" => {
                let delay = context.take(path, values::duration_ms(node)).flatten();
                draft.upgrade.interval_ms = delay.map(|delay| delay.max(100));
            }
            "order" => match node.scalar().as_deref() {
                Some("start-first") => draft.upgrade.start_first = draft.upgrade.start_first.or(Some(true)),
                Some("stop-first") => draft.upgrade.start_first = draft.upgrade.start_first.or(Some(false)),
                _ => context.problem(node.place, path, "`order` is start-first or stop-first"),
            },
            "failure_action" => match node.scalar().as_deref() {
                Some("rollback") => draft.upgrade.rollback = true,
                Some("pause") => {}
                Some("continue") => context.warn(node.place, path, "`failure_action: continue` has no effect"),
                _ => context.problem(node.place, path, "`failure_action` is pause, continue or rollback"),
            },
            "monitor" | "max_failure_ratio" => context.warn(key.place, path, format!("`{}` has no effect", key.name)),
            _ => unknown(context, key, path, &["parallelism", "delay", "order", "failure_action"]),
        }
    }
}
