//! What server and agent say to each other (DESIGN §6): the plan and the directory down, observations up.
//!
//! One message is one [`frame`]; [`session`] has the messages and the order they come in; [`plan`] is what a host
//! shall run; [`directory`] is what a whole project knows about itself; [`observe`] is what a host reports;
//! [`balancer`] is the part of a plan that HAProxy follows; [`stream`] is how logs, exec, stats and sockets travel. Everything is versioned by [`session::PROTOCOL`]; new
//! fields have defaults, so that server and agent of neighbouring releases understand each other.

pub mod balancer;
pub mod directory;
pub mod frame;
pub mod observe;
pub mod plan;
pub mod session;
pub mod stream;
