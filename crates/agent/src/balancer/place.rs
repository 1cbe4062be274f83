//! Where a balancer's configuration lies on the host: one directory per balancer container, seen by nobody else.
//!
//! ```text
//! UUID/conf/7/haproxy.cfg, run.cfg, certs/…   one generation of the configuration
//! UUID/conf/current -> 7                      what HAProxy reads when it starts and at a reload
//! UUID/run/master.sock                        HAProxy's command socket
//! UUID/state.json                             which generation that is, and its servers
//! ```
//!
//! `conf` is bound into the container read-only, `run` writable. Each generation is a directory of its own, so that
//! one can be checked by HAProxy while another runs, and taking it into use is one rename. Everything is 0600/0700:
//! private keys are among it. Where `/run` is a tmpfs the directories are there and keys never reach a disk; a reboot
//! empties it, and the configuration is made anew from the cached plan before the container starts.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::balancer::rendered::{Rendered, Server};

/// Where `conf` is in the container.
pub const CONF: &str = "/etc/remuda-balancer";
/// Where `run` is in the container.
pub const RUN: &str = "/run/remuda-balancer";
const CONFIG: &str = "haproxy.cfg";
const OWN_CONFIG: &str = "run.cfg";
const STATE: &str = "state.json";

/// Settings of how HAProxy is run, before those of the balancer, which may overrule them: a worker that a reload
/// replaced has an hour, or sixty reloads, to finish what it has; then its connections are closed. Without a bound an
/// endless connection would keep a process for each reload.
const OWN_SETTINGS: &str = "\
global
    hard-stop-after 3600s
    mworker-max-reloads 60
";

/// A step on the host's file system that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the configuration names a file outside its directory: `{0}`")]
    Outside(String),
}

/// Directories for balancers.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

/// One balancer's directory.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

/// What is kept beside the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    pub generation: u64,
    /// HAProxy has run with it. One that has not is not tried twice at a start.
    pub proven: bool,
    /// Of the directory it was made from.
    pub revision: i64,
    pub backends: BTreeMap<String, Vec<Server>>,
}

impl Place {
    /// The one that belongs to an agent's state directory.
    pub fn of(state_dir: &Path) -> Place {
        Place::with_run(state_dir, Path::new("/run"))
    }

    fn with_run(state_dir: &Path, run: &Path) -> Place {
        // The engine takes a relative path for the name of a volume.
        let absolute = std::path::absolute(state_dir);
        let state_dir = absolute.as_deref().unwrap_or(state_dir);
        if !is_tmpfs(run) {
            return Place(state_dir.join("balancers"));
        }
        // Several agents may run here, each with its own state directory.
        let digest = ring::digest::digest(&ring::digest::SHA256, state_dir.as_os_str().as_encoded_bytes());
        let name: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Place(run.join("remuda-agent").join(name).join("balancers"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn dir(&self, uuid: &str) -> Dir {
        Dir(self.0.join(uuid))
    }

    /// Balancers that have a directory here.
    pub fn uuids(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut uuids: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        uuids.sort();
        uuids
    }

    /// Removes everything of every balancer.
    pub fn clean(&self) -> io::Result<()> {
        tolerate_missing(fs::remove_dir_all(&self.0))
    }
}

impl Dir {
    /// `source:target:mode`, as the engine takes it.
    pub fn binds(&self) -> [String; 2] {
        [format!("{}:{CONF}:ro", self.conf().display()), format!("{}:{RUN}", self.run().display())]
    }

    /// The program and arguments of the container.
    pub fn command() -> Vec<String> {
        let current = format!("{CONF}/current");
        let socket = format!("{RUN}/master.sock,mode,600");
        ["haproxy", "-W", "-db", "-S", &socket, "-C", &current, "-f", OWN_CONFIG, "-f", CONFIG]
            .map(str::to_owned)
            .to_vec()
    }

    /// The program that says what is wrong with a generation.
    pub fn check_command(generation: u64) -> Vec<String> {
        let at = format!("{CONF}/{generation}");
        ["haproxy", "-c", "-C", &at, "-f", OWN_CONFIG, "-f", CONFIG].map(str::to_owned).to_vec()
    }

    pub fn socket(&self) -> PathBuf {
        self.run().join("master.sock")
    }

    fn conf(&self) -> PathBuf {
        self.0.join("conf")
    }

    fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    fn generation_path(&self, generation: u64) -> PathBuf {
        self.conf().join(generation.to_string())
    }

    /// Makes the directories when they are not there.
    pub fn make(&self) -> Result<(), Error> {
        for path in [self.conf(), self.run()] {
            directory(&path)?;
        }
        Ok(())
    }

    /// Removes everything: the balancer is gone.
    pub fn remove(&self) -> io::Result<()> {
        tolerate_missing(fs::remove_dir_all(&self.0))
    }

    /// What is kept, when it speaks of what HAProxy would read now.
    pub fn state(&self) -> Option<State> {
        let state: State = serde_json::from_slice(&fs::read(self.0.join(STATE)).ok()?).ok()?;
        (self.current() == Some(state.generation)).then_some(state)
    }

    pub fn state_save(&self, state: &State) -> Result<(), Error> {
        let json = serde_json::to_vec(state).map_err(io::Error::from);
        let path = self.0.join(STATE);
        let fresh = self.0.join(".state.new");
        json.and_then(|json| file(&fresh, &json))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| Error::Write { path, source })
    }

    /// Reads the generation of a state back.
    pub fn rendered(&self, state: &State) -> io::Result<Rendered> {
        let at = self.generation_path(state.generation);
        let config = fs::read_to_string(at.join(CONFIG))?;
        let mut files = BTreeMap::new();
        read_files(&at, &at, &mut files)?;
        files.remove(CONFIG);
        files.remove(OWN_CONFIG);
        Ok(Rendered { config, files, backends: state.backends.clone() })
    }

    /// Writes another generation, which nobody reads yet; gives its number.
    pub fn write(&self, rendered: &Rendered) -> Result<u64, Error> {
        let generation = self.generations().into_iter().max().unwrap_or(0) + 1;
        let at = self.generation_path(generation);
        directory(&at)?;
        let own = [(OWN_CONFIG, OWN_SETTINGS.as_bytes()), (CONFIG, rendered.config.as_bytes())];
        let files = rendered.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        for (name, bytes) in own.into_iter().chain(files) {
            let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            if name.is_empty() || !is_inside {
                return Err(Error::Outside(name.to_owned()));
            }
            let path = at.join(name);
            directory(path.parent().unwrap_or(&at))?;
            file(&path, bytes).map_err(|source| Error::Write { path, source })?;
        }
        Ok(generation)
    }

    /// Takes a generation into use for the next start or reload; the others stay until [`Dir::tidy`].
    pub fn switch(&self, generation: u64) -> Result<(), Error> {
        let (fresh, path) = (self.conf().join(".current"), self.conf().join("current"));
        tolerate_missing(fs::remove_file(&fresh))
            .and_then(|()| std::os::unix::fs::symlink(generation.to_string(), &fresh))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| Error::Write { path, source })
    }

    fn current(&self) -> Option<u64> {
        fs::read_link(self.conf().join("current")).ok()?.to_str()?.parse().ok()
    }

    fn generations(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.conf()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Removes generations that are not in use.
    pub fn tidy(&self) {
        let current = self.current();
        for generation in self.generations().into_iter().filter(|generation| Some(*generation) != current) {
            let path = self.generation_path(generation);
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "an old configuration stays");
            }
        }
    }
}

fn directory(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

fn read_files(base: &Path, at: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            read_files(base, &entry.path(), files)?;
        } else if let Some(name) = entry.path().strip_prefix(base).ok().and_then(Path::to_str) {
            files.insert(name.to_owned(), fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn tolerate_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_tmpfs(path: &Path) -> bool {
    let Ok(directory) = File::open(path) else { return false };
    let mut found = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    #[expect(unsafe_code, reason = "the standard library does not say what kind of file system it is")]
    // SAFETY: the descriptor is open for the length of the call and `found` has room for what is written; it was
    // zeroed, and every bit pattern is a valid `statfs`.
    let (result, found) = unsafe {
        let result = libc::fstatfs(std::os::fd::AsRawFd::as_raw_fd(&directory), found.as_mut_ptr());
        (result, found.assume_init())
    };
    result == 0 && found.f_type == libc::TMPFS_MAGIC
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn rendered() -> Rendered {
        let server =
            Server { name: "a".into(), address: "10.42.0.1:80".parse().unwrap(), options: vec![], drain: false };
        Rendered {
            config: "global\n".into(),
            files: [("certs/main.pem".to_owned(), b"key".to_vec()), ("list".to_owned(), b"1".to_vec())].into(),
            backends: [("80_".to_owned(), vec![server])].into(),
        }
    }

    #[test]
    fn what_is_written_comes_back_and_is_the_owners_only() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = Place(temporary.path().join("b")).dir("u");
        dir.make().expect("made");
        assert_eq!(dir.state(), None);
        let generation = dir.write(&rendered()).expect("written");
        let state = State { generation, proven: true, revision: 7, backends: rendered().backends };
        dir.state_save(&state).expect("saved");
        // Not yet in use: what is kept would speak of something else.
        assert_eq!(dir.state(), None);
        dir.switch(generation).expect("in use");
        assert_eq!(dir.state(), Some(state.clone()));
        assert_eq!(dir.rendered(&state).expect("reads"), rendered());
        let key = temporary.path().join("b/u/conf/current/certs/main.pem");
        assert_eq!(fs::metadata(&key).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(temporary.path().join("b/u")).expect("is there").permissions().mode() & 0o777, 0o700);

        let next = dir.write(&rendered()).expect("written");
        dir.switch(next).expect("in use");
        dir.tidy();
        assert_eq!((dir.generations(), dir.state()), (vec![next], None));
        dir.remove().expect("gone");
        dir.remove().expect("gone already");
        assert!(!key.exists());
    }

    #[test]
    fn files_stay_inside() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = Place(temporary.path().to_owned()).dir("u");
        for name in ["../x", "/etc/x", "a/../../x", ""] {
            let odd = Rendered { files: [(name.to_owned(), vec![])].into(), ..Rendered::default() };
            assert!(matches!(dir.write(&odd), Err(Error::Outside(_))), "{name}");
        }
    }

    #[test]
    fn memory_is_preferred_where_there_is_some() {
        let place = Place::with_run(Path::new("/var/lib/a"), Path::new("/dev/shm"));
        assert!(place.path().starts_with("/dev/shm/remuda-agent"), "{place:?}");
        let other = Place::with_run(Path::new("/var/lib/b"), Path::new("/dev/shm"));
        assert_ne!(place.path(), other.path());
        let disk = Place::with_run(Path::new("/var/lib/a"), Path::new("/proc"));
        assert_eq!(disk.path(), Path::new("/var/lib/a/balancers"));
    }
}
