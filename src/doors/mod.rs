//! What others knock on.

pub mod admin;
pub mod listen;
