//! One host: its namespace, its daemon, and what a test does to them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{image, slot, wait};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// A machine as far as Docker and the network can tell.
pub struct Host {
    /// `host1`, `host2` and so on.
    pub name: String,
    /// Its address on the wire between the hosts and the machine that runs the test.
    pub address: Ipv4Addr,
    /// The name of its network namespace.
    pub netns_name: String,
    /// Its part of the testbed's directory; a good place for an agent's state.
    pub dir: PathBuf,
    /// The test machine's end of its wire.
    pub(crate) wire: String,
    /// Relative to a hierarchy's root; daemons run in `…/daemons`, containers in `…/containers`.
    pub(crate) cgroup: String,
    pub(crate) dockerd: Mutex<Option<Child>>,
}

impl Host {
    /// The path of the daemon's socket.
    pub fn docker_socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// The socket the way `DOCKER_HOST` and `--docker-host` want it.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.docker_socket().display())
    }

    /// The file to give to `nsenter --net=`.
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.netns_name)
    }

    /// A command that runs on this host. Its process id is the program's own, so it can be killed as such; it and its
    /// descendants end with the testbed even when they detach themselves.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new("sh");
        command.args(self.enter()?).arg(program);
        Ok(command)
    }

    /// What `sh` is told in front of a program to run it on this host.
    pub fn enter(&self) -> Result<[PathBuf; 3]> {
        Ok([slot::scripts()?.join("enter.sh"), self.netns(), self.daemons_cgroup()])
    }

    /// Runs an argument vector on this host to its end and gives its standard output.
    pub fn exec<A: AsRef<std::ffi::OsStr>>(&self, argv: &[A]) -> Result<String> {
        let (program, args) = argv.split_first().context("exec needs a program")?;
        let mut command = self.command(program)?;
        command.args(args);
        output(command)
    }

    /// Runs the Docker command line against this host's daemon.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.docker_host()).args(args).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        output(command)
    }

    /// Makes one of the [`image::NAMES`] known to this host's daemon. A second call does nothing.
    pub fn load_image(&self, name: &str) -> Result<()> {
        let image = image::build(name)?;
        if self.docker(&["image", "inspect", name]).is_ok() {
            return Ok(());
        }
        let tar = image.tar.to_str().context("the image's path is not UTF-8")?;
        let mut args = vec!["import"];
        args.extend(image.changes.iter().flat_map(|change| ["--change", change.as_str()]));
        args.extend([tar, name]);
        self.docker(&args).with_context(|| format!("cannot load {name} on {}", self.name))?;
        Ok(())
    }

    /// Ends the daemon as a crash would: kill -9. Running containers stay; containerd goes with its parent.
    pub fn kill_dockerd(&self) -> Result<()> {
        let Some(mut child) = self.take_dockerd() else { return Ok(()) };
        child.kill().context("cannot kill dockerd")?;
        child.wait().context("cannot wait for dockerd")?;
        Ok(())
    }

    /// Starts the daemon when it does not run and waits until it answers.
    pub fn start_dockerd(&self) -> Result<()> {
        let mut dockerd = self.dockerd.lock().unwrap_or_else(PoisonError::into_inner);
        if dockerd.is_none() {
            *dockerd = Some(self.spawn_dockerd()?);
        }
        let mut ended = None;
        let answered = wait::until(&format!("dockerd of {}", self.name), READY_LIMIT, || {
            if let Some(status) = dockerd.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                ended = Some(status);
                return Ok(());
            }
            ping(&self.docker_socket())
        });
        if let Some(status) = ended {
            *dockerd = None;
            bail!("dockerd of {} ended ({status}); the end of its log:\n{}", self.name, self.dockerd_log_tail());
        }
        answered.with_context(|| format!("the end of its log:\n{}", self.dockerd_log_tail()))
    }

    /// [`Host::kill_dockerd`] and [`Host::start_dockerd`].
    pub fn restart_dockerd(&self) -> Result<()> {
        self.kill_dockerd()?;
        self.start_dockerd()
    }

    /// What the daemon said, to show when a test fails.
    pub fn dockerd_log_tail(&self) -> String {
        let text = fs::read(self.dir.join("dockerd.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn spawn_dockerd(&self) -> Result<Child> {
        use std::os::unix::process::CommandExt;
        // After a crash both would be left over, and their process ids may belong to others by now.
        for stale in ["docker.pid", "docker.sock", "exec/containerd/containerd.pid"] {
            let path = self.dir.join(stale);
            if path.exists() {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let config = self.dir.join("daemon.json");
        fs::write(&config, "{}\n").with_context(|| format!("cannot write {}", config.display()))?;
        let log = self.dir.join("dockerd.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = self.command("dockerd")?;
        command
            .arg("--config-file")
            .arg(config)
            .arg("--data-root")
            .arg(self.dir.join("data"))
            .arg("--exec-root")
            .arg(self.dir.join("exec"))
            .arg("--pidfile")
            .arg(self.dir.join("docker.pid"))
            .arg("--host")
            .arg(self.docker_host())
            .arg("--cgroup-parent")
            .arg(format!("{}/containers", self.cgroup))
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--log-level", "info"]);
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("cannot start dockerd")
    }

    fn take_dockerd(&self) -> Option<Child> {
        self.dockerd.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Daemons need one hierarchy only: to be found again. Version 2 has one; of version 1 any will do.
    pub(crate) fn daemons_cgroup(&self) -> PathBuf {
        hierarchy().join(format!("{}/daemons", self.cgroup.trim_start_matches('/')))
    }
}

pub(crate) fn hierarchy() -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return root.to_path_buf();
    }
    let known = ["pids", "systemd", "freezer"].map(|name| root.join(name));
    known.into_iter().find(|path| path.join("cgroup.procs").exists()).unwrap_or_else(|| root.to_path_buf())
}

/// Asks a Docker daemon whether it is there. Written by hand: a whole client would be the testbed's largest part.
fn ping(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        return Ok(());
    }
    bail!("it answered {:?}", answer.lines().next().unwrap_or_default())
}

pub(crate) fn ip(args: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(args);
    output(command).map(drop)
}

/// Runs to the end; a failure carries the whole command and what it said.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} wrote something that is not UTF-8"))
}
