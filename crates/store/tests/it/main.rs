//! What the store promises, on every database.

mod rows;
mod sample;
