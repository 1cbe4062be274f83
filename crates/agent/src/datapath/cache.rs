//! What the datapath remembers across its own restart: the last directory and where it listens. One file, written by
//! rename, its first line the checksum of the rest. Deleting it costs freshness until the agent has spoken.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use remuda_wire::directory::Directory;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::control::What;
use crate::overlay;

/// The remembered state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Remembered {
    pub source: String,
    pub host_uuid: String,
    pub directory: Option<Directory>,
    /// Revision of the last change that anybody could see.
    pub version: i64,
    pub listen: Vec<(What, SocketAddr)>,
    pub upstreams: Vec<SocketAddr>,
    pub overlay: Option<overlay::Settings>,
}

/// Where it is kept.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("datapath.json")
}

/// What was saved last; nothing when there is no file, or it is damaged (said in the log).
pub fn load(path: &Path) -> Remembered {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Remembered::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the datapath's cache cannot be read; starting without it");
            return Remembered::default();
        }
    };
    parse(&text).unwrap_or_else(|| {
        tracing::warn!(path = %path.display(), "the datapath's cache is damaged; starting without it");
        Remembered::default()
    })
}

fn parse(text: &[u8]) -> Option<Remembered> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let body = &text[end + 1..];
    (text[..end] == *checksum(body).as_bytes()).then(|| serde_json::from_slice(body).ok())?
}

/// Replaces the file. After a crash it is the old or the new one. Gives its length.
pub fn save(path: &Path, remembered: &Remembered) -> io::Result<usize> {
    let body = serde_json::to_vec(remembered)?;
    let mut text = checksum(&body).into_bytes();
    text.push(b'\n');
    text.extend(body);
    let fresh = path.with_extension("json.new");
    write_private(&fresh, &text)?;
    std::fs::rename(fresh, path)?;
    Ok(text.len())
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn checksum(body: &[u8]) -> String {
    digest(&SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use remuda_wire::directory::{Entry, Stack};

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_damage_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        assert_eq!(load(&path), Remembered::default());
        let mut directory = Directory { revision: 5, ..Directory::default() };
        directory.put(Entry::Stack(Stack { id: 3, name: "s".into(), ..Stack::default() }));
        let remembered = Remembered {
            source: "a.0".into(),
            host_uuid: "h".into(),
            directory: Some(directory),
            version: 4,
            listen: vec![(What::Dns, "169.254.169.250:42053".parse().unwrap())],
            upstreams: vec![],
            overlay: Some(overlay::Settings { subnet: "10.42.0.0/16".into(), ..overlay::Settings::default() }),
        };
        save(&path, &remembered).unwrap();
        assert_eq!(load(&path), remembered);

        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[10..], b"", b"\n"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(load(&path), Remembered::default());
        }
    }
}
