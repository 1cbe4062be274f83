//! The hashes that tell whether a service is what its file says (`compose.md` §9).

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json, json};

/// Label and metadata key that holds a hash.
pub const HASH_KEY: &str = "io.rancher.service.hash";
/// Hashes of ours begin with this; others came from other tools and are not compared.
pub const HASH_PREFIX: &str = "r1-";

/// Members of a service that are never part of its hash: what changes on its own, or has its own way of being applied.
/// Deeper down these words are names that people chose: of variables, labels, metadata.
const SKIPPED: &[&str] = &["links", "scale", "selectorContainer", "selectorLink", "environmentId"];

/// Hash of a service or of a launch config.
pub fn of(part: &Map<String, Json>) -> String {
    let mut canonical = Vec::new();
    write_members(part.iter().filter(|(key, _)| !SKIPPED.contains(&key.as_str())), &mut canonical);
    format!("{HASH_PREFIX}{}", &hex(&canonical)[..40])
}

/// SHA-256 in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The canonical form, as text; two values are the same when these are.
pub fn canonical(value: &Json) -> String {
    let mut out = Vec::new();
    write(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether a value says nothing: null, false, or empty.
pub fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.iter().all(|(key, value)| key == HASH_KEY || is_empty(value)),
        Json::Bool(true) | Json::Number(_) => false,
    }
}

/// JSON with sorted keys; members that say nothing are left out.
fn write(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Object(members) => write_members(members.iter(), out),
        Json::Array(items) => {
            out.push(b'[');
            for item in items {
                write(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

fn write_members<'a>(members: impl Iterator<Item = (&'a String, &'a Json)>, out: &mut Vec<u8>) {
    let sorted: BTreeMap<&String, &Json> =
        members.filter(|(key, value)| *key != HASH_KEY && !is_empty(value)).collect();
    out.push(b'{');
    for (key, value) in sorted {
        out.extend_from_slice(Json::String(key.clone()).to_string().as_bytes());
        out.push(b':');
        write(value, out);
        out.push(b',');
    }
    out.push(b'}');
}

/// The hashes of a create input: of the service, and of each launch config under its name (the primary's is that of the
/// service).
pub fn all(name: &str, api: &Map<String, Json>, certificates: &Json) -> (String, BTreeMap<String, String>) {
    let mut own = api.clone();
    let primary = own.remove("launchConfig");
    let secondaries = own.remove("secondaryLaunchConfigs");
    own.insert("certificates".to_owned(), certificates.clone());
    let mut configs = BTreeMap::new();
    configs.extend(primary.as_ref().and_then(Json::as_object).map(|config| (name.to_owned(), of(config))));
    let secondaries = secondaries.as_ref().and_then(Json::as_array).into_iter().flatten();
    for config in secondaries.filter_map(Json::as_object) {
        let name = config.get("name").and_then(Json::as_str).unwrap_or_default();
        configs.insert(name.to_owned(), of(config));
    }
    (of(&own), configs)
}

/// Writes the hashes where they are looked for: metadata, labels of the launch config, labels of each secondary.
pub fn seal(name: &str, api: &mut Map<String, Json>, certificates: &Json) -> (String, BTreeMap<String, String>) {
    let (hash, configs) = all(name, api, certificates);
    let put = |config: &mut Json, name: &str| {
        if let (Some(hash), Some(config)) = (configs.get(name), config.as_object_mut()) {
            let labels = config.entry("labels").or_insert_with(|| json!({}));
            labels[HASH_KEY] = hash.clone().into();
        }
    };
    if let Some(config) = api.get_mut("launchConfig") {
        put(config, name);
    }
    if let Some(Json::Array(secondaries)) = api.get_mut("secondaryLaunchConfigs") {
        for config in secondaries {
            let name = config["name"].as_str().unwrap_or_default().to_owned();
            put(config, &name);
        }
    }
    let metadata = api.entry("metadata").or_insert_with(|| json!({}));
    metadata[HASH_KEY] = hash.clone().into();
    (hash, configs)
}
