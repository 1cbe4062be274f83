//! SQLite: one writer thread with group commit, reader threads beside it; or everything inline on the caller, for
//! deterministic runs and databases in memory.
//!
//! Group commit: the writer takes every closure that waits, runs each in a savepoint of one transaction, commits once
//! (one fsync), and only then answers. So many small writes share the price of one, and none is acknowledged early.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remuda_runtime::{Clock, Random, Seams, Signal};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use crate::conn::{Cells, Conn};
use crate::error::{Error, OpenError};
use crate::feed::Identity;
use crate::job::{ReadJob, WriteJob};
use crate::layout::Layout;
use crate::migrate;
use crate::param::Param;
use crate::read::Read;
use crate::write::Tx;

/// Writes in one commit. More would make the first wait for the last without saving much.
const GROUP: usize = 256;
/// Closures that may wait for the writer, or for the readers, before callers wait to enqueue.
const QUEUE: usize = 4096;
/// Closures bring their own depth; only what is touched costs memory.
const STACK: usize = 8 << 20;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open SQLite database.
pub(crate) enum Sqlite {
    /// One connection, used by whoever calls.
    Inline(Mutex<Option<Writer>>),
    Threads {
        writes: mpsc::Sender<ToWriter>,
        reads: Mutex<Option<mpsc::Sender<Box<dyn ReadJob>>>>,
    },
}

pub(crate) enum ToWriter {
    Write(Box<dyn WriteJob>),
    /// Ends the writer after what was enqueued before.
    Close(oneshot::Sender<()>),
}

/// The one connection that writes.
pub(crate) struct Writer {
    connection: Connection,
    layout: Arc<Layout>,
    clock: Clock,
    random: Random,
    revision: Arc<Signal>,
    /// Held while the file is open, so that no second server opens it.
    _lock: Option<File>,
}

pub(crate) struct Opened {
    pub(crate) sqlite: Sqlite,
    pub(crate) identity: Identity,
}

/// Opens or makes the database and brings it up to date.
pub(crate) fn open(
    path: Option<&Path>,
    inline: bool,
    readers: usize,
    layout: &Arc<Layout>,
    seams: &Seams,
    revision: &Arc<Signal>,
) -> Result<Opened, OpenError> {
    let lock = path.map(lock).transpose()?;
    let connection = match path {
        Some(path) => {
            private_file(path)?;
            connect(path, false)
        }
        None => Connection::open_in_memory().map_err(|error| failure("open", error)),
    }?;
    // busy_timeout first: everything after it may have to wait for somebody.
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| failure("busy_timeout", error))?;
    if path.is_some() {
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .map_err(|error| failure("journal_mode", error))?;
    }
    for (pragma, value) in [("synchronous", "FULL"), ("temp_store", "MEMORY"), ("cache_size", "-8000")] {
        connection.pragma_update(None, pragma, value).map_err(|error| failure(pragma, error))?;
    }
    connection
        .pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))
        .map_err(|error| failure("journal_size_limit", error))?;
    connection.set_prepared_statement_cache_capacity(256);

    let conn = Conn::Sqlite(&connection);
    conn.batch("BEGIN IMMEDIATE")?;
    let (identity, head) = migrate::run(conn, layout, seams)?;
    conn.batch("COMMIT")?;
    revision.raise(head);

    let writer = Writer {
        connection,
        layout: layout.clone(),
        clock: seams.clock.clone(),
        random: seams.random.clone(),
        revision: revision.clone(),
        _lock: lock,
    };
    let sqlite = match path {
        Some(path) if !inline => threads(writer, path, readers.max(1), layout)?,
        _ => Sqlite::Inline(Mutex::new(Some(writer))),
    };
    Ok(Opened { sqlite, identity })
}

impl Sqlite {
    pub(crate) async fn write(&self, mut job: Box<dyn WriteJob>) {
        match self {
            Sqlite::Inline(writer) => {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                match writer.as_mut() {
                    Some(writer) => writer.commit(vec![job]),
                    None => job.answer(Err(Error::Closed)),
                }
            }
            Sqlite::Threads { writes, .. } => {
                if let Err(mpsc::error::SendError(ToWriter::Write(refused))) = writes.send(ToWriter::Write(job)).await {
                    job = refused;
                    job.answer(Err(Error::Closed));
                }
            }
        }
    }

    pub(crate) async fn read(&self, job: Box<dyn ReadJob>) {
        match self {
            Sqlite::Inline(writer) => {
                let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                match writer.as_ref() {
                    Some(writer) => read(&writer.connection, &writer.layout, job),
                    None => job.run(Err(Error::Closed)),
                }
            }
            Sqlite::Threads { reads, .. } => {
                let reads = reads.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match reads {
                    Some(reads) => {
                        if let Err(mpsc::error::SendError(job)) = reads.send(job).await {
                            job.run(Err(Error::Closed));
                        }
                    }
                    None => job.run(Err(Error::Closed)),
                }
            }
        }
    }

    /// Commits what was enqueued and gives the file back. Later calls answer [`Error::Closed`].
    pub(crate) async fn close(&self) {
        match self {
            Sqlite::Inline(writer) => drop(writer.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Sqlite::Threads { writes, reads } => {
                // Readers end when the last sender is gone.
                drop(reads.lock().unwrap_or_else(PoisonError::into_inner).take());
                let (done, closed) = oneshot::channel();
                if writes.send(ToWriter::Close(done)).await.is_ok() {
                    let _ = closed.await;
                }
            }
        }
    }
}

fn threads(mut writer: Writer, path: &Path, readers: usize, layout: &Arc<Layout>) -> Result<Sqlite, OpenError> {
    let (reads, waiting_reads) = mpsc::channel::<Box<dyn ReadJob>>(QUEUE);
    let waiting_reads = Arc::new(Mutex::new(waiting_reads));
    for number in 0..readers {
        let connection = connect(path, true)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| failure("busy_timeout", error))?;
        connection.set_prepared_statement_cache_capacity(256);
        let (layout, jobs) = (layout.clone(), waiting_reads.clone());
        spawn(format!("store-reader-{number}"), move || {
            loop {
                // The lock is held while waiting: whoever has it takes the next job, the others wait for the lock.
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                match job {
                    Some(job) => read(&connection, &layout, job),
                    None => return,
                }
            }
        })?;
    }
    let (writes, mut waiting) = mpsc::channel(QUEUE);
    spawn("store-writer".to_owned(), move || {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = waiting.blocking_recv() else { return };
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    ToWriter::Write(job) => group.push(job),
                    ToWriter::Close(done) => {
                        closing = Some(done);
                        break;
                    }
                }
                next = if group.len() < GROUP { waiting.try_recv().ok() } else { None };
            }
            writer.commit(group);
        }
        drop(writer);
        if let Some(done) = closing {
            let _ = done.send(());
        }
    })?;
    Ok(Sqlite::Threads { writes, reads: Mutex::new(Some(reads)) })
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    std::thread::Builder::new()
        .name(name.clone())
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
        .map_err(|cause| OpenError::Thread { name, cause })
}

impl Writer {
    /// Runs a group of closures in one transaction, each in a savepoint, and answers them after the commit.
    fn commit(&mut self, group: Vec<Box<dyn WriteJob>>) {
        if group.is_empty() {
            return;
        }
        let started = self.begin();
        let mut head = match started {
            Ok(head) => head,
            Err(error) => {
                self.abandon();
                return group.into_iter().for_each(|job| job.answer(Err(error.clone())));
            }
        };
        let mut done = Vec::with_capacity(group.len());
        for mut job in group {
            // After some errors (disk full) SQLite has rolled back everything by itself: the rest would run outside.
            let outcome = if self.connection.is_autocommit() {
                Err(Error::Unavailable { step: "a write before it in the same commit failed", cause: Arc::new(Lost) })
            } else {
                self.run(job.as_mut(), head)
            };
            if let Ok(revision) = outcome {
                head = revision;
            }
            done.push((job, outcome));
        }
        let committed = execute(&self.connection, "COMMIT", &[]);
        match committed {
            Ok(_) => {
                self.revision.raise(head);
                done.into_iter().for_each(|(job, outcome)| job.answer(outcome));
            }
            Err(error) => {
                self.abandon();
                done.into_iter().for_each(|(job, _)| job.answer(Err(error.clone())));
            }
        }
    }

    fn begin(&self) -> Result<i64, Error> {
        let conn = Conn::Sqlite(&self.connection);
        conn.execute("BEGIN IMMEDIATE", &[])?;
        Ok(conn.one("SELECT revision FROM head", &[], |cells| cells.int(0))?.unwrap_or(0))
    }

    /// Rolls back whatever is open. An error leaves nothing open either.
    fn abandon(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = execute(&self.connection, "ROLLBACK", &[])
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a failed transaction could not be rolled back");
        }
    }

    /// One closure in a savepoint; the revision after it.
    fn run(&self, job: &mut dyn WriteJob, head: i64) -> Result<i64, Error> {
        let conn = Conn::Sqlite(&self.connection);
        conn.execute("SAVEPOINT job", &[])?;
        let mut tx = Tx::new(Read { conn, layout: &self.layout }, &self.clock, &self.random);
        let outcome = match job.run(&mut tx) {
            Ok(true) => tx.finish_single_writer().map(|revision| revision.unwrap_or(head)),
            Ok(false) => {
                conn.execute("ROLLBACK TO job", &[])?;
                Ok(head)
            }
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            conn.execute("ROLLBACK TO job", &[])?;
        }
        conn.execute("RELEASE job", &[])?;
        outcome
    }
}

/// The transaction of a group ended before its commit.
#[derive(Debug, thiserror::Error)]
#[error("the database rolled the transaction back")]
struct Lost;

/// Runs a read in a transaction of its own, so that all it sees is of one moment.
fn read(connection: &Connection, layout: &Layout, job: Box<dyn ReadJob>) {
    match execute(connection, "BEGIN", &[]) {
        Ok(_) => {
            let mut read = Read { conn: Conn::Sqlite(connection), layout };
            job.run(Ok(&mut read));
            if let Err(error) = execute(connection, "COMMIT", &[]) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a read transaction did not end cleanly");
            }
        }
        Err(error) => job.run(Err(error)),
    }
}

fn connect(path: &Path, reader: bool) -> Result<Connection, Error> {
    let mode = if reader { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(|error| failure("open", error))
}

/// Makes the file, readable by its owner only, if it is not there. SQLite gives its side files the same mode.
fn private_file(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    made.map(drop).map_err(|cause| OpenError::File { path: path.display().to_string(), cause })
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let file_error = |cause| OpenError::File { path: lock_path.display().to_string(), cause };
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let file = file.map_err(file_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(cause)) => Err(file_error(cause)),
    }
}

pub(crate) fn each(
    connection: &Connection,
    text: &str,
    params: &[Param<'_>],
    see: &mut dyn FnMut(&Cells<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(text).map_err(|error| failure("prepare", error))?;
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(|error| failure("query", error))?;
    while let Some(row) = rows.next().map_err(|error| failure("query", error))? {
        see(&Cells::Sqlite(row))?;
    }
    Ok(())
}

pub(crate) fn execute(connection: &Connection, text: &str, params: &[Param<'_>]) -> Result<u64, Error> {
    let mut statement = connection.prepare_cached(text).map_err(|error| failure("prepare", error))?;
    let touched = statement.execute(rusqlite::params_from_iter(params)).map_err(|error| failure("execute", error))?;
    Ok(touched as u64)
}

/// What an error of SQLite means to callers.
pub(crate) fn failure(step: &'static str, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Code;
    let away = matches!(
        error.sqlite_error_code(),
        Some(
            Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::DiskFull
                | Code::SystemIoFailure
                | Code::CannotOpen
                | Code::ReadOnly
        )
    );
    let cause = Arc::new(error);
    if away { Error::Unavailable { step, cause } } else { Error::Sql { step, cause } }
}

/// A column that does not hold what it should.
pub(crate) fn unreadable(error: rusqlite::Error) -> Error {
    Error::Sql { step: "read a column", cause: Arc::new(error) }
}

/// What [`migrate`] asks: which tables and indexes exist.
pub(crate) const EXISTING: &str = "SELECT name FROM sqlite_master";

#[cfg(test)]
mod tests {
    use remuda_model::label::Label;
    use remuda_schema::Row;

    use super::*;
    use crate::feed::Feed;
    use crate::job::Writing;
    use crate::query::{Query, Scope};
    use crate::write::Committed;

    type Answer = oneshot::Receiver<Result<Committed<i64>, Error>>;

    fn writer() -> (Writer, Arc<Signal>) {
        let layout = Arc::new(Layout::new(remuda_model::registry(), crate::layout::Dialect::Sqlite).expect("fits"));
        let shown = Arc::new(Signal::default());
        let opened = open(None, true, 0, &layout, &Seams::real(), &shown).expect("it opens");
        let Sqlite::Inline(writer) = opened.sqlite else { panic!("inline") };
        (writer.into_inner().unwrap_or_else(PoisonError::into_inner).expect("open"), shown)
    }

    fn label(value: String) -> Row<Label> {
        Row::new(Some(1), "active", Label { value: Some(value), ..Label::default() })
    }

    fn insert(value: String) -> (Box<dyn WriteJob>, Answer) {
        let (job, answer) = Writing::new(move |tx: &mut Tx<'_>| tx.insert(label(value.clone())).map(|row| row.meta.id));
        (Box::new(job), answer)
    }

    /// The commits in the feed; each row there is one of the table.
    fn commits(writer: &Writer) -> Vec<i64> {
        let read = Read { conn: Conn::Sqlite(&writer.connection), layout: &writer.layout };
        let rows = read.count::<Label>(&Scope::Everything, &Query::new()).expect("read");
        let Feed::Changes(changes) = read.changes(0, 1000).expect("read") else { panic!("all kept") };
        assert_eq!(rows, changes.len() as u64);
        changes.iter().map(|change| change.revision).collect()
    }

    #[test]
    fn a_group_is_answered_after_its_one_commit() {
        let (mut writer, shown) = writer();
        let (first, mut first_answer) = insert("first".into());
        let early = shown.clone();
        let (second, mut second_answer) = Writing::new(move |tx: &mut Tx<'_>| {
            // The first has run: its row is there. Nobody has been told.
            assert_eq!(tx.count::<Label>(&Scope::Everything, &Query::new())?, 1);
            assert!(matches!(first_answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
            assert_eq!(early.at(), 0);
            Ok::<_, Error>(0)
        });
        let (third, mut third_answer) = Writing::new(|tx: &mut Tx<'_>| {
            tx.insert(label("refused".into()))?;
            Err::<i64, _>(Error::Closed)
        });
        let (fourth, mut fourth_answer) = insert("fourth".into());
        writer.commit(vec![first, Box::new(second), Box::new(third), fourth]);
        assert_eq!(second_answer.try_recv().expect("answered").expect("committed").revision, 1);
        assert!(matches!(third_answer.try_recv().expect("answered"), Err(Error::Closed)));
        let fourth = fourth_answer.try_recv().expect("answered").expect("committed");
        assert_eq!((fourth.revision, shown.at()), (2, 2));
        assert_eq!(commits(&writer), [1, 2]);
    }

    /// What is told and what is stored stay one when the disk fills up, whether SQLite ends the statement or everything.
    #[test]
    fn a_full_disk_fails_what_does_not_fit_and_nothing_else() {
        let (mut writer, shown) = writer();
        let pages: i64 = writer.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a count");
        writer.connection.pragma_update_and_check(None, "max_page_count", pages + 20, |_| Ok(())).expect("set");
        let mut stored = 0;
        for _ in 0..3 {
            let (jobs, answers): (Vec<_>, Vec<_>) =
                [10, 200_000, 10].into_iter().map(|length| insert("x".repeat(length))).unzip();
            writer.commit(jobs);
            let outcomes: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().expect("answered")).collect();
            assert!(matches!(outcomes[1], Err(Error::Unavailable { .. })), "{:?}", outcomes[1]);
            for outcome in outcomes.into_iter().flatten() {
                stored += 1;
                assert_eq!(outcome.revision, stored);
            }
        }
        assert_eq!(commits(&writer), (1..=stored).collect::<Vec<_>>());
        assert_eq!(shown.at(), stored);
        // With room again everything goes on.
        writer.connection.pragma_update_and_check(None, "max_page_count", pages + 1000, |_| Ok(())).expect("set");
        let (job, mut answer) = insert("x".repeat(200_000));
        writer.commit(vec![job]);
        assert_eq!(answer.try_recv().expect("answered").expect("committed").revision, stored + 1);
    }
}
