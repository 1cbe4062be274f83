//! The engine's network as we want it, per engine version, and whether an existing one is that.

use remuda_wire::plan::NetworkPlan;
use serde_json::{Map, Value, json};

use super::Problem;
use super::routes::Subnet;

/// Label on the engine's network: it is ours.
pub const LABEL: &str = "io.remuda.network";

/// The options of Docker's bridge driver for that engine version. Masquerading is ours (Docker would rewrite sources
/// that enter the tunnel to other hosts).
pub fn driver_options(version: &str, bridge: &str, mtu: u32) -> Vec<(&'static str, String)> {
    let mut options = vec![
        ("com.docker.network.bridge.name", bridge.to_owned()),
        ("com.docker.network.bridge.enable_ip_masquerade", "false".to_owned()),
        ("com.docker.network.bridge.enable_icc", "true".to_owned()),
    ];
    if mtu > 0 {
        options.push(("com.docker.network.driver.mtu", mtu.to_string()));
    }
    // From 28 on Docker drops, in the raw table, whatever reaches a container from another interface than its bridge.
    if major(version).is_some_and(|major| major >= 28) {
        options.push(("com.docker.network.bridge.gateway_mode_ipv4", "nat-unprotected".to_owned()));
    }
    options
}

fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

/// Body of `POST /networks/create`.
pub fn create_body(name: &str, bridge: &str, version: &str, plan: &NetworkPlan) -> Result<Value, Problem> {
    let subnet: Subnet =
        plan.subnet.parse().map_err(|error| Problem::new(format!("the plan's network is wrong: {error}")))?;
    let far_end = subnet
        .far_end()
        .ok_or_else(|| Problem::new(format!("the managed network {subnet} is too small; use /28 or larger")))?;
    let options: Map<String, Value> = driver_options(version, bridge, plan.mtu)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect();
    Ok(json!({
        "Name": name,
        "Driver": "bridge",
        "EnableIPv6": false,
        "CheckDuplicate": true,
        "IPAM": {
            "Driver": "default",
            "Config": [{"Subnet": subnet.to_string(), "IPRange": far_end.to_string(), "Gateway": plan.gateway}],
        },
        "Options": options,
        "Labels": {LABEL: "managed"},
    }))
}

/// How an existing network (the inspect answer) differs from what `body` would create; `None`: not at all.
pub fn difference(existing: &Value, body: &Value) -> Option<String> {
    let subnet = |network: &Value| network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap_or("none").to_owned();
    if subnet(existing) != subnet(body) {
        return Some(format!("its subnet is {} instead of {}", subnet(existing), subnet(body)));
    }
    let wanted = body["Options"].as_object()?;
    let differing = wanted.iter().find(|(name, value)| existing["Options"].get(name.as_str()) != Some(value));
    differing.map(|(name, value)| {
        let found = existing["Options"].get(name).and_then(Value::as_str).unwrap_or("unset");
        format!("its option {name} is {found} instead of {}", value.as_str().unwrap_or_default())
    })
}

/// Names of the containers attached to the network.
pub fn attached(existing: &Value) -> Vec<String> {
    let containers = existing["Containers"].as_object();
    containers.into_iter().flatten().map(|(id, found)| found["Name"].as_str().unwrap_or(id).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> NetworkPlan {
        NetworkPlan { subnet: "10.42.0.0/16".into(), gateway: "10.42.0.1".into(), mtu: 1402 }
    }

    #[test]
    fn options_follow_the_engine_version() {
        let cases = [("20.10.24", false), ("27.5.1", false), ("28.0.0", true), ("29.1.0-rc.1", true), ("odd", false)];
        for (version, expected) in cases {
            let options = driver_options(version, "remuda0", 1402);
            let has =
                options.iter().any(|(name, value)| name.ends_with("gateway_mode_ipv4") && value == "nat-unprotected");
            assert_eq!(has, expected, "{version}");
            assert!(options.contains(&("com.docker.network.bridge.enable_ip_masquerade", "false".to_owned())));
            assert!(options.contains(&("com.docker.network.driver.mtu", "1402".to_owned())));
        }
    }

    #[test]
    fn the_body_keeps_the_engines_range_off_ours() {
        let body = create_body("remuda", "remuda0", "20.10.24", &plan()).unwrap();
        let expected = json!({"Subnet": "10.42.0.0/16", "IPRange": "10.42.255.252/30", "Gateway": "10.42.0.1"});
        assert_eq!(body["IPAM"]["Config"][0], expected);
        for subnet in ["10.42.0.0/30", "rubbish"] {
            let plan = NetworkPlan { subnet: subnet.into(), ..plan() };
            assert!(create_body("remuda", "remuda0", "20.10.24", &plan).is_err());
        }
    }

    #[test]
    fn an_existing_network_is_compared() {
        let body = create_body("remuda", "remuda0", "20.10.24", &plan()).unwrap();
        let mut existing = body.clone();
        existing["Options"]["extra"] = json!("ignored");
        existing["Containers"] = json!({"abc": {"Name": "r-web"}, "def": {}});
        assert_eq!(difference(&existing, &body), None);
        assert_eq!(attached(&existing), ["r-web", "def"]);
        existing["Options"]["com.docker.network.driver.mtu"] = json!("1500");
        assert_eq!(
            difference(&existing, &body).unwrap(),
            "its option com.docker.network.driver.mtu is 1500 instead of 1402"
        );
        existing["IPAM"] = json!({});
        assert_eq!(difference(&existing, &body).unwrap(), "its subnet is none instead of 10.42.0.0/16");
    }
}
