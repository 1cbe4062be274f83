//! Statistics of a host in the same shape as those of containers, from `/proc`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::streams::container_stats::with_interfaces;

/// The kernel shows times to programs in hundredths of a second, whatever its own tick.
const NS_PER_TICK: u64 = 10_000_000;
/// `/proc/diskstats` counts sectors of this size, whatever the device's own.
const SECTOR_BYTES: u64 = 512;

/// Where the figures come from.
#[derive(Clone, Debug)]
pub struct HostStats {
    proc: Option<PathBuf>,
}

impl HostStats {
    pub fn of_this_machine() -> HostStats {
        HostStats { proc: Some(PathBuf::from("/proc")) }
    }

    /// A machine that is not there: figures that follow the clock.
    pub fn simulated() -> HostStats {
        HostStats { proc: None }
    }

    /// One sample.
    pub fn sample(&self, host_id: &str, now_ms: i64) -> Value {
        let timestamp = jiff::Timestamp::from_millisecond(now_ms).map(|time| format!("{time:.3}")).unwrap_or_default();
        match &self.proc {
            Some(proc) => {
                let read = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
                let figures = Figures {
                    stat: &read("stat"),
                    meminfo: &read("meminfo"),
                    diskstats: &read("diskstats"),
                    net_dev: &read("net/dev"),
                };
                figures.shape(host_id, &timestamp, |device| Path::new("/sys/block").join(device).exists())
            }
            None => {
                let ticks = u64::try_from(now_ms / 10).unwrap_or(0);
                let figures = Figures {
                    stat: &format!("cpu0 {ticks} 0 0 {ticks}\ncpu1 0 0 {ticks} {ticks}\n"),
                    meminfo: "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n",
                    diskstats: &format!("8 0 sda 1 0 {ticks} 0 1 0 {ticks} 0\n"),
                    net_dev: &format!("eth0: {ticks} 0 0 0 0 0 0 0 {ticks} 0\n"),
                };
                figures.shape(host_id, &timestamp, |_| true)
            }
        }
    }
}

struct Figures<'a> {
    stat: &'a str,
    meminfo: &'a str,
    diskstats: &'a str,
    net_dev: &'a str,
}

impl Figures<'_> {
    fn shape(&self, host_id: &str, timestamp: &str, is_disk: impl Fn(&str) -> bool) -> Value {
        let numbers = |line: &str| -> Vec<u64> { line.split_whitespace().skip(1).flat_map(str::parse).collect() };
        let cores: Vec<Vec<u64>> = self
            .stat
            .lines()
            .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
            .map(numbers)
            .collect();
        let of = |core: &Vec<u64>, fields: &[usize]| -> u64 {
            fields.iter().filter_map(|field| core.get(*field)).sum::<u64>() * NS_PER_TICK
        };
        // user, nice | system, irq, softirq | steal
        let per_cpu: Vec<u64> = cores.iter().map(|core| of(core, &[0, 1, 2, 5, 6, 7])).collect();
        let memory = |name: &str| -> u64 {
            let line = self.meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        let total = memory("MemTotal");
        json!({
            "id": host_id,
            "resourceType": "host",
            "memLimit": total,
            "timestamp": timestamp,
            "cpu": { "usage": {
                "total": per_cpu.iter().sum::<u64>(),
                "per_cpu_usage": per_cpu,
                "user": cores.iter().map(|core| of(core, &[0, 1])).sum::<u64>(),
                "system": cores.iter().map(|core| of(core, &[2, 5, 6])).sum::<u64>(),
            } },
            "diskio": { "io_service_bytes": self.disks(is_disk) },
            "memory": { "usage": total.saturating_sub(memory("MemAvailable")) },
            "network": with_interfaces(self.interfaces()),
            "filesystem": null,
        })
    }

    /// Whole disks only: partitions would count twice.
    fn disks(&self, is_disk: impl Fn(&str) -> bool) -> Vec<Value> {
        let disks = self.diskstats.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |position: usize| words.get(position)?.parse::<u64>().ok();
            let name = words.get(2).filter(|name| is_disk(name))?;
            if name.starts_with("loop") || name.starts_with("ram") {
                return None;
            }
            let (read, write) = (number(5)? * SECTOR_BYTES, number(9)? * SECTOR_BYTES);
            let stats = json!({ "Read": read, "Write": write, "Total": read + write });
            Some(json!({ "major": number(0)?, "minor": number(1)?, "stats": stats }))
        });
        disks.collect()
    }

    /// Wires of the machine itself, not those of containers.
    fn interfaces(&self) -> Vec<Value> {
        let interfaces = self.net_dev.lines().filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let name = name.trim();
            if name == "lo" || ["veth", "docker", "br-", "remuda"].iter().any(|prefix| name.starts_with(prefix)) {
                return None;
            }
            let counters: Vec<u64> = counters.split_whitespace().flat_map(str::parse).collect();
            let number = |position: usize| counters.get(position).copied().unwrap_or(0);
            Some(json!({ "name": name, "rx_bytes": number(0), "tx_bytes": number(8) }))
        });
        interfaces.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let figures = Figures {
            stat: "cpu  3 0 3 9\ncpu0 1 0 1 5 0 0 0 0\ncpu1 2 0 2 4 0 0 0 0\n",
            meminfo: "MemTotal: 100 kB\nMemAvailable: 60 kB\n",
            diskstats: "8 0 sda 1 0 4 0 1 0 2 0\n8 1 sda1 1 0 4 0 1 0 2 0\n7 0 loop0 1 0 4 0 1 0 2 0\n",
            net_dev: "Inter-|\n face |\n lo: 1 0 0 0 0 0 0 0 1\n eth0: 5 0 0 0 0 0 0 0 6\nveth1: 1 0 0 0 0 0 0 0 1\n",
        };
        let sample = figures.shape("1h1", "t", |name| name != "sda1");
        assert_eq!(
            sample["cpu"]["usage"],
            json!({ "total": 60_000_000, "per_cpu_usage": [20_000_000, 40_000_000], "user": 30_000_000, "system": 30_000_000 })
        );
        assert_eq!((&sample["memLimit"], &sample["memory"]["usage"]), (&json!(102_400), &json!(40_960)));
        assert_eq!(
            sample["diskio"]["io_service_bytes"],
            json!([{ "major": 8, "minor": 0, "stats": { "Read": 2048, "Write": 1024, "Total": 3072 } }])
        );
        assert_eq!(
            sample["network"],
            json!({ "name": "eth0", "rx_bytes": 5, "tx_bytes": 6, "interfaces": [{ "name": "eth0", "rx_bytes": 5, "tx_bytes": 6 }] })
        );
        for stats in [HostStats::of_this_machine(), HostStats::simulated()] {
            let sample = stats.sample("1h1", 1_800_000_000_000);
            assert!(sample["memLimit"].as_u64() > Some(0), "{sample}");
            assert_eq!(sample["timestamp"], "2027-01-15T08:00:00.000Z");
        }
    }
}
