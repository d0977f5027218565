//! The config crate.
