//! Runs the embedded engine on a simulated disk against a simple model, from a seed.
//!
//! Invariants: a seed always does the same. Every background job is a step that the dice choose, so a crash comes
//! between any two of them. After every crash the whole content is read back and checked (see `model`).

mod model;
mod run;

pub use run::{Found, Outcome, run_seed};
