//! Hosts behave like machines, and go away whatever happens to the test.
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use remuda_testbed::{Host, Part, Testbed, Way, image, wait};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn containers_run_are_reached_across_hosts_and_survive_the_daemon() {
    let bed = Testbed::start(2).unwrap();
    bed.load_image(image::TESTBOX).unwrap();
    let (one, two) = (bed.host(0), bed.host(1));

    let id = one.docker(&["run", "-d", "--name", "web", "-p", "8080:80", image::TESTBOX]).unwrap();
    let url = format!("http://{}:8080/cgi-bin/hello", one.address);
    let hello =
        wait::until("an answer across the wire", LIMIT, || two.exec(&["busybox", "wget", "-qO-", &url])).unwrap();
    assert_eq!(hello, format!("hello from {}\n", &id[..12]));
    assert_eq!(two.docker(&["ps", "-q"]).unwrap(), "", "the other daemon has nothing to do with it");

    // A crash of the daemon leaves the container's record; it can be started again under its id.
    one.restart_dockerd().unwrap();
    one.docker(&["start", "web"]).unwrap();
    assert_eq!(one.docker(&["inspect", "-f", "{{.Id}}", "web"]).unwrap(), id);

    // TERM is heard: stopping takes no grace period and the exit code is the script's own.
    one.docker(&["stop", "--time", "20", "web"]).unwrap();
    assert_eq!(one.docker(&["inspect", "-f", "{{.State.ExitCode}}", "web"]).unwrap(), "0\n");

    // What leaves the testbed is refused, not lost: a mistaken pull fails with a reason and not with a time-out.
    let refused = one.docker(&["pull", "192.0.2.1:5000/nonesuch:1"]).unwrap_err().to_string();
    assert!(refused.contains("no route to host"), "{refused}");
    let refused = one.docker(&["pull", "nonesuch:1"]).unwrap_err().to_string();
    assert!(!refused.contains("timeout"), "{refused}");

    two.disconnect().unwrap();
    let gone = Command::new("ping").args(["-c1", "-W1", &two.address.to_string()]).output();
    assert!(!gone.is_ok_and(|output| output.status.success()));
    two.reconnect().unwrap();
    wait::until_true("the wire", LIMIT, || {
        one.exec(&["busybox", "ping", "-c1", "-W1", &two.address.to_string()]).is_ok()
    })
    .unwrap();
}

#[test]
fn a_host_is_cut_off_frozen_and_ended() {
    let bed = Testbed::start(2).unwrap();
    bed.load_image(image::TESTBOX).unwrap();
    let (one, two) = (bed.host(0), bed.host(1));
    let hears = |from: &Host, to: Ipv4Addr| from.exec(&["busybox", "ping", "-c1", "-W1", &to.to_string()]).is_ok();

    // Only the two are cut off from each other; and it is undone.
    one.cut(two.address, Way::Both).unwrap();
    assert!(!hears(one, two.address) && !hears(two, one.address));
    assert!(hears(one, bed.gateway()) && hears(two, bed.gateway()));
    one.mend().unwrap();
    assert!(hears(one, two.address) && hears(two, one.address));
    // One way: what is sent arrives, the answer does not.
    one.cut(bed.gateway(), Way::In).unwrap();
    assert!(!hears(one, bed.gateway()));
    one.reconnect().unwrap();
    assert!(hears(one, bed.gateway()));

    // A frozen daemon takes connections and says nothing.
    one.docker(&["run", "-d", "--name", "web", image::TESTBOX, "/bin/rest"]).unwrap();
    one.pause(Part::Dockerd).unwrap();
    let state = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    assert!(one.processes(Part::Dockerd).iter().all(state));
    one.resume(Part::Dockerd).unwrap();
    let running = || one.docker(&["ps", "--format", "{{.Names}}"]);
    assert_eq!(running().unwrap(), "web\n");

    // The power fails: nothing runs, and after the start the daemon knows what there was.
    assert!(!one.processes(Part::Containers).is_empty());
    one.kill(Part::Host).unwrap();
    assert_eq!(one.processes(Part::Host), Vec::<u32>::new());
    assert!(!one.exec(&["ip", "-o", "link"]).unwrap().contains("docker0"));
    assert!(one.pause(Part::Dockerd).is_err());
    one.start_dockerd().unwrap();
    assert_eq!(running().unwrap(), "");
    assert_eq!(one.docker(&["ps", "-a", "--format", "{{.Names}}"]).unwrap(), "web\n");
    assert!(hears(two, one.address));
}

#[test]
fn a_dropped_testbed_leaves_nothing() {
    let bed = Testbed::start(1).unwrap();
    bed.load_image(image::TESTBOX).unwrap();
    bed.host(0).docker(&["run", "-d", "--name", "paused", image::TESTBOX, "rest"]).unwrap();
    bed.host(0).docker(&["pause", "paused"]).unwrap();
    let (slot, dir) = (bed.slot(), bed.dir());
    assert_ne!(traces(slot, &dir), Vec::<String>::new());
    drop(bed);
    assert_eq!(traces(slot, &dir), Vec::<String>::new());
}

#[test]
fn a_killed_owner_is_cleaned_up_after() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_remuda-testbed"));
    let mut owner = owner.args(["keep", "--hosts", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut word = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut word).unwrap();
    let dir = Path::new(word.trim().strip_prefix("ready ").unwrap()).to_path_buf();
    let slot = dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait::until_true("the guardian's work", LIMIT, || traces(slot, &dir).is_empty()).unwrap();
}

/// Everything on this machine that carries a testbed's number.
fn traces(slot: u8, dir: &Path) -> Vec<String> {
    let mut traces = Vec::new();
    if dir.exists() {
        traces.push(format!("directory {}", dir.display()));
    }
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let inside = format!("{}/", dir.display());
    traces.extend(text("/proc/self/mountinfo").lines().filter(|line| line.contains(&inside)).map(String::from));
    for (parent, prefixes) in [
        ("/sys/class/net", [format!("rtb{slot}v"), format!("rtb{slot}")]),
        ("/run/netns", [format!("rtb{slot}h"), String::from("-")]),
    ] {
        let names = std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let ours = names
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.starts_with(&prefixes[0]) || *name == prefixes[1]);
        traces.extend(ours.map(|name| format!("{parent}/{name}")));
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        // A zombie is dead; burying it is its parent's or init's business and takes as long as they like.
        let status = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
        let dead = status.lines().any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"));
        let cgroups = std::fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        if !dead && cgroups.contains(&format!("/remuda-testbed/{slot}/")) {
            traces.push(format!("process {}", process.file_name().display()));
        }
    }
    let rules = Command::new("iptables").args(["-w", "-S", "FORWARD"]).output().unwrap();
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    traces.extend(rules.lines().filter(|rule| rule.contains(&format!("rtb{slot} "))).map(String::from));
    traces
}
