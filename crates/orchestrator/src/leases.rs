//! Which projects this server decides for (DESIGN §5, "Ownership").
//!
//! With several servers on one database each project's loop runs on the one that holds its lease. The others follow the
//! feed all the same, so a takeover finds its World warm. Every write of a loop checks its lease inside its own
//! transaction: a server that was away too long cannot write what it decided before ([`remuda_store::Tx::lease_check`]).
//!
//! One transaction a period renews what is held, asks for what is free, and says that this server is there: its lease
//! `server OWNER` stands for all hosts connected to it, so that liveness costs one row for each server and not for each
//! host ([`crate::hosts::liveness`]). A server that has its database for itself (SQLite lets no second one in) holds
//! everything and asks for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda_runtime::Random;
use remuda_store::{Error, Lease, Tx};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::worlds::Shared;

/// The lease of what belongs to no project: keys, images and the like, and removing what is no longer kept.
pub const ROWS: &str = "rows";
const PROJECT: &str = "project ";
const SERVER: &str = "server ";
/// Renewed so often in the life of a lease, so that one failure costs nothing.
const RENEWALS: u32 = 3;

/// Whether other servers work on the same database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// None can.
    Alone,
    /// They may; a project stands still for at most that long when its server dies.
    Leased { lease: Duration },
}

impl Ownership {
    /// As servers of one PostgreSQL share it.
    pub fn leased() -> Ownership {
        Ownership::Leased { lease: Duration::from_secs(10) }
    }
}

/// Whether a loop may work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    Alone,
    /// Every write must check it.
    Leased(Lease),
    /// Another server's, or nobody's yet.
    Elsewhere,
}

impl Hold {
    /// Refuses when it is no longer held; nobody can take it before the transaction ends.
    pub fn check(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        match self {
            Hold::Alone => Ok(()),
            Hold::Leased(lease) => tx.lease_check(lease),
            Hold::Elsewhere => Err(Error::LeaseLost { name: "none".to_owned(), epoch: 0 }),
        }
    }
}

/// What this server holds.
#[derive(Debug)]
pub struct Leases {
    /// This process; another after each start.
    pub owner: String,
    ownership: Ownership,
    held: Mutex<Held>,
    /// Something new can be asked for.
    pub wanted: Notify,
}

#[derive(Debug, Default)]
struct Held {
    leases: BTreeMap<String, Lease>,
    /// By our own clock, counted from before they were asked for.
    until: Option<Instant>,
    /// Servers that were there at the last renewal.
    servers: BTreeSet<String>,
}

/// The lease of a project.
pub fn of_project(id: i64) -> String {
    format!("{PROJECT}{id}")
}

impl Leases {
    pub fn new(ownership: Ownership, random: &Random) -> Leases {
        let owner = match ownership {
            Ownership::Alone => String::new(),
            Ownership::Leased { .. } => random.uuid(),
        };
        Leases { owner, ownership, held: Mutex::default(), wanted: Notify::new() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_alone(&self) -> bool {
        self.ownership == Ownership::Alone
    }

    /// Whether this server may work on it now.
    pub fn hold(&self, name: &str, now: Instant) -> Hold {
        if self.is_alone() {
            return Hold::Alone;
        }
        let held = self.held();
        let valid = held.until.is_some_and(|until| now < until);
        held.leases.get(name).filter(|_| valid).map_or(Hold::Elsewhere, |lease| Hold::Leased(lease.clone()))
    }

    /// Whether what this server last renewed has not run out: others count it as there.
    pub fn is_current(&self, now: Instant) -> bool {
        self.is_alone() || self.held().until.is_some_and(|until| now < until)
    }

    /// A write was refused: another has it.
    pub fn lost(&self, name: &str) {
        self.held().leases.remove(name);
    }

    /// Whether that server was there when this one last asked.
    pub fn is_there(&self, owner: &str) -> bool {
        self.held().servers.contains(owner)
    }

    /// Takes over what a renewal gave; gives the names that are new, or held anew.
    fn renewed(&self, taken: Vec<Lease>, servers: BTreeSet<String>, now: Instant, until: Instant) -> Vec<String> {
        let mut held = self.held();
        // A renewal that came late: the loops have paused, and have to hear of it.
        let valid = held.until.is_some_and(|until| now < until);
        let leases: BTreeMap<String, Lease> = taken.into_iter().map(|lease| (lease.name.clone(), lease)).collect();
        let known = |lease: &Lease| held.leases.get(&lease.name).is_some_and(|known| known.epoch == lease.epoch);
        let same = |lease: &Lease| valid && known(lease);
        let gained = leases.values().filter(|lease| !same(lease)).map(|lease| lease.name.clone()).collect();
        *held = Held { leases, until: Some(until), servers };
        gained
    }

    fn all(&self) -> Vec<Lease> {
        self.held().leases.values().cloned().collect()
    }
}

/// Renews and asks, until the server stops; then gives everything back, so that others need not wait.
pub async fn keep(shared: Arc<Shared>) {
    let Ownership::Leased { lease } = shared.leases.ownership else { return };
    let ttl_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let tasks = shared.seams.tasks.clone();
    loop {
        let asked = shared.seams.clock.instant();
        let owner = shared.leases.owner.clone();
        let projects = shared.projects();
        // In one order, so that two servers that ask at once wait for each other and not in a circle.
        let mut names: Vec<String> = projects.iter().map(|project| of_project(project.id)).collect();
        names.extend([ROWS.to_owned(), format!("{SERVER}{owner}")]);
        names.sort();
        let renewing = shared.store.write(move |tx| -> Result<_, Error> {
            let mut taken = Vec::new();
            for name in &names {
                taken.extend(tx.lease_take(name, &owner, ttl_ms)?);
            }
            Ok((taken, tx.leases_held(SERVER)?))
        });
        let renewed = tokio::select! {
            biased;
            () = tasks.stopping() => break,
            renewed = renewing => renewed,
            () = shared.seams.clock.sleep(lease) => continue,
        };
        match renewed {
            Ok(committed) => {
                let (taken, servers) = committed.value;
                let servers = servers.iter().filter_map(|name| name.strip_prefix(SERVER)).map(str::to_owned).collect();
                let now = shared.seams.clock.instant();
                let gained = shared.leases.renewed(taken, servers, now, asked + lease);
                shared.take_over(&gained);
            }
            Err(error) => tracing::warn!(%error, "the leases of this server could not be renewed; trying again"),
        }
        tokio::select! {
            biased;
            () = tasks.stopping() => break,
            () = shared.leases.wanted.notified() => {}
            () = shared.seams.clock.sleep(lease / RENEWALS) => {}
        }
    }
    let held = shared.leases.all();
    let released = shared.store.write(move |tx| -> Result<(), Error> {
        for lease in &held {
            tx.lease_release(lease)?;
        }
        Ok(())
    });
    // Leases end by themselves; a database that is away must not hold the stop up.
    match tokio::time::timeout(Duration::from_secs(2), released).await {
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the leases of this server were not given back; they run out"),
    }
}

#[cfg(test)]
mod tests {
    use remuda_schema::Time;

    use super::*;

    #[test]
    fn a_lease_is_held_from_its_renewal_to_its_end() {
        let random = Random::seeded(1);
        let start = remuda_runtime::Clock::system().instant();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let lease = |name: &str, epoch: i64| {
            let (name, owner) = (name.to_owned(), "me".to_owned());
            Lease { name, owner, epoch, until: Time(0) }
        };
        let alone = Leases::new(Ownership::Alone, &random);
        assert_eq!(alone.hold("project 5", at(0)), Hold::Alone);

        let leases = Leases::new(Ownership::leased(), &random);
        assert_eq!(leases.hold("project 5", at(0)), Hold::Elsewhere);
        let renew = |taken: Vec<Lease>, now: u64| leases.renewed(taken, BTreeSet::new(), at(now), at(now + 10));
        assert_eq!(renew(vec![lease("project 5", 1), lease("rows", 1)], 0), ["project 5", "rows"]);
        assert_eq!(leases.hold("project 5", at(9)), Hold::Leased(lease("project 5", 1)));
        assert_eq!(leases.hold("project 5", at(10)), Hold::Elsewhere);
        // Renewed in time nothing is new; somebody had it meanwhile, or the loops paused: it is.
        assert_eq!(renew(vec![lease("project 5", 1), lease("rows", 3)], 5), ["rows"]);
        assert_eq!(renew(vec![lease("project 5", 1)], 40), ["project 5"]);
        assert_eq!(leases.hold("rows", at(41)), Hold::Elsewhere);
        leases.lost("project 5");
        assert_eq!(leases.hold("project 5", at(41)), Hold::Elsewhere);
    }
}
