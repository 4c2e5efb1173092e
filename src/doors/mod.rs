//! What others knock on.

pub mod admin;
