//! PostgreSQL: closures run on blocking threads and drive a pooled connection; one more connection listens for commits.
//!
//! A write reads at READ COMMITTED (each statement sees what was committed when it began), guards rows by their revision,
//! and takes the head row last: from there to the commit it is alone, which makes commit order revision order. The
//! last statement and the commit are sent together, so being alone lasts one round trip; that the commit is on disk is
//! waited for afterwards, together with others ([`crate::durable`]). A deadlock, or a row that somebody wrote between our
//! reading and our writing it, runs the closure again: nothing of it was committed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use remuda_runtime::{Seams, Signal, Tasks};
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{AsyncMessage, Row};

use crate::claim::Claim;
use crate::conn::{Cells, Conn};
use crate::durable::Flusher;
use crate::error::{Cause, Error, OpenError};
use crate::feed::Identity;
use crate::job::{ReadJob, WriteJob};
use crate::layout::Layout;
use crate::migrate;
use crate::param::Param;
use crate::read::Read;
use crate::tls::{Target, target};
use crate::write::Tx;

pub(crate) const CHANNEL: &str = "remuda_change";
/// How long a caller waits for a connection.
const POOL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the head is read although nothing was heard.
const POLL: Duration = Duration::from_secs(3);
const RETRY_MIN_MS: u64 = 500;
const RETRY_MAX_MS: u64 = 10_000;
/// How often a closure is run when others are in its way.
const ATTEMPTS: u32 = 8;
/// Prepared statements kept per connection.
const STATEMENTS: usize = 500;
/// Serialises the start of servers on one database.
const MIGRATION_LOCK: i64 = 0x72_656d_7564_6101;

/// Set once per connection. Rows are few and wide, and what is asked for has an index: reading everything to sort it, with
/// or without helpers, is never right, though PostgreSQL's defaults (made for disks that seek) think so of pages far down
/// a list. That a commit is on disk is seen to elsewhere: [`Flusher`].
const SETTINGS: &str = "SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '60s'; \
     SET lock_timeout = '15s'; SET random_page_cost = 1.1; SET max_parallel_workers_per_gather = 0; \
     SET synchronous_commit = off";
const BEGIN_WRITE: &str = "BEGIN";
/// Ends what wrote no rows (claims, counters, leases): waits for the disk by itself, as the administrator has set it.
const COMMIT_AND_FLUSH: &str = "SET LOCAL synchronous_commit TO DEFAULT; COMMIT";
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Records what was written under the next revision. From there to the commit this transaction is alone. `$1` is the time, the arrays are the rows: table, kind, number, owner.
const TAKE_REVISION: &str = "WITH h AS (UPDATE head SET revision = revision + 1 RETURNING revision), c AS (INSERT INTO \
     change (revision, seq, table_name, kind, row_id, account_id, at) SELECT h.revision, x.seq, x.table_name, x.kind, \
     x.row_id, x.account_id, $1 FROM h, unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY \
     AS x(table_name, kind, row_id, account_id, seq)) \
     SELECT h.revision FROM h";

/// What [`migrate`] asks: which tables and indexes exist.
pub(crate) const EXISTING: &str =
    "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'i') AND pg_table_is_visible(oid)";

/// An open PostgreSQL database.
pub(crate) struct Postgres {
    pool: Pool,
    layout: Arc<Layout>,
    seams: Seams,
    revision: Arc<Signal>,
    flusher: Flusher,
    /// The listener, the flusher, and their connections.
    tasks: Tasks,
}

/// One connection inside a transaction, on a blocking thread.
pub(crate) struct Session {
    client: RefCell<Option<Object>>,
    handle: Handle,
    begin: &'static str,
    begun: Cell<bool>,
    /// The transaction is of no use any more, for this reason.
    failed: RefCell<Option<Error>>,
    /// The closure may be run again.
    retry: Cell<bool>,
    /// What a write has read: table, number, revision.
    seen: RefCell<BTreeSet<(&'static str, i64, i64)>>,
    /// Claims that a write saw without a holder: kind, scope, key.
    seen_free: RefCell<BTreeSet<(String, i64, String)>>,
    /// All keys claimed in a scope when a write looked: kind and scope, keys.
    seen_claims: RefCell<BTreeMap<(String, i64), BTreeSet<String>>>,
}

/// How a run of a write ended.
enum Run {
    Done(Result<i64, Error>),
    Again(Error),
}

/// Opens the database and brings it up to date.
pub(crate) async fn open(
    url: &str,
    connections: usize,
    layout: &Arc<Layout>,
    seams: &Seams,
    revision: &Arc<Signal>,
) -> Result<(Postgres, Identity), OpenError> {
    let Target { mut config, tls } = target(url)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(15));
    }
    config.keepalives_idle(Duration::from_secs(15)).keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
    if config.get_application_name().is_none() {
        config.application_name("remuda");
    }
    let manager =
        Manager::from_config(config.clone(), tls.clone(), ManagerConfig { recycling_method: RecyclingMethod::Fast });
    let pool = Pool::builder(manager)
        .max_size(connections.max(2))
        .wait_timeout(Some(POOL_TIMEOUT))
        .create_timeout(Some(POOL_TIMEOUT))
        .recycle_timeout(Some(POOL_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async move { client.batch_execute(SETTINGS).await.map_err(HookError::Backend) })
        }))
        .build()
        .map_err(|error| OpenError::Url { reason: error.to_string() })?;
    let client = pooled(&pool).await?;
    let (handle, migrated_layout, migrating) = (Handle::current(), layout.clone(), seams.clone());
    let prepared = seams.tasks.blocking(move || {
        let session = Session::new(client, handle, BEGIN_WRITE);
        let conn = Conn::Postgres(&session);
        let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
        conn.batch(&lock)?;
        let prepared = migrate::run(conn, &migrated_layout, &migrating)?;
        session.end(COMMIT_AND_FLUSH)?;
        Ok::<_, OpenError>(prepared)
    });
    let (identity, head) = prepared.await.map_err(|_| OpenError::Store(Error::Crashed))??;
    revision.raise(head);
    let tasks = seams.tasks.child();
    let flusher = Flusher::start(config.clone(), tls.clone(), &tasks, revision.clone()).await?;
    let (layout, seams, revision) = (layout.clone(), seams.clone(), revision.clone());
    let postgres = Postgres { pool, layout, seams, revision, flusher, tasks };
    postgres.listen(config, tls);
    Ok((postgres, identity))
}

async fn pooled(pool: &Pool) -> Result<Object, Error> {
    match pool.get().await {
        Ok(client) => Ok(client),
        Err(PoolError::Closed) => Err(Error::Closed),
        Err(error) => Err(Error::Unavailable { step: "connect", cause: Arc::new(error) }),
    }
}

impl Postgres {
    /// How often the database was lost: what was read before the last loss may have been taken back.
    pub(crate) fn losses(&self) -> u64 {
        self.flusher.losses()
    }

    pub(crate) async fn write(&self, mut job: Box<dyn WriteJob>) {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let client = match pooled(&self.pool).await {
                Ok(client) => client,
                Err(error) => return job.answer(Err(error)),
            };
            let since = self.flusher.losses();
            let (layout, seams, handle) = (self.layout.clone(), self.seams.clone(), Handle::current());
            let run = self.seams.tasks.blocking(move || {
                let session = Session::new(client, handle, BEGIN_WRITE);
                let run = session.run(job.as_mut(), &layout, &seams);
                (job, run)
            });
            // Only the runtime's end cancels it; then the job is gone with its answer, and the caller hears `Closed`.
            let Ok((returned, run)) = run.await else { return };
            job = returned;
            match run {
                Run::Again(error) if attempt >= ATTEMPTS => return job.answer(Err(error)),
                Run::Again(_) => {
                    let pause = self.seams.random.below(5 << attempt.min(6));
                    self.seams.clock.sleep(Duration::from_millis(pause)).await;
                }
                Run::Done(outcome) => {
                    let outcome = match outcome {
                        Ok(revision) => self.flusher.settled(revision, since).await.map(|()| revision),
                        refused => refused,
                    };
                    return job.answer(outcome);
                }
            }
        }
    }

    pub(crate) async fn read(&self, job: Box<dyn ReadJob>) {
        let client = match pooled(&self.pool).await {
            Ok(client) => client,
            Err(error) => return job.run(Err(error)),
        };
        let (layout, handle) = (self.layout.clone(), Handle::current());
        let _ = self
            .seams
            .tasks
            .blocking(move || {
                let session = Session::new(client, handle, BEGIN_READ);
                job.run(Ok(&mut Read { conn: Conn::Postgres(&session), layout: &layout }));
                // The caller has its answer; an end that fails costs the connection.
                let _ = session.end("COMMIT");
            })
            .await;
    }

    pub(crate) fn close(&self) {
        self.tasks.stop();
        self.pool.close();
    }

    /// Follows the commits of all servers. Losing a notification costs at most the time between two polls.
    fn listen(&self, config: tokio_postgres::Config, tls: tokio_postgres_rustls::MakeRustlsConnect) {
        let (seams, tasks, revision) = (self.seams.clone(), self.tasks.clone(), self.revision.clone());
        self.tasks.spawn_until_stopped("store-listener", async move {
            let mut backoff = RETRY_MIN_MS;
            loop {
                let failure: Cause = match config.connect(tls.clone()).await {
                    Ok((client, mut connection)) => {
                        let heard = revision.clone();
                        tasks.spawn_until_stopped("store-listener-connection", async move {
                            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                                if let AsyncMessage::Notification(note) = message
                                    && let Ok(at) = note.payload().parse()
                                {
                                    heard.raise(at);
                                }
                            }
                        });
                        let listening = async {
                            client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
                            loop {
                                let head = client.query_one("SELECT revision FROM durable", &[]).await?;
                                revision.raise(head.try_get(0)?);
                                seams.clock.sleep(POLL).await;
                            }
                        };
                        let ended: Result<(), tokio_postgres::Error> = listening.await;
                        match ended {
                            Err(error) => Arc::new(error),
                            Ok(()) => return,
                        }
                    }
                    Err(error) => Arc::new(error),
                };
                tracing::warn!(
                    error = failure.as_ref() as &dyn std::error::Error,
                    "lost the connection that listens for changes; trying again"
                );
                let pause = backoff / 2 + seams.random.below(backoff);
                seams.clock.sleep(Duration::from_millis(pause)).await;
                backoff = (backoff * 2).min(RETRY_MAX_MS);
            }
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.close();
    }
}

impl Session {
    fn new(client: Object, handle: Handle, begin: &'static str) -> Session {
        // Callers decide how many filters a query has, so there is no end of different statements.
        if client.statement_cache.size() > STATEMENTS {
            client.statement_cache.clear();
        }
        Session {
            client: RefCell::new(Some(client)),
            handle,
            begin,
            begun: Cell::new(false),
            failed: RefCell::new(None),
            retry: Cell::new(false),
            seen: RefCell::default(),
            seen_free: RefCell::default(),
            seen_claims: RefCell::default(),
        }
    }

    pub(crate) fn saw(&self, table: &'static str, id: i64, revision: i64) {
        if self.begin == BEGIN_WRITE {
            self.seen.borrow_mut().insert((table, id, revision));
        }
    }

    /// A row is not at the revision a write expected. If the write read that revision itself, somebody came between.
    pub(crate) fn found_changed(&self, table: &'static str, id: i64, expected: i64, error: &Error) {
        if self.seen.borrow().contains(&(table, id, expected)) {
            self.retry.set(true);
            self.failed.borrow_mut().get_or_insert_with(|| error.clone());
        }
    }

    pub(crate) fn saw_free(&self, kind: &str, scope: i64, key: &str) {
        if self.begin == BEGIN_WRITE {
            self.seen_free.borrow_mut().insert((kind.to_owned(), scope, key.to_owned()));
        }
    }

    pub(crate) fn saw_claims<'k>(&self, kind: &str, scope: i64, keys: impl Iterator<Item = &'k str>) {
        if self.begin == BEGIN_WRITE {
            self.seen_claims.borrow_mut().insert((kind.to_owned(), scope), keys.map(str::to_owned).collect());
        }
    }

    /// Somebody else holds a claim. If the write itself saw it free, they came between.
    pub(crate) fn found_claimed(&self, claim: &Claim, error: &Error) {
        let listed = self.seen_claims.borrow();
        let not_listed = listed.get(&(claim.kind.clone(), claim.scope)).is_some_and(|keys| !keys.contains(&claim.key));
        if not_listed || self.seen_free.borrow().contains(&(claim.kind.clone(), claim.scope, claim.key.clone())) {
            self.retry.set(true);
            self.failed.borrow_mut().get_or_insert_with(|| error.clone());
        }
    }

    fn run(&self, job: &mut dyn WriteJob, layout: &Layout, seams: &Seams) -> Run {
        let conn = Conn::Postgres(self);
        let mut tx = Tx::new(Read { conn, layout }, &seams.clock, &seams.random);
        let wanted = job.run(&mut tx);
        let failed = self.failed.borrow().clone();
        let outcome = match (wanted, failed) {
            (_, Some(error)) if self.retry.get() => {
                let _ = self.end("ROLLBACK");
                return Run::Again(error);
            }
            // The transaction is lost, whatever the closure made of the error.
            (Ok(true), Some(error)) => {
                let _ = self.end("ROLLBACK");
                Err(error)
            }
            (Ok(true), None) => match self.commit(&tx) {
                Err(error) if self.retry.get() => {
                    let _ = self.end("ROLLBACK");
                    return Run::Again(error);
                }
                outcome => outcome,
            },
            (Ok(false), _) => {
                let _ = self.end("ROLLBACK");
                Ok(0)
            }
            (Err(error), _) => {
                let _ = self.end("ROLLBACK");
                Err(error)
            }
        };
        Run::Done(outcome)
    }

    /// Takes the revision, records what was written, and commits, all in one round trip.
    fn commit(&self, tx: &Tx<'_>) -> Result<i64, Error> {
        let written = tx.written();
        if written.is_empty() {
            let head = self.query("SELECT revision FROM head", &[])?;
            self.end(COMMIT_AND_FLUSH)?;
            return head.first().map_or(Ok(0), |row| row.try_get(0).map_err(unreadable));
        }
        let params = [
            Param::Int(tx.now_ms()),
            Param::Texts(written.iter().map(|row| row.table.to_owned()).collect()),
            Param::Texts(written.iter().map(|row| row.kind.clone()).collect()),
            Param::Ints(written.iter().map(|row| Some(row.id)).collect()),
            Param::Ints(written.iter().map(|row| row.account_id).collect()),
        ];
        let client = self.client.borrow();
        let client = client.as_ref().ok_or(Error::Closed)?;
        let (row, committed) = self.handle.block_on(async {
            let statement =
                client.prepare_cached(TAKE_REVISION).await.map_err(|error| self.failure("prepare", error))?;
            let refs = references(&params);
            Ok::<_, Error>(tokio::join!(
                biased;
                client.query_one(&statement, &refs),
                client.batch_execute("COMMIT"),
            ))
        })?;
        // When the statement failed, the commit was a rollback.
        let row = row.map_err(|error| self.failure("take the revision", error))?;
        committed.map_err(|error| {
            if error.as_db_error().is_some() {
                self.failure("commit", error)
            } else {
                Error::Uncertain { cause: Arc::new(error) }
            }
        })?;
        self.begun.set(false);
        row.try_get(0).map_err(unreadable)
    }

    /// Ends the transaction. A connection on which that fails is not used again.
    fn end(&self, how: &'static str) -> Result<(), Error> {
        if !self.begun.get() {
            return Ok(());
        }
        let ended = {
            let client = self.client.borrow();
            let client = client.as_ref().ok_or(Error::Closed)?;
            self.handle.block_on(client.batch_execute(how))
        };
        match ended {
            Ok(()) => {
                self.begun.set(false);
                Ok(())
            }
            Err(error) => Err(self.failure("end a transaction", error)),
        }
    }

    pub(crate) fn each(
        &self,
        text: &str,
        params: &[Param<'_>],
        see: &mut dyn FnMut(&Cells<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for row in self.query(text, params)? {
            see(&Cells::Postgres(&row))?;
        }
        Ok(())
    }

    pub(crate) fn execute(&self, text: &str, params: &[Param<'_>]) -> Result<u64, Error> {
        self.usable()?;
        let client = self.client.borrow();
        let client = client.as_ref().ok_or(Error::Closed)?;
        let refs = references(params);
        let touched = self.handle.block_on(async {
            let statement = client.prepare_cached(text).await?;
            if self.begun.replace(true) {
                client.execute(&statement, &refs).await
            } else {
                let (begun, touched) =
                    tokio::join!(biased; client.batch_execute(self.begin), client.execute(&statement, &refs));
                begun.and(touched)
            }
        });
        touched.map_err(|error| self.failure("execute", error))
    }

    fn query(&self, text: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        self.usable()?;
        let client = self.client.borrow();
        let client = client.as_ref().ok_or(Error::Closed)?;
        let refs = references(params);
        let rows = self.handle.block_on(async {
            let statement = client.prepare_cached(text).await?;
            if self.begun.replace(true) {
                client.query(&statement, &refs).await
            } else {
                let (begun, rows) =
                    tokio::join!(biased; client.batch_execute(self.begin), client.query(&statement, &refs));
                begun.and(rows)
            }
        });
        rows.map_err(|error| self.failure("query", error))
    }

    pub(crate) fn batch(&self, text: &str) -> Result<(), Error> {
        self.usable()?;
        let client = self.client.borrow();
        let client = client.as_ref().ok_or(Error::Closed)?;
        let done = self.handle.block_on(async {
            if !self.begun.replace(true) {
                client.batch_execute(self.begin).await?;
            }
            client.batch_execute(text).await
        });
        done.map_err(|error| self.failure("batch", error))
    }

    /// After an error PostgreSQL refuses everything until the rollback: give the first reason instead.
    fn usable(&self) -> Result<(), Error> {
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    fn failure(&self, step: &'static str, error: tokio_postgres::Error) -> Error {
        if let Some(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED) = error.code().cloned() {
            self.retry.set(true);
        }
        let error = failure(step, error);
        self.failed.borrow_mut().get_or_insert_with(|| error.clone());
        error
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.begun.get()
            && let Some(client) = self.client.borrow_mut().take()
        {
            // Still inside a transaction, or in an unknown state: it must not go back to the pool.
            drop(Object::take(client));
        }
    }
}

fn references<'p>(params: &'p [Param<'_>]) -> Vec<&'p (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

/// What an error of PostgreSQL means to callers.
fn failure(step: &'static str, error: tokio_postgres::Error) -> Error {
    let away = match error.code() {
        // Connection, resources, rollback for concurrency, operator (shutdown, cancel, time-outs), and a server that
        // became a standby.
        Some(code) => {
            matches!(&code.code()[..2], "08" | "40" | "53" | "57" | "58")
                || matches!(
                    *code,
                    SqlState::LOCK_NOT_AVAILABLE
                        | SqlState::READ_ONLY_SQL_TRANSACTION
                        | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                )
        }
        None => {
            error.is_closed() || std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>())
        }
    };
    let cause = Arc::new(error);
    if away { Error::Unavailable { step, cause } } else { Error::Sql { step, cause } }
}

/// A column that does not hold what it should.
pub(crate) fn unreadable(error: tokio_postgres::Error) -> Error {
    Error::Sql { step: "read a column", cause: Arc::new(error) }
}

/// The text of a `jsonb` column, as it lies in the answer.
pub(crate) struct JsonText<'a>(pub(crate) &'a str);

impl<'a> FromSql<'a> for JsonText<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        match raw.split_first() {
            Some((1, text)) => Ok(JsonText(std::str::from_utf8(text)?)),
            _ => Err("unknown version of the binary form of jsonb".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}
