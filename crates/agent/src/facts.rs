//! What a host is: the `info` object of `resources-infra.md` §3.4, the labels the agent detects, its address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use remuda_model::host::BRIDGE_PORTS;
use remuda_model::labels::{HOST_DOCKER_VERSION, HOST_KVM, HOST_LINUX_KERNEL_VERSION, HOST_NAME};
use remuda_wire::observe::HostFacts;
use serde_json::{Map, Value, json};

use crate::engine::{Engine, Info};

const MIB: f64 = 1_048_576.0;
/// Gathers facts. Clones share what is remembered between two gatherings.
#[derive(Clone)]
pub struct Facts {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    hostname: String,
    address: Option<IpAddr>,
    create_labels: BTreeMap<String, String>,
    machine: String,
    /// `None`: a simulated machine.
    proc: Option<PathBuf>,
    /// Busy and total time of each core at the last gathering.
    cores: Mutex<Vec<(u64, u64)>>,
    /// What the engine said when it last answered.
    info: Mutex<Info>,
}

impl Facts {
    /// Of the machine this runs on.
    pub fn of_this_machine(
        engine: Arc<dyn Engine>,
        name: Option<&str>,
        address: Option<IpAddr>,
        create_labels: BTreeMap<String, String>,
    ) -> Facts {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let hostname = read("/proc/sys/kernel/hostname");
        let machine = format!("{} {}", read("/etc/machine-id"), read("/proc/sys/kernel/random/boot_id"));
        Facts {
            inner: Arc::new(Inner {
                engine,
                hostname: if hostname.is_empty() { name.unwrap_or("localhost").to_owned() } else { hostname },
                address,
                create_labels,
                machine: machine.trim().to_owned(),
                proc: Some(PathBuf::from("/proc")),
                cores: Mutex::default(),
                info: Mutex::default(),
            }),
        }
    }

    /// Of a machine that is not there.
    pub fn simulated(
        engine: Arc<dyn Engine>,
        hostname: &str,
        address: Option<IpAddr>,
        create_labels: BTreeMap<String, String>,
    ) -> Facts {
        Facts {
            inner: Arc::new(Inner {
                engine,
                hostname: hostname.to_owned(),
                address,
                create_labels,
                machine: format!("simulated {hostname}"),
                proc: None,
                cores: Mutex::default(),
                info: Mutex::default(),
            }),
        }
    }

    /// Tells two machines with one identity apart.
    pub fn machine(&self) -> String {
        self.inner.machine.clone()
    }

    pub async fn gather(&self) -> HostFacts {
        let inner = &self.inner;
        let (engine, engine_problem) = match inner.engine.info().await {
            Ok(info) => {
                *inner.info.lock().unwrap_or_else(PoisonError::into_inner) = info.clone();
                (info, None)
            }
            Err(problem) => (inner.info.lock().unwrap_or_else(PoisonError::into_inner).clone(), Some(problem)),
        };
        let mut info = match &inner.proc {
            Some(proc) => json!({
                "osInfo": os_info(&engine),
                "cpuInfo": inner.cpu_info(proc),
                "memoryInfo": memory_info(&read(proc, "meminfo")),
                "diskInfo": disk_info(&read(proc, "self/mounts"), &engine),
                "iopsInfo": {},
                "bridgePortsMax": BRIDGE_PORTS,
            }),
            None => json!({
                "osInfo": os_info(&engine),
                "cpuInfo": { "modelName": "Simulated CPU", "count": engine.n_cpus, "mhz": 2400.0,
                    "loadAvg": [0.0, 0.0, 0.0], "cpuCoresPercentages": vec![0.0; usize::try_from(engine.n_cpus).unwrap_or(0)] },
                "memoryInfo": memory_info(&format!("MemTotal: {0} kB\nMemFree: {0} kB\nMemAvailable: {0} kB", engine.memory_bytes / 1024)),
                "diskInfo": { "fileSystems": { "/dev/sim": { "capacity": 102_400.0 } },
                    "mountPoints": { "/dev/sim": { "free": 92_160.0, "total": 102_400.0, "used": 10_240.0, "percentUsed": 10.0 } },
                    "dockerStorageDriver": engine.storage_driver, "dockerStorageDriverStatus": {} },
                "iopsInfo": {},
            }),
        };
        if engine == Info::default()
            && let Some(info) = info.as_object_mut()
        {
            // Never answered: what the server knows from before is better than blanks.
            info.remove("osInfo");
        }
        HostFacts {
            hostname: inner.hostname.clone(),
            address: inner.address.map(|address| address.to_string()),
            info,
            labels: labels(&engine, &inner.hostname, inner.proc.is_some()),
            create_labels: inner.create_labels.clone(),
            engine_problem: engine_problem.map(|problem| problem.to_string()),
            ..HostFacts::default()
        }
    }
}

impl Inner {
    fn cpu_info(&self, proc: &Path) -> Value {
        let cpus = read(proc, "cpuinfo");
        let field = |name: &'static str| cpus.lines().filter_map(move |line| value_of(line, name));
        let count = field("processor").count();
        let load = read(proc, "loadavg");
        let load: Vec<f64> = load.split_whitespace().take(3).filter_map(|number| number.parse().ok()).collect();
        let now = cores(&read(proc, "stat"));
        let mut before = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        let percentages: Vec<f64> = now
            .iter()
            .enumerate()
            .map(|(core, (busy, total))| {
                let (busy_before, total_before) = before.get(core).copied().unwrap_or_default();
                let (busy, total) = (busy.saturating_sub(busy_before), total.saturating_sub(total_before));
                if total == 0 { 0.0 } else { round(busy as f64 * 100.0 / total as f64) }
            })
            .collect();
        *before = now;
        json!({
            "modelName": field("model name").next().unwrap_or_default(),
            "count": count,
            "mhz": field("cpu MHz").next().and_then(|mhz| mhz.parse::<f64>().ok()).map(round).unwrap_or(0.0),
            "loadAvg": load,
            "cpuCoresPercentages": percentages,
        })
    }
}

fn read(proc: &Path, name: &str) -> String {
    std::fs::read_to_string(proc.join(name)).unwrap_or_default()
}

/// `name<tab>: value`
fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once(':')?;
    (key.trim() == name).then(|| value.trim())
}

/// Three decimals.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Busy and total time of each core from `/proc/stat`.
fn cores(stat: &str) -> Vec<(u64, u64)> {
    let lines = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    lines
        .map(|line| {
            let times: Vec<u64> = line.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
            // Guest time is counted in user time already.
            let total: u64 = times.iter().take(8).sum();
            let idle = times.get(3).copied().unwrap_or(0) + times.get(4).copied().unwrap_or(0);
            (total.saturating_sub(idle), total)
        })
        .collect()
}

fn os_info(engine: &Info) -> Value {
    json!({
        "operatingSystem": engine.operating_system,
        "kernelVersion": engine.kernel_version,
        "dockerVersion": engine.version_text,
    })
}

fn memory_info(meminfo: &str) -> Value {
    let names = [
        ("memTotal", "MemTotal"),
        ("memFree", "MemFree"),
        ("memAvailable", "MemAvailable"),
        ("buffers", "Buffers"),
        ("cached", "Cached"),
        ("swapCached", "SwapCached"),
        ("active", "Active"),
        ("inactive", "Inactive"),
        ("swapTotal", "SwapTotal"),
        ("swapFree", "SwapFree"),
    ];
    let mebibytes = |name: &str| {
        let value = meminfo.lines().find_map(|line| value_of(line, name)).unwrap_or_default();
        let kibibytes: f64 = value.trim_end_matches("kB").trim().parse().unwrap_or(0.0);
        round(kibibytes / 1024.0)
    };
    Value::Object(names.iter().map(|(ours, theirs)| ((*ours).to_owned(), json!(mebibytes(theirs)))).collect())
}

fn disk_info(mounts: &str, engine: &Info) -> Value {
    let (mut file_systems, mut mount_points) = (Map::new(), Map::new());
    for line in mounts.lines() {
        let mut words = line.split_whitespace();
        let (Some(device), Some(point)) = (words.next(), words.next()) else { continue };
        if !device.starts_with("/dev/") || mount_points.contains_key(device) {
            continue;
        }
        let Some(space) = space(&point.replace("\\040", " ")) else { continue };
        if space.total <= 0.0 {
            continue;
        }
        file_systems.insert(device.to_owned(), json!({ "capacity": round(space.total) }));
        mount_points.insert(
            device.to_owned(),
            json!({
                "free": round(space.free), "total": round(space.total), "used": round(space.used),
                "percentUsed": round(space.used * 100.0 / space.total),
            }),
        );
    }
    json!({
        "fileSystems": file_systems,
        "mountPoints": mount_points,
        "dockerStorageDriver": engine.storage_driver,
        "dockerStorageDriverStatus": engine.storage_driver_status,
    })
}

/// In MiB.
struct Space {
    free: f64,
    total: f64,
    used: f64,
}

#[expect(unsafe_code, reason = "statvfs has no safe form in the standard library")]
fn space(point: &str) -> Option<Space> {
    let path = std::ffi::CString::new(point).ok()?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with a zero byte and `answer` has room for what the call writes.
    let result = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it filled `answer`.
    let answer = unsafe { answer.assume_init() };
    let mebibytes = |blocks: u64| blocks as f64 * answer.f_frsize as f64 / MIB;
    Some(Space {
        free: mebibytes(answer.f_bavail),
        total: mebibytes(answer.f_blocks),
        used: mebibytes(answer.f_blocks.saturating_sub(answer.f_bfree)),
    })
}

fn labels(engine: &Info, hostname: &str, real: bool) -> BTreeMap<String, String> {
    let versions = [(HOST_DOCKER_VERSION, &engine.version), (HOST_LINUX_KERNEL_VERSION, &engine.kernel_version)];
    let versions = versions.into_iter().filter_map(|(label, version)| Some((label.to_owned(), major_minor(version)?)));
    let kvm = real && std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let name = (HOST_NAME.to_owned(), hostname.to_owned());
    versions.chain(kvm.then(|| (HOST_KVM.to_owned(), "true".to_owned()))).chain([name]).collect()
}

/// `20.10.24` and `6.1.0-13-amd64` are 20.10 and 6.1.
fn major_minor(version: &str) -> Option<String> {
    let mut numbers = version.split(['.', '-', '+']);
    let (major, minor) = (numbers.next()?, numbers.next()?);
    let plain = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (plain(major) && plain(minor)).then(|| format!("{major}.{minor}"))
}

/// The address this machine has towards the server; towards the world when the server is on this machine. Nothing is
/// sent: the kernel only says which address it would use.
pub fn detect_address(server_url: Option<&str>) -> Option<IpAddr> {
    let server = server_url.and_then(host_and_port).and_then(|target| target.to_socket_addrs().ok()?.next());
    // Documentation addresses: routed like the world, owned by nobody.
    let world = SocketAddr::from(([192, 0, 2, 1], 9));
    let source = |target: SocketAddr| {
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let usable = |address: &IpAddr| !address.is_loopback() && !address.is_unspecified();
    server.and_then(source).filter(usable).or_else(|| source(world).filter(usable))
}

fn host_and_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    Some(match has_port {
        true => authority.to_owned(),
        false => format!("{authority}:{}", if scheme == "https" { 443 } else { 80 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_mebibytes_with_three_decimals() {
        let info = memory_info("MemTotal:        2046566 kB\nMemFree:          219136 kB\nCached: 1 kB\n");
        assert_eq!(
            (&info["memTotal"], &info["memFree"], &info["cached"]),
            (&json!(1998.6), &json!(214.0), &json!(0.001))
        );
        assert_eq!(info.as_object().map(Map::len), Some(10));
    }

    #[test]
    fn versions_are_shortened() {
        let check = |version: &str, expected: Option<&str>| assert_eq!(major_minor(version).as_deref(), expected);
        check("20.10.24+dfsg1", Some("20.10"));
        check("6.1.0-13-amd64", Some("6.1"));
        check("dev", None);
        check("", None);
    }

    #[test]
    fn cores_are_busy_when_not_idle() {
        let stat = "cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 5 0 5 40 10 0 0 0 5 0\nintr 5\n";
        assert_eq!(cores(stat), [(10, 60)]);
    }

    #[test]
    fn urls_name_hosts() {
        let check = |url: &str, expected: &str| assert_eq!(host_and_port(url).as_deref(), Some(expected));
        check("http://h:8080/v1", "h:8080");
        check("https://h/v1", "h:443");
        check("http://h", "h:80");
    }

    #[tokio::test]
    async fn this_machine_has_all_facts() {
        let engine = crate::engine::simulated::Simulated::new(
            remuda_runtime::Seams::seeded(1, 0),
            crate::engine::simulated::Latency::none(),
        );
        let facts = Facts::of_this_machine(Arc::new(engine.clone()), None, None, BTreeMap::new()).gather().await;
        assert!(!facts.hostname.is_empty());
        assert!(facts.info["cpuInfo"]["count"].as_u64() > Some(0), "{}", facts.info);
        assert!(facts.info["memoryInfo"]["memTotal"].as_f64() > Some(0.0), "{}", facts.info);
        for name in ["osInfo", "diskInfo", "iopsInfo"] {
            assert!(facts.info[name].is_object(), "{name}");
        }
        assert_eq!(facts.labels[HOST_DOCKER_VERSION], "20.10");
        engine.set_reachable(false);
        let facts = Facts::simulated(Arc::new(engine), "sim-1", None, BTreeMap::new()).gather().await;
        assert!(facts.engine_problem.is_some());
        assert_eq!(facts.info.get("osInfo"), None);
    }
}
