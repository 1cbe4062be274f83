//! A PostgreSQL for tests, on a private port and data directory.
//!
//! One server serves all tests of all processes that run at the time (nextest gives every test its own process, and a
//! server of its own for each would cost more than the tests). Users hold a shared lock; a guardian stops the server
//! a few seconds after the last is gone, however they went. Each test gets a database of its own.
//! For tests durability is off (`fsync=off`): they fear wrong statements and wrong order, not power loss. Measurements
//! take a server [`Tuning::AsInstalled`], as people have it.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::output;
use crate::slot::{ROOT, fingerprint};
use crate::wait;

const GUARD: &str = include_str!("postgres-guard.sh");
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The running server. It stays at least until this is dropped.
pub struct Postgres {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    dir: PathBuf,
    programs: PathBuf,
    account: Account,
    _user: File,
}

/// A database that is dropped with this value.
pub struct Database<'s> {
    /// The form that `--database` takes.
    pub url: String,
    name: String,
    server: &'s Postgres,
}

/// How the server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// Quick, for many small databases that nobody misses.
    ForTests,
    /// What a fresh installation has: commits wait for the disk, dead rows are cleaned away. One user at a time.
    AsInstalled,
}

impl Tuning {
    /// Its directory below [`ROOT`].
    fn dir(self) -> &'static str {
        match self {
            Tuning::ForTests => "postgres",
            Tuning::AsInstalled => "postgres-as-installed",
        }
    }

    fn settings(self) -> &'static str {
        match self {
            Tuning::ForTests => {
                "max_connections=400\nfsync=off\nsynchronous_commit=off\nfull_page_writes=off\nshared_buffers=64MB\n\
                 max_wal_size=512MB\nautovacuum=off\n"
            }
            Tuning::AsInstalled => "",
        }
    }
}

/// The account the server runs as: it refuses root.
#[derive(Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Starts the server, or joins the one that runs.
    pub fn start(tuning: Tuning) -> Result<Postgres> {
        let programs = programs()?;
        let account = account()?;
        let dir = Path::new(ROOT).join(tuning.dir());
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let start = lock_file(&dir.join("start.lock"))?;
        start.lock().context("cannot lock the start of PostgreSQL")?;
        let user = lock_file(&dir.join("users.lock"))?;
        user.lock_shared().context("cannot lock PostgreSQL against being stopped")?;
        let port = match running(&dir, &programs) {
            Some(port) => port,
            None => launch(&dir, &programs, account, tuning)?,
        };
        Ok(Postgres { port, dir, programs, account, _user: user })
    }

    /// Returns when no server runs, or somebody uses the one that does: after that nothing of ours is about to end.
    pub fn wait_until_unused_has_stopped() -> Result<()> {
        let dir = Path::new(ROOT).join(Tuning::ForTests.dir());
        wait::until_true("the unused PostgreSQL to stop", READY_LIMIT, || {
            let used = || lock_file(&dir.join("users.lock")).is_ok_and(|users| users.try_lock().is_err());
            !dir.join("data").exists() || used()
        })
    }

    /// Ends the server as a crash would, losing what is not on disk, and starts it again.
    pub fn crash(&self) -> Result<()> {
        let mut restart = Command::new(self.programs.join("pg_ctl"));
        restart.args(["restart", "--mode", "immediate", "--wait", "--silent", "--pgdata"]).arg(self.dir.join("data"));
        restart.arg("--log").arg(self.dir.join("data/log-after-crash"));
        restart.uid(self.account.uid).gid(self.account.gid).current_dir("/").stdin(Stdio::null());
        let status = restart.stdout(Stdio::null()).stderr(Stdio::null()).status().context("cannot run pg_ctl")?;
        if !status.success() {
            bail!(
                "pg_ctl could not start PostgreSQL again ({status}); see {}",
                self.dir.join("data/log-after-crash").display()
            );
        }
        Ok(())
    }

    /// The server of this process, started when first asked for.
    pub fn shared() -> Result<&'static Postgres> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        match SHARED.get_or_init(|| Postgres::start(Tuning::ForTests).map_err(|error| format!("{error:#}"))) {
            Ok(server) => Ok(server),
            Err(reason) => bail!("no PostgreSQL for tests: {reason}"),
        }
    }

    /// Makes an empty database whose name begins with `name`.
    pub fn database(&self, name: &str) -> Result<Database<'_>> {
        let name = self.create(name)?;
        Ok(Database { url: self.url(&name), name, server: self })
    }

    /// The URL of a database of this server.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}?sslmode=disable", self.port)
    }

    /// Runs statements with `psql` and gives what it printed, unaligned.
    pub fn psql(&self, database: &str, statements: &str) -> Result<String> {
        let mut command = self.client("psql");
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
        command.args(["--dbname", database, "--command", statements]);
        output(command)
    }

    fn create(&self, name: &str) -> Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        // The process and a count within it; the server does not outlive a reuse of process ids by much, and a name
        // that is taken all the same is an error, not a mix-up.
        let plain = &plain[..plain.len().min(40)];
        let name = format!("{plain}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = self.client("createdb");
        command.arg(&name);
        output(command).with_context(|| format!("cannot create database {name}"))?;
        Ok(name)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(["--host", "127.0.0.1", "--username", "postgres", "--no-password", "--port"]);
        command.arg(self.port.to_string()).uid(self.account.uid).gid(self.account.gid).current_dir("/");
        command
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let mut command = self.server.client("dropdb");
        command.args(["--force", "--if-exists", &self.name]);
        if let Err(error) = output(command) {
            eprintln!("testbed: {error:#}");
        }
    }
}

/// The URL of a new empty database on the shared server; it goes with the server.
///
/// # Panics
/// When PostgreSQL is not installed or does not start: a test cannot go on.
pub fn postgres_url(name: &str) -> String {
    let url = Postgres::shared().and_then(|server| Ok(server.url(&server.create(name)?)));
    url.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The port of the server that answers from this directory, if one does.
fn running(dir: &Path, programs: &Path) -> Option<u16> {
    let port: u16 = fs::read_to_string(dir.join("port")).ok()?.trim().parse().ok()?;
    // The port may have passed to another server: ours is known by its data directory's lock file naming the port.
    let pid_file = fs::read_to_string(dir.join("data/postmaster.pid")).ok()?;
    let same = pid_file.lines().nth(3).is_some_and(|line| line.trim() == port.to_string());
    (same && is_ready(programs, port)).then_some(port)
}

fn is_ready(programs: &Path, port: u16) -> bool {
    let mut ready = Command::new(programs.join("pg_isready"));
    ready.args(["--quiet", "--host", "127.0.0.1", "--port", &port.to_string()]);
    ready.status().is_ok_and(|status| status.success())
}

fn launch(dir: &Path, programs: &Path, account: Account, tuning: Tuning) -> Result<u16> {
    let data = dir.join("data");
    // Nobody uses it and it does not answer: what is left of one that was killed is not worth a recovery.
    let guard = dir.join(format!("guard-{:016x}.sh", fingerprint(&[GUARD])));
    fs::write(&guard, GUARD).with_context(|| format!("cannot write {}", guard.display()))?;
    stop_stale(&data, programs, account);
    if data.exists() {
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
    }
    fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
    chown(&data, Some(account.uid), Some(account.gid))
        .with_context(|| format!("cannot give away {}", data.display()))?;

    let mut initdb = Command::new(programs.join("initdb"));
    initdb.arg("--pgdata").arg(&data).args(["--username", "postgres", "--auth", "trust", "--encoding", "UTF8"]);
    initdb.args(["--locale", "C.UTF-8", "--no-sync", "--no-instructions"]).current_dir("/");
    initdb.uid(account.uid).gid(account.gid);
    output(initdb).context("cannot make PostgreSQL's data directory")?;

    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).context("no free port")?.port();
    let settings =
        format!("listen_addresses='127.0.0.1'\nport={port}\nunix_socket_directories=''\n{}", tuning.settings());
    let conf = data.join("postgresql.conf");
    fs::write(&conf, settings).with_context(|| format!("cannot write {}", conf.display()))?;

    let log = dir.join("log");
    let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut server = Command::new(programs.join("postgres"));
    server.arg("-D").arg(&data).uid(account.uid).gid(account.gid).process_group(0).current_dir("/");
    server.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let mut server = server.spawn().context("cannot start postgres")?;
    wait::until(&format!("PostgreSQL on port {port}"), READY_LIMIT, || {
        if let Some(status) = server.try_wait()? {
            // Ready never comes: end the wait by succeeding, the check below tells.
            return Ok(Some(status));
        }
        if is_ready(programs, port) { Ok(None) } else { bail!("it does not answer yet") }
    })
    .and_then(|ended| match ended {
        Some(status) => bail!("postgres ended ({status}): {}", fs::read_to_string(&log).unwrap_or_default()),
        None => Ok(()),
    })?;
    fs::write(dir.join("port"), format!("{port}\n")).context("cannot write PostgreSQL's port")?;

    Command::new("sh")
        .arg(&guard)
        .arg(dir)
        .arg(programs.join("pg_ctl"))
        .arg(account.uid.to_string())
        .arg(account.gid.to_string())
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start PostgreSQL's guardian")?;
    Ok(port)
}

/// A server without a guardian (somebody killed that) still runs on the directory we are about to replace.
fn stop_stale(data: &Path, programs: &Path, account: Account) {
    if data.join("postmaster.pid").exists() {
        let mut stop = Command::new(programs.join("pg_ctl"));
        stop.args(["stop", "--mode", "immediate", "--silent", "--pgdata"]).arg(data).uid(account.uid).gid(account.gid);
        // Fails when the file is all that is left: which is what we want to know nothing about.
        let _ = stop.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// Debian keeps the server's programs out of the path, by version; the newest is taken.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, bin)| bin);
    newest.context("no PostgreSQL server found: install the package postgresql, or run `packaging/install-deps`")
}

fn account() -> Result<Account> {
    let own = fs::metadata("/proc/self").context("cannot read /proc")?;
    if own.uid() != 0 {
        return Ok(Account { uid: own.uid(), gid: own.gid() });
    }
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let ids = line.map(|line| line.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect::<Vec<u32>>());
    match ids.as_deref() {
        Some([uid, gid]) => Ok(Account { uid: *uid, gid: *gid }),
        _ => bail!("there is no account `postgres` to run the server as: install the package postgresql"),
    }
}
