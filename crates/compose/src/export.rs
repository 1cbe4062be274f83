//! From the objects of the API back to files (`compose.md` §12, `services.md` §14).

use serde_json::{Map, Value as Json, json};

use crate::hash::{HASH_KEY, is_empty};
use crate::keys::{DOCKER, Rule};
use crate::project::{Kind, Link};
use crate::rancher;
use crate::yaml;

/// Form of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Services at the top level: what `exportconfig` gives.
    #[default]
    V1,
    /// `version: '2'` and `services`.
    V2,
    /// One file of today, Rancher's keys under `x-rancher`.
    Compose,
}

/// A service to export.
#[derive(Clone, Debug, Default)]
pub struct Exported<'a> {
    pub kind: Kind,
    /// As the API shows it.
    pub api: Option<&'a Json>,
    /// Targets by name; `stack` is set for those of other stacks only. Targets that are not exported are left out.
    pub links: Vec<Link>,
    pub default_certificate: Option<String>,
    pub certificates: Vec<String>,
}

/// The two files; the second is empty in the form that needs one only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    pub docker_compose: String,
    pub rancher_compose: String,
}

/// Writes services as files. `newline` is `\n` for people, `\r\n` for the API's action.
pub fn export(services: &[Exported<'_>], format: Format, newline: &str) -> Export {
    let mut docker = Map::new();
    let mut rancher = Map::new();
    let mut volumes = Map::new();
    let names: Vec<&str> = services.iter().filter_map(|service| service.api?["name"].as_str()).collect();
    for service in services {
        let Some(api) = service.api else { continue };
        let (Some(name), config) = (api["name"].as_str(), &api["launchConfig"]) else { continue };
        let mut definition = launch_config(config, service.kind, format);
        let mut own = service_keys(service, api);
        links(&mut definition, service, &names);
        labels(&mut definition, service, api);
        named_volumes(&definition, &mut volumes);
        for secondary in api["secondaryLaunchConfigs"].as_array().into_iter().flatten() {
            let Some(sidekick) = secondary["name"].as_str() else { continue };
            let definition = launch_config(secondary, Kind::Service, format);
            named_volumes(&definition, &mut volumes);
            docker.insert(sidekick.to_owned(), Json::Object(definition));
            let mut repeated = own.clone();
            repeated.retain(|key, _| matches!(key.as_str(), "scale" | "scale_policy" | "metadata" | "retain_ip"));
            put(&mut repeated, "health_check", snake(&secondary["healthCheck"]));
            if !repeated.is_empty() {
                rancher.insert(sidekick.to_owned(), Json::Object(repeated));
            }
        }
        if service.kind == Kind::Service || service.kind == Kind::LoadBalancer {
            let check = &config["healthCheck"];
            // The balancer's own check is the server's business.
            if !(service.kind == Kind::LoadBalancer && check["port"] == 42) {
                put(&mut own, "health_check", snake(check));
            }
        }
        docker.insert(name.to_owned(), Json::Object(definition));
        if !own.is_empty() {
            rancher.insert(name.to_owned(), Json::Object(own));
        }
    }
    files(docker, rancher, volumes, format, newline)
}

fn files(
    mut docker: Map<String, Json>,
    rancher: Map<String, Json>,
    volumes: Map<String, Json>,
    format: Format,
    newline: &str,
) -> Export {
    let written = |mut value: Json| {
        double_dollars(&mut value);
        if is_empty(&value) { String::new() } else { yaml::write(&value, newline) }
    };
    let in_form = |services: Map<String, Json>| match format {
        Format::V1 => Json::Object(services),
        Format::V2 => json!({"version": "2", "services": services}),
        Format::Compose => json!({"services": services}),
    };
    let rancher = if format == Format::Compose {
        for (name, own) in rancher {
            docker.entry(name).or_insert_with(|| json!({}))["x-rancher"] = own;
        }
        Map::new()
    } else {
        rancher
    };
    let mut compose = in_form(docker);
    if format != Format::V1 && !volumes.is_empty() {
        compose["volumes"] = Json::Object(volumes);
    }
    let rancher_compose = if rancher.is_empty() { String::new() } else { written(in_form(rancher)) };
    Export { docker_compose: written(compose), rancher_compose }
}

/// Every dollar of a value, so that none is taken for a variable.
fn double_dollars(value: &mut Json) {
    match value {
        Json::String(text) => *text = text.replace('$', "$$"),
        Json::Array(items) => items.iter_mut().for_each(double_dollars),
        Json::Object(members) => members.values_mut().for_each(double_dollars),
        _ => {}
    }
}

fn put(map: &mut Map<String, Json>, key: &str, value: Json) {
    if !is_empty(&value) {
        map.insert(key.to_owned(), value);
    }
}

fn launch_config(config: &Json, kind: Kind, format: Format) -> Map<String, Json> {
    let mut out = Map::new();
    let text = |field: &str| config[field].as_str().unwrap_or_default().to_owned();
    let image = text("imageUuid");
    let image = match kind {
        Kind::Service => image.strip_prefix("docker:").unwrap_or(&image).to_owned(),
        Kind::LoadBalancer => rancher::LOAD_BALANCER.to_owned(),
        Kind::Dns => rancher::DNS.to_owned(),
        Kind::External => rancher::EXTERNAL.to_owned(),
    };
    put(&mut out, "image", image.into());
    let mut labels = config["labels"].clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.remove(HASH_KEY);
    }
    put(&mut out, "labels", labels);
    if matches!(kind, Kind::Dns | Kind::External) {
        return out;
    }
    for (key, rule) in DOCKER {
        let Rule::Launch(field, _) = rule else { continue };
        let value = match *field {
            "ulimits" => limits(&config[*field]),
            _ => config[*field].clone(),
        };
        put(&mut out, key, value);
    }
    for (key, field) in
        [("environment", "environment"), ("ports", "ports"), ("expose", "expose"), ("volumes", "dataVolumes")]
    {
        put(&mut out, key, config[field].clone());
    }
    put(&mut out, "volumes_from", config["dataVolumesFromLaunchConfigs"].clone());
    let mode = text("networkMode");
    let mode = match mode.as_str() {
        "" | "managed" => Json::Null,
        "container" => format!("container:{}", text("networkLaunchConfig")).into(),
        other => other.into(),
    };
    put(&mut out, if format == Format::V1 { "net" } else { "network_mode" }, mode);
    let (driver, options) = (&config["logConfig"]["driver"], &config["logConfig"]["config"]);
    if format == Format::V1 {
        put(&mut out, "log_driver", driver.clone());
        put(&mut out, "log_opt", options.clone());
    } else {
        let mut logging = Map::new();
        put(&mut logging, "driver", driver.clone());
        put(&mut logging, "options", options.clone());
        put(&mut out, "logging", Json::Object(logging));
    }
    build(&mut out, &config["build"], format);
    device_options(&mut out, &config["blkioDeviceOptions"]);
    let mut check = Map::new();
    put(&mut check, "test", config["healthCmd"].clone());
    put(&mut check, "retries", config["healthRetries"].clone());
    for (key, field) in [("interval", "healthInterval"), ("timeout", "healthTimeout")] {
        if let Some(seconds) = config[field].as_i64() {
            check.insert(key.to_owned(), format!("{seconds}s").into());
        }
    }
    put(&mut out, "healthcheck", Json::Object(check));
    out
}

fn limits(value: &Json) -> Json {
    let limits = value.as_array().into_iter().flatten();
    let limits = limits.filter_map(|limit| {
        Some((limit["name"].as_str()?.to_owned(), json!({"soft": limit["soft"], "hard": limit["hard"]})))
    });
    Json::Object(limits.collect())
}

fn build(out: &mut Map<String, Json>, build: &Json, format: Format) {
    let Some(context) = build["remote"].as_str().or_else(|| build["context"].as_str()) else { return };
    let says_more = !is_empty(&build["args"]) || !is_empty(&build["target"]);
    if format == Format::V1 && !says_more {
        out.insert("build".to_owned(), context.into());
        put(out, "dockerfile", build["dockerfile"].clone());
    } else {
        let mut section = Map::from_iter([("context".to_owned(), Json::String(context.to_owned()))]);
        for key in ["dockerfile", "args", "target"] {
            put(&mut section, key, build[key].clone());
        }
        out.insert("build".to_owned(), Json::Object(section));
    }
}

fn device_options(out: &mut Map<String, Json>, options: &Json) {
    let fields = [
        ("blkio_weight_device", "weight"),
        ("device_read_bps", "readBps"),
        ("device_read_iops", "readIops"),
        ("device_write_bps", "writeBps"),
        ("device_write_iops", "writeIops"),
    ];
    for (key, field) in fields {
        let devices = options.as_object().into_iter().flatten();
        let list = devices
            .filter(|(_, values)| !values[field].is_null())
            .map(|(device, values)| format!("{device}:{}", values[field]));
        put(out, key, list.collect::<Vec<String>>().into());
    }
}

/// Keys of the rancher-compose file.
fn service_keys(service: &Exported<'_>, api: &Json) -> Map<String, Json> {
    let mut own = Map::new();
    let is_global = api["launchConfig"]["labels"]["io.rancher.scheduler.global"] == "true";
    if matches!(service.kind, Kind::Service | Kind::LoadBalancer) && !is_global {
        put(&mut own, "scale", api["scale"].clone());
    }
    let mut metadata = api["metadata"].clone();
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove(HASH_KEY);
    }
    put(&mut own, "metadata", metadata);
    put(&mut own, "retain_ip", api["retainIp"].clone());
    put(&mut own, "scale_policy", snake(&api["scalePolicy"]));
    put(&mut own, "load_balancer_config", balancer_config(&api["loadBalancerConfig"]));
    put(&mut own, "default_cert", json!(service.default_certificate));
    put(&mut own, "certs", json!(service.certificates));
    if service.kind == Kind::External {
        put(&mut own, "external_ips", api["externalIpAddresses"].clone());
        put(&mut own, "hostname", api["hostname"].clone());
        put(&mut own, "health_check", snake(&api["healthCheck"]));
    }
    own
}

fn balancer_config(config: &Json) -> Json {
    let mut out = Map::new();
    put(&mut out, "haproxy_config", snake(&config["haproxyConfig"]));
    put(&mut out, "lb_cookie_stickiness_policy", snake(&config["lbCookieStickinessPolicy"]));
    Json::Object(out)
}

fn links(definition: &mut Map<String, Json>, service: &Exported<'_>, names: &[&str]) {
    let word = |link: &Link| {
        let stack = link.stack.as_ref().map(|stack| format!("{stack}/")).unwrap_or_default();
        format!("{stack}{}:{}", link.target, link.alias.as_ref().unwrap_or(&link.target))
    };
    let list = |filter: &dyn Fn(&&Link) -> bool| {
        let mut list: Vec<String> = service.links.iter().filter(filter).map(word).collect();
        list.sort();
        Json::from(list)
    };
    put(definition, "links", list(&|link| link.stack.is_none() && names.contains(&link.target.as_str())));
    put(definition, "external_links", list(&|link| link.stack.is_some()));
}

/// Labels that are fields on the server.
fn labels(definition: &mut Map<String, Json>, service: &Exported<'_>, api: &Json) {
    let mut more = Map::new();
    let sidekicks: Vec<&str> = api["secondaryLaunchConfigs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|config| config["name"].as_str())
        .collect();
    if !sidekicks.is_empty() {
        // The label the service was made with says the same, in its own order.
        let known = definition.get("labels").and_then(|labels| labels["io.rancher.sidekicks"].as_str());
        let same = known.is_some_and(|known| known.split(',').map(str::trim).eq(sidekicks.iter().copied()));
        if !same {
            more.insert("io.rancher.sidekicks".to_owned(), sidekicks.join(",").into());
        }
    }
    put(&mut more, "io.rancher.service.selector.link", api["selectorLink"].clone());
    put(&mut more, "io.rancher.service.selector.container", api["selectorContainer"].clone());
    for link in service.links.iter().filter(|link| !link.ports.is_empty()) {
        let stack = link.stack.as_ref().map(|stack| format!("{stack}/")).unwrap_or_default();
        let label = format!("{}{stack}{}", crate::balancer::TARGET, link.target);
        let known = definition.get("labels").and_then(|labels| labels[label.as_str()].as_str());
        if !known.is_some_and(|known| known.split(',').map(str::trim).eq(link.ports.iter().map(String::as_str))) {
            more.insert(label, link.ports.join(",").into());
        }
    }
    if !more.is_empty() {
        let labels = definition.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.extend(more);
        }
    }
    if api["assignServiceIpAddress"] == true {
        definition.insert("deploy".to_owned(), json!({"endpoint_mode": "vip"}));
    }
}

/// Names of volumes, declared so that they stay what they are.
fn named_volumes(definition: &Map<String, Json>, volumes: &mut Map<String, Json>) {
    for text in definition.get("volumes").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
        if let Some((name, _)) = text.split_once(':').filter(|(name, _)| !name.starts_with('/')) {
            volumes.insert(name.to_owned(), json!({"name": name}));
        }
    }
}

/// `camelCase` members to `snake_case`, empty ones left out.
fn snake(value: &Json) -> Json {
    let Json::Object(members) = value else { return value.clone() };
    let members = members.iter().filter(|(_, value)| !is_empty(value)).map(|(key, value)| {
        let mut name = String::with_capacity(key.len() + 4);
        for letter in key.chars() {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        (name, snake(value))
    });
    Json::Object(members.collect())
}
