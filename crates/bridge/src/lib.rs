//! The bridge crate.
