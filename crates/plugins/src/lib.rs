//! The plugins crate.
