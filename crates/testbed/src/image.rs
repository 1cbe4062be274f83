//! Images made on the spot, because a test machine reaches no registry.
//!
//! `remuda/testbox:1` is Debian's static busybox with all its applets, plus `getent` with the C library: the resolver
//! that real programs use (busybox's own `wget` crashes on names that resolve). Its command serves `/www` on port 80
//! and ends at once on TERM, which busybox as process 1 would ignore. `remuda/testbox-curl:1` adds a dynamic `curl`.
//!
//! `remuda/haproxy:1` is Debian's HAProxy with the libraries it needs, the user `haproxy` that the official image has,
//! and busybox to look at it from inside.
//!
//! The tars are kept in `/tmp/remuda-testbed/images`, named after what went into them; `docker import` loads them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::slot::{ROOT, fingerprint};

/// Names of the images that [`crate::Host::load_image`] can make.
pub const NAMES: [&str; 3] = [TESTBOX, TESTBOX_CURL, HAPROXY];
/// busybox and `getent`.
pub const TESTBOX: &str = "remuda/testbox:1";
/// The same with `curl`.
pub const TESTBOX_CURL: &str = "remuda/testbox-curl:1";
/// busybox and HAProxy.
pub const HAPROXY: &str = "remuda/haproxy:1";

/// Serves /www on the port given (80), answers TERM. `/www/cgi-bin/hello` says who answered.
const SERVE: &str =
    "#!/bin/sh\ntrap 'kill $! 2>/dev/null; exit 0' TERM INT\nhttpd -f -p \"${1:-80}\" -h /www &\nwait $!\n";
/// Does nothing until TERM.
const REST: &str = "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 3600 & wait $!; done\n";
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nhaproxy:x:99:99:haproxy:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nhaproxy:x:99:\nnogroup:x:65534:\n";
const HELLO: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nhello from %s\\n' \"$(hostname)\"\n";

/// The parts of an image that `docker import` is told beside the files.
pub struct Image {
    pub tar: PathBuf,
    pub changes: Vec<String>,
}

/// Makes the files of an image, or finds them made.
pub fn build(name: &str) -> Result<Image> {
    let programs: &[&str] = match name {
        TESTBOX => &["/usr/bin/getent"],
        TESTBOX_CURL => &["/usr/bin/getent", "/usr/bin/curl"],
        HAPROXY => &["/usr/sbin/haproxy"],
        other => bail!("the testbed has no image `{other}`; it makes {}", NAMES.join(", ")),
    };
    let changes: &[&str] = match name {
        // As the official image has it: another user than root, and no configuration of its own.
        HAPROXY => &[
            "CMD [\"haproxy\", \"-W\", \"-db\", \"-f\", \"/usr/local/etc/haproxy/haproxy.cfg\"]",
            "ENV PATH=/bin",
            "USER haproxy",
        ],
        _ => &["CMD [\"/bin/serve\"]", "EXPOSE 80/tcp", "ENV PATH=/bin"],
    };
    let changes = changes.iter().map(|change| (*change).to_owned()).collect();
    let dir = Path::new(ROOT).join("images");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Threads of this process take turns; other processes write under another name and the last rename wins.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let version = fingerprint(&[name, SERVE, REST, HELLO, PASSWD, GROUP]);
    let tar = dir.join(format!("{version:016x}.tar"));
    if !tar.exists() {
        let fresh = dir.join(format!(".{version:016x}.{}", std::process::id()));
        write(&fresh, programs).with_context(|| format!("cannot make image {name}"))?;
        fs::rename(&fresh, &tar).with_context(|| format!("cannot write {}", tar.display()))?;
    }
    Ok(Image { tar, changes })
}

fn write(path: &Path, programs: &[&str]) -> Result<()> {
    let mut tar = Tree::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?);
    for dir in ["bin", "dev", "etc", "lib", "proc", "root", "run", "sys", "tmp", "usr", "var", "www", "www/cgi-bin"] {
        tar.dir(dir)?;
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("no busybox found: install the package busybox-static")?;
    tar.file("bin/busybox", &fs::read(busybox)?, 0o755)?;
    let applets = Command::new(busybox).arg("--list").output().context("cannot run busybox")?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
        tar.link(&format!("bin/{applet}"), "busybox")?;
    }
    let mut libraries = BTreeSet::new();
    for program in programs {
        tar.file(&format!("bin/{}", program.rsplit('/').next().unwrap_or(program)), &fs::read(program)?, 0o755)?;
        libraries.extend(libraries_of(program)?);
    }
    for library in libraries {
        tar.file(library.trim_start_matches('/'), &fs::read(&library)?, 0o755)?;
    }
    tar.file("bin/serve", SERVE.as_bytes(), 0o755)?;
    tar.file("bin/rest", REST.as_bytes(), 0o755)?;
    tar.file("www/cgi-bin/hello", HELLO.as_bytes(), 0o755)?;
    tar.file("www/index.html", b"testbox\n", 0o644)?;
    tar.file("etc/passwd", PASSWD.as_bytes(), 0o644)?;
    tar.file("etc/group", GROUP.as_bytes(), 0o644)?;
    tar.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n", 0o644)?;
    tar.0.finish().context("cannot finish the tar")
}

/// What `ldd` names, the program's loader included.
fn libraries_of(program: &str) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    if !output.status.success() {
        bail!("{program} is missing or not a dynamic program: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(String::from)
        .collect())
}

/// A tar in the making; directories once, everything owned by root, no times: the same input gives the same bytes.
struct Tree(tar::Builder<File>, BTreeSet<String>);

impl Tree {
    fn new(file: File) -> Tree {
        Tree(tar::Builder::new(file), BTreeSet::new())
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    fn dir(&mut self, path: &str) -> Result<()> {
        if path.is_empty() || !self.1.insert(path.to_string()) {
            return Ok(());
        }
        let mode = if path == "tmp" { 0o1777 } else { 0o755 };
        let mut header = Tree::header(tar::EntryType::Directory, mode, 0);
        Ok(self.0.append_data(&mut header, format!("{path}/"), std::io::empty())?)
    }

    fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let parts: Vec<&str> = path.split('/').collect();
        for n_parts in 1..parts.len() {
            self.dir(&parts[..n_parts].join("/"))?;
        }
        let mut header = Tree::header(tar::EntryType::Regular, mode, content.len() as u64);
        Ok(self.0.append_data(&mut header, path, content)?)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = Tree::header(tar::EntryType::Symlink, 0o777, 0);
        Ok(self.0.append_link(&mut header, path, target)?)
    }
}
