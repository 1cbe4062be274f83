//! The network between one agent and the server: it can be slow, unplugged, or lose a connection at one end only.
//!
//! Messages of a connection keep their order, as over TCP; what is lost is the tail. An unplugged cable holds what is
//! on the way. A connection that is cut at the agent's end alone is what a lost reset leaves behind: the server goes on
//! believing in it, and a message of it may arrive after the agent has connected anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use remuda_agent::links::{Error, Source};
use remuda_runtime::link::{Receiver, Sender};
use remuda_runtime::{Link, Seams};
use remuda_server::serve;
use remuda_wire::stream::StreamOpen;
use tokio::sync::Notify;

use crate::server::Slot;

/// Messages in each direction that a connection holds.
const CAPACITY: usize = 4;
/// A connection that hears nothing for so long is given up by the agent's side.
const SILENCE: Duration = Duration::from_secs(35);
/// As long a connection attempt waits for a cable that is unplugged.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How long a connection that only the server believes in lasts.
const HALF_LIFE: Duration = Duration::from_secs(30);

/// One agent's way to the server. Clones share it.
#[derive(Clone)]
pub struct Cable {
    seams: Seams,
    server: Slot,
    account: i64,
    sky: Arc<Sky>,
}

/// The weather, and who waits for a change; woken in the order they came (see `remuda_runtime::signal`).
#[derive(Default)]
struct Sky {
    weather: Mutex<Weather>,
    changed: Notify,
}

/// How the cable is now. The counters tell connections made before an event from later ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    unplugged: bool,
    n_unplugged: u64,
    /// Longest delay of a message.
    lag_ms: u64,
    n_cuts: u64,
    n_half_cuts: u64,
}

impl Sky {
    fn now(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weather.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// Waits for a weather that tells something.
    async fn wait<T>(&self, tells: impl Fn(Weather) -> Option<T>) -> T {
        loop {
            // Listens before it looks, so that nothing falls between.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(told) = tells(self.now()) {
                return told;
            }
            changed.await;
        }
    }

    /// Waits until messages pass.
    async fn plugged(&self) {
        self.wait(|weather| (!weather.unplugged).then_some(())).await;
    }

    /// Waits until a connection that was made in that weather is cut.
    async fn cut_since(&self, born: &Weather) -> Cut {
        self.wait(|weather| match weather {
            weather if weather.n_cuts != born.n_cuts => Some(Cut::Both),
            weather if weather.n_half_cuts != born.n_half_cuts => Some(Cut::AgentsEnd),
            _ => None,
        })
        .await
    }

    /// As long as a message takes.
    async fn delay(&self, seams: &Seams) {
        let lag_ms = self.now().lag_ms;
        if lag_ms > 0 {
            seams.clock.sleep(Duration::from_millis(seams.random.below(lag_ms))).await;
        }
    }
}

/// How a connection ended that neither end closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Both,
    AgentsEnd,
}

impl Cable {
    pub(crate) fn new(seams: Seams, server: Slot, account: i64) -> Cable {
        Cable { seams, server, account, sky: Arc::default() }
    }

    /// Ends every connection at both ends.
    pub fn cut(&self) {
        self.sky.change(|weather| weather.n_cuts += 1);
    }

    /// Ends every connection at the agent's end; the server notices when it hears nothing.
    pub fn cut_agents_end(&self) {
        self.sky.change(|weather| weather.n_half_cuts += 1);
    }

    /// Delays each message by up to that much.
    pub fn lag(&self, most: Duration) {
        let lag_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        self.sky.change(|weather| weather.lag_ms = lag_ms);
    }

    /// Nothing passes until it is plugged in again.
    pub fn unplug(&self) {
        self.sky.change(|weather| {
            weather.unplugged = true;
            weather.n_unplugged += 1;
        });
        let (cable, which) = (self.clone(), self.sky.now().n_unplugged);
        self.seams.tasks.spawn_until_stopped("silence", async move {
            cable.seams.clock.sleep(SILENCE).await;
            let now = cable.sky.now();
            if now.unplugged && now.n_unplugged == which {
                cable.cut_agents_end();
            }
        });
    }

    pub fn plug(&self) {
        self.sky.change(|weather| weather.unplugged = false);
    }

    /// The two ends of a new connection, with the cable between them.
    async fn lay(&self) -> Result<(Link, Link), Error> {
        let url = "the simulated server".to_owned();
        tokio::select! {
            biased;
            () = self.sky.plugged() => {}
            () = self.seams.clock.sleep(CONNECT_WITHIN) => {
                return Err(Error::Slow { url, seconds: CONNECT_WITHIN.as_secs() });
            }
        }
        self.sky.delay(&self.seams).await;
        let (agents_end, near) = Link::pair(CAPACITY);
        let (far, servers_end) = Link::pair(CAPACITY);
        let up = Pump::new(self, near.receiver, far.sender);
        let down = Pump::new(self, far.receiver, near.sender);
        self.seams.tasks.spawn_until_stopped("cable-up", up.run_up());
        self.seams.tasks.spawn_until_stopped("cable-down", down.run_down());
        Ok((agents_end, servers_end))
    }
}

impl Source for Cable {
    fn connect(&self) -> BoxFuture<'_, Result<Link, Error>> {
        Box::pin(async move {
            let (agents_end, servers_end) = self.lay().await?;
            let Some(server) = self.server.get() else {
                let url = "the simulated server".to_owned();
                return Err(Error::Connect { url, reason: "connection refused".to_owned() });
            };
            let (hub, account) = (serve::hub(&server.state), self.account);
            server.tasks.spawn_until_stopped("session", async move { hub.serve(servers_end, account).await });
            Ok(agents_end)
        })
    }

    fn stream<'a>(&'a self, open: &'a StreamOpen) -> BoxFuture<'a, Result<Link, Error>> {
        Box::pin(async move {
            let (agents_end, servers_end) = self.lay().await?;
            if let Some(server) = self.server.get() {
                // Nobody waits for it: its end is dropped, which the agent hears.
                let _ = serve::hub(&server.state).sessions().arrive(&open.stream, self.account, servers_end);
            }
            Ok(agents_end)
        })
    }
}

/// One direction of one connection.
struct Pump {
    seams: Seams,
    from: Receiver,
    to: Sender,
    sky: Arc<Sky>,
    born: Weather,
}

impl Pump {
    fn new(cable: &Cable, from: Receiver, to: Sender) -> Pump {
        Pump { seams: cable.seams.clone(), from, to, sky: cable.sky.clone(), born: cable.sky.now() }
    }

    /// From the agent to the server. After a cut at the agent's end the server's stays open, and what was on its way may
    /// arrive yet.
    async fn run_up(mut self) {
        let mut held = None;
        if self.carry(&mut held).await != Some(Cut::AgentsEnd) {
            return;
        }
        drop(self.from);
        let late = Duration::from_millis(self.seams.random.below(8_000));
        self.seams.clock.sleep(late).await;
        self.sky.plugged().await;
        if let Some(bytes) = held {
            // The server may have given the connection up.
            drop(self.to.send(bytes).await);
        }
        self.seams.clock.sleep(HALF_LIFE.saturating_sub(late)).await;
    }

    /// From the server to the agent. After a cut at the agent's end the server talks to nobody for a while.
    async fn run_down(mut self) {
        if self.carry(&mut None).await == Some(Cut::AgentsEnd) {
            drop(self.to);
            self.seams.clock.sleep(HALF_LIFE).await;
        }
    }

    /// Carries messages until an end closes (`None`) or the connection is cut. `held` is what was on its way then.
    async fn carry(&mut self, held: &mut Option<Bytes>) -> Option<Cut> {
        let Pump { seams, from, to, sky, born } = self;
        let cut = sky.cut_since(born);
        let carrying = async {
            while let Some(Ok(bytes)) = from.next().await {
                *held = Some(bytes.clone());
                sky.delay(seams).await;
                sky.plugged().await;
                if to.send(bytes).await.is_err() {
                    return;
                }
                *held = None;
            }
            // The other end hears of the close no earlier than of a message.
            sky.delay(seams).await;
            sky.plugged().await;
        };
        tokio::select! {
            biased;
            cut = cut => Some(cut),
            () = carrying => None,
        }
    }
}
