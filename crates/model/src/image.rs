//! The image row of a container, and how image references are read (`resources.md` §6.3).

use std::fmt;

use remuda_schema::{ApiError, Code, Resource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::machines;

/// The image of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "image", machine = machines::DEFAULT, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(activate, output = "image")]
#[action(create, output = "image")]
#[action(deactivate, output = "image")]
#[action(purge, output = "image")]
#[action(remove, output = "image")]
#[action(restore, output = "image")]
#[action(update, output = "image")]
#[extra_filters(
    checksum = "string",
    format = "string",
    instanceKind = "string",
    isPublic = "enum",
    physicalSizeMb = "int",
    registryCredentialId = "enum",
    url = "string",
    virtualSizeMb = "int"
)]
#[relation(instances, children(of = "instance", by = "imageId"))]
#[relation(volumes, children(of = "volume", by = "imageId"))]
pub struct Image {
    /// The parsed reference.
    #[field(hidden)]
    pub docker_image: Option<Value>,
}

/// What `imageUuid` says for an image as people name it: Docker's, unless it says whose it is.
pub fn uuid_of(name: &str) -> String {
    let is_full = name.starts_with("docker:") || name.starts_with("sim:");
    if is_full { name.to_owned() } else { format!("docker:{name}") }
}

/// An image as `imageUuid` names it: `docker:[registry/][namespace/]repository[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    pub engine: ImageEngine,
    /// Host and port; `None` is Docker Hub.
    pub registry: Option<String>,
    pub namespace: Option<String>,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

/// Which engine runs the image: the prefix of `imageUuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageEngine {
    Docker,
    /// The simulated engine.
    Sim,
}

/// Name of Docker Hub where a registry is asked for.
pub const DEFAULT_REGISTRY: &str = "index.docker.io";

/// The longest text that is looked at: the column it is stored in, with room for a digest.
const MAX_LENGTH: usize = 1024;

impl ImageReference {
    /// Reads an `imageUuid`.
    pub fn parse(image_uuid: &str) -> Result<ImageReference, ApiError> {
        parse(image_uuid).ok_or_else(|| {
            ApiError::field(Code::InvalidReference, "imageUuid")
                .because(format!("`{image_uuid}` is not an image like `docker:nginx:1.27`"))
        })
    }

    /// Registry, namespace and repository, without tag.
    pub fn qualified_name(&self) -> String {
        let parts = [self.registry.as_deref(), self.namespace.as_deref(), Some(self.repository.as_str())];
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    /// What Docker is asked for: the digest if there is one, else the tag, which is `latest` if none is given.
    pub fn full_name(&self) -> String {
        if self.engine == ImageEngine::Sim {
            return self.repository.clone();
        }
        let name = self.qualified_name();
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
            (None, Some(digest)) => format!("{name}@{digest}"),
            (tag, None) => format!("{name}:{}", tag.as_deref().unwrap_or("latest")),
        }
    }

    /// The registry by name, Docker Hub's if none is given.
    pub fn server(&self) -> &str {
        self.registry.as_deref().unwrap_or(DEFAULT_REGISTRY)
    }

    /// What the original kept in `data.dockerImage`.
    pub fn docker_image(&self) -> Value {
        let server = self.server();
        let server_address = match self.registry {
            Some(_) => server.to_owned(),
            None => format!("https://{DEFAULT_REGISTRY}"),
        };
        let look_up = match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.repository),
            None => self.repository.clone(),
        };
        json!({
            "id": self.full_name(), "repository": self.repository, "namespace": self.namespace,
            "tag": self.tag.as_deref().unwrap_or("latest"), "server": server, "serverAddress": server_address,
            "qualifiedName": self.qualified_name(), "fullName": self.full_name(), "lookUpName": look_up,
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = match self.engine {
            ImageEngine::Docker => "docker",
            ImageEngine::Sim => "sim",
        };
        write!(f, "{engine}:{}", self.full_name())
    }
}

fn parse(image_uuid: &str) -> Option<ImageReference> {
    if image_uuid.len() > MAX_LENGTH {
        return None;
    }
    let (engine, name) = image_uuid.split_once(':')?;
    let engine = match engine {
        "docker" => ImageEngine::Docker,
        // What follows is between a test and the simulated engine.
        "sim" if !name.is_empty() => {
            return Some(ImageReference {
                engine: ImageEngine::Sim,
                registry: None,
                namespace: None,
                repository: name.to_owned(),
                tag: None,
                digest: None,
            });
        }
        _ => return None,
    };
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    let (path, last) = name.rsplit_once('/').map_or((None, name), |(path, last)| (Some(path), last));
    let (repository, tag) = match last.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (last, None),
    };
    let path_text = path.unwrap_or_default();
    let path: Vec<&str> = path.map(|path| path.split('/').collect()).unwrap_or_default();
    let is_registry = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (registry, namespace) = match path.as_slice() {
        [] => (None, None),
        [one] if is_registry(one) => (Some(*one), None),
        [one] => (None, Some(*one)),
        // Deeper than the original allowed: registries of today have groups within groups.
        [first, ..] if is_registry(first) => (Some(*first), path_text.split_once('/').map(|(_, rest)| rest)),
        _ => return None,
    };
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|ch| ch.is_ascii_alphanumeric() || "._-".contains(ch) || more.contains(ch))
    };
    let good = word(repository, "")
        && tag.is_none_or(|tag| word(tag, ""))
        && namespace.is_none_or(|namespace| namespace.split('/').all(|part| word(part, "")))
        && registry.is_none_or(|registry| word(registry, ":[]"))
        && digest.is_none_or(|digest| digest.contains(':') && word(digest, ":+"));
    let owned = |text: &str| text.to_owned();
    good.then(|| ImageReference {
        engine,
        registry: registry.map(owned),
        namespace: namespace.map(owned),
        repository: repository.to_owned(),
        tag: tag.map(owned),
        digest: digest.map(owned),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_are_split_and_completed() {
        for (text, server, full_name) in [
            ("docker:nginx", "index.docker.io", "nginx:latest"),
            ("docker:ubuntu:14.04.3", "index.docker.io", "ubuntu:14.04.3"),
            ("docker:rancher/agent:v1.0.1", "index.docker.io", "rancher/agent:v1.0.1"),
            ("docker:localhost/app", "localhost", "localhost/app:latest"),
            ("docker:localhost:5000/team/app:2", "localhost:5000", "localhost:5000/team/app:2"),
            ("docker:quay.io/team/app", "quay.io", "quay.io/team/app:latest"),
            ("docker:ghcr.io/a/b/c/app:1", "ghcr.io", "ghcr.io/a/b/c/app:1"),
            ("docker:nginx@sha256:abc", "index.docker.io", "nginx@sha256:abc"),
            ("sim:foo", "index.docker.io", "foo"),
        ] {
            let image = ImageReference::parse(text).expect(text);
            assert_eq!((image.server(), image.full_name().as_str()), (server, full_name), "{text}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for text in [
            "",
            "nginx",
            "docker:",
            "other:nginx",
            "docker:ubuntu:14:04",
            "docker:a/b/c",
            "docker:quay.io/a//c",
            "docker:a//b",
            "docker:a:",
            "docker:a b",
            "docker:nginx@abc",
            "docker:/a",
            "docker:é",
        ] {
            let error = ImageReference::parse(text).expect_err(text);
            assert_eq!((error.code, error.field.as_deref()), (Code::InvalidReference, Some("imageUuid")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(docker:|sim:)?[a-z0-9.:/@ ]*") {
            if let Ok(image) = ImageReference::parse(&text) {
                let again = ImageReference::parse(&image.to_string());
                prop_assert_eq!(again.map(|image| image.full_name()), Ok(image.full_name()));
            }
        }
    }
}
