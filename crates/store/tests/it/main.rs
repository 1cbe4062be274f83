//! What the store promises, on every database.

mod exclusive;
mod feed;
mod lifetime;
mod rows;
mod same;
mod sample;
