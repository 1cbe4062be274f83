//! Readers of values: from the forms people write to the one form the API takes. Each says what it expected.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::node::{Node, Place, Value, shown};
use crate::words;

/// A value that does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    pub place: Place,
    pub text: String,
}

/// Result of a reader; null means: leave the field out.
pub type Read = Result<Json, Bad>;

/// Most ports of one container.
pub const MAX_PORTS: usize = 2_000;

pub fn bad<T>(node: &Node, text: impl Into<String>) -> Result<T, Bad> {
    Err(Bad { place: node.place, text: text.into() })
}

pub fn expected<T>(node: &Node, what: &str) -> Result<T, Bad> {
    bad(node, format!("expected {what}, found {}", node.kind()))
}

/// Any scalar as text.
pub fn text(node: &Node) -> Read {
    match node.scalar() {
        Some(text) if text.is_empty() => Ok(Json::Null),
        Some(text) => Ok(text.into()),
        None if node.is_null() => Ok(Json::Null),
        None => expected(node, "text"),
    }
}

pub fn boolean(node: &Node) -> Read {
    match node.scalar().map(|text| text.to_lowercase()).as_deref() {
        Some("true" | "yes" | "on") => Ok(true.into()),
        Some("false" | "no" | "off") => Ok(false.into()),
        _ if node.is_null() => Ok(Json::Null),
        _ => expected(node, "true or false"),
    }
}

pub fn int(node: &Node) -> Read {
    match node.scalar().map(|text| text.trim().parse::<i64>()) {
        Some(Ok(number)) => Ok(number.into()),
        None if node.is_null() => Ok(Json::Null),
        _ => expected(node, "a whole number"),
    }
}

/// Bytes, with an optional unit `b k m g`, `kb mb gb`; 1024-based.
pub fn bytes(node: &Node) -> Read {
    let Some(text) = node.scalar() else {
        return if node.is_null() { Ok(Json::Null) } else { expected(node, "a size like `512m`") };
    };
    let lower = text.trim().to_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: Option<i64> = match &lower[digits.len()..] {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1 << 10),
        "m" | "mb" => Some(1 << 20),
        "g" | "gb" => Some(1 << 30),
        _ => None,
    };
    let size = digits.parse::<i64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    size.map_or_else(
        || bad(node, format!("`{text}` is no size; write bytes or a unit like `512m`")),
        |size| Ok(size.into()),
    )
}

/// A list of scalars.
pub fn list(node: &Node) -> Read {
    match &node.value {
        Value::List(items) => items
            .iter()
            .map(|item| item.scalar().map(Json::String).map_or_else(|| expected(item, "text"), Ok))
            .collect::<Result<Vec<Json>, Bad>>()
            .map(Json::Array),
        Value::Null => Ok(Json::Null),
        _ => expected(node, "a list"),
    }
}

/// One scalar, or a list of them.
pub fn one_or_list(node: &Node) -> Read {
    match node.scalar() {
        Some(text) => Ok(json!([text])),
        None => list(node),
    }
}

/// A command: a list as it is, or a line split into words.
pub fn command(node: &Node) -> Read {
    match node.scalar() {
        Some(line) => match words::split(&line) {
            Ok(words) => Ok(words.into()),
            Err(words::Unclosed(quote)) => bad(node, format!("the quote {quote} is not closed")),
        },
        None => list(node),
    }
}

/// Pairs, as a map or as a list of `key=value` (`separators`: what may stand between).
pub fn pairs(node: &Node, separators: &[char]) -> Result<Vec<(String, Option<String>, Place)>, Bad> {
    match &node.value {
        Value::Map(members) => members
            .iter()
            .map(|(key, value)| match value.scalar() {
                None if !value.is_null() => expected(value, "text"),
                scalar => Ok((key.name.clone(), scalar, key.place)),
            })
            .collect(),
        Value::List(items) => items
            .iter()
            .map(|item| {
                let text = item.scalar().map_or_else(|| expected(item, "text"), Ok)?;
                Ok(match text.split_once(separators) {
                    Some((key, value)) => (key.trim().to_owned(), Some(value.to_owned()), item.place),
                    None => (text.trim().to_owned(), None, item.place),
                })
            })
            .collect(),
        Value::Null => Ok(Vec::new()),
        _ => expected(node, "a map or a list"),
    }
}

/// A map or list of labels; a key alone has the empty value.
pub fn labels(node: &Node) -> Result<BTreeMap<String, String>, Bad> {
    Ok(pairs(node, &['='])?.into_iter().map(|(key, value, _)| (key, value.unwrap_or_default())).collect())
}

/// A map of text.
pub fn text_map(node: &Node) -> Read {
    Ok(json!(labels(node)?))
}

/// `name:ip` lines of the hosts file; list, map, or `name=ip`.
pub fn extra_hosts(node: &Node) -> Read {
    let mut hosts = Vec::new();
    for (name, address, place) in pairs(node, &[':', '='])? {
        match address {
            Some(address) => hosts.push(Json::String(format!("{name}:{}", address.trim()))),
            None => return Err(Bad { place, text: format!("`{name}` needs an address: `{name}:10.0.0.1`") }),
        }
    }
    Ok(Json::Array(hosts))
}

/// `soft` and `hard` limits by name; a number is both.
pub fn ulimits(node: &Node) -> Read {
    let mut limits = Vec::new();
    for (key, limit) in node.members() {
        let number = |node: &Node| match int(node)? {
            Json::Number(number) => Ok(Json::Number(number)),
            _ => expected(node, "a whole number"),
        };
        let (soft, hard) = match (limit.get("soft"), limit.get("hard")) {
            (None, None) => (number(limit)?, number(limit)?),
            (Some(soft), Some(hard)) => (number(soft)?, number(hard)?),
            _ => return bad(limit, "needs both `soft` and `hard`"),
        };
        limits.push(json!({"name": key.name, "soft": soft, "hard": hard}));
    }
    if limits.is_empty() && !node.is_null() && node.value != Value::Map(Vec::new()) {
        return expected(node, "a map of limits");
    }
    Ok(limits.into())
}

/// Paths with the options of their mounts; `path:options`, one or several, or a map.
pub fn tmpfs(node: &Node) -> Read {
    if let Value::Map(_) = node.value {
        return text_map(node);
    }
    let Json::Array(paths) = one_or_list(node)? else { return Ok(Json::Null) };
    let paths = paths.iter().filter_map(Json::as_str).map(|path| path.split_once(':').unwrap_or((path, "")));
    Ok(Json::Object(paths.map(|(path, options)| (path.to_owned(), options.into())).collect()))
}

/// Milliseconds of `1m30s`, `500ms`, or of a bare number of `unit`.
pub fn duration_ms(node: &Node) -> Result<Option<i64>, Bad> {
    let Some(text) = node.scalar().filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || bad(node, format!("`{}` is no duration; write one like `1m30s` or `500ms`", shown(&text)));
    let mut rest = text.trim();
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<f64>() else { return wrong() };
        rest = &rest[digits..];
        let unit = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "us" | "µs" => 0.001,
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return wrong(),
        };
        total += number * factor;
        rest = &rest[unit..];
    }
    // Longer than any container lives.
    if total <= 1e15 { Ok(Some(total.round() as i64)) } else { wrong() }
}

/// Devices with all three parts written.
pub fn devices(node: &Node) -> Read {
    let Json::Array(items) = list(node)? else { return Ok(Json::Null) };
    let full = items.iter().filter_map(Json::as_str).map(|item| {
        let parts: Vec<&str> = item.split(':').collect();
        match parts[..] {
            [host] => format!("{host}:{host}:rwm"),
            [host, inside] => format!("{host}:{inside}:rwm"),
            _ => item.to_owned(),
        }
    });
    Ok(full.map(Json::String).collect())
}

/// Ports, ranges taken apart, protocol always written.
pub fn ports(node: &Node) -> Read {
    let items = match &node.value {
        Value::List(items) => items,
        Value::Null => return Ok(Json::Null),
        _ => return expected(node, "a list"),
    };
    let mut ports = Vec::new();
    for item in items {
        if ports.len() > MAX_PORTS {
            break;
        }
        match &item.value {
            Value::Map(_) => ports.push(long_port(item)?),
            _ => {
                let text = item.scalar().map_or_else(|| expected(item, "a port like `8080:80`"), Ok)?;
                match short_ports(&text) {
                    Ok(found) => ports.extend(found),
                    Err(why) => return bad(item, format!("`{text}` is no port: {why}")),
                }
            }
        }
    }
    if ports.len() > MAX_PORTS {
        return bad(node, format!("more than {MAX_PORTS} ports"));
    }
    Ok(ports.into_iter().map(Json::String).collect())
}

fn long_port(node: &Node) -> Result<String, Bad> {
    let part = |name: &str| node.get(name).and_then(Node::scalar).filter(|text| !text.is_empty());
    let Some(target) = part("target") else { return bad(node, "a port needs `target`") };
    let protocol = part("protocol").unwrap_or_else(|| "tcp".to_owned());
    let text = match (part("host_ip"), part("published")) {
        (Some(ip), Some(published)) => format!("{ip}:{published}:{target}/{protocol}"),
        (Some(ip), None) => format!("{ip}::{target}/{protocol}"),
        (None, Some(published)) => format!("{published}:{target}/{protocol}"),
        (None, None) => format!("{target}/{protocol}"),
    };
    match short_ports(&text) {
        Ok(found) if found.len() == 1 => Ok(text),
        Ok(_) => bad(node, "a port in the long form is one port, not a range"),
        Err(why) => bad(node, format!("`{text}` is no port: {why}")),
    }
}

fn short_ports(text: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return Err(format!("`{protocol}` is neither tcp nor udp"));
    }
    let (outside, inside) = match ports.rsplit_once(':') {
        Some((outside, inside)) => (Some(outside), inside),
        None => (None, ports),
    };
    let (ip, public) = match outside.map(|outside| outside.rsplit_once(':').unwrap_or(("", outside))) {
        Some((ip, public)) => (ip, public),
        None => ("", ""),
    };
    let inside = range(inside)?;
    let public = if public.is_empty() { None } else { Some(range(public)?) };
    if public.as_ref().is_some_and(|public| public.len() != inside.len()) {
        return Err("both ranges must have the same length".to_owned());
    }
    let ip = if ip.is_empty() { String::new() } else { format!("{ip}:") };
    let one = |idx: usize, inside: u16| match &public {
        Some(public) => format!("{ip}{}:{inside}/{protocol}", public[idx]),
        None if ip.is_empty() => format!("{inside}/{protocol}"),
        None => format!("{ip}:{inside}/{protocol}"),
    };
    Ok(inside.into_iter().enumerate().map(|(idx, inside)| one(idx, inside)).collect())
}

pub fn range(text: &str) -> Result<Vec<u16>, String> {
    let number = |text: &str| match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{text}` is not a number from 1 to 65535")),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if last < first { Err(format!("the range `{text}` runs backwards")) } else { Ok((first..=last).collect()) }
}

/// One volume in the short form, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub place: Place,
    /// Path of the host or name; `None` for an anonymous one.
    pub source: Option<String>,
    pub target: String,
    /// `ro`, or whatever stood there.
    pub mode: Option<String>,
    /// A file system in memory, with its options.
    pub tmpfs: Option<String>,
}

impl Mount {
    pub fn is_named(&self) -> bool {
        self.source.as_ref().is_some_and(|source| !source.starts_with(['/', '.', '~']))
    }

    pub fn text(&self) -> String {
        let mode = self.mode.as_ref().map(|mode| format!(":{mode}")).unwrap_or_default();
        match &self.source {
            Some(source) => format!("{source}:{}{mode}", self.target),
            None => self.target.clone(),
        }
    }
}

/// Volumes: anonymous ones first, then the rest, as Docker of the time kept them.
pub fn volumes(node: &Node) -> Result<Vec<Mount>, Bad> {
    let items = match &node.value {
        Value::List(items) => items,
        Value::Null => return Ok(Vec::new()),
        _ => return expected(node, "a list"),
    };
    let mounts = items.iter().map(mount).collect::<Result<Vec<Mount>, Bad>>()?;
    let (mut anonymous, rest): (Vec<Mount>, Vec<Mount>) = mounts.into_iter().partition(|mount| mount.source.is_none());
    anonymous.extend(rest);
    Ok(anonymous)
}

fn mount(item: &Node) -> Result<Mount, Bad> {
    if let Value::Map(_) = &item.value {
        return long_volume(item);
    }
    let text = item.scalar().map_or_else(|| expected(item, "a volume like `data:/var/lib`"), Ok)?;
    let parts: Vec<&str> = text.split(':').collect();
    let absolute = |path: &str| path.starts_with('/');
    let made = |source: Option<&str>, target: &str, mode: Option<&str>| Mount {
        place: item.place,
        source: source.map(str::to_owned),
        target: target.to_owned(),
        mode: mode.map(str::to_owned),
        tmpfs: None,
    };
    match parts[..] {
        [path] if absolute(path) => Ok(made(None, path, None)),
        [source, path] if absolute(path) && !source.is_empty() => Ok(made(Some(source), path, None)),
        [source, path, mode] if absolute(path) && !source.is_empty() => Ok(made(Some(source), path, Some(mode))),
        _ => bad(
            item,
            format!("`{}` is no volume; write `/path`, `name:/path` or `/host/path:/path[:ro]`", shown(&text)),
        ),
    }
}

fn long_volume(node: &Node) -> Result<Mount, Bad> {
    let kind = node.part("type").unwrap_or_else(|| "volume".to_owned());
    if !matches!(kind.as_str(), "volume" | "bind" | "tmpfs") {
        return bad(
            node,
            format!("volumes of type `{}` are not supported; there are `volume`, `bind` and `tmpfs`", shown(&kind)),
        );
    }
    let Some(target) = node.part("target").filter(|target| target.starts_with('/')) else {
        return bad(node, "a volume needs `target`, an absolute path");
    };
    let source = node.part("source");
    if kind == "bind" && source.is_none() {
        return bad(node, "a volume of type `bind` needs `source`");
    }
    let is_read_only = node.part("read_only").as_deref() == Some("true");
    let size = || node.get("tmpfs").and_then(|tmpfs| tmpfs.part("size")).map(|size| format!("size={size}"));
    let tmpfs = (kind == "tmpfs").then(|| size().unwrap_or_default());
    Ok(Mount { place: node.place, source, target, mode: is_read_only.then(|| "ro".to_owned()), tmpfs })
}

/// `no`, `always`, `on-failure[:n]`, `unless-stopped`: checked, then left out: the service keeps its scale itself.
pub fn restart(node: &Node) -> Result<(), Bad> {
    let text = node.scalar().unwrap_or_default();
    let known = match text.split_once(':') {
        Some(("on-failure", times)) => times.parse::<u32>().is_ok(),
        Some(_) => false,
        None => matches!(text.as_str(), "" | "no" | "false" | "always" | "on-failure" | "unless-stopped"),
    };
    if known {
        Ok(())
    } else {
        bad(node, format!("`{text}` is no restart policy; there are no, always, on-failure[:n], unless-stopped"))
    }
}

/// Free-form data below string keys.
pub fn metadata(node: &Node) -> Result<Map<String, Json>, Bad> {
    match node.json() {
        Json::Object(map) => Ok(map),
        Json::Null => Ok(Map::new()),
        _ => expected(node, "a map"),
    }
}

/// `service[:alias]`, as a list or a map.
pub fn links(node: &Node) -> Result<Vec<(String, Option<String>, Place)>, Bad> {
    let clean = |text: String| text.trim().to_owned();
    let links = pairs(node, &[':'])?.into_iter();
    Ok(links
        .map(|(target, alias, place)| (clean(target), alias.map(clean).filter(|alias| !alias.is_empty()), place))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::read as read_yaml;

    fn check(read_value: fn(&Node) -> Read, yaml: &str, expected: Result<Json, &str>) {
        match (read_value(&read_yaml(yaml, 0).expect(yaml)), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{yaml}"),
            (Err(found), Err(part)) => assert!(found.text.contains(part), "{yaml}: {}", found.text),
            (found, _) => panic!("{yaml}: {found:?}"),
        }
    }

    #[test]
    fn port_forms() {
        check(ports, "[80]", Ok(json!(["80/tcp"])));
        check(ports, "['80:81', 53/udp]", Ok(json!(["80:81/tcp", "53/udp"])));
        check(ports, "['127.0.0.1:80:81', '127.0.0.1::81']", Ok(json!(["127.0.0.1:80:81/tcp", "127.0.0.1::81/tcp"])));
        check(ports, "['[::1]:80:81']", Ok(json!(["[::1]:80:81/tcp"])));
        check(ports, "['8000-8002:80-82']", Ok(json!(["8000:80/tcp", "8001:81/tcp", "8002:82/tcp"])));
        check(ports, "[{target: 80, published: 8080, protocol: udp}]", Ok(json!(["8080:80/udp"])));
        check(ports, "['8000-8002:80']", Err("same length"));
        check(ports, "['80/sctp']", Err("neither tcp nor udp"));
        check(ports, "['0:80']", Err("1 to 65535"));
        check(ports, "['82-80']", Err("backwards"));
        check(ports, "80", Err("expected a list"));
    }

    #[test]
    fn volume_forms() {
        let text = |yaml: &str| match volumes(&read_yaml(yaml, 0).expect(yaml)) {
            Ok(mounts) => mounts.iter().map(Mount::text).collect::<Vec<_>>().join(" "),
            Err(bad) => bad.text,
        };
        assert_eq!(text("['data:/d', '/x', '/h:/c:ro']"), "/x data:/d /h:/c:ro");
        assert_eq!(text("[{type: bind, source: /h, target: /c, read_only: true}]"), "/h:/c:ro");
        assert!(text("['data:c']").contains("no volume"));
        assert!(text("[{type: npipe, target: /c}]").contains("not supported"));
    }

    #[test]
    fn durations_and_limits() {
        let ms = |text: &str| duration_ms(&read_yaml(text, 0).expect(text)).ok().flatten();
        for (text, expected) in
            [("1m30s", Some(90_000)), ("1.5s", Some(1_500)), ("500ms", Some(500)), ("5", None), ("", None)]
        {
            assert_eq!(ms(text), expected, "{text}");
        }
        check(
            ulimits,
            "{nofile: 5, core: {soft: 1, hard: 2}}",
            Ok(json!([{"name": "nofile", "soft": 5, "hard": 5}, {"name": "core", "soft": 1, "hard": 2}])),
        );
        check(ulimits, "{core: {soft: 1}}", Err("needs both"));
        check(tmpfs, "/run:size=1m", Ok(json!({"/run": "size=1m"})));
        check(tmpfs, "[/run, /tmp]", Ok(json!({"/run": "", "/tmp": ""})));
    }

    #[test]
    fn sizes_commands_and_switches() {
        check(bytes, "512m", Ok(json!(512 << 20)));
        check(bytes, "1000", Ok(json!(1000)));
        check(bytes, "1x", Err("no size"));
        check(command, "run --port 8080", Ok(json!(["run", "--port", "8080"])));
        check(command, "[run, 8080]", Ok(json!(["run", "8080"])));
        check(command, "say 'hi", Err("not closed"));
        check(boolean, "yes", Ok(json!(true)));
        check(boolean, "maybe", Err("true or false"));
        check(devices, "[/dev/sda, '/dev/sdb:/dev/b']", Ok(json!(["/dev/sda:/dev/sda:rwm", "/dev/sdb:/dev/b:rwm"])));
        check(extra_hosts, "{a: 10.0.0.1}", Ok(json!(["a:10.0.0.1"])));
        check(extra_hosts, "['a:10.0.0.1', b=fe80::1]", Ok(json!(["a:10.0.0.1", "b:fe80::1"])));
        check(text_map, "[a=1, b]", Ok(json!({"a": "1", "b": ""})));
        check(text_map, "{a: 1, b: true, c: }", Ok(json!({"a": "1", "b": "true", "c": ""})));
    }
}
