//! What services share: named volumes and networks (`compose.md` §10).

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::labels;
use serde_json::{Map, Value as Json, json};

use crate::assemble::Assembly;
use crate::context::Context;
use crate::convert::Draft;
use crate::load::Document;
use crate::node::shown;
use crate::problem::hint;
use crate::project::Volume;
use crate::values::{Bad, Mount};

/// The declared volumes.
pub fn volumes(context: &mut Context<'_>, compose: &Document, stack: &str) -> Vec<Volume> {
    let mut volumes = Vec::new();
    for (key, node) in &compose.volumes {
        let path = format!("volumes.{}", shown(&key.name));
        let mut volume = Volume { name: key.name.clone(), ..Volume::default() };
        for (option, value) in node.members() {
            let yes = value.scalar().as_deref() == Some("true");
            match option.name.as_str() {
                "driver" => volume.driver = value.scalar().filter(|driver| !driver.is_empty()),
                "driver_opts" => {
                    let options: Result<BTreeMap<String, String>, Bad> = crate::values::labels(value);
                    volume.driver_opts = context.take(&path, options).unwrap_or_default();
                }
                "external" => {
                    volume.external = yes || !value.members().is_empty();
                    if let Some(name) = value.part("name") {
                        volume.real_name = name;
                    }
                }
                "per_container" => volume.per_container = yes,
                "name" => volume.real_name = value.scalar().unwrap_or_default(),
                "labels" => context.warn(option.place, &path, "`labels` has no effect"),
                name if name.starts_with("x-") => {}
                name => {
                    let near = hint(name, ["driver", "driver_opts", "external", "per_container", "name"]);
                    context.problem(option.place, &path, format!("`{}` is no key of a volume{near}", shown(name)));
                }
            }
        }
        if volume.real_name.is_empty() {
            volume.real_name = if volume.external { key.name.clone() } else { format!("{stack}_{}", key.name) };
        }
        if volume.per_container && (volume.external || volume.is_resource()) {
            let text = "`per_container` is for volumes of the hosts: without `external`, with driver `local`";
            context.problem(key.place, &path, text);
        } else if volume.per_container {
            volume.real_name.push('_');
            volume.real_name.push_str(labels::SERVICE_INDEX_MACRO);
        }
        volumes.push(volume);
    }
    volumes
}

impl Assembly<'_, '_> {
    pub fn mounts(&mut self, draft: &Draft, config: &mut Map<String, Json>) {
        let path = format!("{}.volumes", draft.name);
        let mut volumes = Vec::new();
        let mut driver: Option<String> = None;
        for mount in &draft.mounts {
            if let Some(options) = &mount.tmpfs {
                let tmpfs = config.entry("tmpfs").or_insert_with(|| json!({}));
                tmpfs[mount.target.as_str()] = options.clone().into();
                continue;
            }
            let mut mount: Mount = mount.clone();
            if let Some(source) = mount.source.clone() {
                if source.starts_with(['.', '~']) {
                    let text = format!(
                        "`{}` is relative to this machine, but containers run on other hosts; write an absolute path or a volume name",
                        shown(&source)
                    );
                    self.context.problem(mount.place, &path, text);
                    continue;
                }
                if mount.is_named() {
                    match self.volumes.iter().find(|volume| volume.name == source) {
                        Some(volume) => {
                            mount.source = Some(volume.real_name.clone());
                            driver = driver.or_else(|| volume.driver.clone().filter(|_| volume.is_resource()));
                        }
                        None if self.is_service_form => {
                            let text = format!(
                                "the volume `{}` is not declared; it is shared by all stacks of a host",
                                shown(&source)
                            );
                            self.context.warn(mount.place, &path, text);
                        }
                        None => {}
                    }
                }
            }
            volumes.push(Json::String(mount.text()));
        }
        if !volumes.is_empty() {
            config.insert("dataVolumes".to_owned(), volumes.into());
        }
        if let Some(driver) = driver {
            config.entry("volumeDriver").or_insert_with(|| driver.into());
        }
    }

    pub fn networks(&mut self, compose: &Document) {
        for (key, node) in &compose.networks {
            for (option, _) in
                node.members().iter().filter(|(option, _)| !option.name.starts_with("x-") && option.name != "name")
            {
                let text = format!("`{}` has no effect: every service is on the managed network", shown(&option.name));
                self.context.warn(option.place, &format!("networks.{}", shown(&key.name)), text);
            }
        }
        let default: BTreeSet<String> = BTreeSet::from(["default".to_owned()]);
        let of = |draft: &Draft| draft.networks.clone().unwrap_or_else(|| default.clone());
        let sets: Vec<(BTreeSet<String>, &Draft)> = self.drafts.iter().map(|draft| (of(draft), draft)).collect();
        let apart = sets.iter().enumerate().find_map(|(idx, (one, draft))| {
            let other = sets[..idx].iter().find(|(other, _)| one.is_disjoint(other))?;
            Some((draft.place, draft.name.clone(), other.1.name.clone()))
        });
        if let Some((place, one, other)) = apart {
            let text = format!("`{one}` and `{other}` share no network, but they can still reach each other");
            self.context.warn(place, &format!("{one}.networks"), text);
        }
    }
}
