//! Which hosts are connected to this server, and where the two ends of a stream meet.
//!
//! A client's request for a stream becomes `Down::Open` to the host's agent; the agent dials back with the stream's
//! id. Whoever comes first waits, never longer than [`MEET_WITHIN`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda_runtime::{Link, Random};
use remuda_wire::session::Down;
use remuda_wire::stream::{StreamOpen, StreamRequest};
use tokio::sync::{mpsc, oneshot};

/// How long a client waits for the agent's end.
pub const MEET_WITHIN: Duration = Duration::from_secs(15);

/// Streams that wait for their agent at any one time.
const MAX_WAITING: usize = 10_000;

/// Why a stream cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    #[error("host is not connected to this server")]
    NotConnected,
    #[error("host did not answer within {} s", MEET_WITHIN.as_secs())]
    TimedOut,
    #[error("host refused: {0}")]
    Refused(String),
    #[error("{MAX_WAITING} streams are waiting for their hosts already")]
    TooMany,
}

/// The connected hosts of this server. Clones share them.
#[derive(Clone)]
pub struct Sessions {
    random: Random,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    hosts: BTreeMap<i64, Session>,
    waiting: BTreeMap<String, Waiting>,
}

struct Session {
    generation: i64,
    agent_account_id: i64,
    send: mpsc::Sender<Down>,
}

struct Waiting {
    agent_account_id: i64,
    meet: oneshot::Sender<Result<Link, String>>,
}

impl Sessions {
    pub fn new(random: Random) -> Sessions {
        Sessions { random, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Row numbers of the hosts connected here.
    pub fn connected(&self) -> Vec<i64> {
        self.lock().hosts.keys().copied().collect()
    }

    pub fn is_connected(&self, host_id: i64) -> bool {
        self.lock().hosts.contains_key(&host_id)
    }

    /// A connection of a host begins. An older one of the same host loses its place and hears no more.
    pub fn enter(&self, host_id: i64, generation: i64, agent_account_id: i64) -> mpsc::Receiver<Down> {
        let (send, receive) = mpsc::channel(256);
        self.lock().hosts.insert(host_id, Session { generation, agent_account_id, send });
        receive
    }

    /// The connection of that generation ended. `true` when no newer one took its place.
    pub fn leave(&self, host_id: i64, generation: i64) -> bool {
        let mut inner = self.lock();
        if inner.hosts.get(&host_id).is_some_and(|session| session.generation == generation) {
            inner.hosts.remove(&host_id);
            return true;
        }
        false
    }

    /// Asks a host for a stream and waits for its end.
    pub async fn open(&self, host_id: i64, request: StreamRequest) -> Result<Link, OpenError> {
        let stream = format!("{}{}", self.random.uuid(), self.random.uuid()).replace('-', "");
        let (meet, met) = oneshot::channel();
        let send = {
            let mut inner = self.lock();
            if inner.waiting.len() >= MAX_WAITING {
                return Err(OpenError::TooMany);
            }
            let session = inner.hosts.get(&host_id).ok_or(OpenError::NotConnected)?;
            let (send, agent_account_id) = (session.send.clone(), session.agent_account_id);
            inner.waiting.insert(stream.clone(), Waiting { agent_account_id, meet });
            send
        };
        let place = Place { sessions: self, stream: &stream };
        let open = Down::Open(StreamOpen { stream: stream.clone(), server: None, request });
        let met = tokio::time::timeout(MEET_WITHIN, async {
            send.send(open).await.map_err(|_| OpenError::NotConnected)?;
            met.await.map_err(|_| OpenError::NotConnected)?.map_err(OpenError::Refused)
        });
        let link = met.await.map_err(|_| OpenError::TimedOut)?;
        drop(place);
        link
    }

    /// The agent's end of a stream arrived. `false`: nobody waits for it (any more), or it is not this agent's.
    pub fn arrive(&self, stream: &str, agent_account_id: i64, link: Link) -> bool {
        self.settle(stream, agent_account_id, Ok(link))
    }

    /// The agent cannot open the stream.
    pub fn failed(&self, stream: &str, agent_account_id: i64, message: String) -> bool {
        self.settle(stream, agent_account_id, Err(message))
    }

    /// Whether that agent is expected with that stream: checked before its WebSocket is accepted.
    pub fn expects(&self, stream: &str, agent_account_id: i64) -> bool {
        self.lock().waiting.get(stream).is_some_and(|waiting| waiting.agent_account_id == agent_account_id)
    }

    fn settle(&self, stream: &str, agent_account_id: i64, outcome: Result<Link, String>) -> bool {
        let mut inner = self.lock();
        if inner.waiting.get(stream).is_none_or(|waiting| waiting.agent_account_id != agent_account_id) {
            return false;
        }
        inner.waiting.remove(stream).is_some_and(|waiting| waiting.meet.send(outcome).is_ok())
    }
}

/// Gives the waiting place back when the client goes away or time runs out.
struct Place<'a> {
    sessions: &'a Sessions,
    stream: &'a str,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.sessions.lock().waiting.remove(self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_request(down: Option<Down>) -> StreamOpen {
        match down {
            Some(Down::Open(open)) => open,
            other => panic!("expected a request for a stream, got {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn both_ends_meet() {
        let sessions = Sessions::new(Random::seeded(1));
        let mut downs = sessions.enter(3, 1, 77);
        let agent = async {
            let open = open_request(downs.recv().await);
            let (here, there) = Link::pair(1);
            assert!(!sessions.arrive(&open.stream, 78, Link::pair(1).0), "another agent's stream");
            assert!(sessions.arrive(&open.stream, 77, there));
            here
        };
        let (client, _here) = tokio::join!(sessions.open(3, StreamRequest::DockerSocket), agent);
        assert!(client.is_ok());
        assert!(sessions.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let sessions = Sessions::new(Random::seeded(1));
        assert_eq!(sessions.open(3, StreamRequest::DockerSocket).await.err(), Some(OpenError::NotConnected));
        let _downs = sessions.enter(3, 1, 77);
        assert_eq!(sessions.open(3, StreamRequest::DockerSocket).await.err(), Some(OpenError::TimedOut));
        assert!(sessions.lock().waiting.is_empty());
    }

    #[test]
    fn only_the_newest_connection_of_a_host_leaves() {
        let sessions = Sessions::new(Random::seeded(1));
        let _old = sessions.enter(3, 1, 77);
        let _new = sessions.enter(3, 2, 77);
        assert!(!sessions.leave(3, 1));
        assert!(sessions.is_connected(3));
        assert!(sessions.leave(3, 2));
    }
}
