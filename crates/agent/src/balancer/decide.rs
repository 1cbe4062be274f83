//! What has to happen for HAProxy to follow a new configuration: a pure function of the one that runs and the one that
//! shall.
//!
//! Targets come and go by runtime commands; everything else is a reload. Steps on servers come first and are taken
//! even when a reload follows, because a reload may have to wait or be refused, and a container that is about to stop
//! must be out of rotation all the same. A server whose address or options change under its name is a reload: HAProxy
//! deletes a server only when its last connection is gone, and the name is taken until then.

use std::collections::{BTreeMap, BTreeSet};

use crate::balancer::rendered::{Rendered, SECTIONS, Server};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Add {
        backend: String,
        server: Server,
    },
    /// It was withdrawn and is wanted again before its last connection ended.
    TakeBack {
        backend: String,
        server: Server,
    },
    /// Takes no new work, or does again.
    Drain {
        backend: String,
        name: String,
        drain: bool,
    },
    Weight {
        backend: String,
        name: String,
        weight: u16,
    },
    /// Takes no new work at all, and is deleted when its last connection is gone.
    Withdraw {
        backend: String,
        name: String,
    },
    /// Other bytes in a certificate file that is in use.
    Certificate {
        path: String,
        pem: Vec<u8>,
    },
    /// Nothing less will do. Always last.
    Reload {
        why: String,
    },
}

/// Servers that were withdrawn and are still there, by backend and name.
pub type Lingering = BTreeMap<(String, String), Server>;

/// What has to happen. Empty: nothing.
pub fn decide(old: &Rendered, lingering: &Lingering, new: &Rendered) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut withdrawals = Vec::new();
    let mut why: Option<String> = None;
    let mut reload = |reason: String| {
        why.get_or_insert(reason);
    };
    if skeleton(old) != skeleton(new) || !old.backends.keys().eq(new.backends.keys()) {
        reload("the rules or settings changed".to_owned());
    }
    for (backend, servers) in &new.backends {
        let Some(before) = old.backends.get(backend) else { continue };
        let before: BTreeMap<&str, &Server> = before.iter().map(|server| (server.name.as_str(), server)).collect();
        let kept: BTreeSet<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        for server in servers {
            let known = before.get(server.name.as_str()).copied();
            if known == Some(server) {
                continue;
            }
            match server_steps(backend, known, lingering, server) {
                Some(more) => steps.extend(more),
                None => reload(format!("server {} of {backend} changed", server.name)),
            }
        }
        let gone = before.into_keys().filter(|name| !kept.contains(name));
        withdrawals.extend(gone.map(|name| Step::Withdraw { backend: backend.clone(), name: name.to_owned() }));
    }
    // Whoever comes is there before the others go.
    steps.append(&mut withdrawals);
    let mut certificates = Vec::new();
    for path in old.files.keys().chain(new.files.keys()).collect::<BTreeSet<_>>() {
        match (old.files.get(path), new.files.get(path)) {
            (before, after) if before == after => {}
            (Some(_), Some(pem)) if path.ends_with(".pem") => {
                certificates.push(Step::Certificate { path: path.clone(), pem: pem.clone() });
            }
            _ => reload(format!("the file {path} changed")),
        }
    }
    match why {
        Some(why) => steps.push(Step::Reload { why }),
        None => steps.append(&mut certificates),
    }
    steps
}

/// The steps for one server that is new or not what it was; `None`: HAProxy must read its line anew.
fn server_steps(backend: &str, known: Option<&Server>, lingering: &Lingering, server: &Server) -> Option<Vec<Step>> {
    let is_plain = std::iter::once(&server.name).chain(&server.options).all(|word| is_plain(word));
    if !is_plain || !self::is_plain(backend) {
        return None;
    }
    let backend = backend.to_owned();
    let Some(known) = known else {
        let server = server.clone();
        return match lingering.get(&(backend.clone(), server.name.clone())) {
            None => Some(vec![Step::Add { backend, server }]),
            Some(left) if left.address == server.address && without_weight(left) == without_weight(&server) => {
                Some(vec![Step::TakeBack { backend, server }])
            }
            Some(_) => None,
        };
    };
    if known.address != server.address || without_weight(known) != without_weight(server) {
        return None;
    }
    let name = server.name.clone();
    let mut steps = Vec::new();
    if weight(known) != weight(server) {
        steps.push(Step::Weight { backend: backend.clone(), name: name.clone(), weight: weight(server)? });
    }
    if known.drain != server.drain {
        steps.push(Step::Drain { backend, name, drain: server.drain });
    }
    Some(steps)
}

/// A word that means the same in a configuration file and on the command socket, and cannot be more than a word.
fn is_plain(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@%+=,*~!?()[]{}|&^".contains(&byte);
    !word.is_empty() && word.bytes().all(plain)
}

/// The weight of a server: HAProxy's default is 1. `None`: it does not read.
pub fn weight(server: &Server) -> Option<u16> {
    match server.options.iter().position(|word| word == "weight") {
        Some(at) => server.options.get(at + 1)?.parse().ok(),
        None => Some(1),
    }
}

fn without_weight(server: &Server) -> Vec<&str> {
    let mut words: Vec<&str> = server.options.iter().map(String::as_str).collect();
    if let Some(at) = words.iter().position(|word| *word == "weight") {
        words.drain(at..(at + 2).min(words.len()));
    }
    words
}

/// The backend a section line opens; `Some(None)`: a section of another kind; `None`: no section line.
fn section(line: &str) -> Option<Option<&str>> {
    let mut words = line.split_whitespace();
    let first = words.next().filter(|word| SECTIONS.contains(word))?;
    Some(words.next().filter(|_| first == "backend"))
}

/// Calls `line` with each line, the backend it is in, and whether it is one of that backend's known servers.
fn each_line<'a>(rendered: &'a Rendered, mut line: impl FnMut(&'a str, Option<&'a str>, bool)) {
    let mut backend = None;
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for text in rendered.config.lines() {
        if let Some(opened) = section(text) {
            backend = opened;
            let servers = opened.and_then(|name| rendered.backends.get(name));
            names = servers.into_iter().flatten().map(|server| server.name.as_str()).collect();
        }
        let mut words = text.split_whitespace();
        let is_server = words.next() == Some("server") && words.next().is_some_and(|name| names.contains(name));
        line(text, backend, is_server);
    }
}

/// The configuration without its servers: what only a reload changes.
pub fn skeleton(rendered: &Rendered) -> String {
    let mut text = String::with_capacity(rendered.config.len());
    each_line(rendered, |line, _, is_server| {
        if !is_server {
            text.push_str(line);
            text.push('\n');
        }
    });
    text
}

/// `old` with the servers of `new`, in the backends that both have: how far one gets without a reload.
pub fn with_servers_of(old: &Rendered, new: &Rendered) -> Rendered {
    let common = |name: &str| old.backends.contains_key(name) && new.backends.contains_key(name);
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    each_line(new, |line, backend, is_server| {
        if let Some(backend) = backend.filter(|_| is_server) {
            let known = lines.entry(backend).or_default();
            known.push_str(line);
            known.push('\n');
        }
    });
    let mut config = String::with_capacity(old.config.len());
    let mut open: Option<&str> = None;
    each_line(old, |line, backend, is_server| {
        if is_server && backend.is_some_and(common) {
            return;
        }
        if section(line).is_some() {
            config.push_str(open.and_then(|backend| lines.get(backend)).map_or("", String::as_str));
            open = backend.filter(|name| common(name));
        }
        config.push_str(line);
        config.push('\n');
    });
    config.push_str(open.and_then(|backend| lines.get(backend)).map_or("", String::as_str));
    let backends = old.backends.iter().map(|(name, servers)| {
        let servers = new.backends.get(name).unwrap_or(servers);
        (name.clone(), servers.clone())
    });
    Rendered { config, files: old.files.clone(), backends: backends.collect() }
}

#[cfg(test)]
mod tests;
