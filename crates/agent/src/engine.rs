//! The container engine as the agent needs it: one trait, two implementations.
//!
//! [`docker`] talks to a Docker Engine (API 1.41 and later), [`simulated`] behaves like one where the platform can
//! tell and touches nothing. Containers cross this line as the JSON of Docker's inspect answer, read tolerantly by
//! [`inspect`]: closed enums for states and mount kinds were rejected, because a newer engine that invents one more
//! would make the whole host unreadable. For the same reason a container is created from JSON made by [`spec`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use remuda_wire::plan::{Build, VolumePlan};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::health::probe::Prober;

pub mod docker;
pub mod http;
pub mod inspect;
pub mod simulated;
pub mod spec;

/// What an engine call gives.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// Why an engine call did not succeed. The texts are the engine's own words.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// 404: the container, image, volume or network is not there.
    #[error("{0}")]
    NotFound(String),
    /// 409: a name is taken, a volume is in use.
    #[error("{0}")]
    Conflict(String),
    /// Any other refusal.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// The engine does not answer: not a fault of the container in question.
    #[error("the container engine does not answer: {0}")]
    Unreachable(String),
    /// It answered something that does not read as what was asked.
    #[error("the container engine's answer to {call} does not read: {reason}")]
    Odd { call: String, reason: String },
}

impl Error {
    /// The engine itself is away; the call may be repeated when it is back.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable(_))
    }
}

/// Called with a sentence and, when known, percent, while a pull or build goes on.
pub type Progress = Arc<dyn Fn(String, Option<i64>) + Send + Sync>;

/// A tar, as it arrives.
pub type Tar = BoxStream<'static, std::io::Result<bytes::Bytes>>;

/// What the engine says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// `20.10.24`
    pub version: String,
    /// `Docker version 20.10.24, build 5d6db84`, as host facts show it.
    pub version_text: String,
    pub operating_system: String,
    pub kernel_version: String,
    pub storage_driver: String,
    pub storage_driver_status: BTreeMap<String, String>,
    pub docker_root: String,
    pub n_cpus: i64,
    pub memory_bytes: i64,
}

/// One line of the engine's list of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub docker_id: String,
    /// Without the leading slash.
    pub names: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// Something happened to a container; look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Container {
        docker_id: String,
    },
    /// Events may be missing: look at everything.
    Unknown,
}

/// Which log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsQuery {
    pub follow: bool,
    /// Last lines to begin with; `None` for all.
    pub lines: Option<i64>,
    /// Seconds since the epoch.
    pub since: Option<i64>,
    pub until: Option<i64>,
}

/// What to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecQuery {
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub tty: bool,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub env: Vec<String>,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Standard output, or everything when there is a terminal.
    Stdout(Bytes),
    Stderr(Bytes),
}

/// Output of a container or process; ends when that does.
pub type Output = BoxStream<'static, Result<Chunk, Error>>;

/// A process one can talk to.
pub struct Process {
    /// Names it in [`Engine::exec_resize`] and [`Engine::exec_exit_code`].
    pub id: String,
    pub output: Output,
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
}

/// A raw connection to the engine's own socket.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A container engine. Containers are named by Docker id or name.
pub trait Engine: Send + Sync + 'static {
    /// `docker` or `sim`: the kind of the host row.
    fn kind(&self) -> &'static str;
    fn info(&self) -> Answer<'_, Info>;

    /// Every container, running or not.
    fn list(&self) -> Answer<'_, Vec<Listed>>;
    /// The inspect answer; [`inspect::read`] makes an observation of it.
    fn inspect<'a>(&'a self, container: &'a str) -> Answer<'a, Value>;
    /// Creates a container from a body of `POST /containers/create`; gives its id.
    fn create<'a>(&'a self, name: &'a str, body: &'a Value) -> Answer<'a, String>;
    fn start<'a>(&'a self, container: &'a str) -> Answer<'a, ()>;
    /// Asks it to end, kills it after the grace period. A container that does not run is no error.
    fn stop<'a>(&'a self, container: &'a str, timeout_seconds: i64) -> Answer<'a, ()>;
    fn kill<'a>(&'a self, container: &'a str) -> Answer<'a, ()>;
    /// Deletes it, running or not, without its volumes.
    fn remove<'a>(&'a self, container: &'a str) -> Answer<'a, ()>;

    fn image_exists<'a>(&'a self, image: &'a str) -> Answer<'a, bool>;
    fn pull<'a>(&'a self, image: &'a str, progress: Progress) -> Answer<'a, ()>;
    /// Builds the image. `context` is the tar when the server keeps it; any other the engine gets by itself.
    fn build<'a>(
        &'a self,
        image: &'a str,
        build: &'a Build,
        context: Option<Tar>,
        progress: Progress,
    ) -> Answer<'a, ()>;

    /// Creates the volume, or finds it when it is there.
    fn volume_create<'a>(&'a self, volume: &'a VolumePlan) -> Answer<'a, ()>;
    fn volume_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, Value>;
    fn volume_remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    fn network_list(&self) -> Answer<'_, Vec<Value>>;
    fn network_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, Value>;
    /// Creates a network from a body of `POST /networks/create`; gives its id.
    fn network_create<'a>(&'a self, body: &'a Value) -> Answer<'a, String>;
    fn network_remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    /// What happens to containers from now on. Ends, or gives an error, when the engine goes away.
    fn events(&self) -> Answer<'_, BoxStream<'static, Result<Event, Error>>>;

    fn logs<'a>(&'a self, container: &'a str, query: LogsQuery) -> Answer<'a, Output>;
    fn exec<'a>(&'a self, container: &'a str, query: ExecQuery) -> Answer<'a, Process>;
    fn exec_resize<'a>(&'a self, exec: &'a str, rows: u16, columns: u16) -> Answer<'a, ()>;
    /// The exit code; `None` while it runs.
    fn exec_exit_code<'a>(&'a self, exec: &'a str) -> Answer<'a, Option<i64>>;
    /// Joins the container's own terminal.
    fn attach<'a>(&'a self, container: &'a str) -> Answer<'a, Process>;
    fn attach_resize<'a>(&'a self, container: &'a str, rows: u16, columns: u16) -> Answer<'a, ()>;
    /// Docker's stats answers, about one a second, until the container ends.
    fn stats<'a>(&'a self, container: &'a str) -> Answer<'a, BoxStream<'static, Result<Value, Error>>>;
    /// A raw connection to the engine.
    fn dial(&self) -> Answer<'_, Box<dyn Socket>>;
    /// Who makes health checks from this host.
    fn prober(&self) -> Arc<dyn Prober>;
    /// A connection to `ip:port` as seen from this host.
    fn dial_tcp<'a>(&'a self, address: &'a str) -> Answer<'a, Box<dyn Socket>>;
}
