//! Statistics of containers in the shape clients of old know (`api-conventions.md` §16), made of Docker's.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use serde_json::{Map, Value, json};

use crate::engine::{Engine, Error};

type Samples = BoxStream<'static, (String, Option<Result<Value, Error>>)>;

/// The containers somebody looks at.
#[derive(Default)]
pub struct Watched {
    streams: SelectAll<Samples>,
    running: BTreeSet<String>,
    public_ids: BTreeMap<String, String>,
    latest: BTreeMap<String, Value>,
}

impl Watched {
    /// Looks at these (Docker id to public id) too, when they are not looked at already.
    pub async fn follow(&mut self, engine: &dyn Engine, containers: &BTreeMap<String, String>) {
        for (docker_id, public_id) in containers {
            self.public_ids.insert(docker_id.clone(), public_id.clone());
            if self.running.contains(docker_id) {
                continue;
            }
            // One that is gone by now has nothing to show.
            if let Ok(samples) = engine.stats(docker_id).await {
                let (of_sample, of_end) = (docker_id.clone(), docker_id.clone());
                let samples = samples.map(move |sample| (of_sample.clone(), Some(sample)));
                let end = futures_util::stream::once(async move { (of_end, None) });
                self.streams.push(samples.chain(end).boxed());
                self.running.insert(docker_id.clone());
            }
        }
    }

    /// Takes samples in until that future resolves.
    pub async fn gather(&mut self, until: impl Future<Output = ()>) {
        tokio::pin!(until);
        loop {
            let next = async {
                match self.streams.next().await {
                    Some(next) => next,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut until => return,
                (docker_id, sample) = next => match sample {
                    Some(Ok(sample)) => {
                        if let Some(public_id) = self.public_ids.get(&docker_id) {
                            self.latest.insert(docker_id, shape(public_id, &sample));
                        }
                    }
                    Some(Err(error)) => tracing::debug!(docker_id, %error, "no statistics"),
                    None => drop(self.running.remove(&docker_id)),
                },
            }
        }
    }

    /// The samples since the last time.
    pub fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.latest).into_values().collect()
    }

    /// Every container has ended.
    pub fn is_over(&self) -> bool {
        self.running.is_empty()
    }
}

/// One Docker answer as one sample. Counters are cumulative: nanoseconds and bytes.
pub fn shape(public_id: &str, stats: &Value) -> Value {
    let usage = &stats["cpu_stats"]["cpu_usage"];
    let total = usage["total_usage"].as_u64().unwrap_or(0);
    // With cgroup v2 there are no figures per core.
    let per_cpu = usage["percpu_usage"].as_array().filter(|cores| !cores.is_empty()).cloned();
    let memory = &stats["memory_stats"];
    json!({
        "id": public_id,
        "resourceType": "container",
        "memLimit": memory["limit"].as_u64().unwrap_or(0),
        "timestamp": stats["read"].as_str().unwrap_or_default(),
        "cpu": { "usage": {
            "total": total,
            "per_cpu_usage": per_cpu.unwrap_or_else(|| vec![json!(total)]),
            "user": usage["usage_in_usermode"].as_u64().unwrap_or(0),
            "system": usage["usage_in_kernelmode"].as_u64().unwrap_or(0),
        } },
        "diskio": { "io_service_bytes": disk(&stats["blkio_stats"]["io_service_bytes_recursive"]) },
        "memory": { "usage": memory["usage"].as_u64().unwrap_or(0) },
        "network": network(&stats["networks"]),
        "filesystem": null,
    })
}

fn disk(entries: &Value) -> Vec<Value> {
    let mut devices: BTreeMap<(u64, u64), Map<String, Value>> = BTreeMap::new();
    for entry in entries.as_array().into_iter().flatten() {
        let number = |name: &str| entry[name].as_u64().unwrap_or(0);
        let mut operation = entry["op"].as_str().unwrap_or_default().to_owned();
        if let Some(first) = operation.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let device = devices.entry((number("major"), number("minor"))).or_default();
        device.insert(operation, json!(number("value")));
    }
    let devices = devices.into_iter().map(|((major, minor), mut stats)| {
        let of = |name: &str| stats.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (read, write) = (of("Read"), of("Write"));
        stats.entry("Read").or_insert(json!(read));
        stats.entry("Write").or_insert(json!(write));
        stats.entry("Total").or_insert(json!(read + write));
        json!({ "major": major, "minor": minor, "stats": stats })
    });
    devices.collect()
}

fn network(networks: &Value) -> Value {
    let interfaces = networks.as_object().into_iter().flatten().map(|(name, counters)| {
        let number = |name: &str| counters[name].as_u64().unwrap_or(0);
        json!({ "name": name, "rx_bytes": number("rx_bytes"), "tx_bytes": number("tx_bytes") })
    });
    with_interfaces(interfaces.collect())
}

/// The first interface stands for the whole, as in the statistics of old.
pub fn with_interfaces(interfaces: Vec<Value>) -> Value {
    let first = interfaces.first().cloned().unwrap_or_else(|| json!({ "name": "", "rx_bytes": 0, "tx_bytes": 0 }));
    let mut whole = first;
    whole["interfaces"] = Value::Array(interfaces);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_figures_take_the_shape_of_old() {
        let stats = json!({
            "read": "2026-04-02T10:11:12.345Z",
            "cpu_stats": { "cpu_usage": { "total_usage": 123, "percpu_usage": [60, 63], "usage_in_usermode": 100, "usage_in_kernelmode": 23 } },
            "memory_stats": { "usage": 4096, "limit": 1044123648 },
            "networks": { "eth0": { "rx_bytes": 1, "tx_bytes": 2, "rx_packets": 9 } },
            "blkio_stats": { "io_service_bytes_recursive": [
                { "major": 8, "minor": 0, "op": "read", "value": 1 }, { "major": 8, "minor": 0, "op": "write", "value": 2 } ] },
        });
        let expected = json!({
            "id": "1i5", "resourceType": "container", "memLimit": 1044123648, "timestamp": "2026-04-02T10:11:12.345Z",
            "cpu": { "usage": { "total": 123, "per_cpu_usage": [60, 63], "user": 100, "system": 23 } },
            "diskio": { "io_service_bytes": [{ "major": 8, "minor": 0, "stats": { "Read": 1, "Write": 2, "Total": 3 } }] },
            "memory": { "usage": 4096 },
            "network": { "name": "eth0", "rx_bytes": 1, "tx_bytes": 2, "interfaces": [{ "name": "eth0", "rx_bytes": 1, "tx_bytes": 2 }] },
            "filesystem": null,
        });
        assert_eq!(shape("1i5", &stats), expected);
        // cgroup v2, host network, nothing written yet.
        let bare = shape(
            "1i5",
            &json!({ "cpu_stats": { "cpu_usage": { "total_usage": 7 } }, "blkio_stats": { "io_service_bytes_recursive": null } }),
        );
        assert_eq!(bare["cpu"]["usage"]["per_cpu_usage"], json!([7]));
        assert_eq!(bare["network"]["interfaces"], json!([]));
        assert_eq!(bare["diskio"]["io_service_bytes"], json!([]));
    }
}
