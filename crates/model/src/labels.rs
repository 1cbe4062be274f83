//! Labels with a meaning, and how label sets are merged (`services.md` §5.3).

use std::collections::BTreeMap;

/// What every platform label begins with, whatever its case.
pub const PREFIX: &str = "io.rancher";

pub const STACK_NAME: &str = "io.rancher.stack.name";
pub const STACK_SERVICE_NAME: &str = "io.rancher.stack_service.name";
/// Name of [`STACK_NAME`] before 1.0.
pub const PROJECT_NAME: &str = "io.rancher.project.name";
/// Name of [`STACK_SERVICE_NAME`] before 1.0.
pub const PROJECT_SERVICE_NAME: &str = "io.rancher.project_service.name";
pub const DEPLOYMENT_UNIT: &str = "io.rancher.service.deployment.unit";
pub const LAUNCH_CONFIG: &str = "io.rancher.service.launch.config";
/// Value of [`LAUNCH_CONFIG`] on containers of the primary launch config.
pub const PRIMARY_LAUNCH_CONFIG: &str = "io.rancher.service.primary.launch.config";
pub const REQUESTED_HOST_ID: &str = "io.rancher.service.requested.host.id";

pub const CONTAINER_UUID: &str = "io.rancher.container.uuid";
pub const CONTAINER_NAME: &str = "io.rancher.container.name";
pub const CONTAINER_IP: &str = "io.rancher.container.ip";
pub const CONTAINER_SYSTEM: &str = "io.rancher.container.system";
pub const CONTAINER_AGENT_ID: &str = "io.rancher.container.agent_id";
pub const CONTAINER_NETWORK: &str = "io.rancher.container.network";
pub const CONTAINER_DNS: &str = "io.rancher.container.dns";
pub const REQUESTED_IP: &str = "io.rancher.container.requested_ip";
pub const PULL_IMAGE: &str = "io.rancher.container.pull_image";
pub const START_ONCE: &str = "io.rancher.container.start_once";
pub const HOSTNAME_OVERRIDE: &str = "io.rancher.container.hostname_override";
pub const DISPLAY_NAME: &str = "io.rancher.container.display_name";
pub const VOLUME_CLEANUP: &str = "io.rancher.container.volume_cleanup_strategy";
/// Values of [`VOLUME_CLEANUP`].
pub const VOLUME_CLEANUP_VALUES: [&str; 3] = ["none", "unnamed", "all"];

/// Begins every label that decides placement.
pub const SCHEDULER_PREFIX: &str = "io.rancher.scheduler";
/// Begins every affinity rule; rules from several sources add up.
pub const AFFINITY_PREFIX: &str = "io.rancher.scheduler.affinity";
pub const AFFINITY_HOST_LABEL: &str = "io.rancher.scheduler.affinity:host_label";
pub const AFFINITY_CONTAINER_LABEL: &str = "io.rancher.scheduler.affinity:container_label";
pub const AFFINITY_CONTAINER: &str = "io.rancher.scheduler.affinity:container";
pub const AFFINITY_VOLUMES: &str = "io.rancher.scheduler.affinity:volumes";
pub const SCHEDULER_GLOBAL: &str = "io.rancher.scheduler.global";

pub const HOST_DOCKER_VERSION: &str = "io.rancher.host.docker_version";
pub const HOST_LINUX_KERNEL_VERSION: &str = "io.rancher.host.linux_kernel_version";
/// Ours: what `node.hostname` of a compose file compares with.
pub const HOST_NAME: &str = "io.remuda.host.name";
pub const HOST_KVM: &str = "io.rancher.host.kvm";

/// What a service writes in values of labels and in names of volumes, and each of its containers finds filled in.
pub const STACK_NAME_MACRO: &str = "${stack_name}";
pub const SERVICE_NAME_MACRO: &str = "${service_name}";
/// Ours: the number of the container among those of its launch config.
pub const SERVICE_INDEX_MACRO: &str = "${service_index}";

/// The text with the macros filled in.
pub fn filled_in(text: &str, stack: &str, service: &str, index: &str) -> String {
    if !text.contains("${") {
        return text.to_owned();
    }
    let values = [(STACK_NAME_MACRO, stack), (SERVICE_NAME_MACRO, service), (SERVICE_INDEX_MACRO, index)];
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        match values.iter().find(|(name, _)| from.starts_with(name)) {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &from[name.len()..];
            }
            None => {
                filled.push_str("${");
                rest = &from[2..];
            }
        }
    }
    filled + rest
}

/// Label sets by key.
pub type Labels = BTreeMap<String, String>;

/// The key as it is stored: platform labels are lower-case, others as written.
pub fn stored_key(key: &str) -> String {
    let is_platform = key.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if is_platform { key.to_ascii_lowercase() } else { key.to_owned() }
}

/// Adds `over` to `labels`: affinity rules are joined, any other label of `over` replaces one of the same key.
pub fn merge(labels: &mut Labels, over: &Labels) {
    for (key, value) in over {
        let key = stored_key(key);
        match labels.get_mut(&key) {
            Some(known) if key.starts_with(AFFINITY_PREFIX) => {
                if known.is_empty() {
                    known.clone_from(value);
                } else if !value.is_empty() && !known.contains(value.as_str()) {
                    known.push(',');
                    known.push_str(value);
                }
            }
            _ => {
                labels.insert(key, value.clone());
            }
        }
    }
}

/// A user's labels with platform keys in lower case.
pub fn stored(labels: &Labels) -> Labels {
    let mut stored = Labels::new();
    merge(&mut stored, labels);
    stored
}

/// Whether the label says `true`, in any case.
pub fn is_true(labels: &Labels, key: &str) -> bool {
    labels.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_filled_in_once() {
        let filled = |text: &str| filled_in(text, "shop", "${stack_name}", "3");
        assert_eq!(filled("plain $x ${other} ${"), "plain $x ${other} ${");
        assert_eq!(filled("${stack_name}/${service_name}_${service_index}:/d"), "shop/${stack_name}_3:/d");
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn merging_joins_affinities_and_replaces_the_rest() {
        let mut merged = stored(&labels(&[
            ("Tier", "front"),
            ("IO.Rancher.Stack.Name", "mine"),
            ("io.rancher.scheduler.affinity:host_label", "a=1"),
        ]));
        merge(
            &mut merged,
            &labels(&[(STACK_NAME, "ours"), (AFFINITY_HOST_LABEL, "b=2"), ("io.rancher.container.dns", "true")]),
        );
        merge(&mut merged, &labels(&[(AFFINITY_HOST_LABEL, "b=2")]));
        assert_eq!(
            merged,
            labels(&[
                ("Tier", "front"),
                (STACK_NAME, "ours"),
                (AFFINITY_HOST_LABEL, "a=1,b=2"),
                (CONTAINER_DNS, "true"),
            ])
        );
    }
}
