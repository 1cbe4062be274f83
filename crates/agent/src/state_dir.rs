//! The state directory: identity and keys (0600), and a cache of what the server said last.
//!
//! Files are written beside their place and renamed, with a checksum in the first line: a half-written or damaged
//! cache is as good as none, and said so. Deleting the cache costs freshness while the server is away; deleting the
//! identity means registering again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Name of the identity's file.
pub const IDENTITY: &str = "identity.json";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the state directory {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is damaged ({reason}); remove it to begin anew", path.display())]
    Damaged { path: PathBuf, reason: String },
}

/// Who this host is. Kept for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// The host's own uuid.
    pub host_uuid: String,
    /// Random key the host registers with.
    pub register_key: String,
    /// What the server gave for it.
    pub keys: Option<Keys>,
}

/// The agent's own API key.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Keys {
    /// Base URL of the server that gave them.
    pub url: String,
    pub access_key: String,
    pub secret_key: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("url", &self.url).field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A directory of this host's own.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Makes it when it is not there, for its owner only.
    pub fn open(path: &Path) -> Result<StateDir, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| Error::Make { path: path.to_owned(), source })?;
        Ok(StateDir { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file; `None` when there is none.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let damaged = |reason: &str| Error::Damaged { path: path.clone(), reason: reason.to_owned() };
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no checksum line"))?;
        let (sum, json) = (&bytes[..end], &bytes[end + 1..]);
        if sum != checksum(json).as_bytes() {
            return Err(damaged("its checksum does not match"));
        }
        serde_json::from_slice(json).map(Some).map_err(|error| damaged(&error.to_string()))
    }

    /// Reads a cache: a damaged one is as good as none.
    pub fn load_cache<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        self.load(name)
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "starting without this cache");
                None
            })
            .unwrap_or_default()
    }

    /// Writes a file by rename, readable by its owner only. Survives a kill; a cache may be lost with the machine.
    pub fn save_cache<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.write(name, value, false)
    }

    /// As [`StateDir::save_cache`], and survives power loss.
    pub fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.write(name, value, true)
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, sync: bool) -> Result<(), Error> {
        let path = self.path.join(name);
        let beside = self.path.join(format!(".{name}.new"));
        let failed = |source: io::Error| Error::Write { path: path.clone(), source };
        let json = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
        let mut bytes = checksum(&json).into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(&json);
        file.write_all(&bytes).map_err(failed)?;
        if sync {
            file.sync_all().map_err(failed)?;
        }
        fs::rename(&beside, &path).map_err(failed)?;
        if sync {
            File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_saved_comes_back_and_damage_is_seen() {
        let temporary = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(&temporary.path().join("a/b")).expect("made");
        assert!(state.load::<Identity>(IDENTITY).expect("nothing yet").is_none());
        let identity = Identity { host_uuid: "u".into(), ..Identity::default() };
        state.save(IDENTITY, &identity).expect("saved");
        assert_eq!(state.load(IDENTITY).expect("loads"), Some(identity));
        let path = state.path().join(IDENTITY);
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        let mut bytes = fs::read(&path).expect("reads");
        *bytes.last_mut().expect("not empty") = b'x';
        fs::write(&path, bytes).expect("written");
        assert!(matches!(state.load::<Identity>(IDENTITY), Err(Error::Damaged { .. })));
        assert_eq!(state.load_cache::<Identity>(IDENTITY), Identity::default());
    }
}
