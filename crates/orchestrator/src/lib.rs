//! Decisions: what shall be where, and the loops that make it so (DESIGN §5).
//!
//! A request ([`commands`]) or an observation of a host ([`observe`]) writes rows in one transaction. The change feed
//! brings them into the [`world::World`] of their project; [`plan`] says, purely, what to write next; [`worlds`] runs
//! the plans, batch by batch ([`steps`]); [`hostplan`] and [`directory`] say what hosts are told.
//!
//! Read in this order: [`record`] and [`world`] (what is known), [`scheduler`] (where), [`plan`] (what next),
//! [`transitions`] and [`rows`] (what requests and plans share), [`settings`], then the rest.

pub mod balancer;
pub mod commands;
pub mod directory;
pub mod fence;
pub mod hostplan;
pub mod hosts;
pub mod leases;
pub mod load;
pub mod native;
pub mod observe;
pub mod orchestrator;
pub mod plan;
pub mod queue;
pub mod record;
pub mod rows;
pub mod scheduler;
pub mod settings;
pub mod steps;
#[cfg(test)]
pub(crate) mod testing;
pub mod transitions;
pub mod wake;
pub mod withdraw;
pub mod world;
pub mod worlds;

pub use leases::Ownership;
pub use orchestrator::{Options, Orchestrator};
pub use settings::Settings;
pub use worlds::LoopStatus;
