//! The plugin crate.
