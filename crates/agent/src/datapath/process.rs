//! The process `remuda datapath --state-dir DIR`: alone in its state directory, in a session of its own and out of the
//! agent's systemd unit, so that stopping the agent leaves the names of running containers alive.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remuda_runtime::{Seams, Tasks};
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use super::control::{self, Request};
use super::core::Core;
use super::{cache, handle};

/// How often the process looks whether anybody can still reach it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);

/// What the process is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the agent that started it: socket, lock and cache are there.
    pub state_dir: PathBuf,
    /// The host's resolver configuration, `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the state directory {path}")]
    StateDir { path: String, source: io::Error },
    #[error("another datapath already serves {path}; stop it first, or leave it")]
    AlreadyRunning { path: String },
    #[error("cannot open the control socket in {path}")]
    Socket { path: String, source: io::Error },
    #[error("cannot listen for signals")]
    Signal { source: io::Error },
}

/// Runs until it is told to stop, by the socket or SIGTERM, or until its state directory is gone.
pub async fn run(options: Options, seams: Seams) -> Result<(), Error> {
    let shown = options.state_dir.display().to_string();
    std::fs::create_dir_all(&options.state_dir).map_err(|source| Error::StateDir { path: shown.clone(), source })?;
    let _lock = lock(&options.state_dir).await?;
    leave_the_agent();
    let mut terminate = signal(SignalKind::terminate()).map_err(|source| Error::Signal { source })?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|source| Error::Signal { source })?;

    let tasks = seams.tasks.child();
    let cache = Some(cache::path(&options.state_dir));
    let core = Core::start(&seams.clock, seams.random, tasks.clone(), options.resolv_conf, cache).await;
    let (listener, inode) =
        open_socket(&options.state_dir).map_err(|source| Error::Socket { path: shown.clone(), source })?;
    tasks.spawn_until_stopped("datapath control", serve(core, tasks.clone(), listener));
    tracing::info!(state_dir = shown, pid = std::process::id(), "datapath started");

    tokio::select! {
        biased;
        () = tasks.stopping() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = until_unreachable(&options.state_dir, inode) => {
            tracing::warn!(state_dir = shown, "the control socket is gone, nobody can reach this datapath: it ends");
        }
    }
    tasks.shut_down(PATIENCE).await;
    if is_same(&handle::socket_path(&options.state_dir), inode) {
        let _ = std::fs::remove_file(handle::socket_path(&options.state_dir));
    }
    tracing::info!(state_dir = shown, "datapath stopped");
    Ok(())
}

/// One datapath per state directory, held until the process ends however it ends. A predecessor that was told to stop
/// gets a moment to do so.
async fn lock(state_dir: &Path) -> Result<File, Error> {
    const TRIES: usize = 100;
    let path = state_dir.join("datapath.lock");
    let error = |source| Error::StateDir { path: path.display().to_string(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(error)?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(std::fs::TryLockError::Error(source)) => return Err(error(source)),
        }
    }
    Err(Error::AlreadyRunning { path: state_dir.display().to_string() })
}

/// The socket appears under its name only when it is private and listening. Its inode tells it from a successor's.
fn open_socket(state_dir: &Path) -> io::Result<(UnixListener, u64)> {
    let path = handle::socket_path(state_dir);
    let fresh = path.with_extension("new");
    let (_guard, short_fresh) = handle::shortened(&fresh)?;
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(short_fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, &path)?;
    let inode = std::fs::metadata(&path)?.ino();
    Ok((listener, inode))
}

fn is_same(path: &Path, inode: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.ino() == inode)
}

async fn until_unreachable(state_dir: &Path, inode: u64) {
    let path = handle::socket_path(state_dir);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !is_same(&path, inode) {
            return;
        }
    }
}

async fn serve(core: Arc<Core>, tasks: Tasks, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let core = core.clone();
                // Not cut off by the stop: whoever asked for it hears that it was heard.
                tasks.spawn("datapath conversation", converse(core, tasks.clone(), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a control connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(core: Arc<Core>, tasks: Tasks, stream: UnixStream) {
    let mut stream = BufReader::new(stream);
    loop {
        let request = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            request = control::read::<Request>(&mut stream) => request,
        };
        let reply = match request {
            Ok(Some(request)) => core.handle(request).await,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "a control connection ended");
                return;
            }
        };
        if let Err(error) = control::write(&mut stream, &reply).await {
            tracing::debug!(%error, "a control connection ended");
            return;
        }
    }
}

/// A session of its own keeps the terminal's signals away; leaving the unit's cgroup keeps systemd's. Neither is
/// possible everywhere (already a session leader; not root), and neither is needed to work.
fn leave_the_agent() {
    #[expect(unsafe_code, reason = "no safe call makes a session")]
    // SAFETY: setsid takes no arguments, touches no memory of ours and at worst fails.
    let session = unsafe { libc::setsid() };
    if session < 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "staying in the session of the parent");
    }
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for group in groups_to_leave(&text) {
        let moved = std::fs::create_dir_all(&group)
            .and_then(|()| std::fs::write(group.join("cgroup.procs"), std::process::id().to_string()));
        if let Err(error) = moved {
            tracing::debug!(group = %group.display(), %error, "staying in the cgroup of the parent");
        }
    }
}

/// Where to move, from the text of `/proc/self/cgroup`: only systemd ends whole cgroups, so only its units are left.
fn groups_to_leave(text: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let lines = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    let in_unit = lines.filter(|(_, path)| path.split('/').any(|part| part.ends_with(".service")));
    let hierarchies = in_unit.filter_map(|(controllers, _)| match controllers {
        "" if root.join("cgroup.controllers").exists() => Some(root.to_path_buf()),
        "" => Some(root.join("unified")),
        "name=systemd" => Some(root.join("systemd")),
        _ => None,
    });
    hierarchies.map(|hierarchy| hierarchy.join("remuda-datapath")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_of_systemd_are_left() {
        let cases = [
            ("0::/user.slice/user-0.slice/session-3.scope", 0),
            ("0::/", 0),
            ("0::/system.slice/remuda-agent.service", 1),
            ("9:pids:/x.service\n1:name=systemd:/system.slice/remuda-agent.service", 1),
            ("rubbish", 0),
        ];
        for (text, n_groups) in cases {
            assert_eq!(groups_to_leave(text).len(), n_groups, "{text}");
        }
    }
}
