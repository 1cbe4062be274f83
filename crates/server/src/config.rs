//! What an operator can say: flags, `REMUDA_*` variables, a TOML file, in that order of precedence. Read once, here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

/// `remuda server`. Every flag is also a variable and a key of the file named by `--config`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ServerArgs {
    /// Address to listen on [default: 127.0.0.1:8080 with --dev, else 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", env = "REMUDA_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Directory for the embedded database and the admin key [default: ./remuda-data with --dev, else /var/lib/remuda]
    #[arg(long, value_name = "DIR", env = "REMUDA_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Database: postgres://… or sqlite://PATH [default: DATA_DIR/remuda.db]
    #[arg(long, value_name = "URL", env = "REMUDA_DATABASE", hide_env_values = true)]
    pub database: Option<String>,

    /// Key that seals secrets in the database; the same on every server of one database [default: DATA_DIR.key]
    #[arg(long, value_name = "FILE", env = "REMUDA_KEY_FILE")]
    pub key_file: Option<PathBuf>,

    /// Directory with agent binaries of other architectures, `remuda-x86_64`, `remuda-aarch64`
    #[arg(long, value_name = "DIR", env = "REMUDA_AGENTS_DIR")]
    pub agents_dir: Option<PathBuf>,

    /// Directory for build contexts; servers of one database share one [default: DATA_DIR/contexts]
    #[arg(long, value_name = "DIR", env = "REMUDA_CONTEXTS_DIR")]
    pub contexts_dir: Option<PathBuf>,

    /// What to log: a level, or directives such as `info,remuda_server=debug` [default: info]
    #[arg(long, value_name = "FILTER", env = "REMUDA_LOG")]
    pub log: Option<String>,

    /// Loopback only, access control off, local host in the same process
    #[arg(long, env = "REMUDA_DEV")]
    pub dev: bool,

    /// Offer the simulated engine to hosts that register for it, and accept `sim:` images
    #[arg(long, env = "REMUDA_SIMULATOR")]
    pub simulator: bool,

    /// TOML file with these same names as keys
    #[arg(long, value_name = "FILE", env = "REMUDA_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// What the server works with: nothing left to default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    /// `postgres://…` or `sqlite://PATH`.
    pub database: String,
    pub key_file: PathBuf,
    pub agents_dir: Option<PathBuf>,
    /// Build contexts of compose files.
    pub contexts_dir: PathBuf,
    pub log: String,
    pub dev: bool,
    pub simulator: bool,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the configuration file `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("configuration file `{path}`")]
    Parse {
        path: PathBuf,
        #[source]
        cause: toml::de::Error,
    },
    #[error(
        "`--dev` turns access control off and so listens on loopback only, not on `{listen}`; use 127.0.0.1 or drop `--dev`"
    )]
    DevNotLoopback { listen: SocketAddr },
}

impl ServerArgs {
    /// Reads the file, if one is named, and fills in the defaults.
    pub fn resolve(self) -> Result<ServerOptions, Error> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => ServerArgs::default(),
        };
        self.over(file).complete()
    }

    fn over(self, file: ServerArgs) -> ServerArgs {
        ServerArgs {
            listen: self.listen.or(file.listen),
            data_dir: self.data_dir.or(file.data_dir),
            database: self.database.or(file.database),
            key_file: self.key_file.or(file.key_file),
            agents_dir: self.agents_dir.or(file.agents_dir),
            contexts_dir: self.contexts_dir.or(file.contexts_dir),
            log: self.log.or(file.log),
            dev: self.dev || file.dev,
            simulator: self.simulator || file.simulator,
            config: self.config,
        }
    }

    fn complete(self) -> Result<ServerOptions, Error> {
        let dev = self.dev;
        let listen = self.listen.unwrap_or_else(|| {
            if dev { SocketAddr::from(([127, 0, 0, 1], 8080)) } else { SocketAddr::from(([0, 0, 0, 0], 8080)) }
        });
        if dev && !listen.ip().is_loopback() {
            return Err(Error::DevNotLoopback { listen });
        }
        let data_dir =
            self.data_dir.unwrap_or_else(|| PathBuf::from(if dev { "./remuda-data" } else { "/var/lib/remuda" }));
        let database = self.database.unwrap_or_else(|| format!("sqlite://{}", data_dir.join("remuda.db").display()));
        // Beside the data directory, not in it: whoever copies the data does not take the key along.
        let key_file = self.key_file.unwrap_or_else(|| {
            let mut name = data_dir.clone().into_os_string();
            name.push(".key");
            PathBuf::from(name)
        });
        let contexts_dir = self.contexts_dir.unwrap_or_else(|| data_dir.join("contexts"));
        Ok(ServerOptions {
            listen,
            data_dir,
            database,
            key_file,
            agents_dir: self.agents_dir,
            contexts_dir,
            log: self.log.unwrap_or_else(|| "info".to_owned()),
            dev,
            simulator: self.simulator,
        })
    }
}

fn read_file(path: &Path) -> Result<ServerArgs, Error> {
    let text = std::fs::read_to_string(path).map_err(|cause| Error::Read { path: path.to_owned(), cause })?;
    toml::from_str(&text).map_err(|cause| Error::Parse { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(toml: &str, flags: ServerArgs) -> Result<ServerOptions, Error> {
        flags.over(toml::from_str(toml).expect("a configuration")).complete()
    }

    #[test]
    fn flags_win_over_the_file_and_defaults_fill_the_rest() {
        let found = options(
            "listen = \"127.0.0.1:1\"\ndata-dir = \"/d\"\nsimulator = true\n",
            ServerArgs { listen: "127.0.0.1:2".parse().ok(), ..ServerArgs::default() },
        )
        .expect("complete");
        assert_eq!(
            found,
            ServerOptions {
                listen: SocketAddr::from(([127, 0, 0, 1], 2)),
                data_dir: "/d".into(),
                database: "sqlite:///d/remuda.db".into(),
                key_file: "/d.key".into(),
                agents_dir: None,
                contexts_dir: "/d/contexts".into(),
                log: "info".into(),
                dev: false,
                simulator: true,
            }
        );
    }

    #[test]
    fn dev_is_loopback_only() {
        assert!(options("dev = true", ServerArgs::default()).is_ok());
        assert!(matches!(
            options("dev = true\nlisten = \"0.0.0.0:8080\"", ServerArgs::default()),
            Err(Error::DevNotLoopback { .. })
        ));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<ServerArgs>("lisen = \"127.0.0.1:1\"").is_err());
    }
}
