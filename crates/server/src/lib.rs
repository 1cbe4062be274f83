//! HTTP: API versions, authentication, policy, websockets, and the hub that agents connect to.
//!
//! A request travels: [`proxy_protocol`] (who calls), [`origin`] (may a page do that), [`request`] and [`body`] (what is
//! asked), [`dispatch`] (in which order), [`auth`] and [`policy`] (who asks, and may they), [`handlers`] driven by the
//! declarations with [`managers`] for the few types known by name, [`render`] and [`reply`] (the answer), [`audit`].
//! [`base_url`] makes every URL that goes out, [`access`] the tokens that open streams, [`config`] says how all of it
//! is set up, [`serve`] runs it.

pub mod access;
pub mod audit;
pub mod auth;
pub mod base_url;
pub mod body;
pub mod bootstrap;
pub mod call;
pub mod certificate;
pub mod client_certificate;
pub mod config;
pub mod contexts;
pub mod dispatch;
pub mod failure;
pub mod handlers;
pub mod html;
pub mod hub;
pub mod lookup;
pub mod managers;
pub mod metrics;
pub mod ops;
pub mod origin;
pub mod plain;
pub mod policy;
pub mod proxy_protocol;
pub mod registration_token;
pub mod render;
pub mod reply;
pub mod request;
pub mod scripts;
pub mod secret_values;
pub mod serve;
pub mod settings;
pub mod state;
pub mod streams;
pub mod subscribe;
pub mod transform;
pub mod zip;

pub use config::{ServerArgs, ServerOptions};
pub use serve::{Running, open, router, start};
pub use state::ServerState;
