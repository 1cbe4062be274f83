//! Making the commits of PostgreSQL survive a crash, many at a time.
//!
//! From taking its revision to its commit a write is alone. If its commit waited for the disk, there would be as many
//! writes a second as the disk has flushes. So writes commit without waiting, and one task moves the row of `durable` up
//! to the head with a commit that does wait: PostgreSQL writes its log in order, so all that this commit saw is on disk
//! with it. Only then are the writers answered. The feed ends at that row, for every server on the database.
//!
//! A crash in between takes commits back that this process has seen. All connections end with it: the flusher's own tells
//! ([`Flusher::losses`]), writers that wait hear [`Error::Uncertain`], and followers list again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remuda_runtime::{Signal, Tasks};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Cause, Error};
use crate::postgres::CHANNEL;

/// Writers that may wait to be asked for; more wait to ask.
const QUEUE: usize = 1024;

/// Asks the task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Flusher {
    asks: mpsc::Sender<Ask>,
    losses: Arc<AtomicU64>,
    durable: Arc<Signal>,
}

struct Ask {
    revision: i64,
    /// Losses when the commit began.
    since: u64,
    done: oneshot::Sender<Result<(), Error>>,
}

/// The task's connection.
struct Link {
    client: Client,
    flush: Statement,
    /// Losses when it was made.
    since: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the database was away between the commit and the moment when it would have been on disk")]
struct Lost;

impl Flusher {
    /// Connects, flushes once, and starts the task. `durable` shows the newest revision known to be on disk.
    pub(crate) async fn start(
        config: Config,
        tls: MakeRustlsConnect,
        tasks: &Tasks,
        durable: Arc<Signal>,
    ) -> Result<Flusher, Error> {
        let (asks, asked) = mpsc::channel(QUEUE);
        let flusher = Flusher { asks, losses: Arc::default(), durable };
        let maker = Maker { config, tls, tasks: tasks.clone(), losses: flusher.losses.clone() };
        let unavailable = |cause| Error::Unavailable { step: "connect", cause: Arc::new(cause) };
        let link = maker.link().await.map_err(unavailable)?;
        flusher.durable.raise(link.flush().await.map_err(unavailable)?);
        let shown = flusher.durable.clone();
        tasks.spawn_until_stopped("store-flusher", run(maker, link, asked, shown));
        Ok(flusher)
    }

    /// How often the connection was lost. What was read before the last loss may not have survived.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    /// Returns when the commit of that revision, begun after `since` losses, is on disk.
    pub(crate) async fn settled(&self, revision: i64, since: u64) -> Result<(), Error> {
        if self.losses() != since {
            return Err(Error::Uncertain { cause: Arc::new(Lost) });
        }
        if self.durable.at() >= revision {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.asks.send(Ask { revision, since, done }).await.map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

async fn run(maker: Maker, link: Link, mut asked: mpsc::Receiver<Ask>, durable: Arc<Signal>) {
    let mut link = Some(link);
    while let Some(first) = asked.recv().await {
        let mut group = vec![first];
        while let Ok(next) = asked.try_recv() {
            group.push(next);
        }
        let flushed = maker.flush(&mut link).await;
        if let Ok((revision, _)) = flushed {
            durable.raise(revision);
        }
        for ask in group {
            let answer = match &flushed {
                Ok((revision, since)) if *revision >= ask.revision && *since == ask.since => Ok(()),
                Ok(_) => Err(Error::Uncertain { cause: Arc::new(Lost) }),
                Err(cause) => Err(Error::Uncertain { cause: cause.clone() }),
            };
            // A caller that went away does not want to know.
            let _ = ask.done.send(answer);
        }
    }
}

/// Makes the task's connection, and makes it again.
struct Maker {
    config: Config,
    tls: MakeRustlsConnect,
    tasks: Tasks,
    losses: Arc<AtomicU64>,
}

impl Maker {
    async fn link(&self) -> Result<Link, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        let (since, losses) = (self.losses.load(Ordering::SeqCst), self.losses.clone());
        self.tasks.spawn_until_stopped("store-flusher-connection", async move {
            let ended = connection.await;
            losses.fetch_add(1, Ordering::SeqCst);
            if let Err(error) = ended {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "lost the connection that flushes commits; connecting again"
                );
            }
        });
        client.batch_execute("SET statement_timeout = '60s'; SET lock_timeout = '15s'").await?;
        // Another server may have moved it further.
        let flush = client
            .prepare(&format!(
                "WITH d AS (UPDATE durable SET revision = GREATEST(revision, (SELECT revision FROM head)) RETURNING \
                 revision) SELECT revision, pg_notify('{CHANNEL}', revision::text) FROM d"
            ))
            .await?;
        Ok(Link { client, flush, since })
    }

    /// The revision that is on disk now, and after how many losses that was asked.
    async fn flush(&self, link: &mut Option<Link>) -> Result<(i64, u64), Cause> {
        let shared = |error: tokio_postgres::Error| -> Cause { Arc::new(error) };
        let usable = match link.take().filter(|link| !link.client.is_closed()) {
            Some(usable) => usable,
            None => self.link().await.map_err(shared)?,
        };
        let revision = usable.flush().await.map_err(shared)?;
        let since = usable.since;
        *link = Some(usable);
        Ok((revision, since))
    }
}

impl Link {
    async fn flush(&self) -> Result<i64, tokio_postgres::Error> {
        self.client.query_one(&self.flush, &[]).await?.try_get(0)
    }
}
