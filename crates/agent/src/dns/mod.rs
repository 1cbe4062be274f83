//! The project's names on one host (`networking-and-dns.md` §§8-13).
//!
//! [`answer`] decides, purely, from the directory; [`packet`] is the bytes; [`forward`] relays what is not ours;
//! [`server`] has the sockets.

pub mod answer;

pub mod packet;

pub mod forward;

pub mod server;
