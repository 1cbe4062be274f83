//! HTTP: API versions, authentication, policy, websockets, and the hub that agents connect to.
//!
//! A request travels: [`proxy_protocol`] (who calls), [`origin`] (may a page do that), [`request`] and [`body`] (what is
//! asked), then authentication, validation and the handlers. [`base_url`] makes every URL that goes out, [`access`]
//! the tokens that open streams, [`seal`] keeps secrets, [`config`] says how all of it is set up.

pub mod access;
pub mod base_url;
pub mod body;
pub mod config;
pub mod origin;
pub mod proxy_protocol;
pub mod request;
pub mod seal;

pub mod hub;
pub mod streams;
