//! `POST /v1/scripts/transform`: what `docker inspect` says, as the fields of a container. Old compose clients build an
//! inspect document from a compose service and have it turned round here (`compose.md` §1, `resources.md` §6.10).

use remuda_model::image;
use remuda_schema::row::Object;
use remuda_schema::{ApiError, Code};
use serde_json::{Map, Value, json};

/// The container fields of an inspect document.
pub fn container(inspect: &Object) -> Result<Object, ApiError> {
    let empty = Map::new();
    let config = inspect.get("Config").and_then(Value::as_object).unwrap_or(&empty);
    let host = inspect.get("HostConfig").and_then(Value::as_object).unwrap_or(&empty);
    let either = |name: &str| meant(host.get(name)).or_else(|| meant(config.get(name)));
    let mut fields = Object::new();
    let mut set = |name: &str, value: Option<Value>| {
        fields.insert(name.to_owned(), value.unwrap_or(Value::Null));
    };
    let image = inspect.get("Config").and_then(|config| config.get("Image")).and_then(Value::as_str);
    set("kind", Some("container".into()));
    set("name", text(inspect.get("Name")).map(|name| name.trim_start_matches('/').into()));
    set("externalId", text(inspect.get("Id")).map(Value::from));
    set("imageUuid", image.filter(|image| !image.is_empty()).map(|image| image::uuid_of(image).into()));
    set("networkMode", Some(network_mode(config, host)?.into()));
    set("command", strings(config.get("Cmd")));
    set("entryPoint", strings(config.get("Entrypoint")));
    set("environment", Some(Value::Object(environment(config.get("Env")))));
    set("labels", Some(Value::Object(labels(config.get("Labels")))));
    set("hostname", text(config.get("Hostname")).map(Value::from));
    set("domainName", text(config.get("Domainname")).map(Value::from));
    set("user", text(config.get("User")).map(Value::from));
    set("workingDir", text(config.get("WorkingDir")).map(Value::from));
    set("tty", Some(truth(config.get("Tty"))));
    set("stdinOpen", Some(truth(config.get("OpenStdin"))));
    set("memory", either("Memory"));
    set("memorySwap", either("MemorySwap"));
    set("cpuShares", either("CpuShares"));
    set("cpuSet", either("CpusetCpus").or_else(|| either("CpuSet")).or_else(|| either("Cpuset")));
    set("privileged", Some(truth(host.get("Privileged"))));
    set("publishAllPorts", Some(truth(host.get("PublishAllPorts"))));
    set("readOnly", Some(truth(host.get("ReadonlyRootfs"))));
    set("pidMode", text(host.get("PidMode")).filter(|mode| *mode == "host").map(Value::from));
    set("capAdd", strings(host.get("CapAdd")));
    set("capDrop", strings(host.get("CapDrop")));
    set("dns", strings(host.get("Dns")));
    set("dnsSearch", strings(host.get("DnsSearch")));
    set("extraHosts", strings(host.get("ExtraHosts")));
    set("securityOpt", strings(host.get("SecurityOpt")));
    set("volumeDriver", either("VolumeDriver"));
    set("devices", devices(host.get("Devices")));
    set("dataVolumes", data_volumes(config, host));
    let (ports, expose) = ports(config, host);
    set("ports", ports);
    set("expose", expose);
    set("restartPolicy", restart_policy(host.get("RestartPolicy")));
    // Never null: newer compose clients and the command line read its members without looking.
    let log = host.get("LogConfig").and_then(Value::as_object).unwrap_or(&empty);
    let options = log.get("Config").and_then(Value::as_object).cloned().unwrap_or_default();
    set("logConfig", Some(json!({ "type": "logConfig", "driver": text(log.get("Type")), "config": options })));
    Ok(fields)
}

/// Empty text, zero and null mean nothing.
fn meant(value: Option<&Value>) -> Option<Value> {
    value.filter(|value| !value.is_null() && **value != "" && value.as_f64() != Some(0.0)).cloned()
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn truth(value: Option<&Value>) -> Value {
    Value::Bool(value.and_then(Value::as_bool).unwrap_or(false))
}

fn strings(value: Option<&Value>) -> Option<Value> {
    let values: Vec<Value> = match value {
        Some(Value::Array(values)) => values.iter().filter(|value| value.is_string()).cloned().collect(),
        Some(Value::String(one)) if !one.is_empty() => vec![Value::from(one.as_str())],
        _ => Vec::new(),
    };
    (!values.is_empty()).then_some(Value::Array(values))
}

fn network_mode(config: &Object, host: &Object) -> Result<&'static str, ApiError> {
    if config.get("NetworkDisabled").and_then(Value::as_bool) == Some(true) {
        return Ok("none");
    }
    match text(host.get("NetworkMode")) {
        None | Some("default" | "bridge") => Ok("bridge"),
        Some("host") => Ok("host"),
        Some("none") => Ok("none"),
        Some("managed") => Ok("managed"),
        Some(_) => Err(ApiError::field(Code::InvalidOption, "networkMode")),
    }
}

fn environment(value: Option<&Value>) -> Object {
    let entries = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    entries.map(|entry| entry.split_once('=').unwrap_or((entry, ""))).map(|(k, v)| (k.to_owned(), v.into())).collect()
}

fn labels(value: Option<&Value>) -> Object {
    let labels = value.and_then(Value::as_object).into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().into())).collect()
}

fn devices(value: Option<&Value>) -> Option<Value> {
    let spelled: Vec<Value> = value?
        .as_array()?
        .iter()
        .filter_map(|device| {
            let on_host = text(device.get("PathOnHost"))?;
            let inside = text(device.get("PathInContainer")).unwrap_or(on_host);
            let permissions = text(device.get("CgroupPermissions")).unwrap_or("rwm");
            Some(format!("{on_host}:{inside}:{permissions}").into())
        })
        .collect();
    (!spelled.is_empty()).then_some(Value::Array(spelled))
}

fn data_volumes(config: &Object, host: &Object) -> Option<Value> {
    let binds = host.get("Binds").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let binds: Vec<String> = binds.map(str::to_owned).collect();
    let anonymous =
        config.get("Volumes").and_then(Value::as_object).into_iter().flatten().map(|(path, _)| path.clone());
    let is_bound = |path: &String| binds.iter().any(|bind| bind.split(':').nth(1) == Some(path));
    let mut all: Vec<String> = anonymous.filter(|path| !is_bound(path)).collect();
    // As the original put them: anonymous ones first (`compose.md` §4).
    all.extend(binds.iter().cloned());
    let all: Vec<Value> = all.into_iter().map(Value::from).collect();
    (!all.is_empty()).then_some(Value::Array(all))
}

/// Published ports, and those that are only exposed.
fn ports(config: &Object, host: &Object) -> (Option<Value>, Option<Value>) {
    let bindings = host.get("PortBindings").and_then(Value::as_object);
    let mut published = Vec::new();
    for (port, bound) in bindings.into_iter().flatten() {
        let bound = bound.as_array().filter(|bound| !bound.is_empty());
        for binding in bound.into_iter().flatten() {
            let ip = text(binding.get("HostIp")).filter(|ip| *ip != "0.0.0.0");
            let public = text(binding.get("HostPort"));
            published.push(Value::from(match (ip, public) {
                (Some(ip), Some(public)) => format!("{ip}:{public}:{port}"),
                (None, Some(public)) => format!("{public}:{port}"),
                _ => port.clone(),
            }));
        }
        if bound.is_none() {
            published.push(port.clone().into());
        }
    }
    let is_published = |port: &String| bindings.is_some_and(|bindings| bindings.contains_key(port));
    let exposed = config.get("ExposedPorts").and_then(Value::as_object).into_iter().flatten();
    let exposed: Vec<Value> =
        exposed.map(|(port, _)| port).filter(|port| !is_published(port)).map(|port| port.clone().into()).collect();
    let some = |values: Vec<Value>| (!values.is_empty()).then_some(Value::Array(values));
    (some(published), some(exposed))
}

fn restart_policy(value: Option<&Value>) -> Option<Value> {
    let name = text(value?.get("Name"))?;
    let tries = value?.get("MaximumRetryCount").and_then(Value::as_i64).unwrap_or(0);
    Some(json!({ "type": "restartPolicy", "name": name, "maximumRetryCount": tries }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn an_inspect_document_becomes_a_container() {
        let found = container(&object(json!({
            "Name": "/web", "Id": "abc",
            "Config": {"Image": "nginx:1", "Cmd": ["a", "b"], "Env": ["A=1=2", "B"], "Labels": {"x": null, "y": "z"},
                       "Memory": 1, "Hostname": "", "Tty": true, "Volumes": {"/data": {}, "/b": {}},
                       "ExposedPorts": {"80/tcp": {}, "90/tcp": {}}},
            "HostConfig": {"Memory": 5, "CpuShares": 0, "Binds": ["/a:/b:ro"], "RestartPolicy": {"Name": "always"},
                           "Devices": [{"PathOnHost": "/dev/x"}],
                           "PortBindings": {"80/tcp": [{"HostPort": "8080"}, {"HostIp": "1.2.3.4", "HostPort": "81"}]}},
        })))
        .expect("a container");
        let expected = [
            ("name", json!("web")),
            ("imageUuid", json!("docker:nginx:1")),
            ("networkMode", json!("bridge")),
            ("environment", json!({"A": "1=2", "B": ""})),
            ("labels", json!({"x": "", "y": "z"})),
            ("memory", json!(5)),
            ("cpuShares", Value::Null),
            ("hostname", Value::Null),
            ("tty", json!(true)),
            ("dataVolumes", json!(["/data", "/a:/b:ro"])),
            ("ports", json!(["8080:80/tcp", "1.2.3.4:81:80/tcp"])),
            ("expose", json!(["90/tcp"])),
            ("devices", json!(["/dev/x:/dev/x:rwm"])),
            ("logConfig", json!({"type": "logConfig", "driver": null, "config": {}})),
            ("restartPolicy", json!({"type": "restartPolicy", "name": "always", "maximumRetryCount": 0})),
        ];
        for (name, value) in expected {
            assert_eq!(found.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn network_modes_of_other_containers_are_refused() {
        for mode in ["container:abc", "mynet"] {
            let error = container(&object(json!({"HostConfig": {"NetworkMode": mode}}))).expect_err("refused");
            assert_eq!((error.code, error.field.as_deref()), (Code::InvalidOption, Some("networkMode")));
        }
        let none = container(&object(json!({"Config": {"NetworkDisabled": true}}))).expect("a container");
        assert_eq!(none["networkMode"], "none");
    }
}
