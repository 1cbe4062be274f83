//! What people have the keeper of a testbed do to it: `partition`, `heal`, `pause`, `resume`, `kill`, `restart`.
//!
//! Commands travel to the keeper as the words they were given as: it owns the processes that are started again.

use anyhow::{Context, Result, bail};
use clap::{FromArgMatches, Subcommand};
use remuda_testbed::{Fleet, Host, Part, Testbed, Way};

/// What the keeper keeps.
pub enum Bed {
    Hosts(Testbed),
    Fleet(Fleet),
}

#[derive(Debug, Subcommand)]
pub enum Order {
    /// Take a host off the wire, or lose what it and one other say to each other
    Partition {
        /// `host1`, `host2` …
        host: String,
        /// Another host, or `server`; none: everybody
        other: Option<String>,
        /// Lose only what the host sends (`out`) or only what it is sent (`in`)
        #[arg(long, value_parser = ["in", "out"])]
        only: Option<String>,
    },
    /// Undo every `partition` of a host, or of all
    Heal { host: Option<String> },
    /// Freeze a host or a part of it: host, dockerd, agent, datapath, containers; or `server`
    Pause {
        host: String,
        #[arg(default_value = "host")]
        part: String,
    },
    /// Let what was frozen go on
    Resume {
        host: String,
        #[arg(default_value = "host")]
        part: String,
    },
    /// End a host or a part of it as SIGKILL does; `server` too
    Kill {
        host: String,
        #[arg(default_value = "host")]
        part: String,
    },
    /// End it and start it again; what was killed before is only started
    Restart {
        host: String,
        #[arg(default_value = "host")]
        part: String,
    },
}

impl Order {
    /// As it is sent to the keeper.
    pub fn words(&self) -> Vec<String> {
        let words: Vec<Option<&String>> = match self {
            Order::Partition { host, other, .. } => vec![Some(host), other.as_ref()],
            Order::Heal { host } => vec![host.as_ref()],
            Order::Pause { host, part }
            | Order::Resume { host, part }
            | Order::Kill { host, part }
            | Order::Restart { host, part } => vec![Some(host), Some(part)],
        };
        let verb = match self {
            Order::Partition { .. } => "partition",
            Order::Heal { .. } => "heal",
            Order::Pause { .. } => "pause",
            Order::Resume { .. } => "resume",
            Order::Kill { .. } => "kill",
            Order::Restart { .. } => "restart",
        };
        let only = match self {
            Order::Partition { only: Some(only), .. } => Some(format!("--only={only}")),
            _ => None,
        };
        let words = words.into_iter().flatten().cloned();
        [verb.to_owned()].into_iter().chain(words).chain(only).collect()
    }

    /// As the keeper reads it.
    pub fn parse(words: &[&str]) -> Result<Order> {
        let command = Order::augment_subcommands(clap::Command::new("keeper").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| anyhow::anyhow!("{}", first_line(&error)))?;
        Ok(Order::from_arg_matches(&matches)?)
    }
}

fn first_line(error: &clap::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

impl Bed {
    pub fn testbed(&self) -> &Testbed {
        match self {
            Bed::Hosts(bed) => bed,
            Bed::Fleet(fleet) => &fleet.bed,
        }
    }

    fn fleet(&self) -> Result<&Fleet> {
        match self {
            Bed::Fleet(fleet) => Ok(fleet),
            Bed::Hosts(_) => bail!("these hosts have no server and no agents: `up --remuda PROGRAM` gives them some"),
        }
    }

    fn index(&self, name: &str) -> Result<usize> {
        let hosts = self.testbed().hosts();
        let names = || hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>().join(", ");
        hosts
            .iter()
            .position(|host| host.name == name)
            .with_context(|| format!("no host `{name}`; there are {}", names()))
    }

    fn host(&self, name: &str) -> Result<&Host> {
        Ok(self.testbed().host(self.index(name)?))
    }

    pub fn carry_out(&self, order: &Order) -> Result<()> {
        match order {
            Order::Partition { host, other: None, only: None } => self.host(host)?.disconnect(),
            Order::Partition { other: None, only: Some(_), .. } => {
                bail!("`--only` needs the other side: a host or `server`")
            }
            Order::Partition { host, other: Some(other), only } => {
                let way = match only.as_deref() {
                    Some("in") => Way::In,
                    Some(_) => Way::Out,
                    None => Way::Both,
                };
                let address = match other.as_str() {
                    "server" => self.testbed().gateway(),
                    other => self.host(other)?.address,
                };
                self.host(host)?.cut(address, way)
            }
            Order::Heal { host: Some(host) } => self.host(host)?.reconnect(),
            Order::Heal { host: None } => self.testbed().hosts().iter().try_for_each(Host::reconnect),
            Order::Pause { host, .. } if host == "server" => self.fleet()?.pause_server(true),
            Order::Resume { host, .. } if host == "server" => self.fleet()?.pause_server(false),
            Order::Kill { host, .. } if host == "server" => self.fleet()?.kill_server(),
            Order::Restart { host, .. } if host == "server" => {
                self.fleet()?.kill_server()?;
                self.fleet()?.start_server()
            }
            Order::Pause { host, part } => self.host(host)?.pause(Part::of(part)?),
            Order::Resume { host, part } => self.host(host)?.resume(Part::of(part)?),
            Order::Kill { host, part } => self.host(host)?.kill(Part::of(part)?),
            Order::Restart { host, part } => self.restart(host, Part::of(part)?),
        }
    }

    fn restart(&self, name: &str, part: Part) -> Result<()> {
        let (idx, host) = (self.index(name)?, self.host(name)?);
        match part {
            Part::Datapath | Part::Containers => bail!("the agent starts that again: `kill {name} …` is enough"),
            Part::Agent => self.fleet()?.kill_agent(idx)?,
            part => host.kill(part)?,
        }
        if part != Part::Agent {
            host.start_dockerd()?;
        }
        match self {
            Bed::Fleet(fleet) if part != Part::Dockerd => {
                fleet.kill_agent(idx)?;
                fleet.start_agent(idx)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_way_to_the_keeper() {
        for words in [
            vec!["partition", "host2"],
            vec!["partition", "host2", "server", "--only=out"],
            vec!["heal"],
            vec!["pause", "host1", "agent"],
            vec!["restart", "host1", "dockerd"],
        ] {
            assert_eq!(Order::parse(&words).unwrap().words(), words);
        }
        assert_eq!(Order::parse(&["kill", "host3"]).unwrap().words(), ["kill", "host3", "host"]);
        assert!(Order::parse(&["kiss", "host1"]).is_err());
    }
}
