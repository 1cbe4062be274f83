//! Plan against engine: what is missing, what is to be done about it, and who does it.
//!
//! [`held`] is the plan put together from updates; [`observed`] is what the engine has; [`memory`] is the little the
//! engine cannot tell; [`decide`] compares the three and is pure; [`act`] carries out one action; [`worker`] is the
//! loop around them; [`watch`] tells it what happens on the engine; [`report`] tells the server.
//!
//! **Which starts were carried out.** A label cannot change after creation, so Docker cannot keep the serial of the
//! last start. The memory does, in the state directory: written before an action begins (with the `StartedAt` found
//! then) and after it ended. An agent killed in between compares: another `StartedAt` means that the start happened.
//! When the memory is lost, a container that runs, or has run, is taken to have carried out the serial of the plan:
//! losing the cache never restarts a healthy container. Supervised containers that do not run are started anyway.
//!
//! **What vanished is not made again** by the agent: a container that had been started and that somebody deleted is
//! reported as gone, and the server decides (the row is removed; a service gets a new container).

pub mod act;
pub mod decide;
pub mod held;
pub mod memory;
pub mod observed;
pub mod report;
pub mod watch;
pub mod worker;
