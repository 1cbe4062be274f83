//! The Docker engine of this machine: `--build=local` and `--build=push`, and the question whether a host is this machine.

use remuda_client::engine::{self, Call, Upload};
use remuda_client::{Method, Resource};
use remuda_compose::Build;
use serde_json::{Value, json};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

use crate::commands::images::encoded;
use crate::failure::{Failure, exit};
use crate::session::{Session, environment};
use crate::{context, items};

const USUAL: &str = "unix:///var/run/docker.sock";

/// Where Docker's own command line would look.
pub fn address() -> String {
    environment("DOCKER_HOST").filter(|address| !address.is_empty()).unwrap_or_else(|| USUAL.to_owned())
}

/// Whether an engine runs on the machine the command line runs on, as far as its address tells.
pub fn is_here(address: &str) -> bool {
    address.starts_with("unix://")
}

async fn call(call: Call, watch: impl FnMut(&Value)) -> Result<(), Failure> {
    engine::call(&address(), call, watch).await.map_err(|message| Failure::new(exit::FAILED, message))
}

/// The id of an engine, by whatever reaches it; each has its own.
fn id_in(found: &mut Option<String>) -> impl FnMut(&Value) + '_ {
    |info| *found = info["ID"].as_str().filter(|id| !id.is_empty()).map(str::to_owned).or(found.take())
}

fn info() -> Call {
    Call::bare(Method::GET, "/info".to_owned())
}

/// Names of the hosts among these whose engine is another one than ours. An engine of ours that does not answer is an
/// error; so is a host that does not.
pub async fn others<'h>(session: &Session, hosts: &'h [Resource]) -> Result<Vec<&'h str>, Failure> {
    let mut ours = None;
    call(info(), id_in(&mut ours)).await?;
    let mut others = Vec::new();
    for host in hosts {
        let mut theirs = None;
        session.client.engine(host, info(), id_in(&mut theirs)).await?;
        if ours.is_none() || theirs != ours {
            others.push(items::host_name(host));
        }
    }
    Ok(others)
}

/// Builds on the engine of this machine.
pub async fn build(session: &Session, build: &Build, image: &str) -> Result<(), Failure> {
    let title = format!("this machine {image}");
    session.progress.say(&title, "building", None);
    let watch = |line: &Value| {
        if let Some(said) = line["stream"].as_str().map(str::trim).filter(|said| !said.is_empty()) {
            session.progress.say(&title, "building", Some(said));
        }
    };
    let path = context::build_path(build, image, false);
    let outcome = call(Call::tar(path, Upload::from(context::tar(build))), watch).await;
    let phase = outcome.as_ref().map_or_else(|failure| failure.message.clone(), |()| "built".to_owned());
    session.progress.done(&title, &phase, outcome.is_ok());
    outcome.map_err(|failure| failure.hint(format!("the context was {}", build.directory)))
}

/// Pushes an image from the engine of this machine, with what `docker login` left for its registry.
pub async fn push(session: &Session, image: &str) -> Result<(), Failure> {
    let title = format!("this machine {image}");
    session.progress.say(&title, "pushing", None);
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match image[last..].rfind(':') {
        Some(colon) => (&image[..last + colon], &image[last + colon + 1..]),
        None => (image, "latest"),
    };
    let path = format!("/images/{name}/push?tag={}", encoded(tag));
    let registry = image.split_once('/').map(|(registry, _)| registry).unwrap_or_default();
    let registry_auth = Some(registry_auth(&docker_config(), registry));
    let call_push = Call { registry_auth, ..Call::bare(Method::POST, path) };
    let watch = |line: &Value| {
        if let Some(said) = line["status"].as_str() {
            session.progress.say(&title, "pushing", Some(said));
        }
    };
    let outcome = call(call_push, watch).await;
    let phase = outcome.as_ref().map_or_else(|failure| failure.message.clone(), |()| "pushed".to_owned());
    session.progress.done(&title, &phase, outcome.is_ok());
    outcome
}

/// Docker's own configuration; nothing when there is none that reads.
fn docker_config() -> Value {
    let directory = environment("DOCKER_CONFIG").map(std::path::PathBuf::from);
    let directory = directory.or_else(|| environment("HOME").map(|home| std::path::Path::new(&home).join(".docker")));
    let text = directory.and_then(|directory| std::fs::read_to_string(directory.join("config.json")).ok());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The header of a push: the engine wants one, even if it says nothing.
fn registry_auth(config: &Value, registry: &str) -> String {
    let entry = &config["auths"][registry];
    let decoded = entry["auth"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let said = match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, password)) => json!({"username": user, "password": password, "serveraddress": registry}),
        None => json!({}),
    };
    BASE64_URL_SAFE.encode(said.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_takes_what_docker_login_left() {
        let config = json!({"auths": {"reg:5000": {"auth": BASE64_STANDARD.encode("me:a:b")}}});
        let read = |registry: &str| {
            let text = BASE64_URL_SAFE.decode(registry_auth(&config, registry)).expect("base64");
            serde_json::from_slice::<Value>(&text).expect("JSON")
        };
        assert_eq!(read("reg:5000"), json!({"username": "me", "password": "a:b", "serveraddress": "reg:5000"}));
        assert_eq!(read("other"), json!({}));
    }

    #[test]
    fn only_a_socket_is_surely_here() {
        assert!(is_here(USUAL));
        assert!(!is_here("tcp://10.0.0.1:2375"));
    }
}
