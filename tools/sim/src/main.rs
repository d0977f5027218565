//! `sim`: crashes the embedded engine on a simulated disk, seed by seed.
//!
//! `sim [--seeds 2000] [--from 0] [--ops 1000] [--canary NAME | --canary all]`.
//! Exits 1 if a promise was broken, with the command that shows it again; with a canary, if it was not caught.

use std::io::{self, Write};
use std::process::ExitCode;
use storage::Canary;

/// Seeds between two lines that say how far it is.
const REPORT_EVERY: u64 = 10_000;

struct Arguments {
    seeds: u64,
    from: u64,
    operations: u64,
    canaries: Vec<Canary>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { seeds: 2000, from: 0, operations: sim::OPERATIONS, canaries: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().ok_or(format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number, not {value}"));
        match name.as_str() {
            "--seeds" => found.seeds = number()?,
            "--from" => found.from = number()?,
            "--ops" => found.operations = number()?,
            "--canary" => found.canaries = canaries(&value)?,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(found)
}

fn canaries(name: &str) -> Result<Vec<Canary>, String> {
    let named: Vec<Canary> = Canary::ALL.into_iter().filter(|c| name == "all" || c.name() == name).collect();
    if named.is_empty() {
        let names: Vec<String> = Canary::ALL.into_iter().map(Canary::name).collect();
        return Err(format!("no canary is called {name}; there are all, {}", names.join(", ")));
    }
    Ok(named)
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments).map_err(|e| e.to_string())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the seeds; false if one broke a promise, or a canary none.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut out = io::stdout();
    let &Arguments { seeds, from, operations, .. } = arguments;
    let mut caught_all = true;
    for &canary in &arguments.canaries {
        let result = sim::run_seeds(from, seeds, operations, Some(canary));
        caught_all &= result.is_err();
        match result {
            Err(found) => writeln!(out, "{} is caught by seed {}: {}", canary.name(), found.seed, found.what)?,
            Ok(_) => writeln!(out, "{} is NOT CAUGHT by {seeds} seeds", canary.name())?,
        }
    }
    if !arguments.canaries.is_empty() {
        return Ok(caught_all);
    }
    let mut all = sim::Outcome::default();
    let mut done = 0;
    while done < seeds {
        let n = REPORT_EVERY.min(seeds - done);
        match sim::run_seeds(from + done, n, operations, None) {
            Ok(outcome) => all += outcome,
            Err(found) => {
                writeln!(out, "{found}")?;
                return Ok(false);
            }
        }
        done += n;
        writeln!(out, "{done} seeds, {all}, 0 violations")?;
    }
    Ok(true)
}
