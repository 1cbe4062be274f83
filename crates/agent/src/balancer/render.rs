//! The configuration of one balancer, from its plan and the directory: a pure function (`load-balancer.md` §9).
//!
//! The text is the contract. Sections come in a fixed order, routes in the order in which they are asked, servers in the
//! order of their containers, so that equal input gives equal bytes and nothing is reloaded for nothing. Whatever a user
//! wrote into a rule goes through [`words`]; only the user's own HAProxy text ([`custom`]) is taken as it is, because
//! that is what it is for.
//!
//! Not in it: `daemon`, `chroot` and `user` (the container is the cage, and a master process wants to stay), and error
//! files (HAProxy's own pages say the same).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use remuda_wire::balancer::{BalancerPlan, CookieMode, Listener, Protocol, Stickiness};
use remuda_wire::directory::Directory;

use crate::balancer::rendered::Rendered;

pub mod words;

pub mod custom;

pub mod routes;

pub mod servers;

use custom::Custom;
use routes::{Backend, Condition};
use servers::Members;

/// Directory of the certificates, below the balancer's own.
const CERTIFICATES: &str = "certs";
/// The list of those that are found by name.
const CERTIFICATE_LIST: &str = "certs/list";
/// Longest host and path together that fit a line of HAProxy with every byte escaped.
pub const LONGEST_RULE: usize = 1000;

/// A plan that cannot be written down for HAProxy. The server refuses such rules, so this is met only when it is older.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "host and path of a rule on port {port} have {length} bytes together; at most {LONGEST_RULE} fit a line of HAProxy"
    )]
    LongRule { port: u16, length: usize },
    #[error("two listeners have port {port}")]
    SamePort { port: u16 },
}

/// The complete configuration.
pub fn render(plan: &BalancerPlan, directory: &Directory) -> Result<Rendered, Error> {
    let custom = Custom::parse(&plan.config);
    let members = Members::of(plan, directory);
    let resolved = routes::resolve(plan)?;
    let mut out = Rendered { config: custom.prelude.join(""), ..Rendered::default() };
    out.config.reserve(512 * (resolved.backends.len() + 4));
    let tls = plan.listeners.iter().any(|listener| listener.protocol.has_certificates());
    section(&mut out.config, "global", &global(tls), &custom.global);
    section(&mut out.config, "defaults", &defaults(), &custom.defaults);
    if resolved.backends.iter().any(Backend::has_names) {
        out.config.push_str("resolvers remuda\n    nameserver dns 169.254.169.250:53\n    hold valid 5s\n");
    }
    if let Some(health) = &plan.health
        && plan.listeners.iter().all(|listener| listener.port != health.port)
    {
        let _ = write!(out.config, "listen health\n    bind *:{}\n", health.port);
        out.config.push_str(match health.http {
            true => "    mode http\n    http-request return status 200\n",
            false => "    mode tcp\n",
        });
    }
    for listener in &plan.listeners {
        frontend(&mut out.config, plan, listener, &resolved, &custom);
    }
    for backend in &resolved.backends {
        self::backend(&mut out, plan, backend, &members, &custom);
    }
    for (header, lines) in custom.left(plan, &resolved) {
        out.config.push_str(header);
        lines.iter().for_each(|line| out.config.push_str(line));
    }
    if tls {
        certificates(plan, &mut out.files);
    }
    Ok(out)
}

/// A section: generated lines that the user's do not replace, then the user's, because HAProxy takes the last word.
fn section(config: &mut String, header: &str, generated: &[&str], users: &[String]) {
    config.push_str(header);
    config.push('\n');
    for line in generated.iter().filter(|line| !custom::overrules(users, line)) {
        let _ = writeln!(config, "    {line}");
    }
    users.iter().for_each(|line| config.push_str(line));
}

fn global(tls: bool) -> Vec<&'static str> {
    let mut lines = vec!["log stdout format raw local0 notice", "maxconn 4096", "maxpipes 1024"];
    if tls {
        lines.extend([
            "tune.ssl.default-dh-param 2048",
            "ssl-default-bind-options no-sslv3 no-tlsv10",
            "ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
             ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:\
             ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384",
        ]);
    }
    lines
}

fn defaults() -> Vec<&'static str> {
    vec![
        "log global",
        "mode tcp",
        // Each try with another server: one that just ended, or does not listen yet, costs no request.
        "option redispatch 1",
        "option http-server-close",
        "option forwardfor",
        "option dontlognull",
        // A reload closes connections with the answer to their next request, and loses none that is on its way.
        "option idle-close-on-response",
        "retries 3",
        "timeout connect 5000",
        "timeout client 50000",
        "timeout server 50000",
    ]
}

fn mode(protocol: Protocol) -> &'static str {
    if protocol.is_http() { "http" } else { "tcp" }
}

fn frontend(
    config: &mut String,
    plan: &BalancerPlan,
    listener: &Listener,
    resolved: &routes::Resolved,
    custom: &Custom,
) {
    let port = listener.port;
    let mut users = custom.frontend(&port.to_string()).to_vec();
    let n_before = users.len();
    users.retain(|line| line.trim() != "accept-proxy");
    let accept_proxy = listener.accept_proxy || users.len() < n_before;
    let _ = write!(config, "frontend {port}\n    bind *:{port}");
    if accept_proxy {
        config.push_str(" accept-proxy");
    }
    if listener.protocol.has_certificates() {
        bind_tls(config, plan, listener.protocol);
    }
    config.push('\n');
    users.iter().for_each(|line| config.push_str(line));
    let mut generated = vec![format!("mode {}", mode(listener.protocol))];
    if listener.protocol == Protocol::Sni {
        generated.push("tcp-request inspect-delay 5s".to_owned());
        generated.push("tcp-request content accept if { req.ssl_hello_type 1 }".to_owned());
    }
    for line in generated.iter().filter(|line| !custom::overrules(&users, line)) {
        let _ = writeln!(config, "    {line}");
    }
    let rules = resolved.rules.get(&port).map(Vec::as_slice).unwrap_or_default();
    for (n, rule) in (1..).zip(rules) {
        let name = &resolved.backends[rule.backend].name;
        if rule.conditions.is_empty() {
            if !custom::overrules(&users, "default_backend") {
                let _ = writeln!(config, "    default_backend {name}");
            }
            continue;
        }
        let mut names = String::new();
        for condition in &rule.conditions {
            let kind = match condition {
                Condition::Host(_) => "host",
                Condition::Path(_) => "path",
            };
            let _ = write!(config, "    acl r{n}_{kind} ");
            condition.write(config, listener);
            config.push('\n');
            let _ = write!(names, " r{n}_{kind}");
        }
        let _ = writeln!(config, "    use_backend {name} if{names}");
    }
}

/// Without any certificate every handshake fails: the port is open and nothing travels in the clear.
fn bind_tls(config: &mut String, plan: &BalancerPlan, protocol: Protocol) {
    config.push_str(" ssl");
    let default = plan.certificates.iter().find(|of| Some(&of.id) == plan.default_certificate.as_ref());
    match default {
        Some(certificate) => {
            let _ = write!(config, " crt {}", certificate_path(&certificate.id));
        }
        None => config.push_str(" strict-sni"),
    }
    if plan.certificates.iter().any(|of| Some(&of.id) != plan.default_certificate.as_ref()) {
        let _ = write!(config, " crt-list {CERTIFICATE_LIST}");
    }
    if protocol == Protocol::Https {
        config.push_str(" alpn h2,http/1.1");
    }
}

fn certificate_path(id: &str) -> String {
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{CERTIFICATES}/{id}.pem")
}

fn certificates(plan: &BalancerPlan, files: &mut BTreeMap<String, Vec<u8>>) {
    let mut list = String::new();
    for certificate in &plan.certificates {
        let path = certificate_path(&certificate.id);
        if Some(&certificate.id) != plan.default_certificate.as_ref() {
            let _ = writeln!(list, "{path}");
        }
        let mut pem = String::new();
        for part in [&certificate.key, &certificate.cert, &certificate.chain] {
            let part = part.trim();
            if !part.is_empty() {
                let _ = writeln!(pem, "{part}");
            }
        }
        files.insert(path, pem.into_bytes());
    }
    if !list.is_empty() {
        files.insert(CERTIFICATE_LIST.to_owned(), list.into_bytes());
    }
}

fn backend(out: &mut Rendered, plan: &BalancerPlan, backend: &Backend, members: &Members<'_>, custom: &Custom) {
    let (users, server_options) = custom::server_options(custom.backend(&backend.name));
    let _ = writeln!(out.config, "backend {}", backend.name);
    users.iter().for_each(|line| out.config.push_str(line));
    let is_http = backend.protocol.is_http();
    let mut generated = vec![format!("mode {}", mode(backend.protocol))];
    if let Some(check) = backend.targets.iter().find_map(|target| target.check.as_ref()) {
        generated.push(format!("timeout check {}", check.response_timeout_ms.max(1)));
        if let Some(request) = words::request_line(&check.request_line) {
            generated.push(format!("option httpchk {request}"));
        }
    }
    let stickiness = plan.stickiness.as_ref().filter(|_| is_http);
    if let Some(stickiness) = stickiness {
        generated.push(cookie(stickiness, &backend.name));
    }
    for line in generated.iter().filter(|line| !custom::overrules(&users, line)) {
        let _ = writeln!(out.config, "    {line}");
    }
    if is_http {
        out.config.push_str(
            "    http-request add-header X-Forwarded-Port %[dst_port] if !{ req.hdr(X-Forwarded-Port) -m found }\n    \
             http-request add-header X-Forwarded-Proto https if { ssl_fc } !{ req.hdr(X-Forwarded-Proto) -m found }\n",
        );
    }
    let (servers, named) = members.servers(&backend.targets, stickiness.is_some(), &server_options);
    for server in &servers {
        let _ = write!(out.config, "    server {} {}", server.name, server.address);
        server.options.iter().for_each(|option| {
            let _ = write!(out.config, " {option}");
        });
        out.config.push('\n');
    }
    for line in named {
        let _ = writeln!(out.config, "    {line}");
    }
    out.backends.insert(backend.name.clone(), servers);
}

fn cookie(stickiness: &Stickiness, backend: &str) -> String {
    // Both go into a header of the answer: what cannot stand there is left out.
    let wanted = stickiness.cookie.as_deref().filter(|name| !name.is_empty());
    let name = wanted.map_or_else(|| backend.to_owned(), words::chosen_name);
    let mode = match stickiness.mode {
        CookieMode::Insert => "insert",
        CookieMode::Rewrite => "rewrite",
        CookieMode::Prefix => "prefix",
    };
    let mut line = format!("cookie {name} {mode}");
    let flags = [("indirect", stickiness.indirect), ("nocache", stickiness.nocache), ("postonly", stickiness.postonly)];
    for (flag, _) in flags.into_iter().filter(|(_, set)| *set) {
        let _ = write!(line, " {flag}");
    }
    let domain: String = stickiness.domain.iter().flat_map(|domain| domain.chars()).filter(is_domain).collect();
    if !domain.is_empty() {
        let _ = write!(line, " domain {domain}");
    }
    line
}

fn is_domain(ch: &char) -> bool {
    ch.is_ascii_alphanumeric() || matches!(ch, '-' | '.')
}

#[cfg(test)]
mod acceptance;
#[cfg(test)]
mod tests;
