//! The API over real HTTP on both stores, by section of the specification.
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

mod affinity;
mod audit;
mod bad_input;
mod build_contexts;
mod certificates;
mod conventions;
mod error_index;
mod errors;
mod health;
mod hosts;
mod keys;
mod lists;
mod load_balancers;
mod names;
mod network;
mod origins;
mod registration;
mod scripts;
mod secrets;
mod servers;
mod service_checks;
mod service_links;
mod service_units;
mod service_upgrades;
mod settings;
mod stack_files;
mod stack_upgrades;
mod subscribe;
mod tenants;
