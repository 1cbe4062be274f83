//! The cases of the specification of compose files, each named after its section, and what hostile files do.

mod files;
mod hostile;
mod keys_of_today;
mod round_trip;
mod section_14;
mod section_15;
mod words;
mod world;
