//! Reads Docker's inspect answer into an observation, tolerantly: what is missing or unknown is left out, never an
//! error, because one odd container must not hide the others.

use std::collections::BTreeMap;

use remuda_wire::observe::{ContainerObserved, MountObserved, PortObserved, Status};
use serde_json::Value;

/// Label that carries a container's identity.
pub const UUID_LABEL: &str = "io.rancher.container.uuid";

/// A container as the engine has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub docker_id: String,
    /// Without the leading slash.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub status: Status,
    pub exit_code: Option<i64>,
    pub oom_killed: bool,
    pub error: Option<String>,
    /// `None`: never started.
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub tty: bool,
    /// What the engine's own health check says, if it makes one.
    pub engine_health: Option<String>,
    pub docker_ip: Option<String>,
    pub ports: Vec<PortObserved>,
    pub mounts: Vec<MountObserved>,
}

impl Container {
    /// Our label's value.
    pub fn uuid(&self) -> Option<&str> {
        self.labels.get(UUID_LABEL).map(String::as_str)
    }

    /// What the server hears of it; the caller adds what only the agent knows.
    pub fn observed(&self) -> ContainerObserved {
        ContainerObserved {
            uuid: self.uuid().map(str::to_owned),
            docker_id: self.docker_id.clone(),
            status: self.status,
            exit_code: self.exit_code,
            oom_killed: self.oom_killed,
            error: self.error.clone(),
            started_at: self.started_at,
            finished_at: self.finished_at,
            engine_health: self.engine_health.clone(),
            docker_ip: self.docker_ip.clone(),
            ports: self.ports.clone(),
            mounts: self.mounts.clone(),
            ..ContainerObserved::default()
        }
    }
}

/// Reads an inspect answer. `None` only when it has no id.
pub fn read(answer: &Value) -> Option<Container> {
    let state = &answer["State"];
    let status = status(state);
    let ended = matches!(status, Status::Exited | Status::Dead);
    Some(Container {
        docker_id: answer["Id"].as_str().filter(|id| !id.is_empty())?.to_owned(),
        name: answer["Name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: strings(&answer["Config"]["Labels"]),
        status,
        exit_code: state["ExitCode"].as_i64().filter(|_| ended),
        oom_killed: state["OOMKilled"].as_bool().unwrap_or(false),
        error: state["Error"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
        started_at: time_ms(&state["StartedAt"]),
        finished_at: time_ms(&state["FinishedAt"]).filter(|_| ended),
        tty: answer["Config"]["Tty"].as_bool().unwrap_or(false),
        engine_health: state["Health"]["Status"].as_str().filter(|word| *word != "none").map(str::to_owned),
        docker_ip: docker_ip(&answer["NetworkSettings"]),
        ports: ports(&answer["NetworkSettings"]["Ports"]),
        mounts: answer["Mounts"].as_array().map(|mounts| mounts.iter().map(mount).collect()).unwrap_or_default(),
    })
}

/// A map of strings; other values are left out.
pub fn strings(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn status(state: &Value) -> Status {
    let flag = |name: &str| state[name].as_bool().unwrap_or(false);
    match state["Status"].as_str() {
        Some("running") => Status::Running,
        Some("paused") => Status::Paused,
        Some("restarting") => Status::Restarting,
        Some("created") => Status::Created,
        Some("dead") => Status::Dead,
        Some("exited" | "removing") => Status::Exited,
        // A word we do not know: the flags say whether a process is there.
        _ if flag("Paused") => Status::Paused,
        _ if flag("Restarting") => Status::Restarting,
        _ if flag("Running") => Status::Running,
        _ => Status::Exited,
    }
}

/// Docker's year 1 means "never".
fn time_ms(value: &Value) -> Option<i64> {
    let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(time.as_millisecond()).filter(|ms| *ms > 0)
}

fn docker_ip(settings: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    text(&settings["IPAddress"]).or_else(|| {
        let networks = settings["Networks"].as_object()?;
        networks.values().find_map(|network| text(&network["IPAddress"]))
    })
}

fn ports(ports: &Value) -> Vec<PortObserved> {
    let mut found = Vec::new();
    for (key, bindings) in ports.as_object().into_iter().flatten() {
        let (private, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        let Ok(private) = private.parse() else { continue };
        let plain = PortObserved { bind_address: String::new(), public: None, private, protocol: protocol.to_owned() };
        let bindings = bindings.as_array().map(Vec::as_slice).unwrap_or_default();
        if bindings.is_empty() {
            found.push(plain);
            continue;
        }
        found.extend(bindings.iter().map(|binding| PortObserved {
            bind_address: binding["HostIp"].as_str().unwrap_or_default().to_owned(),
            public: binding["HostPort"].as_str().and_then(|port| port.parse().ok()),
            ..plain.clone()
        }));
    }
    found
}

fn mount(value: &Value) -> MountObserved {
    let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    MountObserved {
        name: text("Name"),
        driver: text("Driver"),
        source: text("Source").unwrap_or_default(),
        path: text("Destination").unwrap_or_default(),
        read_only: !value["RW"].as_bool().unwrap_or(true),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_running_container_reads_whole() {
        let container = read(&json!({
            "Id": "abc", "Name": "/r-web",
            "State": {"Status": "running", "Running": true, "ExitCode": 0, "Error": "", "OOMKilled": false,
                "StartedAt": "2026-11-23T10:00:00.5Z", "FinishedAt": "0001-01-01T00:00:00Z"},
            "Config": {"Labels": {"io.rancher.container.uuid": "u1"}, "Tty": true},
            "NetworkSettings": {"IPAddress": "172.17.0.2", "Ports": {
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": null}},
            "Mounts": [{"Type": "volume", "Name": "data", "Driver": "local", "Source": "/v", "Destination": "/d", "RW": false}],
        }))
        .expect("reads");
        assert_eq!(container.uuid(), Some("u1"));
        assert_eq!((container.status, container.exit_code, container.tty), (Status::Running, None, true));
        assert_eq!((container.started_at, container.finished_at), (Some(1_795_428_000_500), None));
        let port = |public, private, protocol: &str, bind: &str| PortObserved {
            bind_address: bind.into(),
            public,
            private,
            protocol: protocol.into(),
        };
        assert_eq!(container.ports, [port(None, 53, "udp", ""), port(Some(8080), 80, "tcp", "0.0.0.0")]);
        assert!(container.mounts[0].read_only);
    }

    #[test]
    fn odd_answers_are_read_as_far_as_they_go() {
        let check = |state: Value, expected: Status| {
            let answer = json!({"Id": "a", "State": state, "Mounts": [{"Type": "hologram"}, 7], "Config": null});
            assert_eq!(read(&answer).expect("has an id").status, expected);
        };
        check(json!({"Status": "levitating", "Running": true}), Status::Running);
        check(json!({"Status": "levitating"}), Status::Exited);
        check(json!({"Status": "removing"}), Status::Exited);
        check(json!(null), Status::Exited);
        assert_eq!(read(&json!({"Name": "x"})), None);
        assert_eq!(read(&json!([])), None);
    }
}
