//! The admin crate.
