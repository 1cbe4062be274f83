//! Where agents connect: one session per host, and the meeting point of streams.

pub mod link;
pub mod sessions;
