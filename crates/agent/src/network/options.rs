//! The engine's network as we want it, per engine version, and whether an existing one is that.

use remuda_wire::plan::NetworkPlan;
use serde_json::{Map, Value, json};

use super::Problem;
use super::routes::Subnet;

/// Label on the engine's network: it is ours.
pub const LABEL: &str = "io.remuda.network";
const MTU: &str = "com.docker.network.driver.mtu";

/// What is asked of Docker's bridge driver, with the major version of the engine that first needs it. An option that an
/// older engine does not know would be kept by it without effect, so nothing is asked of those.
const BY_VERSION: [(u32, &str, &str); 3] = [
    // Docker would rewrite sources that enter the tunnel to other hosts: masquerading is ours.
    (0, "com.docker.network.bridge.enable_ip_masquerade", "false"),
    (0, "com.docker.network.bridge.enable_icc", "true"),
    // From 28 on Docker drops, in the raw table, whatever reaches a container from another interface than its bridge.
    (28, "com.docker.network.bridge.gateway_mode_ipv4", "nat-unprotected"),
];
/// Engines from here on find duplicates by themselves and do not know the order to (API 1.44).
const FINDS_DUPLICATES: u32 = 25;

/// The options of Docker's bridge driver for that engine version. A version that does not read is taken for an old one.
pub fn driver_options(version: &str, bridge: &str, mtu: u32) -> Vec<(&'static str, String)> {
    let major = major(version).unwrap_or(0);
    let asked = BY_VERSION.iter().filter(|(from, ..)| *from <= major);
    let mut options = vec![("com.docker.network.bridge.name", bridge.to_owned())];
    options.extend(asked.map(|(_, name, value)| (*name, (*value).to_owned())));
    if mtu > 0 {
        options.push((MTU, mtu.to_string()));
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
    let mut body = json!({
        "Name": name,
        "Driver": "bridge",
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Config": [{"Subnet": subnet.to_string(), "IPRange": far_end.to_string(), "Gateway": plan.gateway}],
        },
        "Options": options,
        "Labels": {LABEL: "managed"},
    });
    if major(version).is_none_or(|major| major < FINDS_DUPLICATES) {
        body["CheckDuplicate"] = json!(true);
    }
    Ok(body)
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

/// Another MTU is no reason to keep containers from starting: it changes when nobody uses the network.
pub fn is_tolerable(existing: &Value, body: &Value) -> bool {
    let mut same_mtu = existing.clone();
    same_mtu["Options"][MTU] = body["Options"][MTU].clone();
    difference(&same_mtu, body).is_none()
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
        NetworkPlan { subnet: "10.42.0.0/16".into(), gateway: "10.42.0.1".into(), mtu: 1402, ..NetworkPlan::default() }
    }

    /// Each engine since the first that we serve. Only 20.10 was run here; the others are what their release notes and
    /// documentation say.
    #[test]
    fn options_follow_the_engine_version() {
        let common = "name=remuda0 enable_ip_masquerade=false enable_icc=true";
        let unprotected = "gateway_mode_ipv4=nat-unprotected";
        for (version, unprotects, checks) in [
            ("20.10.24+dfsg1", false, true),
            ("23.0.6", false, true),
            ("24.0.9", false, true),
            ("25.0.5", false, false),
            ("26.1.4", false, false),
            ("27.5.1", false, false),
            ("28.0.0", true, false),
            ("28.5.2", true, false),
            ("29.1.0-rc.1", true, false),
            ("v29.0.0", true, false),
            ("odd", false, true),
        ] {
            let short = |name: &str| name.rsplit('.').next().unwrap().to_owned();
            let options = driver_options(version, "remuda0", 1402);
            let told: Vec<String> = options.iter().map(|(name, value)| format!("{}={value}", short(name))).collect();
            let expected = [common, if unprotects { unprotected } else { "" }, "mtu=1402"].join(" ").replace("  ", " ");
            assert_eq!(told.join(" "), expected, "{version}");
            let body = create_body("remuda", "remuda0", version, &plan()).unwrap();
            assert_eq!(body.get("CheckDuplicate").is_some(), checks, "{version}");
        }
    }

    #[test]
    fn another_mtu_alone_is_tolerated() {
        let body = create_body("remuda", "remuda0", "20.10.24", &plan()).unwrap();
        let mut existing = body.clone();
        existing["Options"][MTU] = json!("1420");
        assert!(difference(&existing, &body).is_some() && is_tolerable(&existing, &body));
        existing["Options"]["com.docker.network.bridge.enable_ip_masquerade"] = json!("true");
        assert!(!is_tolerable(&existing, &body));
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
