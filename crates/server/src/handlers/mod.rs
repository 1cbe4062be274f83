//! What the API does with a resource of any type, driven by its declaration. Types that need more have a file in
//! [`crate::managers`].

pub mod read;
pub mod write;
