//! The http1 crate.
