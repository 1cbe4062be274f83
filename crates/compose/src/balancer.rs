//! Load balancers: target rules from labels, and `lb_config` put into the words of v1 (`compose.md` §7).

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::context::Context;
use crate::convert::Draft;
use crate::load::listed;
use crate::node::{Node, Place, shown};
use crate::problem::hint;
use crate::rancher;

/// Label of the rules for one target; what follows is `service` or `stack/service`.
pub const TARGET: &str = "io.rancher.loadbalancer.target.";
pub const SSL_PORTS: &str = "io.rancher.loadbalancer.ssl.ports";

const RULE: &[&str] =
    &["source_port", "protocol", "hostname", "path", "service", "target_port", "priority", "backend_name", "selector"];
const CONFIG: &[&str] = &["port_rules", "certs", "default_cert", "config", "stickiness_policy"];

/// Rules of each target, trimmed; targets as the label names them.
pub fn rules(context: &mut Context<'_>, draft: &Draft) -> BTreeMap<String, Vec<String>> {
    let mut rules = BTreeMap::new();
    for (label, list) in &draft.labels {
        let Some(target) = label.strip_prefix(TARGET) else { continue };
        let list: Vec<String> =
            list.split(',').map(|rule| rule.trim().to_owned()).filter(|rule| !rule.is_empty()).collect();
        for rule in &list {
            if let Err(why) = check_rule(rule) {
                let text = format!("the rule `{}` of `{label}` does not read: {why}", shown(rule));
                context.problem(draft.place, &format!("{}.labels", draft.name), text);
            }
        }
        rules.insert(target.to_owned(), list);
    }
    rules
}

/// `[host][:source][/path][=target]`, a bare target port, or the older `target:host/path`.
fn check_rule(rule: &str) -> Result<(), &'static str> {
    let port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    if rule.matches('=').count() > 1 {
        return Err("more than one `=`");
    }
    let (left, target) = rule.split_once('=').map_or((rule, None), |(left, target)| (left, Some(target)));
    if target.is_some_and(|target| !port(target)) {
        return Err("the target port is a number from 1 to 65535");
    }
    let host_part = left.split('/').next().unwrap_or_default();
    if host_part.matches(':').count() > 1 {
        return Err("more than one `:`");
    }
    match host_part.split_once(':') {
        // The older form has the target first.
        Some((first, _)) if target.is_none() && port(first) => Ok(()),
        Some((_, source)) if !port(source) => Err("the source port is a number from 1 to 65535"),
        Some(_) => Ok(()),
        None if target.is_none() && !left.contains('/') && left.bytes().all(|byte| byte.is_ascii_digit()) => {
            if port(left) { Ok(()) } else { Err("a port is a number from 1 to 65535") }
        }
        None => Ok(()),
    }
}

/// Whether `lb_config` makes the service a balancer: some rule listens on a port.
pub fn is_balancer(config: &Node) -> bool {
    config.get("port_rules").map(Node::items).unwrap_or_default().iter().any(|rule| rule.part("source_port").is_some())
}

/// A target of `lb_config`: service (or `stack/service`) and its rule.
type Target = (String, String, Place);

/// Translates `lb_config` to ports and labels, those of the target rules too; what v1 cannot say is refused with the
/// number of the rule. Returns the targets, which are links.
pub fn translate(context: &mut Context<'_>, draft: &mut Draft) -> Vec<(String, Place)> {
    let Some(config) = draft.lb_config.clone() else { return Vec::new() };
    let path = format!("{}.lb_config", draft.name);
    for (key, value) in config.members() {
        match key.name.as_str() {
            "port_rules" => {}
            "certs" => draft.certificates = listed(Some(value)),
            "default_cert" => draft.default_certificate = value.scalar(),
            "config" => {
                let text = value.scalar().unwrap_or_default();
                if !text.is_empty() {
                    add(draft, "haproxyConfig", json!({"global": text}));
                }
            }
            "stickiness_policy" => {
                if let Some(policy) = context.take(&path, rancher::stickiness(value)) {
                    add(draft, "lbCookieStickinessPolicy", policy);
                }
            }
            name if name.starts_with("x-") => {}
            name => {
                let text = format!("`{}` is no key of `lb_config`{}", shown(name), hint(name, CONFIG.iter().copied()));
                context.problem(key.place, &path, text);
            }
        }
    }
    let mut protocols: BTreeMap<u16, String> = BTreeMap::new();
    let mut targets = Vec::new();
    let items = config.get("port_rules").map(Node::items).unwrap_or_default();
    for (idx, rule) in items.iter().enumerate() {
        match one(rule, &mut protocols) {
            Ok(target) => targets.push(target),
            Err(why) => context.problem(rule.place, &path, format!("rule {}: {why}", idx + 1)),
        }
    }
    let mut ports = Vec::new();
    let mut secure = Vec::new();
    for (port, protocol) in &protocols {
        let suffix = if matches!(protocol.as_str(), "tcp" | "tls") { "/tcp" } else { "" };
        ports.push(json!(format!("{port}:{port}{suffix}")));
        if matches!(protocol.as_str(), "https" | "tls") {
            secure.push(port.to_string());
        }
    }
    draft.listeners.insert("ports".to_owned(), Json::Array(ports));
    if !secure.is_empty() {
        draft.labels.insert(SSL_PORTS.to_owned(), secure.join(","));
    }
    let mut links = Vec::new();
    for (target, rule, place) in targets {
        let list = draft.labels.entry(format!("{TARGET}{target}")).or_default();
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&rule);
        links.push((target, place));
    }
    links
}

fn add(draft: &mut Draft, field: &str, value: Json) {
    let config = draft.service.entry("loadBalancerConfig").or_insert_with(|| json!({}));
    config[field] = value;
}

fn one(rule: &Node, protocols: &mut BTreeMap<u16, String>) -> Result<Target, String> {
    if let Some((key, _)) = rule.members().iter().find(|(key, _)| !RULE.contains(&key.name.as_str())) {
        return Err(format!("`{}` is no key of a rule{}", shown(&key.name), hint(&key.name, RULE.iter().copied())));
    }
    for said in ["priority", "backend_name", "selector"] {
        if rule.part(said).is_some() {
            return Err(format!("`{said}` cannot be said to this server"));
        }
    }
    let port = |name: &str| match rule.part(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(format!("`{name}` is a number from 1 to 65535")),
        },
    };
    let source = port("source_port")?.ok_or("needs `source_port`")?;
    let target_port = port("target_port")?;
    let protocol = rule.part("protocol").unwrap_or_else(|| "http".to_owned());
    if !matches!(protocol.as_str(), "http" | "https" | "tcp" | "tls") {
        return Err(format!("there is no protocol `{}`; there are http, https, tcp, tls", shown(&protocol)));
    }
    let known = protocols.entry(source).or_insert_with(|| protocol.clone());
    if *known != protocol {
        return Err(format!("port {source} speaks {known} already; one port has one protocol"));
    }
    let service = rule.part("service").ok_or("needs `service`")?;
    let mut text =
        format!("{}:{source}{}", rule.part("hostname").unwrap_or_default(), rule.part("path").unwrap_or_default());
    match target_port {
        Some(port) => text.push_str(&format!("={port}")),
        // `source` alone would be read as nothing.
        None if rule.part("path").is_none() => text.push_str(&format!("={source}")),
        None => {}
    }
    Ok((service, text, rule.place))
}

#[cfg(test)]
mod tests {
    use super::check_rule;

    #[test]
    fn rules_of_targets() {
        for rule in
            ["8080", "a.com", "a.com:80", ":80/x", "a.com:80/x=8000", "*.a.com=80", "8000:a.com/x", "/p=8", ":81=82"]
        {
            assert_eq!(check_rule(rule), Ok(()), "{rule}");
        }
        for (rule, why) in [
            ("a:1:2", "more than one `:`"),
            ("a=1=2", "more than one `=`"),
            ("a=x", "target port"),
            ("a:x/", "source port"),
            ("70000", "from 1 to"),
        ] {
            assert!(check_rule(rule).expect_err(rule).contains(why), "{rule}");
        }
    }
}
