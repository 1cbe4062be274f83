//! Build contexts that the server keeps (`compose.md` §11), one file each: `DIR/PROJECT/HASH.tar`.
//!
//! Files, not rows: a context may have gigabytes, and a database that is written by one writer and backed up as a whole
//! is the wrong place for them. What a file is for stands in the launch configs that name it, so there is nothing else
//! to remember: [`keep`] reads them and clears away what nobody has named for a while. Each project has a directory of
//! its own, so the same bytes of two projects are two files: a hash that one project knows opens nothing in another.
//! `docs/decisions/build-contexts.md` says what several servers need.

pub mod keep;
pub mod routes;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use remuda_model::build_context::is_hash;
use ring::digest::{Context as Digest, SHA256};

/// The directory of all contexts. Its calls block.
#[derive(Clone, Debug)]
pub struct Shelf {
    directory: PathBuf,
}

/// A context on the shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub hash: String,
    /// When it was last asked for or named.
    pub used_ms: i64,
}

/// Why an upload was not kept.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("it has more than {limit} bytes (setting `build.context.max.bytes`)")]
    TooLarge { limit: u64 },
    #[error("what arrived has the hash {found}: the directory changed while it was sent, or the upload ended early")]
    Different { found: String },
    #[error("writing it to the disk of the server")]
    Disk(#[source] io::Error),
}

impl Shelf {
    pub fn new(directory: PathBuf) -> Shelf {
        Shelf { directory }
    }

    fn of(&self, project: i64) -> PathBuf {
        self.directory.join(project.to_string())
    }

    /// Only for hashes that [`is_hash`] lets pass: they become part of a path.
    fn path(&self, project: i64, hash: &str) -> PathBuf {
        self.of(project).join(format!("{hash}.tar"))
    }

    /// The context's file and length, if there is one; it counts as used now.
    pub fn open(&self, project: i64, hash: &str, now_ms: i64) -> io::Result<Option<(File, u64)>> {
        match File::open(self.path(project, hash)) {
            Ok(file) => {
                let length = file.metadata()?.len();
                self.touch(project, hash, now_ms)?;
                Ok(Some((file, length)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that somebody still wants it.
    pub fn touch(&self, project: i64, hash: &str, now_ms: i64) -> io::Result<()> {
        let file = File::options().append(true).open(self.path(project, hash))?;
        file.set_modified(UNIX_EPOCH + Duration::from_millis(now_ms.try_into().unwrap_or(0)))
    }

    /// Numbers of the projects that have contexts.
    pub fn projects(&self) -> io::Result<Vec<i64>> {
        let names = names_in(&self.directory)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The contexts of a project, those used longest ago first.
    pub fn list(&self, project: i64) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for name in names_in(&self.of(project))? {
            let Some(hash) = name.strip_suffix(".tar").filter(|hash| is_hash(hash)) else { continue };
            found
                .extend(modified_ms(&self.path(project, hash))?.map(|used_ms| Kept { hash: hash.to_owned(), used_ms }));
        }
        found.sort_by(|a, b| (a.used_ms, &a.hash).cmp(&(b.used_ms, &b.hash)));
        Ok(found)
    }

    pub fn remove(&self, project: i64, hash: &str) -> io::Result<()> {
        tolerate_missing(fs::remove_file(self.path(project, hash)))
    }

    /// Removes what uploads that did not end have left, when it is older than that, and the directory if nothing else
    /// is in it.
    pub fn sweep(&self, project: i64, before_ms: i64) -> io::Result<()> {
        let directory = self.of(project);
        for name in names_in(&directory)?.iter().filter(|name| name.ends_with(".part")) {
            let path = directory.join(name);
            if modified_ms(&path)?.is_some_and(|at| at < before_ms) {
                tolerate_missing(fs::remove_file(&path))?;
            }
        }
        match fs::remove_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => tolerate_missing(other),
        }
    }

    /// Begins an upload; `token` is a name nobody else uses.
    pub fn begin(&self, project: i64, token: &str, limit: u64) -> Result<Arriving, Refused> {
        let directory = self.of(project);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(Refused::Disk)?;
        let path = directory.join(format!("{token}.part"));
        let file = File::create_new(&path).map_err(Refused::Disk)?;
        Ok(Arriving { file, path, digest: Digest::new(&SHA256), n_bytes: 0, limit, is_kept: false })
    }
}

/// An upload under way. Dropped before its end, it leaves nothing.
pub struct Arriving {
    file: File,
    path: PathBuf,
    digest: Digest,
    n_bytes: u64,
    limit: u64,
    is_kept: bool,
}

impl Arriving {
    pub fn take(&mut self, piece: &Bytes) -> Result<(), Refused> {
        self.n_bytes = self.n_bytes.saturating_add(piece.len() as u64);
        if self.n_bytes > self.limit {
            return Err(Refused::TooLarge { limit: self.limit });
        }
        self.digest.update(piece);
        self.file.write_all(piece).map_err(Refused::Disk)
    }

    /// Puts it on the shelf when it is what was announced.
    pub fn keep(mut self, shelf: &Shelf, project: i64, hash: &str) -> Result<u64, Refused> {
        let digest = self.digest.clone().finish();
        let found: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != hash {
            return Err(Refused::Different { found });
        }
        let placed = self.file.sync_all().and_then(|()| fs::rename(&self.path, shelf.path(project, hash)));
        placed.map_err(Refused::Disk)?;
        self.is_kept = true;
        Ok(self.n_bytes)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.is_kept {
            // What stays is swept later.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// What to remove of a project's contexts, oldest first: what nobody names and nobody used since then, and what nobody
/// names beyond the number that may stay.
pub fn removable<'k>(kept: &'k [Kept], named: &BTreeSet<String>, unused_since_ms: i64, most: usize) -> Vec<&'k Kept> {
    let n_over = kept.len().saturating_sub(most);
    let unnamed = kept.iter().filter(|it| !named.contains(&it.hash));
    unnamed.enumerate().filter(|(at, it)| *at < n_over || it.used_ms < unused_since_ms).map(|(_, it)| it).collect()
}

fn tolerate_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// `None`: it went in between.
fn modified_ms(path: &Path) -> io::Result<Option<i64>> {
    let modified = match fs::metadata(path) {
        Ok(metadata) => metadata.modified()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Some(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let directory = tempfile::tempdir().expect("a directory");
        let shelf = Shelf::new(directory.path().join("contexts"));
        (directory, shelf)
    }

    #[test]
    fn what_arrives_whole_is_kept_and_found_by_its_project_only() {
        let (_directory, shelf) = shelf();
        assert_eq!(shelf.projects().expect("lists"), Vec::<i64>::new());
        let mut arriving = shelf.begin(5, "a", 5).expect("begins");
        arriving.take(&Bytes::from_static(b"hel")).expect("room");
        arriving.take(&Bytes::from_static(b"lo")).expect("room");
        assert_eq!(arriving.keep(&shelf, 5, HELLO).expect("kept"), 5);
        assert!(shelf.open(6, HELLO, 7).expect("looks").is_none());
        let (_, length) = shelf.open(5, HELLO, 7000).expect("looks").expect("is there");
        assert_eq!(length, 5);
        assert_eq!(shelf.list(5).expect("lists"), [Kept { hash: HELLO.to_owned(), used_ms: 7000 }]);
        shelf.remove(5, HELLO).expect("removes");
        shelf.remove(5, HELLO).expect("again is no error");
        shelf.sweep(5, 0).expect("sweeps");
        assert_eq!(shelf.projects().expect("lists"), Vec::<i64>::new());
    }

    #[test]
    fn what_is_not_what_was_announced_leaves_nothing() {
        let (_directory, shelf) = shelf();
        let mut arriving = shelf.begin(5, "a", 5).expect("begins");
        arriving.take(&Bytes::from_static(b"hell")).expect("room");
        assert!(matches!(arriving.keep(&shelf, 5, HELLO), Err(Refused::Different { .. })));
        let mut arriving = shelf.begin(5, "a", 5).expect("the name is free again");
        assert!(matches!(arriving.take(&Bytes::from_static(b"hello!")), Err(Refused::TooLarge { limit: 5 })));
        drop(arriving);
        assert_eq!(names_in(&shelf.of(5)).expect("lists"), Vec::<String>::new());
    }

    #[test]
    fn what_is_named_stays_whatever_its_age() {
        let kept: Vec<Kept> = (1..=4).map(|at| Kept { hash: format!("{at}"), used_ms: at * 10 }).collect();
        let check = |named: &[&str], since: i64, most: usize, expected: &[&str]| {
            let named = named.iter().map(|hash| (*hash).to_owned()).collect();
            let found: Vec<&str> = removable(&kept, &named, since, most).iter().map(|it| it.hash.as_str()).collect();
            assert_eq!(found, expected, "{named:?} {since} {most}");
        };
        check(&[], 25, 9, &["1", "2"]);
        check(&["1"], 25, 9, &["2"]);
        check(&["1", "3"], 0, 3, &["2"]);
        check(&["1", "2", "3", "4"], 99, 2, &[]);
        check(&[], 0, 3, &["1"]);
    }
}
