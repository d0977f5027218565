//! Runs the embedded engine on a simulated disk against a simple model, from a seed.
//!
//! Invariants: a seed always does the same. Every background job is a step that the dice choose, so a crash comes
//! between any two of them, and while a sync is under way. After every crash the whole content is read back and
//! checked (see `model`); what the engine answers and says is checked after every operation.

mod attempts;
mod bodies;
mod calls;
mod check;
mod deliver;
mod faults;
mod mended;
mod message;
mod model;
mod publish;
mod queues;
mod run;
mod turns;
mod watch;

pub use run::{Found, Outcome, run_seed};

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use storage::Canary;

/// What all seeds do unless they are told otherwise.
pub const OPERATIONS: u64 = 1000;

/// Runs seeds on all cores.
///
/// # Errors
/// What was found with the lowest seed that was run and found something.
pub fn run_seeds(from: u64, seeds: u64, operations: u64, canary: Option<Canary>) -> Result<Outcome, Found> {
    let next = AtomicU64::new(from);
    let all: Mutex<Result<Outcome, Found>> = Mutex::new(Ok(Outcome::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + seeds {
                return;
            }
            let result = run_seed(seed, operations, canary);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *all, result) {
                (Ok(sum), Ok(outcome)) => *sum += outcome,
                (Err(first), Err(found)) if first.seed < found.seed => {}
                (_, Err(found)) => {
                    // Those under way end; no other begins.
                    next.store(from + seeds, Relaxed);
                    *all = Err(found);
                }
                (Err(_), Ok(_)) => {}
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Display for Found {
    /// What is wrong, and the command that shows it again.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, operations, canary, operation, what } = self;
        write!(f, "seed {seed}, operation {operation}: {what}\nagain with: cargo run --package sim -- ")?;
        write!(f, "--seeds 1 --from {seed} --ops {operations}")?;
        match canary {
            Some(canary) => write!(f, " --canary {}", canary.name()),
            None => Ok(()),
        }
    }
}
