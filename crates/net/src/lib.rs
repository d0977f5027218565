//! The net crate.
