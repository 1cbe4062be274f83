//! Conversations with HAProxy's master process over its socket: one command line per connection, because then the end
//! of the answer is the end of the connection, in every release.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use remuda_runtime::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::balancer::commands::{self, ActualServers, Processes};
use crate::balancer::stats;
use crate::datapath::handle::shortened;

/// One command.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Reading a configuration of some megabytes and handing the listeners over.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);
/// A container that was just started.
const START_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LONGEST_ANSWER: u64 = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("HAProxy does not answer: {0}")]
    Silent(#[source] io::Error),
    #[error("HAProxy answered {0:?} to `{1}`")]
    Odd(String, &'static str),
    #[error("HAProxy could not load the configuration that it had checked; the one before goes on running")]
    NotLoaded,
}

/// One balancer's HAProxy.
#[derive(Clone, Debug)]
pub struct Master {
    socket: PathBuf,
    clock: Clock,
}

impl Master {
    pub fn new(socket: PathBuf, clock: Clock) -> Master {
        Master { socket, clock }
    }

    /// Says one line, with what belongs to it, and gives the whole answer.
    pub async fn ask(&self, line: &str) -> Result<String, Error> {
        let conversation = async {
            // A socket's path may have 107 bytes.
            let (_directory, short) = shortened(&self.socket)?;
            let mut stream = UnixStream::connect(short).await?;
            // It may have said what is wrong before it heard all of it.
            let heard = async {
                stream.write_all(line.as_bytes()).await?;
                stream.write_all(b"\n").await?;
                stream.shutdown().await
            };
            let heard = heard.await;
            let mut answer = Vec::new();
            let read = stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
            match (heard, read) {
                (_, Ok(_)) if !answer.is_empty() => {}
                (Ok(()), Ok(_)) => {}
                (Err(error), _) | (_, Err(error)) => return Err(error),
            }
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = tokio::select! {
            biased;
            answer = conversation => answer,
            () = self.clock.sleep(ANSWER_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
        };
        answer.map_err(Error::Silent)
    }

    pub async fn servers(&self) -> Result<ActualServers, Error> {
        let answer = self.ask(commands::SHOW_SERVERS).await?;
        commands::servers(&answer).ok_or_else(|| odd(&answer, commands::SHOW_SERVERS))
    }

    pub async fn processes(&self) -> Result<Processes, Error> {
        let answer = self.ask(commands::SHOW_PROCESSES).await?;
        commands::processes(&answer).ok_or_else(|| odd(&answer, commands::SHOW_PROCESSES))
    }

    /// What the worker that serves has counted, and which process that is.
    pub async fn look(&self) -> Result<(u32, stats::Look), Error> {
        let processes = self.processes().await?;
        let answer = self.ask(stats::SHOW_STATISTICS).await?;
        let look = stats::look(&answer).ok_or_else(|| odd(&answer, stats::SHOW_STATISTICS))?;
        // After a reload that failed the worker is one that survived it.
        let pid = processes.workers.first().map_or(0, |(pid, _)| *pid);
        Ok((pid, look))
    }

    /// The processes of a container that may be just starting.
    pub async fn wait_started(&self) -> Result<Processes, Error> {
        self.wait(START_LIMIT, |processes| processes.newest().is_some() || !processes.workers.is_empty()).await
    }

    /// Has the master read the configuration anew and hand its listeners to a new worker; the old one finishes what
    /// it has.
    pub async fn reload(&self) -> Result<Processes, Error> {
        let before = self.processes().await?;
        // Newer releases answer at the end, older ones drop the connection at once: the processes say how it went.
        drop(self.ask(commands::RELOAD).await);
        let after = self.wait(RELOAD_LIMIT, |processes| processes.reloads > before.reloads).await?;
        if after.newest().is_some() { Ok(after) } else { Err(Error::NotLoaded) }
    }

    async fn wait(&self, limit: Duration, holds: impl Fn(&Processes) -> bool) -> Result<Processes, Error> {
        let deadline = self.clock.instant() + limit;
        loop {
            let found = self.processes().await;
            if let Ok(processes) = &found
                && holds(processes)
            {
                return found;
            }
            if self.clock.instant() >= deadline {
                return found.and_then(|_| Err(Error::Silent(io::ErrorKind::TimedOut.into())));
            }
            self.clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Replaces a certificate that is in use; gives HAProxy's words when it refuses.
    pub async fn certificate_replace(&self, path: &str, pem: &[u8]) -> Result<Result<(), String>, Error> {
        let set = self.ask(&commands::certificate_set(path, pem)).await?;
        let committed = self.ask(&commands::certificate_commit(path)).await?;
        if committed.contains("Success") {
            return Ok(Ok(()));
        }
        // Nothing of it may be left for the next one.
        drop(self.ask(&commands::certificate_abort(path)).await);
        Ok(Err(format!("{} {}", set.trim(), committed.trim())))
    }
}

fn odd(answer: &str, command: &'static str) -> Error {
    Error::Odd(answer.chars().take(200).collect(), command)
}
