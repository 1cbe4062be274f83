//! A build context as a tar: what `.dockerignore` leaves of a directory, sorted and without times, piece by piece.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use remuda_compose::Build;
use tokio::sync::mpsc;

use crate::commands::images::encoded;

/// Pieces of this size are handed on.
const PIECE: usize = 256 << 10;
/// So many of them wait for a slow reader.
const WAITING: usize = 4;
/// Name of a Dockerfile that stands in the compose file.
const INLINE: &str = ".remuda.Dockerfile";

/// What the engine calls the Dockerfile of a build.
pub fn dockerfile(build: &Build) -> String {
    if build.dockerfile_inline.is_some() {
        return INLINE.to_owned();
    }
    let usual = || {
        let has = |name: &str| Path::new(&build.directory).join(name).is_file();
        if !has("Dockerfile") && has("dockerfile") { "dockerfile" } else { "Dockerfile" }.to_owned()
    };
    build.dockerfile.clone().unwrap_or_else(usual)
}

/// The call that builds an image of it.
pub fn build_path(build: &Build, image: &str, no_cache: bool) -> String {
    let args = serde_json::to_string(&build.args).unwrap_or_default();
    let mut path = format!(
        "/build?rm=1&forcerm=1&t={}&dockerfile={}&buildargs={}",
        encoded(image),
        encoded(&dockerfile(build)),
        encoded(&args)
    );
    if let Some(target) = &build.target {
        path.push_str(&format!("&target={}", encoded(target)));
    }
    if no_cache {
        path.push_str("&nocache=1");
    }
    path
}

/// The context of a build, made by a thread of its own while it is read.
pub fn tar(build: &Build) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let build = build.clone();
    std::thread::spawn(move || {
        let mut pieces = Pieces { buffer: Vec::with_capacity(PIECE), sender };
        if let Err(error) = write(&build, &mut pieces) {
            // Whoever reads no more does not want to know.
            drop(pieces.sender.blocking_send(Err(error)));
        }
    });
    receiver
}

fn write(build: &Build, pieces: &mut Pieces) -> io::Result<()> {
    let root = Path::new(&build.directory);
    let ignored = match std::fs::read_to_string(root.join(".dockerignore")) {
        Ok(text) => Ignored::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ignored::default(),
        Err(error) => return Err(error),
    };
    let dockerfile = dockerfile(build);
    let mut archive = ::tar::Builder::new(&mut *pieces);
    for path in files(root, Path::new(""), &ignored, &dockerfile)? {
        append(&mut archive, root, &path)?;
    }
    if let Some(text) = &build.dockerfile_inline {
        let mut header = header(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, INLINE, text.as_bytes())?;
    }
    archive.finish()?;
    drop(archive);
    pieces.flush()
}

/// Everything of a directory that is not ignored, sorted; directories before what is in them.
fn files(root: &Path, below: &Path, ignored: &Ignored, dockerfile: &str) -> io::Result<Vec<PathBuf>> {
    let mut names =
        std::fs::read_dir(root.join(below))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let path = below.join(name);
        let is_needed = path == Path::new(dockerfile) || path == Path::new(".dockerignore");
        let is_directory = root.join(&path).symlink_metadata()?.is_dir();
        let is_out = ignored.matches(&path) && !is_needed;
        if is_directory {
            // A later pattern may take back what is inside of a directory that is ignored.
            let inside = files(root, &path, ignored, dockerfile)?;
            if !is_out || !inside.is_empty() {
                found.push(path);
                found.extend(inside);
            }
        } else if !is_out {
            found.push(path);
        }
    }
    Ok(found)
}

fn header(mode: u32) -> ::tar::Header {
    let mut header = ::tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(archive: &mut ::tar::Builder<&mut Pieces>, root: &Path, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let full = root.join(path);
    let meta = full.symlink_metadata()?;
    let mut header = header(meta.permissions().mode() & 0o7777);
    if meta.is_symlink() {
        header.set_entry_type(::tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, path, std::fs::read_link(&full)?)
    } else if meta.is_dir() {
        header.set_entry_type(::tar::EntryType::Directory);
        header.set_size(0);
        archive.append_data(&mut header, path, io::empty())
    } else if meta.is_file() {
        header.set_size(meta.len());
        archive.append_data(&mut header, path, std::fs::File::open(full)?)
    } else {
        // Sockets and devices are no part of an image.
        Ok(())
    }
}

/// Collects what the archive writes and hands it on in pieces.
struct Pieces {
    buffer: Vec<u8>,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// The patterns of `.dockerignore`: the last that matches decides.
#[derive(Debug, Default)]
struct Ignored(Vec<(bool, Vec<String>)>);

impl Ignored {
    fn parse(text: &str) -> Ignored {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pattern = |line: &str| {
            let (is_ignored, line) = match line.strip_prefix('!') {
                Some(rest) => (false, rest.trim()),
                None => (true, line),
            };
            let parts = line.split('/').filter(|part| !part.is_empty() && *part != ".");
            (is_ignored, parts.map(str::to_owned).collect())
        };
        Ignored(lines.map(pattern).collect())
    }

    /// A pattern that matches a directory matches what is inside.
    fn matches(&self, path: &Path) -> bool {
        let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let hits = |pattern: &[String]| !pattern.is_empty() && (1..=parts.len()).any(|n| whole(pattern, &parts[..n]));
        let last = self.0.iter().rev().find(|(_, pattern)| hits(pattern));
        last.is_some_and(|(is_ignored, _)| *is_ignored)
    }
}

/// `**` is any number of parts.
fn whole(pattern: &[String], parts: &[String]) -> bool {
    match pattern.split_first() {
        None => parts.is_empty(),
        Some((first, rest)) if first == "**" => (0..=parts.len()).any(|skipped| whole(rest, &parts[skipped..])),
        Some((first, rest)) => match parts.split_first() {
            Some((part, others)) => glob(first.as_bytes(), part.as_bytes()) && whole(rest, others),
            None => false,
        },
    }
}

/// `*` is any number of letters, `?` is one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => glob(&pattern[1..], text) || (!text.is_empty() && glob(pattern, &text[1..])),
        (Some(b'?'), Some(_)) => glob(&pattern[1..], &text[1..]),
        (Some(wanted), Some(found)) if wanted == found => glob(&pattern[1..], &text[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored() {
        let ignored = Ignored::parse("# comment\n\n*.log\n/target\n**/tmp\n!keep.log\ndocs/*\n!docs/README.md\nx?z\n");
        for (path, expected) in [
            ("a.log", true),
            ("keep.log", false),
            ("sub/a.log", false),
            ("target", true),
            ("target/debug/x", true),
            ("a/b/tmp/c", true),
            ("tmp", true),
            ("docs/a.md", true),
            ("docs/README.md", false),
            ("docs", false),
            ("xyz", true),
            ("src/main.rs", false),
        ] {
            assert_eq!(ignored.matches(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_context_is_the_same_whenever_it_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("makes");
            std::fs::write(path, text).expect("writes");
        };
        put("Dockerfile", "FROM scratch\n");
        put(".dockerignore", "*\n!app\napp/secret\n");
        put("app/main", "x");
        put("app/secret", "y");
        put("other", "z");
        let build = Build { directory: dir.path().display().to_string(), ..Build::default() };
        let read = |build: &Build| {
            let mut pieces = tar(build);
            let mut all = Vec::new();
            while let Some(piece) = pieces.blocking_recv() {
                all.extend_from_slice(&piece.expect("a piece"));
            }
            all
        };
        let first = read(&build);
        let mut archive = ::tar::Archive::new(&first[..]);
        let names = archive
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("one").path().expect("a path").display().to_string());
        assert_eq!(names.collect::<Vec<_>>(), [".dockerignore", "Dockerfile", "app", "app/main"]);
        put("Dockerfile", "FROM scratch\n");
        assert!(first == read(&build), "the same files are the same bytes");
        let inline = Build { dockerfile_inline: Some("FROM x\n".to_owned()), ..build };
        assert_eq!(dockerfile(&inline), INLINE);
        assert!(read(&inline).windows(6).any(|window| window == b"FROM x"));
    }
}
