//! The store itself: open, read, write, follow, trim.

use std::path::PathBuf;
use std::sync::Arc;

use remuda_runtime::{Seams, Signal};
use remuda_schema::Registry;

use crate::error::{Error, OpenError};
use crate::faults::{self, Fault, Faults};
use crate::feed::{Feed, Identity};
use crate::job::{ReadJob, Reading, WriteJob, Writing};
use crate::layout::{Dialect, Layout};
use crate::postgres::{self, Postgres};
use crate::read::Read;
use crate::retention::{self, Ended, Retention, STEP, Trimmed};
use crate::sqlite::{self, Sqlite};
use crate::write::{Committed, Tx};

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// One file (and its side files); one server.
    Sqlite { path: PathBuf },
    /// Nothing is kept. For tests and simulation.
    Memory,
    /// Many servers. `postgres://user:password@host:5432/name`.
    Postgres { url: String },
}

/// How to open a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub database: Database,
    /// Run everything on the caller, without threads, so that a paused clock stays paused. SQLite only.
    pub inline_writer: bool,
    /// Reader threads of SQLite, connections to PostgreSQL.
    pub connections: usize,
}

impl Options {
    /// The usual options for a database.
    pub fn new(database: Database) -> Options {
        let connections = if matches!(database, Database::Postgres { .. }) { 16 } else { 4 };
        Options { database, inline_writer: false, connections }
    }

    /// A store that is gone when it is dropped, running on its callers.
    pub fn memory() -> Options {
        Options { inline_writer: true, ..Options::new(Database::Memory) }
    }
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    faults: faults::Handle,
}

struct Inner {
    backend: Backend,
    layout: Arc<Layout>,
    identity: Identity,
    seams: Seams,
    revision: Arc<Signal>,
}

enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, making and migrating what is missing.
    pub async fn open(options: Options, registry: &'static Registry, seams: Seams) -> Result<Store, OpenError> {
        let revision = Arc::new(Signal::default());
        let dialect = match options.database {
            Database::Postgres { .. } => Dialect::Postgres,
            Database::Sqlite { .. } | Database::Memory => Dialect::Sqlite,
        };
        let layout = Arc::new(Layout::new(registry, dialect)?);
        let (backend, identity) = match &options.database {
            Database::Postgres { url } => {
                let (postgres, identity) = postgres::open(url, options.connections, &layout, &seams, &revision).await?;
                (Backend::Postgres(postgres), identity)
            }
            Database::Sqlite { path } => {
                let opened =
                    sqlite::open(Some(path), options.inline_writer, options.connections, &layout, &seams, &revision)?;
                (Backend::Sqlite(opened.sqlite), opened.identity)
            }
            Database::Memory => {
                let opened = sqlite::open(None, true, options.connections, &layout, &seams, &revision)?;
                (Backend::Sqlite(opened.sqlite), opened.identity)
            }
        };
        let inner = Arc::new(Inner { backend, layout, identity, seams, revision });
        Ok(Store { inner, faults: faults::Handle::default() })
    }

    /// The same store, with calls that go wrong as asked for.
    pub fn with_faults(&self, faults: Arc<dyn Faults>) -> Store {
        Store { inner: Arc::clone(&self.inner), faults: faults::Handle(Some(faults)) }
    }

    /// What goes wrong before the call reaches the database.
    async fn before(&self, fault: Option<Fault>) -> Result<(), Error> {
        match fault {
            Some(Fault::Slow(wait)) => self.inner.seams.clock.sleep(wait).await,
            Some(Fault::Away) => return Err(faults::away()),
            Some(Fault::Stuck) => std::future::pending().await,
            Some(Fault::AnswerLost | Fault::StuckAfter) | None => {}
        }
        Ok(())
    }

    /// What goes wrong on the way back.
    async fn after<T, E: From<Error>>(&self, fault: Option<Fault>, answer: Result<T, E>) -> Result<T, E> {
        match fault {
            Some(Fault::StuckAfter) => std::future::pending().await,
            Some(Fault::AnswerLost) if answer.is_ok() => Err(E::from(faults::answer_lost())),
            _ => answer,
        }
    }

    /// Runs a closure in one write transaction: committed when it returns `Ok`, rolled back when it returns `Err` or
    /// panics. What was answered is on disk. On PostgreSQL the closure runs again when others were in its way (a deadlock, a
    /// row it read and they wrote before it did), so it should set its variables afresh. Dropping the future does not stop a closure that is on its way.
    pub async fn write<R, E, F>(&self, closure: F) -> Result<Committed<R>, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let fault = self.faults.0.as_ref().and_then(|faults| faults.write());
        self.before(fault).await?;
        let (job, answer) = Writing::new(closure);
        let job: Box<dyn WriteJob> = Box::new(job);
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.write(job).await,
            Backend::Postgres(postgres) => postgres.write(job).await,
        }
        let answer = answer.await.unwrap_or_else(|_| Err(E::from(Error::Closed)));
        self.after(fault, answer).await
    }

    /// Runs a closure in one read transaction: all it reads is of one moment.
    pub async fn read<R, E, F>(&self, closure: F) -> Result<R, E>
    where
        F: FnOnce(&mut Read<'_>) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let fault = self.faults.0.as_ref().and_then(|faults| faults.read());
        self.before(fault).await?;
        let (job, answer) = Reading::new(closure);
        let job: Box<dyn ReadJob> = Box::new(job);
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.read(job).await,
            Backend::Postgres(postgres) => postgres.read(job).await,
        }
        let answer = answer.await.unwrap_or_else(|_| Err(E::from(Error::Closed)));
        self.after(fault, answer).await
    }

    /// Whole commits after a revision, in order; about `limit` changes.
    pub async fn changes(&self, after: i64, limit: u64) -> Result<Feed, Error> {
        self.read(move |read| read.changes(after, limit)).await
    }

    /// The newest revision this process knows of. A wake-up and no more: it can be late, and the feed is the truth.
    pub fn newest(&self) -> &Signal {
        &self.inner.revision
    }

    /// How often the database was lost. When it grows, what was read shortly before may have been taken back (a crash
    /// of PostgreSQL takes commits with it that nobody was told of): followers list again.
    pub fn losses(&self) -> u64 {
        match &self.inner.backend {
            Backend::Sqlite(_) => 0,
            Backend::Postgres(postgres) => postgres.losses(),
        }
    }

    /// Whether other servers may work on the same database.
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.backend, Backend::Postgres(_))
    }

    /// Who the database is, as of the start.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.read(|read| read.revision().map(drop)).await
    }

    /// Removes what need not be kept any longer, in many small transactions.
    pub async fn trim(&self, retention: &Retention) -> Result<Trimmed, Error> {
        let now_ms = self.inner.seams.clock.now_ms();
        let mut trimmed = Trimmed::default();
        let tables: Vec<&'static str> = self.inner.layout.tables.keys().copied().collect();
        for table in tables {
            let ended = Ended::new(table, retention, now_ms);
            loop {
                let ids = self.read(move |read| ended.find(read)).await?;
                if ids.is_empty() {
                    break;
                }
                let last = ids.len() < STEP as usize;
                trimmed.rows += self.write(move |tx| ended.delete(tx, &ids)).await?.value;
                if last {
                    break;
                }
            }
        }
        let keep = retention.clone();
        let horizon = self.read(move |read| retention::horizon(read, &keep, now_ms)).await?;
        loop {
            let removed = self.write(move |tx| retention::trim_changes(tx, horizon)).await?.value;
            trimmed.changes += removed;
            if removed < STEP.unsigned_abs() {
                return Ok(trimmed);
            }
        }
    }

    /// Says that an older copy of the database was put in place: agents and followers compare before they act. Takes
    /// effect in the identity at the next start.
    pub async fn raise_epoch(&self) -> Result<i64, Error> {
        let raised = self.write(|tx| {
            let epoch = tx.conn.one("UPDATE head SET epoch = epoch + 1 RETURNING epoch", &[], |cells| cells.int(0))?;
            epoch.ok_or(Error::Closed)
        });
        Ok(raised.await?.value)
    }

    /// Commits what was begun and lets go of the database; later calls answer [`Error::Closed`].
    pub async fn close(&self) {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(postgres) => postgres.close(),
        }
    }
}
