//! A service whose build contexts are known by their hashes (`compose.md` §11). The compiler is pure and reads no
//! directories: whoever does tells the hash afterwards, and the service gets the image and build that it will be
//! created with.

use std::collections::BTreeMap;

use remuda_model::build_context;
use serde_json::{Map, Value as Json, json};

use crate::hash;
use crate::project::{Build, Service};

/// Letters of the hash in an image's tag.
const IN_TAG: usize = 12;

impl Service {
    /// The context of one of [`Service::builds`] has that hash, and the Dockerfile in it that name. `reference` is what
    /// hosts get it by; without one the image is built before, by whoever says so, and looked for under its name.
    pub fn context_is(&mut self, build: &Build, hash: &str, dockerfile: &str, reference: Option<&str>) {
        let image = image(build.image.as_deref().unwrap_or(&self.image_of(&build.launch_config)), &tag(hash, build));
        let how = reference.map(|reference| how(build, dockerfile, reference));
        self.image_set(&build.launch_config, &image, how);
    }

    /// The image of one of [`Service::builds`] is that, and nothing is built for it.
    pub fn image_is(&mut self, build: &Build, image: &str) {
        self.image_set(&build.launch_config, image, None);
    }

    fn image_set(&mut self, launch_config: &str, image: &str, how: Option<Json>) {
        let before = self.image_of(launch_config);
        if let Some(named) = self.images.iter_mut().find(|named| **named == before) {
            image.clone_into(named);
        }
        if let Some(config) = self.config_mut(launch_config) {
            config.insert("imageUuid".to_owned(), format!("docker:{image}").into());
            config.remove("build");
            config.extend(how.map(|how| ("build".to_owned(), how)));
        }
        self.seal();
    }

    /// Remote contexts that name no image are built under a new name, although nothing else changed: what they hold may
    /// have. The hashes stay, so only an upgrade that is asked for takes it.
    pub fn mint(&mut self, suffix: &str) {
        let names: Vec<String> = std::iter::once(&self.name).chain(&self.sidekicks).cloned().collect();
        for name in names {
            let end = format!("_{name}:");
            let Some(config) = self.config_mut(&name).filter(|config| config.get("build").is_some()) else { continue };
            let image = config.get("imageUuid").and_then(Json::as_str).unwrap_or_default();
            // Ours is `STACK_SERVICE:` and twelve digits of a hash.
            if config["build"]["remote"].is_string()
                && image.rfind(&end).is_some_and(|at| image.len() == at + end.len() + 12)
            {
                let image = format!("{image}-{suffix}");
                config.insert("imageUuid".to_owned(), image.into());
            }
        }
    }

    /// The secrets have these ids, by the keys that stood for them.
    pub fn secrets_are(&mut self, ids: &BTreeMap<String, String>) {
        let names: Vec<String> = std::iter::once(&self.name).chain(&self.sidekicks).cloned().collect();
        for name in names {
            let list = self.config_mut(&name).and_then(|config| config.get_mut("secrets")).and_then(Json::as_array_mut);
            for reference in list.into_iter().flatten() {
                if let Some(id) = reference["secretId"].as_str().and_then(|key| ids.get(key)) {
                    reference["secretId"] = id.clone().into();
                }
            }
        }
        self.seal();
    }

    /// What the image of a launch config is called; without `docker:`.
    pub fn image_of(&self, launch_config: &str) -> String {
        let uuid = self.config(launch_config).and_then(|config| config["imageUuid"].as_str()).unwrap_or_default();
        uuid.strip_prefix("docker:").unwrap_or(uuid).to_owned()
    }

    /// The hash of the kept context that a launch config is built from.
    pub fn context_of(&self, launch_config: &str) -> Option<&str> {
        build_context::hash_of(self.config(launch_config)?["build"]["context"].as_str()?)
    }

    fn config(&self, launch_config: &str) -> Option<&Json> {
        if launch_config == self.name {
            return self.api.get("launchConfig");
        }
        let secondaries = self.api.get("secondaryLaunchConfigs").and_then(Json::as_array);
        secondaries.into_iter().flatten().find(|config| config["name"] == launch_config)
    }

    fn config_mut(&mut self, launch_config: &str) -> Option<&mut Map<String, Json>> {
        if launch_config == self.name {
            return self.api.get_mut("launchConfig")?.as_object_mut();
        }
        let secondaries = self.api.get_mut("secondaryLaunchConfigs")?.as_array_mut()?;
        secondaries.iter_mut().find(|config| config["name"] == launch_config)?.as_object_mut()
    }

    fn seal(&mut self) {
        let certificates = json!({"default": self.default_certificate, "more": self.certificates});
        (self.hash, self.lc_hashes) = hash::seal(&self.name, &mut self.api, &certificates);
    }
}

fn how(build: &Build, dockerfile: &str, reference: &str) -> Json {
    let mut how =
        Map::from_iter([("context".to_owned(), Json::from(reference)), ("dockerfile".to_owned(), dockerfile.into())]);
    how.extend((!build.args.is_empty()).then(|| ("args".to_owned(), json!(build.args))));
    how.extend(build.target.clone().map(|target| ("target".to_owned(), target.into())));
    Json::Object(how)
}

/// What is built from the same context with other arguments is another image.
fn tag(hash: &str, build: &Build) -> String {
    let plain = build.args.is_empty() && build.target.is_none() && build.dockerfile.is_none();
    let hash = match plain {
        true => hash.to_owned(),
        false => hash::hex(json!([hash, build.args, build.target, build.dockerfile]).to_string().as_bytes()),
    };
    format!("ctx-{}", hash.get(..IN_TAG).unwrap_or(&hash))
}

/// The name of the file with our tag; a tag of its own stays before it.
fn image(name: &str, tag: &str) -> String {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].contains(':') {
        true => format!("{name}-{tag}"),
        false => format!("{name}:{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_keep_the_name_of_the_file() {
        for (name, expected) in [
            ("shop_web", "shop_web:ctx-1"),
            ("acme/web:1.2", "acme/web:1.2-ctx-1"),
            ("registry:5000/acme/web", "registry:5000/acme/web:ctx-1"),
            ("acme/web@sha256:00", "acme/web:ctx-1"),
        ] {
            assert_eq!(image(name, "ctx-1"), expected);
        }
    }

    #[test]
    fn a_changed_context_is_a_changed_launch_config_and_nothing_else() {
        let api = json!({"name": "web", "launchConfig": {"imageUuid": "docker:shop_web"},
            "secondaryLaunchConfigs": [{"name": "side", "imageUuid": "docker:shop_side"}]});
        let api = api.as_object().cloned().expect("an object");
        let mut service = Service { name: "web".to_owned(), api, ..Service::default() };
        let build = |launch_config: &str| Build { launch_config: launch_config.to_owned(), ..Build::default() };
        let first = "a".repeat(64);
        service.context_is(&build("web"), &first, "Dockerfile", Some("/v1/x"));
        service.context_is(&build("side"), &first, "Dockerfile", Some("/v1/x"));
        assert_eq!(service.image_of("web"), "shop_web:ctx-aaaaaaaaaaaa");
        assert_eq!(service.api["launchConfig"]["build"], json!({"context": "/v1/x", "dockerfile": "Dockerfile"}));
        let before = service.clone();
        let mut again = service.clone();
        let build_side = Build { image: Some("shop_side".to_owned()), ..build("side") };
        again.context_is(&build_side, &"b".repeat(64), "Dockerfile", Some("/v1/y"));
        assert_eq!(again.hash, before.hash);
        assert_eq!(again.lc_hashes["web"], before.lc_hashes["web"]);
        assert_ne!(again.lc_hashes["side"], before.lc_hashes["side"]);
        let args = Build { args: [("A".to_owned(), "1".to_owned())].into(), ..build("web") };
        service.context_is(&args, &first, "Dockerfile", Some("/v1/x"));
        assert_ne!(service.image_of("web"), before.image_of("web"));
        assert_eq!(service.api["launchConfig"]["build"]["args"], json!({"A": "1"}));
    }

    #[test]
    fn a_remote_context_is_built_again_under_a_new_name() {
        let check = |image: &str, build: Json, expected: &str| {
            let api = json!({"launchConfig": {"imageUuid": image, "build": build}}).as_object().cloned();
            let mut service = Service { name: "web".to_owned(), api: api.expect("an object"), ..Service::default() };
            service.seal();
            let before = service.lc_hashes.clone();
            service.mint("7");
            assert_eq!((service.image_of("web").as_str(), service.lc_hashes), (expected, before));
        };
        let remote = json!({"remote": "https://git.example.com/x.git"});
        check("docker:shop_web:0123456789ab", remote.clone(), "shop_web:0123456789ab-7");
        check("docker:acme/web", remote, "acme/web");
        check("docker:shop_web:0123456789ab", json!({"context": "/v1/x"}), "shop_web:0123456789ab");
    }
}
